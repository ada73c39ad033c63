"""`open_network` over a link in memory."""

from __future__ import annotations

import errno
import socket
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import pytest
import trio
import trio.testing

from sansnet_core import Frame, Ipv4Config, NetworkConfig, UsageError
from sansnet_core.records import replace
from sansnet_trio import ForwardError, GuestNetwork, LinkClosed, NewFlow, Services, Verdict, open_network
from sansnet_trio.testing import MemoryLink, SimulatedGuest
from tests.trio.inner import CONFIG as SERVED
from tests.trio.inner import GATEWAY
from tests.trio.test_driver import PairLink, until

CONFIG: Final = NetworkConfig(
    ipv4=Ipv4Config(address=bytes([10, 0, 2, 15]), prefix_length=24, gateway=bytes([10, 0, 2, 2])), ndp=False
)


@pytest.fixture
def link() -> Iterator[PairLink]:
    made = PairLink()
    yield made
    made.guest.close()


class Mine(Exception):
    """An exception of the body."""


def run(link: PairLink, body: Callable[[GuestNetwork], Awaitable[None]]) -> None:
    """Run a body in the block of `open_network`."""

    async def main() -> None:
        with trio.fail_after(5):
            async with open_network(link, CONFIG) as network:
                await body(network)

    trio.run(main)


def test_the_network_is_served_in_the_block(link: PairLink) -> None:
    served = []

    async def body(network: GuestNetwork) -> None:
        served.append(network)
        link.guest.send(bytes(60))
        await until(lambda: network.driver_statistics().frames_received == 1)
        assert (network.flows(), network.config.link) == ([], link.config)

    run(link, body)
    assert link.closed
    assert served[0].driver_statistics().frames_received == 1
    assert served[0].statistics() == served[0].core.statistics()


def test_the_exception_of_the_body_leaves_alone(link: PairLink) -> None:
    error = Mine()

    async def body(network: GuestNetwork) -> None:
        raise error

    with pytest.raises(Mine) as caught:
        run(link, body)
    assert caught.value is error
    assert error.__context__ is None
    assert link.closed


def test_a_group_of_the_body_stays_a_group(link: PairLink) -> None:
    async def body(network: GuestNetwork) -> None:
        raise ExceptionGroup("mine", [Mine()])

    with pytest.raises(ExceptionGroup) as caught:
        run(link, body)
    assert caught.value.message == "mine"


def test_an_exception_of_one_task_leaves_alone(link: PairLink) -> None:
    async def fail() -> None:
        raise Mine

    async def body(network: GuestNetwork) -> None:
        network.nursery.start_soon(fail)
        await trio.sleep_forever()

    with pytest.raises(Mine) as caught:
        run(link, body)
    assert caught.value.__context__ is None


def test_exceptions_of_several_tasks_and_the_body_stay_a_group(link: PairLink) -> None:
    async def fail() -> None:
        raise Mine

    async def body(network: GuestNetwork) -> None:
        network.nursery.start_soon(fail)
        network.nursery.start_soon(fail)
        try:
            await trio.sleep_forever()
        finally:
            raise LookupError

    with pytest.raises(ExceptionGroup) as caught:
        run(link, body)
    assert [type(one) for one in caught.value.exceptions] == [LookupError, Mine, Mine]


def test_a_network_tells_its_guest_and_its_state(link: PairLink) -> None:
    async def body(network: GuestNetwork) -> None:
        assert repr(network) == "<GuestNetwork of 10.0.2.15: 0 flows>"
        link.guest.shutdown(socket.SHUT_RDWR)
        await network.wait_closed()
        assert repr(network) == "<GuestNetwork of 10.0.2.15: closed>"

    run(link, body)


def test_a_closed_link_cancels_the_body_and_raises_one_exception(link: PairLink) -> None:

    async def body(network: GuestNetwork) -> None:
        link.guest.shutdown(socket.SHUT_RDWR)
        await trio.sleep_forever()

    with pytest.raises(LinkClosed, match="the guest's end is closed") as caught:
        run(link, body)
    assert caught.value.__context__ is None
    assert link.closed


