"""The command line of `sansnet policy`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Final

from sansnet_cli.options.parser import Parser, with_examples
from sansnet_cli.options.policy import add_rule_options
from sansnet_cli.options.records import CommandLineError
from sansnet_cli.options.values import address, typed
from sansnet_cli.version import version
from sansnet_core import fields
from sansnet_core.fields import Addresses, several
from sansnet_core.records import Record, field

__all__ = ["PolicyCommand", "parse", "parser"]

_WORDS: Final = {"check": "FILE", "explain": "[FILE] HOST:PORT", "test": "FILE", "show": "[FILE]"}
"""The words after each command; a file is left out where options give the rules."""

_PROTOCOLS: Final = ("tcp", "udp", "ping")


class PolicyCommand(Record):
    """The options of `sansnet policy`.

    Attributes:
        command: `check`, `explain`, `test` or `show`.
        file: path of the file with the policy; None if there is none.
        target: the HOST:PORT or, for a ping or a question, the HOST that `explain` is about; None for other commands.
        protocol: the flow's protocol: `tcp`, `udp` or `ping`.
        inbound: whether an outsider opens the flow.
        addresses: addresses to which the target's name is resolved, 4 or 16 bytes each.
        question: the type of the records that are asked for; None for a flow.
        has_rules: whether options make rules.
        rules: the parsed options that make rules, and the file.
    """

    command: str
    file: str | None
    target: str | None
    protocol: str
    inbound: bool
    addresses: Addresses = field(several(fields.address))
    question: str | None
    has_rules: bool
    rules: argparse.Namespace


def parser() -> argparse.ArgumentParser:
    """The parser of `sansnet policy`. `parse` checks its result further."""
    made = Parser(
        prog="sansnet policy",
        usage="%(prog)s check FILE\n"
        "       %(prog)s explain [FILE] HOST:PORT [OPTIONS]\n"
        "       %(prog)s test FILE\n"
        "       %(prog)s show [FILE] [OPTIONS]",
        description="Work with policies, which say what a guest may reach: `check` whether a file is right, `explain` "
        "what happens to a destination and which rule says so, `test` a file with the cases that it has, `show` the "
        "rules that a file and options make. No guest is needed, and no name is looked up; so an address of "
        "`--map-host-loopback` or `--map-guest-addr` is explained as any other.",
        epilog=with_examples(
            "The exit status is 0 if the file is right, the destination is allowed, or all cases pass; 1 if not; 2 if "
            "an argument is wrong, or a file that is not only checked cannot be used.",
            "sansnet policy check policy.toml",
            "sansnet policy explain policy.toml packages.example.org:443",
            "sansnet policy explain 192.0.2.7:22 --preset web",
            "sansnet policy test policy.toml",
            "sansnet policy show --preset web --allow 192.0.2.7:22",
        ),
        add_help=False,
    )
    made.add_argument("command", choices=tuple(_WORDS), metavar="COMMAND", help=", ".join(_WORDS))
    made.add_argument("words", nargs="*", metavar="FILE", help="the policy; for explain also HOST:PORT")
    target = made.add_argument_group("the flow that is explained")
    target.add_argument("--protocol", choices=_PROTOCOLS, metavar="NAME", help="tcp (the default), udp or ping")
    target.add_argument("--in", action="store_true", dest="inbound", help="HOST opens it, to a port of the guest")
    target.add_argument(
        "--address",
        action="append",
        type=typed(address),
        default=[],
        metavar="ADDR",
        help="an address that the name resolves to, repeatable; default: any public address",
    )
    target.add_argument(
        "--question", metavar="TYPE", help="HOST is a name that is asked for, with records of TYPE, such as A or TXT"
    )
    add_rule_options(made.add_argument_group("rules for explain and show, as for `sansnet run`"))
    made.add_argument("--version", action="version", version=version(), help="print the version and exit")
    made.add_argument("-h", "--help", action="help", help="print this and exit")
    return made


def parse(arguments: Sequence[str]) -> PolicyCommand:
    """Parse the arguments after `sansnet policy`.

    Raises:
        CommandLineError: an argument is wrong.
        SystemExit: help or version were asked for and have been printed.
    """
    parsed = parser().parse_intermixed_args(arguments)
    command, words = parsed.command, list(parsed.words)
    rules = ("preset", "names", "ask", "proxy", "proxy_credentials")
    makes = [f"--{name.replace('_', '-')}" for name in rules if getattr(parsed, name)]
    makes += [f"--{action.value}" for action, _ in parsed.rules]
    about = [f"--{name}" for name in ("protocol", "address", "question") if getattr(parsed, name)]
    about += ["--in"] if parsed.inbound else []
    foreign = [*(makes if command in ("check", "test") else ()), *(about if command != "explain" else ())]
    if foreign:
        raise CommandLineError(f"{foreign[0]} does not go with {command}; leave it out")
    if parsed.question and len(about) > 1:
        raise CommandLineError("--question is not about a flow, as --protocol, --in and --address are; leave it out")
    target = words.pop() if command == "explain" and words else None
    parsed.policy = words.pop(0) if words else None
    if command == "explain" and target is not None and not (parsed.policy or makes):
        raise CommandLineError(
            "give sansnet policy explain [FILE] HOST:PORT, with rules in FILE, or by --allow, --refuse or --preset"
        )
    if words or (command == "explain" and target is None) or not (parsed.policy or makes):
        raise CommandLineError(f"give sansnet policy {command} {_WORDS[command]}; see `sansnet policy --help`")
    return PolicyCommand(
        command=command,
        file=parsed.policy,
        target=target,
        protocol=parsed.protocol or "tcp",
        inbound=parsed.inbound,
        addresses=tuple(parsed.address),
        question=parsed.question,
        has_rules=bool(makes),
        rules=parsed,
    )
