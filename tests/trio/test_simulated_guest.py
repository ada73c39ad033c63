"""The simulated guest of the published kit: its streams, its errors and its cables, in virtual time."""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

import pytest
import trio
from trio.testing import MockClock, assert_checkpoints, check_half_closeable_stream

from sansnet_core import Action, Endpoint, Limits, NetworkConfig, Refuse
from sansnet_core.records import replace
from sansnet_core.summary import summary
from sansnet_core.testing import Impairment
from sansnet_trio import GuestStream, LinkClosed, NewFlow, Services
from sansnet_trio.testing import SimulatedGuest, SimulatedStream, make_simulated_config, open_simulated_guest

GATEWAY = "10.0.2.2"
SERVER = "192.0.2.80"
WRONG_FRAME = bytes.fromhex("020000000001 9a559a559a55 0800 4500001c000000004011abcd0a0002020a00020f") + bytes(26)
"""Its checksum is wrong."""
T = TypeVar("T")


def virtual(main: Callable[[], Awaitable[T]], limit: float = 10_000.0) -> T:
    """Run an async function in virtual time; fail if nothing would ever happen any more."""

    async def bounded() -> T:
        with trio.fail_after(limit):
            return await main()

    return trio.run(bounded, clock=MockClock(autojump_threshold=0))


def small_buffers() -> NetworkConfig:
    limits = Limits(tcp_window=1 << 17, tcp_send_buffer=1 << 17)
    return replace(make_simulated_config(), limits=limits)


async def connected(guest: SimulatedGuest, services: Services, port: int) -> tuple[SimulatedStream, GuestStream]:
    """A connection of the guest to a service of the program: the guest's stream, and the program's."""
    accepted: list[GuestStream] = []

    async with services.listen_tcp(port) as listener, trio.open_nursery() as nursery:

        @nursery.start_soon
        async def accept() -> None:
            accepted.append(await listener.accept())

        mine = await guest.open_tcp_stream(GATEWAY, port)
    return mine, accepted[0]


@pytest.mark.slow
def test_its_streams_are_half_closeable_streams() -> None:
    """By the test of trio, with a service of the program at the other end; both directions are tested."""

    async def main() -> None:
        services = Services()
        async with open_simulated_guest(small_buffers(), services=services) as guest:

            async def made() -> tuple[SimulatedStream, GuestStream]:
                return await connected(guest, services, 80)

            async def clogged() -> tuple[SimulatedStream, GuestStream]:
                mine, theirs = await made()
                with trio.move_on_after(100):
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(mine.send_all, bytes(1 << 20))
                        nursery.start_soon(theirs.send_all, bytes(1 << 20))
                return mine, theirs

            await check_half_closeable_stream(made, clogged)

    virtual(main)


def test_the_errors_of_connect_are_those_of_the_kernel() -> None:
    async def main() -> list[int | None]:
        found: list[int | None] = []
        async with open_simulated_guest() as guest:
            guest.host.refuse("192.0.2.1", errno.EHOSTUNREACH)
            guest.host.refuse("192.0.2.2", errno.ENETUNREACH)
            guest.host.blackhole("2001:db8:1::/48")
            for host in (SERVER, "192.0.2.1", "192.0.2.2", "2001:db8:1::5", GATEWAY):
                with pytest.raises(OSError, match="Errno") as caught:
                    await guest.open_tcp_stream(host, 80)
                found.append(caught.value.errno)
        return found

    expected = [errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ETIMEDOUT, errno.ECONNREFUSED]
    assert virtual(main) == expected


def test_a_guest_without_a_family_has_no_route() -> None:
    async def main() -> None:
        async with open_simulated_guest(replace(make_simulated_config(), ipv6=None)) as guest:
            with pytest.raises(OSError, match="Network is unreachable"):
                await guest.open_tcp_stream("2001:db8::1", 80)

    virtual(main)


def test_a_cancelled_connect_leaves_nothing() -> None:
    async def main() -> None:
        async with open_simulated_guest() as guest:
            guest.host.blackhole(SERVER)
            with trio.move_on_after(10):
                await guest.open_tcp_stream(SERVER, 80)
            assert guest.stack.connections == {}
            sent = guest.network.driver_statistics().frames_received
            await trio.sleep(100)
            assert guest.network.driver_statistics().frames_received == sent

    virtual(main)


