"""Doors: sockets that listen for what is forwarded, and their service while there is a guest.

Theory of operation. A door is there as long as its rule is; a `DoorService` as long as a driver. Who comes through a
door goes one of two ways. From loopback to loopback, where the guest has one that we can reach, there are no frames:
connections are spliced, and datagrams relayed. All others go through the network.

Nothing is taken from a door while the guest's link has no room; and where this process can have no more descriptors,
connections wait for a moment in the backlog, instead of waking us in vain. Some descriptors are kept for what the guest
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
from sansnet_core.ports import TCP, Forward
from sansnet_trio.forward.binding import Spot, guest_spot
from sansnet_trio.forward.relay_udp import Entry, LoopbackEntry, Relay
from sansnet_trio.forward.splice_tcp import Splices, reset
from sansnet_trio.guest.socket_agent import GuestSockets, NoAgent
from sansnet_trio.host.datagrams import DatagramSocket
from sansnet_trio.host.sockaddr import SocketAddress, decode, encode, family_of
from sansnet_trio.host.socket_context import Shell
from sansnet_trio.host.sockets import HostSockets
from sansnet_trio.host.sockopts import Ancillary, read_local
from sansnet_trio.linux.descriptors import SHORTAGE

__all__ = ["Crossing", "Door", "DoorService", "host_socket"]

_MAX_BURST: Final = 64
"""Connections that are accepted for one event."""
_PAUSE: Final = 0.1
"""Seconds before the next try where no descriptor is left."""
_KEPT: Final = 4
"""One in so many descriptors is not for who comes from outside."""
_OTHER_SIZE: Final = {4: 16, 16: 4}
"""Bytes of an address -> those of one of the other family."""
_MAPPED: Final = bytes(10) + b"\xff\xff"
"""What precedes an IPv4 address that a socket for both families reports (RFC 4291, 2.5.5.2)."""


@dataclass(slots=True, eq=False)
class Door:
    """A socket that listens.

    Attributes:
        spot: what it is bound to.
        forward: the rule that it is there for.
        socket: it.
    """

    spot: Spot
    forward: Forward
    socket: Socket

    @property
    def leads_to(self) -> int:
        """A port of the other side."""
        return self.forward.leads_to(self.spot.port)

    def hears(self, address: bytes) -> bool:
        """Whether it is what a program of the same side reaches at this address and at the door's port."""
        bound = decode(self.socket.getsockname()).address
        return bound == address or is_unspecified(bound)

    def serves(self, rule: Forward) -> bool:
        """Whether it leads where this rule wants it to."""
        return (rule.target, rule.leads_to(self.spot.port)) == (self.forward.target, self.leads_to)


class Crossing:
    """The way from loopback to loopback.

    Args:
        doors: all that there are.
        splice: whether it is open from the host's side.
        to_loopback: whether what comes to the guest comes to its loopback address, even if it has others.
    """

    def __init__(self, doors: dict[Spot, Door], *, splice: bool, to_loopback: bool) -> None:
        self._doors = doors
        self._splice = splice
        self._to_loopback = to_loopback
        self._guest: GuestSockets | None = None
        self._own: dict[int, bytes] = {}

    @property
    def guest(self) -> GuestSockets | None:
        """The guest whose loopback we can reach, if there is one."""
        return self._guest

    def enter(self, guest: GuestSockets, own: dict[int, bytes]) -> None:
        """From now on there is this guest, with these addresses by size."""
        self._guest = guest
        self._own = own

    def is_for(self, forward: Forward, source: bytes) -> bool:
        """Whether who comes from this address takes this way."""
        if not forward.inbound:
            return True
        return self._splice and self._guest is not None and forward.target is None and is_loopback(source)

    def open(self, door: Door, size: int, local: bytes | None) -> tuple[Socket, SocketAddress]:
        """A socket of the other side, and what it is to be connected to.

        Args:
            door: through which somebody came.
            size: of the sender's address, which tells the family.
            local: what the sender had addressed. From the guest's side, that is the address of the host's as well.

        Raises:
            NoAgent: there are no sockets of the guest's now.
            OSError: there is no such socket, it would lead in a circle, or beyond loopback.
        """
        kind = SOCK_STREAM if door.spot.protocol == TCP else SOCK_DGRAM
        address = LOOPBACK[size]
        if not door.forward.inbound:
            address = local or address
            if not is_loopback(address):  # the guest's own, which its loopback interface has as well
                raise ConnectionRefusedError(errno.ECONNREFUSED, "not for a loopback address")
            return host_socket(family_of(address), kind), encode(address, door.leads_to)
        assert self._guest is not None
        if not self._to_loopback:
            address = self._own.get(size, address)
        other = self._doors.get(guest_spot(door.spot.protocol, size, door.leads_to))
        if other is not None and other.hears(address):
            raise ConnectionRefusedError(errno.ECONNREFUSED, "a door that leads back")
        return self._guest.socket(family_of(address), kind), encode(address, door.leads_to)


