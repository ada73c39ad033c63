"""How connections to the guest open: those of outsiders, and those of the program.

Theory of operation. An outsider's connection was accepted by the host, and the rules decide whether the guest gets a
SYN. If they leave that to the driver, the connection is UNDECIDED: it has a host socket already, and the guest no SYN.
"""

from __future__ import annotations

from collections.abc import Callable
from errno import EADDRINUSE, EADDRNOTAVAIL, ENOBUFS, EPROTONOSUPPORT
from typing import Final

from sansnet_core.context import Context
from sansnet_core.errors import Reason
from sansnet_core.mypyc import mypyc_attr
from sansnet_core.notices import FlowRefused
from sansnet_core.orders import Endpoint, SocketId
from sansnet_core.policy import Action
from sansnet_core.proto.tcp import reports
from sansnet_core.proto.tcp.flow import TcpFlow
from sansnet_core.proto.tcp.questions import Questions
from sansnet_core.proto.tcp.shared import TcpShared
from sansnet_core.proto.tcp.table import FlowTable
from sansnet_core.targets import Target
from sansnet_core.wire.ip import TCP

__all__ = ["Inbound"]

_FIRST_PORT: Final = 32768
_PORTS: Final = 28232
"""The ports of our own that the program connects from are those that Linux takes (net.ipv4.ip_local_port_range)."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Inbound:
    """Opens connections to the guest.

    Args:
        context: of the network.
        shared: the state that all connections share.
        table: all connections.
        questions: connections that wait.
        find_station: asks for the Ethernet address of an address of the guest, if it is not known.
    """

    __slots__ = ("_context", "_find_station", "_next_port", "_questions", "_shared", "_table")

    def __init__(
        self,
        context: Context,
        shared: TcpShared[TcpFlow],
        table: FlowTable,
        questions: Questions,
        find_station: Callable[[bytes], None],
    ) -> None:
        self._context = context
        self._shared = shared
        self._table = table
        self._questions = questions
        self._find_station = find_station
        self._next_port = _FIRST_PORT + context.entropy.keyed(b"port", b"") % _PORTS

    def stream_accepted(self, remote: Endpoint, address: bytes | None, port: int) -> SocketId | None:
        """A connection from outside was accepted; see `Network.stream_accepted`."""
        context = self._context
        guest, seen, reason = self._inbound_ends(remote, address, port)
        errno, judgement = 0, None
        if reason is None:
            target = Target(context.policy.judge(TCP, remote.address, port, inbound=True))
            judgement = target.judgement
            action = judgement.action
            if action is Action.ALLOW:
                return self._invite(guest, seen, remote, target).socket
            if action is Action.ASK and not self._questions.is_full(inbound=True):
                flow = self._invite(guest, seen, remote, target, undecided=True)
                self._questions.ask(flow, remote, target)
                return flow.socket
            reason = Reason.UNDECIDED_LIMIT if action is Action.ASK else Reason.REFUSED
            errno = judgement.errno if action is Action.REFUSE else 0
        context.drop_packet(reason, TCP, remote, guest)
        rule = judgement.text if judgement is not None and context.notices else None
        context.notify(FlowRefused(TCP, guest, seen, remote, errno, reason, True, context.now, None, rule))
        return None

    def _inbound_ends(
        self, remote: Endpoint, address: bytes | None, port: int
    ) -> tuple[Endpoint, Endpoint, Reason | None]:
        """The endpoints of a connection from outside, as the guest would see them, and why it may not open."""
        context = self._context
        wanted = Endpoint._make((address or bytes(len(remote.address)), port))
        if not context.config.tcp:
            return wanted, remote, Reason.PROTOCOL_CLOSED
        ends = context.address_map.inbound(remote.address, address, context.guest)
        if isinstance(ends, Reason):
            return wanted, remote, ends
        guest, seen = Endpoint._make((ends[1], port)), Endpoint._make((ends[0], remote.port))
        if not self._table.is_free(_key(guest, seen)):
            return guest, seen, Reason.INBOUND_COLLISION
        return guest, seen, Reason.TCP_LIMIT if self._is_full() else None

    def _is_full(self) -> bool:
        limits = self._context.config.limits
        return self._shared.pending[True] >= limits.tcp_pending or self._table.inbound_is_full(limits)

    def _invite(
        self, guest: Endpoint, remote: Endpoint, host: Endpoint, target: Target | None, *, undecided: bool = False
    ) -> TcpFlow:
        """Make a connection to the guest, and send the SYN unless a verdict is needed first."""
        key, socket = _key(guest, remote), self._context.new_socket()
        flow = TcpFlow(self._shared, socket, key, guest, remote, host, inbound=True, undecided=undecided)
        flow.offer()
        self._table.add(flow)
        self._shared.pending[True] += 1
        if not undecided:
            self.send_syn(flow, guest, target)
        return flow

    def send_syn(self, flow: TcpFlow, guest: Endpoint, target: Target | None) -> None:
        """The connection to an endpoint of the guest may open: send the SYN."""
        flow.allow(target)
        if self._context.notices:
            self._context.notify(reports.opened(flow, self._context.now))
        self._find_station(guest.address)
        flow.begin_handshake()

    # the program

    def stream_opened(self, source: Endpoint | None, address: bytes | None, port: int) -> SocketId | int:
        """See `Network.stream_opened`."""
        context = self._context
        if not context.config.tcp:
            return -EPROTONOSUPPORT
        ends = context.address_map.from_program(source.address if source else None, address, context.guest)
        if isinstance(ends, int):
            return -ends
        if self._is_full():
            return -ENOBUFS
        guest = Endpoint._make((ends[1], port))
        if source is not None and source.port:
            remote = Endpoint._make((ends[0], source.port))
            if not self._table.is_free(_key(guest, remote)):
                return -EADDRINUSE
        else:
            free = self._free_port(guest, ends[0])
            if free is None:
                return -EADDRNOTAVAIL
            remote = Endpoint._make((ends[0], free))
        return self._invite(guest, remote, remote, None).socket

    def _free_port(self, guest: Endpoint, address: bytes) -> int | None:
        """A port of `address` that has no connection with `guest`."""
        for _ in range(_PORTS):
            port = self._next_port
            self._next_port = _FIRST_PORT + (port + 1 - _FIRST_PORT) % _PORTS
            if _key(guest, Endpoint._make((address, port))) not in self._table.by_key:
                return port
        return None


def _key(guest: Endpoint, remote: Endpoint) -> bytes:
    """The key of a connection: addresses and ports as in the guest's segments."""
    return guest.address + remote.address + guest.port.to_bytes(2, "big") + remote.port.to_bytes(2, "big")
