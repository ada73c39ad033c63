"""A frame as a sequence of named parts, so that one of them can be made wrong."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple, TypeAlias

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from sansnet_core.testing.checksums import with_checksums

__all__ = ["Part", "Parts", "changed", "joined", "nearly", "number", "several_changed", "sizes", "split"]


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


@st.composite
def sizes(draw: DrawFn, largest: int) -> bytes:
    """Bytes of any length up to `largest`: short ones with any contents, long ones with a pattern."""
    if largest <= 32 or draw(st.integers(0, 3)) < 3:
        return draw(st.binary(max_size=min(largest, 32)))
    edges = [edge for edge in (33, 500, 536, 1200, 1232, 1400, 1452, 1460, 1472, 4000, 65000) if edge <= largest]
    size = draw(st.sampled_from([*edges, largest]) | st.integers(33, largest))
    return (bytes(range(256)) * (size // 256 + 1))[:size]


@st.composite
def changed(draw: DrawFn, data: bytes) -> bytes:
    """Other bytes in place of `data`: for a short part another number of its size, else other bytes of any size."""
    size = len(data)
    if not size:
        return draw(st.binary(min_size=1, max_size=8))
    if size <= _MAX_NUMBER:
        top, value = (1 << 8 * size) - 1, int.from_bytes(data, "big")
        near = [value + 1, value - 1, value ^ 1, 0, 1, top, top >> 1, (top >> 1) + 1, top - 1, value << 1, value >> 1]
        near += [value ^ 1 << bit for bit in range(8 * size)]
        choices = st.sampled_from(list(dict.fromkeys(each & top for each in near))) | st.integers(0, top)
        return draw(choices).to_bytes(size, "big")
    match draw(st.integers(0, 6)):
        case 0:
            place = draw(st.integers(0, size - 1))
            return data[:place] + draw(changed(data[place : place + 1])) + data[place + 1 :]
        case 1:
            return data[: draw(st.integers(0, size - 1))]
        case 2:
            return data + draw(st.binary(min_size=1, max_size=16))
        case 3:
            return bytes(size)
        case 4:
            return b"\xff" * size
        case 5:
            place, count = draw(st.integers(0, size)), draw(st.integers(1, 8))
            return data[:place] + data[place + count :]
        case _:
            return draw(st.binary(min_size=size, max_size=size) if size <= 64 else st.binary(max_size=64))


@st.composite
def _one_change(draw: DrawFn, parts: Parts) -> Parts:
    place = draw(st.integers(0, len(parts) - 1))
    part = parts[place]
    match draw(st.integers(0, 9)):
        case 8:  # left out
            return parts[:place] + parts[place + 1 :]
        case 9:  # twice
            return parts[: place + 1] + parts[place:]
        case _:
            return (*parts[:place], Part(part.name, draw(changed(part.data))), *parts[place + 1 :])


@st.composite
def nearly(draw: DrawFn, parts: SearchStrategy[Parts], *, vnet: bool) -> bytes:
    """A frame with one thing wrong, with the checksums that it had or with right ones.

    `parts` are valid frames; with `vnet`, a `virtio_net_hdr` is before them.
    """
    frame = joined(draw(_one_change(draw(parts))))
    match draw(st.integers(0, 7)):
        case 6:  # the lengths stay as they were
            frame = frame[: draw(st.integers(0, len(frame)))]
        case 7:
            frame += draw(st.binary(min_size=1, max_size=32))
    return with_checksums(frame, vnet=vnet) if draw(st.booleans()) else frame


@st.composite
def several_changed(draw: DrawFn, parts: SearchStrategy[Parts], *, vnet: bool) -> bytes:
    """A frame with up to eight things wrong."""
    found = draw(parts)
    for _ in range(draw(st.integers(1, 8))):
        found = draw(_one_change(found)) if found else found
    frame = joined(found)
    return with_checksums(frame, vnet=vnet) if draw(st.booleans()) else frame
