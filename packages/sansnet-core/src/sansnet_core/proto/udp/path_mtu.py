"""Datagrams of the guest that must not be fragmented, and are larger than the path MTU that the host knows.

Theory of operation. The guest's link usually has a larger MTU than the host's. A packet says that it must not be
fragmented, but not why: Linux sets DF in the datagrams of every program (IP_PMTUDISC_WANT), and IPv6 has no such bit.
On the host, the kernel sends a large datagram of most programs in fragments. Only a program that asks for the path MTU
(IP_PMTUDISC_DO, IP_PMTUDISC_PROBE) gets an error.

So the first large datagram of a flow is *tried*: the driver sends it whole, and reports the MTU if that is too small.
Then this datagram and later ones are sent in fragments. A message with the MTU goes to the guest's kernel, which no
socket of the guest notices (`IcmpErrors.tell_mtu`). From then on, that kernel does what the host's does: it sends
fragments for most programs, and refuses the large datagrams of those with IP_PMTUDISC_DO. A packet that is too large
even then comes from a program with IP_PMTUDISC_PROBE. It gets an ICMP error and is not sent.

Two kinds of datagram get the error at once, since their programs ask: those with a TTL as traceroute and tracepath have
it, except to groups, and those of a flow that has carried the size from which a search for the path MTU begins, up to
the largest size that such a search tries (RFC 8899, 5.1.2; QUIC: RFC 9000, 14.3). A probe that arrived in fragments
would mislead it.

A guest that sends many large datagrams at once gets no such message: it would send a frame for each fragment, and a
frame costs as much as a whole datagram. A search for a path MTU sends fewer.
"""

from __future__ import annotations

from math import inf
from typing import Final, NamedTuple

from sansnet_core.context import Context
from sansnet_core.mypyc import mypyc_attr
from sansnet_core.proto.icmp_errors import IcmpErrors
from sansnet_core.proto.udp.flow import BELOW_BASE, Flow

__all__ = ["PathMtu"]

ALWAYS_WHOLE: Final = 1232
"""Bytes of data that a packet of the least MTU of IPv6 carries. An IPv4 path with a smaller one is hardly found."""
ANY_SIZE: Final = 65535
_ETHERNET_MTU: Final = 1500
"""Programs that search for the path MTU do not try more by default, since no path of the Internet has more."""
_LEAST_MTU: Final = 68
"""Bytes; RFC 791, 3.2."""
_SEARCH_TTL: Final = 32
"""No system has such a small TTL by default, except for groups (1). Those of a traceroute are smaller."""
_OBSERVED: Final = 0.1
"""Seconds after the first large datagram of a flow until the message, unless the guest has sent much by then."""
_MUCH: Final = 256 * 1024
"""Bytes of large datagrams in that time."""
_GRACE: Final = 1.0
"""Seconds after the message in which earlier datagrams of the guest may arrive."""
_LIFETIME: Final = 300.0
"""Seconds until the next message: half of the time for which Linux keeps an MTU (net.ipv4.route.mtu_expires)."""
_MAX_TOLD: Final = 4096
"""Pairs of addresses that are remembered. Beyond it, the oldest one is forgotten."""


class _Told(NamedTuple):
    """The guest knows the MTU of a path.

    Attributes:
        mtu: for its packets.
        obeyed_from: when larger packets mean that their program asks for errors.
        until: when this is forgotten.
    """

    mtu: int
    obeyed_from: float
    until: float


@mypyc_attr(allow_interpreted_subclasses=True)
class _Observed:
    """A flow with large datagrams that were not counted for long yet.

    Attributes:
        flow: the flow.
        mtu: of the path, for the guest's packets.
        size: bytes of its large datagrams.
    """

    __slots__ = ("flow", "mtu", "size")

    def __init__(self, flow: Flow, mtu: int, size: int) -> None:
        self.flow = flow
        self.mtu = mtu
        self.size = size


