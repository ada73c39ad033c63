"""The command line of `sansnet ctl`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, Final

from sansnet_cli.ctl.policy import PolicyText
from sansnet_cli.options.impairment import DIRECTIONS, add_impairment_options, changed, perfect
from sansnet_cli.options.parser import Parser, with_examples
from sansnet_cli.options.records import CommandLineError
from sansnet_cli.options.values import BadValue, typed
from sansnet_cli.version import version
from sansnet_core.fields import Part, instance
from sansnet_core.records import Record, field

__all__ = ["CtlOptions", "parse", "parser"]

_OPTIONS: Final = {"tcp_ports": "-t", "udp_ports": "-u", "tcp_ns": "-T", "udp_ns": "-U"}

_MOST: Final = 10_000
"""Flows or rules in one answer, at most; the server refuses more."""

_ANSWERS: Final = ("allow", "refuse")
_COMMANDS: Final = (
    *("list", "add", "delete", "clear", "flows", "counters"),
    *("policy", "pending", *_ANSWERS, "ask", "audit", "impair"),
)
_CHANGES: Final = ("show", "add", "remove", "replace")
_WITH: Final = {
    "--most": ("flows", "policy", "pending"),
    "--always": _ANSWERS,
    "--keep-flows": ("policy",),
    **dict.fromkeys(_OPTIONS.values(), ("add", "delete")),
}
"""The commands that each option goes with."""


class CtlOptions(Record):
    """The options of `sansnet ctl`.

    Attributes:
        path: path of the control socket.
        command: a command of docs/control.md, or `ask`.
        forwards: pairs (option, specification).
        change: the change of the policy: `add`, `remove` or `replace`; None shows it.
        rules: the rules to add or to remove.
        file: path of the file with the new policy; `-` is stdin.
        id: number of the flow to allow or to refuse.
        always: whether the answer becomes a rule.
        keep_flows: whether open flows continue that the new policy does not allow.
        most: number of flows or rules to list, at most; None means the server's default.
        impair: fields of `Impairment` to change, by direction.
        json: whether to print the answer as JSON.
    """

    path: str
    command: str
    forwards: tuple[tuple[str, str], ...] = ()
    change: str | None = None
    rules: tuple[str, ...] = ()
    file: str | None = None
    id: int | None = None
    always: bool = False
    keep_flows: bool = False
    most: int | None = None
    impair: Part[dict[str, dict[str, Any]]] = field(instance(dict), default={})
    json: bool = False

    def request(self, policy: PolicyText | None = None) -> dict[str, Any]:
        """The request to the control socket, as JSON values.

        Args:
            policy: the contents of `file`.
        """
        request: dict[str, Any] = {"command": self.command}
        if self.forwards:
            request["forwards"] = [{"option": option, "spec": spec} for option, spec in self.forwards]
        if policy is not None:
            request |= {"replace": policy.text, "credentials": policy.credentials}
        elif self.change is not None:
            request[self.change] = list(self.rules)
        request |= self.impair
        for name in ("id", "most"):
            if (value := getattr(self, name)) is not None:
                request[name] = value
        for name in ("always", "keep_flows"):
            if getattr(self, name):
                request[name] = True
        return request


def parser() -> argparse.ArgumentParser:
    """The parser of `sansnet ctl`. `parse` checks its result further."""
    made = Parser(
        prog="sansnet ctl",
        usage="%(prog)s PATH COMMAND [ARGUMENT...] [OPTIONS]",
        description="Inspect and change a running sansnet, which was started with -c PATH: `list` its forwarded ports, "
        "`add` some, `delete` some, `clear` all; print its `flows` or its `counters`; show or change its `policy`; "
        "list the flows that wait for a decision (`pending`), `allow` or `refuse` one of them, or decide about all as "
        "they come (`ask`); summarize its `audit`; give it a bad network (`impair`).",
        epilog=with_examples(
            "`policy` alone prints the rules. `policy add RULE` puts a rule before all others, `policy remove RULE` "
            "takes away the rule with this text or label, and `policy replace FILE` replaces the whole policy; `-` is "
            "standard input.\n\n"
            "`impair` alone prints the impairments of the guest's network and their counters. With options it changes "
            "those values, and leaves the others. `impair none` ends all; options may follow.\n\n"
            "The exit status is 0; 1 if the command failed; 2 if an argument is wrong.",
            "sansnet ctl /tmp/control flows",
            "sansnet ctl /tmp/control add -t 8080:80 -u 5353:53",
            "sansnet ctl /tmp/control counters --json",
            "sansnet ctl /tmp/control policy add allow tcp example.org:443",
            "sansnet ctl /tmp/control policy replace policy.toml",
            "sansnet ctl /tmp/control allow 7 --always",
            "sansnet ctl /tmp/control ask",
            "sansnet ctl /tmp/control impair --delay 100ms --loss up=1%",
        ),
        add_help=False,
    )
    made.add_argument("path", metavar="PATH", help="the control socket: the path of the option -c")
    made.add_argument("command", choices=_COMMANDS, metavar="COMMAND", help=", ".join(_COMMANDS))
    made.add_argument(
        "arguments",
        nargs="*",
        metavar="ARGUMENT",
        help="for `policy`: show, add RULE, remove RULE, or replace FILE; for `allow` and `refuse`: the number that "
        "`pending` shows; for `impair`: none",
    )
    forwards = made.add_argument_group("ports for add and delete, as for `sansnet run`; repeatable")
    for name, option in _OPTIONS.items():
        forwards.add_argument(option, f"--{name.replace('_', '-')}", action="append", default=[], metavar="SPEC")
    add_impairment_options(made, seed=False)
    made.add_argument(
        "--always", action="store_true", help="allow or refuse such flows from now on: the answer becomes a rule"
    )
    made.add_argument(
        "--keep-flows", action="store_true", help="let open flows continue that the changed policy does not allow"
    )
    made.add_argument(
        "--most",
        type=typed(_most),
        metavar="NUMBER",
        help="list at most NUMBER flows or rules; default: 1000",
    )
    made.add_argument("--json", action="store_true", help="print the answer as JSON")
    made.add_argument("--version", action="version", version=version(), help="print the version and exit")
    made.add_argument("-h", "--help", action="help", help="print this and exit")
    return made


def parse(arguments: Sequence[str]) -> CtlOptions:
    """Parse the arguments after `sansnet ctl`.

    Raises:
        CommandLineError: an argument is wrong.
        SystemExit: help or version were asked for and have been printed.
    """
    if not arguments:
        raise CommandLineError(
            "the socket and the command are missing: sansnet ctl PATH COMMAND; see `sansnet ctl --help`"
        )
    if arguments and arguments[0] in _COMMANDS and not {*arguments[1:2]} & {*_COMMANDS}:
        raise CommandLineError(f"the path of a control socket comes first: sansnet ctl PATH {' '.join(arguments)}")
    parsed = parser().parse_intermixed_args(arguments)
    command = parsed.command
    forwards = tuple((option, spec) for name, option in _OPTIONS.items() for spec in getattr(parsed, name))
    used = [option for option, _ in forwards]
    used += [option for option in ("--most", "--always", "--keep-flows") if getattr(parsed, _field(option))]
    impair = changed(parsed)
    if impair and command != "impair":
        raise CommandLineError(f"--delay and the like do not go with {command}; use impair")
    if command == "impair" and parsed.arguments:
        if parsed.arguments != ["none"]:
            raise CommandLineError(f"impair {parsed.arguments[0]}: give options like --delay 100ms, or `none`")
        impair = {direction: {**perfect(), **impair.get(direction, {})} for direction in DIRECTIONS}
        parsed.arguments = []
    for option in used:
        if command not in _WITH[option]:
            raise CommandLineError(f"{option} does not go with {command}; leave it out")
    words = _words(command, parsed.arguments)
    if not forwards and command in _WITH["-t"]:
        raise CommandLineError(f"{command} needs ports; give -t, -u, -T or -U SPEC")
    if parsed.json and command == "ask":
        raise CommandLineError("--json does not go with ask; use `pending --json` and `allow` or `refuse`")
    return CtlOptions(
        path=parsed.path,
        command=command,
        forwards=forwards,
        always=parsed.always,
        keep_flows=parsed.keep_flows,
        most=parsed.most,
        impair=impair,
        json=parsed.json,
        **words,
    )


def _most(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text[:9]) <= _MOST:
        raise BadValue(f"{text!r} is not a number from 1 to {_MOST}")
    return int(text)


def _field(option: str) -> str:
    return option.removeprefix("--").replace("-", "_")


def _words(command: str, words: Sequence[str]) -> dict[str, Any]:
    """The fields for the words after a command.

    Raises:
        CommandLineError: they are wrong, or missing.
    """
    if command == "policy":
        return _change(words[0], words[1:]) if words else {}
    if command in _ANSWERS:
        if len(words) != 1 or not words[0].isdecimal():
            raise CommandLineError(f"{command} needs the number of one flow that waits; `pending` lists them")
        return {"id": int(words[0])}
    if words and command in _WITH["-t"]:
        raise CommandLineError(f"{words[0]!r} is no option; give ports by -t, -u, -T or -U, as -t {words[0]}")
    if words:
        raise CommandLineError(f"{words[0]!r} does not go with {command}; leave it out")
    return {}


def _change(change: str, words: Sequence[str]) -> dict[str, Any]:
    if change not in _CHANGES:
        raise CommandLineError(f"policy {change}: there is no such change; use {', '.join(_CHANGES)}")
    if change == "show":
        if words:
            raise CommandLineError(f"{words[0]!r} does not go with policy show; leave it out")
        return {}
    if change == "replace":
        if len(words) != 1:
            raise CommandLineError("policy replace needs one FILE with the new policy, or - for standard input")
        return {"change": change, "file": words[0]}
    if not words:
        raise CommandLineError(f"policy {change} needs a rule, such as: policy {change} allow tcp example.org:443")
    # Words of one rule need no quotes
    rules = tuple(words) if len(words) == 1 or any(" " in word for word in words) else (" ".join(words),)
    return {"change": change, "rules": rules}
