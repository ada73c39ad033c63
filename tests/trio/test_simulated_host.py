"""The simulated host of the published kit: the orders that it carries out, and the translation before them."""

from __future__ import annotations

import errno

import pytest
import trio

from sansnet_core import Allow, Endpoint, Rule
from sansnet_core.policy import Action
from sansnet_core.records import replace
from sansnet_trio import GuestStream, NewFlow
from sansnet_trio.testing import SimulatedGuest, SimulatedHost, make_simulated_config, open_simulated_guest
from sansnet_trio.testing.pytest_plugin import RunWithGuest

SERVER = "192.0.2.80"


async def greeting(guest: SimulatedGuest, address: str, port: int = 80) -> bytes:
    """Connect and receive until the end."""
    async with await guest.open_tcp_stream(address, port) as stream:
        return b"".join([data async for data in stream])


async def serve_names(host: SimulatedHost, nursery: trio.Nursery, **places: tuple[str | None, int | None]) -> None:
    """Servers that send their name."""
    for name, (address, port) in places.items():

        async def serve(stream: GuestStream, name: str = name) -> None:
            await stream.send_all(name.encode())

        async def listen(serve: object = serve, address: str | None = address, port: int | None = port) -> None:
            assert callable(serve)
            await host.serve_tcp(serve, port, host=address)

        nursery.start_soon(listen)
    await trio.testing.wait_all_tasks_blocked()


def test_the_most_specific_server_counts(simulated_guest: RunWithGuest) -> None:
    async def check(guest: SimulatedGuest) -> None:
        await serve_names(
            guest.host,
            guest.nursery,
            everything=(None, None),
            web=(None, 80),
            network=("192.0.2.0/24", None),
            server=(SERVER, None),
            web_server=(SERVER, 80),
        )
        assert await greeting(guest, "198.51.100.1", 22) == b"everything"
        assert await greeting(guest, "2001:db8:1::1", 80) == b"web"
        assert await greeting(guest, "192.0.2.1", 80) == b"network"
        assert await greeting(guest, SERVER, 22) == b"server"
        assert await greeting(guest, SERVER) == b"web_server"

    simulated_guest(check)


def test_a_place_has_one_server() -> None:
    host = SimulatedHost()
    kept = host.listen_tcp(80), host.open_datagrams(80)
    with pytest.raises(OSError, match="Address already in use"):
        host.listen_tcp(80)
    with pytest.raises(OSError, match="Address already in use"):
        host.open_datagrams(80)
    assert kept


def test_servers_have_addresses_of_the_hosts_side(simulated_guest: RunWithGuest) -> None:
    """The guest reaches the host's loopback by an address of its own; the server is at the loopback."""

    async def check(guest: SimulatedGuest) -> None:
        await serve_names(guest.host, guest.nursery, loopback=("127.0.0.1", 80), other=(None, 80))
        assert await greeting(guest, "10.0.2.2") == b"loopback"
        assert await greeting(guest, SERVER) == b"other"

    simulated_guest(check, config=replace(make_simulated_config(), map_host_loopback=("10.0.2.2",)))


def test_rules_and_verdicts_come_before_the_host(simulated_guest: RunWithGuest) -> None:
    async def decide(flow: NewFlow) -> Allow:
        assert flow.destination == Endpoint("192.0.2.2", 80)
        return Allow(to=Endpoint("127.0.0.1", 8080))

    async def check(guest: SimulatedGuest) -> None:
        await serve_names(guest.host, guest.nursery, elsewhere=("127.0.0.1", 8080), ruled=(SERVER, 81))
        assert await greeting(guest, "192.0.2.1") == b"ruled"
        assert await greeting(guest, "192.0.2.2") == b"elsewhere"
        with pytest.raises(ConnectionRefusedError):
            await guest.open_tcp_stream("192.0.2.3", 80)

    rules = (
        Rule(action=Action.ALLOW, destinations=("192.0.2.1",), to=(SERVER, 81)),
        Rule(action=Action.ASK, destinations=("192.0.2.2",)),
        Rule(action=Action.REFUSE, errno=errno.ECONNREFUSED),
    )
    simulated_guest(check, config=replace(make_simulated_config(), rules=rules), decide=decide)


