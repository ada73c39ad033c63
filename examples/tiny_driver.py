"""A driver for TCP in one file, without trio: the whole contract of `sansnet_core` as a loop.

The invariant: after every input to the network, carry out its orders until there are none, then write its frames.
"""

from __future__ import annotations

import selectors
import socket
import time

from sansnet_core import (
    CloseSocket,
    Network,
    OpenStream,
    Order,
    ResumeStream,
    SendStream,
    ShutdownStream,
    SocketId,
)

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


class TinyDriver:
    """Carries frames between `link`, a socket that carries one frame per message, and the host's TCP sockets."""

    def __init__(self, network: Network, link: socket.socket) -> None:
        self.network = network
        self.link = link
        self.selector = selectors.DefaultSelector()
        self.selector.register(link, READ)
        self.streams: dict[SocketId, socket.socket] = {}
        self.names: dict[int, SocketId] = {}
        self.connecting: set[SocketId] = set()
        self.unsent: dict[SocketId, bytearray] = {}
        self.shut: set[SocketId] = set()
        self.paused: set[SocketId] = set()

    def run(self, until: float) -> None:
        """Serve the guest until the monotonic clock reaches `until`."""
        while (now := time.monotonic()) < until:
            deadline = min(until, self.network.next_deadline() or until)
            for key, events in self.selector.select(max(0.0, deadline - now)):
                now = time.monotonic()
                if key.fileobj is self.link:
                    self.network.receive_frames([self.link.recv(1 << 17)], now)
                else:
                    self.ready(self.names[key.fd], events, now)
                self.flush(now)
            self.network.handle_deadline(time.monotonic())
            self.flush(time.monotonic())

    def flush(self, now: float) -> None:
        """Carry out the orders, then write the frames: see the invariant."""
        while orders := self.network.take_orders():
            for order in orders:
                self.carry_out(order, now)
        for frame in self.network.take_frames():
            self.link.send(b"".join(frame) if isinstance(frame, tuple) else frame)

    def carry_out(self, order: Order, now: float) -> None:
        """Carry out one order, and report its outcome to the network."""
        match order:
            case OpenStream(name, remote):
                family = socket.AF_INET if len(remote.address) == 4 else socket.AF_INET6
                stream = socket.socket(family, socket.SOCK_STREAM)
                stream.setblocking(False)
                stream.connect_ex((socket.inet_ntop(family, remote.address), remote.port))
                self.streams[name], self.names[stream.fileno()] = stream, name
                self.unsent[name] = bytearray()
                self.connecting.add(name)
                self.selector.register(stream, WRITE)
            case SendStream(name, data) if name in self.streams:
                self.unsent[name] += data
                self.send(name, now)
            case ShutdownStream(name) if name in self.streams:
                self.shut.add(name)
                self.send(name, now)
            case ResumeStream(name) if name in self.streams:
                self.paused.discard(name)
                self.watch(name)
            case CloseSocket(name) if name in self.streams:
                self.close(name)
            case _:
                pass  # UDP and echo are left out; orders for a socket that has failed are ignored

    def ready(self, name: SocketId, events: int, now: float) -> None:
        """Handle the events of a stream."""
        stream = self.streams[name]
        if name in self.connecting:
            self.connecting.discard(name)
            if errno := stream.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                self.close(name)
                self.network.stream_failed(name, errno, None, now)
                return
            self.network.stream_connected(name, now)
        elif events & WRITE:
            self.send(name, now)
        elif budget := self.network.receive_budget(name):
            self.receive(name, budget, now)
        else:
            self.paused.add(name)
        self.watch(name)

    def receive(self, name: SocketId, budget: int, now: float) -> None:
        """Read at most `budget` bytes, the room that the network has."""
        try:
            data = self.streams[name].recv(budget)
        except OSError as error:
            self.close(name)
            self.network.stream_failed(name, error.errno or 0, None, now)
            return
        if data:
            self.network.stream_received(name, data, now)
        else:
            self.paused.add(name)
            self.network.stream_ended(name, now)

    def send(self, name: SocketId, now: float) -> None:
        """Send waiting data, and report how many bytes the socket took."""
        unsent, stream = self.unsent[name], self.streams[name]
        if unsent:
            try:
                count = stream.send(unsent)
            except BlockingIOError:
                count = 0
            except OSError as error:
                self.close(name)
                self.network.stream_failed(name, error.errno or 0, None, now)
                return
            del unsent[:count]
            self.network.stream_sent(name, count, now)
        if not unsent and name in self.shut:
            self.shut.discard(name)
            stream.shutdown(socket.SHUT_WR)
        self.watch(name)

    def watch(self, name: SocketId) -> None:
        """Poll a stream for the events that we can handle."""
        if name not in self.streams:
            return
        stream = self.streams[name]
        wanted = (0 if name in self.paused else READ) | (WRITE if self.unsent[name] else 0)
        if stream.fileno() in self.selector.get_map():
            self.selector.unregister(stream)
        if wanted:
            self.selector.register(stream, wanted)

    def close(self, name: SocketId) -> None:
        """Close a stream and remove it from all tables."""
        stream = self.streams.pop(name)
        if stream.fileno() in self.selector.get_map():
            self.selector.unregister(stream)
        del self.names[stream.fileno()], self.unsent[name]
        stream.close()
