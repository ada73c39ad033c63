"""UDP through SOCKS5 proxies (RFC 1928, 7).

Theory of operation. An *association* is a stream to the proxy, by which the relay of datagrams is asked for, and a
datagram socket to that relay, which lives as long as the stream. It serves all flows of one endpoint of the guest, so
that all remote hosts see the same source. A flow to a host name has an association of its own with the other flows to
that name: the relay answers with an address, which says nothing about the name, so the port alone identifies the flow.

Datagrams wait until the relay is known. If the proxy refuses, or ends the stream, they are answered with an error, and
so are those of the next second: a guest that repeats its datagrams must not make a connection for each.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from errno import EHOSTUNREACH, EMSGSIZE, EPROTO, ETIMEDOUT
from math import inf
from typing import Final, NamedTuple, Protocol, TypeAlias

from sansnet_core.context import Context
from sansnet_core.errors import Reason
from sansnet_core.mypyc import mypyc_attr
from sansnet_core.notices import FlowRefused
from sansnet_core.orders import (
    ORIGIN_LOCAL,
    Buffer,
    CloseSocket,
    Endpoint,
    ExtendedError,
    OpenDatagram,
    OpenStream,
    Order,
    SendDatagram,
    SendStream,
    SocketId,
)
from sansnet_core.policy import Group, ProxyConfig
from sansnet_core.policy.groups import BITS, Groups
from sansnet_core.proto.udp.flow import Flow, Relayed
from sansnet_core.proto.udp.table import FlowTable
from sansnet_core.proto.undecided import Admission
from sansnet_core.proxy.handshake import Destination
from sansnet_core.proxy.socks5 import Socks5, associate_request, unwrap, wrap
from sansnet_core.wire.ip import UDP

__all__ = ["Association", "Associations", "Facts", "Report"]

Report: TypeAlias = Callable[[ExtendedError, Endpoint, Endpoint, bytes, Buffer], None]
"""As in `opening`."""

TTL: Final = 64
"""TTL of datagrams to the relay, and of those to the guest: the way behind the relay is not known."""
MAX_DATAGRAM: Final = 65507
"""Bytes that fit into a datagram of IPv4."""
MAX_PACKETS: Final = 8
"""Datagrams, or runs of them, that wait in one association."""
MAX_BYTES: Final = 65536
"""Bytes that wait in one association."""
MAX_TOTAL: Final = 16 << 20
"""Bytes that wait in all of them."""
MEANINGLESS: Final = 65536
"""Bytes to read at once behind the dialogue: a proxy that sends many there must not cost a read for each."""
FAILED_TIME: Final = 1.0
"""Seconds for which a failure is remembered."""


class Facts(Protocol):
    """Delivers the facts about sockets that are none of TCP's or UDP's."""

    def add(self, socket: SocketId, own: Association | _Datagrams) -> None:
        """Deliver the facts about a socket from now on."""

    def remove(self, socket: SocketId) -> bool:
        """Deliver them no longer; whether the socket is open still."""


class _Waiting(NamedTuple):
    """A datagram of the guest, or a run of them; `segment_size` and `tos` are as in `SendDatagram`."""

    flow: Flow
    data: bytes
    segment_size: int
    tos: int


@mypyc_attr(allow_interpreted_subclasses=True)
class Association(Relayed):
    """A stream to a proxy, and the socket for the datagrams of its relay. It gets the facts about the stream.

    Args:
        owner: all associations.
        control: name of the stream.
        socket: name of the socket for datagrams.
        key: its place among all associations.
        proxy: the proxy.
    """

    __slots__ = (
        "_handshake",
        "_owner",
        "_size",
        "_waiting",
        "control",
        "deadline",
        "errno",
        "key",
        "queued",
        "relay",
        "ticket",
    )

    def __init__(
        self, owner: Associations, control: SocketId, socket: SocketId, key: bytes, proxy: ProxyConfig
    ) -> None:
        super().__init__(socket, proxy)
        self._owner = owner
        self.control = control
        self.key = key
        request = associate_request(len(proxy.server.address))
        self._handshake = Socks5(request, proxy.user, proxy.password)
        self.relay: Endpoint | None = None
        self.errno = 0
        """Why it failed."""
        self._waiting: deque[_Waiting] = deque()
        self._size = 0
        """Bytes that wait."""
        self.deadline = self.queued = inf
        self.ticket = 0

    def send(self, flow: Flow, data: Buffer, segment_size: int, tos: int) -> None:
        owner = self._owner
        if self.errno:
            owner.refuse(flow, self.errno, data)
        elif self.relay is not None:
            destination = _destination(flow)
            size = segment_size or len(data) or 1
            for start in range(0, len(data) or 1, size):
                wrapped = wrap(destination, data[start : start + size])
                if len(wrapped) > MAX_DATAGRAM:
                    owner.refuse(flow, EMSGSIZE, data)
                else:
                    owner.order(SendDatagram(self.socket, self.relay, wrapped, 0, TTL, tos, True))
        elif len(self._waiting) < MAX_PACKETS and self._size + len(data) <= MAX_BYTES and owner.reserve(len(data)):
            self._size += len(data)
            self._waiting.append(_Waiting(flow, bytes(data), segment_size, tos))
        else:
            owner.drop(Reason.UNDECIDED_LIMIT, flow.guest, flow.remote)

    @property
    def size(self) -> int:
        """Bytes that wait."""
        return self._size

    def ended(self) -> None:
        self._owner.ended(self)

    def release(self) -> None:
        """Send the datagrams that wait, or answer them with the error. Those of closed flows are lost."""
        waiting, self._waiting = self._waiting, deque()
        self._owner.reserve(-self._size)
        self._size = 0
        for one in waiting:
            if self.flows.get(one.flow.key) is one.flow:
                self.send(*one)

    def connected(self) -> None:
        """The proxy is connected."""
        self._send(self._handshake.start())

    def received(self, data: bytes) -> None:
        """Bytes came from the proxy; those behind the dialogue have no meaning."""
        handshake = self._handshake
        if self.relay is not None:
            return
        self._send(handshake.receive(data))
        if handshake.done:
            relay = self._owner.relay(self.proxy.server.address, handshake)
            if handshake.errno or not relay.port:
                self._owner.fail(self, handshake.errno or EPROTO)
            else:
                self.relay = relay
                self._owner.opened(self, relay)
                self.release()

    def budget(self) -> int:
        """How many bytes may be read from the proxy."""
        return self._handshake.needed or MEANINGLESS

    def datagram(self, source: Endpoint, data: bytes) -> None:
        """A stream has none."""

    def failed(self) -> None:
        """The stream failed or ended, and so does the association (RFC 1928, 7)."""
        self._owner.fail(self, EHOSTUNREACH)

    def expire(self) -> None:
        """The proxy has not answered in time, or a failure was remembered for long enough."""
        if self.errno:
            self._owner.end(self)
        else:
            self._owner.fail(self, ETIMEDOUT)

    def _send(self, data: bytes) -> None:
        if data:
            self._owner.order(SendStream(self.control, data))


@mypyc_attr(allow_interpreted_subclasses=True)
class _Datagrams:
    """Gets the facts about an association's socket for datagrams."""

    __slots__ = ("_association", "_owner")

    def __init__(self, owner: Associations, association: Association) -> None:
        self._owner = owner
        self._association = association

    def connected(self) -> None:
        """It is no stream."""

    def received(self, data: bytes) -> None:
        """It is no stream."""

    def budget(self) -> int:
        """It is no stream."""
        return 0

    def datagram(self, source: Endpoint, data: bytes) -> None:
        """A datagram came."""
        association = self._association
        found = unwrap(data) if source == association.relay else None
        flow = None
        if found is not None:
            origin = found[0]
            flow = association.sources.get(origin) or association.sources.get(("", origin.port))
        if found is None or flow is None:
            self._owner.drop(Reason.HOST_SOURCE, source, source)
        else:
            self._owner.deliver(flow, bytes(found[1]))

    def failed(self) -> None:
        """A datagram could not be sent; the stream tells whether the relay still works."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Associations:
    """All associations.

    Args:
        context: of the network.
        facts: delivers the facts about their sockets.
        table: all flows of UDP.
        report: as in `opening`.
        to_guest: sends the guest a datagram of a flow; the arguments are those of `Udp`.
    """

    __slots__ = ("_associations", "_context", "_facts", "_report", "_table", "_to_guest", "_waiting")

    def __init__(
        self,
        context: Context,
        facts: Facts,
        table: FlowTable,
        report: Report,
        to_guest: Callable[[Flow, bytes, int, int, int], None],
    ) -> None:
        self._context = context
        self._facts = facts
        self._table = table
        self._report = report
        self._to_guest = to_guest
        self._associations: dict[bytes, Association] = {}
        self._waiting = 0
        """Bytes that wait in all of them."""

    def open(self, guest: Endpoint, remote: Endpoint, proxy: ProxyConfig, admission: Admission) -> Flow:
        """Open a flow of the guest through a proxy.

        Args:
            guest: the guest's endpoint.
            remote: the remote endpoint in the guest's packets.
            proxy: of the kind `SOCKS5`.
            admission: of the flow. If it has a host name, the proxy gets that in place of the address.
        """
        name = admission.name
        self._table.make_room(inbound=False)
        key = b"%b%d %b %b" % (guest.address, guest.port, proxy.name.encode(), (name or "").encode())
        association = self._associations.get(key)
        if association is None or association.proxy != proxy:
            association = self._begin(key, proxy, guest, remote)
        flow = Flow(
            association,
            guest,
            remote,
            proxy.server,
            inbound=False,
            redirected=True,
            name=name,
            judgement=admission.judgement,
        )
        return self._table.add(flow)

    def _begin(self, key: bytes, proxy: ProxyConfig, guest: Endpoint, remote: Endpoint) -> Association:
        context = self._context
        association = Association(self, context.new_socket(), context.new_socket(), key, proxy)
        self._associations[key] = association
        self._facts.add(association.control, association)
        local = context.address_map.outbound(proxy.server.address)
        self.order(OpenStream(association.control, proxy.server, local, guest, remote))
        context.timers.arm(association, context.now + context.config.limits.decision_time)
        return association

    def recount(self, flows: list[Flow]) -> None:
        """Correct all associations after an exception, from the flows that there are."""
        used = [flow.end for flow in flows if isinstance(flow.end, Association)]
        for association in dict.fromkeys([*self._associations.values(), *used]):
            association.flows.clear()
            association.sources.clear()
            for flow in flows:
                if flow.end is association:
                    association.attach(flow)
            if not association.flows:
                self.ended(association)
        self._waiting = sum(association.size for association in {*self._associations.values(), *used})

    def opened(self, association: Association, relay: Endpoint) -> None:
        """The relay of an association is known."""
        context = self._context
        context.timers.arm(association, inf)
        flow = next(iter(association.flows.values()))
        local = Endpoint._make((context.address_map.bound(relay.address), 0))
        self._facts.add(association.socket, _Datagrams(self, association))
        self.order(OpenDatagram(association.socket, local, flow.guest))

    def relay(self, server: bytes, handshake: Socks5) -> Endpoint:
        """Where to send datagrams after a proxy's reply.

        That is at the proxy's own address if the reply has none, or one that is not public and is in other groups than
        the proxy: a proxy behind NAT tells an address that exists there only, and a hostile one perhaps the host's.
        """
        bound = handshake.bound
        if bound is not None:
            groups = Groups(self._context.config.host_addresses)
            found = groups.of(bound.address, bound.address)
            if found == groups.of(server, server) or found[0] == BITS[Group.PUBLIC]:
                return bound
        return Endpoint._make((server, handshake.bound_port))

    def fail(self, association: Association, errno: int) -> None:
        """Answer all datagrams of an association with an error from now on, until the time has passed."""
        context = self._context
        association.errno = errno
        self._close(association)
        context.timers.arm(association, context.now + FAILED_TIME)
        association.release()

    def end(self, association: Association) -> None:
        """Close all flows of an association."""
        for flow in list(association.flows.values()):
            self._table.close(flow)

    def ended(self, association: Association) -> None:
        """Forget an association without flows."""
        association.release()
        self._close(association)
        self._context.timers.forget(association)
        if self._associations.get(association.key) is association:
            del self._associations[association.key]

    def _close(self, association: Association) -> None:
        for socket in (association.control, association.socket):
            if self._facts.remove(socket):  # the driver has closed a stream that failed
                self.order(CloseSocket(socket))

    # for associations

    def order(self, order: Order) -> None:
        """Give the driver an order."""
        self._context.out.orders.append(order)

    def reserve(self, size: int) -> bool:
        """Count bytes that wait, or with a negative number such that do not any more; whether there is room."""
        if self._waiting + size > MAX_TOTAL:
            return False
        self._waiting += size
        return True

    def drop(self, reason: Reason, source: Endpoint, destination: Endpoint) -> None:
        """Count a datagram that is dropped."""
        self._context.drop_packet(reason, UDP, source, destination)

    def refuse(self, flow: Flow, errno: int, data: Buffer) -> None:
        """Answer a datagram of the guest with an error."""
        context = self._context
        if not (flow.errno or flow.datagrams_received):
            flow.errno = errno
            ends = flow.guest, flow.remote, flow.host
            context.notify(
                FlowRefused(
                    UDP,
                    *ends,
                    errno,
                    None,
                    False,
                    context.now,
                    name=flow.name,
                    rule=flow.judgement.text if flow.judgement else None,
                )
            )
        self.drop(Reason.HOST_SEND, flow.guest, flow.remote)
        error = ExtendedError(errno, ORIGIN_LOCAL, 0, 0, 0, None)
        self._report(error, flow.guest, flow.remote, flow.remote.address, data)

    def deliver(self, flow: Flow, data: bytes) -> None:
        """Send the guest a datagram of a flow."""
        self._to_guest(flow, data, 0, TTL, 0)


def _destination(flow: Flow) -> Destination:
    return Destination(flow.name or flow.remote.address, flow.remote.port)
