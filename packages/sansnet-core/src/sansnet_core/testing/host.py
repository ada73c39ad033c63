"""Host sockets that behave as a script describes.

`ScriptedHost` takes the place of a driver: it obeys orders, keeps what a socket did not take yet, asks for the budget
before it reads, and reports facts. It checks the order of orders: nothing for a socket that was never opened or was
closed, no name used twice.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from errno import EHOSTUNREACH, ENETUNREACH

from sansnet_core.addresses import Endpoint, is_unspecified
from sansnet_core.errors import expect
from sansnet_core.network import Network
from sansnet_core.orders import (
    CloseSocket,
    DecideFlow,
    DeliverDatagram,
    ExtendedError,
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
from sansnet_core.policy import Verdict

__all__ = ["ScriptedHost", "HostScript", "HostStream"]


@dataclass(slots=True)
class HostScript:
    """How the streams of a host behave.

    Attributes:
        connect: errno of the failure, 0 for success, None for no answer ever.
        connect_delay: seconds until the answer.
        accept: most bytes that the socket takes at a time; None for all.
        accept_interval: seconds until it takes more.
        read: most bytes that one read returns.
        echo: everything received is sent back, and so is the end.
        produce: bytes that the remote sends at once.
        end: the remote ends its side after them.
    """

    connect: int | None = 0
    connect_delay: float = 0.0
    accept: int | None = None
    accept_interval: float = 0.01
    read: int = 64 << 10
    echo: bool = False
    produce: bytes = b""
    end: bool = False


@dataclass(slots=True)
class HostStream:
    """One TCP socket of a scripted host, with the remote's side of it. Its fields are read by tests."""

    socket: SocketId
    remote: Endpoint
    script: HostScript
    connected: bool = False
    failed: bool = False
    received: bytearray = field(default_factory=bytearray)
    """Data that the remote received."""
    shutdown: bool = False
    """The remote received the end of the stream."""
    closed: bool = False
    aborted: bool = False
    blocked: bool = False
    """The socket takes nothing, until `ScriptedHost.unblock`."""
    unsent: bytearray = field(default_factory=bytearray)
    incoming: bytearray = field(default_factory=bytearray)
    """Data of the remote that the network did not read yet."""
    ended: bool = False
    """The remote ended its side."""
    end_reported: bool = False
    paused: bool = False
    shutdown_ordered: bool = False
    accept_at: float = 0.0


