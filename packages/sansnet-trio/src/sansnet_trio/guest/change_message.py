"""Changes of a guest as messages: from the process that serves the guest to one that may change it.

Each request is a line of JSON, and so is its answer. An attacker who controls the serving process must gain nothing by
them: so requests are not pickled, which could run code. They hold addresses, routes and names; the interface and all
other properties are those of the plan that the receiver has.
"""

from __future__ import annotations

import errno
import json
import os
import socket
from collections.abc import Iterable
from typing import Any, Final

from sansnet_core import SansnetError
from sansnet_core.records import replace
from sansnet_trio.guest.errors import GuestError
from sansnet_trio.guest.live_change import TIMEOUT, GuestChange
from sansnet_trio.guest.plan import GuestPlan
from sansnet_trio.hostinfo import InterfaceAddress, Route

__all__ = ["MAX_LINE", "decode", "encode", "failure", "request_change", "success"]

MAX_LINE: Final = 1 << 24
"""Bytes of a request: more than a hundred thousand routes."""
_MAX_ANSWER: Final = 1 << 16
_SIZES: Final = (4, 16)
_MARGIN: Final = 1.0
"""Seconds for the way there and back, in addition to those that the change may take."""


# the part of the process that serves the guest


async def request_change(change: GuestChange, channel: socket.socket) -> tuple[str, ...]:
    """Ask for a change of the guest, and wait for the answer.

    Args:
        change: the change.
        channel: a stream socket to the process that makes it.

    Returns:
        A sentence for each file that could not be replaced.

    Raises:
        OSError: the kernel refuses.
        GuestError: the interface cannot have an address.
        EOFError: the process has ended, or does not answer in time; do not use the channel again.
    """
    import trio

    stream = trio.SocketStream(trio.socket.from_stdlib_socket(channel))
    answer = b""
    with trio.move_on_after(TIMEOUT + _MARGIN):
        try:
            await stream.send_all(encode(change))
            while not answer.endswith(b"\n") and len(answer) < _MAX_ANSWER:
                data = await stream.receive_some()
                if not data:
                    break
                answer += data
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
    if not answer.endswith(b"\n"):
        raise EOFError
    code, text, problems = json.loads(answer)
    if code:
        raise OSError(code, os.strerror(code))
    if text:
        raise GuestError(text)
    return tuple(problems)


def encode(change: GuestChange) -> bytes:
    """A change as a request."""
    message = {
        "old": _encode_plan(change.old),
        "new": _encode_plan(change.new),
        "kept": [address.hex() for address in change.kept],
        "given_up": [address.hex() for address in change.given_up],
    }
    return json.dumps(message).encode() + b"\n"


def _encode_plan(plan: GuestPlan) -> dict[str, object]:
    return {
        "addresses": [[own.address.hex(), own.prefix_length] for own in plan.addresses],
        "routes": [
            [one.destination.hex(), one.prefix_length, (one.gateway or b"").hex(), one.metric, one.on_link]
            for one in plan.routes
        ],
        "resolv_conf": plan.resolv_conf,
        "hosts": [[address.hex(), list(names)] for address, names in plan.hosts],
    }


# the part of the process that makes the change


def decode(line: bytes, plan: GuestPlan) -> GuestChange:
    """A request as a change of the plan's guest.

    Raises:
        ValueError, TypeError, LookupError, ArithmeticError, SansnetError: it is anything but addresses, routes and
            names.
    """
    message = json.loads(line)
    return GuestChange(
        old=_decode_plan(message["old"], plan),
        new=_decode_plan(message["new"], plan),
        kept=_decode_addresses(message["kept"]),
        given_up=_decode_addresses(message["given_up"]),
    )


def _decode_plan(message: Any, plan: GuestPlan) -> GuestPlan:
    text = message["resolv_conf"]
    if not isinstance(text, str | None):
        raise TypeError("not the text of a file")
    return replace(
        plan,
        addresses=tuple(InterfaceAddress(_address(address), int(length)) for address, length in message["addresses"]),
        routes=tuple(
            Route(
                destination=_address(destination),
                prefix_length=int(length),
                gateway=_address(gateway) if gateway else None,
                metric=int(metric),
                on_link=bool(on_link),
            )
            for destination, length, gateway, metric, on_link in message["routes"]
        ),
        resolv_conf=text,
        hosts=tuple((_address(address), tuple(map(str, names))) for address, names in message["hosts"]),
    )


def _decode_addresses(message: Iterable[Any]) -> tuple[bytes, ...]:
    return tuple(_address(text) for text in message)


def _address(text: Any) -> bytes:
    address = bytes.fromhex(text)
    if len(address) not in _SIZES:
        raise ValueError("not an IPv4 or IPv6 address")
    return address


def success(problems: Iterable[str] = ()) -> bytes:
    """The answer to a change that was made; see `request_change`."""
    return _answer(0, "", problems)


def failure(error: OSError | SansnetError) -> bytes:
    """The answer to a change that was not made."""
    return _answer(error.errno or errno.EINVAL, "") if isinstance(error, OSError) else _answer(0, str(error))


def _answer(code: int, text: str, problems: Iterable[str] = ()) -> bytes:
    return json.dumps([code, text, list(problems)]).encode() + b"\n"