def test_a_body_that_waits_for_the_end_goes_on(link: PairLink) -> None:
    reached = []

    async def body(network: GuestNetwork) -> None:
        link.guest.shutdown(socket.SHUT_RDWR)
        await network.wait_closed()
        await network.wait_closed()
        await trio.sleep(0.01)
        reached.append(network)

    run(link, body)
    assert reached
    assert link.closed


def test_a_wait_that_was_given_up_does_not_count(link: PairLink) -> None:

    async def body(network: GuestNetwork) -> None:
        with trio.move_on_after(0.01):
            await network.wait_closed()
        link.guest.shutdown(socket.SHUT_RDWR)
        await trio.sleep_forever()

    with pytest.raises(LinkClosed):
        run(link, body)


def test_a_task_that_waits_for_the_end_wakes_up_with_the_block(link: PairLink) -> None:
    networks = []

    async def main() -> None:
        with trio.fail_after(5):
            async with trio.open_nursery() as nursery, open_network(link, CONFIG) as network:
                networks.append(network)
                nursery.start_soon(network.wait_closed)
                await trio.sleep(0.01)
            with pytest.raises(ForwardError, match="has ended"):
                await network.forward(0, 80)

    trio.run(main)
    assert repr(networks[0]).endswith("closed>")


def test_services_that_are_none_are_refused(link: PairLink) -> None:
    wrong: Any = 80

    async def main() -> None:
        async with open_network(link, CONFIG, services=wrong):
            raise AssertionError("the block began")

    with pytest.raises(UsageError, match="services: 80 is not a Services"):
        trio.run(main)
    assert link.closed


def test_a_cancelled_block_with_tasks_is_left_by_one_exception(link: PairLink) -> None:
    seen: list[BaseException] = []

    async def main() -> None:
        with trio.CancelScope() as scope:
            try:
                async with open_network(link, CONFIG) as network:
                    for _ in range(3):
                        network.nursery.start_soon(trio.sleep_forever)
                    await trio.testing.wait_all_tasks_blocked()
                    scope.cancel()
                    await trio.sleep_forever()
            except BaseException as error:
                seen.append(error)
                raise

    trio.run(main)
    assert list(map(type, seen)) == [trio.Cancelled]


def test_a_task_that_fails_while_all_is_cancelled_is_one_exception(link: PairLink) -> None:
    async def fail() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise Mine

    async def main() -> None:
        with trio.CancelScope() as scope:
            async with open_network(link, CONFIG) as network:
                network.nursery.start_soon(fail)
                network.nursery.start_soon(trio.sleep_forever)
                await trio.testing.wait_all_tasks_blocked()
                scope.cancel()
                await trio.sleep_forever()

    with pytest.raises(Mine):
        trio.run(main)


def test_cancellation_from_outside_ends_the_block(link: PairLink) -> None:

    async def main() -> bool:
        with trio.move_on_after(0.01) as scope:
            async with open_network(link, CONFIG):
                await trio.sleep_forever()
        return scope.cancelled_caught

    assert trio.run(main)
    assert link.closed


def test_the_body_fails_while_it_is_cancelled(link: PairLink) -> None:
    async def main() -> None:
        with trio.CancelScope() as scope:
            async with open_network(link, CONFIG):
                scope.cancel()
                try:
                    await trio.sleep_forever()
                finally:
                    raise Mine

    with pytest.raises(Mine):
        trio.run(main)


def test_a_link_is_closed_if_no_driver_can_be_made(link: PairLink) -> None:

    async def main() -> None:
        async with open_network(link, CONFIG, interface="nosuch"):
            pass

    with pytest.raises(OSError, match="No such device"):
        trio.run(main)
    assert link.closed


