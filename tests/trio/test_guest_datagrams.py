"""Datagrams between the program and its guests."""

from __future__ import annotations

import errno

import pytest
import trio
from trio.testing import assert_checkpoints

from sansnet_core import ConfigError, Endpoint
from sansnet_trio import GuestDatagramChannel, GuestDatagrams, Services
from tests.trio.inner import GATEWAY, inner, run

VIRTUAL = "10.9.1.2"


def test_a_service_answers_each_guest() -> None:
    async def body() -> None:
        services = Services()
        datagrams = services.open_datagrams(53)
        async with inner(services) as one, inner(services) as two:
            peers = {}
            for network, text in ((one, b"one"), (two, b"two")):
                socket = network.guest.open_datagrams(5000)
                await socket.send(text, (GATEWAY, 53))
                data, peer = await datagrams.receive()
                assert (data, peer.guest, peer.destination) == (
                    text,
                    Endpoint("10.0.2.15", 5000),
                    Endpoint(GATEWAY, 53),
                )
                assert peer.network is network.network
                assert str(peer) == "10.0.2.15:5000 to 10.0.2.2:53"
                peers[text] = peer, socket
            assert peers[b"one"][0] != peers[b"two"][0], "the same endpoints in different networks"
            for text, (peer, socket) in peers.items():
                await datagrams.send(text.upper(), peer)
                assert await socket.receive() == (text.upper(), Endpoint(GATEWAY, 53))

    run(body)


def test_all_ports_and_prefixes() -> None:
    async def body() -> None:
        services = Services()
        datagrams = services.open_datagrams(None, host="10.9.0.0/16")
        async with inner(services) as network:
            socket = network.guest.open_datagrams()
            for host, port in ((VIRTUAL, 7), ("10.9.200.200", 65535)):
                await socket.send(b"to you", (host, port))
                data, peer = await datagrams.receive()
                assert (data, peer.destination) == (b"to you", Endpoint(host, port))
                await datagrams.send(b"from me", peer)
                assert await socket.receive() == (b"from me", Endpoint(host, port))

    run(body)


@pytest.mark.parametrize("size", [0, 1, 1472, 1473, 9000, 65507])
def test_sizes(size: int) -> None:
    async def body() -> None:
        services = Services()
        datagrams = services.open_datagrams(53)
        async with inner(services) as network:
            socket = network.guest.open_datagrams()
            await socket.send(bytes(size), (GATEWAY, 53))
            data, peer = await datagrams.receive()
            assert (len(data), type(data)) == (size, bytes)
            await datagrams.send(bytearray(data), peer)
            assert len((await socket.receive())[0]) == size
            with pytest.raises(OSError, match="65508 bytes") as caught:
                await datagrams.send(bytes(65508), peer)
            assert caught.value.errno == errno.EMSGSIZE

    run(body)


def test_the_queue_is_bounded_for_each_guest() -> None:
    async def body() -> None:
        services = Services()
        datagrams = services.open_datagrams(53)
        async with inner(services) as noisy, inner(services) as quiet:
            socket = noisy.guest.open_datagrams()
            for _ in range(3000):
                await socket.send(bytes(1000), (GATEWAY, 53))
                await trio.sleep(0.001)
            dropped = datagrams.dropped
            assert 2000 < dropped < 3000
            await quiet.guest.open_datagrams().send(b"hello", (GATEWAY, 53))
            await trio.sleep(1)
            assert datagrams.dropped == dropped
            received = [await datagrams.receive() for _ in range(3001 - dropped)]
            assert received[-1][0] == b"hello"
            await socket.send(b"again", (GATEWAY, 53))
            assert (await datagrams.receive())[0] == b"again"

    run(body)


