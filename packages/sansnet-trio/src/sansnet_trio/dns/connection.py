"""Questions over one TCP connection (RFC 1035, section 4.2.2; RFC 7766)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio

from sansnet_trio.dns.message import MAX_SIZE_TCP

if TYPE_CHECKING:
    from sansnet_core import Endpoint
    from sansnet_trio.dns.exchange import Answers, Exchange
    from sansnet_trio.services.carrier import NetworkView

__all__ = ["Connection"]

_LENGTH: Final = 2
"""Bytes of the length before each message."""
_PIPELINED: Final = 16
"""Questions of one connection that are answered at the same time. The next ones wait in the connection."""


class Connection:
    """A guest's connection. Questions are answered as the answers come (RFC 7766, section 6.2.1.1).

    Args:
        answers: answers the questions.
        stream: the connection; the caller closes it.
        guest: the endpoint of the guest.
        network: the guest's network, if it is known.
        idle_time: seconds for each message to arrive, and for each response to be taken.
    """

    def __init__(
        self,
        answers: Answers,
        stream: trio.abc.Stream,
        guest: Endpoint,
        network: NetworkView | None,
        idle_time: float,
    ) -> None:
        self._answers = answers
        self._stream = stream
        self._guest = guest
        self._network = network
        self._idle_time = idle_time
        self._received = bytearray()
        self._window = trio.Semaphore(_PIPELINED)
        self._turn = trio.Lock()
        self._blocked = False

    async def run(self) -> None:
        """Answer until the guest ends its stream, is idle, or sends a message that gets no response.

        Raises:
            trio.BrokenResourceError: the guest has reset the connection.
            trio.TooSlowError: the guest does not read its responses.
        """
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            while (message := await self._receive()) is not None:
                exchange = self._answers.begin(message, self._guest, self._network)
                if exchange is None:
                    break
                if exchange.reply is not None:
                    await self._respond(exchange)
                else:
                    await self._window.acquire()
                    nursery.start_soon(self._finish, exchange)
        if self._blocked:
            raise trio.TooSlowError

    async def _finish(self, exchange: Exchange) -> None:
        await exchange.finish()
        await self._respond(exchange)
        self._window.release()

    async def _respond(self, exchange: Exchange) -> None:
        self._answers.counts["tcp"] += 1
        response = exchange.response(MAX_SIZE_TCP)
        async with self._turn:
            with trio.move_on_after(self._idle_time) as limit:
                await self._stream.send_all(len(response).to_bytes(_LENGTH) + response)
            if limit.cancelled_caught:  # nothing may follow the part that was sent
                self._blocked = True
                self._nursery.cancel_scope.cancel()

    async def _receive(self) -> bytes | None:
        """The next message; None if none arrives."""
        with trio.move_on_after(self._idle_time):
            if await self._fill(_LENGTH):
                end = _LENGTH + int.from_bytes(self._received[:_LENGTH])
                if await self._fill(end):
                    message = bytes(self._received[_LENGTH:end])
                    del self._received[:end]
                    return message
        return None

    async def _fill(self, size: int) -> bool:
        """Receive until there are `size` bytes; whether there are."""
        while len(self._received) < size:
            data = await self._stream.receive_some(MAX_SIZE_TCP)
            if not data:
                return False
            self._received += data
        return True
