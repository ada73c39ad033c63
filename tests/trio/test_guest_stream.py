"""`GuestStream`: the program's end of a connection with the guest."""

from __future__ import annotations

import errno
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import TypeAlias

import pytest
import trio
from trio.testing import assert_checkpoints, check_half_closeable_stream

from sansnet_core import Endpoint, Frame, Limits
from sansnet_trio import GuestStream, Services
from sansnet_trio.testing import MemoryLink, SimulatedStream
from tests.trio.inner import CONFIG, GATEWAY, Inner, inner, run

PORT = 80


class Both:
    """The two ends of a connection."""

    def __init__(self, ours: GuestStream, theirs: SimulatedStream, inner: Inner) -> None:
        self.ours = ours
        self.theirs = theirs
        self.inner = inner


@asynccontextmanager
async def accepted(link: MemoryLink | None = None) -> AsyncIterator[Both]:
    """A connection that the guest opened."""
    services = Services()
    listener = services.listen_tcp(PORT)
    async with inner(services, link=link) as network:
        theirs = await network.guest.open_tcp_stream(GATEWAY, PORT)
        yield Both(await listener.accept(), theirs, network)


@asynccontextmanager
async def opened() -> AsyncIterator[Both]:
    """A connection that the program opened."""
    async with inner() as network:
        listener = network.guest.listen_tcp(PORT)
        ours = await network.network.open_tcp_stream(PORT)
        yield Both(ours, await listener.accept(), network)


async def drain(stream: trio.abc.ReceiveStream) -> int:
    """Receive all; how many bytes there were."""
    size = 0
    while data := await stream.receive_some():
        size += len(data)
    return size


Way: TypeAlias = Callable[[], AbstractAsyncContextManager[Both]]

WAYS = pytest.mark.parametrize("way", [accepted, opened])


@pytest.mark.parametrize("program_opens", [False, True])
@pytest.mark.parametrize("first", ["ours", "theirs"])
def test_trios_own_checks(program_opens: bool, first: str) -> None:
    async def body() -> None:
        services = Services()
        ours = services.listen_tcp(PORT)
        async with inner(services, limits=Limits(tcp_window=1 << 17, tcp_send_buffer=1 << 17)) as network:
            theirs = network.guest.listen_tcp(PORT)

            async def make() -> tuple[trio.abc.HalfCloseableStream, trio.abc.HalfCloseableStream]:
                if program_opens:
                    pair: tuple[GuestStream, SimulatedStream] = (
                        await network.network.open_tcp_stream(PORT),
                        await theirs.accept(),
                    )
                else:
                    end = await network.guest.open_tcp_stream(GATEWAY, PORT)
                    pair = await ours.accept(), end
                return pair if first == "ours" else (pair[1], pair[0])

            async def make_clogged() -> tuple[trio.abc.HalfCloseableStream, trio.abc.HalfCloseableStream]:
                left, right = await make()
                # So long because a guest whose window is almost closed sends a byte a minute
                for stream in (left, right):
                    with trio.move_on_after(3600):
                        while True:
                            await stream.send_all(bytes(65536))
                return left, right

            await check_half_closeable_stream(make, make_clogged)

    run(body)


@WAYS
def test_data_go_both_ways_and_each_half_ends(way: Way) -> None:
    async def body() -> None:
        async with way() as both:
            await both.ours.send_all(b"to the guest")
            assert await both.theirs.receive_some() == b"to the guest"
            await both.theirs.send_all(b"to the program")
            assert await both.ours.receive_some() == b"to the program"
            await both.ours.send_eof()
            assert await both.theirs.receive_some() == b""
            await both.theirs.send_all(b"more")
            await both.theirs.aclose()
            assert [await both.ours.receive_some(), await both.ours.receive_some()] == [b"more", b""]
            with pytest.raises(trio.ClosedResourceError, match="send_eof"):
                await both.ours.send_all(b"x")
            await both.ours.aclose()
            await trio.sleep(0.1)
            assert both.inner.network.statistics().tcp_held == 0

    run(body)


def test_a_stream_knows_both_ends_and_its_network() -> None:
    async def body() -> None:
        async with accepted() as both:
            assert both.ours.guest == both.theirs.guest
            assert both.ours.destination == both.theirs.peer == Endpoint(GATEWAY, PORT)
            assert both.ours.network is both.inner.network
            assert repr(both.ours) == f"<GuestStream {both.theirs.guest} {GATEWAY}:{PORT}>"
        async with opened() as both:
            assert both.ours.guest == both.theirs.guest == Endpoint("10.0.2.15", PORT)
            assert both.ours.destination == both.theirs.peer

    run(body)