def test_delay_and_rate_take_virtual_time() -> None:
    async def main() -> tuple[float, float]:
        cable = Impairment(delay=0.25, rate=80_000, queue=1000)
        async with open_simulated_guest(cable=cable) as guest, guest.host.listen_tcp(80) as listener:

            async def serve() -> None:
                async with await listener.accept() as stream:
                    await stream.send_all(bytes(100_000))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(serve)
                began = trio.current_time()
                stream = await guest.open_tcp_stream(SERVER, 80)
                connected = trio.current_time()
                received = 0
                async for data in stream:
                    received += len(data)
                assert received == 100_000
            return connected - began, trio.current_time() - connected

    began = time.monotonic()
    handshake, transfer = virtual(main)
    assert time.monotonic() - began < 10, "real seconds"
    assert 0.5 < handshake < 0.6
    assert 10 < transfer < 12


def test_a_lossy_cable_changes_no_byte() -> None:
    sent = bytes(range(256)) * 400

    async def main() -> bytes:
        bad = Impairment(loss=0.1, duplicate=0.05, reorder=0.1, delay=0.01)
        async with open_simulated_guest(cable=bad, seed=3) as guest, guest.host.listen_tcp(7) as listener:

            async def echo() -> None:
                async with await listener.accept() as stream:
                    async for data in stream:
                        await stream.send_all(data)

            received = b""
            async with trio.open_nursery() as nursery:
                nursery.start_soon(echo)
                stream = await guest.open_tcp_stream(SERVER, 7)

                async def send() -> None:
                    await stream.send_all(sent)
                    await stream.send_eof()

                nursery.start_soon(send)
                async for data in stream:
                    received += data
            assert stream.connection.retransmissions > 0
            return received

    assert virtual(main) == sent


def test_a_program_that_does_not_read_stops_the_sender() -> None:
    async def main() -> None:
        services = Services()
        async with open_simulated_guest(small_buffers(), services=services) as guest:
            mine, theirs = await connected(guest, services, 80)
            for sender, receiver in ((mine, theirs), (theirs, mine)):
                with trio.move_on_after(60) as scope:
                    await sender.send_all(bytes(4 << 20))
                assert scope.cancelled_caught
                count = 0
                with trio.move_on_after(60):
                    while True:
                        count += len(await receiver.receive_some())
                assert (1 << 17) < count < (2 << 20)

    virtual(main)


@pytest.mark.parametrize("how", ["abort", "unread data"])
def test_a_connection_that_the_guest_resets(how: str) -> None:
    async def main() -> None:
        services = Services()
        async with open_simulated_guest(services=services) as guest:
            mine, theirs = await connected(guest, services, 80)
            if how == "abort":
                mine.abort()
            else:
                await theirs.send_all(b"nobody reads this")
                await trio.sleep(1)
                await mine.aclose()
            with pytest.raises(trio.BrokenResourceError) as caught:
                await theirs.receive_some()
            assert isinstance(caught.value.__cause__, ConnectionResetError)
            with pytest.raises(trio.ClosedResourceError):
                await mine.receive_some()

    virtual(main)


def test_a_connection_that_the_program_resets() -> None:
    async def main() -> None:
        services = Services()
        async with open_simulated_guest(services=services) as guest:
            mine, theirs = await connected(guest, services, 80)
            await theirs.send_all(b"last words")
            await trio.sleep(1)
            theirs.abort()
            await trio.sleep(1)
            assert await mine.receive_some() == b"last words"
            with pytest.raises(trio.BrokenResourceError) as caught:
                await mine.receive_some()
            assert isinstance(caught.value.__cause__, ConnectionResetError)

    virtual(main)


def test_data_for_a_closed_stream_are_answered_by_a_reset() -> None:
    async def main() -> None:
        services = Services()
        async with open_simulated_guest(services=services) as guest:
            mine, theirs = await connected(guest, services, 80)
            await mine.aclose()
            assert await theirs.receive_some() == b""
            await theirs.send_all(b"too late")
            await trio.sleep(1)
            with pytest.raises(trio.BrokenResourceError):
                await theirs.send_all(b"more")

    virtual(main)


def test_a_cable_that_is_cut_ends_connections_by_time() -> None:
    async def main() -> None:
        services = Services()
        async with open_simulated_guest(services=services) as guest:
            mine, _ = await connected(guest, services, 80)
            cut = Impairment(loss=1.0, longest_loss=1 << 30)
            guest.impair(up=cut, down=cut)
            await mine.send_all(b"hello?")
            began = trio.current_time()
            with pytest.raises(trio.BrokenResourceError) as caught:
                await mine.receive_some()
            assert isinstance(caught.value.__cause__, TimeoutError)
            assert 900 < trio.current_time() - began < 1000  # tcp_retries2 in tcp(7)

    virtual(main)


