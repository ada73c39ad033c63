"""What all host sockets of one driver share."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from socket import SO_BINDTODEVICE, SOL_SOCKET, socket
from types import MappingProxyType
from typing import Final

from sansnet_core import addresses
from sansnet_trio.host.network_protocol import NetworkProtocol
from sansnet_trio.host.poller import Poller
from sansnet_trio.linux.descriptors import MORE_DESCRIPTORS

__all__ = ["SocketContext"]

_log: Final = logging.getLogger("sansnet")

_QUIET: Final = 60.0
"""Seconds between two warnings of one kind: a guest can cause as many as it likes."""
_BUFFER: Final = 65536  # more than any datagram, and than any run of them that UDP_GRO makes


class SocketContext:
    """The network that facts go to, the epoll set, and whether the guest takes frames.

    Args:
        network: facts go to it.
        poller: the epoll set.
        scope: index of the interface for link-local addresses; 0 if there is none.
        devices: names of the interfaces that sockets are bound to, by size of the addresses; of none, if there is none.

    Attributes:
        blocked: the guest's link has no room, so that sockets are not read. A socket that is readable meanwhile takes
            itself out of the epoll set's reports and puts a callback on `parked`.
        parked: callbacks for when there is room again.
        buffer: scratch space for datagrams; valid until the next one is received.
        view: the same.
        datagrams_dropped: datagrams and echo requests that the host had no room for, or whose like it just refused; and
            datagrams of link-local senders on another link than the guest's.
    """

    __slots__ = (
        "_devices",
        "_quiet_until",
        "blocked",
        "buffer",
        "datagrams_dropped",
        "network",
        "parked",
        "poller",
        "scope",
        "view",
    )

    def __init__(
        self, network: NetworkProtocol, poller: Poller, scope: int, devices: Mapping[int, str] = MappingProxyType({})
    ) -> None:
        self._devices = devices
        self.network = network
        self.poller = poller
        self.scope = scope
        self.blocked = False
        self.parked: list[Callable[[], None]] = []
        self.buffer = bytearray(_BUFFER)
        self.view = memoryview(self.buffer)
        self.datagrams_dropped = 0
        self._quiet_until = float("-inf")

    def device(self, size: int) -> str | None:
        """Name of the interface that sockets for addresses of that size are bound to, if they are to one."""
        return self._devices.get(size)

    def report_shortage(self, now: float) -> None:
        """No descriptor is left for something: say so, but not all the time."""
        if now >= self._quiet_until:
            self._quiet_until = now + _QUIET
            _log.warning(
                "no descriptor is left for more connections, so some of them wait or fail; %s", MORE_DESCRIPTORS
            )

    def choose_device(self, sock: socket, address: bytes) -> None:
        """Before a socket is bound or connected to an address: let it use the interface for its family alone.

        Raises:
            OSError: that is not there any more.
        """
        device = self.device(len(address))
        if device is not None and not addresses.is_loopback(address):
            sock.setsockopt(SOL_SOCKET, SO_BINDTODEVICE, device.encode())
