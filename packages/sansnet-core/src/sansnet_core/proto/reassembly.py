"""Fragments to datagrams, for both IP families (RFC 791 3.2, RFC 8200 4.5, RFC 5722).

Theory of operation. A datagram is held from its first fragment until it is complete or its time is over. Its pieces
never overlap, so they are at most 65535 bytes; when there are too many datagrams, the oldest makes room, for it is the
likeliest to miss a piece for good. A datagram whose fragments contradict each other is *spoiled*: its pieces are gone
at once, but its key stays until its time is over, so that later fragments of it are refused and do not begin a new one
(RFC 5722, 4). All wait equally long, so the order of arrival is the order of deadlines, and one timer serves all.
"""

from __future__ import annotations

from collections.abc import Hashable
from math import inf
from typing import Final

from sansnet_core.context import Context
from sansnet_core.errors import Malformed, Reason
from sansnet_core.orders import Endpoint
from sansnet_core.proto.icmp_errors import IcmpErrors
from sansnet_core.wire.ip import IpHeader

__all__ = ["MANY", "ONE", "Reassembly"]

ONE: Final = bytes(14)
MANY: Final = b"\x01" + bytes(13)
"""Ethernet headers for a whole datagram, whose own one is not kept: to one node, and to more than one."""
_CONGESTION_EXPERIENCED: Final = 3
"""The two ECN bits of the TOS (RFC 3168, 5)."""


class _Datagram:
    """One datagram in reassembly."""

    __slots__ = ("congestion", "deadline", "first", "highest", "pieces", "size", "spoiled", "to_many", "total")

    def __init__(self, deadline: float, first: IpHeader) -> None:
        self.deadline = deadline
        self.first = first
        """Header of the fragment with offset 0, once that is there."""
        self.pieces: dict[int, bytes] = {}
        self.size = 0
        self.highest = 0
        self.total: int | None = None
        """Known from the last fragment."""
        self.congestion = 0
        self.spoiled: Reason | None = None
        self.to_many = False

    def add(self, ip: IpHeader, offset: int, more: bool, data: bytes, most: int) -> Reason | None:
        """Take a piece in; or tell why it spoils the datagram."""
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
        if len(self.pieces) == most:
            return Reason.FRAGMENT_LIMIT
        self.pieces[offset] = data
        self.size += len(data)
        self.highest = max(self.highest, end)
        if not more:
            self.total = end
        if offset == 0:
            self.first = ip
        if ip.tos & _CONGESTION_EXPERIENCED == _CONGESTION_EXPERIENCED:
            self.congestion = _CONGESTION_EXPERIENCED  # RFC 3168, 5.3: it must not get lost
        return None


class Reassembly:
    """The datagrams in reassembly of one IP family.

    Args:
        context: of the network.
        icmp_errors: likewise.
        largest: most bytes of payload that a datagram may have.
    """

    def __init__(self, context: Context, icmp_errors: IcmpErrors, largest: int) -> None:
        self._context = context
        self._icmp_errors = icmp_errors
        self._largest = largest
        self._datagrams: dict[Hashable, _Datagram] = {}
        self.deadline = self.queued = inf
        self.ticket = 0

    def add(
        self, key: Hashable, ip: IpHeader, offset: int, more: bool, data: bytes, *, to_many: bool
    ) -> tuple[IpHeader, bytes, bool] | None:
        """Take a fragment.

        Args:
            key: names the datagram.
            ip: the fragment's header.
            offset: in bytes.
            more: it is not the last one.
            data: the fragment's payload.
            to_many: its frame went to more than one node.

        Returns:
            If that completes the datagram, the header of its first fragment, the whole payload, and whether one of its
            frames went to more than one node.

        Raises:
            Malformed: with one of the FRAGMENT reasons.
        """
        # All but the last must be multiples of 8 bytes; one without bytes adds nothing but trouble
        if not data or (more and len(data) & 7) or offset + len(data) > self._largest:
            raise Malformed(Reason.FRAGMENT_MALFORMED)
        datagram = self._datagrams.get(key) or self._open(key, ip)
        datagram.to_many |= to_many
        if datagram.spoiled is None:
            datagram.spoiled = datagram.add(ip, offset, more, data, self._context.config.limits.reassembly_fragments)
        if datagram.spoiled is not None:
            datagram.pieces.clear()
            raise Malformed(datagram.spoiled)
        if datagram.size != datagram.total:
            return None
        del self._datagrams[key]
        first = datagram.first._replace(tos=datagram.first.tos | datagram.congestion)
        return first, b"".join(datagram.pieces[start] for start in sorted(datagram.pieces)), datagram.to_many

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
        """Forget the datagrams whose time is over."""
        context = self._context
        while self._datagrams:
            deadline = next(iter(self._datagrams.values())).deadline
            if deadline > context.now:
                context.timers.arm(self, deadline)
                return
            self._forget_oldest(Reason.FRAGMENT_TIMEOUT)

    def _forget_oldest(self, reason: Reason) -> None:
        datagram = self._datagrams.pop(next(iter(self._datagrams)))
        if datagram.spoiled is None:  # else its fragments are counted already
            first = datagram.first
            ends = Endpoint(first.source, 0), Endpoint(first.destination, 0)
            self._context.drop_packet(reason, first.protocol, *ends)
            if reason is Reason.FRAGMENT_TIMEOUT and 0 in datagram.pieces and not datagram.to_many:
                self._icmp_errors.reassembly_timed_out(datagram.first, datagram.pieces[0])