def test_closed_connections_are_forgotten() -> None:
    async def main() -> None:
        services = Services()
        async with open_simulated_guest(services=services) as guest:
            for _ in range(20):
                mine, theirs = await connected(guest, services, 80)
                await mine.aclose()
                await theirs.aclose()
            await trio.sleep(100)
            await guest.ping(GATEWAY)
            assert guest.stack.connections == {}
            assert guest.network.flows() == [] or guest.network.flows()[0].protocol != 6

    virtual(main)


def test_a_server_in_the_guest() -> None:
    async def main() -> None:
        async with open_simulated_guest() as guest, guest.listen_tcp(22, backlog=2) as listener:
            with pytest.raises(OSError, match="Address already in use"):
                guest.listen_tcp(22)

            async def serve() -> None:
                async with await listener.accept() as stream:
                    assert (stream.guest, stream.peer) == (Endpoint("10.0.2.15", 22), Endpoint("10.0.2.2", 5000))
                    await stream.send_all(b"SSH")

            async with trio.open_nursery() as nursery:
                nursery.start_soon(serve)
                stream = await guest.network.open_tcp_stream(22, source=(GATEWAY, 5000))
                assert await stream.receive_some() == b"SSH"
            with pytest.raises(ConnectionRefusedError):
                await guest.network.open_tcp_stream(23)

            # A backlog that is full leaves the SYN without an answer until there is room
            streams = [await guest.network.open_tcp_stream(22) for _ in range(2)]
            with trio.move_on_after(5) as scope:
                await guest.network.open_tcp_stream(22)
            assert scope.cancelled_caught
            await (await listener.accept()).aclose()
            streams.append(await guest.network.open_tcp_stream(22))
        with pytest.raises(trio.ClosedResourceError):
            await listener.accept()

    virtual(main)


@pytest.mark.parametrize("server", [SERVER, "2001:db8:1::53"])
def test_datagrams(server: str) -> None:
    async def main() -> None:
        async with open_simulated_guest() as guest, guest.open_datagrams() as mine:
            theirs = guest.host.open_datagrams(53)
            for size in (1, 1400, 9000):  # the last one takes several fragments
                await mine.send(bytes(size), (server, 53))
                data, peer = await theirs.receive()
                assert (len(data), peer.guest.port) == (size, mine.port)
                await theirs.send(bytes(2 * size), peer)
                assert await mine.receive() == (bytes(2 * size), Endpoint(server, 53))
            await mine.send(b"x", (server, 54))
            with pytest.raises(ConnectionRefusedError):
                await mine.receive()
            with pytest.raises(OSError, match="Message too long"):
                await mine.send(bytes(70_000), (server, 53))
            with pytest.raises(OSError, match="Address already in use"):
                guest.open_datagrams(mine.port)
        with assert_checkpoints(), pytest.raises(trio.ClosedResourceError):
            await mine.receive()

    virtual(main)


