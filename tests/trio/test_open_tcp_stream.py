"""`GuestNetwork.open_tcp_stream`: its errors are those of connect()."""

from __future__ import annotations

import errno

import pytest
import trio

from sansnet_core import Endpoint
from sansnet_core.testing import GuestStack, Impairment
from sansnet_trio import open_network
from sansnet_trio.testing import MemoryLink
from tests.trio.inner import CONFIG, GATEWAY, inner, run

VIRTUAL = "10.9.1.2"


@pytest.mark.parametrize("source", [None, (VIRTUAL, 0), (VIRTUAL, 1234), ("fe80::1", 0), (GATEWAY, 99)])
def test_the_guest_sees_the_source(source: tuple[str, int] | None) -> None:
    async def body() -> None:
        async with inner() as network:
            listener = network.guest.listen_tcp(80)
            ours = await network.network.open_tcp_stream(80, source=source)
            theirs = await listener.accept()
            assert theirs.peer == ours.destination
            host, port = source or (GATEWAY, 0)
            assert ours.destination.address == Endpoint(host, 0).address
            if port:
                assert ours.destination.port == port

    run(body)


def test_a_closed_port_refuses() -> None:
    async def body() -> None:
        async with inner() as network:
            with pytest.raises(ConnectionRefusedError):
                await network.network.open_tcp_stream(80)
            assert network.network.flows() == []

    run(body)


@pytest.mark.parametrize("known", [False, True])
def test_a_guest_that_does_not_answer(known: bool) -> None:
    async def body() -> None:
        link = MemoryLink(CONFIG.link)
        guest = GuestStack(mac=CONFIG.guest_mac or b"", gateway_mac=CONFIG.mac)
        async with open_network(link, CONFIG) as network:
            if known:
                guest.connect((bytes((10, 0, 2, 2)), 80), now=trio.current_time())
                link.send(guest.take_frames())
            began = trio.current_time()
            with pytest.raises(OSError, match="timed out") as caught:
                await network.open_tcp_stream(80)
            assert caught.value.errno == errno.ETIMEDOUT
            assert 10 < trio.current_time() - began < 300

    run(body)


def test_an_end_that_is_in_use() -> None:
    async def body() -> None:
        async with inner() as network:
            network.guest.listen_tcp(80)
            async with await network.network.open_tcp_stream(80, source=(VIRTUAL, 5000)):
                with pytest.raises(OSError, match="in use") as caught:
                    await network.network.open_tcp_stream(80, source=(VIRTUAL, 5000))
            assert caught.value.errno == errno.EADDRINUSE

    run(body)


def test_an_address_that_is_not_ours() -> None:
    async def body() -> None:
        async with inner() as network:
            with pytest.raises(OSError, match="assign") as caught:
                await network.network.open_tcp_stream(80, source=("192.0.2.1", 0))
            assert caught.value.errno == errno.EADDRNOTAVAIL

    run(body)


def test_the_end_of_the_network_wakes_it() -> None:
    failures: list[OSError] = []

    async def body() -> None:
        async with trio.open_nursery() as nursery:
            expected = [errno.ENETDOWN]
            async with inner() as network:
                network.guest.impair(up=Impairment(loss=1.0))

                async def connect() -> None:
                    with pytest.raises(OSError, match="down") as caught:
                        await network.network.open_tcp_stream(80)
                    failures.append(caught.value)

                nursery.start_soon(connect)
                await trio.sleep(1)
        assert [failure.errno for failure in failures] == expected

    run(body)


def test_it_can_be_cancelled() -> None:
    async def body() -> None:
        async with inner() as network:
            network.guest.impair(up=Impairment(loss=1.0))
            with trio.move_on_after(1) as scope:
                await network.network.open_tcp_stream(80)
            assert scope.cancelled_caught
            assert network.network.flows() == []
            network.guest.impair(up=Impairment())
            network.guest.listen_tcp(80)
            with trio.CancelScope() as scope:
                scope.cancel()
                await network.network.open_tcp_stream(80)
            assert scope.cancelled_caught
            assert network.network.flows() == []
            await (await network.network.open_tcp_stream(80)).aclose()

    run(body)
