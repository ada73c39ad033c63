"""`sansnet ctl`: send a command to a control socket and print the answer."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Final

from sansnet_cli.ctl.client import Answer, ask, no_answer
from sansnet_cli.ctl.parser import parse
from sansnet_cli.ctl.policy import printable, read_policy, show_answered, show_pending, show_policy
from sansnet_cli.ctl.table import columns, endpoint
from sansnet_cli.output.impairments import described
from sansnet_cli.output.stdout import put

__all__ = ["ctl", "show"]

_DIRECTION: Final = {"up": "from the guest", "down": "to the guest"}


def ctl(arguments: Sequence[str]) -> int:
    """Run `sansnet ctl`.

    Args:
        arguments: the words after `ctl`.

    Returns:
        The exit status.

    Raises:
        CommandLineError: an argument is wrong.
        PolicyError: the new policy is wrong.
        ControlError: there is no answer, or the command failed.
    """
    options = parse(arguments)
    if options.command == "ask":
        from sansnet_cli.ctl.asking import ask_on_terminal

        return ask_on_terminal(options.path)
    policy = None if options.file is None else read_policy(options.file)
    answer = ask(options.path, options.request(policy))
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
        remote, host = endpoint(flow["remote"]), endpoint(flow["host"])
        arrow = "<-" if flow["inbound"] else "->"
        rows.append(
            (
                flow["protocol"],
                flow["state"],
                endpoint(flow["guest"]),
                arrow,
                remote,
                host if host != remote else "",
                str(flow["sent"]),
                str(flow["received"]),
            )
        )
    lines = columns(rows)
    if more := answer["total"] - len(answer["flows"]):
        lines.append(f"and {more} more; see --most")
    return "\n".join(lines)


def _show_counters(answer: Answer) -> str:
    sandbox = [("sandbox", answer["sandbox"]["text"])] if "sandbox" in answer else []
    if not answer["guest"]:
        return "\n".join(["there is no guest", *columns(sandbox)])
    rows = [*sandbox]
    for name, value in answer["driver"].items():
        if isinstance(value, dict):  # of the impairments
            rows += [(f"{name} {part}".replace("_", " "), str(count)) for part, count in value.items()]
        elif value is not None:
            rows.append((name.replace("_", " "), str(value)))
    rows += [(name.replace("_", " "), str(value)) for name, value in answer["flows"].items()]
    rows.append(("tcp bytes held", str(answer["tcp_held"])))
    rows.append(("tcp bytes lost", str(answer["tcp_lost"])))
    rows.append(("frames ignored", str(answer["ignored"])))
    for name, drop in answer["drops"].items():
        rows.append((f"dropped: {drop['meaning']}", str(drop["count"])))
        rows += [(f"  {_dropped(packet)}", "") for packet in answer["last_drops"].get(name, [])]
    return "\n".join([*columns(rows), *(f"hint: {hint}" for hint in answer.get("hints", ()))])


def _dropped(packet: Answer) -> str:
    source, destination = (
        endpoint(end) if end["port"] else end["address"] for end in (packet["source"], packet["destination"])
    )
    return f"{packet['protocol']} {source} to {destination}"


def _show_impairments(answer: Answer) -> str:
    rows = []
    for direction, heading in _DIRECTION.items():
        fields = answer[direction]
        rows.append((heading, described(fields)))
        rows += [(f"  {name}", str(value)) for name, value in (fields["counters"] or {}).items()]
    return "\n".join(columns(rows))


def _show_audit(answer: Answer) -> str:
    return "\n".join(map(printable, answer["lines"]))


_SHOWN: Final[dict[str, Callable[[Answer], str]]] = {
    **dict.fromkeys(("list", "add", "delete", "clear"), _show_forwards),
    **dict.fromkeys(("allow", "refuse"), show_answered),
    "flows": _show_flows,
    "counters": _show_counters,
    "policy": show_policy,
    "pending": show_pending,
    "audit": _show_audit,
    "impair": _show_impairments,
}