def test_arguments_of_another_type_are_named(link: PairLink, tmp_path: Path) -> None:
    wrong: Any = {"capture": (tmp_path / "guest.pcap").open("wb"), "services": print}

    async def main(name: str) -> None:
        async with open_network(link, CONFIG, **{name: wrong[name]}):
            pass

    for name, words in (("capture", "give CaptureFile"), ("services", "Services")):
        with pytest.raises(UsageError, match=f"^{name}: .*{words}"):
            trio.run(main, name)
    wrong["capture"].close()


def test_the_configuration_is_replaced_and_the_link_stays(link: PairLink) -> None:
    server = bytes([10, 0, 2, 3])

    async def body(network: GuestNetwork) -> None:
        link = network.config.link
        network.reconfigure(replace(CONFIG, dns_servers=(server,), link=replace(link, mtu=1280)))
        assert (network.config.dns_servers, network.config.link) == ((server,), link)

    run(link, body)


@pytest.mark.parametrize("waits_for", ["a stream", "datagrams"])
def test_what_ended_the_network_leaves_the_block_and_not_that_its_streams_broke(waits_for: str) -> None:
    error = Mine()

    async def decide(flow: NewFlow) -> Verdict:
        raise error

    async def main() -> None:
        services = Services()
        listener = services.listen_tcp(80)
        memory = MemoryLink(SERVED.link)
        guest = SimulatedGuest(memory, SERVED)
        async with trio.open_nursery() as nursery:
            await nursery.start(guest.run)
            async with open_network(memory, SERVED, services=services, decide=decide) as network:
                await guest.open_tcp_stream(GATEWAY, 80)
                stream = await listener.accept()
                nursery.start_soon(guest.open_datagrams().send, b"", ("192.0.2.1", 9))
                if waits_for == "a stream":
                    await stream.receive_some()
                else:
                    await network.open_datagrams().receive()

    with pytest.raises(ExceptionGroup) as caught:
        trio.run(main)
    assert [*caught.value.exceptions] == [error]


def test_an_error_of_the_body_does_not_hide_what_ended_the_network(link: PairLink) -> None:
    async def body(network: GuestNetwork) -> None:
        link.guest.close()
        try:
            await trio.sleep_forever()
        finally:
            raise Mine

    with pytest.raises(ExceptionGroup) as caught:
        run(link, body)
    assert [type(each) for each in caught.value.exceptions] == [Mine, ConnectionResetError]


def test_tasks_of_the_body_that_a_failed_task_cancels_are_not_told(link: PairLink) -> None:
    """Several cancelled tasks leave their nursery as a group."""
    error = Mine()

    async def fail() -> None:
        await trio.sleep(0.01)
        raise error

    async def body(network: GuestNetwork) -> None:
        network.nursery.start_soon(fail)
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(trio.sleep_forever)

    with pytest.raises(Mine) as caught:
        run(link, body)
    assert caught.value is error


def test_a_failure_of_the_link_ends_the_network_and_is_not_one_of_the_task_that_sends() -> None:
    class Failing(MemoryLink):
        broken = False

        def write_frames(self, frames: Sequence[Frame]) -> int:
            if self.broken:
                raise OSError(errno.EIO, "the link failed")
            return super().write_frames(frames)

    sent = []

    async def main() -> None:
        link = Failing(SERVED.link)
        guest = SimulatedGuest(link, SERVED)
        async with trio.open_nursery() as nursery:
            await nursery.start(guest.run)
            async with open_network(link, SERVED) as network:
                listener = guest.listen_tcp(80)
                stream = await network.open_tcp_stream(80)
                await listener.accept()
                link.broken = True
                await stream.send_all(b"x")
                sent.append(b"x")
                with trio.fail_after(5):
                    await trio.sleep_forever()

    with pytest.raises(ExceptionGroup) as caught:
        trio.run(main)
    (error,) = caught.value.exceptions
    assert isinstance(error, OSError)
    assert (error.errno, sent) == (errno.EIO, [b"x"])
