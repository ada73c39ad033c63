"""`sansnet ctl`: ask a running instance, by its control socket, and show the answer."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from sansnet_cli import __version__
from sansnet_cli.ctl.client import Answer, ask, no_answer
from sansnet_cli.options.parser import Parser, with_examples
from sansnet_cli.options.records import CommandLineError
from sansnet_cli.output.stdout import put
from sansnet_core.records import Record

__all__ = ["CtlOptions", "ctl", "parse_ctl", "show"]

_OPTIONS: Final = {"tcp_ports": "-t", "udp_ports": "-u", "tcp_ns": "-T", "udp_ns": "-U"}

_COMMANDS: Final = ("list", "add", "delete", "clear", "flows", "counters")
_ABOUT_PORTS: Final = ("add", "delete")


class CtlOptions(Record):
    """What `sansnet ctl` was asked for.

    Attributes:
        path: of the control socket.
        command: one of those in docs/control.md.
        forwards: pairs of option and specification.
        most: flows to list; None is the other side's choice.
        json: whether the answer is shown as it came.
    """

    path: str
    command: str
    forwards: tuple[tuple[str, str], ...] = ()
    most: int | None = None
    json: bool = False

    def request(self) -> dict[str, Any]:
        """As it is asked."""
        request: dict[str, Any] = {"command": self.command}
        if self.forwards:
            request["forwards"] = [{"option": option, "spec": spec} for option, spec in self.forwards]
        if self.most is not None:
            request["most"] = self.most
        return request


def ctl(arguments: Sequence[str]) -> int:
    """Run `sansnet ctl`; the exit status.

    Raises:
        CommandLineError: an argument is wrong.
        ControlError: there is no such instance, or it did not do it.
    """
    options = parse_ctl(arguments)
    answer = ask(options.path, options.request())
    try:
        text = show(options.command, answer)
    except (AttributeError, KeyError, TypeError, ValueError):  # a JSON object, as QEMU's monitor greets with
        raise no_answer(options.path) from None
    put(f"{json.dumps(answer) if options.json else text}\n")
    return 0


def ctl_parser() -> argparse.ArgumentParser:
    """The parser of `sansnet ctl`; what it parses is for `parse_ctl` to check further."""
    made = Parser(
        prog="sansnet ctl",
        usage="%(prog)s PATH {list|add|delete|clear|flows|counters} [OPTIONS]",
        description="Ask a sansnet that runs with -c PATH: `list` the ports that it forwards, `add` some, `delete` "
        "some, `clear` all; or what `flows` there are, and its `counters`.",
        epilog=with_examples(
            "The exit status is 0; 1 if it could not be done; 2 if an argument is wrong.",
            "sansnet ctl /tmp/control flows",
            "sansnet ctl /tmp/control add -t 8080:80 -u 5353:53",
            "sansnet ctl /tmp/control counters --json",
        ),
        add_help=False,
    )
    made.add_argument("path", metavar="PATH", help="the control socket, as given to -c")
    made.add_argument("command", choices=_COMMANDS, metavar="COMMAND", help=", ".join(_COMMANDS))
    forwards = made.add_argument_group("ports, for add and delete, as `sansnet run` has them; repeatable")
    for name, option in _OPTIONS.items():
        forwards.add_argument(option, f"--{name.replace('_', '-')}", action="append", default=[], metavar="SPEC")
    made.add_argument("--most", type=int, metavar="NUMBER", help="of flows; default: 1000")
    made.add_argument("--json", action="store_true", help="show the answer as it came")
    made.add_argument(
        "--version", action="version", version=f"sansnet {__version__}", help="print the version and exit"
    )
    made.add_argument("-h", "--help", action="help", help="print this and exit")
    return made


def parse_ctl(arguments: Sequence[str]) -> CtlOptions:
    """Understand the arguments behind `sansnet ctl`.

    Raises:
        CommandLineError: an argument is wrong.
    """
    if arguments and arguments[0] in _COMMANDS and not {*arguments[1:2]} & {*_COMMANDS}:
        raise CommandLineError(f"the path of a control socket comes first: sansnet ctl PATH {' '.join(arguments)}")
    parsed = ctl_parser().parse_args(arguments)
    forwards = tuple((option, spec) for name, option in _OPTIONS.items() for spec in getattr(parsed, name))
    if forwards and parsed.command not in _ABOUT_PORTS:
        raise CommandLineError(f"{forwards[0][0]} does not go with {parsed.command}; leave it out")
    if not forwards and parsed.command in _ABOUT_PORTS:
        raise CommandLineError(f"{parsed.command} needs ports; give -t, -u, -T or -U SPEC")
    if parsed.most is not None and parsed.command != "flows":
        raise CommandLineError(f"--most does not go with {parsed.command}; leave it out")
    return CtlOptions(path=parsed.path, command=parsed.command, forwards=forwards, most=parsed.most, json=parsed.json)


# for people


def show(command: str, answer: Answer) -> str:
    """The answer to a command as text."""
    return _SHOWN[command](answer)


def _show_forwards(answer: Answer) -> str:
    return "\n".join(f"{one['option']} {one['spec']}" for one in answer["forwards"]) or "no ports are forwarded"


def _show_flows(answer: Answer) -> str:
    rows = [("PROTOCOL", "STATE", "GUEST", "", "REMOTE", "HOST", "SENT", "RECEIVED")]
    for flow in answer["flows"]:
        remote, host = _endpoint(flow["remote"]), _endpoint(flow["host"])
        arrow = "<-" if flow["inbound"] else "->"
        rows.append(
            (
                flow["protocol"],
                flow["state"],
                _endpoint(flow["guest"]),
                arrow,
                remote,
                host if host != remote else "",
                str(flow["sent"]),
                str(flow["received"]),
            )
        )
    lines = _columns(rows)
    if more := answer["total"] - len(answer["flows"]):
        lines.append(f"and {more} more; see --most")
    return "\n".join(lines)


def _endpoint(endpoint: Answer) -> str:
    address = endpoint["address"]
    return f"[{address}]:{endpoint['port']}" if ":" in address else f"{address}:{endpoint['port']}"


def _show_counters(answer: Answer) -> str:
    if not answer["guest"]:
        return "there is no guest"
    rows = [(name.replace("_", " "), str(value)) for name, value in answer["driver"].items()]
    rows += [(name.replace("_", " "), str(value)) for name, value in answer["flows"].items()]
    rows.append(("tcp bytes held", str(answer["tcp_held"])))
    rows.append(("frames ignored", str(answer["ignored"])))
    for name, drop in answer["drops"].items():
        rows.append((f"dropped: {drop['meaning']}", str(drop["count"])))
        rows += [(f"  {_dropped(packet)}", "") for packet in answer["last_drops"].get(name, [])]
    return "\n".join([*_columns(rows), *(f"hint: {hint}" for hint in answer.get("hints", ()))])


def _dropped(packet: Answer) -> str:
    source, destination = (
        _endpoint(end) if end["port"] else end["address"] for end in (packet["source"], packet["destination"])
    )
    return f"{packet['protocol']} {source} to {destination}"


def _columns(rows: Sequence[Iterable[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


_SHOWN: Final[dict[str, Callable[[Answer], str]]] = {
    **dict.fromkeys(("list", "add", "delete", "clear"), _show_forwards),
    "flows": _show_flows,
    "counters": _show_counters,
}