class DoorService:
    """Serves doors while one driver runs.

    Args:
        shell: what sockets share.
        sockets: those of the network.
        crossing: the way without frames.
        clock: tells the time where no event does.

    Raises:
        OSError: no descriptor is left.
    """

    def __init__(self, shell: Shell, sockets: HostSockets, crossing: Crossing, clock: Callable[[], float]) -> None:
        self._shell = shell
        self._sockets = sockets
        self._crossing = crossing
        self._clock = clock
        self._splices = Splices(shell.poller)
        self._relay = Relay(shell)
        self._ends: dict[Door, Callable[[], None]] = {}
        self._names: dict[Door, SocketId] = {}
        self._paused: list[Door] = []
        self._pause_ends = 0.0
        descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._kept_from = descriptors - descriptors // _KEPT
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        try:
            shell.poller.add(self._bell, EPOLLIN, self._rung)
        except OSError:
            os.close(self._bell)
            raise

    def begin(self, door: Door) -> None:
        """Serve a door.

        Raises:
            OSError: it cannot be waited for.
        """
        if door.spot.protocol == TCP:
            fd = door.socket.fileno()
            self._shell.poller.add(fd, EPOLLIN, partial(self._accept, door))
            self._ends[door] = partial(self._shell.poller.remove, fd)
        elif door.spot.inbound:
            self._begin_datagrams(door)
        else:
            self._ends[door] = LoopbackEntry(self._relay, self._entry(door)).close

    def end(self, door: Door) -> None:
        """Serve a door no longer. Connections that came through it go on; flows of datagrams do not."""
        self._ends.pop(door)()
        if (identity := self._names.pop(door, None)) is not None:
            self._shell.machine.forward_removed(identity, self._clock())

    def wake(self) -> None:
        """Have the driver look for orders and deadlines, although nothing has happened that it waits for."""
        os.eventfd_write(self._bell, 1)

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
            if any(not door.forward.inbound for door in paused):
                self._sockets.make_room(now)  # not in `_accept`, which must close no other descriptor than its own
            for door in paused:
                self._resume(door)

    def close(self) -> None:
        """Serve no door any more, and end what goes from loopback to loopback. The network is not told: it ends."""
        for end in self._ends.values():
            end()
        self._ends.clear()
        self._splices.close()
        self._relay.close()
        self._shell.poller.remove(self._bell)
        os.close(self._bell)

    def _rung(self, flags: int, now: float) -> None:
        os.eventfd_read(self._bell)

    # connections

    def _accept(self, door: Door, flags: int, now: float) -> None:
        if self._shell.blocked:
            self._shell.poller.change(door.socket.fileno(), 0)
            self._shell.parked.append(partial(self._resume, door))
            return
        for _ in range(_MAX_BURST):
            try:
                accepted, address = door.socket.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno not in SHORTAGE:
                    continue  # it was reset before we came to it
                self._shell.report_shortage(now)
                self._pause(door, now)
                return
            if accepted.fileno() >= self._kept_from:  # the kernel gives the lowest number that is free
                reset(accepted)
                self._shell.report_shortage(now)
                self._pause(door, now)
                return
            accepted.setblocking(False)
            self._welcome(door, accepted, _unmapped(decode(address)), now)

    def _welcome(self, door: Door, accepted: Socket, remote: Endpoint, now: float) -> None:
        if self._crossing.is_for(door.forward, remote.address):
            size = len(remote.address)
            try:
                local = None if door.forward.inbound else decode(accepted.getsockname()).address
                other, address = self._crossing.open(door, size, local)
            except NoAgent:
                pass  # the way by frames is as good as any
            except OSError:
                reset(accepted)
                return
            else:
                other_family = partial(self._crossing.open, door, _OTHER_SIZE[size], None)
                self._splices.join(accepted, other, address, other_family)
                return
        identity = self._shell.machine.stream_accepted(remote, door.forward.target, door.leads_to, now)
        if identity is None:
            reset(accepted)
        else:
            self._sockets.adopt_stream(identity, accepted, now)

    def _pause(self, door: Door, now: float) -> None:
        self._shell.poller.change(door.socket.fileno(), 0)
        if not self._paused:
            self._pause_ends = now + _PAUSE
        self._paused.append(door)

    def _resume(self, door: Door) -> None:
        if door in self._ends:
            self._shell.poller.change(door.socket.fileno(), EPOLLIN)

    # datagrams

    def _begin_datagrams(self, door: Door) -> None:
        machine, now = self._shell.machine, self._clock()
        identity = machine.datagram_forwarded(door.forward.target, door.leads_to, now, self._outgoing(door))
        entry = self._entry(door)
        try:
            served = _ForwardedDatagrams(self._shell, identity, door, self._crossing, self._relay, entry)
        except OSError:
            machine.forward_removed(identity, now)
            raise
        self._sockets.adopt_datagrams(identity, served)
        self._names[door] = identity
        self._ends[door] = partial(self._end_datagrams, identity, entry)

    def _outgoing(self, door: Door) -> tuple[int, ...]:
        """From the port that the outside knows, the guest may also speak first, if it reaches anybody from there."""
        spot = door.spot
        assert spot.address is not None
        size = len(spot.address)
        open_to_all = is_unspecified(spot.address) and spot.interface == self._shell.device(size)
        return (size,) if open_to_all and door.leads_to == spot.port else ()

    def _end_datagrams(self, identity: SocketId, entry: Entry) -> None:
        self._relay.leave(entry)
        self._sockets.release_datagrams(identity)

    def _entry(self, door: Door) -> Entry:
        assert door.spot.address is not None
        return Entry(door.socket, partial(self._connect, door, len(door.spot.address)))

    def _connect(self, door: Door, size: int, local: bytes | None) -> Socket:
        made, address = self._crossing.open(door, size, local)
        try:
            made.connect(address)
        except OSError:
            made.close()
            raise
        return made


