"""A network between a hostile guest and a host, in virtual time: plays its driver, and checks its outputs."""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable, Sequence
from errno import ETIMEDOUT
from hashlib import sha256
from typing import Any, Final

from sansnet_core.addresses import Endpoint
from sansnet_core.config import NetworkConfig
from sansnet_core.network import Network
from sansnet_core.notices import Notice
from sansnet_core.orders import (
    CloseSocket,
    DeliverDatagram,
    OpenStream,
    Order,
    SendDatagram,
    SendStream,
    ServeStream,
    SocketId,
)
from sansnet_core.testing.guest import GuestStack
from sansnet_core.testing.host_sockets import HostSockets, Kind, Socket
from sansnet_core.testing.netem import Impairment, Netem
from sansnet_core.testing.operations.content import Content
from sansnet_core.testing.operations.conversations import Conversations, Key, UnknownPacket, guests_segment
from sansnet_core.testing.operations.proxies import ProxyEnd
from sansnet_core.testing.operations.transfers import FIRST_PORT, Transfer
from sansnet_core.testing.operations.watch import check_frame
from sansnet_core.testing.packets import IPV4, TCP, glue, read_frame, read_ip, read_segments
from sansnet_core.testing.pair import SECRET
from sansnet_core.testing.tcp_options import GuestTcpOptions

__all__ = ["HostEnd", "World"]

_MAX_ROUNDS: Final = 10_000
_LATEST: Final = 8
_START: Final = 1000.0
_LIVELY: Final = 900.0
"""Virtual seconds in which all transfers end: a few times the longest retransmission timeout."""
_LONG: Final = 100_000.0
"""Virtual seconds after which nothing is left: more than all keep-alive probes take."""


class HostEnd:
    """The remote of one stream of the host.

    Attributes:
        key: the connection of the guest that it serves; None for a connection of the network itself.
        content: its bytes; None if the network itself is the other end.
        written: bytes of it that were read.
        waiting: bytes of it that wait to be read.
        ends: it has ended its side, behind them.
        full: the socket takes nothing.
        got: bytes of the guest that the network has ordered to send.
        proxy: the dialogue before; None if there is none.
        wild: it has sent what it should not, so that nothing is known of its bytes.
    """

    def __init__(self, key: Key | None, content: Content | None) -> None:
        self.key = key
        self.content = content
        self.written = self.waiting = self.got = 0
        self.extra = bytearray()
        self.ends = self.full = self.wild = False
        self.proxy: ProxyEnd | None = None


