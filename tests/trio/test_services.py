"""`Services` and `GuestListener`: which service gets a connection, and when."""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial

import pytest
import trio
from trio.testing import assert_checkpoints

from sansnet_core import ConfigError, Limits
from sansnet_core.testing import GuestStack
from sansnet_trio import GuestListener, GuestStream, Services, open_network
from sansnet_trio.testing import MemoryLink
from tests.trio.inner import CONFIG, GATEWAY, Inner, inner, run

VIRTUAL = "10.9.1.2"


async def greeting(network: Inner, host: str, port: int) -> bytes:
    """Connect as the guest; the first data."""
    async with await network.guest.open_tcp_stream(host, port) as stream:
        return await stream.receive_some()


def greets(text: bytes) -> Callable[[GuestStream], Awaitable[None]]:
    """A handler that sends a text."""

    async def handle(stream: GuestStream) -> None:
        await stream.send_all(text)

    return handle


async def says(services: Services, nursery: trio.Nursery, text: bytes, port: int | None, host: str | None) -> None:
    """Serve a text."""
    await nursery.start(partial(services.serve_tcp, greets(text), port, host=host))


def test_the_most_specific_service_decides() -> None:
    async def body() -> None:
        services = Services()
        async with inner(services) as network, trio.open_nursery() as nursery:
            await says(services, nursery, b"own 80", 80, None)
            await says(services, nursery, b"own all", None, None)
            await says(services, nursery, b"prefix all", None, "10.9.1.0/24")
            await says(services, nursery, b"prefix 80", 80, "10.9.1.0/24")
            await says(services, nursery, b"host 80", 80, VIRTUAL)
            await says(services, nursery, b"the whole world", 443, "0.0.0.0/0")
            await says(services, nursery, b"IPv6", 443, "2001:db8:5::/48")
            expected = {
                (GATEWAY, 80): b"own 80",
                (GATEWAY, 81): b"own all",
                ("10.9.7.7", 80): b"own 80",
                ("10.9.1.1", 81): b"prefix all",
                ("10.9.1.1", 80): b"prefix 80",
                (VIRTUAL, 80): b"host 80",
                (VIRTUAL, 81): b"prefix all",
                ("203.0.113.9", 443): b"the whole world",
                ("2001:db8:5::1", 443): b"IPv6",
                ("fe80::1", 5): b"own all",
            }
            for (host, port), text in expected.items():
                assert await greeting(network, host, port) == text
            nursery.cancel_scope.cancel()

    run(body)


def test_a_virtual_address_without_service_refuses() -> None:
    async def body() -> None:
        async with inner(Services()) as network:
            for host in (GATEWAY, VIRTUAL):
                with pytest.raises(ConnectionRefusedError):
                    await network.guest.open_tcp_stream(host, 80)

    run(body)


def test_a_place_is_served_once() -> None:
    async def body() -> None:
        services = Services()
        kept: list[object] = [services.listen_tcp(80)]
        with pytest.raises(OSError, match="TCP port 80 of all addresses of the program is served") as caught:
            services.listen_tcp(80)
        assert caught.value.errno == errno.EADDRINUSE
        kept += services.open_datagrams(80), services.listen_tcp(80, host=VIRTUAL)
        with pytest.raises(OSError, match=r"TCP port 80 of 10\.9\.1\.2/32 is served"):
            services.listen_tcp(80, host="10.9.1.2/32")
        async with inner(services):
            with pytest.raises(OSError, match="UDP port 80"):
                services.open_datagrams(80)

    run(body)


def test_a_place_that_the_program_uses_in_one_network_is_in_use() -> None:
    async def body() -> None:
        services = Services()
        async with inner(services) as network:
            mine = network.network.open_datagrams((VIRTUAL, 53))
            with pytest.raises(OSError, match="is served already"):
                services.open_datagrams(53, host=VIRTUAL)
            await mine.aclose()
            theirs = services.open_datagrams(53, host=VIRTUAL)
            with pytest.raises(OSError, match="is served already"):
                network.network.open_datagrams((VIRTUAL, 53))
            await theirs.aclose()

    run(body)


@pytest.mark.parametrize("port", [0, -1, 65536, "80", True])
def test_a_port_that_is_none(port: int) -> None:
    with pytest.raises(ConfigError, match=r"port: .* give 1 to 65535, or None for all"):
        Services().listen_tcp(port)
    with pytest.raises(ConfigError, match="port: "):
        Services().open_datagrams(port)


def test_other_arguments_that_are_wrong() -> None:
    with pytest.raises(ConfigError, match=r"host: .*example"):
        Services().listen_tcp(80, host="example.org")
    with pytest.raises(ConfigError, match="backlog: 0"):
        Services().listen_tcp(80, backlog=0)


