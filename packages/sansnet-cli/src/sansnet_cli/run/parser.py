"""The command line of `sansnet run`."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence

from sansnet_cli.options.parser import Parser, add_options, namespace_options, with_examples
from sansnet_cli.options.records import CommandLineError, RunOptions

__all__ = ["parse", "parser"]


def parser() -> argparse.ArgumentParser:
    """The parser of `sansnet run`; what it parses is for `parse` to check further."""
    made = Parser(
        prog="sansnet run",
        usage="%(prog)s [OPTIONS] [--] [COMMAND [ARG...]]",
        description="Run a command in a network namespace of its own, where the network works, without privileges.",
        epilog=with_examples(
            "The guest has the host's addresses, routes and name servers, unless you give others. The guest cannot "
            "reach the host's loopback, and nobody outside can connect to the guest, unless you allow it. The command "
            "runs as you, with your files. When it ends, sansnet ends what it left running. The exit status is the "
            "command's; 128 + N if signal N ended it; 127 if there is no such command; 126 if it cannot be executed; "
            "1 if the network cannot be made; 2 if an option is wrong.",
            "sansnet run                                    # a shell",
            "sansnet run -- curl https://example.com/       # a command",
            "sansnet run -t 8080:80 -- ./server             # host port 8080 leads to 80",
            "sansnet run -T 5432 -- psql -h 127.0.0.1       # the host's database",
            "sansnet run --root                             # as root of the network",
            "sansnet run -p all.pcap -- ping -c1 192.0.2.1  # with a capture",
        ),
        add_help=False,
    )
    command = made.add_argument_group("the command")  # of the parser itself it would load what formats the help
    command.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND", help="default: your shell ($SHELL)")
    command.add_argument(
        "--root",
        action="store_true",
        help="run it as root of the guest's network, as ip and nft need it; default: as the user that you are",
    )
    add_options(made, namespace=True)
    return made


def parse(arguments: Sequence[str]) -> RunOptions:
    """Understand what follows `sansnet run`.

    Raises:
        CommandLineError: something is wrong with it.
        SystemExit: it asked for the help or the version, which have been printed.
    """
    parsed = parser().parse_args(arguments)
    if parsed.interface == "t" and "-it" in arguments:  # as for docker
        raise CommandLineError("-it: the command has your terminal; leave it out")
    command = parsed.command[1:] if parsed.command[:1] == ["--"] else parsed.command
    return RunOptions(
        **namespace_options(parsed),
        root=parsed.root,
        command=tuple(command) or (os.environ.get("SHELL") or "/bin/sh",),
    )