def test_the_latest_conduct_of_an_address_counts(simulated_guest: RunWithGuest) -> None:
    async def check(guest: SimulatedGuest) -> None:
        host = guest.host
        host.blackhole("0.0.0.0/0")
        host.refuse("192.0.2.0/24", errno.EHOSTUNREACH)
        host.delay(SERVER, 0.0)
        await serve_names(host, guest.nursery, server=(None, 80))
        assert await greeting(guest, SERVER) == b"server"
        with pytest.raises(OSError, match="No route to host"):
            await guest.open_tcp_stream("192.0.2.1", 80)
        with pytest.raises(TimeoutError):
            await guest.open_tcp_stream("198.51.100.1", 80)
        host.delay("0.0.0.0/0", 3.0)
        began = trio.current_time()
        assert await greeting(guest, "198.51.100.1") == b"server"
        assert trio.current_time() - began == pytest.approx(3.0)

    simulated_guest(check)


def test_a_connect_that_the_guest_gives_up_reaches_no_server(simulated_guest: RunWithGuest) -> None:
    async def check(guest: SimulatedGuest) -> None:
        guest.host.delay(SERVER, 60.0)
        listener = guest.host.listen_tcp(80)
        with trio.move_on_after(1):
            await guest.open_tcp_stream(SERVER, 80)
        with trio.move_on_after(200) as scope:
            await listener.accept()
        assert scope.cancelled_caught

    simulated_guest(check, limit=1000)


@pytest.mark.parametrize("source", [("198.51.100.7", 34567), ("2001:db8:5::1", 5)])
def test_outsiders_reach_the_guest(simulated_guest: RunWithGuest, source: tuple[str, int]) -> None:
    async def check(guest: SimulatedGuest) -> None:
        async def serve() -> None:
            async with await listener.accept() as stream:
                assert stream.peer == Endpoint(*source)
                await stream.send_all(b"hello")

        async with guest.listen_tcp(22) as listener, trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            async with await guest.host.open_tcp_stream(22, source=source) as stream:
                assert await stream.receive_some() == b"hello"
        with pytest.raises(ConnectionRefusedError):
            await guest.host.open_tcp_stream(23, source=source)
        async with await guest.host.open_udp(53, source=source) as channel, guest.open_datagrams(53) as mine:
            await channel.send(b"question")
            data, peer = await mine.receive()
            assert (data, peer) == (b"question", Endpoint(*source))
            await mine.send(b"answer", peer)
            assert await channel.receive() == b"answer"

    simulated_guest(check)


def test_several_guests_share_a_host() -> None:
    host = SimulatedHost()

    async def main() -> None:
        async with open_simulated_guest(host=host) as first, open_simulated_guest(host=host) as second:
            await serve_names(host, first.nursery, server=(SERVER, 80))
            assert await greeting(first, SERVER) == await greeting(second, SERVER) == b"server"

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_a_host_without_a_network_has_no_outsiders() -> None:
    async def main() -> None:
        host = SimulatedHost()
        with pytest.raises(OSError, match="Network is down"):
            await host.open_tcp_stream(22)
        async with open_simulated_guest(host=host):
            pass
        with pytest.raises(OSError, match="Network is down"):
            await host.open_udp(22)

    trio.run(main)


def test_an_outsider_connects_again_while_the_guest_remembers_its_last_connection(
    simulated_guest: RunWithGuest,
) -> None:
    async def check(guest: SimulatedGuest) -> None:
        listener = guest.listen_tcp(8080)
        ports = set()
        for _ in range(3):
            outside = await guest.host.open_tcp_stream(8080)
            inside = await listener.accept()
            ports.add(inside.peer.port)
            await inside.aclose()
            await outside.aclose()
            await trio.sleep(1)
        assert len(ports) == 3

    simulated_guest(check)
