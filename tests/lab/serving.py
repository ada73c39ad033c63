"""A program that is the world of its guest: services over HTTP, TLS, TCP and UDP.

As a program, `python -m tests.lab.serving`, it serves a command in namespaces: it prints the process id of the guest's
command, then the number of its host sockets for each line of its stdin.
"""

from __future__ import annotations

import hashlib
import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Final, TypeAlias

import h11
import trio
import trustme

from sansnet_trio import GuestDatagrams, GuestStream, NamespaceOptions, Services, open_guest

__all__ = [
    "DISCARD",
    "ECHO",
    "GREETING",
    "HASH",
    "NAME",
    "SERVICE",
    "SILENT",
    "SOURCE",
    "answer_http",
    "chunks",
    "guarded",
    "world",
]

SERVICE: Final = "10.0.2.2"
NAME: Final = "service.example"
GREETING: Final = b"Hello from the program\n"
ECHO: Final = 7
DISCARD: Final = 9
SILENT: Final = 10
SOURCE: Final = 19
HASH: Final = 20
Handler: TypeAlias = Callable[[GuestStream], Awaitable[None]]

_PIECE: Final = 1 << 18


def chunks(size: int) -> list[bytes]:
    """Data of about this size that are not zeros, in pieces of which each is different."""
    seed = hashlib.shake_256(b"sansnet").digest(_PIECE)
    return [number.to_bytes(8, "big") + seed[8:] for number in range(max(1, size // _PIECE))]


async def answer_http(stream: trio.abc.HalfCloseableStream | trio.SSLStream[GuestStream]) -> None:
    """Answer HTTP requests: a greeting, or the body of the request."""
    connection = h11.Connection(h11.SERVER)
    body = b""
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(bytes(await stream.receive_some()))
        elif isinstance(event, h11.Data):
            body += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage):
            answer = body or GREETING
            head = h11.Response(status_code=200, headers=[("content-length", str(len(answer)))])
            for part in (head, h11.Data(data=answer), h11.EndOfMessage()):
                if data := connection.send(part):
                    await stream.send_all(data)
            if connection.our_state is h11.MUST_CLOSE:
                return
            connection.start_next_cycle()
            body = b""
        elif isinstance(event, h11.ConnectionClosed):
            return


async def answer_tls(context: ssl.SSLContext, stream: GuestStream) -> None:
    """Answer HTTP requests over TLS."""
    secure = trio.SSLStream(stream, context, server_side=True, https_compatible=True)
    await answer_http(secure)
    await secure.aclose()


async def echo(stream: GuestStream) -> None:
    """Send back all data, and then the end."""
    while data := await stream.receive_some():
        await stream.send_all(data)
    await stream.send_eof()


async def hash_all(stream: GuestStream) -> None:
    """Send the hash of all data."""
    digest = hashlib.sha256()
    while data := await stream.receive_some():
        digest.update(data)
    await stream.send_all(digest.hexdigest().encode())


async def send_much(stream: GuestStream) -> None:
    """Send as many MiB as the first line says."""
    size = int(await stream.receive_some())
    for piece in chunks(size << 20):
        await stream.send_all(piece)


async def be_silent(stream: GuestStream) -> None:
    """Receive nothing and send nothing."""
    await trio.sleep_forever()


async def abort(stream: GuestStream) -> None:
    """Reset the connection when the first data arrive."""
    await stream.receive_some(1)
    stream.abort()


async def echo_datagrams(datagrams: GuestDatagrams) -> None:
    """Send back each datagram."""
    while True:
        data, peer = await datagrams.receive()
        await datagrams.send(data, peer)


def guarded(handler: Handler) -> Handler:
    """A handler that ends if the guest resets the connection."""

    async def run(stream: GuestStream) -> None:
        with suppress(trio.BrokenResourceError):  # the guest has reset the connection
            await handler(stream)

    return run


@asynccontextmanager
async def world(authority: Path) -> AsyncIterator[Services]:
    """The services, for the time of the block; the certificate authority goes to a file."""
    services = Services()
    made = trustme.CA()
    made.cert_pem.write_to_path(str(authority))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    made.issue_cert(NAME).configure_cert(context)
    async with trio.open_nursery() as nursery:
        handlers: dict[int, Handler] = {
            80: answer_http,
            443: partial(answer_tls, context),
            ECHO: echo,
            DISCARD: abort,
            SILENT: be_silent,
            SOURCE: send_much,
            HASH: hash_all,
        }
        for port, handler in handlers.items():
            await nursery.start(partial(services.serve_tcp, guarded(handler), port))
        nursery.start_soon(echo_datagrams, services.open_datagrams(ECHO))
        yield services
        nursery.cancel_scope.cancel()


async def main(authority: str) -> None:
    """Serve a guest until stdin ends."""
    async with (
        world(Path(authority)) as services,
        open_guest(["sleep", "1000000"], NamespaceOptions.made_up(), services=services) as guest,
    ):
        print(guest.pid, flush=True)
        while await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True):
            print(guest.network.driver_statistics().sockets, flush=True)


if __name__ == "__main__":
    trio.run(main, sys.argv[1])
