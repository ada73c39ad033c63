"""The command line of `sansnet ctl`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, Final

from sansnet_cli import __version__
from sansnet_cli.options.parser import Parser, with_examples
from sansnet_cli.options.records import CommandLineError
from sansnet_core.records import Record

__all__ = ["CtlOptions", "parse", "parser"]

_OPTIONS: Final = {"tcp_ports": "-t", "udp_ports": "-u", "tcp_ns": "-T", "udp_ns": "-U"}

_COMMANDS: Final = ("list", "add", "delete", "clear", "flows", "counters")
_ABOUT_PORTS: Final = ("add", "delete")


class CtlOptions(Record):
    """The options of `sansnet ctl`.

    Attributes:
        path: path of the control socket.
        command: a command of docs/control.md.
        forwards: pairs (option, specification).
        most: number of flows to list, at most; None means the server's default.
        json: whether to print the answer as JSON.
    """

    path: str
    command: str
    forwards: tuple[tuple[str, str], ...] = ()
    most: int | None = None
    json: bool = False

    def request(self) -> dict[str, Any]:
        """The request to the control socket, as JSON values."""
        request: dict[str, Any] = {"command": self.command}
        if self.forwards:
            request["forwards"] = [{"option": option, "spec": spec} for option, spec in self.forwards]
        if self.most is not None:
            request["most"] = self.most
        return request


def parser() -> argparse.ArgumentParser:
    """The parser of `sansnet ctl`. `parse` checks its result further."""
    made = Parser(
        prog="sansnet ctl",
        usage="%(prog)s PATH {list|add|delete|clear|flows|counters} [OPTIONS]",
        description="Inspect and change a running sansnet, which was started with -c PATH: `list` its forwarded ports, "
        "`add` some, `delete` some, `clear` all; or print its `flows` or its `counters`.",
        epilog=with_examples(
            "The exit status is 0; 1 if the command failed; 2 if an argument is wrong.",
            "sansnet ctl /tmp/control flows",
            "sansnet ctl /tmp/control add -t 8080:80 -u 5353:53",
            "sansnet ctl /tmp/control counters --json",
        ),
        add_help=False,
    )
    made.add_argument("path", metavar="PATH", help="the control socket: the path of the option -c")
    made.add_argument("command", choices=_COMMANDS, metavar="COMMAND", help=", ".join(_COMMANDS))
    forwards = made.add_argument_group("ports for add and delete, as for `sansnet run`; repeatable")
    for name, option in _OPTIONS.items():
        forwards.add_argument(option, f"--{name.replace('_', '-')}", action="append", default=[], metavar="SPEC")
    made.add_argument("--most", type=int, metavar="NUMBER", help="list at most NUMBER flows; default: 1000")
    made.add_argument("--json", action="store_true", help="print the answer as JSON")
    made.add_argument(
        "--version", action="version", version=f"sansnet {__version__}", help="print the version and exit"
    )
    made.add_argument("-h", "--help", action="help", help="print this and exit")
    return made


def parse(arguments: Sequence[str]) -> CtlOptions:
    """Parse the arguments after `sansnet ctl`.

    Raises:
        CommandLineError: an argument is wrong.
        SystemExit: help or version were asked for and have been printed.
    """
    if arguments and arguments[0] in _COMMANDS and not {*arguments[1:2]} & {*_COMMANDS}:
        raise CommandLineError(f"the path of a control socket comes first: sansnet ctl PATH {' '.join(arguments)}")
    parsed = parser().parse_args(arguments)
    forwards = tuple((option, spec) for name, option in _OPTIONS.items() for spec in getattr(parsed, name))
    if forwards and parsed.command not in _ABOUT_PORTS:
        raise CommandLineError(f"{forwards[0][0]} does not go with {parsed.command}; leave it out")
    if not forwards and parsed.command in _ABOUT_PORTS:
        raise CommandLineError(f"{parsed.command} needs ports; give -t, -u, -T or -U SPEC")
    if parsed.most is not None and parsed.command != "flows":
        raise CommandLineError(f"--most does not go with {parsed.command}; leave it out")
    return CtlOptions(path=parsed.path, command=parsed.command, forwards=forwards, most=parsed.most, json=parsed.json)
