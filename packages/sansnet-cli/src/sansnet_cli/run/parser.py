"""The command line of `sansnet run`."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence

from sansnet_cli.options.parser import Parser, add_options, namespace_options, with_examples
from sansnet_cli.options.records import CommandLineError, RunOptions

__all__ = ["parse", "parser"]


def parser() -> argparse.ArgumentParser:
    """The parser of `sansnet run`. `parse` checks its result further."""
    made = Parser(
        prog="sansnet run",
        usage="%(prog)s [OPTIONS] [--] [COMMAND [ARG...]]",
        description="Run a command in a network namespace of its own, with a working network and without privileges.",
        epilog=with_examples(
            "The guest has the host's addresses, routes and name servers, unless you give others. The guest cannot "
            "reach the host's loopback, and no one outside can connect to the guest, unless you allow it. The command "
            "runs as you, with your files. When it exits, sansnet also ends the background processes that it left. The "
            "exit status is that of the command; 128 + N if signal N ended it; 127 if the command was not found; 126 "
            "if it cannot be executed; 1 if the network cannot be made; 2 if an option is wrong.",
            "sansnet run                                    # a shell",
            "sansnet run -- curl https://example.com/       # a command",
            "sansnet run -t 8080:80 -- ./server             # host port 8080 leads to 80",
            "sansnet run -T 5432 -- psql -h 127.0.0.1       # the host's database",
            "sansnet run --root                             # a root shell in it",
            "sansnet run -p all.pcap -- ping -c1 192.0.2.1  # with a capture",
        ),
        add_help=False,
    )
    command = made.add_argument_group("the command")  # without a group, argparse formats the help here
    command.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND", help="default: your shell ($SHELL)")
    command.add_argument(
        "--root",
        action="store_true",
        help="run it as root in the guest's network, which ip and nft need; default: as your own user",
    )
    command.add_argument(
        "--host-processes",
        action="store_true",
        help="let it see the host's processes, signal yours, and use their shared memory; default: it has its own",
    )
    add_options(made, namespace=True)
    return made


def parse(arguments: Sequence[str]) -> RunOptions:
    """Parse the arguments after `sansnet run`.

    Raises:
        CommandLineError: an argument is wrong.
        SystemExit: help or version were asked for and have been printed.
    """
    parsed = parser().parse_args(arguments)
    if parsed.interface == "t" and "-it" in arguments:  # as for docker
        raise CommandLineError("-it: the command has your terminal; leave it out")
    command = parsed.command[1:] if parsed.command[:1] == ["--"] else parsed.command
    return RunOptions(
        **namespace_options(parsed),
        root=parsed.root,
        host_processes=parsed.host_processes,
        command=tuple(command) or (os.environ.get("SHELL") or "/bin/sh",),
    )
