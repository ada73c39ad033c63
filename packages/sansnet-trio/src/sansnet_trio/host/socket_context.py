"""The state that all host sockets of one driver share."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from socket import SO_BINDTODEVICE, SOL_SOCKET, SocketType
from types import MappingProxyType
from typing import Final, Protocol

from sansnet_core import addresses
from sansnet_trio.host.network_protocol import NetworkProtocol, TrafficProtocol
from sansnet_trio.host.poller import Poller
from sansnet_trio.linux.descriptors import MORE_DESCRIPTORS

__all__ = ["READ_AT_ONCE", "SocketContext", "Unread"]

_log: Final = logging.getLogger("sansnet")

_QUIET: Final = 60.0
"""Seconds between two warnings of one kind, since a guest can cause any number of them."""
READ_AT_ONCE: Final = 256 * 1024
"""Bytes after which no further stream is read before the guest gets its frames: then they are still in the cache of the
processor. The last read may exceed it."""
_BUFFER: Final = 65536  # larger than any datagram, and than any run of them that UDP_GRO makes


class Unread(Protocol):
    """A stream that may hold data which no event will report."""

    def read(self, now: float) -> None:
        """Read it."""


class SocketContext:
    """The network, the epoll set, and whether the guest's link has room.

    Args:
        network: the facts about sockets are reported to it.
        poller: the epoll set.
        scope: index of the interface for link-local addresses; 0 if there is none.
        devices: names of the interfaces that sockets must use, by size of the address (4 or 16 bytes). A family that is
            not in it may use any interface.
        traffic: the most frequent facts are reported to it; None for the network.

    Attributes:
        blocked: the guest's link has no room, so sockets are not read. A socket that becomes readable then stops
            reporting EPOLLIN and appends a callback to `parked`.
        parked: callbacks to call when there is room again.
        unread: the streams that may hold data which no event will report, the first to be read first. They are read in
            the next round, if the link has room; one that has more then is put at the end.
        allowance: bytes that streams may still read in this round; see `READ_AT_ONCE`.
        woken: a task of this program has got something to do since this was last set to False.
        buffer: scratch space for a received datagram, valid until the next one is received.
        view: a view of `buffer`.
        datagrams_dropped: number of datagrams and echo requests that the host had no room for, or that were similar to
            one that it had just refused; and of datagrams from link-local senders on another link than the guest's.
    """

    __slots__ = (
        "_devices",
        "_quiet_until",
        "allowance",
        "blocked",
        "buffer",
        "datagrams_dropped",
        "network",
        "parked",
        "poller",
        "scope",
        "traffic",
        "unread",
        "view",
        "woken",
    )

    def __init__(
        self,
        network: NetworkProtocol,
        poller: Poller,
        scope: int,
        devices: Mapping[int, str] = MappingProxyType({}),
        traffic: TrafficProtocol | None = None,
    ) -> None:
        self._devices = devices
        self.network = network
        self.traffic: TrafficProtocol = network if traffic is None else traffic
        self.poller = poller
        self.scope = scope
        self.blocked = self.woken = False
        self.parked: list[Callable[[], None]] = []
        self.unread: list[Unread] = []
        self.allowance = READ_AT_ONCE
        self.buffer = bytearray(_BUFFER)
        self.view = memoryview(self.buffer)
        self.datagrams_dropped = 0
        self._quiet_until = float("-inf")

    def device(self, size: int) -> str | None:
        """Name of the interface that sockets for addresses of this size must use; None if they may use any."""
        return self._devices.get(size)

    def report_shortage(self, now: float) -> None:
        """Log a warning that no descriptor is left, at most once per `_QUIET` seconds."""
        if now >= self._quiet_until:
            self._quiet_until = now + _QUIET
            _log.warning(
                "no descriptor is left for more connections, so some of them wait or fail; %s", MORE_DESCRIPTORS
            )

    def choose_device(self, sock: SocketType, address: bytes) -> None:
        """Restrict a socket to the interface for its family, before it is bound or connected to an address.

        Sockets for loopback addresses are not restricted.

        Raises:
            OSError: the interface does not exist any more.
        """
        device = self.device(len(address))
        if device is not None and not addresses.is_loopback(address):
            sock.setsockopt(SOL_SOCKET, SO_BINDTODEVICE, device.encode())
