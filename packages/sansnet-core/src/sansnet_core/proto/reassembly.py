"""Reassembles fragments, for both IP families (RFC 791 3.2, RFC 8200 4.5, RFC 5722).

Theory of operation. A datagram is kept from its first fragment until it is complete or times out. Its pieces never
overlap, so they are at most 65535 bytes. If there are too many datagrams, the oldest is dropped, since it is the most
likely to have lost a piece. A datagram with contradictory fragments is *spoiled*: its pieces are freed at once, but its
key stays until it times out, so that later fragments are dropped and do not begin another datagram (RFC 5722, 4). All
have the same timeout, so they expire in the order in which they began, and one timer serves all.
"""

from __future__ import annotations

from collections.abc import Hashable
from math import inf
from typing import Final

from sansnet_core.context import Context
from sansnet_core.errors import Malformed, Reason
from sansnet_core.mypyc import mypyc_attr
from sansnet_core.orders import Endpoint
from sansnet_core.proto.icmp_errors import IcmpErrors
from sansnet_core.wire.ip import IpHeader

__all__ = ["ETHERNET", "Reassembly"]

ETHERNET: Final = bytes(14)
"""Ethernet header to put before a reassembled datagram."""
_CONGESTION_EXPERIENCED: Final = 3
"""Value of the two ECN bits of the TOS (RFC 3168, 5)."""


@mypyc_attr(allow_interpreted_subclasses=True)
class _Datagram:
    """One datagram in reassembly."""

    __slots__ = ("congestion", "deadline", "first", "highest", "pieces", "size", "spoiled", "total")

    def __init__(self, deadline: float, first: IpHeader) -> None:
        self.deadline = deadline
        self.first = first
        """Header of the fragment with offset 0; until that arrives, the header of another fragment."""
        self.pieces: dict[int, bytes] = {}
        self.size = 0
        self.highest = 0
        self.total: int | None = None
        """Payload bytes, from the last fragment; None until that arrives."""
        self.congestion = 0
        self.spoiled: Reason | None = None

    def add(self, ip: IpHeader, offset: int, more: bool, data: bytes, max_pieces: int) -> Reason | None:
        """Add a piece; return the reason if it spoils the datagram."""
        end = offset + len(data)
        if more:
            contradiction = self.total is not None and end >= self.total
        else:
            contradiction = end < self.highest or self.total not in (None, end)
        if contradiction:
            return Reason.FRAGMENT_MALFORMED
        if self.pieces.get(offset) == data:
            return None  # RFC 8200, 4.5: an exact duplicate is no overlap
        if any(start < end and offset < start + len(piece) for start, piece in self.pieces.items()):
            return Reason.FRAGMENT_OVERLAP
        if len(self.pieces) == max_pieces:
            return Reason.FRAGMENT_LIMIT
        self.pieces[offset] = data
        self.size += len(data)
        self.highest = max(self.highest, end)
        if not more:
            self.total = end
        if offset == 0:
            self.first = ip
        if ip.tos & _CONGESTION_EXPERIENCED == _CONGESTION_EXPERIENCED:
            self.congestion = _CONGESTION_EXPERIENCED  # RFC 3168, 5.3: it must be kept
        return None


@mypyc_attr(allow_interpreted_subclasses=True)
class Reassembly:
    """The datagrams in reassembly of one IP family.

    Args:
        context: of the network.
        icmp_errors: of the network.
        max_payload: largest payload of a datagram in bytes.
    """

    def __init__(self, context: Context, icmp_errors: IcmpErrors, max_payload: int) -> None:
        self._context = context
        self._icmp_errors = icmp_errors
        self._max_payload = max_payload
        self._datagrams: dict[Hashable, _Datagram] = {}
        self.deadline = self.queued = inf
        self.ticket = 0

    def add(self, key: Hashable, ip: IpHeader, offset: int, more: bool, data: bytes) -> tuple[IpHeader, bytes] | None:
        """Add a fragment.

        Args:
            key: identifies the datagram.
            ip: the fragment's header.
            offset: in bytes.
            more: whether more fragments follow.
            data: the fragment's payload.

        Returns:
            None while the datagram is incomplete. Otherwise the header of its first fragment, and the whole payload.

        Raises:
            Malformed: with one of the FRAGMENT reasons.
        """
        # All but the last must be multiples of 8 bytes; an empty one is useless
        if not data or (more and len(data) & 7) or offset + len(data) > self._max_payload:
            raise Malformed(Reason.FRAGMENT_MALFORMED)
        datagram = self._datagrams.get(key) or self._open(key, ip)
        if datagram.spoiled is None:
            datagram.spoiled = datagram.add(ip, offset, more, data, self._context.config.limits.reassembly_fragments)
        if datagram.spoiled is not None:
            datagram.pieces.clear()
            raise Malformed(datagram.spoiled)
        if datagram.size != datagram.total:
            return None
        del self._datagrams[key]
        first = datagram.first._replace(tos=datagram.first.tos | datagram.congestion)
        return first, b"".join(datagram.pieces[start] for start in sorted(datagram.pieces))

    def _open(self, key: Hashable, ip: IpHeader) -> _Datagram:
        context = self._context
        limits = context.config.limits
        if len(self._datagrams) >= limits.reassembly_datagrams:
            self._forget_oldest(Reason.FRAGMENT_LIMIT)
        datagram = self._datagrams[key] = _Datagram(context.now + limits.reassembly_time, ip)
        if self.deadline == inf:
            context.timers.arm(self, datagram.deadline)
        return datagram

    def expire(self) -> None:
        """Drop the datagrams that have timed out."""
        context = self._context
        while self._datagrams:
            deadline = next(iter(self._datagrams.values())).deadline
            if deadline > context.now:
                context.timers.arm(self, deadline)
                return
            self._forget_oldest(Reason.FRAGMENT_TIMEOUT)

    def _forget_oldest(self, reason: Reason) -> None:
        datagram = self._datagrams.pop(next(iter(self._datagrams)))
        if datagram.spoiled is None:  # otherwise its fragments were counted
            first = datagram.first
            ends = Endpoint._make((first.source, 0)), Endpoint._make((first.destination, 0))
            self._context.drop_packet(reason, first.protocol, *ends)
            if reason is Reason.FRAGMENT_TIMEOUT and 0 in datagram.pieces:
                self._icmp_errors.reassembly_timed_out(datagram.first, datagram.pieces[0])