@WAYS
def test_the_guest_is_stopped_while_the_program_does_not_read(way: Way) -> None:
    data = random.Random(0).randbytes(16 << 20)

    async def body() -> None:
        async with way() as both, trio.open_nursery() as nursery:
            nursery.start_soon(both.theirs.send_all, data)
            await trio.sleep(100)
            held = both.inner.network.statistics().tcp_held
            await trio.sleep(1000)
            assert both.inner.network.statistics().tcp_held == held < len(data) // 2
            parts = [await both.ours.receive_some()]
            assert len(parts[0]) > 1 << 20, "all there is"
            while sum(map(len, parts)) < len(data):
                parts.append(await both.ours.receive_some(100_000))
            assert max(map(len, parts[1:])) <= 100_000
            assert b"".join(parts) == data

    run(body)


@WAYS
def test_the_program_is_stopped_while_the_guest_does_not_read(way: Way) -> None:
    data = random.Random(0).randbytes(16 << 20)

    async def body() -> None:
        async with way() as both:
            done = trio.Event()

            async def send() -> None:
                await both.ours.send_all(data)
                done.set()

            async with trio.open_nursery() as nursery:
                nursery.start_soon(send)
                await trio.sleep(100)
                assert not done.is_set()
                assert both.inner.network.statistics().tcp_held < len(data) // 2
                received = bytearray()
                while len(received) < len(data):
                    received += await both.theirs.receive_some()
                assert received == data

    run(body)


class CountingLink(MemoryLink):
    """A link that knows the most frames that the driver had for it at a time."""

    most = 0

    def write_frames(self, frames: Sequence[Frame]) -> int:
        self.most = max(self.most, len(frames))
        return super().write_frames(frames)


def test_frames_do_not_pile_up_if_the_link_has_no_room() -> None:
    data = random.Random(0).randbytes(8 << 20)
    link = CountingLink(CONFIG.link, room=1)

    async def body() -> None:
        async with accepted(link) as both, trio.open_nursery() as nursery:
            nursery.start_soon(both.ours.send_all, data)
            received = bytearray()
            while len(received) < len(data):
                received += await both.theirs.receive_some(20_000)
            assert received == data
            assert both.inner.network.driver_statistics().frames_dropped == 0

    run(body)
    assert 1 < link.most < 10


def test_many_small_pieces_are_received_as_one() -> None:
    async def body() -> None:
        async with accepted() as both:
            for _ in range(1000):
                await both.theirs.send_all(b"x")
            await trio.sleep(1)
            assert await both.ours.receive_some() == b"x" * 1000

    run(body)


@WAYS
def test_a_cancelled_receive_loses_nothing(way: Way) -> None:
    data = random.Random(0).randbytes(100_000)

    async def body() -> None:
        async with way() as both, trio.open_nursery() as nursery:

            async def send() -> None:
                for start in range(0, len(data), 1000):
                    await both.theirs.send_all(data[start : start + 1000])
                    await trio.sleep(0.001)

            nursery.start_soon(send)
            received = bytearray()
            wait = random.Random(1)
            while len(received) < len(data):
                with trio.move_on_after(wait.random() * 0.002):
                    received += await both.ours.receive_some(700)
            assert received == data

    run(body)


@WAYS
def test_a_stream_can_be_closed_after_a_cancelled_send(way: Way) -> None:
    async def body() -> None:
        async with way() as both:
            with trio.move_on_after(1):
                await both.ours.send_all(bytes(16 << 20))
            await both.ours.aclose()
            assert 0 < await drain(both.theirs) < 16 << 20

    run(body)


@WAYS
def test_a_reset_of_the_guest_breaks_the_stream_behind_the_data(way: Way) -> None:
    async def body() -> None:
        async with way() as both:
            await both.theirs.send_all(b"last words")
            await trio.sleep(0.1)
            both.theirs.abort()
            await trio.sleep(0.1)
            assert await both.ours.receive_some() == b"last words"
            for call in (both.ours.receive_some, partial(both.ours.send_all, b"x"), both.ours.send_eof):
                with assert_checkpoints(), pytest.raises(trio.BrokenResourceError) as caught:
                    await call()
                assert isinstance(caught.value.__cause__, OSError)
                assert caught.value.__cause__.errno == errno.ECONNRESET
            await both.ours.aclose()
            with pytest.raises(trio.ClosedResourceError):
                await both.ours.receive_some()

    run(body)


@WAYS
@pytest.mark.parametrize("end", ["reset", "network"])
def test_waiting_tasks_wake_up_when_the_stream_breaks(way: Way, end: str) -> None:
    broken = []

    async def waits(call: Callable[[], Awaitable[object]]) -> None:
        with pytest.raises(trio.BrokenResourceError) as caught:
            await call()
        broken.append(caught.value.__cause__)

    async def body() -> None:
        async with trio.open_nursery() as nursery, way() as both:
            with trio.move_on_after(1):
                await both.ours.send_all(bytes(16 << 20))
            nursery.start_soon(waits, both.ours.receive_some)
            nursery.start_soon(waits, both.ours.wait_send_all_might_not_block)
            await trio.sleep(1)
            if end == "reset":
                both.theirs.abort()
                await trio.sleep(1)
            # Here the network has ended
        expected = errno.ECONNRESET if end == "reset" else errno.ENETDOWN
        assert [error.errno for error in broken if isinstance(error, OSError)] == [expected, expected]

    run(body)


