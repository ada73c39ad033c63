"""The driver's element for a bad network: impairments between any link and the network, in virtual time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pytest
import trio
from trio.testing import MockClock

from sansnet_core import LinkConfig, UsageError
from sansnet_core.impairment import Impairment
from sansnet_core.records import replace
from sansnet_core.testing import GuestTcpOptions, packets
from sansnet_trio import GuestNetwork, NamespaceOptions, NetworkOptions, OptionsError, open_network
from sansnet_trio.testing import MemoryLink, SimulatedGuest, make_simulated_config, open_simulated_guest

SERVER = "192.0.2.80"
T = TypeVar("T")

OFFLOADS = LinkConfig(
    mtu=1500, max_frame_size=65535, vnet_header=True, checksum_offload=True, tso4=True, tso6=True, uso=True
)
LINKS = pytest.mark.parametrize("link", [make_simulated_config().link, OFFLOADS], ids=["plain", "offloads"])


def virtual(main: Callable[[], Awaitable[T]], limit: float = 10_000.0) -> T:
    """Run an async function in virtual time."""

    async def bounded() -> T:
        with trio.fail_after(limit):
            return await main()

    return trio.run(bounded, clock=MockClock(autojump_threshold=0))


async def echo(stream: trio.abc.Stream) -> None:
    """Send back all that comes."""
    async for data in stream:
        await stream.send_all(data)
    await stream.aclose()


async def transferred(guest: SimulatedGuest, size: int, *, down: bool) -> float:
    """Seconds that a transfer of this many bytes takes."""
    done = trio.Event()

    async def serve(stream: Any) -> None:
        async with stream:
            if down:
                await stream.send_all(bytes(size))
                await stream.send_eof()
            received = 0
            async for data in stream:
                received += len(data)
            assert down or received == size
            done.set()

    await guest.nursery.start(guest.host.serve_tcp, serve, 80)
    began = trio.current_time()
    async with await guest.open_tcp_stream(SERVER, 80) as stream:
        if down:
            received = 0
            async for data in stream:
                received += len(data)
            assert received == size
            return trio.current_time() - began
        await stream.send_all(bytes(size))
        await stream.send_eof()
        await done.wait()
        return trio.current_time() - began


@LINKS
@pytest.mark.parametrize(
    ("up", "down", "expected"),
    [
        (Impairment(delay=0.1), None, 0.1),
        (None, Impairment(delay=0.02), 0.02),
        *[(Impairment(delay=1.0),) * 2 + (2.0,)],
    ],
)
def test_a_delay_of_each_direction(
    link: LinkConfig, up: Impairment | None, down: Impairment | None, expected: float
) -> None:
    async def main() -> float:
        async with open_simulated_guest(replace(make_simulated_config(), link=link)) as guest:
            guest.network.impair(up=up, down=down)
            return await guest.ping("10.0.2.2")

    assert virtual(main) == pytest.approx(expected, abs=1e-6)


@LINKS
@pytest.mark.parametrize("down", [False, True], ids=["up", "down"])
def test_a_rate_holds_for_streams_and_wastes_nothing(link: LinkConfig, down: bool) -> None:
    """A million bytes in frames of 1514 take 1.04 s at 8 Mbit/s."""

    async def main() -> float:
        tcp = GuestTcpOptions(
            window=4 << 20, scale=7, partial=link.vnet_header, largest_segment=60000 if link.vnet_header else 0
        )
        async with open_simulated_guest(replace(make_simulated_config(), link=link), tcp=tcp) as guest:
            slow = Impairment(rate=8e6, delay=0.01, queue=None if down else 1000)
            guest.network.impair(up=slow, down=slow, seed=1)
            taken = await transferred(guest, 1_000_000, down=down)
            counters = guest.network.driver_statistics()
            assert counters.impaired_up is not None
            assert counters.impaired_down is not None
            assert counters.impaired_down.overflowed == 0
            if down:
                assert counters.impaired_down.frames < 740
        return taken

    assert 1.0 < virtual(main) < 1.2


def test_sockets_are_read_again_as_soon_as_the_queue_has_room_and_not_only_when_frames_arrive() -> None:
    """A queue of 10 frames takes 15 ms, and they arrive half a second later."""

    async def main() -> float:
        async with open_simulated_guest(tcp=GuestTcpOptions(window=4 << 20, scale=7)) as guest:
            guest.network.impair(down=Impairment(rate=8e6, delay=0.5, queue=10))
            return await transferred(guest, 1_000_000, down=True)

    assert virtual(main) < 2.2


def test_while_the_queue_to_the_guest_is_full_no_socket_is_read() -> None:
    async def main() -> None:
        async with open_simulated_guest(tcp=GuestTcpOptions(window=4 << 20, scale=7)) as guest:
            guest.network.impair(down=Impairment(rate=80_000, queue=10))
            sent = 0

            async def serve(stream: Any) -> None:
                nonlocal sent
                while True:
                    await stream.send_all(bytes(10_000))
                    sent += 10_000

            await guest.nursery.start(guest.host.serve_tcp, serve, 80)
            await guest.open_tcp_stream(SERVER, 80)
            await trio.sleep(10)
            assert sent < 1_000_000  # a tenth of it could have arrived
            assert guest.network.driver_statistics().frames_pending == 0
            guest.network.impair(down=Impairment())
            await trio.sleep(0.1)
            assert sent > 3_000_000

    virtual(main)


def test_faults_are_counted_and_streams_arrive_whole() -> None:
    async def main() -> None:
        bad = Impairment(loss=0.05, duplicate=0.05, reorder=0.05, corrupt=0.05, delay=0.005)
        async with open_simulated_guest() as guest:
            guest.network.impair(up=bad, down=replace(bad, corrupt=0.0), seed=3)
            await guest.nursery.start(guest.host.serve_tcp, echo, 80)
            stream = await guest.open_tcp_stream(SERVER, 80)
            data = bytes(range(256)) * 400
            received = bytearray()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(stream.send_all, data)
                while len(received) < len(data):
                    received += await stream.receive_some()
            assert received == data
            counters = guest.network.driver_statistics()
            for one in (counters.impaired_up, counters.impaired_down):
                assert one is not None
                assert min(one.lost, one.duplicated, one.reordered) > 0
            assert counters.impaired_up is not None
            assert counters.impaired_up.corrupted > 0
            assert guest.network.config.link.verify_checksums
            drops = guest.network.statistics().drops
            assert sum(count for reason, count in drops.items() if "CHECKSUM" in reason.name) > 0

    virtual(main)


@pytest.mark.parametrize("begin", [True, False], ids=["from the beginning", "later"])
def test_checksums_are_verified_if_frames_may_be_corrupted(begin: bool) -> None:
    async def main() -> None:
        link = MemoryLink(OFFLOADS)
        bad = Impairment(corrupt=1.0)
        async with open_network(link, make_simulated_config(), impair_up=bad if begin else None) as network:
            assert network.config.link.verify_checksums == begin
            network.impair(up=bad)
            assert network.config.link.verify_checksums
            request = packets.udp(bytes((10, 0, 2, 15)), 1000, bytes((192, 0, 2, 1)), 9, bytes(1000)).emit()
            frame = packets.ethernet(make_simulated_config().mac, bytes.fromhex("020000000001"), 0x0800, request)
            for _ in range(20):
                link.send([bytes(12) + frame])
            await trio.sleep(0.1)
            assert network.flows() == []
            assert sum(network.statistics().drops.values()) >= 18  # an Ethernet frame may be longer than its packet

    virtual(main)


def test_impairments_change_while_frames_are_on_their_way() -> None:
    async def main() -> list[float]:
        found = []
        async with open_simulated_guest() as guest:
            network = guest.network
            assert network.impairments == (Impairment(), Impairment())
            assert network.driver_statistics().impaired_up is None
            found.append(await guest.ping("10.0.2.2"))
            network.impair(up=Impairment(delay=5.0))
            async with trio.open_nursery() as nursery:

                @nursery.start_soon
                async def ping() -> None:
                    found.append(await guest.ping("10.0.2.2"))

                await trio.sleep(1)
                network.impair(up=Impairment(), down=Impairment(delay=0.5))
                assert network.impairments == (Impairment(), Impairment(delay=0.5))
            found.append(await guest.ping("10.0.2.2"))
        return found

    assert virtual(main) == [0.0, pytest.approx(5.5), pytest.approx(0.5)]


def test_frames_that_wait_for_a_slow_link_leave_at_once_when_it_is_fast() -> None:
    async def main() -> float:
        async with open_simulated_guest() as guest:
            guest.network.impair(up=Impairment(rate=8))  # a ping takes 98 s
            began = trio.current_time()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(guest.ping, "10.0.2.2")
                await trio.sleep(1)
                guest.network.impair(up=Impairment())
            return trio.current_time() - began

    assert virtual(main) == 1.0


def test_a_guest_that_does_not_read_holds_up_what_has_arrived_and_no_more() -> None:
    async def main() -> None:
        async with open_simulated_guest(room=0) as guest:
            guest.network.impair(down=Impairment(delay=0.1))
            with trio.move_on_after(1):
                await guest.ping("10.0.2.2")
            assert guest.network.driver_statistics().frames_pending > 0
            guest.link.room = 1000
            assert await guest.ping("10.0.2.2") == pytest.approx(0.1)
            assert guest.network.driver_statistics().frames_pending == 0

    virtual(main)


def test_very_many_frames_that_arrive_at_once_are_no_single_piece_of_work(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        link = MemoryLink(make_simulated_config().link)
        async with open_network(link, make_simulated_config(), impair_up=Impairment(delay=1.0)) as network:
            batches: list[int] = []
            receive = network.core.receive_frames

            def received(frames: list[bytes], now: float) -> None:
                batches.append(len(frames))
                receive(frames, now)

            assert network.driver.cables is not None
            monkeypatch.setattr(network.driver.cables, "_receive", received)
            link.send([bytes(60)] * 2000)
            await trio.sleep(2)
            assert sum(batches) == 2000
            assert max(batches) <= 256

    virtual(main)


def test_the_end_of_the_link_ends_the_network_although_frames_are_on_their_way() -> None:
    async def main() -> None:
        link = MemoryLink(OFFLOADS)
        slow = Impairment(delay=100.0)
        async with open_network(link, make_simulated_config(), impair_up=slow, impair_down=slow) as network:
            link.send([bytes(72)])
            await trio.sleep(1)
            counters = network.driver_statistics().impaired_up
            assert counters is not None
            assert counters.waiting == 1
            link.hang_up()
            with trio.fail_after(1):
                await network.wait_closed()

    virtual(main)


@pytest.mark.parametrize("seed", [1, 2])
def test_a_seed_repeats_the_faults(seed: int) -> None:
    async def main() -> list[bool]:
        link = MemoryLink(make_simulated_config().link)
        bad = Impairment(loss=0.5)
        found = []
        async with open_network(link, make_simulated_config(), impair_up=bad, impair_seed=seed) as network:
            before = 0
            for _ in range(30):
                link.send([bytes(60)])
                await trio.sleep(0.1)
                counters = network.driver_statistics().impaired_up
                assert counters is not None
                found.append(counters.lost > before)
                before = counters.lost
        return found

    assert virtual(main) == virtual(main)
    assert 5 < sum(virtual(main)) < 25


def test_without_a_seed_faults_differ() -> None:
    async def main() -> int:
        async with open_network(
            MemoryLink(OFFLOADS), make_simulated_config(), impair_up=Impairment(loss=0.5)
        ) as network:
            assert network.driver.cables is not None
            return network.driver.cables.seed

    assert virtual(main) != virtual(main)


@pytest.mark.parametrize(
    "wrong", [{"impair_up": 3}, {"impair_down": "bad"}, {"impair_up": Impairment(), "impair_seed": "x"}]
)
def test_wrong_arguments(wrong: dict[str, Any]) -> None:
    async def main() -> None:
        link = MemoryLink(OFFLOADS)
        with pytest.raises(UsageError):
            async with open_network(link, make_simulated_config(), **wrong):
                raise AssertionError
        assert link.closed

    virtual(main)
    if "impair_seed" not in wrong:
        with pytest.raises(OptionsError):
            NetworkOptions(**wrong)


def test_a_guest_with_an_impairment_has_the_mtu_of_ethernet() -> None:
    assert NetworkOptions().mtu is None
    for name in ("impair_up", "impair_down"):
        bad: dict[str, Any] = {name: Impairment(loss=0.1)}
        assert NamespaceOptions(**bad).mtu == 1500
        assert NamespaceOptions(mtu=9000, **bad).mtu == 9000


def test_none_leaves_a_direction_as_it_is() -> None:

    async def main() -> None:
        async with open_simulated_guest() as guest:
            network: GuestNetwork = guest.network
            network.impair(up=Impairment(loss=0.1))
            network.impair(down=Impairment(loss=0.2))
            assert network.impairments == (Impairment(loss=0.1), Impairment(loss=0.2))

    virtual(main)
