"""Listeners of forwarded ports, and serving them while a guest runs.

Theory of operation. A listener exists as long as its rule; a `ListenerService` as long as a driver. Clients take one of
two paths. From loopback to loopback, if we can make sockets in the guest, no frames are used: connections are spliced
and datagrams relayed. All other clients go through the network.

A listener is not read while the guest's link is full. Some descriptors are reserved for connections that the guest
begins. When only those are left, connections wait in the backlog, and their listeners pause, so that they do not wake
us for nothing (`DescriptorQueue`). Whether that is so is looked up only when descriptors may be few: a connection that
gets a reserved one nevertheless is reset.

For a second after a shortage, each listener accepts one connection per event, so that they take turns: the epoll set
reports first what was reported longest ago, and listeners resume in the order in which they paused.
"""

from __future__ import annotations

import errno
import math
import os
import resource
import select
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from select import EPOLLIN
from socket import SOCK_CLOEXEC, SOCK_DGRAM, SOCK_NONBLOCK, SOCK_STREAM, SocketType
from socket import socket as Socket
from typing import Final, TypeAlias

from sansnet_core import Endpoint, SocketId
from sansnet_core.addresses import LOOPBACK, is_loopback, is_unspecified
from sansnet_core.ports import TCP, ForwardRule
from sansnet_trio.forward.binding import ListenAddress, guest_listen_address
from sansnet_trio.forward.descriptor_queue import DescriptorQueue
from sansnet_trio.forward.relay_udp import Entry, LoopbackEntry, Relay
from sansnet_trio.forward.splice_tcp import Spliced, Splices, reset
from sansnet_trio.guest.socket_agent import GuestSockets, NoAgent
from sansnet_trio.host.datagrams import DatagramSocket, report_datagram
from sansnet_trio.host.sockaddr import SocketAddress, decode, decode_once, encode, family_of
from sansnet_trio.host.socket_context import SocketContext
from sansnet_trio.host.sockets import HostSockets
from sansnet_trio.host.sockopts import Ancillary, prepare_accepted, read_local
from sansnet_trio.linux.descriptors import SHORTAGE

__all__ = ["LoopbackPath", "Listener", "ListenerService", "host_socket"]

_MAX_BURST: Final = 64
"""Connections to accept for one event."""
_SHORT: Final = 1.0
"""Seconds after the last shortage in which listeners take turns."""
_RESERVED_SHARE: Final = 4
"""One in so many of the descriptors that are left at the start is reserved for connections that the guest begins."""
_OTHER_FAMILY: Final = {4: 16, 16: 4}
"""Bytes of an address -> bytes of an address of the other family."""
_MAPPED: Final = bytes(10) + b"\xff\xff"
"""Prefix of the IPv4 addresses that a socket for both families reports (RFC 4291, 2.5.5.2)."""


_Poll: TypeAlias = Callable[[int], list[tuple[int, int]]]
"""`select.poll.poll`, with milliseconds."""


class Listener:
    """A listening socket of a forwarded port.

    Attributes:
        at: where it is bound.
        forward: its rule.
        socket: the socket.
        family: its address family.
    """

    __slots__ = ("at", "family", "forward", "socket")

    def __init__(self, at: ListenAddress, forward: ForwardRule, socket: Socket) -> None:
        self.at = at
        self.forward = forward
        self.socket = socket
        self.family = socket.family

    @property
    def leads_to(self) -> int:
        """The port on the other side."""
        return self.forward.leads_to(self.at.port)

    def is_reached_at(self, address: bytes) -> bool:
        """Whether programs on the listener's side reach it at this address."""
        bound = decode(self.socket.getsockname()).address
        return bound == address or is_unspecified(bound)

    def has_target_of(self, rule: ForwardRule) -> bool:
        """Whether it leads to the same target as a rule."""
        return (rule.target, rule.leads_to(self.at.port)) == (self.forward.target, self.leads_to)