class ScriptedHost:
    """All host sockets of one network, in place of a driver.

    Args:
        network: the network whose orders it carries out.
        script: the behaviour of its streams.

    Attributes:
        script: the behaviour of streams that are opened or accepted from now on.
        streams: all TCP sockets ever, by name.
        datagram_sockets, echo_sockets: open sockets for UDP and ping, by name.
        forwards: sockets for UDP from outside.
        datagrams, echoes: everything that was sent by UDP, and all pings.
        orders: all orders, in order.
        closed: names of sockets that were closed.
    """

    def __init__(self, network: Network, script: HostScript | None = None) -> None:
        if script is not None:
            expect("script", script, HostScript, "a HostScript")
        self._network = network
        self.script = script or HostScript()
        self.streams: dict[SocketId, HostStream] = {}
        self.datagram_sockets: dict[SocketId, OpenDatagram] = {}
        self.echo_sockets: dict[SocketId, OpenEcho] = {}
        self.forwards: set[SocketId] = set()
        self.questions: dict[SocketId, DecideFlow] = {}
        """Those without a verdict."""
        self.delivered: list[DeliverDatagram] = []
        """The datagrams for the program."""
        self.failed: list[FailDatagram] = []
        """The failures of datagrams of the program."""
        self.datagrams: list[SendDatagram] = []
        self.echoes: list[SendEcho] = []
        self.orders: list[Order] = []
        self.closed: set[SocketId] = set()
        self._served: set[SocketId] = set()
        """Sockets of `DeliverDatagram` orders."""
        self._events: list[tuple[float, int, Callable[[float], None]]] = []
        self._count = 0

    @property
    def stream(self) -> HostStream:
        """The only stream, or the newest."""
        assert self.streams, "there is no stream: the network ordered none, or its orders were not carried out yet"
        return next(reversed(self.streams.values()))

    # Actions of a remote

    def produce(self, stream: HostStream, data: bytes) -> None:
        """The remote sends."""
        assert not stream.ended
        stream.incoming += data

    def end(self, stream: HostStream) -> None:
        """The remote ends its side."""
        stream.ended = True

    def fail(self, stream: HostStream, errno: int, now: float, error: ExtendedError | None = None) -> None:
        """The socket fails, as by a reset of the remote; a driver closes it then."""
        stream.failed = stream.closed = True
        self.closed.add(stream.socket)
        self._network.stream_failed(stream.socket, errno, error, now)

    def at(self, when: float, what: Callable[[float], None]) -> None:
        """Let something happen at a time."""
        self._count += 1
        heapq.heappush(self._events, (when, self._count, what))

    # Actions of the driver

    def obey(self, orders: Iterable[Order], now: float) -> None:
        """Carry out orders, as a driver does.

        Raises:
            AssertionError: an order that a driver could not carry out, such as one for a closed socket.
        """
        for order in orders:
            self.orders.append(order)
            withdraws = isinstance(order, CloseSocket) and order.socket in self.questions
            assert withdraws or order.socket not in self.closed, f"{order} for a closed socket"
            assert not (isinstance(order, CloseSocket) and order.socket in self.forwards), "a forward is the driver's"
            if isinstance(order, OpenStream):
                self._open(order.socket, order.remote, now)
            elif isinstance(order, ServeStream):
                self._open(order.socket, order.destination, now)
            elif isinstance(order, DeliverDatagram):
                assert order.socket not in self.questions, "delivered without a verdict"
                self.delivered.append(order)
                self._served.add(order.socket)
            elif isinstance(order, FailDatagram):
                self.failed.append(order)
            elif isinstance(order, DecideFlow):
                assert self._known(order.socket) == (order.inbound and order.protocol == 6), "the socket exists"
                assert order.socket not in self.questions, "asked twice"
                self.questions[order.socket] = order
            elif isinstance(order, OpenDatagram | OpenEcho):
                assert not self._known(order.socket), "a socket's name used twice"
                if isinstance(order, OpenDatagram):
                    self.datagram_sockets[order.socket] = order
                else:
                    self.echo_sockets[order.socket] = order
            else:
                assert withdraws or self._known(order.socket), f"{order} for an unknown socket"
                self._obey(order)

    def _obey(self, order: Order) -> None:
        if isinstance(order, SendDatagram):
            assert not is_unspecified(order.remote.address), "that is the host's loopback"
            self.datagrams.append(order)
        elif isinstance(order, SendEcho):
            self.echoes.append(order)
        elif isinstance(order, CloseSocket):
            self._close(order)
        elif isinstance(order, KeepAlive):
            assert self.streams[order.socket].connected, "probes of a socket that is not connected"
        else:
            assert isinstance(order, SendStream | ShutdownStream | ResumeStream)
            stream = self.streams[order.socket]
            if isinstance(order, SendStream):
                assert stream.connected, "data for a socket that is not connected"
                assert not stream.shutdown_ordered, "data after the end"
                assert len(order.data) > 0, "an order without data"
                stream.unsent += order.data
            elif isinstance(order, ShutdownStream):
                assert not stream.shutdown_ordered, "two ends"
                stream.shutdown_ordered = True
            else:
                stream.paused = False

    def _known(self, socket: SocketId) -> bool:
        kinds = (self.streams, self.datagram_sockets, self.echo_sockets, self.forwards, self._served)
        return any(socket in known for known in kinds)

    def _open(self, socket: SocketId, remote: Endpoint, now: float) -> None:
        assert not self._known(socket), "a socket's name used twice"
        assert socket not in self.questions, "opened without a verdict"
        stream = self._add(socket, remote)
        if self.script.connect is not None:
            self.at(now + self.script.connect_delay, lambda then: self._answer(stream, then))

    def _add(self, socket: SocketId, remote: Endpoint) -> HostStream:
        stream = self.streams[socket] = HostStream(socket, remote, self.script)
        stream.incoming += self.script.produce
        stream.ended = self.script.end
        return stream

    def accept(
        self, remote: Endpoint, port: int, now: float, *, guest_address: bytes | None = None
    ) -> HostStream | None:
        """A listening socket accepts a connection of `remote`; None if the network refuses it."""
        socket = self._network.stream_accepted(remote, guest_address, port, now)
        if socket is None:
            return None
        assert not self._known(socket), "a socket's name used twice"
        stream = self._add(socket, remote)
        stream.connected = True
        return stream

    def decide(self, socket: SocketId, verdict: Verdict, now: float) -> None:
        """Answer a question."""
        assert socket in self.questions, f"no question with the name {socket} waits; see questions"
        del self.questions[socket]
        self._network.flow_decided(socket, verdict, now)

    def connect(
        self, port: int, now: float, *, source: Endpoint | None = None, guest_address: bytes | None = None
    ) -> HostStream | int:
        """The program connects to a server in the guest; the errno if there can be no connection."""
        made = self._network.stream_opened(source, guest_address, port, now)
        if made < 0:
            return -made
        socket = SocketId(made)
        assert not self._known(socket), "a socket's name used twice"
        ends = self._network.stream_endpoints(socket)
        assert ends is not None
        stream = self._add(socket, ends[1])
        stream.connected = True
        return stream

    def _answer(self, stream: HostStream, now: float) -> None:
        if stream.closed:
            return
        errno = stream.script.connect
        assert errno is not None
        if errno:
            error = None
            if errno in (EHOSTUNREACH, ENETUNREACH):  # a router reported it
                address = stream.remote.address
                origin, kind = (2, 3) if len(address) == 4 else (3, 1)
                error = ExtendedError(errno, origin, kind, 0, 0, address)
            self.fail(stream, errno, now, error)
        else:
            stream.connected = True
            self._network.stream_connected(stream.socket, now)

    def _close(self, order: CloseSocket) -> None:
        self.closed.add(order.socket)
        self.questions.pop(order.socket, None)
        self.datagram_sockets.pop(order.socket, None)
        self.echo_sockets.pop(order.socket, None)
        stream = self.streams.get(order.socket)
        if stream is None:
            return
        stream.closed = True
        stream.aborted = order.abort
        if not order.abort:
            stream.received += stream.unsent  # a driver goes on sending behind a closed socket
            stream.unsent.clear()
            stream.shutdown = True

    def unblock(self, stream: HostStream) -> None:
        """The socket takes data again."""
        stream.blocked = False

    def report(self, now: float) -> bool:
        """Let the sockets work, and report; True if anything happened."""
        happened = False
        while self._events and self._events[0][0] <= now:
            heapq.heappop(self._events)[2](now)
            happened = True
        for stream in list(self.streams.values()):
            if stream.connected and not stream.closed and not stream.failed:
                happened |= self._send(stream, now)
                happened |= self._read(stream, now)
        return happened

    def _send(self, stream: HostStream, now: float) -> bool:
        if stream.blocked or now < stream.accept_at:
            return False
        script = stream.script
        count = len(stream.unsent) if script.accept is None else min(script.accept, len(stream.unsent))
        if count:
            stream.received += stream.unsent[:count]
            if script.echo:
                stream.incoming += stream.unsent[:count]
            del stream.unsent[:count]
            if script.accept is not None:
                stream.accept_at = now + script.accept_interval
            self._network.stream_sent(stream.socket, count, now)
        ended = False
        if stream.shutdown_ordered and not stream.unsent and not stream.shutdown:
            stream.shutdown = ended = True
            stream.ended |= script.echo
        return bool(count) or ended

    def _read(self, stream: HostStream, now: float) -> bool:
        if stream.paused or stream.end_reported:
            return False
        budget = self._network.receive_budget(stream.socket)
        assert budget >= 0
        if budget == 0:
            stream.paused = True
            return False
        if stream.incoming:
            count = min(budget, stream.script.read)
            data = bytes(stream.incoming[:count])
            del stream.incoming[:count]
            self._network.stream_received(stream.socket, data, now)
            return True
        if stream.ended:
            stream.end_reported = True
            self._network.stream_ended(stream.socket, now)
            return True
        return False

    def next_deadline(self) -> float | None:
        """The time when `report` must be called; None if it need not be."""
        times = [event[0] for event in self._events[:1]]
        times += [
            one.accept_at
            for one in self.streams.values()
            if (one.unsent or one.shutdown_ordered > one.shutdown) and not one.blocked and not one.closed
        ]
        return min(times, default=None)

    # Datagrams and echoes from outside

    def datagram(
        self,
        socket: SocketId,
        source: Endpoint,
        data: bytes,
        now: float,
        segment_size: int = 0,
        local: bytes | None = None,
    ) -> None:
        """A datagram, or a run of them, arrives at a socket."""
        self._network.datagram_received(socket, source, data, segment_size, 64, 0, now, local)

    def forward(
        self, port: int, now: float, *, guest_address: bytes | None = None, outgoing: tuple[int, ...] = ()
    ) -> SocketId:
        """Open a socket for datagrams from outside."""
        socket = self._network.forward_added(guest_address, port, now, outgoing)
        assert not self._known(socket), "a socket's name used twice"
        self.forwards.add(socket)
        return socket

    def remove_forward(self, socket: SocketId, now: float) -> None:
        """Close the socket of a forward."""
        assert socket in self.forwards, f"no forward has the name {socket}; see forwards"
        self.forwards.remove(socket)
        self.closed.add(socket)
        self._network.forward_removed(socket, now)