class _ForwardedDatagrams(DatagramSocket):
    """A door's socket as one of the network's. It stays open when it is that no more: the door outlives the network."""

    __slots__ = ("_crossing", "_entry", "_forward", "_relay")

    def __init__(
        self, shell: Shell, identity: SocketId, door: Door, crossing: Crossing, relay: Relay, entry: Entry
    ) -> None:
        self._crossing = crossing
        self._forward = door.forward
        self._relay = relay
        self._entry = entry
        super().__init__(shell, identity, door.socket)

    def _deliver(
        self, source: Endpoint, data: bytes, ancillary: Ancillary, now: float, local: bytes | None = None
    ) -> None:
        local = read_local(ancillary)
        if self._crossing.is_for(self._forward, source.address):
            with suppress(NoAgent):  # the way by frames is as good as any
                self._relay.forward(self._entry, encode(*source), local, data, ancillary, now)
                return
        super()._deliver(source, data, ancillary, now, local)

    def close(self) -> None:
        """Leave the epoll set."""
        self._leave()


def host_socket(family: int, kind: int) -> Socket:
    """A new socket of the host's, non-blocking and closed on exec."""
    return Socket(family, kind | SOCK_NONBLOCK | SOCK_CLOEXEC)


def _unmapped(remote: Endpoint) -> Endpoint:
    address, port = remote
    return Endpoint(address[12:], port) if len(address) == 16 and address[:12] == _MAPPED else remote