@WAYS
def test_an_abort_of_the_program_resets_the_guest(way: Way) -> None:
    async def body() -> None:
        async with way() as both:
            await both.ours.send_all(b"never mind")
            both.ours.abort()
            with pytest.raises(trio.BrokenResourceError):
                await drain(both.theirs)
            with pytest.raises(trio.ClosedResourceError):
                await both.ours.send_all(b"x")
            assert both.inner.network.flows() == []

    run(body)


@WAYS
@pytest.mark.parametrize("unread", [False, True])
def test_close_with_data_that_nothing_reads_resets(way: Way, unread: bool) -> None:
    """As the kernel does: at once if there are data to receive, else when some arrive."""

    async def body() -> None:
        async with way() as both:
            if unread:
                await both.theirs.send_all(b"unread")
                await trio.sleep(0.1)
            await both.ours.aclose()
            if not unread:
                assert await both.theirs.receive_some() == b""
                await both.theirs.send_all(b"too late")
            await trio.sleep(0.1)
            with pytest.raises(trio.BrokenResourceError):
                await both.theirs.send_all(b"x")
            assert both.inner.network.flows() == []

    run(body)


@WAYS
def test_all_data_arrive_after_close_however_slow_the_guest_is(way: Way) -> None:
    data = random.Random(0).randbytes(1 << 20)

    async def body() -> None:
        async with way() as both, trio.open_nursery() as nursery:

            async def send() -> None:
                await both.ours.send_all(data)
                await both.ours.aclose()

            nursery.start_soon(send)
            received = bytearray()
            while len(received) < len(data):
                await trio.sleep(50)
                received += await both.theirs.receive_some(60_000)
            assert received == data
            assert await both.theirs.receive_some() == b""

    run(body)


class CutLink(MemoryLink):
    """A link that loses all frames to the guest once it is cut."""

    cut = False

    def write_frames(self, frames: Sequence[Frame]) -> int:
        return len(frames) if self.cut else super().write_frames(frames)


def test_a_guest_that_vanishes_after_its_end_breaks_the_stream_behind_the_data() -> None:
    link = CutLink(CONFIG.link)

    async def body() -> None:
        async with accepted(link) as both:
            await both.theirs.send_all(b"all")
            await both.theirs.send_eof()
            await trio.sleep(0.1)
            link.cut = True
            await both.ours.send_all(b"nobody takes this")
            await trio.sleep(600)
            assert await drain(both.ours) == 3
            with pytest.raises(trio.BrokenResourceError) as caught:
                await both.ours.send_all(b"x")
            assert isinstance(caught.value.__cause__, OSError)
            assert caught.value.__cause__.errno == errno.ETIMEDOUT
            assert both.inner.network.flows() == []

    run(body)


@WAYS
def test_a_guest_that_never_ends_its_part_is_reset(way: Way) -> None:
    async def body() -> None:
        async with way() as both:
            await both.ours.aclose()
            assert await both.theirs.receive_some() == b""
            await trio.sleep(50)
            assert len(both.inner.network.flows()) == 1
            await trio.sleep(100)
            assert both.inner.network.flows() == []
            with pytest.raises(trio.BrokenResourceError):
                await both.theirs.send_all(b"x")

    run(body)


def test_a_guest_that_never_reads_what_a_closed_stream_has_sent_is_reset() -> None:
    async def body() -> None:
        async with accepted() as both:
            with trio.move_on_after(1):
                await both.ours.send_all(bytes(16 << 20))
            await both.ours.aclose()
            await trio.sleep(300)
            assert both.inner.network.flows() == []
            assert both.inner.network.statistics().tcp_held == 0

    run(body)


@WAYS
def test_both_ends_abort(way: Way) -> None:
    async def body() -> None:
        async with way() as both:
            both.ours.abort()
            both.theirs.abort()
            both.ours.abort()
            await both.ours.aclose()
            await trio.sleep(1)
            assert both.inner.network.flows() == []

    run(body)


@WAYS
def test_close_is_complete_if_it_is_cancelled(way: Way) -> None:
    async def body() -> None:
        async with way() as both:
            await trio.aclose_forcefully(both.ours)
            assert await both.theirs.receive_some() == b""
            await both.theirs.aclose()
            await trio.sleep(1)
            with pytest.raises(trio.ClosedResourceError):
                await both.ours.receive_some()

    run(body)


@WAYS
def test_a_closed_stream_whose_guest_does_nothing_is_reset_in_time(way: Way) -> None:
    """Also if nothing else wakes the driver up."""

    async def body() -> None:
        async with way() as both:
            await both.ours.send_eof()
            assert await both.theirs.receive_some() == b""
            await trio.sleep(600)
            await both.ours.aclose()
            await trio.sleep(59)
            assert both.inner.network.flows()
            await trio.sleep(2)
            assert both.inner.network.flows() == []
            assert both.theirs.connection.reset

    run(body)
