"""Streams, listeners and datagrams that a program drops without closing them."""

from __future__ import annotations

import gc
import threading
import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from sansnet_trio import GuestDatagramChannel, GuestDatagrams, GuestStream, Services
from tests.trio.inner import GATEWAY, inner, run

PORT = 80


@asynccontextmanager
async def dropping(what: str) -> AsyncIterator[None]:
    """In the block, an object of this name is dropped."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
        gc.collect()
    assert [str(each.message).split(" ")[:2] for each in caught] == [["unclosed", f"<{what}"]]
    assert caught[0].category is ResourceWarning
    await wait_all_tasks_blocked()


def in_a_thread(drop: Callable[[], None]) -> None:
    thread = threading.Thread(target=drop)
    thread.start()
    thread.join()


@pytest.mark.parametrize("elsewhere", [False, True], ids=["this thread", "another thread"])
@pytest.mark.parametrize("program_opens", [False, True])
def test_a_stream_is_reset(*, program_opens: bool, elsewhere: bool) -> None:
    async def body() -> None:
        services = Services()
        async with inner(services) as network:
            kept: list[GuestStream] = []
            if program_opens:
                listener = network.guest.listen_tcp(PORT)
                kept.append(await network.network.open_tcp_stream(PORT))
                theirs = await listener.accept()
            else:
                async with services.listen_tcp(PORT) as ours:
                    theirs = await network.guest.open_tcp_stream(GATEWAY, PORT)
                    kept.append(await ours.accept())
            async with dropping("GuestStream"):
                (in_a_thread if elsewhere else _call)(kept.clear)
            with pytest.raises(trio.BrokenResourceError):
                await theirs.receive_some()
            assert not network.network.flows()

    run(body)


def _call(drop: Callable[[], None]) -> None:
    drop()


def test_a_stream_that_was_closed_or_broken_is_dropped_in_silence() -> None:
    async def body() -> None:
        services = Services()
        async with services.listen_tcp(PORT) as listener:
            async with inner(services) as network:
                theirs = [await network.guest.open_tcp_stream(GATEWAY, PORT) for _ in range(3)]
                ours = [await listener.accept() for _ in range(3)]
                await ours[0].aclose()
                theirs[1].abort()
                await wait_all_tasks_blocked()
                del ours[:2]
                gc.collect()
            ours.clear()  # its network has ended
            gc.collect()

    run(body)


def test_a_listener_refuses_and_its_place_is_free() -> None:
    async def body() -> None:
        services = Services()
        async with inner(services) as network:
            kept = [services.listen_tcp(PORT)]
            waiting = await network.guest.open_tcp_stream(GATEWAY, PORT)
            async with dropping("GuestListener"):
                kept.clear()
            with pytest.raises(trio.BrokenResourceError):
                await waiting.receive_some()
            with pytest.raises(ConnectionRefusedError):
                await network.guest.open_tcp_stream(GATEWAY, PORT)
            await services.listen_tcp(PORT).aclose()

    run(body)


def test_datagrams_of_services_and_of_one_network() -> None:
    async def body() -> None:
        services = Services()
        async with inner(services) as network:
            ways: tuple[Callable[[], GuestDatagrams], ...] = (
                lambda: services.open_datagrams(PORT),
                lambda: network.network.open_datagrams((GATEWAY, PORT)),
            )
            for open_datagrams in ways:
                kept = [open_datagrams()]
                socket = network.guest.open_datagrams()
                await socket.send(b"hello", (GATEWAY, PORT))
                await kept[0].receive()
                async with dropping("GuestDatagrams"):
                    kept.clear()
                assert not network.network.flows()
                await open_datagrams().aclose()

    run(body)


def test_a_channel_ends_its_flow() -> None:
    async def body() -> None:
        async with inner() as network:
            kept: list[GuestDatagramChannel] = [await network.network.open_udp(PORT)]
            await kept[0].send(b"hello")
            assert network.network.flows()
            async with dropping("GuestDatagramChannel"):
                kept.clear()
            assert not network.network.flows()

    run(body)


def test_what_no_network_uses_is_closed_in_silence() -> None:
    services = Services()
    for _ in range(2):  # the places are free again
        services.listen_tcp(PORT)
        services.open_datagrams(PORT)
        gc.collect()

    async def body() -> None:
        kept: list[object] = [services.listen_tcp(PORT), services.open_datagrams(PORT)]
        async with inner(services):
            pass
        kept.clear()
        gc.collect()
        await wait_all_tasks_blocked()
        await services.listen_tcp(PORT).aclose()

    run(body)
