"""UDP of a simulated guest."""

from __future__ import annotations

import os
from collections import deque
from errno import EMSGSIZE
from typing import TYPE_CHECKING, Final

import trio

from sansnet_core import Endpoint, addresses
from sansnet_core.testing import packets

if TYPE_CHECKING:
    from collections.abc import Callable

    from sansnet_core.addresses import AnyAddress
    from sansnet_core.testing.packets import Ip

__all__ = ["SimulatedDatagrams"]

_MAX_QUEUE: Final = 1000
"""Datagrams that wait for `receive`; further ones are dropped, as by a full socket of the kernel."""
_MAX_DATA: Final = {4: 65507, 16: 65527}
"""Bytes of data in a datagram, by size of the address."""


class SimulatedDatagrams(trio.abc.AsyncResource):
    """A UDP socket of a simulated guest, for both families.

    Attributes:
        port: its port.
    """

    def __init__(
        self,
        port: int,
        address: Callable[[int], bytes],
        send: Callable[[Ip], None],
        registry: dict[int, SimulatedDatagrams],
    ) -> None:
        self.port: Final = port
        self._address = address
        self._send = send
        self._registry = registry
        registry[port] = self
        self._queue: deque[tuple[bytes, Endpoint]] = deque()
        self._changed = trio.lowlevel.ParkingLot()
        self._errno = self._ended = 0
        self._closed = False

    async def send(self, data: bytes, peer: tuple[AnyAddress, int]) -> None:
        """Send a datagram.

        Args:
            data: up to 65507 bytes (65527 for IPv6). The guest fragments a packet larger than its MTU.
            peer: the destination: address and port.

        Raises:
            OSError: ENETUNREACH, the guest has no address of this family; EMSGSIZE; or the errno of an ICMP error
                about an earlier datagram.
        """
        await trio.lowlevel.checkpoint()
        self._check()
        host, port = addresses.packed(peer[0]), peer[1]
        if len(data) > _MAX_DATA[len(host)]:
            raise OSError(EMSGSIZE, os.strerror(EMSGSIZE))
        self._send(packets.udp(self._address(len(host)), self.port, host, port, bytes(data)))

    async def receive(self) -> tuple[bytes, Endpoint]:
        """Receive a datagram: its data, and its sender as the guest sees it.

        Raises:
            OSError: an ICMP error about a datagram that was sent, as for a connected socket of the kernel.
        """
        await trio.lowlevel.checkpoint()
        while not self._queue:
            self._check()
            await self._changed.park()
        self._check()
        return self._queue.popleft()

    async def aclose(self) -> None:
        """Close the socket; its port is free then."""
        if not self._closed:
            self._closed = True
            del self._registry[self.port]
            self._changed.unpark_all()
        await trio.lowlevel.checkpoint()

    def deliver(self, data: bytes, source: Endpoint) -> None:
        """Take a datagram that came for this port."""
        if len(self._queue) < _MAX_QUEUE:
            self._queue.append((data, source))
            self._changed.unpark()

    def fail(self, errno: int) -> None:
        """Take an ICMP error about a datagram of this port."""
        self._errno = errno
        self._changed.unpark_all()

    def update(self, now: float) -> bool:
        """Whether the socket is open; see `Member`."""
        return not self._closed

    def end(self, errno: int) -> None:
        """Fail with an errno from now on; see `Member`."""
        self._ended = errno
        self._changed.unpark_all()

    def _check(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError("this socket was closed")
        errno, self._errno = self._errno or self._ended, 0
        if errno:
            raise OSError(errno, os.strerror(errno))
