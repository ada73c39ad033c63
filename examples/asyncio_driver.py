"""A driver on asyncio: TCP and UDP between a guest's tap and the host's sockets, with the standard library alone.

Each socket has tasks of its own, which wait for it and report facts by `tell`, the invariant of docs/write-a-driver.md.
Left out: pings, keepalive, TTL and TOS of datagrams, ICMP errors, offloads, forwarded ports, services and decisions.
asyncio_embed.py gives a command a network by this driver.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from sansnet_core import Endpoint, Network, orders
from sansnet_core.addresses import format

MAX_FRAME = 65535
FRAMES_AT_ONCE, MAX_PENDING = 64, 1024
LINGER = 60.0
"""Seconds in which a socket that the network has closed sends the rest of its data."""
RESET, NO_RESET = struct.pack("ii", 1, 0), struct.pack("ii", 0, 0)
"""Values of SO_LINGER: close() resets the connection, or does not."""


class LinkClosed(Exception):
    """The guest's interface is gone."""


class AsyncioDriver:
    """Runs a network over `tap`, a descriptor that carries one frame per read and write. The caller closes it."""

    def __init__(self, network: Network, tap: int) -> None:
        self.network, self.tap = network, tap
        self.loop = asyncio.get_running_loop()
        self.sockets: dict[orders.SocketId, Stream | Datagrams] = {}
        self.pending: deque[orders.Frame] = deque()
        self.room = asyncio.Event()
        """The link has room: otherwise no socket is read, and the kernels of the remote hosts slow their senders."""
        self.timer: asyncio.TimerHandle | None = None

    async def run(self) -> None:
        """Serve the guest until its interface is gone. At the end, connections that have not ended are reset."""
        self.room.set()
        try:
            async with asyncio.TaskGroup() as self.tasks:  # an exception in the block cancels all tasks
                self.tell(self.network.guest_attached)
                await self.read_link()
        except* LinkClosed:
            pass
        finally:
            self.loop.remove_writer(self.tap)
            if self.timer:
                self.timer.cancel()

    def tell(self, fact: Callable[..., None], *values: object) -> None:
        """Report a fact, carry out the orders until there are none, write the frames, and set the timer."""
        fact(*values, self.loop.time())
        while batch := self.network.take_orders():
            for order in batch:
                self.carry_out(order)
        self.pending += self.network.take_frames()
        self.write_link()
        if self.timer:
            self.timer.cancel()
        if (deadline := self.network.next_deadline()) is not None:
            self.timer = self.loop.call_at(deadline, self.tell, self.network.handle_deadline)

    def carry_out(self, order: orders.Order) -> None:
        """Carry out one order. Orders for a socket that has failed are ignored."""
        match order, self.sockets.get(order.socket):
            case orders.OpenStream() | orders.OpenDatagram(), _:
                try:
                    opened = Stream(self, order) if isinstance(order, orders.OpenStream) else Datagrams(self, order)
                    self.sockets[order.socket] = opened
                except OSError as failed:  # no descriptor is left; datagrams are lost
                    if isinstance(order, orders.OpenStream):
                        self.network.stream_failed(order.socket, errno_of(failed), None, self.loop.time())
            case orders.SendStream(data=data), Stream() as stream:
                stream.outgoing.put_nowait(data)
            case orders.ShutdownStream(), Stream() as stream:
                stream.outgoing.put_nowait(b"")
            case orders.ResumeStream(), Stream() as stream:
                stream.resumed.set()
            case orders.SendDatagram(), Datagrams() as datagrams:
                datagrams.send(order)
            case orders.CloseSocket(abort=abort), (Stream() | Datagrams()) as closed:
                del self.sockets[order.socket]
                closed.close(abort)

    async def read_link(self) -> None:
        """Take frames from the guest until its interface is gone. While many frames wait for room, take none."""
        while True:
            await readable(self.tap)
            if len(self.pending) > MAX_PENDING:
                await self.room.wait()
            frames: list[bytes] = []
            try:
                while len(frames) < FRAMES_AT_ONCE:
                    frames.append(os.read(self.tap, MAX_FRAME))
            except BlockingIOError:
                pass
            except OSError as gone:
                raise LinkClosed from gone
            self.tell(self.network.receive_frames, frames)

    def write_link(self) -> None:
        """Write the pending frames as far as there is room."""
        while self.pending:
            frame = self.pending[0]
            try:
                os.writev(self.tap, frame if isinstance(frame, tuple) else (frame,))
            except BlockingIOError:
                self.room.clear()
                return self.loop.add_writer(self.tap, self.write_link)
            except OSError:
                pass  # the interface is down: the frame is lost, as on a cable
            self.pending.popleft()
        if not self.room.is_set():
            self.room.set()
            self.loop.remove_writer(self.tap)


