"""Checks of a driver's arguments. They are made once a flow, not for each packet of it."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from math import isfinite
from typing import Final

from sansnet_core.addresses import AnyAddress, AnyPrefix, Endpoint, Prefix, checked_port, format, packed
from sansnet_core.config import NetworkConfig
from sansnet_core.errors import ConfigError, UsageError, expect
from sansnet_core.fields import AnyEndpoint, any_endpoint
from sansnet_core.orders import ExtendedError, SocketId
from sansnet_core.policy import Allow, Verdict

__all__ = [
    "MAX_DATA",
    "address",
    "datagram",
    "echo",
    "endpoint",
    "failure",
    "families",
    "known_endpoint",
    "network_arguments",
    "number",
    "payload",
    "place",
    "port",
    "socket_name",
    "stream_failure",
    "verdict",
    "wrong_frames",
    "wrong_input",
]

MAX_DATA: Final = {4: 65507, 16: 65527}
"""Size of address -> most bytes of a datagram or an echo (RFC 768; RFC 791, 3.1; RFC 792; RFC 8200, 3)."""

_MIN_SECRET: Final = 16


def network_arguments(config: NetworkConfig, now: float, secret: bytes) -> None:
    """Check what a network is made of."""
    expect("config", config, NetworkConfig, "a NetworkConfig")
    expect("now", now, (int, float), "a number of seconds, such as time.monotonic()")
    if not isfinite(now):
        raise UsageError(f"now: {now} is not a finite number of seconds")
    expect("secret", secret, bytes, "bytes; give os.urandom(32)")
    if len(secret) < _MIN_SECRET:
        raise UsageError(f"secret: {len(secret)} bytes are too few; give at least {_MIN_SECRET}")


def wrong_input(now: object, last: float, socket: object) -> UsageError:
    """The error for a time that is none, or before that of the last input, or for a name that is none."""
    if not isinstance(now, int | float) or not isfinite(now):
        return UsageError(f"now: {now!r:.100} is not a number of seconds, such as time.monotonic()")
    if now < last:
        return UsageError(f"now: {last - now} seconds before the time of the last input")
    return _wrong_socket(socket)


def socket_name(socket: SocketId) -> SocketId:
    """The name of a socket, unchanged.

    Raises:
        UsageError: it is none.
    """
    if type(socket) is not int:
        raise _wrong_socket(socket)
    return socket


def _wrong_socket(socket: object) -> UsageError:
    return UsageError(f"socket: {socket!r:.100} is no name of a socket; give the integer that the network gave it")


def wrong_frames(frames: object, frame: object, error: TypeError) -> Exception:
    """The error for frames that are none.

    Args:
        frames: all of them.
        frame: the one at which `error` occurred.
        error: returned if they are frames.
    """
    if isinstance(frames, bytes | bytearray | memoryview | str) or not isinstance(frames, Iterable):
        return UsageError(f"frames: {frames!r:.100} is not a sequence of frames; give [frame]")
    if isinstance(frame, bytes) or (isinstance(frame, memoryview) and isinstance(frame.obj, bytes)):
        return error
    return UsageError(f"frames: {frame!r:.100} is not a frame; give bytes, or a memoryview of them")


def endpoint(name: str, value: AnyEndpoint) -> Endpoint:
    """An endpoint in any form.

    Raises:
        UsageError: it is none.
    """
    try:
        return any_endpoint(value)
    except ValueError as wrong:
        raise UsageError(f"{name}: {wrong}") from None


def known_endpoint(name: str, value: Endpoint) -> None:
    """Check an endpoint that is compared with others, and so cannot have another form.

    Raises:
        UsageError: it is none.
    """
    if endpoint(name, value) != value:
        raise UsageError(f"{name}: {value!r} is not an endpoint; give Endpoint(address, port)")


def address(name: str, value: AnyAddress | None) -> bytes | None:
    """An address in any form, or None.

    Raises:
        UsageError: it is none.
    """
    try:
        return None if value is None else packed(value)
    except ConfigError as wrong:
        raise UsageError(f"{name}: {wrong}") from None


def port(name: str, value: int) -> int:
    """A port from 1 to 65535.

    Raises:
        UsageError: it is none.
    """
    try:
        return checked_port(value, first=1)
    except ConfigError as wrong:
        raise UsageError(f"{name}: {wrong}") from None


def verdict(value: Verdict, protocol: int) -> None:
    """Check the verdict about a flow of a protocol.

    Raises:
        UsageError: it sends a flow with ports to port 0.
    """
    if isinstance(value, Allow) and value.to is not None and not value.to.port and protocol in (6, 17):
        raise UsageError(f"verdict: {value.to} has port 0, which only pings can go to; give the port of the server")


def families(name: str, sizes: Collection[int]) -> None:
    """Check sizes of addresses.

    Raises:
        UsageError: one is neither 4 nor 16.
    """
    if not isinstance(sizes, Collection) or not all(size in (4, 16) for size in sizes):
        raise UsageError(f"{name}: {sizes!r:.100} are not sizes of addresses; give 4 and 16, or one of them")


def payload(name: str, data: object) -> None:
    """Check bytes of a stream or a datagram.

    Raises:
        UsageError: they are none, or may change later.
    """
    if not isinstance(data, bytes):
        raise UsageError(f"{name}: {data!r:.100} is not bytes; give bytes(...) of it")


def number(name: str, value: int, most: int | None = None) -> None:
    """Check an integer from 0 to `most`.

    Raises:
        UsageError: it is none.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < 0 or (most is not None and value > most):
        upper = "" if most is None else f" to {most}"
        raise UsageError(f"{name}: {value!r:.100} is not a number; give an integer from 0{upper}")


