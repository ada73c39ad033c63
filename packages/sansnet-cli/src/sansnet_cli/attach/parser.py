"""The command line of `sansnet attach`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from sansnet_cli.options import values
from sansnet_cli.options.background import add_background_options, background_options
from sansnet_cli.options.parser import Parser, add_options, namespace_options, with_examples
from sansnet_cli.options.records import AttachOptions, CommandLineError
from sansnet_cli.options.values import typed

__all__ = ["parse", "parser"]


def parser() -> argparse.ArgumentParser:
    """The parser of `sansnet attach`. `parse` checks its result further."""
    made = Parser(
        prog="sansnet attach",
        usage="%(prog)s [OPTIONS] PID\n       %(prog)s [OPTIONS] --netns PATH|NAME [--userns PATH]",
        description="Give a network to an existing network namespace, such as a container's.",
        epilog=with_examples(
            "The guest has the host's addresses and routes, unless you give others; sansnet changes none of its files, "
            "such as /etc/resolv.conf. The guest cannot reach the host's loopback, unless you allow it. sansnet ends "
            "when the namespace is gone, or by SIGTERM or SIGINT. The exit status is 0; 1 if the network cannot be "
            "made; 2 if an option is wrong.",
            "sansnet attach 4242                     # the namespace of process 4242",
            "sansnet attach --netns blue -t 8080:80  # the one made by `ip netns add blue`",
            "sansnet attach --netns /run/user/1000/netns/a --userns /proc/4242/ns/user",
        ),
        add_help=False,
    )
    namespace = made.add_argument_group("the namespace")
    namespace.add_argument(
        "pid",
        nargs="?",
        type=typed(values.pid),
        metavar="PID",
        help="a process; sansnet enters its network namespace",
    )
    namespace.add_argument(
        "--netns",
        type=typed(values.path),
        metavar="PATH",
        help="a network namespace, by its file or its name in `ip netns`",
    )
    namespace.add_argument(
        "--userns",
        type=typed(values.path),
        metavar="PATH",
        help="the user namespace that owns it; default: that of sansnet",
    )
    namespace.add_argument(
        "--no-netns-quit", action="store_true", help="stay when the process has ended or the file is deleted"
    )
    add_background_options(namespace, returns_when="the network works")
    add_options(made, namespace=True)
    return made


def parse(arguments: Sequence[str]) -> AttachOptions:
    """Parse the arguments after `sansnet attach`.

    Raises:
        CommandLineError: an argument is wrong.
        SystemExit: help or version were asked for and have been printed.
    """
    parsed = parser().parse_args(arguments)
    if parsed.pid is None and parsed.netns is None and (parsed.pid_file or "").isdecimal():
        raise CommandLineError("give the process id without an option, as in `sansnet attach 4242`; --pid names a file")
    if (parsed.pid is None) == (parsed.netns is None):
        raise CommandLineError("give either the PID of a process or --netns; see `sansnet attach --help`")
    if parsed.userns is not None and parsed.netns is None:
        raise CommandLineError(
            "--userns goes with --netns only: for a PID, both namespaces of the process are entered; leave it out"
        )
    return AttachOptions(
        **namespace_options(parsed),
        pid=parsed.pid,
        netns=parsed.netns,
        userns=parsed.userns,
        ends_with_namespace=not parsed.no_netns_quit,
        **background_options(parsed),
    )