class LoopbackPath:
    """The loopback path: decides whether a client takes it, and opens the socket on the other side.

    Args:
        listeners: all listeners.
        splice: whether clients on the host may take the path.
        to_loopback: whether the path leads to the guest's loopback address even if the guest has others.

    Attributes:
        splice: see above.
    """

    def __init__(self, listeners: dict[ListenAddress, Listener], *, splice: bool, to_loopback: bool) -> None:
        self._listeners = listeners
        self.splice = splice
        self._to_loopback = to_loopback
        self._guest: GuestSockets | None = None
        self._own: dict[int, bytes] = {}

    @property
    def guest(self) -> GuestSockets | None:
        """The guest in which sockets can be made, if there is one."""
        return self._guest

    def set_guest(self, guest: GuestSockets, own: dict[int, bytes]) -> None:
        """Set the guest, and its addresses by size."""
        self._guest = guest
        self._own = own

    def takes(self, forward: ForwardRule, source: bytes) -> bool:
        """Whether a client with this address takes the loopback path."""
        if not forward.inbound:
            return True
        return self.splice and self._guest is not None and forward.target is None and is_loopback(source)

    def open(self, listener: Listener, size: int, local: bytes | None) -> tuple[Socket, SocketAddress]:
        """Make a socket on the other side, and find the address to connect it to.

        Args:
            listener: the listener that the client came through.
            size: size of the client's address in bytes, which tells the family.
            local: the address that the client connected or sent to. For a client in the guest, the host's service has
                the same address.

        Raises:
            NoAgent: no socket in the guest is available now.
            OSError: no socket can be made, or it would lead to a listener of ours or to no loopback address.
        """
        kind = SOCK_STREAM if listener.at.protocol == TCP else SOCK_DGRAM
        address = LOOPBACK[size]
        if not listener.forward.inbound:
            address = local or address
            if not is_loopback(address):  # an address of the guest, which its loopback interface has, too
                raise ConnectionRefusedError(errno.ECONNREFUSED, "not a loopback address")
            return host_socket(family_of(address), kind), encode(address, listener.leads_to)
        assert self._guest is not None
        if not self._to_loopback:
            address = self._own.get(size, address)
        other = self._listeners.get(guest_listen_address(listener.at.protocol, size, listener.leads_to))
        if other is not None and other.is_reached_at(address):
            raise ConnectionRefusedError(errno.ECONNREFUSED, "a listener that leads back")
        return self._guest.socket(family_of(address), kind), encode(address, listener.leads_to)