def datagram(source: Endpoint, data: bytes, segment_size: int, ttl: int, tos: int, local: bytes | None) -> None:
    """Check what came with a datagram.

    Raises:
        UsageError: one of the arguments is wrong.
    """
    known_endpoint("source", source)
    payload("data", data)
    if not segment_size and len(data) > MAX_DATA[len(source.address)]:
        raise UsageError(
            f"data: a datagram cannot carry {len(data)} bytes; give at most {MAX_DATA[len(source.address)]}"
        )
    number("segment_size", segment_size, 65535)
    number("ttl", ttl, 255)
    number("tos", tos, 255)
    address("local", local)


def same_family(source: Endpoint, socket: SocketId, address: bytes) -> None:
    """Check that a datagram came to a socket of its family: one that sends to `address`.

    Raises:
        UsageError: it did not.
    """
    if len(source.address) != len(address):
        raise UsageError(
            f"source: {source} is of another family than {format(address)}, to which the socket {socket} sends; "
            "give the IPv4 address if the socket gave one that is mapped into IPv6"
        )


def echo(source: bytes, sequence: int, data: bytes, ttl: int, tos: int) -> None:
    """Check what came with an echo reply.

    Raises:
        UsageError: one of the arguments is wrong.
    """
    if source is None or address("source", source) != source:
        raise UsageError(f"source: {source!r} is not the bytes of an address; give 4 or 16 bytes")
    number("sequence", sequence, 65535)
    payload("data", data)
    if len(data) > MAX_DATA[len(source)]:
        raise UsageError(f"data: an echo reply cannot carry {len(data)} bytes; give at most {MAX_DATA[len(source)]}")
    number("ttl", ttl, 255)
    number("tos", tos, 255)


def failure(error: ExtendedError, data: bytes) -> None:
    """Check the failure of a datagram or an echo request.

    Raises:
        UsageError: one of the arguments is wrong.
    """
    expect("error", error, ExtendedError, "an ExtendedError")
    _offender(error)
    payload("data", data)


def stream_failure(errno: int, error: ExtendedError | None) -> None:
    """Check the failure of a stream.

    Raises:
        UsageError: one of the arguments is wrong.
    """
    number("errno", errno)
    if error is not None:
        expect("error", error, ExtendedError, "an ExtendedError or None")
        _offender(error)


def _offender(error: ExtendedError) -> None:
    """Check an address, which may have been changed since the error was made."""
    address("error.offender", error.offender)


def place(protocol: int, prefix: AnyPrefix | None, port_or_all: int | None) -> tuple[int, Prefix | None, int | None]:
    """The place of a service of the program.

    Raises:
        UsageError: the protocol, the prefix or the port is none.
    """
    if protocol not in (6, 17):
        raise UsageError(f"protocol: {protocol!r:.100} is neither 6 (TCP) nor 17 (UDP)")
    try:
        found = None if prefix is None else Prefix(prefix)
    except ConfigError as wrong:
        raise UsageError(f"prefix: {wrong}") from None
    return protocol, found, None if port_or_all is None else port("port", port_or_all)