class Stream:
    """A TCP connection of the host. Its socket is closed with a reset, unless its stream to the remote has ended."""

    def __init__(self, driver: AsyncioDriver, order: orders.OpenStream) -> None:
        self.driver, self.name = driver, order.socket
        self.socket, self.remote = open_socket(socket.SOCK_STREAM, order.remote)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.outgoing: asyncio.Queue[orders.Buffer] = asyncio.Queue()
        """Data of the guest, of which the network bounds the size; b"" is the end."""
        self.resumed = asyncio.Event()
        self.sending = self.closing = False
        self.task = driver.tasks.create_task(self.run())
        self.task.add_done_callback(lambda _: self.socket.close())

    async def run(self) -> None:
        """Connect, then receive and send until `close`. A failure is a fact."""
        try:
            await self.driver.loop.sock_connect(self.socket, self.remote)
            self.sending = True
            self.driver.tell(self.driver.network.stream_connected, self.name)
            async with asyncio.TaskGroup() as both:
                both.create_task(self.receive())
                both.create_task(self.send())
            await self.driver.loop.create_future()
        except* OSError as failed:
            if self.driver.sockets.pop(self.name, None):
                self.driver.tell(self.driver.network.stream_failed, self.name, errno_of(failed), None)

    async def receive(self) -> None:
        """Receive no more than the network has room for."""
        network, loop = self.driver.network, self.driver.loop
        while True:
            await readable(self.socket)
            await self.driver.room.wait()
            if not (budget := network.receive_budget(self.name)):
                self.resumed.clear()
                await self.resumed.wait()
            elif data := await loop.sock_recv(self.socket, budget):
                self.driver.tell(network.stream_received, self.name, data)
            else:
                return self.driver.tell(network.stream_ended, self.name)

    async def send(self) -> None:
        """Send as fast as the socket takes the data: the guest's window stays closed by those that are not reported."""
        while data := await self.outgoing.get():
            await self.driver.loop.sock_sendall(self.socket, data)
            if not self.closing:
                self.driver.tell(self.driver.network.stream_sent, self.name, len(data))
        self.sending = False
        self.socket.shutdown(socket.SHUT_WR)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_RESET)
        if self.closing:
            self.task.cancel()

    def close(self, abort: bool) -> None:
        """Close, after the data that wait are sent or at once. Nothing is reported any more."""
        self.closing = True
        if self.sending and not abort:
            self.outgoing.put_nowait(b"")
            self.driver.loop.call_later(LINGER, self.task.cancel)
            return
        if abort:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.task.cancel()


class Datagrams:
    """A UDP socket of the host, which stands for one endpoint of the guest. It has many peers."""

    def __init__(self, driver: AsyncioDriver, order: orders.OpenDatagram) -> None:
        self.driver, self.name = driver, order.socket
        self.socket, (host, port) = open_socket(socket.SOCK_DGRAM, order.local)
        for wanted in (port, 0):
            with suppress(OSError):  # the port is in use, or privileged
                self.socket.bind((host, wanted))
                break
        self.task = driver.tasks.create_task(self.run())
        self.task.add_done_callback(lambda _: self.socket.close())

    async def run(self) -> None:
        """Receive until `close`."""
        network, loop = self.driver.network, self.driver.loop
        while True:
            await self.driver.room.wait()
            data, (host, port, *_) = await loop.sock_recvfrom(self.socket, MAX_FRAME)
            source = Endpoint(host.partition("%")[0], port)
            self.driver.tell(network.datagram_received, self.name, source, data, 0, 64, 0)

    def send(self, order: orders.SendDatagram) -> None:
        """Send a datagram. A failure is a fact. Runs of datagrams need offloads, which this link lacks."""
        try:
            self.socket.sendto(order.data, (format(order.remote.address), order.remote.port))
        except OSError as failed:
            error = orders.ExtendedError(errno_of(failed), orders.ORIGIN_LOCAL, type=0, code=0, info=0, offender=None)
            now = self.driver.loop.time()
            self.driver.network.datagram_failed(self.name, order.remote, error, bytes(order.data), now)

    def close(self, abort: bool) -> None:
        """Close the socket."""
        self.task.cancel()


def open_socket(kind: socket.SocketKind, place: Endpoint) -> tuple[socket.socket, tuple[str, int]]:
    """A socket of the family of an endpoint, and the endpoint as Python's sockets take it."""
    opened = socket.socket(socket.AF_INET if len(place.address) == 4 else socket.AF_INET6, kind)
    opened.setblocking(False)
    if opened.family == socket.AF_INET6:
        opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    return opened, (format(place.address), place.port)


async def readable(file: int | socket.socket) -> None:
    """Wait until a file can be read."""
    loop, event = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(file, event.set)
    try:
        await event.wait()
    finally:
        loop.remove_reader(file)


def errno_of(error: OSError | BaseExceptionGroup[OSError]) -> int:
    """The error number of the first exception of nested groups."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error.errno or 0