class ListenerService:
    """Serves listeners while one driver runs.

    Args:
        context: the socket context of the driver.
        sockets: the host sockets of the driver.
        path: the loopback path.
        clock: returns the time when no event provides it.

    Raises:
        OSError: no descriptor is left.
    """

    def __init__(
        self, context: SocketContext, sockets: HostSockets, path: LoopbackPath, clock: Callable[[], float]
    ) -> None:
        self._context = context
        self._sockets = sockets
        self._path = path
        self._clock = clock
        self._splices = Splices(context)
        self._relay = Relay(context)
        self._removals: dict[Listener, Callable[[], None]] = {}
        self._identities: dict[Listener, SocketId] = {}
        self._paused = DescriptorQueue(context.poller)
        self._guest_waits = False
        """One of the paused listeners is in the guest."""
        self._short_until = -math.inf
        self._wakeup = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._last = self._wakeup
        """The last number of a new descriptor: the kernel assigns the lowest free one."""
        descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._first_reserved = descriptors - (descriptors - self._last) // _RESERVED_SHARE
        try:
            context.poller.add(self._wakeup, EPOLLIN, self._woken)
        except OSError:
            os.close(self._wakeup)
            raise

    def begin(self, listener: Listener) -> None:
        """Start to serve a listener.

        Raises:
            OSError: it cannot be added to the epoll set.
        """
        if listener.at.protocol == TCP:
            prepare_accepted(listener.socket)  # what it accepts inherits the options
            fd = listener.socket.fileno()
            waiting = select.poll()
            waiting.register(fd, select.POLLIN)
            accept = partial(self._accept, listener, waiting.poll)
            self._context.poller.add(fd, EPOLLIN, accept)
            self._removals[listener] = partial(self._context.poller.remove, fd)
        elif listener.at.inbound:
            self._begin_datagrams(listener)
        else:
            self._removals[listener] = LoopbackEntry(self._relay, self._entry(listener)).close

    def end(self, listener: Listener) -> None:
        """Stop serving a listener. Its connections go on; its flows of datagrams end."""
        self._removals.pop(listener)()
        if (identity := self._identities.pop(listener, None)) is not None:
            self._context.network.forward_removed(identity, self._clock())

    def wake(self) -> None:
        """Wake the driver, so that it looks for new orders and deadlines."""
        os.eventfd_write(self._wakeup, 1)

    def peers(self) -> set[bytes]:
        """The addresses to which the connections and flows of the loopback path lead."""
        return {*self._splices.peers(), *self._relay.peers()}

    def spliced(self) -> Spliced:
        """The guest's part in the connections on the loopback path."""
        return self._splices.spliced()

    def next_deadline(self) -> float | None:
        """Time of the next `handle_deadline`; None if there is none."""
        relay = self._relay.next_deadline()
        if not (self._paused or self._splices.waiting):
            return relay
        waiting = min(self._paused.next_deadline(), self._splices.waiting.next_deadline())
        return waiting if relay is None else min(relay, waiting)

    def handle_deadline(self, now: float) -> None:
        """End silent flows, and let those go on that waited for a descriptor."""
        self._relay.handle_deadline(now)
        self._splices.waiting.handle_deadline(now)
        if self._paused.handle_deadline(now) and self._guest_waits:
            self._guest_waits = False
            if self._is_short():
                self._sockets.make_room(now)  # not in `_accept`, where the descriptor would be freed too late

    def close(self) -> None:
        """Stop serving all listeners, and end connections on the loopback path.

        The network ends with the driver, so it gets no `forward_removed`.
        """
        for remove in self._removals.values():
            remove()
        self._removals.clear()
        self._splices.close()
        self._relay.close()
        self._context.poller.remove(self._wakeup)
        os.close(self._wakeup)

    def _woken(self, flags: int, now: float) -> None:
        os.eventfd_read(self._wakeup)

    # connections

    def _accept(self, listener: Listener, more: _Poll, flags: int, now: float) -> None:
        if self._context.blocked:
            self._context.poller.change(listener.socket.fileno(), 0)
            self._context.parked.append(partial(self._resume, listener))
            return
        listening, family = listener.socket, listener.family
        for _ in range(1 if now < self._short_until else _MAX_BURST):
            if self._is_near_shortage(now) and self._is_short():
                self._pause(listener, now)
                return
            try:
                # `accept` calls this, and makes a larger object, which costs 3 us
                fd, address = listening._accept()  # type: ignore[attr-defined]  # typeshed does not have it
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno not in SHORTAGE:
                    continue  # the connection was reset before it was accepted
                self._pause(listener, now)
                return
            self._last = fd
            accepted = SocketType(family, SOCK_STREAM, 0, fd)
            if fd >= self._first_reserved:
                reset(accepted)
                self._pause(listener, now)
                return
            try:
                self._connect_accepted(listener, accepted, _unmap(decode_once(address)), now)
            except MemoryError:
                reset(accepted)
                raise
            except OSError as error:
                reset(accepted)
                if error.errno in SHORTAGE:
                    self._pause(listener, now)
                    return
            if not more(0):  # it costs less than the exception of an accept that finds nothing
                return

    def _connect_accepted(self, listener: Listener, accepted: SocketType, remote: Endpoint, now: float) -> None:
        """Connect it to the other side, or raise an exception of `LoopbackPath.open`."""
        if self._path.takes(listener.forward, remote.address):
            size = len(remote.address)
            try:
                local = None if listener.forward.inbound else decode(accepted.getsockname()).address
                other, address = self._path.open(listener, size, local)
            except NoAgent:
                pass  # take the path through the network
            else:
                accepted.setblocking(False)
                other_family = partial(self._path.open, listener, _OTHER_FAMILY[size], None)
                self._splices.join(accepted, other, address, other_family, inbound=listener.forward.inbound)
                return
        identity = self._context.traffic.stream_accepted(remote, listener.forward.target, listener.leads_to, now)
        if identity is None:
            reset(accepted)
        else:
            self._sockets.adopt_stream(identity, accepted, now)

    def _is_near_shortage(self, now: float) -> bool:
        return now < self._short_until or self._last >= self._first_reserved // 2

    def _is_short(self) -> bool:
        """Whether only reserved descriptors are left."""
        try:
            lowest = os.dup(self._wakeup)
        except OSError:
            return True
        os.close(lowest)
        return lowest >= self._first_reserved

    def _pause(self, listener: Listener, now: float) -> None:
        self._context.report_shortage(now)
        self._context.poller.change(listener.socket.fileno(), 0)
        self._short_until = now + _SHORT
        self._paused.wait(partial(self._resume, listener), now)
        self._guest_waits = self._guest_waits or not listener.forward.inbound

    def _resume(self, listener: Listener) -> None:
        if listener in self._removals:
            self._context.poller.change(listener.socket.fileno(), EPOLLIN)

    # datagrams

    def _begin_datagrams(self, listener: Listener) -> None:
        network, now = self._context.network, self._clock()
        identity = network.forward_added(listener.forward.target, listener.leads_to, now, self._outgoing(listener))
        entry = self._entry(listener)
        deliver = partial(self._deliver, listener, entry, identity)
        try:
            # The listener outlives the network, so it keeps its socket
            served = DatagramSocket(self._context, identity, listener.socket, deliver=deliver)
        except OSError:
            network.forward_removed(identity, now)
            raise
        self._sockets.adopt_datagrams(identity, served)
        self._identities[listener] = identity
        self._removals[listener] = partial(self._end_datagrams, identity, entry)

    def _deliver(
        self,
        listener: Listener,
        entry: Entry,
        identity: SocketId,
        source: Endpoint,
        data: bytes,
        ancillary: Ancillary,
        now: float,
    ) -> None:
        """Pass on what a listener received: to the relay if it takes the loopback path, else to the network."""
        local = read_local(ancillary)
        if self._path.takes(listener.forward, source.address):
            with suppress(NoAgent):  # then the network carries it
                self._relay.pass_on(entry, encode(*source), local, data, ancillary, now)
                return
        report_datagram(self._context, identity, source, data, ancillary, now, local)

    def _outgoing(self, listener: Listener) -> tuple[int, ...]:
        """Families in which the guest may also send first from this port: if any destination can be reached from it."""
        at = listener.at
        assert at.address is not None
        size = len(at.address)
        open_to_all = is_unspecified(at.address) and at.interface == self._context.device(size)
        return (size,) if open_to_all and listener.leads_to == at.port else ()

    def _end_datagrams(self, identity: SocketId, entry: Entry) -> None:
        self._relay.end_flows(entry)
        self._sockets.release_datagrams(identity)

    def _entry(self, listener: Listener) -> Entry:
        assert listener.at.address is not None
        return Entry(listener.socket, partial(self._connect, listener, len(listener.at.address)))

    def _connect(self, listener: Listener, size: int, local: bytes | None) -> Socket:
        made, address = self._path.open(listener, size, local)
        try:
            made.connect(address)
        except BaseException:
            made.close()
            raise
        return made


def host_socket(family: int, kind: int) -> Socket:
    """A new socket on the host, non-blocking and closed on exec."""
    return Socket(family, kind | SOCK_NONBLOCK | SOCK_CLOEXEC)


def _unmap(remote: Endpoint) -> Endpoint:
    address, port = remote
    return Endpoint._make((address[12:], port)) if len(address) == 16 and address[:12] == _MAPPED else remote