@mypyc_attr(allow_interpreted_subclasses=True)
class PathMtu:
    """Decides which datagrams are sent in fragments, and tells the guest the MTU of their paths.

    Args:
        context: of the network.
        icmp_errors: of the network.
    """

    __slots__ = ("_context", "_icmp_errors", "_observed", "_told", "deadline", "queued", "ticket")

    def __init__(self, context: Context, icmp_errors: IcmpErrors) -> None:
        self._context = context
        self._icmp_errors = icmp_errors
        self._told: dict[bytes, _Told] = {}
        """By the guest's and the remote address; the oldest first."""
        self._observed: dict[bytes, _Observed] = {}
        """By the key of the flow."""
        self.deadline = self.queued = inf
        self.ticket = 0

    def is_strict(self, flow: Flow, size: int, total: int, ttl: int, tos: int) -> bool:
        """Whether a datagram fails if it is too large for its path. Otherwise it is then sent in fragments.

        Args:
            flow: its flow.
            size: bytes of its data, or of each datagram of a run; more than `flow.whole`.
            total: bytes of the run.
            ttl: its TTL or hop limit.
            tos: its TOS or traffic class.
        """
        packet = size + _headers(flow)
        if (ttl < _SEARCH_TTL and not flow.group) or self._knows(flow, packet):
            flow.tried = None
            return True
        if packet <= _ETHERNET_MTU and flow.whole > BELOW_BASE and flow.datagrams_received:
            flow.whole, flow.tried = size, None
            return True
        observed = self._observed.get(flow.key)
        if observed is not None:
            observed.size += total
            return False
        if size <= ALWAYS_WHOLE:
            flow.whole = ALWAYS_WHOLE
            return False
        now = self._context.now
        if flow.tried is not None and flow.tried[2] == now:
            return False  # how the last one ended is not known yet
        flow.whole, flow.tried = size, (ttl, tos, now)
        return True

    def _knows(self, flow: Flow, packet: int) -> bool:
        """Whether the guest knows that a packet is too large."""
        told = self._told.get(_path(flow))
        now = self._context.now
        return told is not None and told.obeyed_from <= now < told.until and packet > told.mtu

    def refused(self, flow: Flow, mtu: int, size: int) -> tuple[int, int] | None:
        """The host's kernel found a datagram larger than the path MTU, for the guest's packets.

        Returns:
            TTL and TOS with which to send it in fragments; None if the guest gets an error.
        """
        tried, flow.tried = flow.tried, None
        if tried is None or not _LEAST_MTU <= mtu < size + _headers(flow):
            return None
        flow.whole = mtu - _headers(flow)
        self._observed[flow.key] = _Observed(flow, mtu, size)  # the first one: nothing is tried while it is there
        self._context.timers.arm(self, min(self.deadline, self._context.now + _OBSERVED))
        return tried[:2]

    def reported(self, flow: Flow, mtu: int) -> None:
        """The guest gets an ICMP error with the MTU of a path."""
        flow.whole = min(flow.whole, max(mtu - _headers(flow), 0))
        self._remember(flow, mtu)

    def _remember(self, flow: Flow, mtu: int) -> None:
        now, path, told = self._context.now, _path(flow), self._told
        known = told.pop(path, None)
        again = known is not None and known.mtu <= mtu and now < known.until
        obeyed_from = known.obeyed_from if known is not None and again else now + _GRACE
        if len(told) >= _MAX_TOLD:
            del told[next(iter(told))]
        told[path] = _Told(mtu, obeyed_from, now + _LIFETIME)

    def expire(self) -> None:
        """Tell the guest the MTU of the paths of its large datagrams, except where it sends many."""
        observed, self._observed = self._observed, {}
        for one in observed.values():
            flow = one.flow
            if one.size >= _MUCH or not self._icmp_errors.tell_mtu(flow.guest, flow.remote, one.mtu):
                flow.whole = ANY_SIZE
            else:
                self._remember(flow, one.mtu)


def _headers(flow: Flow) -> int:
    """Bytes of the IP and UDP headers of the guest's datagrams."""
    return 28 if len(flow.key) == 12 else 48


def _path(flow: Flow) -> bytes:
    """The guest's and the remote address."""
    return flow.key[:-4]
