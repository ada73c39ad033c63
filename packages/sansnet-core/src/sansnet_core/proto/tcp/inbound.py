"""How connections to the guest open: those of outsiders, and those of the program.

Theory of operation. An outsider's connection was accepted by the host, and the rules decide whether the guest gets a
SYN. If they leave that to the driver, the connection is UNDECIDED: it has a host socket already, and the guest no SYN.
"""

from __future__ import annotations

from collections.abc import Callable
from errno import EADDRINUSE, EADDRNOTAVAIL, ENOBUFS, EPROTONOSUPPORT
from struct import Struct
from typing import Final, NamedTuple, TypeAlias

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
_PORT_PAIR: Final = Struct("!HH")
_MAX_KNOWN: Final = 256
"""Ways that are kept; outsiders choose their addresses."""

_State: TypeAlias = tuple[object, bytes | None, bytes | None, bytes | None]


class _Way(NamedTuple):
    """Where the connections of one outsider to one port lead.

    Attributes:
        guest: the endpoint of the guest.
        source: the address of the outsider as the guest sees it.
        target: with the judgement of the rules.
    """

    guest: Endpoint
    source: bytes
    target: Target


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

    __slots__ = ("_context", "_find_station", "_known", "_next_port", "_questions", "_shared", "_state", "_table")

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
        self._known: dict[tuple[bytes, bytes | None, int], _Way] = {}
        """The latest ways."""
        self._state: _State | None = None
        """The configuration and the guest's addresses, from which they follow."""
        self._next_port = _FIRST_PORT + context.entropy.keyed(b"port", b"") % _PORTS

    def stream_accepted(self, remote: Endpoint, address: bytes | None, port: int) -> SocketId | None:
        """A connection from outside was accepted; see `Network.stream_accepted`."""
        context = self._context
        way = self._way(remote.address, address, port)
        judgement = None
        errno = 0
        if isinstance(way, Reason):
            guest, seen, reason = Endpoint._make((address or bytes(len(remote.address)), port)), remote, way
        else:
            guest, seen = way.guest, Endpoint._make((way.source, remote.port))
            key = _key(guest, seen)
            action = way.target.judgement.action
            refusal = self._refusal(action, key)
            if refusal is None:
                flow = self._invite(key, guest, seen, remote, way.target, undecided=action is Action.ASK)
                if action is Action.ASK:
                    self._questions.ask(flow, remote, way.target)
                return flow.socket
            reason = refusal
            if reason is Reason.REFUSED or reason is Reason.UNDECIDED_LIMIT:
                judgement = way.target.judgement
                errno = judgement.errno if action is Action.REFUSE else 0
        context.drop_packet(reason, TCP, remote, guest)
        rule = judgement.text if judgement is not None and context.notices else None
        context.notify(FlowRefused(TCP, guest, seen, remote, errno, reason, True, context.now, None, rule))
        return None

    def _way(self, outsider: bytes, address: bytes | None, port: int) -> _Way | Reason:
        """The way of a connection from outside; or why it has none."""
        context = self._context
        state = (context.config, context.guest.ipv4, context.guest.ipv6, context.guest.link_local)
        if state != self._state:
            self._state = state
            self._known.clear()
        found = self._known.get((outsider, address, port))
        if found is not None:
            return found
        if not context.config.tcp:
            return Reason.PROTOCOL_CLOSED
        ends = context.address_map.inbound(outsider, address, context.guest)
        if isinstance(ends, Reason):
            return ends
        target = Target(context.policy.judge(TCP, outsider, port, inbound=True))
        if len(self._known) >= _MAX_KNOWN:
            self._known.clear()
        way = self._known[outsider, address, port] = _Way(Endpoint._make((ends[1], port)), ends[0], target)
        return way

    def _refusal(self, action: Action, key: bytes) -> Reason | None:
        """Why a connection from outside may not open; None if it may, and there is room for it.

        The room comes last: another connection may have to end for it.
        """
        if action is Action.ASK:
            if self._questions.is_full(inbound=True):
                return Reason.UNDECIDED_LIMIT
        elif action is not Action.ALLOW:
            return Reason.REFUSED
        if not self._table.is_free(key):
            return Reason.INBOUND_COLLISION
        return None if self._make_room(key) else Reason.TCP_LIMIT

    def _make_room(self, key: bytes) -> bool:
        """Whether there is room for a connection from outside, at the expense of those that the guest has no more."""
        limits, shared = self._context.config.limits, self._shared
        if shared.pending[True] >= limits.tcp_pending:
            return False
        if not self._table.make_room(limits, shared.time_wait, inbound=True):
            return False
        self._table.give_way(key)
        return True

    def _invite(
        self,
        key: bytes,
        guest: Endpoint,
        remote: Endpoint,
        host: Endpoint,
        target: Target | None,
        *,
        undecided: bool = False,
    ) -> TcpFlow:
        """Make a connection to the guest, and send the SYN unless a verdict is needed first."""
        socket = self._context.new_socket()
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
        guest = Endpoint._make((ends[1], port))
        if source is not None and source.port:
            remote = Endpoint._make((ends[0], source.port))
        else:
            free = self._free_port(guest, ends[0])
            if free is None:
                return -EADDRNOTAVAIL
            remote = Endpoint._make((ends[0], free))
        key = _key(guest, remote)
        if not self._table.is_free(key):
            return -EADDRINUSE
        if not self._make_room(key):
            return -ENOBUFS
        return self._invite(key, guest, remote, remote, None).socket

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
    return guest.address + remote.address + _PORT_PAIR.pack(guest.port, remote.port)
