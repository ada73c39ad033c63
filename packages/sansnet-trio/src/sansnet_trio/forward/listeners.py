"""Listeners: sockets that listen for what is forwarded, and their service while there is a guest.

Theory of operation. A listener is there as long as its rule is; a `ListenerService` as long as a driver. Who comes
through a listener goes one of two ways. From loopback to loopback, where the guest has one that we can reach, there are
no frames: connections are spliced, and datagrams relayed. All others go through the network.

Nothing is taken from a listener while the guest's link has no room; and where this process can have no more
descriptors, connections wait for a moment in the backlog, instead of waking us in vain. Some descriptors are kept for
what the guest
begins: who comes from outside when only those are left is reset.
"""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from select import EPOLLIN
from socket import SOCK_CLOEXEC, SOCK_DGRAM, SOCK_NONBLOCK, SOCK_STREAM
from socket import socket as Socket
from typing import Final

from sansnet_core import Endpoint, SocketId
from sansnet_core.addresses import LOOPBACK, is_loopback, is_unspecified
from sansnet_core.ports import TCP, ForwardRule
from sansnet_trio.forward.binding import ListenAddress, guest_listen_address
from sansnet_trio.forward.relay_udp import Entry, LoopbackEntry, Relay
from sansnet_trio.forward.splice_tcp import Splices, reset
from sansnet_trio.guest.socket_agent import GuestSockets, NoAgent
from sansnet_trio.host.datagrams import DatagramSocket, report_datagram
from sansnet_trio.host.sockaddr import SocketAddress, decode, encode, family_of
from sansnet_trio.host.socket_context import SocketContext
from sansnet_trio.host.sockets import HostSockets
from sansnet_trio.host.sockopts import Ancillary, read_local
from sansnet_trio.linux.descriptors import SHORTAGE

__all__ = ["LoopbackPath", "Listener", "ListenerService", "host_socket"]

_MAX_BURST: Final = 64
"""Connections that are accepted for one event."""
_PAUSE: Final = 0.1
"""Seconds before the next try where no descriptor is left."""
_RESERVED_SHARE: Final = 4
"""One in so many descriptors is not for who comes from outside."""
_OTHER_FAMILY: Final = {4: 16, 16: 4}
"""Bytes of an address -> those of one of the other family."""
_MAPPED: Final = bytes(10) + b"\xff\xff"
"""What precedes an IPv4 address that a socket for both families reports (RFC 4291, 2.5.5.2)."""


@dataclass(slots=True, eq=False)
class Listener:
    """A socket that listens.

    Attributes:
        at: what it is bound to.
        forward: the rule that it is there for.
        socket: it.
    """

    at: ListenAddress
    forward: ForwardRule
    socket: Socket

    @property
    def leads_to(self) -> int:
        """A port of the other side."""
        return self.forward.leads_to(self.at.port)

    def is_reached_at(self, address: bytes) -> bool:
        """Whether it is what a program of the same side reaches at this address and at the listener's port."""
        bound = decode(self.socket.getsockname()).address
        return bound == address or is_unspecified(bound)

    def leads_like(self, rule: ForwardRule) -> bool:
        """Whether it leads where this rule wants it to."""
        return (rule.target, rule.leads_to(self.at.port)) == (self.forward.target, self.leads_to)


