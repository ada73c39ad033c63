"""The events of a network as entries of an audit: flat dictionaries for JSON."""

from __future__ import annotations

import json
import time
from errno import errorcode
from typing import Any, Final, TypeAlias

from sansnet_core import FlowClosed, FlowOpened, FlowRefused, FlowReport, NameAsked, Reason, addresses
from sansnet_core.addresses import Endpoint
from sansnet_core.notices import plain

__all__ = [
    "Entry",
    "Flow",
    "amount",
    "cut",
    "dump",
    "endpoint",
    "errno_name",
    "fields_of",
    "protocol",
    "verdict",
    "when",
]

Entry: TypeAlias = dict[str, Any]

Flow: TypeAlias = FlowOpened | FlowClosed | FlowRefused | FlowReport

_PROTOCOLS: Final = {1: "ping", 6: "tcp", 17: "udp", 58: "ping"}

_MAX_NAME: Final = 253
"""The longest host name, in characters (RFC 1035, 2.3.4, without the final dot)."""
_MAX_RULE: Final = 500

_UNDECIDED: Final = frozenset({Reason.UNDECIDED, Reason.UNDECIDED_LIMIT})


def protocol(flow: Flow) -> str:
    """`tcp`, `udp` or `ping`."""
    return _PROTOCOLS.get(flow.protocol, str(flow.protocol))


def endpoint(value: Endpoint, *, ping: bool) -> str:
    """An endpoint as text, such as `[::1]:80`; for ping, its address alone."""
    return addresses.format_any(value.address) if ping else str(value)


def errno_name(errno: int) -> str | None:
    """The name of an errno, such as `ECONNREFUSED`; None for 0."""
    return errorcode.get(errno, str(errno)) if errno else None


def cut(text: str | None, most: int = _MAX_NAME) -> str | None:
    """A name that the guest may have made, in printable ASCII, and no longer than names are."""
    if text is None:
        return None
    text = plain(text)
    return text if len(text) <= most else f"{text[: most - 3]}..."


def when(wall: float) -> str:
    """Seconds since 1970 in ISO 8601, in UTC, such as `2030-01-31T23:59:59.123Z`."""
    seconds, thousandths = divmod(round(wall * 1000), 1000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{thousandths:03}Z"


def verdict(event: FlowOpened | FlowClosed | FlowRefused | NameAsked) -> str:
    """`allow`, `refuse`, `drop`, or `undecided` if there was no decision in time."""
    if isinstance(event, NameAsked):
        return "refuse" if event.refused else "allow"
    reason = None if isinstance(event, FlowOpened) else event.reason
    if reason is None:
        return "allow"
    if reason in _UNDECIDED:
        return "undecided"
    return "drop" if reason is Reason.REFUSED and isinstance(event, FlowRefused) and not event.errno else "refuse"


def fields_of(event: Flow | NameAsked) -> Entry:
    """The fields of an event; None for those without a value."""
    entry: Entry = {"rule": cut(event.rule, _MAX_RULE)}
    if not isinstance(event, FlowReport):
        entry["verdict"] = verdict(event)
    if isinstance(event, NameAsked):
        closed = None if event.address is None else addresses.format_any(event.address)
        return entry | {"name": cut(event.name), "type": event.type_name, "address": closed}
    ping = event.protocol in (1, 58)
    entry |= {
        "protocol": protocol(event),
        "direction": "in" if event.inbound else "out",
        "name": cut(event.name),
        "address": addresses.format_any(event.remote.address),
        "port": None if ping else (event.guest if event.inbound else event.remote).port,
        "host": None if event.host is None else endpoint(event.host, ping=ping),
        "guest": endpoint(event.guest, ping=ping),
    }
    if not isinstance(event, FlowRefused):
        entry["flow"] = event.socket
    if isinstance(event, FlowClosed | FlowReport):
        entry |= {"sent": event.sent, "received": event.received}
    if isinstance(event, FlowClosed | FlowRefused):
        entry |= {"reason": event.reason and event.reason.name, "errno": errno_name(event.errno)}
    return entry


def dump(entry: Entry) -> bytes:
    """An entry as a line of JSON in ASCII, without the fields that have no value."""
    kept = {key: value for key, value in entry.items() if value is not None}
    return json.dumps(kept, separators=(",", ":")).encode() + b"\n"


def amount(number: int) -> str:
    """A number of bytes for people."""
    if number < 1000:
        return f"{number} byte{'' if number == 1 else 's'}"
    value = float(number)
    for unit in ("kB", "MB", "GB", "TB"):
        value /= 1000
        if value < 999.5 or unit == "TB":
            break
    return f"{value:.3g} {unit}" if value < 999.5 else f"{value:.0f} {unit}"
