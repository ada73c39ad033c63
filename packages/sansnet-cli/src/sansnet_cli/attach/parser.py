"""The command line of `sansnet attach`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from sansnet_cli.options import values
from sansnet_cli.options.background import add_background_options, background_options
from sansnet_cli.options.parser import Parser, add_options, namespace_options, typed, with_examples
from sansnet_cli.options.records import AttachOptions, CommandLineError

__all__ = ["parse", "parser"]


def parser() -> argparse.ArgumentParser:
    """The parser of `sansnet attach`; what it parses is for `parse` to check further."""
    made = Parser(
        prog="sansnet attach",
        usage="%(prog)s [OPTIONS] PID\n       %(prog)s [OPTIONS] --netns PATH|NAME [--userns PATH]",
        description="Be the network of a network namespace that exists already, such as a container's.",
        epilog=with_examples(
            "The guest has the host's addresses and routes, unless you give others; sansnet changes none of its files, "
            "such as /etc/resolv.conf. The guest cannot reach the host's loopback, unless you allow it. sansnet ends "
            "with status 0 when the namespace is gone, or by SIGTERM and SIGINT; 1 is a network that cannot be made, "
            "2 a wrong option.",
            "sansnet attach 4242                     # of process 4242",
            "sansnet attach --netns blue -t 8080:80  # of `ip netns add blue`",
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
        help="a process, whose network namespace sansnet enters",
    )
    namespace.add_argument(
        "--netns",
        type=typed(values.path),
        metavar="PATH",
        help="a network namespace, by its file, or by its name for `ip netns`",
    )
    namespace.add_argument(
        "--userns", type=typed(values.path), metavar="PATH", help="the user namespace that it belongs to; default: ours"
    )
    namespace.add_argument(
        "--no-netns-quit", action="store_true", help="stay when the process has ended or the file is deleted"
    )
    add_background_options(namespace, returns_when="it is attached")
    add_options(made, namespace=True)
    return made


def parse(arguments: Sequence[str]) -> AttachOptions:
    """Understand what follows `sansnet attach`.

    Raises:
        CommandLineError: something is wrong with it.
        SystemExit: it asked for the help or the version, which have been printed.
    """
    parsed = parser().parse_args(arguments)
    if parsed.pid is None and parsed.netns is None and (parsed.pid_file or "").isdecimal():
        raise CommandLineError("give the number of a process alone, as in `sansnet attach 4242`; --pid names a file")
    if (parsed.pid is None) == (parsed.netns is None):
        raise CommandLineError("give either the PID of a process or --netns; see `sansnet attach --help`")
    if parsed.userns is not None and parsed.netns is None:
        raise CommandLineError("--userns goes with --netns: of a process both namespaces are entered; leave it out")
    return AttachOptions(
        **namespace_options(parsed),
        pid=parsed.pid,
        netns=parsed.netns,
        userns=parsed.userns,
        ends_with_namespace=not parsed.no_netns_quit,
        **background_options(parsed),
    )
