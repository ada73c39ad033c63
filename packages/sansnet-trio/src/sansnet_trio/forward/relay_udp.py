"""Relaying UDP from loopback to loopback, between sockets of the two sides.

Theory of operation. An *entry* is a socket that is bound to a forwarded port. Each sender to an entry has a flow: a
socket on the other side, connected to the forward's target. Answers go back to the sender, from the address that it
sent to. A flow ends after some time of silence; beyond a limit, a new flow replaces the one with the longest silence.

Runs of datagrams are passed on as runs (UDP_GRO, UDP_SEGMENT). Datagrams that the other side cannot take or refuses are
lost, as with any UDP; the sender does not learn that the port is closed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from select import EPOLLERR, EPOLLIN
from socket import IPPROTO_UDP, SO_ERROR, SOL_SOCKET
from socket import socket as Socket
from typing import Final, NamedTuple, TypeAlias

from sansnet_trio.guest.socket_agent import NoAgent
from sansnet_trio.host.sockaddr import SocketAddress, decode
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
from sansnet_trio.linux.descriptors import NO_DESCRIPTOR

__all__ = ["Entry", "LoopbackEntry", "Relay"]

_IDLE_ONCE: Final = 30.0
_IDLE_STREAM: Final = 180.0
"""Seconds of silence that end a flow: without an answer, and with answers; as in `Limits`."""
_CHECK_INTERVAL: Final = 5.0
"""Seconds between searches for silent flows, while there are flows."""
_MAX_FLOWS: Final = 1024
_MAX_BURST: Final = 32
_CONTROL: Final = 128


class Entry(NamedTuple):
    """A forwarded port, as its flows see it.

    Attributes:
        socket: the socket that is bound to the port.
        connect: makes a socket on the other side and connects it to the forward's target; gets the address that the
            sender sent to, if it is known. Raises OSError.
    """

    socket: Socket
    connect: Callable[[bytes | None], Socket]


_Key: TypeAlias = tuple[int, SocketAddress, bytes | None]
"""The entry's descriptor, the sender's address, and the address that it sent to."""


class _Flow:
    __slots__ = ("address", "answered", "entry", "key", "last_active", "local", "relay", "socket")

    def __init__(self, relay: Relay, key: _Key, entry: Entry, made: Socket) -> None:
        self.relay = relay
        self.key = key
        self.entry = entry
        _, self.address, self.local = key
        self.socket = made
        self.last_active = 0.0
        self.answered = False

    def ready(self, flags: int, now: float) -> None:
        for data, ancillary, _ in _receive(self.socket, self.relay.context, flags):
            self.answered = True
            self.last_active = now
            _send(self.entry.socket, data, ancillary, self.address, self.local)

    def timeout(self) -> float:
        """Seconds of silence that end the flow."""
        return _IDLE_STREAM if self.answered else _IDLE_ONCE


class Relay:
    """All relayed flows of one driver.

    Args:
        context: epoll set and receive buffer.
    """

    def __init__(self, context: SocketContext) -> None:
        self.context = context
        self._flows: dict[_Key, _Flow] = {}
        self._next_check = 0.0

    def __len__(self) -> int:
        """The number of flows."""
        return len(self._flows)

    def peers(self) -> Iterator[bytes]:
        """The addresses to which the flows lead."""
        for flow in self._flows.values():
            with suppress(OSError):  # its interface has gone
                yield decode(flow.socket.getpeername()).address

    def pass_on(
        self, entry: Entry, address: SocketAddress, local: bytes | None, data: bytes, ancillary: Ancillary, now: float
    ) -> None:
        """Pass on a datagram or a run that an entry received.

        Args:
            entry: the entry.
            address: address of the sender.
            local: the address that it sent to, if known.
            data: payload.
            ancillary: ancillary data of the message.
            now: time in seconds.

        Raises:
            NoAgent: no socket in the guest is available now.
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
            except OSError as error:
                self.context.datagrams_dropped += 1
                if error.errno in NO_DESCRIPTOR:
                    self.context.report_shortage(now)
                return
        flow.last_active = now
        _send(flow.socket, data, ancillary, None, None)

    def _open(self, key: _Key, entry: Entry) -> _Flow:
        if len(self._flows) >= _MAX_FLOWS:
            self._end([min(self._flows.values(), key=lambda flow: flow.last_active)])
        made = entry.connect(key[2])
        try:
            made.setsockopt(IPPROTO_UDP, UDP_GRO, 1)
            flow = _Flow(self, key, entry, made)
            self.context.poller.add(made.fileno(), EPOLLIN, flow.ready)
        except BaseException:
            made.close()
            raise
        return flow

    def next_deadline(self) -> float | None:
        """Time of the next `handle_deadline`; None without flows."""
        return self._next_check if self._flows else None

    def handle_deadline(self, now: float) -> None:
        """End the flows that have been silent for too long."""
        if self._flows and now >= self._next_check:
            self._next_check = now + _CHECK_INTERVAL
            self._end(flow for flow in self._flows.values() if now - flow.last_active >= flow.timeout())

    def end_flows(self, entry: Entry) -> None:
        """End the flows of an entry that is being closed."""
        self._end(flow for flow in self._flows.values() if flow.entry is entry)

    def close(self) -> None:
        """End all flows."""
        self._end(self._flows.values())

    def _end(self, flows: Iterable[_Flow]) -> None:
        for flow in list(flows):
            del self._flows[flow.key]
            self.context.poller.retire(flow.socket)


class LoopbackEntry:
    """An entry at a loopback address: all its datagrams are relayed.

    Args:
        relay: the flows.
        entry: the entry.

    Raises:
        OSError: its socket cannot be added to the epoll set.
    """

    def __init__(self, relay: Relay, entry: Entry) -> None:
        self._relay = relay
        self._entry = entry
        self._fd = entry.socket.fileno()
        relay.context.poller.add(self._fd, EPOLLIN, self._ready)

    def _ready(self, flags: int, now: float) -> None:
        for data, ancillary, address in _receive(self._entry.socket, self._relay.context, flags):
            self._relay.pass_on(self._entry, address, read_local(ancillary), data, ancillary, now)

    def close(self) -> None:
        """Stop receiving, and end its flows; the socket stays open."""
        self._relay.end_flows(self._entry)
        self._relay.context.poller.remove(self._fd)


def _receive(made: Socket, context: SocketContext, flags: int) -> Iterator[tuple[bytes, Ancillary, SocketAddress]]:
    """Receive from a socket, up to a limit of messages."""
    if flags & EPOLLERR:  # the destination refused a datagram; reading the error clears it
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
    """Send a datagram or a run; one by one if the route does not support runs.

    Args:
        made: socket to send with.
        data: payload.
        ancillary: ancillary data of the received message.
        address: destination, if the socket is not connected.
        local: source address, if the socket is bound to several.
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
