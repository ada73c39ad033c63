"""`pesto`: changes the forwarded ports of a running pasta or passt, for callers of that C program, such as podman.

Its options become requests to the control socket (docs/control.md), in their order. If one of them fails, the earlier
ones are undone.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from sansnet_cli.compat import version_of
from sansnet_cli.compat.command_line import BadOption, CommandLine
from sansnet_cli.compat.options import Option, described
from sansnet_cli.compat.parsed_options import Information, Misuse
from sansnet_cli.ctl.client import ControlError, ask
from sansnet_cli.output.stdout import put

__all__ = ["main"]

Ports: TypeAlias = list[dict[str, str]]
"""Options and specifications, as in the protocol of the control socket."""

_OPTIONS: Final = (
    Option("add", "A", text="forward the ports that follow, too"),
    Option("delete", "D", text="stop forwarding the ports that follow"),
    Option("clear", "C", "HOST|SPLICE", "stop forwarding all ports of the host, or of the guest's loopback"),
    Option("tcp-ports", "t", "SPEC", "TCP ports of the host that lead to the guest, repeatable"),
    Option("udp-ports", "u", "SPEC", "UDP ports of the host that lead to the guest, repeatable"),
    Option("tcp-ns", "T", "SPEC", "TCP ports of the guest's loopback that lead to the host's"),
    Option("udp-ns", "U", "SPEC", "UDP ports of the guest's loopback that lead to the host's"),
    Option("show", "s", text="print the forwarded ports at the end"),
    Option("debug", "d", ignored="there are no further messages"),
    Option("help", "h", text="print this and exit"),
    Option("version", text="print the version and exit"),
)
_SIDES: Final = {"HOST": ("-t", "-u"), "SPLICE": ("-T", "-U")}
"""The sides whose ports are forwarded, as the original names them, with the options for each."""


@dataclass(frozen=True, slots=True)
class _Step:
    """A change.

    Attributes:
        command: `add` or `delete`.
        ports: the ports to add or delete.
        options: if not empty, delete all ports of these options instead.
    """

    command: str
    ports: Ports = field(default_factory=list)
    options: tuple[str, ...] = ()


def main(words: Sequence[str]) -> int:
    """Run `pesto` with these arguments.

    Returns:
        The exit status, which is 1 for every error.
    """
    try:
        path, steps, shows = _read(words)
        _apply(path, steps)
        if shows:
            put("\n".join(_shown(path)) + "\n")
        return 0
    except Information as request:
        put(_usage() if str(request) == "help" else version_of("pesto"))
        return 0
    except BadOption as bad:
        return _complain(f"pesto: {bad}\n{_usage()}")
    except (Misuse, ControlError) as problem:
        return _complain(f"pesto: {problem}\n")


def _read(words: Sequence[str]) -> tuple[str, list[_Step], bool]:
    """Parse the arguments into the path of the control socket, the changes, and whether to print the result.

    Ports without --add, --delete or --clear before them replace all others.
    """
    line = CommandLine(_OPTIONS, words)
    steps: list[_Step] = []
    command, shows = "", False
    for option, argument in line:
        match option.name:
            case "help" | "version":
                raise Information(option.name)
            case "add" | "delete":
                command = option.name
            case "clear":
                if argument not in _SIDES:
                    raise Misuse(f"--clear {argument} is neither {' nor '.join(_SIDES)}; give one of them")
                steps.append(_Step("delete", options=_SIDES[argument]))
                command = command or "add"
            case "show":
                shows = True
            case "debug":
                pass
            case _:
                if not command:
                    steps.append(_Step("delete", options=sum(_SIDES.values(), ())))
                    command = "add"
                if not steps or steps[-1].command != command or steps[-1].options:
                    steps.append(_Step(command))
                steps[-1].ports.append({"option": f"-{option.short}", "spec": argument})
    if len(line.rest) != 1:
        raise Misuse("give the path of one control socket, that of the option --conf-path; see `pesto --help`")
    return line.rest[0], steps, shows or not steps


def _apply(path: str, steps: Sequence[_Step]) -> None:
    """Make all changes, or none."""
    before = forwards = _forwarded(path)
    try:
        for step in steps:
            ports = step.ports or [one for one in forwards if one["option"] in step.options]
            if ports:
                forwards = ask(path, {"command": step.command, "forwards": ports})["forwards"]
    except ControlError:
        if forwards != before:
            with contextlib.suppress(ControlError):  # another program has taken a port meanwhile
                ask(path, {"command": "clear"})
                ask(path, {"command": "add", "forwards": before})
        raise


def _forwarded(path: str) -> Ports:
    """The ports that are forwarded now."""
    answer = ask(path, {"command": "list"})
    ports: Ports = answer["forwards"]
    return ports


def _shown(path: str) -> Iterator[str]:
    """Lines about the forwarded ports, for people."""
    forwards = _forwarded(path)
    for side, options in _SIDES.items():
        yield f"{side}:"
        yield from (f"    {one['option']} {one['spec']}" for one in forwards if one["option"] in options)


def _usage() -> str:
    return "\n".join(["usage: pesto [OPTION]... PATH", "", *described(_OPTIONS), ""])


def _complain(text: str) -> int:
    with contextlib.suppress(OSError):  # stderr has no reader
        sys.stderr.write(text)
    return 1
