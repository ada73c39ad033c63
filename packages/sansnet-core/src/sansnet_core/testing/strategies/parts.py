"""A frame as a sequence of named parts, so that one of them can be made wrong.

Functions here and in the modules beside take `draw` from the composite strategy that calls them, rather than being
composites themselves: to make a strategy takes Hypothesis much longer than to draw from one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Final, NamedTuple, TypeAlias, TypeVar

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from sansnet_core.testing.checksums import with_checksums

__all__ = [
    "Part",
    "Parts",
    "chance",
    "changed",
    "choose",
    "joined",
    "nearly",
    "number",
    "several_changed",
    "sizes",
    "split",
]


T = TypeVar("T")


@cache
def _numbers(count: int) -> SearchStrategy[int]:
    return st.integers(0, count - 1)


def below(draw: DrawFn, count: int) -> int:
    """A number from 0 to `count` - 1."""
    return draw(_numbers(count))


def choose(draw: DrawFn, values: Sequence[T]) -> T:
    """One of some values; Hypothesis prefers the first one."""
    return values[draw(_numbers(len(values)))]


def chance(draw: DrawFn, count: int) -> bool:
    """True about once in `count` times; Hypothesis prefers False."""
    return draw(_numbers(count)) == count - 1


class Part(NamedTuple):
    """A field, or a variable part such as options and payload.

    Attributes:
        name: for people, such as "tcp.window".
        data: its bytes.
    """

    name: str
    data: bytes


Parts: TypeAlias = tuple[Part, ...]

_MAX_NUMBER: Final = 8
"""Bytes of the longest part that is a number; longer ones are addresses, options or payload."""


def joined(parts: Iterable[Part]) -> bytes:
    """The bytes of all parts."""
    return b"".join(part.data for part in parts)


def split(prefix: str, fields: Iterable[tuple[str, int]], data: bytes) -> Parts:
    """Name the fields of a header.

    Args:
        prefix: of the names, such as "tcp".
        fields: names and sizes in bytes, in order.
        data: the header. More bytes than the fields have are left out.
    """
    parts, place = [], 0
    for name, size in fields:
        parts.append(Part(f"{prefix}.{name}", data[place : place + size]))
        place += size
    return tuple(parts)


def number(name: str, value: int, size: int) -> Part:
    """A number in network order."""
    return Part(name, value.to_bytes(size, "big"))


def sizes(draw: DrawFn, largest: int) -> bytes:
    """Bytes of any length up to `largest`: short ones with any contents, long ones with a pattern."""
    if largest <= 32 or not chance(draw, 4):
        return draw(st.binary(max_size=min(largest, 32)))
    edges = [edge for edge in (33, 500, 536, 1200, 1232, 1400, 1452, 1460, 1472, 4000, 65000) if edge <= largest]
    size = draw(st.sampled_from([*edges, largest]) | st.integers(33, largest))
    return (bytes(range(256)) * (size // 256 + 1))[:size]


def changed(draw: DrawFn, data: bytes) -> bytes:
    """Other bytes in place of `data`: for a short part another number of its size, else other bytes of any size."""
    size = len(data)
    if not size:
        return draw(st.binary(min_size=1, max_size=8))
    if size <= _MAX_NUMBER:
        top, value = (1 << 8 * size) - 1, int.from_bytes(data, "big")
        near = [value + 1, value - 1, value ^ 1, 0, 1, top, top >> 1, (top >> 1) + 1, top - 1, value << 1, value >> 1]
        near += [value ^ 1 << bit for bit in range(8 * size)]
        any_number = chance(draw, 4)
        found = below(draw, top + 1) if any_number else choose(draw, near) & top
        return found.to_bytes(size, "big")
    match below(draw, 7):
        case 0:
            place = below(draw, size)
            return data[:place] + changed(draw, data[place : place + 1]) + data[place + 1 :]
        case 1:
            return data[: below(draw, size)]
        case 2:
            return data + draw(st.binary(min_size=1, max_size=16))
        case 3:
            return bytes(size)
        case 4:
            return b"\xff" * size
        case 5:
            place, count = below(draw, size + 1), 1 + below(draw, 8)
            return data[:place] + data[place + count :]
        case _:
            return draw(st.binary(min_size=size, max_size=size) if size <= 64 else st.binary(max_size=64))


def _one_change(draw: DrawFn, parts: Parts) -> Parts:
    place = below(draw, len(parts))
    part = parts[place]
    match below(draw, 10):
        case 8:  # left out
            return parts[:place] + parts[place + 1 :]
        case 9:  # twice
            return parts[: place + 1] + parts[place:]
        case _:
            return (*parts[:place], Part(part.name, changed(draw, part.data)), *parts[place + 1 :])


def nearly(draw: DrawFn, parts: Parts, *, vnet: bool | None) -> bytes:
    """A frame with one thing wrong, with the checksums that it had or with right ones.

    `parts` are those of a valid frame, with a `virtio_net_hdr` or without it as `vnet` says. None stands for a message
    without checksums.
    """
    frame = joined(_one_change(draw, parts))
    match below(draw, 8):
        case 6:  # the lengths stay as they were
            frame = frame[: below(draw, len(frame) + 1)]
        case 7:
            frame += draw(st.binary(min_size=1, max_size=32))
    return with_checksums(frame, vnet=vnet) if vnet is not None and chance(draw, 2) else frame


def several_changed(draw: DrawFn, parts: Parts, *, vnet: bool | None) -> bytes:
    """A frame with up to eight things wrong."""
    for _ in range(1 + below(draw, 8)):
        parts = _one_change(draw, parts) if parts else parts
    frame = joined(parts)
    return with_checksums(frame, vnet=vnet) if vnet is not None and chance(draw, 2) else frame