def test_a_cancelled_receive_loses_nothing() -> None:
    async def body() -> None:
        services = Services()
        datagrams = services.open_datagrams(53)
        async with inner(services) as network:
            await network.guest.open_datagrams().send(b"kept", (GATEWAY, 53))
            await trio.sleep(1)
            with trio.CancelScope() as scope:
                scope.cancel()
                await datagrams.receive()
            with assert_checkpoints():
                data, peer = await datagrams.receive()
            with assert_checkpoints():
                await datagrams.send(data, peer)
            assert data == b"kept"

    run(body)


def test_send_does_not_wait_for_ever_and_the_end_of_a_network_is_no_error() -> None:
    async def body() -> None:
        services = Services()
        datagrams = services.open_datagrams(53)
        async with inner(services) as network:
            await network.guest.open_datagrams().send(b"x", (GATEWAY, 53))
            _, peer = await datagrams.receive()
        before = network.network.driver_statistics().datagrams_dropped
        with trio.fail_after(5):
            await datagrams.send(b"y", peer)
        assert network.network.driver_statistics().datagrams_dropped == before + 1

    run(body)


def test_close() -> None:
    async def body() -> None:
        services = Services()
        datagrams = services.open_datagrams(53)
        async with inner(services) as network:
            socket = network.guest.open_datagrams()
            await socket.send(b"x", (GATEWAY, 53))
            _, peer = await datagrams.receive()

            async def receive() -> None:
                with pytest.raises(trio.ClosedResourceError):
                    await datagrams.receive()

            async with trio.open_nursery() as nursery:
                nursery.start_soon(receive)
                await trio.sleep(1)
                await datagrams.aclose()
            with pytest.raises(trio.ClosedResourceError):
                await datagrams.send(b"x", peer)
            await socket.send(b"x", (GATEWAY, 53))
            with pytest.raises(ConnectionRefusedError):
                await socket.receive()
            await services.open_datagrams(53).aclose()

    run(body)


def test_the_program_sends_first() -> None:
    async def body() -> None:
        async with inner() as network, network.network.open_datagrams() as ours:
            theirs = network.guest.open_datagrams(7000)
            assert ours.port is not None
            await ours.send(b"news", network.network.peer(7000))
            data, sender = await theirs.receive()
            assert (data, sender) == (b"news", Endpoint(GATEWAY, ours.port))
            await theirs.send(b"thanks", sender)
            data, peer = await ours.receive()
            assert data == b"thanks"
            assert peer == network.network.peer(7000, source=(GATEWAY, ours.port))

    run(body)


def test_a_channel_to_one_endpoint() -> None:
    async def body() -> None:
        async with inner() as network:
            server = network.guest.open_datagrams(7)
            other = network.guest.open_datagrams(8)
            channel = await network.network.open_udp(7)
            await channel.send(b"ping")
            data, sender = await server.receive()
            assert (data, sender) == (b"ping", channel.destination)
            await other.send(b"not me", sender)
            await server.send(b"pong", sender)
            assert await channel.receive() == b"pong"
            assert (channel.guest, channel.network) == (Endpoint("10.0.2.15", 7), network.network)
            await channel.aclose()
            with pytest.raises(trio.ClosedResourceError):
                await channel.send(b"x")
            with pytest.raises(trio.ClosedResourceError):
                await channel.receive()

    run(body)


def test_a_channel_from_a_chosen_endpoint_of_either_family() -> None:
    async def body() -> None:
        async with inner() as network:
            server = network.guest.open_datagrams(7)
            for source in ((VIRTUAL, 4000), ("fe80::1", 4001)):
                async with await network.network.open_udp(7, source=source) as channel:
                    await channel.send(b"ping")
                    assert await server.receive() == (b"ping", Endpoint(*source))
                    with pytest.raises(OSError, match="is served already"):
                        await network.network.open_udp(7, source=source)

    run(body)


