"""The driver, with a fake network, a pair of sockets as the link, and the host's real sockets."""

from __future__ import annotations

import gc
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from sansnet_core import (
    Endpoint,
    ExtendedError,
    Frame,
    LinkConfig,
    Notice,
    OpenStream,
    SendStream,
    SocketId,
    UsageError,
)
from sansnet_core.notices import LeaseGiven
from sansnet_core.ports import TCP, UDP, parse_all
from sansnet_trio import Driver, Forwards, LinkClosed
from tests.trio.fake import FakeNetwork
from tests.trio.test_forwards import OTHER, PORT, Here

ONE = SocketId(1)


class PairLink:
    """One end of a pair of datagram sockets; the other end is `guest`. It has no room while the guest does not read."""

    def __init__(self) -> None:
        self.config = LinkConfig()
        self.dropped = 0
        self.closed = 0
        self._socket, self.guest = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.setblocking(False)
        self.guest.settimeout(5)

    def fileno(self) -> int:
        return self._socket.fileno()

    def read_frames(self, limit: int) -> Sequence[bytes]:
        frames: list[bytes] = []
        try:
            while len(frames) < limit:
                frame = self._socket.recv(65536)
                if not frame:
                    raise LinkClosed("the guest's end is closed")
                frames.append(frame)
        except BlockingIOError:
            pass
        return frames

    def write_frames(self, frames: Sequence[Frame]) -> int:
        for done, frame in enumerate(frames):
            try:
                self._socket.sendmsg(frame if isinstance(frame, tuple) else [frame])
            except BlockingIOError:
                return done
        return len(frames)

    def close(self) -> None:
        self.closed += 1
        self._socket.close()


