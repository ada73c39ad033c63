"""The client against simulated servers, in virtual time: minutes of waiting take milliseconds."""

from __future__ import annotations

import errno
from contextlib import suppress

import h11
import pytest
import trio
from patient_fetch import FetchError, Patience, fetch

from sansnet_core.testing import Impairment
from sansnet_trio import GuestStream
from sansnet_trio.testing import SimulatedGuest
from sansnet_trio.testing.pytest_plugin import RunWithGuest

SERVER = "192.0.2.80"


class Server:
    """An HTTP server in the test.

    Args:
        statuses: of its answers, one for each connection; the last one is repeated.
        body: of its answers.
        think: seconds before it answers.
    """

    def __init__(self, *statuses: int, body: bytes = b"hello", think: float = 0.0) -> None:
        self.requests = 0
        self._statuses = statuses or (200,)
        self._body = body
        self._think = think

    async def start(self, guest: SimulatedGuest) -> None:
        """Serve on the simulated host of a guest, as long as the guest runs."""
        await guest.nursery.start(guest.host.serve_tcp, self.serve, 80)

    async def serve(self, stream: GuestStream) -> None:
        """Answer one request, unless the client gives up."""
        with suppress(trio.BrokenResourceError):
            await self._answer(stream)

    async def _answer(self, stream: GuestStream) -> None:
        status = self._statuses[min(self.requests, len(self._statuses) - 1)]
        self.requests += 1
        connection = h11.Connection(our_role=h11.SERVER)
        while not isinstance(event := connection.next_event(), h11.EndOfMessage):
            if event is h11.NEED_DATA:
                connection.receive_data(await stream.receive_some())
        await trio.sleep(self._think)
        head = h11.Response(status_code=status, headers=[("Content-Length", str(len(self._body)))])
        for part in (head, h11.Data(data=self._body), h11.EndOfMessage()):
            await stream.send_all(connection.send(part) or b"")


async def timed_fetch(guest: SimulatedGuest, patience: Patience | None = None) -> tuple[bytes, float]:
    """Fetch from the server; the document, and the virtual seconds that it takes."""
    began = trio.current_time()
    body = await fetch(SERVER, patience=patience or Patience(), connect=guest.open_tcp_stream)
    return body, trio.current_time() - began


def test_a_document(simulated_guest: RunWithGuest) -> None:
    async def check(guest: SimulatedGuest) -> None:
        await Server().start(guest)
        assert await timed_fetch(guest) == (b"hello", 0.0)

    simulated_guest(check)


def test_a_slow_line(simulated_guest: RunWithGuest) -> None:
    """50 KB take 5 seconds at 10 KB a second: too long for one attempt, unless it may take longer."""

    async def check(guest: SimulatedGuest) -> float:
        await Server(body=bytes(50_000)).start(guest)
        with pytest.raises(FetchError, match="no answer within 5 s"):
            await timed_fetch(guest)
        body, seconds = await timed_fetch(guest, Patience(limit=20.0))
        assert len(body) == 50_000
        return seconds

    assert 5 < simulated_guest(check, cable=Impairment(delay=0.1, rate=80_000, queue=1000)) < 7


def test_a_server_that_recovers(simulated_guest: RunWithGuest) -> None:
    server = Server(503, 500, 200)

    async def check(guest: SimulatedGuest) -> None:
        await server.start(guest)
        assert await timed_fetch(guest) == (b"hello", 3.0)  # the pauses of 1 and 2 seconds

    simulated_guest(check)
    assert server.requests == 3


def test_a_server_that_thinks_too_long(simulated_guest: RunWithGuest) -> None:
    async def check(guest: SimulatedGuest) -> float:
        await Server(think=60.0).start(guest)
        with pytest.raises(FetchError, match="no answer within 5 s"):
            await timed_fetch(guest)
        return trio.current_time()

    assert simulated_guest(check) == 3 * 5.0 + 1.0 + 2.0


@pytest.mark.parametrize(
    ("failure", "reason"), [(errno.ECONNREFUSED, "Connection refused"), (errno.EHOSTUNREACH, "No route to host")]
)
def test_a_server_that_cannot_be_reached(simulated_guest: RunWithGuest, failure: int, reason: str) -> None:
    async def check(guest: SimulatedGuest) -> None:
        guest.host.refuse(SERVER, failure)
        with pytest.raises(FetchError, match=reason):
            await fetch(SERVER, connect=guest.open_tcp_stream)

    simulated_guest(check)


def test_a_line_that_loses_frames(simulated_guest: RunWithGuest) -> None:
    async def check(guest: SimulatedGuest) -> None:
        await Server(body=bytes(200_000)).start(guest)
        body, _ = await timed_fetch(guest, Patience(limit=60.0))
        assert body == bytes(200_000)

    simulated_guest(check, cable=Impairment(loss=0.05, delay=0.02), seed=5)
