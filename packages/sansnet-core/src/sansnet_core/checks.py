"""Checks of a driver's arguments. They are made once a flow, not for each packet of it."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from math import isfinite
from typing import Final

from sansnet_core.addresses import AnyAddress, AnyPrefix, Endpoint, Prefix, checked_port, packed
from sansnet_core.config import NetworkConfig
from sansnet_core.errors import ConfigError, UsageError, expect
from sansnet_core.fields import AnyEndpoint, any_endpoint
from sansnet_core.orders import ExtendedError

__all__ = [
    "address",
    "endpoint",
    "extended_error",
    "families",
    "known_endpoint",
    "network_arguments",
    "payload",
    "place",
    "port",
    "wrong_frames",
    "wrong_time",
]

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


def wrong_time(now: object, last: float) -> UsageError:
    """The error for a time that is none, or before that of the last input."""
    if not isinstance(now, int | float) or now != now:
        return UsageError(f"now: {now!r:.100} is not a number of seconds, such as time.monotonic()")
    return UsageError(f"now: {last - now} seconds before the time of the last input")


def wrong_frames(frames: object, frame: object, error: TypeError) -> Exception:
    """The error for frames that are none.

    Args:
        frames: all of them.
        frame: the one at which `error` occurred.
        error: returned if they are frames.
    """
    if isinstance(frames, bytes | bytearray | memoryview | str) or not isinstance(frames, Iterable):
        return UsageError(f"frames: {frames!r:.100} is not a sequence of frames; give [frame]")
    if isinstance(frame, bytes) or (isinstance(frame, memoryview) and frame.readonly):
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


def families(name: str, sizes: Collection[int]) -> None:
    """Check sizes of addresses.

    Raises:
        UsageError: one is neither 4 nor 16.
    """
    if not isinstance(sizes, Collection) or not {4, 16}.issuperset(sizes):
        raise UsageError(f"{name}: {sizes!r:.100} are not sizes of addresses; give 4 and 16, or one of them")


def payload(name: str, data: object) -> None:
    """Check bytes of a stream or a datagram.

    Raises:
        UsageError: they are none, or may change later.
    """
    if not isinstance(data, bytes):
        raise UsageError(f"{name}: {data!r:.100} is not bytes; give bytes(...) of it")


def extended_error(value: ExtendedError | None) -> None:
    """Check an error of the kernel.

    Raises:
        UsageError: it is none, or has no address in place of its offender.
    """
    if value is not None:
        expect("error", value, ExtendedError, "an ExtendedError or None")
        address("error.offender", value.offender)


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