def test_services_come_and_go_while_networks_run() -> None:
    async def body() -> None:
        services = Services()
        async with inner(services) as one, inner(services) as two, trio.open_nursery() as nursery:
            with pytest.raises(ConnectionRefusedError):
                await one.guest.open_tcp_stream(GATEWAY, 80)
            listener = await nursery.start(partial(services.serve_tcp, greets(b"hello"), 80))
            assert isinstance(listener, GuestListener)
            assert [await greeting(one, GATEWAY, 80), await greeting(two, GATEWAY, 80)] == [b"hello", b"hello"]
            nursery.cancel_scope.cancel()
            await trio.sleep(0)
        async with inner(services) as three:
            with pytest.raises(ConnectionRefusedError):
                await three.guest.open_tcp_stream(GATEWAY, 80)

    run(body)


def test_a_listener_goes_on_with_the_next_network() -> None:
    async def body() -> None:
        services = Services()
        listener = services.listen_tcp(80)
        streams = []

        async def accept() -> None:
            while True:
                streams.append(await listener.accept())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(accept)
            for _ in range(3):
                async with inner(services) as network:
                    await network.guest.open_tcp_stream(GATEWAY, 80)
                    await trio.sleep(1)
                    assert streams[-1].network is network.network
            assert len(streams) == 3
            with pytest.raises(trio.BrokenResourceError):
                await streams[0].receive_some()
            nursery.cancel_scope.cancel()

    run(body)


def test_open_streams_survive_their_listener() -> None:
    async def body() -> None:
        services = Services()
        listener = services.listen_tcp(80)
        async with inner(services) as network:
            theirs = await network.guest.open_tcp_stream(GATEWAY, 80)
            ours = await listener.accept()
            await listener.aclose()
            await theirs.send_all(b"still here")
            assert await ours.receive_some() == b"still here"

    run(body)


def test_a_closed_listener_refuses_what_waits() -> None:
    async def body() -> None:
        services = Services()
        listener = services.listen_tcp(80, backlog=1)
        async with inner(services) as network:
            answered = await network.guest.open_tcp_stream(GATEWAY, 80)
            failures: list[BaseException] = []

            async def connect() -> None:
                with pytest.raises(ConnectionRefusedError) as caught:
                    await network.guest.open_tcp_stream(GATEWAY, 80)
                failures.append(caught.value)

            async def accept() -> None:
                with pytest.raises(trio.ClosedResourceError):
                    await listener.accept()

            async with trio.open_nursery() as nursery:
                nursery.start_soon(connect)
                await trio.sleep(10)
                assert not failures, "the backlog is full, so it waits"
                await listener.aclose()
                nursery.start_soon(accept)
            assert failures
            with pytest.raises(trio.BrokenResourceError):
                await answered.receive_some()
            assert network.network.flows() == []
            await listener.aclose()

    run(body)


def test_the_backlog_is_one_per_guest_and_connections_wait_for_room() -> None:
    async def body() -> None:
        services = Services()
        listener = services.listen_tcp(80, backlog=2)
        async with inner(services) as one, inner(services) as two, trio.open_nursery() as nursery:
            connected = []

            async def connect(network: Inner, name: str) -> None:
                stream = await network.guest.open_tcp_stream(GATEWAY, 80)
                connected.append(name)
                await stream.send_all(name.encode())

            for number in range(5):
                nursery.start_soon(connect, one, f"one {number}")
            await trio.sleep(1)
            assert len(connected) == 2
            await connect(two, "two")
            accepted = []
            for expected in range(3, 6):
                accepted.append(await listener.accept())
                await trio.sleep(1)
                assert len([name for name in connected if name != "two"]) in (expected - 1, expected)
            accepted += [await listener.accept() for _ in range(3)]
            assert sorted([(await stream.receive_some()).decode() for stream in accepted]) == sorted(connected)
            assert len(connected) == 6

    run(body)


def test_a_connection_that_its_guest_gives_up_leaves_the_backlog() -> None:
    async def body() -> None:
        services = Services()
        listener = services.listen_tcp(80, backlog=1)
        async with inner(services) as network:
            for _ in range(3):  # the first is in the queue, the next ones get no answer
                stream = await network.guest.open_tcp_stream(GATEWAY, 80)
                with trio.move_on_after(5):
                    await network.guest.open_tcp_stream(GATEWAY, 80)
                stream.abort()
                await trio.sleep(20)
                assert network.network.flows() == []
            stream = await network.guest.open_tcp_stream(GATEWAY, 80)
            accepted = await listener.accept()
            assert accepted.guest == stream.guest
            await trio.sleep(10)

    run(body)


def test_a_handshake_that_is_never_complete_is_not_accepted() -> None:
    async def body() -> None:
        services = Services()
        listener = services.listen_tcp(80, backlog=2)
        link = MemoryLink(CONFIG.link)
        guest = GuestStack(mac=CONFIG.guest_mac or b"", gateway_mac=CONFIG.mac)
        async with open_network(link, CONFIG, services=services) as network:
            for _ in range(20):
                guest.connect((bytes((10, 0, 2, 2)), 80), now=trio.current_time())
            link.send(guest.take_frames())
            with trio.move_on_after(1):
                await listener.accept()
                raise AssertionError("the guest has acknowledged nothing")
            states = Counter(flow.state for flow in network.flows())
            assert states == {"SYN_ACK_SENT": 2, "SYN_RECEIVED": 18}
            with trio.move_on_after(300):
                await listener.accept()
            assert network.flows() == []

    run(body)