def test_errors_of_the_arguments() -> None:
    async def body() -> None:
        async with inner() as network:
            with pytest.raises(OSError, match="assign") as caught:
                await network.network.open_udp(7, source=("192.0.2.1", 4000))
            assert caught.value.errno == errno.EADDRNOTAVAIL
            for call in (network.network.open_udp, network.network.open_tcp_stream):
                with pytest.raises(ConfigError, match="port: 0"):
                    await call(0)
                with pytest.raises(ConfigError, match="host: 'nowhere'"):
                    await call(7, "nowhere")
                with pytest.raises(ConfigError, match="source: "):
                    await call(7, source=("10.9.0.1", 70000))
        with pytest.raises(OSError, match="does not run") as caught:
            await network.network.open_udp(7)
        assert caught.value.errno == errno.ENETDOWN
        with pytest.raises(OSError, match="does not run"):
            network.network.open_datagrams()
        with pytest.raises(OSError, match="does not run"):
            await network.network.open_tcp_stream(7)

    run(body)


def test_the_end_of_the_network_wakes_its_channels() -> None:
    broken = []

    async def receive(receiver: GuestDatagrams | GuestDatagramChannel) -> None:
        with pytest.raises(trio.BrokenResourceError) as caught:
            await receiver.receive()
        broken.append(caught.value.__cause__)

    async def body() -> None:
        async with trio.open_nursery() as nursery, inner() as network:
            nursery.start_soon(receive, await network.network.open_udp(7))
            nursery.start_soon(receive, network.network.open_datagrams())
            await trio.sleep(1)
        assert [error.errno for error in broken if isinstance(error, OSError)] == [errno.ENETDOWN] * 2

    run(body)


# closed ports of the guest


def test_a_channel_is_told_that_the_guests_port_is_closed() -> None:
    async def body() -> None:
        async with inner() as network, await network.network.open_udp(7) as channel:
            await channel.send(b"anyone?")
            with pytest.raises(ConnectionRefusedError):  # the task waits
                await channel.receive()
            await channel.send(b"anyone?")
            await trio.sleep(1)
            with pytest.raises(ConnectionRefusedError):  # as sendto(2): this datagram is not sent
                await channel.send(b"again")
            async with network.guest.open_datagrams(7) as socket:  # a program has started, and the channel works
                await channel.send(b"hello")
                data, peer = await socket.receive()
                assert data == b"hello"
                await socket.send(b"welcome", (peer.address, peer.port))
                assert await channel.receive() == b"welcome"
            await channel.send(b"still there?")
            await trio.sleep(1)
            await channel.aclose()
            with pytest.raises(trio.ClosedResourceError):
                await channel.receive()

    run(body)


def test_a_channel_tells_a_failure_before_the_datagrams_that_wait() -> None:
    async def body() -> None:
        async with inner() as network, await network.network.open_udp(7) as channel:
            async with network.guest.open_datagrams(7) as socket:
                await channel.send(b"hello")
                _, peer = await socket.receive()
                await socket.send(b"welcome", (peer.address, peer.port))
            await trio.sleep(1)
            await channel.send(b"again")
            await trio.sleep(1)
            with pytest.raises(ConnectionRefusedError):
                await channel.receive()
            assert await channel.receive() == b"welcome"

    run(body)


def test_datagrams_for_many_peers_are_not_told() -> None:
    async def body() -> None:
        async with inner() as network, network.network.open_datagrams((GATEWAY, 53)) as datagrams:
            peer = network.network.peer(7)
            await datagrams.send(b"anyone?", peer)
            await trio.sleep(1)
            await datagrams.send(b"anyone?", peer)
            with trio.move_on_after(1) as scope:
                await datagrams.receive()
            assert scope.cancelled_caught

    run(body)


def test_each_task_gets_an_error_of_its_own_from_closed_datagrams() -> None:
    async def body() -> None:
        datagrams = Services().open_datagrams(53)
        await datagrams.aclose()
        errors = []
        for _ in range(2):
            with pytest.raises(trio.ClosedResourceError) as caught:
                await datagrams.receive()
            errors.append(caught.value)
        assert errors[0] is not errors[1]

    run(body)
