"""A connection between the program and the guest, as a trio stream."""

from __future__ import annotations

from functools import partial
from operator import index
from typing import TYPE_CHECKING

import trio

from sansnet_trio.linux.descriptors import Uncopyable
from sansnet_trio.services.exclusive import Exclusive
from sansnet_trio.services.unclosed import close_unclosed

if TYPE_CHECKING:
    from sansnet_core import Endpoint
    from sansnet_trio.services.carrier import NetworkView
    from sansnet_trio.services.stream_end import StreamEnd

__all__ = ["GuestStream"]


class GuestStream(Uncopyable, trio.abc.HalfCloseableStream):
    """A TCP connection between the program and the guest, without a socket of the host.

    It behaves as `trio.SocketStream`. `trio.BrokenResourceError` has the reason as its `__cause__`, an `OSError`:
    ECONNRESET if the guest has reset the connection, ETIMEDOUT if it does not answer any more, ENETDOWN if the driver
    has ended. Data that came before that can still be received. `aclose` returns at once, and the core sends what is
    left; but it resets the connection if there are data that were not received, or if more arrive. A stream that is
    dropped without being closed causes a `ResourceWarning`, and its connection is reset.

    Attributes:
        guest: the guest's endpoint.
        destination: the program's endpoint, as the guest sees it.
        network: the guest's network; None if the program made the driver itself.
    """

    __slots__ = ("_end", "_receiving", "_sending", "_token")

    def __init__(self, end: StreamEnd) -> None:
        self._end = end
        self._sending = Exclusive("another task is sending on this stream")
        self._receiving = Exclusive("another task is receiving from this stream")
        self._token = trio.lowlevel.current_trio_token()

    def __del__(self) -> None:
        end = self._end
        if not (end.released or end.over):
            close_unclosed(self, self._token, partial(end.release, abort=True), used=True)

    @property
    def guest(self) -> Endpoint:
        return self._end.guest

    @property
    def destination(self) -> Endpoint:
        return self._end.destination

    @property
    def network(self) -> NetworkView | None:
        return self._end.carrier.view

    def __repr__(self) -> str:
        return f"<GuestStream {self.guest} {self.destination}>"

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Receive data; b"" at the end.

        Args:
            max_bytes: the most bytes to return; None returns all that have arrived.

        Raises:
            ValueError: `max_bytes` is less than 1.
            TypeError: `max_bytes` is not an integer.
            trio.BrokenResourceError: see the class.
            trio.ClosedResourceError: this stream was closed.
            trio.BusyResourceError: another task is receiving.
        """
        if max_bytes is not None and (max_bytes := index(max_bytes)) < 1:
            raise ValueError(f"max_bytes: {max_bytes} is less than 1; leave it out to receive all that have arrived")
        with self._receiving:
            return await self._end.receive(max_bytes)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send data. Returns when all are in buffers, from which they are sent as the guest's window allows.

        If it is cancelled, some of the data may have been sent.

        Raises:
            trio.BrokenResourceError: see the class.
            trio.ClosedResourceError: this stream was closed, or `send_eof` was called.
            trio.BusyResourceError: another task is sending.
        """
        with self._sending:
            await self._end.send(data)

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until there is room for data. Raises as `send_all`."""
        with self._sending:
            await self._end.wait_for_buffer()

    async def send_eof(self) -> None:
        """End the data to the guest; it can still send. Raises as `send_all`."""
        with self._sending:
            await self._end.send_eof()

    async def aclose(self) -> None:
        """Close the stream; see the class. Other tasks that use it get `trio.ClosedResourceError`."""
        self._end.release()
        await trio.lowlevel.checkpoint()

    def abort(self) -> None:
        """Reset the connection, and close the stream."""
        self._end.release(abort=True)