class World:
    """A network between a hostile guest and a host, and all that is known of both.

    Args:
        config: the configuration of the network.
        connects: how the host's connects end by themselves: an errno, 0 for success, None for not at all.
        listen: gets each frame to the guest, glued, after it was checked.
        network: makes the network.

    Attributes:
        network: the network.
        guest: the stack of the well-behaved part of the guest.
        now: virtual time in seconds.
        wait: operations after which the outputs are taken again.
        sockets: the model of the host's sockets.
        conversations: the guest's connections.
        first, config: the configuration at the beginning, and now.
        servers: the name servers of the host.
        frames_in, frames_out: the latest frames of the guest, and the latest packets to it.
        questions: the questions at name servers: socket, server, message.
        sent_datagrams: the latest order of each socket.
        delivered: the guest's endpoint and the destination of the latest datagram of each service.
        notices: the latest ones.
        digest: of all outputs so far.
        split: each frame is an input of its own.
        transfers: connections of well-behaved programs, by the guest's port.
        up, down: the cable for them.
    """

    def __init__(
        self,
        config: NetworkConfig,
        *,
        connects: int | None = 0,
        listen: Callable[[bytes], None] = lambda frame: None,
        network: Callable[..., Network] = Network,
    ) -> None:
        self.first = self.config = config
        self._connects = connects
        self._proxies = {proxy.server: proxy.kind for proxy in config.proxies}
        self.servers = config.resolver.servers if config.resolver is not None else ()
        self.now = _START
        self.split = False
        self.transfers: dict[int, Transfer] = {}
        self.up, self.down = Netem(seed=1), Netem(seed=2)
        self._silent = self._impaired = False
        self.network = network(self.config, now=self.now, secret=SECRET)
        self.guest = GuestStack(vnet=config.link.vnet_header, gateway_mac=config.mac)
        self.sockets = HostSockets()
        self.conversations = Conversations(frozenset(self.config.dns_servers))
        self.ends: dict[SocketId, HostEnd] = {}
        self.frames_in: deque[bytes] = deque(maxlen=_LATEST)
        self.frames_out: deque[bytes] = deque(maxlen=_LATEST)
        self.questions: deque[tuple[SocketId, Endpoint, bytes]] = deque(maxlen=_LATEST)
        self.sent_datagrams: dict[SocketId, SendDatagram] = {}
        self.delivered: dict[SocketId, tuple[Endpoint, Endpoint]] = {}
        self.notices: list[Notice] = []
        self.digest = sha256()
        self.wait = 0
        self.counted_in = self.counted_out = 0
        self._listen = listen

    # the guest

    def receive(self, *frames: bytes) -> None:
        """Frames come from the hostile part of the guest."""
        self.frames_in.extend(frames)
        self._receive(frames)

    def _receive(self, frames: Sequence[bytes]) -> None:
        self.counted_in += len(frames)
        for frame in frames:
            self._note(frame)
        for batch in [[frame] for frame in frames] if self.split else [frames]:
            self.network.receive_frames(batch, self.now)

    def transfer(self, remote: Endpoint, options: GuestTcpOptions, up: int, down: int) -> None:
        """A well-behaved program of the guest connects."""
        port = FIRST_PORT + len(self.transfers)
        connection = self.guest.connect(remote, options, port=port, now=self.now)
        connection.send(Content(port).at(0, up))
        connection.shutdown()
        made = Transfer(connection, up, down, Content(0))
        made.content = self.conversations.of_host(made.key) or made.content
        self.transfers[port] = made

    def cable(self, impairment: Impairment) -> None:
        """Let the cable of the well-behaved programs have faults, both ways."""
        self._impaired = impairment != Impairment()
        self.up.become(impairment)
        self.down.become(impairment)

    def _note(self, frame: bytes) -> None:
        """Note what the guest sends on its connections."""
        try:
            segment = guests_segment(frame[12 if self.config.link.vnet_header else 0 :])
        except (struct.error, IndexError):
            return
        except UnknownPacket:
            self.conversations.distrust()
            return
        if segment is not None:
            self.conversations.note_sent(segment)

    # outputs

    def settle(self) -> None:
        """Take the outputs unless they are to wait, and let the host work, until nothing moves."""
        if self.wait:
            self.wait -= 1
            return
        for _ in range(_MAX_ROUNDS):
            self._pump()
            moved = self.outputs()
            if not self._work() and not moved:
                return
        raise AssertionError("outputs without an end")

    def _pump(self) -> None:
        """Move the frames of well-behaved programs, both ways."""
        if self._silent:
            return
        vnet = self.config.link.vnet_header
        for frame in self.down.take(self.now):
            read = read_frame(frame, vnet=vnet)
            for segment in read_segments(read_ip(read), read.gso_size):
                self.transfers[segment.destination_port].receive(segment, self.now)
        self.guest.at(self.now)
        self.up.put(self.guest.take_frames(), self.now)
        if arrived := self.up.take(self.now):
            self._receive(arrived)

    def settle_now(self) -> None:
        """Take the outputs, also if they are to wait: no order may come for a socket that the driver closes now."""
        self.wait = 0
        self.settle()

    def outputs(self) -> bool:
        """Take all outputs once; whether there were any."""
        orders = self.network.take_orders()
        for order in orders:
            self.obey(order)
        frames = self.network.take_frames()
        for frame in frames:
            self._frame(glue(frame))
        more = self.network.take_orders()  # making frames may bring orders
        for order in more:
            self.obey(order)
        self.notices = self.network.take_notices()
        made = [*map(_plain, orders), *map(glue, frames), *map(_plain, more), *self.notices]
        self.digest.update(repr(made).encode())
        return bool(orders or frames or more)

    def _frame(self, frame: bytes) -> None:
        self.counted_out += 1
        _, ip = read = check_frame(self.config, frame)
        self._listen(frame)
        if ip is None:
            return
        self.frames_out.append(ip.emit())
        if ip.protocol == TCP and (read[0].ethertype != IPV4 or ip.fragment & 0x3FFF == 0):
            for segment in read_segments(ip, read[0].gso_size):
                self.conversations.receive(segment)
            if segment.destination_port in self.transfers:
                self.down.put([frame], self.now)

    def obey(self, order: Order) -> None:
        """Carry out an order."""
        self.sockets.judge(order)
        if isinstance(order, OpenStream):
            self._begin(order.socket, order.guest, order.destination, order.remote)
        elif isinstance(order, SendStream):
            self._check(order)
        elif isinstance(order, SendDatagram):
            self.sent_datagrams[order.socket] = order
            if order.remote in self.servers:
                self.questions.append((order.socket, order.remote, bytes(order.data)))
        elif isinstance(order, ServeStream):
            self._begin(order.socket, order.guest, order.destination, None)
        elif isinstance(order, CloseSocket) and order.abort and (self._impaired or order.errno != ETIMEDOUT):
            self._excuse(order.socket)
        elif isinstance(order, DeliverDatagram):
            self.delivered[order.socket] = order.guest, order.destination

    def _excuse(self, socket: SocketId) -> None:
        """The transfer of a socket need not end well: its host failed, or the network had a reason to end it."""
        end = self.ends.get(socket)
        if end is not None and end.key is not None and end.key[0].port in self.transfers:
            self.transfers[end.key[0].port].failed = True

    def _begin(self, socket: SocketId, guest: Endpoint, destination: Endpoint, remote: Endpoint | None) -> None:
        if not guest.port:
            self.ends[socket] = HostEnd(None, None)
            return
        end = self.ends[socket] = HostEnd((guest, destination), self.conversations.of_host((guest, destination)))
        if guest.port in self.transfers:
            end.waiting, end.ends = self.transfers[guest.port].down, True
        if remote in self._proxies:
            end.proxy = ProxyEnd(self._proxies[remote])

    def _check(self, order: SendStream) -> None:
        """Check the bytes of the guest that go to the host."""
        end, data = self.ends[order.socket], bytes(order.data)
        if end.proxy is not None:
            data = end.proxy.receive(data)
            end.extra += end.proxy.replies
            end.proxy.replies.clear()
        if end.key is None:
            self.questions.append((order.socket, self.servers[0], data[2:]))
            return
        known = self.conversations.get(end.key)
        place, end.got = end.got, end.got + len(data)
        if known is not None and not known.wild and not end.wild:
            assert known.content.at(place, len(data)) == data, f"wrong bytes for socket {order.socket} at {place}"

    # the host

    def adopt(self, socket: SocketId, remote: Endpoint) -> None:
        """A stream that an outsider or the program opened."""
        self.sockets.accepted(socket, remote)
        ends = self.network.stream_endpoints(socket)
        assert ends is not None, "a connection without ends"
        self.ends[socket] = HostEnd(ends, self.conversations.of_host(ends))

    def fail(self, socket: Socket, errno: int, error: Any) -> None:
        """A stream fails."""
        self._excuse(socket.name)
        self.sockets.failed(socket.name)
        self.network.stream_failed(socket.name, errno, error, self.now)

    def connect(self, socket: Socket) -> None:
        """A connect succeeds."""
        self.sockets.connected(socket.name)
        self.network.stream_connected(socket.name, self.now)

    def _work(self) -> bool:
        """Let the host's sockets do what they would do by themselves; whether any did."""
        moved = False
        for socket in self.sockets.of(Kind.STREAM):
            if not socket.open:
                continue  # an earlier one of this round closed it
            if not socket.connected:
                if self._connects is not None:
                    if self._connects:
                        self.fail(socket, self._connects, None)
                    else:
                        self.connect(socket)
                    moved = True
                continue
            moved |= self._take(socket, 16)
            moved |= self._read(socket)
        return moved

    def _take(self, socket: Socket, part: int) -> bool:
        end = self.ends[socket.name]
        count = 0 if end.full else socket.unsent * part // 16
        if not count:
            return False
        self.take(socket, count)
        return True

    def take(self, socket: Socket, count: int) -> None:
        """A stream's socket takes bytes."""
        self.sockets.sent(socket.name, count)
        self.network.stream_sent(socket.name, count, self.now)

    def _read(self, socket: Socket) -> bool:
        end = self.ends[socket.name]
        if socket.paused or socket.ended or not (end.waiting or end.extra or end.ends):
            return False
        budget = self.network.receive_budget(socket.name)
        self.sockets.budget(socket.name, budget)
        if not budget:
            return False
        data = bytes(end.extra[:budget])
        del end.extra[: len(data)]
        if not data and end.waiting:
            size = min(budget, end.waiting, 1 << 16)
            data = end.content.at(end.written, size) if end.content is not None else bytes(size)
            end.written += size
            end.waiting -= size
        if data:
            self.sockets.received(socket.name, len(data))
            self.network.stream_received(socket.name, data, self.now)
        else:
            self.sockets.ended(socket.name)
            self.network.stream_ended(socket.name, self.now)
        return True

    # time

    def pass_time(self, seconds: float) -> None:
        """Let time pass, deadline by deadline."""
        end = self.now + seconds
        for _ in range(_MAX_ROUNDS):
            parties = (self.network,) if self._silent else (self.network, self.guest, self.up, self.down)
            deadlines = [time for party in parties if (time := party.next_deadline()) is not None]
            deadline = min(deadlines, default=end + 1)
            if deadline > end:
                break
            self.now = max(self.now, deadline)
            self.network.handle_deadline(self.now)
            if not self._silent:
                self.guest.handle_deadline(self.now)
            self.settle()
        else:
            raise AssertionError(f"{_MAX_ROUNDS} deadlines within {seconds} s")
        self.now = end

    def finish(self) -> None:
        """All hosts read and take: what was transferred arrives. Then the guest is silent: nothing is left.

        Raises:
            AssertionError: that is not so.
        """
        self.settle_now()
        self.cable(Impairment())
        self._connects = 0
        for end in self.ends.values():
            end.full = False
        self.settle()
        self.pass_time(_LIVELY)
        for port, transfer in self.transfers.items():
            # An old SYN may have made another connection
            got = [end.got for end in self.ends.values() if end.key is not None and end.key[0].port == port]
            transfer.check(max(got, default=0))
        self._silent = True
        for forward in self.sockets.of(Kind.FORWARD):
            self.sockets.forward_removed(forward.name)
            self.network.forward_removed(forward.name, self.now)
        for service in self.sockets.of(Kind.SERVICE, Kind.FLOW):
            self.sockets.service_removed(service.name)
            self.network.service_removed(service.name, self.now)
        self.settle()
        self.pass_time(_LONG)
        left = [socket for socket in self.sockets.all.values() if socket.open and socket.kind is not Kind.QUESTION]
        assert not left, f"{len(left)} sockets outlive a guest's silence: {left[:3]}"
        assert not self.sockets.questions, f"questions without an end: {self.sockets.questions}"
        counted = self.network.statistics()
        assert counted.tcp_held == 0, f"{counted.tcp_held} bytes are left"
        assert not self.network.flows(), f"flows are left: {self.network.flows()[:3]}"

    def begin_again(self) -> None:
        """Let another guest begin after `finish`. All is forgotten, but by the network itself."""
        self.conversations, self.transfers, self.ends = Conversations(frozenset(self.first.dns_servers)), {}, {}
        self.sockets, self.sent_datagrams, self.delivered = HostSockets(), {}, {}
        self.guest = GuestStack(vnet=self.config.link.vnet_header, gateway_mac=self.config.mac)
        self._silent = False


def _plain(order: Order) -> object:
    """An order that prints as the same text always: a view of bytes prints its address."""
    data = getattr(order, "data", None)
    return order if data is None or isinstance(data, bytes) else (type(order).__name__, order.socket, bytes(data))