def test_a_datagram_to_a_closed_port_of_the_guest_is_answered_by_icmp(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> list[str]:
        sent: list[str] = []
        async with open_simulated_guest() as guest:
            send = guest.link.send

            def watch(frames: Iterable[bytes]) -> None:
                kept = list(frames)
                sent.extend(summary(frame) for frame in kept)
                send(kept)

            monkeypatch.setattr(guest.link, "send", watch)
            channel = await guest.network.open_udp(9)
            await channel.send(b"x")
            await trio.sleep(1)
        return sent

    (line,) = virtual(main)
    assert "unreachable" in line


def test_pings() -> None:
    async def main() -> None:
        async with open_simulated_guest(cable=Impairment(delay=0.1)) as guest:
            for host in (SERVER, "2001:db8:1::1", GATEWAY):
                assert await guest.ping(host) == pytest.approx(0.2)
            guest.host.delay(SERVER, 1.0)
            assert await guest.ping(SERVER, bytes(3000)) == pytest.approx(1.2)
            guest.host.refuse(SERVER, errno.EHOSTUNREACH)
            with pytest.raises(OSError, match="No route to host"):
                await guest.ping(SERVER)
            guest.host.blackhole(SERVER)
            with trio.move_on_after(100) as scope:
                await guest.ping(SERVER)
            assert scope.cancelled_caught

    virtual(main)


def test_names() -> None:
    async def main() -> None:
        config = replace(
            make_simulated_config(),
            dns_servers=(GATEWAY,),
            dns_forward=((GATEWAY, ("192.0.2.53", 53)),),
            hosts=(("app.example", (SERVER, "2001:db8:1::80")),),
        )
        async with open_simulated_guest(config) as guest, guest.host.listen_tcp(80, host=SERVER) as listener:
            assert await guest.resolve("app.example") == [
                socket.inet_pton(socket.AF_INET, SERVER),
                socket.inet_pton(socket.AF_INET6, "2001:db8:1::80"),
            ]
            stream = await guest.open_tcp_stream("app.example", 80)
            await (await listener.accept()).aclose()
            assert stream.peer == Endpoint(SERVER, 80)
            with pytest.raises(socket.gaierror, match="no name server answered"):
                await guest.resolve("other.example")

    virtual(main)


def test_decisions_and_events() -> None:
    async def decide(flow: NewFlow) -> Refuse:
        await trio.sleep(3)
        return Refuse(errno.EHOSTUNREACH)

    async def main() -> None:
        config = replace(make_simulated_config(), default_action=Action.ASK)
        async with open_simulated_guest(config, decide=decide) as guest, guest.network.subscribe() as events:
            with pytest.raises(OSError, match="No route to host"):
                await guest.open_tcp_stream(SERVER, 80)
            assert trio.current_time() == pytest.approx(3, abs=0.5)
            async for event in events:
                assert type(event).__name__ == "FlowRefused"
                break

    virtual(main)


def test_no_descriptor_but_the_links_is_made() -> None:
    async def main() -> None:
        async with open_simulated_guest() as guest, guest.host.listen_tcp(80):
            stream = await guest.open_tcp_stream(SERVER, 80)
            await stream.send_all(b"x")
            assert guest.network.driver_statistics().sockets == 0
            assert len(guest.network.flows()) == 1

    virtual(main)


def test_a_guest_that_does_not_read_holds_frames_back() -> None:
    async def main() -> None:
        services = Services()
        async with open_simulated_guest(services=services, room=4) as guest:
            _, theirs = await connected(guest, services, 80)
            guest.link.room = 0
            with trio.move_on_after(10):
                await theirs.send_all(bytes(1 << 20))
            statistics = guest.network.driver_statistics()
            assert statistics.frames_pending > 0
            assert statistics.frames_dropped == 0

    virtual(main)


def test_the_end_of_the_network_ends_everything_in_the_guest() -> None:
    async def main() -> None:
        services = Services()
        async with open_simulated_guest(services=services) as guest:
            mine, _ = await connected(guest, services, 80)
            listener = guest.listen_tcp(22)
            datagrams = guest.open_datagrams()
        with pytest.raises(trio.BrokenResourceError, match="Network is down"):
            await mine.receive_some()
        with pytest.raises(OSError, match="Network is down"):
            await listener.accept()
        with pytest.raises(OSError, match="Network is down"):
            await datagrams.receive()

    virtual(main)


def test_a_link_that_hangs_up_is_one_exception() -> None:
    async def hang_up() -> None:
        async with open_simulated_guest() as guest:
            guest.link.hang_up()
            await trio.sleep_forever()

    with pytest.raises(LinkClosed):
        virtual(hang_up)


def test_a_network_that_breaks_a_rule_fails_the_test() -> None:
    """The guest checks all that it gets: here a frame with a wrong checksum."""

    async def break_a_rule() -> None:
        async with open_simulated_guest() as guest:
            guest.link.write_frames([WRONG_FRAME])
            await trio.sleep_forever()

    with pytest.raises(AssertionError, match="checksum"):
        virtual(break_a_rule)


def test_an_exception_of_the_test_leaves_the_block_alone() -> None:
    async def main() -> None:
        with pytest.raises(KeyError, match="mine"):
            async with open_simulated_guest():
                raise KeyError("mine")

    virtual(main)


def test_a_rule_that_the_network_breaks_is_told_to_a_test_that_waits_for_a_connection() -> None:
    """It is told that, and not that the connection broke."""

    async def break_a_rule() -> None:
        async with open_simulated_guest() as guest:
            listener = guest.host.listen_tcp(80)
            stream = await guest.open_tcp_stream(SERVER, 80)
            kept = await listener.accept()

            async def write() -> None:
                await trio.sleep(1)
                guest.link.write_frames([WRONG_FRAME])

            guest.nursery.start_soon(write)
            await stream.receive_some()
            await kept.aclose()

    with pytest.raises(AssertionError, match="checksum"):
        virtual(break_a_rule)
