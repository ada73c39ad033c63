"""A stub resolver for a simulated guest (RFC 1035, 7.1): the questions that `getaddrinfo` asks."""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING, Final

import trio

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sansnet_trio.testing.datagrams import SimulatedDatagrams

__all__ = ["resolve"]

_A: Final = 1
_AAAA: Final = 28
_SIZES: Final = {_A: 4, _AAAA: 16}
_NXDOMAIN: Final = 3
_ATTEMPT: Final = 5.0
"""Seconds to wait for an answer (`timeout` in resolv.conf(5))."""
_ATTEMPTS: Final = 2
"""Times that each server is asked (`attempts` in resolv.conf(5))."""


async def resolve(
    name: str, servers: Sequence[bytes], families: Sequence[int], open_socket: Callable[[], SimulatedDatagrams]
) -> list[bytes]:
    """Look up the addresses of a host name.

    Args:
        name: the name, complete; no search domain is added.
        servers: addresses of name servers, 4 or 16 bytes.
        families: sizes of the addresses that are wanted: 4 and 16.
        open_socket: opens a UDP socket of the guest.

    Returns:
        Its addresses, those of the first size first.

    Raises:
        socket.gaierror: EAI_NONAME, there is no such name; EAI_NODATA, it has no address; EAI_AGAIN, no server
            answered.
    """
    found: list[bytes] = []
    missing = False
    for kind in (_A, _AAAA):
        if _SIZES[kind] in families:
            code, addresses = await _ask(name, kind, servers, open_socket)
            missing |= code == _NXDOMAIN
            found += addresses
    if not found:
        code = socket.EAI_NONAME if missing else socket.EAI_NODATA
        raise socket.gaierror(code, f"{name}: {'no such name' if missing else 'the name has no address'}")
    return found


async def _ask(
    name: str, kind: int, servers: Sequence[bytes], open_socket: Callable[[], SimulatedDatagrams]
) -> tuple[int, list[bytes]]:
    for attempt in range(_ATTEMPTS):
        for number, server in enumerate(servers):
            identifier = 1 + attempt * len(servers) + number
            with trio.move_on_after(_ATTEMPT):
                async with open_socket() as connection:
                    try:
                        await connection.send(_question(identifier, name, kind), (server, 53))
                        while True:
                            data, source = await connection.receive()
                            if source == (server, 53) and data[:2] == identifier.to_bytes(2, "big"):
                                return _answer(data, kind)
                    except OSError:
                        continue  # such as ECONNREFUSED: the next server may answer
    raise socket.gaierror(socket.EAI_AGAIN, f"{name}: no name server answered")


def _question(identifier: int, name: str, kind: int) -> bytes:
    """A query with recursion desired (RFC 1035, 4.1)."""
    labels = [label.encode("idna") for label in name.rstrip(".").split(".")]
    encoded = b"".join(bytes((len(label),)) + label for label in labels) + b"\0"
    return struct.pack("!HHHHHH", identifier, 0x0100, 1, 0, 0, 0) + encoded + struct.pack("!HH", kind, 1)


def _answer(data: bytes, kind: int) -> tuple[int, list[bytes]]:
    """Response code, and the addresses of the answer; those of other names follow from CNAMEs."""
    flags, questions, answers = struct.unpack_from("!HHH", data, 2)
    assert flags & 0x8000, "a name server sent a query"
    position = 12
    for _ in range(questions):
        position = _behind_name(data, position) + 4
    found = []
    for _ in range(answers):
        position = _behind_name(data, position)
        record, _, _, size = struct.unpack_from("!HHIH", data, position)
        position += 10
        if record == kind:
            assert size == _SIZES[kind], "size of an address"
            found.append(data[position : position + size])
        position += size
    return flags & 15, found


def _behind_name(data: bytes, position: int) -> int:
    """The place behind a name (RFC 1035, 4.1.4)."""
    while length := data[position]:
        if length & 0xC0:
            return position + 2
        position += 1 + length
    return position + 1