def test_accept_by_two_tasks() -> None:
    async def body() -> None:
        listener = Services().listen_tcp(80)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(listener.accept)
            await trio.sleep(1)
            with pytest.raises(trio.BusyResourceError, match="another task is accepting"):
                await listener.accept()
            nursery.cancel_scope.cancel()

    run(body)


def test_a_cancelled_accept_loses_no_connection() -> None:
    async def body() -> None:
        services = Services()
        listener = services.listen_tcp(80)
        async with inner(services) as network:
            for _ in range(20):
                with trio.CancelScope() as scope:
                    scope.cancel()
                    await listener.accept()
                theirs = await network.guest.open_tcp_stream(GATEWAY, 80)
                await trio.sleep(0.01)
                with trio.CancelScope() as scope:
                    scope.cancel()
                    with assert_checkpoints():
                        await listener.accept()
                with assert_checkpoints():
                    ours = await listener.accept()
                assert ours.guest == theirs.guest
                await ours.aclose()

    run(body)


def test_serve_tcp_closes_the_listener_at_its_end() -> None:
    async def body() -> None:
        services = Services()
        for _ in range(2):
            with trio.move_on_after(1):
                await services.serve_tcp(greets(b""), 80)
        assert repr(services) == "<Services: none>"

    run(body)


def test_the_exception_of_a_handler_leaves_serve_tcp_alone() -> None:
    class Mine(Exception):
        pass

    async def fail(stream: GuestStream) -> None:
        raise Mine

    async def body() -> None:
        services = Services()
        async with inner(services) as network, trio.open_nursery() as nursery:

            async def serve() -> None:
                with pytest.raises(Mine):
                    await services.serve_tcp(fail, 80)
                nursery.cancel_scope.cancel()

            nursery.start_soon(serve)
            while repr(services) == "<Services: none>":
                await trio.sleep(0)
            await network.guest.open_tcp_stream(str(GATEWAY), 80)
            await trio.sleep(1)
        assert repr(services) == "<Services: none>"

    run(body)


def test_no_descriptor_is_made_for_a_service() -> None:
    async def body() -> None:
        services = Services()
        async with inner(services) as network:
            listener = services.listen_tcp(80)
            datagrams = services.open_datagrams(80)
            before = set(os.listdir("/proc/self/fd"))
            theirs = [await network.guest.open_tcp_stream(GATEWAY, 80) for _ in range(20)]
            ours = [await listener.accept() for _ in theirs]
            await ours[0].send_all(b"x")
            assert set(os.listdir("/proc/self/fd")) == before
            await datagrams.aclose()

    run(body)


def test_a_flood_of_connections_is_bounded() -> None:
    async def body() -> None:
        services = Services()
        listener = services.listen_tcp(80, backlog=4)

        async def connect(network: Inner) -> None:
            with suppress(TimeoutError):
                await network.guest.open_tcp_stream(GATEWAY, 80)

        async with inner(services, limits=Limits(tcp_pending=8)) as network, trio.open_nursery() as nursery:
            for _ in range(100):
                nursery.start_soon(connect, network)
            await trio.sleep(1)
            assert len(network.network.flows()) <= 12
            streams = []
            for _ in range(30):
                streams.append(await listener.accept())
                assert len(network.network.flows()) <= 42
            nursery.cancel_scope.cancel()

    run(body)


def test_what_a_batch_of_orders_leads_to_does_not_turn_the_time_of_the_network_back() -> None:
    """In one batch a connection leaves the backlog, so the next one is answered, and a task gets data that it wants."""

    async def expect(stream: GuestStream, data: bytes) -> None:
        async with stream:
            assert await stream.receive_some() == data

    async def body() -> None:
        services = Services()
        listener = services.listen_tcp(80, backlog=1)
        other = services.listen_tcp(81)
        async with inner(services) as network, trio.open_nursery() as nursery:
            first = await network.guest.open_tcp_stream(GATEWAY, 80)
            theirs = await network.guest.open_tcp_stream(GATEWAY, 81)
            nursery.start_soon(network.guest.open_tcp_stream, GATEWAY, 80)
            nursery.start_soon(expect, await other.accept(), b"data")
            with trio.fail_after(20):
                while len(network.network.flows()) < 3:
                    await trio.sleep(0.01)
                first.abort()
                theirs.connection.send(b"data")
                while len(network.network.flows()) == 3:
                    await trio.sleep(0.01)
                await (await listener.accept()).aclose()

    trio.run(body)  # by a clock that moves with every look at it
