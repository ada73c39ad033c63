"""Datagrams of one flow, joined into one frame for a link that can split it again (USO)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sansnet_core.egress import FlowHeaders
from sansnet_core.mypyc import mypyc_attr

__all__ = ["Runs"]

MAX_DATAGRAMS: Final = 64
"""Most datagrams in one frame to the guest: UDP_MAX_SEGMENTS of older kernels (linux/udp.h)."""


@mypyc_attr(allow_interpreted_subclasses=True)
@dataclass(slots=True)
class _Run:
    """Datagrams of one flow in sequence; all but the last are of equal size.

    Attributes:
        headers: of the flow.
        parts: data, of one or more datagrams each.
        segment_size: bytes of each datagram but the last.
        room: bytes that may still be added; 0 after a shorter datagram, which ends the run.
        ttl: of all of them.
        tos: of all of them.
    """

    headers: FlowHeaders
    parts: list[bytes]
    segment_size: int
    room: int
    ttl: int
    tos: int


@mypyc_attr(allow_interpreted_subclasses=True)
class Runs:
    """Holds back one run, until a datagram that does not fit into it comes, or until `flush`.

    Attributes:
        run: None if there is nothing to flush.
    """

    __slots__ = ("run",)

    def __init__(self) -> None:
        self.run: _Run | None = None

    def add(self, headers: FlowHeaders, data: bytes, segment_size: int, ttl: int, tos: int) -> None:
        """Add to the run, or send it and begin another one; the arguments are those of `FlowHeaders.udp`."""
        run, size = self.run, len(data)
        if (
            run is not None
            and run.headers is headers
            and 0 < size <= run.room
            and (size <= run.segment_size if not segment_size else segment_size == run.segment_size)
            and (ttl, tos) == (run.ttl, run.tos)
        ):
            run.parts.append(data)
            run.room = run.room - size if size % run.segment_size == 0 else 0
            return
        self.flush()
        segment_size = segment_size or size
        room = 0
        if size and size % segment_size == 0:
            room = min(MAX_DATAGRAMS * segment_size, headers.largest_run(segment_size)) - size
        self.run = _Run(headers, [data], segment_size, room, ttl, tos)

    def forget(self, headers: FlowHeaders) -> None:
        """Lose the datagrams of a flow that is given up."""
        if self.run is not None and self.run.headers is headers:
            self.run = None

    def flush(self) -> None:
        """Send the run to the guest."""
        run, self.run = self.run, None
        if run is not None:
            data = run.parts[0] if len(run.parts) == 1 else b"".join(run.parts)
            run.headers.udp(data, run.segment_size, run.ttl, run.tos)
