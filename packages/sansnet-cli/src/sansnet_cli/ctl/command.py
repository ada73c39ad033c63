"""`sansnet ctl`: send a command to a control socket and print the answer."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from sansnet_cli.ctl.client import Answer, ask, no_answer
from sansnet_cli.ctl.parser import parse
from sansnet_cli.output.stdout import put

__all__ = ["ctl", "show"]


def ctl(arguments: Sequence[str]) -> int:
    """Run `sansnet ctl`.

    Args:
        arguments: the words after `ctl`.

    Returns:
        The exit status.

    Raises:
        CommandLineError: an argument is wrong.
        ControlError: there is no answer, or the command failed.
    """
    options = parse(arguments)
    answer = ask(options.path, options.request())
    try:
        text = show(options.command, answer)
    except (
        AttributeError,
        KeyError,
        TypeError,
        ValueError,
    ):  # another protocol with JSON objects, such as that of QEMU's monitor
        raise no_answer(options.path) from None
    put(f"{json.dumps(answer) if options.json else text}\n")
    return 0


def show(command: str, answer: Answer) -> str:
    """Format the answer to a command for people."""
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
