"""UDP from loopback to loopback, from socket to socket.

Theory of operation. An *entry* is a socket that is bound to a port which is forwarded. For each sender who comes to an
entry there is a flow: a socket on the other side, connected to where the port leads. What comes back through that goes
to the sender, from the address that it had sent to. Flows end when they were silent for some time; beyond a limit the
one that was silent longest gives way to a new one.

Runs of datagrams are passed on as runs (UDP_GRO, UDP_SEGMENT). What the other side does not take, or refuses, is lost,
as it may be with UDP; that nobody listens there, the sender is not told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from select import EPOLLERR, EPOLLIN
from socket import IPPROTO_UDP, SO_ERROR, SOL_SOCKET
from socket import socket as Socket
from typing import Final, NamedTuple, TypeAlias

from sansnet_trio.guest.socket_agent import NoAgent
from sansnet_trio.host.sockaddr import SocketAddress
from sansnet_trio.host.socket_context import SocketContext
from sansnet_trio.host.sockopts import (
    NO_RUNS,
    UDP_GRO,
    Ancillary,
    read_ancillary,
    read_local,
    segment_message,
    source_message,
)

__all__ = ["Entry", "LoopbackEntry", "Relay"]

_IDLE_ONCE: Final = 30.0
_IDLE_STREAM: Final = 180.0
"""Seconds of silence after which a flow ends that saw one direction, and one that saw both; as in `Limits`."""
_CHECK_INTERVAL: Final = 5.0
"""Seconds between looks for silent flows, while there are any."""
_MAX_FLOWS: Final = 1024
_MAX_BURST: Final = 32
_CONTROL: Final = 128


class Entry(NamedTuple):
    """What a flow needs to know of the port that it came through.

    Attributes:
        socket: bound to it.
        connect: makes a socket on the other side that is connected to where it leads, given what the sender addressed;
            or raises OSError.
    """

    socket: Socket
    connect: Callable[[bytes | None], Socket]


_Key: TypeAlias = tuple[int, SocketAddress, bytes | None]
"""The entry's descriptor, the sender, and what it addressed."""


class _Flow:
    __slots__ = ("address", "answered", "entry", "heard", "key", "local", "relay", "socket")

    def __init__(self, relay: Relay, key: _Key, entry: Entry, made: Socket) -> None:
        self.relay = relay
        self.key = key
        self.entry = entry
        _, self.address, self.local = key
        self.socket = made
        self.heard = 0.0
        self.answered = False

    def ready(self, flags: int, now: float) -> None:
        for data, ancillary, _ in _receive(self.socket, self.relay.context, flags):
            self.answered = True
            self.heard = now
            _send(self.entry.socket, data, ancillary, self.address, self.local)

    def timeout(self) -> float:
        """How long it may be silent."""
        return _IDLE_STREAM if self.answered else _IDLE_ONCE


class Relay:
    """All flows of one driver.

    Args:
        context: the epoll set and the scratch space.
    """

    def __init__(self, context: SocketContext) -> None:
        self.context = context
        self._flows: dict[_Key, _Flow] = {}
        self._next_check = 0.0

    def __len__(self) -> int:
        """How many flows there are."""
        return len(self._flows)

    def forward(
        self, entry: Entry, address: SocketAddress, local: bytes | None, data: bytes, ancillary: Ancillary, now: float
    ) -> None:
        """Pass on what came through an entry.

        Args:
            entry: which one.
            address: of the sender.
            local: what the sender had addressed, if that is known.
            data: a datagram or a run of them.
            ancillary: what came with it.
            now: seconds.

        Raises:
            NoAgent: the guest's side cannot be had now.
        """
        key = entry.socket.fileno(), address, local
        flow = self._flows.get(key)
        if flow is None:
            if not self._flows:
                self._next_check = now + _CHECK_INTERVAL
            try:
                flow = self._flows[key] = self._open(key, entry)
            except NoAgent:
                raise
            except OSError:
                self.context.datagrams_dropped += 1
                return
        flow.heard = now
        _send(flow.socket, data, ancillary, None, None)

    def _open(self, key: _Key, entry: Entry) -> _Flow:
        if len(self._flows) >= _MAX_FLOWS:
            self._end([min(self._flows.values(), key=lambda flow: flow.heard)])
        made = entry.connect(key[2])
        try:
            made.setsockopt(IPPROTO_UDP, UDP_GRO, 1)
            flow = _Flow(self, key, entry, made)
            self.context.poller.add(made.fileno(), EPOLLIN, flow.ready)
        except OSError:
            made.close()
            raise
        return flow

    def next_deadline(self) -> float | None:
        """When `handle_deadline` must be called."""
        return self._next_check if self._flows else None

    def handle_deadline(self, now: float) -> None:
        """End the flows that were silent for too long."""
        if self._flows and now >= self._next_check:
            self._next_check = now + _CHECK_INTERVAL
            self._end(flow for flow in self._flows.values() if now - flow.heard >= flow.timeout())

    def end_flows(self, entry: Entry) -> None:
        """End the flows through an entry that closes."""
        self._end(flow for flow in self._flows.values() if flow.entry is entry)

    def close(self) -> None:
        """End all flows."""
        self._end(self._flows.values())

    def _end(self, flows: Iterable[_Flow]) -> None:
        for flow in list(flows):
            del self._flows[flow.key]
            self.context.poller.retire(flow.socket)


class LoopbackEntry:
    """A socket that is bound to a loopback address: all that comes through it is relayed.

    Args:
        relay: the flows.
        entry: it.

    Raises:
        OSError: it could not be waited for.
    """

    def __init__(self, relay: Relay, entry: Entry) -> None:
        self._relay = relay
        self._entry = entry
        self._fd = entry.socket.fileno()
        relay.context.poller.add(self._fd, EPOLLIN, self._ready)

    def _ready(self, flags: int, now: float) -> None:
        for data, ancillary, address in _receive(self._entry.socket, self._relay.context, flags):
            self._relay.forward(self._entry, address, read_local(ancillary), data, ancillary, now)

    def close(self) -> None:
        """Wait for it no longer; it stays open."""
        self._relay.end_flows(self._entry)
        self._relay.context.poller.remove(self._fd)


def _receive(made: Socket, context: SocketContext, flags: int) -> Iterator[tuple[bytes, Ancillary, SocketAddress]]:
    """What a socket has, up to a limit."""
    if flags & EPOLLERR:  # nobody listens where something was sent
        made.getsockopt(SOL_SOCKET, SO_ERROR)
    for _ in range(_MAX_BURST):
        try:
            size, ancillary, _, address = made.recvmsg_into((context.buffer,), _CONTROL)
        except BlockingIOError:
            return
        except OSError:
            continue
        yield bytes(context.view[:size]), ancillary, address


def _send(made: Socket, data: bytes, ancillary: Ancillary, address: SocketAddress | None, local: bytes | None) -> None:
    """Pass a datagram on, or a run of them; one by one if the route does not take a run.

    Args:
        made: where to send it.
        data: it.
        ancillary: what it came with.
        address: whom to send it to, if the socket is not connected.
        local: the source address, if the socket has several.
    """
    size, _, _ = read_ancillary(ancillary)
    source = [] if local is None else [source_message(local)]
    with suppress(OSError):
        if 0 < size < len(data):
            try:
                made.sendmsg([data], [*source, segment_message(size)], 0, address)
            except OSError as error:
                if error.errno not in NO_RUNS:
                    return
                for start in range(0, len(data), size):
                    made.sendmsg([data[start : start + size]], source, 0, address)
        else:
            made.sendmsg([data], source, 0, address)
