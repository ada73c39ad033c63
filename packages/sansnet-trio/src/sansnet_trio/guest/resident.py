"""A process that stays in a guest's network namespace, and changes addresses and routes of the guest's interface.

Theory of operation. Entering the namespace again may need privileges that we have dropped, or the user that we were. So
the child that configured the interface stays. It keeps CAP_NET_ADMIN and nothing else.

An attacker who controls our process must not gain that capability, which may cover more than this namespace: all
network namespaces of the initial user namespace, if root made this one. So the resident does not unpickle messages,
which could run code. It accepts only lines of JSON with addresses and routes for the one interface that it configured,
and ends at the first line that is anything else. It answers each line with another: an errno and a message, or 0 and an
empty string.
"""

from __future__ import annotations

import errno
import gc
import os
import socket
from collections.abc import Callable, Iterable
from typing import Any, Final

from sansnet_core.records import replace
from sansnet_trio.guest import helper_process
from sansnet_trio.guest.errors import GuestError
from sansnet_trio.guest.interface import reconfigure
from sansnet_trio.guest.live_change import TIMEOUT, GuestChange
from sansnet_trio.guest.plan import GuestPlan
from sansnet_trio.hostinfo import InterfaceAddress, Route
from sansnet_trio.linux.privileges import CAP_NET_ADMIN
from sansnet_trio.sandbox import chosen, confine
from sansnet_trio.sandbox.profiles import RESIDENT

__all__ = ["request_change", "serve_changes"]

_MAX_LINE: Final = 1 << 24
"""Bytes of a line: more than a hundred thousand routes."""
_MAX_ANSWER: Final = 1 << 16
_SIZES: Final = (4, 16)


# the parent's part


async def request_change(change: GuestChange, channel: socket.socket) -> None:
    """Ask the resident to change the guest, and wait for its answer.

    Args:
        change: the change of the interface that the resident configured.
        channel: a stream socket to the resident.

    Raises:
        OSError: the kernel refuses.
        GuestError: the interface cannot have an address.
        EOFError: the resident has ended, or does not answer in time; do not use it again.
    """
    import json

    import trio

    stream = trio.SocketStream(trio.socket.from_stdlib_socket(channel))
    answer = b""
    with trio.move_on_after(TIMEOUT):
        try:
            await stream.send_all(json.dumps(_encoded(change)).encode() + b"\n")
            while not answer.endswith(b"\n") and len(answer) < _MAX_ANSWER:
                data = await stream.receive_some()
                if not data:
                    break
                answer += data
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
    if not answer.endswith(b"\n"):
        raise EOFError
    code, text = json.loads(answer)
    if code:
        raise OSError(code, os.strerror(code))
    if text:
        raise GuestError(text)


def _encoded(change: GuestChange) -> dict[str, object]:
    return {
        "old": _encoded_plan(change.old),
        "new": _encoded_plan(change.new),
        "kept": [address.hex() for address in change.kept],
        "given_up": [address.hex() for address in change.given_up],
    }


def _encoded_plan(plan: GuestPlan) -> list[list[list[object]]]:
    return [
        [[own.address.hex(), own.prefix_length] for own in plan.addresses],
        [
            [one.destination.hex(), one.prefix_length, (one.gateway or b"").hex(), one.metric, one.on_link]
            for one in plan.routes
        ],
    ]


# the resident's part


def serve_changes(channel: socket.socket, plan: GuestPlan, is_orphan: Callable[[], bool]) -> None:
    """Make the changes that are requested, until the other end of the channel is closed.

    Called in the process that stays, in the guest's network namespace.

    Args:
        channel: a stream socket to the parent.
        plan: plan of the guest.
        is_orphan: tells whether the parent has ended.
    """
    import json  # while files can still be read

    gc.disable()  # finalizers of the parent's garbage could close descriptors that this process opens
    helper_process.detach()
    helper_process.keep_only(channel.fileno(), {CAP_NET_ADMIN})
    if is_orphan():
        return
    confine(RESIDENT, chosen())
    with channel.makefile("rb") as lines:
        while line := lines.readline(_MAX_LINE):
            channel.sendall(json.dumps(_answer(_decoded(json.loads(line), plan))).encode() + b"\n")


def _answer(change: GuestChange) -> tuple[int, str]:
    try:
        reconfigure(change.old, change.new, change.kept, change.given_up)
    except GuestError as error:
        return 0, str(error)
    except OSError as error:
        return error.errno or errno.EINVAL, ""
    return 0, ""


def _decoded(message: Any, plan: GuestPlan) -> GuestChange:
    """Decode a change of the plan's interface; raises if the message is anything but addresses and routes."""
    return GuestChange(
        old=_decoded_plan(message["old"], plan),
        new=_decoded_plan(message["new"], plan),
        kept=_decoded_addresses(message["kept"]),
        given_up=_decoded_addresses(message["given_up"]),
    )


def _decoded_plan(message: Any, plan: GuestPlan) -> GuestPlan:
    addresses, routes = message
    return replace(
        plan,
        addresses=tuple(InterfaceAddress(_address(address), int(length)) for address, length in addresses),
        routes=tuple(
            Route(
                destination=_address(destination),
                prefix_length=int(length),
                gateway=_address(gateway) if gateway else None,
                metric=int(metric),
                on_link=bool(on_link),
            )
            for destination, length, gateway, metric, on_link in routes
        ),
    )


def _decoded_addresses(message: Iterable[Any]) -> tuple[bytes, ...]:
    return tuple(_address(text) for text in message)


def _address(text: Any) -> bytes:
    address = bytes.fromhex(text)
    if len(address) not in _SIZES:
        raise ValueError("not an IPv4 or IPv6 address")
    return address