async def until(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds."""
    with trio.fail_after(5):
        while not condition():
            await trio.sleep(0.001)


@asynccontextmanager
async def running(
    network: FakeNetwork,
    link: PairLink,
    on_notices: Callable[[Sequence[Notice]], None] | None = None,
    forwards: Forwards | None = None,
) -> AsyncIterator[Driver]:
    """A driver that runs for the time of the block."""
    driver = Driver(network, link, on_notices=on_notices, forwards=forwards)
    async with trio.open_nursery() as nursery:
        await nursery.start(driver.run)
        yield driver
        nursery.cancel_scope.cancel()
    link.guest.close()


def run(body: Callable[[], Awaitable[None]], clock: trio.abc.Clock | None = None) -> None:
    """Run the body of a test."""

    async def main() -> None:
        await body()

    trio.run(main, clock=clock)


def test_frames_of_the_guest_reach_the_network_and_its_frames_the_guest() -> None:
    async def body() -> None:
        network, link = FakeNetwork(), PairLink()

        def answer(frames: list[bytes]) -> None:
            network.frames += [b"echo of " + frames[0], (b"in ", memoryview(b"two parts"))]

        network.on_frames = answer
        network.frames = [b"said first"]
        async with running(network, link) as driver:
            assert link.guest.recv(100) == b"said first"
            link.guest.send(b"x")
            await until(lambda: driver.statistics().frames_sent == 3)
            assert link.guest.recv(100) == b"echo of x"
            assert link.guest.recv(100) == b"in two parts"
            assert driver.statistics().frames_received == 1

    run(body)


def test_a_stream_is_carried_through() -> None:
    async def body() -> None:
        network, link = FakeNetwork(), PairLink()
        with socket.create_server(("127.0.0.1", 0)) as listener:

            def open_stream(frames: list[bytes]) -> None:
                network.orders.append(OpenStream(ONE, Endpoint(b"\x7f\0\0\1", listener.getsockname()[1]), None))

            network.on_frames = open_stream
            async with running(network, link) as driver:
                link.guest.send(b"go")
                await until(lambda: bool(network.named("stream_connected")))
                remote, _ = listener.accept()
                with remote:
                    network.on_frames = lambda frames: network.orders.extend(SendStream(ONE, frame) for frame in frames)
                    link.guest.send(b"question")
                    assert await trio.to_thread.run_sync(remote.recv, 100) == b"question"
                    remote.send(b"answer")
                    await until(lambda: network.data() == b"answer")
                    assert driver.statistics().sockets == 1

    run(body)


def test_a_blocked_link_keeps_the_frames_and_stops_the_sockets() -> None:
    async def body() -> None:
        network, link = FakeNetwork(), PairLink()
        frames: list[Frame] = [b"%06d" % number for number in range(3000)]
        with socket.create_server(("127.0.0.1", 0)) as listener:
            network.orders = [OpenStream(ONE, Endpoint(b"\x7f\0\0\1", listener.getsockname()[1]), None)]
            async with running(network, link) as driver:
                await until(lambda: bool(network.named("stream_connected")))
                network.on_frames = lambda _: network.frames.extend(frames)
                remote, _ = listener.accept()
                with remote:
                    link.guest.send(b"go")
                    await until(lambda: driver.statistics().frames_pending > 1024)
                    link.guest.send(b"not read while so much waits")
                    remote.send(b"stream")
                    wakeups = driver.statistics().wakeups
                    await trio.sleep(0.05)
                    assert driver.statistics().wakeups < wakeups + 5
                    assert network.data() == b""

                    received = [await trio.to_thread.run_sync(link.guest.recv, 100) for _ in range(6000)]
                    assert received == frames + frames
                    await until(lambda: network.data() == b"stream")

    run(body)


def test_what_timers_send_to_a_guest_that_takes_nothing_is_bounded() -> None:
    class Resending(FakeNetwork):
        def handle_deadline(self, now: float) -> None:
            self.frames = [b"again"] * 1000
            self.deadline = now + 0.001

    async def body() -> None:
        network, link = Resending(), PairLink()
        network.deadline = 0.0
        async with running(network, link) as driver:
            await until(lambda: driver.statistics().frames_dropped > 5000)
            assert driver.statistics().frames_pending < 6000
            network.deadline = None

    run(body)


class HoardingLink(PairLink):
    """Divides each message into words, which are the frames, and returns a limited number of them at a time."""

    def __init__(self) -> None:
        super().__init__()
        self._held: list[bytes] = []

    def read_frames(self, limit: int) -> Sequence[bytes]:
        if not self._held:
            self._held = [word for message in super().read_frames(1) for word in message.split()]
        frames, self._held = self._held[:limit], self._held[limit:]
        return frames


def test_a_link_that_holds_frames_is_read_until_it_has_none() -> None:
    async def body() -> None:
        network, link = FakeNetwork(), HoardingLink()
        frames = [b"%06d" % number for number in range(150)]
        link.guest.send(b" ".join(frames))
        async with running(network, link) as driver:
            await until(lambda: network.received == frames)
            wakeups = driver.statistics().wakeups
            await trio.sleep(0.05)
            assert driver.statistics().wakeups < wakeups + 5

    run(body)


def test_a_link_that_holds_frames_is_not_read_while_the_guest_has_no_room() -> None:
    async def body() -> None:
        network, link = FakeNetwork(), HoardingLink()
        answers: list[Frame] = [b"answer"] * 100

        def answer(frames: list[bytes]) -> None:
            network.received += frames
            network.frames += answers * len(frames)

        network.on_frames = answer
        link.guest.send(b"frame " * 150)
        async with running(network, link) as driver:
            await until(lambda: driver.statistics().frames_pending > 1024)
            assert len(network.received) == 64
            wakeups = driver.statistics().wakeups
            await trio.sleep(0.05)
            assert driver.statistics().wakeups < wakeups + 5
            await trio.to_thread.run_sync(lambda: [link.guest.recv(100) for _ in range(150 * 100)])
            assert len(network.received) == 150

    run(body)


def test_deadlines_are_kept() -> None:
    async def body() -> None:
        network, link = FakeNetwork(), PairLink()
        network.deadline = trio.current_time() + 10
        async with running(network, link):
            await trio.sleep(9.5)
            assert network.facts == []
            await trio.sleep(1)
            assert network.facts == [("handle_deadline",)]
            network.on_frames = lambda _: setattr(network, "deadline", trio.current_time() + 5)
            link.guest.send(b"x")
            await trio.sleep(4.5)
            assert len(network.facts) == 1
            await trio.sleep(1)
            assert len(network.facts) == 2

    run(body, trio.testing.MockClock(rate=40))


def test_notices_are_handed_over() -> None:
    async def body() -> None:
        network, link = FakeNetwork(), PairLink()
        notice = LeaseGiven(bytes(4), bytes(6))
        network.on_frames = lambda _: network.notices.append(notice)
        seen: list[Notice] = []
        async with running(network, link, seen.extend):
            link.guest.send(b"x")
            await until(lambda: seen == [notice])

    run(body)


def test_a_busy_link_does_not_starve_other_tasks() -> None:
    async def body() -> None:
        network, link = FakeNetwork(), PairLink()

        def send_again(frames: list[bytes]) -> None:
            for frame in frames:
                link.guest.send(frame)

        network.on_frames = send_again
        async with running(network, link) as driver:
            link.guest.send(b"for ever")
            for _ in range(20):
                await trio.sleep(0.001)
            assert driver.statistics().frames_received > 20

    run(body)


def test_an_idle_driver_sleeps() -> None:
    async def body() -> None:
        network, link = FakeNetwork(), PairLink()
        async with running(network, link) as driver:
            await trio.sleep(0.05)
            assert driver.statistics().wakeups == 0

    run(body)


class ClosedLink(PairLink):
    """The guest has gone, which is first noticed when a frame is sent to it."""

    def write_frames(self, frames: Sequence[Frame]) -> int:
        raise LinkClosed("the guest's end is closed")


def test_who_tells_the_network_something_does_not_meet_the_end_of_the_link() -> None:
    async def body() -> None:
        network = FakeNetwork()
        async with running(network, ClosedLink()) as driver:
            driver.tell(lambda now: network.frames.append(b"frame"))

    run(body)


def test_the_guests_end_closes_the_driver() -> None:
    async def body() -> None:
        network, link = FakeNetwork(), PairLink()
        link.guest.close()
        with pytest.raises(LinkClosed):
            await Driver(network, link).run()
        assert link.closed == 1

    run(body)


def test_a_driver_runs_once() -> None:
    async def body() -> None:
        network, link = FakeNetwork(), PairLink()
        async with running(network, link) as driver:
            with pytest.raises(UsageError):
                await driver.run()

    run(body)


def test_an_unknown_interface_is_refused() -> None:
    link = PairLink()
    with pytest.raises(OSError, match=r"no interface|No such device"):  # the latter since Python 3.14
        Driver(FakeNetwork(), link, interface="no-such-if")
    link.close()
    link.guest.close()


def test_cancelling_closes_every_descriptor() -> None:
    async def body() -> None:
        gc.collect()
        before = sorted(os.listdir("/proc/self/fd"))
        network, link = FakeNetwork(), PairLink()
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            network.orders = [OpenStream(SocketId(n), Endpoint(b"\x7f\0\0\1", port), None) for n in range(50)]
            async with running(network, link) as driver:
                await until(lambda: len(network.named("stream_connected")) == 50)
                assert driver.statistics().sockets == 50
                network.orders = [SendStream(ONE, bytes(8 << 20))]
                link.guest.send(b"x")
                await until(lambda: bool(network.named("stream_sent")))
        assert sorted(os.listdir("/proc/self/fd")) == before
        assert driver.statistics().sockets == 0

    run(body)


def test_a_failure_of_the_network_closes_every_descriptor() -> None:
    async def body() -> None:
        gc.collect()
        before = sorted(os.listdir("/proc/self/fd"))
        network, link = FakeNetwork(), PairLink()

        def fail(frames: list[bytes]) -> None:
            raise ZeroDivisionError

        network.on_frames = fail
        link.guest.send(b"x")
        with pytest.raises(ZeroDivisionError):
            await Driver(network, link).run()
        link.guest.close()
        assert sorted(os.listdir("/proc/self/fd")) == before

    run(body)


def test_a_network_is_told_once_of_the_guest_on_its_link() -> None:
    async def body() -> None:
        network = FakeNetwork()
        async with running(network, PairLink()):
            assert network.attached == 1

    run(body)


class PunctualNetwork(FakeNetwork):
    """Makes a connection fail as soon as a forward is added, and checks that the times of the facts do not go back."""

    heard = 0.0

    def forward_added(
        self, guest_address: bytes | None, guest_port: int, now: float, outgoing: Collection[int] = ()
    ) -> SocketId:
        self.heard = now
        self.orders.append(OpenStream(ONE, Endpoint(b"\xff" * 4, 9), None))
        return super().forward_added(guest_address, guest_port, now, outgoing)

    def stream_failed(self, socket: SocketId, errno: int, error: ExtendedError | None, now: float) -> None:
        assert now >= self.heard, "time goes backwards"
        super().stream_failed(socket, errno, error, now)


def test_time_does_not_go_backwards_when_a_port_is_followed() -> None:
    async def body() -> None:
        network, link = PunctualNetwork(), PairLink()
        with Forwards(parse_all([f"auto,{PORT}:{OTHER}"], UDP)) as forwards:
            forwards.set_guest(Here())
            driver = Driver(network, link, forwards=forwards)
            async with trio.open_nursery() as nursery:
                await nursery.start(driver.run)
                assert network.facts == []
                with socket.create_server(("127.0.0.1", OTHER)):
                    await until(lambda: len(network.named("stream_failed")) > 0)
                nursery.cancel_scope.cancel()
        link.guest.close()

    run(body)


def test_forwards_are_served_while_it_runs_and_may_change_meanwhile() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    async def body() -> None:
        network = FakeNetwork()
        with Forwards() as forwards:
            async with running(network, PairLink(), forwards=forwards) as driver:
                forwards.add(parse_all([f"{port}:80"], TCP))
                remote = socket.create_connection(("127.0.0.1", port))
                await until(lambda: driver.statistics().sockets == 1)
                assert network.named("stream_accepted")[0][3] == 80
                forwards.remove(forwards.rules)
                with pytest.raises(ConnectionRefusedError):
                    socket.create_connection(("127.0.0.1", port))
            with remote, pytest.raises(ConnectionResetError):
                remote.recv(1)
            async with running(network, PairLink(), forwards=forwards):
                forwards.add(parse_all([f"{port}:81"], TCP))
                with socket.create_connection(("127.0.0.1", port)):
                    await until(lambda: len(network.named("stream_accepted")) == 2)

    run(body)


class ForgetfulLink(PairLink):
    """Raises MemoryError for frames while it is `short` of memory."""

    short = True

    def read_frames(self, limit: int) -> Sequence[bytes]:
        frames = super().read_frames(limit)
        if self.short:
            raise MemoryError
        return frames


def test_a_driver_without_memory_goes_on_and_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    async def body() -> None:
        network, link = FakeNetwork(), ForgetfulLink()
        async with running(network, link) as driver:
            for _ in range(3):
                link.guest.send(b"lost")
                await trio.sleep(0.1)
            assert driver.statistics().frames_dropped == 3
            link.short = False
            link.guest.send(b"frame")
            await until(lambda: network.received == [b"frame"])

    run(body)
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith("there is too little memory")
