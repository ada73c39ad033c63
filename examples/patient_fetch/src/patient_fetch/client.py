"""GET by HTTP/1.1, with a time limit for each attempt and a pause that doubles before the next one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

import h11
import trio

__all__ = ["Connect", "FetchError", "Patience", "fetch"]

Connect: TypeAlias = Callable[[str, int], Awaitable[trio.abc.Stream]]
"""Opens a connection to a host and a port. `trio.open_tcp_stream` is one; a test gives that of a simulated guest."""


class FetchError(Exception):
    """No attempt was successful."""


@dataclass(frozen=True)
class Patience:
    """How long to try.

    Attributes:
        attempts: most attempts.
        limit: seconds for one attempt.
        pause: seconds before the second attempt; it doubles before each further one.
    """

    attempts: int = 3
    limit: float = 5.0
    pause: float = 1.0


async def fetch(
    host: str,
    path: str = "/",
    *,
    port: int = 80,
    patience: Patience = Patience(),
    connect: Connect = trio.open_tcp_stream,
) -> bytes:
    """Get the body of a document.

    Args:
        host: name or address of the server.
        path: the path of the document.
        port: the port of the server.
        patience: how long to try.
        connect: opens the connection.

    Raises:
        FetchError: all attempts failed; the message has the reason of the last one.
    """
    reason = ""
    for attempt in range(patience.attempts):
        if attempt:
            await trio.sleep(patience.pause * 2 ** (attempt - 1))
        with trio.move_on_after(patience.limit) as scope:
            try:
                return await _get(await connect(host, port), host, path)
            except (OSError, trio.BrokenResourceError, h11.ProtocolError) as error:
                reason = str(error)
            except _Unavailable as error:
                reason = f"the server answered {error}"
        if scope.cancelled_caught:
            reason = f"no answer within {patience.limit:g} s"
    raise FetchError(f"{host}{path}: {patience.attempts} attempts failed; the last one: {reason}")


class _Unavailable(Exception):
    """The server reports a temporary failure."""


async def _get(stream: trio.abc.Stream, host: str, path: str) -> bytes:
    async with stream:
        connection = h11.Connection(our_role=h11.CLIENT)
        request = h11.Request(method="GET", target=path, headers=[("Host", host), ("Connection", "close")])
        await stream.send_all(connection.send(request) + connection.send(h11.EndOfMessage()))
        body = bytearray()
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                connection.receive_data(bytes(await stream.receive_some()))
            elif isinstance(event, h11.Response) and event.status_code >= 500:
                raise _Unavailable(event.status_code)
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                return bytes(body)
