"""A model of the host's sockets, which judges whether each order is one that a driver can carry out.

It is independent of the core: it knows the documentation of orders and facts, and the limits of the kernel. Tell it
each fact that is reported to the network, and give it each order that comes back. An order that is not legal in the
state of its socket raises `AssertionError`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from sansnet_core.addresses import Endpoint, is_unspecified
from sansnet_core.orders import (
    CloseSocket,
    DecideFlow,
    DeliverDatagram,
    FailDatagram,
    KeepAlive,
    OpenDatagram,
    OpenEcho,
    OpenStream,
    Order,
    ResumeStream,
    SendDatagram,
    SendEcho,
    SendStream,
    ServeStream,
    ShutdownStream,
    SocketId,
)
from sansnet_core.policy import Allow, Serve, Verdict

__all__ = ["HostSockets", "Kind", "Socket"]

_MAX_DATAGRAM: Final = {4: 65507, 16: 65527}
"""Size of address -> most bytes of payload (RFC 768; RFC 791, 3.1; RFC 8200, 3)."""
_MAX_SEGMENTS: Final = 128
"""UDP_MAX_SEGMENTS of recent kernels (linux/udp.h); a driver cuts longer runs for older ones."""
_MAX_RUN: Final = 65535
"""Bytes of one send with UDP_SEGMENT."""


class Kind(Enum):
    """The kinds of things that have a name."""

    STREAM = "stream"
    DATAGRAM = "datagram"
    FORWARD = "forward"
    ECHO = "ping"
    SERVICE = "service"
    FLOW = "flow of the program"
    """A UDP flow whose verdict was `Serve`."""
    QUESTION = "question"


@dataclass(slots=True)
class Socket:
    """The state of one name.

    Attributes:
        name: of orders and facts.
        kind: the kind of thing.
        remote: the other end of a stream or a ping socket; None for others.
        local: where a datagram socket is bound.
        guest: the endpoint of the guest that it stands for.
        connected: the stream may carry data.
        inbound: an outsider or the program opened the stream.
        served: a service of the program is the other end of the stream.
        unsent: bytes of `SendStream` orders that were not reported as sent.
        sent: bytes of all `SendStream` orders.
        received: bytes reported by `stream_received`.
        paused: the budget was 0, and no `ResumeStream` came since.
        ended: the end of the stream was reported; the program has ended a service or a flow of its own.
        shutdown: the end of the stream was ordered.
        closed: no order may name it any more.
        aborted: it was closed with a reset.
        errno: that of its `CloseSocket`.
        verdict: the verdict about a question.
        protocol: IP protocol number of a question or a service.
    """

    name: SocketId
    kind: Kind
    remote: Endpoint | None = None
    local: Endpoint | None = None
    guest: Endpoint | None = None
    connected: bool = False
    inbound: bool = False
    served: bool = False
    unsent: int = 0
    sent: int = 0
    received: int = 0
    paused: bool = False
    ended: bool = False
    shutdown: bool = False
    closed: bool = False
    aborted: bool = False
    errno: int = 0
    verdict: Verdict | None = None
    protocol: int = 0

    @property
    def open(self) -> bool:
        """Whether facts about it may be reported."""
        return not self.closed


class HostSockets:
    """All names of one network.

    Attributes:
        all: every name that ever was, with its state.
        questions: names of questions without a verdict that were not withdrawn.
    """

    def __init__(self) -> None:
        self.all: dict[SocketId, Socket] = {}
        self.questions: dict[SocketId, DecideFlow] = {}
        self._open: dict[SocketId, Socket] = {}

    def of(self, *kinds: Kind) -> list[Socket]:
        """The open sockets of some kinds, in order of their names."""
        return [socket for _, socket in sorted(self._open.items()) if socket.kind in kinds]

    def streams(self) -> list[Socket]:
        """The connected streams."""
        return [socket for socket in self.of(Kind.STREAM) if socket.connected]

    # facts

    def accepted(self, name: SocketId, remote: Endpoint) -> None:
        """`stream_accepted` or `stream_opened` gave a name."""
        socket = self._new(name, Kind.STREAM)
        socket.connected = socket.inbound = True
        socket.remote = remote

    def connected(self, name: SocketId) -> None:
        """`stream_connected` is reported."""
        self.all[name].connected = True

    def budget(self, name: SocketId, count: int) -> None:
        """`receive_budget` gave a number."""
        assert type(count) is int, f"socket {name}: a budget that is no number"
        assert count >= 0, f"socket {name}: a budget below 0"
        socket = self.all[name]
        if socket.kind is Kind.STREAM and socket.connected:
            socket.paused = count == 0

    def received(self, name: SocketId, count: int) -> None:
        """`stream_received` is reported."""
        self.all[name].received += count

    def sent(self, name: SocketId, count: int) -> None:
        """`stream_sent` is reported."""
        socket = self.all[name]
        assert 0 <= count <= socket.unsent, f"socket {name}: the driver reports more bytes than it was given"
        socket.unsent -= count

    def ended(self, name: SocketId) -> None:
        """`stream_ended` is reported."""
        self.all[name].ended = True

    def failed(self, name: SocketId) -> None:
        """`stream_failed` is reported: the driver has closed the socket."""
        self._close(self.all[name])

    def forward_added(self, name: SocketId) -> None:
        """`forward_added` gave a name."""
        self._new(name, Kind.FORWARD)

    def forward_removed(self, name: SocketId) -> None:
        """`forward_removed` is reported."""
        self._close(self.all[name])

    def service_added(self, name: SocketId, protocol: int) -> None:
        """`service_added` gave a name."""
        self._new(name, Kind.SERVICE).protocol = protocol

    def service_removed(self, name: SocketId) -> None:
        """`service_removed` is reported. That of a flow is closed by an order."""
        socket = self.all[name]
        socket.ended = True
        if socket.kind is Kind.SERVICE:
            self._close(socket)

    def decided(self, name: SocketId, verdict: Verdict) -> None:
        """`flow_decided` is reported."""
        question = self.questions.pop(name, None)
        if question is None:
            return
        socket = self.all[name]
        socket.verdict = verdict
        if question.protocol == 17 and not question.inbound and isinstance(verdict, Serve):
            socket.kind = Kind.FLOW

    # orders

    def judge(self, order: Order) -> None:
        """Take an order.

        Raises:
            AssertionError: a driver could not carry it out.
        """
        _JUDGES[type(order)](self, order)

    def _new(self, name: SocketId, kind: Kind) -> Socket:
        assert type(name) is int, f"{name!r} is no name"
        assert name not in self.all, f"the name {name} is used twice"
        socket = self.all[name] = self._open[name] = Socket(name, kind)
        return socket

    def _close(self, socket: Socket) -> None:
        socket.closed = True
        socket.connected = False
        self._open.pop(socket.name, None)

    def _known(self, order: Order, *kinds: Kind) -> Socket:
        socket = self.all.get(order.socket)
        assert socket is not None, f"{order} for a name that was never given"
        assert not socket.closed, f"{order} for a closed socket"
        assert socket.kind in kinds, f"{order} for a {socket.kind.value}"
        return socket

    def _opened(self, name: SocketId, kind: Kind) -> Socket:
        """A name of an order to open a socket: a new one, or that of a flow that was asked about and allowed."""
        socket = self.all.get(name)
        if socket is None:
            return self._new(name, kind)
        assert socket.kind is Kind.QUESTION, f"the name {name} is used twice"
        assert name not in self.questions, f"socket {name} is opened before the verdict"
        assert socket.open, f"socket {name} is opened behind its end"
        socket.kind = kind
        return socket

    def _open_stream(self, order: OpenStream) -> None:
        assert 0 < order.remote.port < 65536, f"{order}: no port"
        assert not is_unspecified(order.remote.address), f"{order}: that is the host's loopback"
        assert order.local is None or len(order.local) == len(order.remote.address), f"{order}: two families"
        socket = self._opened(order.socket, Kind.STREAM)
        assert socket.verdict is None or isinstance(socket.verdict, Allow), f"{order} against the verdict"
        socket.remote, socket.guest = order.remote, order.guest

    def _serve_stream(self, order: ServeStream) -> None:
        socket = self._opened(order.socket, Kind.STREAM)
        if order.service is None:
            assert isinstance(socket.verdict, Serve), f"{order} without a verdict"
        else:
            service = self.all.get(order.service)
            assert service is not None, f"{order} for a service that never was"
            assert (service.kind, service.protocol) == (Kind.SERVICE, 6), f"{order} for no service of TCP"
        socket.remote, socket.guest, socket.served = order.destination, order.guest, True

    def _send_stream(self, order: SendStream) -> None:
        socket = self._known(order, Kind.STREAM)
        assert socket.connected, f"data for socket {order.socket}, which is not connected"
        assert not socket.shutdown, f"data for socket {order.socket} behind its end"
        assert len(order.data) > 0, f"an order without data for socket {order.socket}"
        socket.unsent += len(order.data)
        socket.sent += len(order.data)

    def _shutdown_stream(self, order: ShutdownStream) -> None:
        socket = self._known(order, Kind.STREAM)
        assert socket.connected, f"{order}: it is not connected"
        assert not socket.shutdown, f"{order}: the second one"
        socket.shutdown = True

    def _resume_stream(self, order: ResumeStream) -> None:
        socket = self._known(order, Kind.STREAM)
        assert socket.connected, f"{order}: it is not connected"
        socket.paused = False

    def _keep_alive(self, order: KeepAlive) -> None:
        assert self._known(order, Kind.STREAM).connected, f"{order}: it is not connected"
        assert 1 <= order.idle <= 32767, f"{order}: idle"
        assert 1 <= order.interval <= 32767, f"{order}: interval"
        assert 1 <= order.count <= 127, f"{order}: count"

    def _close_socket(self, order: CloseSocket) -> None:
        assert 0 <= order.errno < 4096, f"{order}: errno"
        asked = self.questions.pop(order.socket, None)
        if asked is not None and self.all[order.socket].closed:
            return  # the connection failed, and nobody needs a verdict any more
        kinds = (Kind.STREAM, Kind.DATAGRAM, Kind.ECHO, Kind.FLOW, Kind.QUESTION)
        socket = self._known(order, *kinds)  # the driver itself ends forwards and services
        assert socket.kind is not Kind.QUESTION or asked is not None, f"{order} withdraws a question that was decided"
        self._close(socket)
        socket.aborted, socket.errno = order.abort, order.errno

    def _open_datagram(self, order: OpenDatagram) -> None:
        assert 0 <= order.local.port < 65536, f"{order}: port"
        socket = self._opened(order.socket, Kind.DATAGRAM)
        socket.local, socket.guest = order.local, order.guest

    def _send_datagram(self, order: SendDatagram) -> None:
        socket = self._known(order, Kind.DATAGRAM, Kind.FORWARD)
        address, size = order.remote.address, len(order.data)
        assert 0 < order.remote.port < 65536, f"{order}: port"
        assert not is_unspecified(address), f"{order}: that is the host's loopback"
        assert 0 < order.ttl < 256, f"{order}: the kernel takes no TTL of {order.ttl}"
        assert 0 <= order.tos < 256, f"{order}: tos"
        if socket.local is not None:
            assert len(socket.local.address) == len(address), f"{order}: the socket is of the other family"
            assert order.local is None, f"{order}: the socket is bound"
        assert order.local is None or len(order.local) == len(address), f"{order}: two families"
        if order.segment_size:
            assert 0 < order.segment_size < size <= _MAX_RUN, f"{order}: size of a run"
            assert size <= order.segment_size * _MAX_SEGMENTS, f"{order}: more than {_MAX_SEGMENTS} datagrams"
        else:
            assert size <= _MAX_DATAGRAM[len(address)], f"{order}: no datagram is as large"

    def _deliver_datagram(self, order: DeliverDatagram) -> None:
        socket = self._known(order, Kind.SERVICE, Kind.FLOW)
        assert socket.kind is Kind.FLOW or socket.protocol == 17, f"{order} for a service of TCP"
        assert not socket.ended, f"{order}: the program has ended it"
        assert not order.segment_size or 0 < order.segment_size < len(order.data), f"{order}: size of a run"

    def _fail_datagram(self, order: FailDatagram) -> None:
        self._known(order, Kind.SERVICE, Kind.FLOW)

    def _decide_flow(self, order: DecideFlow) -> None:
        socket = self.all.get(order.socket)
        if order.inbound and order.protocol == 6:
            assert socket is not None, f"{order}: no such connection"
            assert (socket.kind, socket.closed) == (Kind.STREAM, False), f"{order}: no open connection"
            assert socket.verdict is None, f"{order}: it was decided"
        else:
            assert socket is None, f"{order}: the name is used twice"
            self._new(order.socket, Kind.QUESTION)
        assert order.socket not in self.questions, f"{order}: asked twice"
        self.questions[order.socket] = order
        self.all[order.socket].protocol = order.protocol

    def _open_echo(self, order: OpenEcho) -> None:
        assert order.local is None or len(order.local) == len(order.remote), f"{order}: two families"
        assert not is_unspecified(order.remote), f"{order}: that is the host's loopback"
        socket = self._opened(order.socket, Kind.ECHO)
        socket.remote, socket.guest = Endpoint(order.remote, 0), order.guest

    def _send_echo(self, order: SendEcho) -> None:
        socket = self._known(order, Kind.ECHO)
        assert socket.remote == Endpoint(order.remote, 0), f"{order}: to somewhere else"
        assert 0 <= order.sequence < 65536, f"{order}: sequence"
        assert 0 < order.ttl < 256, f"{order}: the kernel takes no TTL of {order.ttl}"
        assert 0 <= order.tos < 256, f"{order}: tos"
        assert len(order.data) <= _MAX_DATAGRAM[len(order.remote)], f"{order}: no echo is as large"


_JUDGES: Final[dict[type[Any], Callable[[HostSockets, Any], None]]] = {
    OpenStream: HostSockets._open_stream,
    ServeStream: HostSockets._serve_stream,
    SendStream: HostSockets._send_stream,
    ShutdownStream: HostSockets._shutdown_stream,
    ResumeStream: HostSockets._resume_stream,
    KeepAlive: HostSockets._keep_alive,
    CloseSocket: HostSockets._close_socket,
    OpenDatagram: HostSockets._open_datagram,
    SendDatagram: HostSockets._send_datagram,
    DeliverDatagram: HostSockets._deliver_datagram,
    FailDatagram: HostSockets._fail_datagram,
    DecideFlow: HostSockets._decide_flow,
    OpenEcho: HostSockets._open_echo,
    SendEcho: HostSockets._send_echo,
}