class LoopbackPath:
    """The way from loopback to loopback.

    Args:
        listeners: all that there are.
        splice: whether it is open from the host's side.
        to_loopback: whether what comes to the guest comes to its loopback address, even if it has others.
    """

    def __init__(self, listeners: dict[ListenAddress, Listener], *, splice: bool, to_loopback: bool) -> None:
        self._listeners = listeners
        self._splice = splice
        self._to_loopback = to_loopback
        self._guest: GuestSockets | None = None
        self._own: dict[int, bytes] = {}

    @property
    def guest(self) -> GuestSockets | None:
        """The guest whose loopback we can reach, if there is one."""
        return self._guest

    def set_guest(self, guest: GuestSockets, own: dict[int, bytes]) -> None:
        """From now on there is this guest, with these addresses by size."""
        self._guest = guest
        self._own = own

    def takes(self, forward: ForwardRule, source: bytes) -> bool:
        """Whether who comes from this address takes this way."""
        if not forward.inbound:
            return True
        return self._splice and self._guest is not None and forward.target is None and is_loopback(source)

    def open(self, listener: Listener, size: int, local: bytes | None) -> tuple[Socket, SocketAddress]:
        """A socket of the other side, and what it is to be connected to.

        Args:
            listener: through which somebody came.
            size: of the sender's address, which tells the family.
            local: what the sender had addressed. From the guest's side, that is the address of the host's as well.

        Raises:
            NoAgent: there are no sockets of the guest's now.
            OSError: there is no such socket, it would lead in a circle, or beyond loopback.
        """
        kind = SOCK_STREAM if listener.at.protocol == TCP else SOCK_DGRAM
        address = LOOPBACK[size]
        if not listener.forward.inbound:
            address = local or address
            if not is_loopback(address):  # the guest's own, which its loopback interface has as well
                raise ConnectionRefusedError(errno.ECONNREFUSED, "not for a loopback address")
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
        context: what sockets share.
        sockets: those of the network.
        path: the way without frames.
        clock: tells the time where no event does.

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
        self._splices = Splices(context.poller)
        self._relay = Relay(context)
        self._removals: dict[Listener, Callable[[], None]] = {}
        self._identities: dict[Listener, SocketId] = {}
        self._paused: list[Listener] = []
        self._pause_ends = 0.0
        descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._first_reserved = descriptors - descriptors // _RESERVED_SHARE
        self._wakeup = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        try:
            context.poller.add(self._wakeup, EPOLLIN, self._woken)
        except OSError:
            os.close(self._wakeup)
            raise

    def begin(self, listener: Listener) -> None:
        """Serve a listener.

        Raises:
            OSError: it cannot be waited for.
        """
        if listener.at.protocol == TCP:
            fd = listener.socket.fileno()
            self._context.poller.add(fd, EPOLLIN, partial(self._accept, listener))
            self._removals[listener] = partial(self._context.poller.remove, fd)
        elif listener.at.inbound:
            self._begin_datagrams(listener)
        else:
            self._removals[listener] = LoopbackEntry(self._relay, self._entry(listener)).close

    def end(self, listener: Listener) -> None:
        """Serve a listener no longer. Connections that came through it go on; flows of datagrams do not."""
        self._removals.pop(listener)()
        if (identity := self._identities.pop(listener, None)) is not None:
            self._context.network.forward_removed(identity, self._clock())

    def wake(self) -> None:
        """Have the driver look for orders and deadlines, although nothing has happened that it waits for."""
        os.eventfd_write(self._wakeup, 1)

    def next_deadline(self) -> float | None:
        """When `handle_deadline` must be called."""
        relay = self._relay.next_deadline()
        if not self._paused:
            return relay
        return self._pause_ends if relay is None else min(relay, self._pause_ends)

    def handle_deadline(self, now: float) -> None:
        """Time passed."""
        self._relay.handle_deadline(now)
        if self._paused and now >= self._pause_ends:
            paused, self._paused = self._paused, []
            if any(not listener.forward.inbound for listener in paused):
                self._sockets.make_room(now)  # not in `_accept`, which must close no other descriptor than its own
            for listener in paused:
                self._resume(listener)

    def close(self) -> None:
        """Serve no listener any more, and end what goes from loopback to loopback. The network is not told: it ends."""
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

    def _accept(self, listener: Listener, flags: int, now: float) -> None:
        if self._context.blocked:
            self._context.poller.change(listener.socket.fileno(), 0)
            self._context.parked.append(partial(self._resume, listener))
            return
        for _ in range(_MAX_BURST):
            try:
                accepted, address = listener.socket.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno not in SHORTAGE:
                    continue  # it was reset before we came to it
                self._context.report_shortage(now)
                self._pause(listener, now)
                return
            if accepted.fileno() >= self._first_reserved:  # the kernel gives the lowest number that is free
                reset(accepted)
                self._context.report_shortage(now)
                self._pause(listener, now)
                return
            accepted.setblocking(False)
            self._connect_accepted(listener, accepted, _unmap(decode(address)), now)

    def _connect_accepted(self, listener: Listener, accepted: Socket, remote: Endpoint, now: float) -> None:
        if self._path.takes(listener.forward, remote.address):
            size = len(remote.address)
            try:
                local = None if listener.forward.inbound else decode(accepted.getsockname()).address
                other, address = self._path.open(listener, size, local)
            except NoAgent:
                pass  # the way by frames is as good as any
            except OSError:
                reset(accepted)
                return
            else:
                other_family = partial(self._path.open, listener, _OTHER_FAMILY[size], None)
                self._splices.join(accepted, other, address, other_family)
                return
        identity = self._context.network.stream_accepted(remote, listener.forward.target, listener.leads_to, now)
        if identity is None:
            reset(accepted)
        else:
            self._sockets.adopt_stream(identity, accepted, now)

    def _pause(self, listener: Listener, now: float) -> None:
        self._context.poller.change(listener.socket.fileno(), 0)
        if not self._paused:
            self._pause_ends = now + _PAUSE
        self._paused.append(listener)

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
            served = DatagramSocket(self._context, identity, listener.socket, deliver=deliver, keep_open=True)
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
                self._relay.forward(entry, encode(*source), local, data, ancillary, now)
                return
        report_datagram(self._context, identity, source, data, ancillary, now, local)

    def _outgoing(self, listener: Listener) -> tuple[int, ...]:
        """From the port that the outside knows, the guest may also speak first, if it reaches anybody from there."""
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
        except OSError:
            made.close()
            raise
        return made


def host_socket(family: int, kind: int) -> Socket:
    """A new socket of the host's, non-blocking and closed on exec."""
    return Socket(family, kind | SOCK_NONBLOCK | SOCK_CLOEXEC)


def _unmap(remote: Endpoint) -> Endpoint:
    address, port = remote
    return Endpoint(address[12:], port) if len(address) == 16 and address[:12] == _MAPPED else remote
