"""Decisions about new flows: questions of a fake network to a driver with a decider."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import pytest
import trio
import trio.testing

from sansnet_core import Action, Allow, CloseSocket, DecideFlow, Drop, Endpoint, NetworkConfig, Refuse, SocketId, policy
from sansnet_core.config import Ipv4Config
from sansnet_core.records import replace
from sansnet_trio import Decider, Driver, LinkClosed, NewFlow, Serve, Verdict, open_network
from tests.trio.fake import FakeNetwork
from tests.trio.test_driver import PairLink, until

GUEST: Final = Endpoint(bytes([10, 0, 2, 15]), 40000)
SERVER: Final = Endpoint(bytes([192, 0, 2, 80]), 443)
ONE, TWO = SocketId(1), SocketId(2)


class Asked:
    """A driver that runs, and its network, which asks."""

    def __init__(self, decide: Decider | None) -> None:
        self.network, self.link = FakeNetwork(), PairLink()
        self.driver = Driver(self.network, self.link, decide=decide)

    def ask(self, socket: SocketId = ONE, protocol: int = 6, *, inbound: bool = False) -> None:
        self.driver.tell(
            lambda now: self.network.orders.append(DecideFlow(socket, protocol, GUEST, SERVER, inbound, None))
        )

    def withdraw(self, socket: SocketId = ONE) -> None:
        self.driver.tell(lambda now: self.network.orders.append(CloseSocket(socket)))

    def verdicts(self) -> list[tuple[SocketId, policy.Verdict]]:
        return [fact[1:] for fact in self.network.named("flow_decided")]


@asynccontextmanager
async def asked(decide: Decider | None) -> AsyncIterator[Asked]:
    made = Asked(decide)
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            await nursery.start(made.driver.run)
            yield made
            nursery.cancel_scope.cancel()
    made.link.guest.close()


async def handler(stream: object) -> None:
    await trio.lowlevel.checkpoint()


@pytest.mark.parametrize(
    ("verdict", "expected"),
    [
        (Allow(), Allow()),
        (Allow(to=SERVER), Allow(to=SERVER)),
        (Refuse(), Refuse()),
        (Refuse(errno=111), Refuse(errno=111)),
        (Drop(), Drop()),
        (Serve(handler), policy.Serve()),
    ],
    ids=str,
)
@pytest.mark.parametrize(("protocol", "name"), [(6, "tcp"), (17, "udp"), (1, "ping"), (58, "ping")])
def test_the_verdict_is_told(verdict: Verdict, expected: policy.Verdict, protocol: int, name: str) -> None:
    flows = []

    async def decide(flow: NewFlow) -> Verdict:
        flows.append(flow)
        await trio.sleep(0)
        return verdict

    async def main() -> None:
        async with asked(decide) as made:
            made.ask(protocol=protocol)
            await until(lambda: bool(made.verdicts()))
            assert made.verdicts() == [(ONE, expected)]
        assert flows == [NewFlow(name, GUEST, SERVER)]

    trio.run(main)


def test_a_network_without_a_decider_refuses() -> None:
    async def main() -> None:
        async with asked(None) as made:
            made.ask()
            assert made.verdicts() == [(ONE, Refuse())]

    trio.run(main)


def test_questions_are_answered_side_by_side() -> None:
    async def main() -> None:
        order: list[SocketId] = []
        release = trio.Event()

        async def decide(flow: NewFlow) -> Verdict:
            if flow.protocol == "tcp":
                await release.wait()
            return Allow()

        async with asked(decide) as made:
            made.ask(ONE, 6)
            made.ask(TWO, 17)
            await until(lambda: made.verdicts() == [(TWO, Allow())])
            release.set()
            await until(lambda: made.verdicts() == [(TWO, Allow()), (ONE, Allow())])
        assert order == []

    trio.run(main)


def test_a_withdrawn_question_is_cancelled_and_no_verdict_is_told() -> None:
    async def main() -> None:
        ended: list[str] = []

        async def decide(flow: NewFlow) -> Verdict:
            try:
                await trio.sleep_forever()
            finally:
                ended.append(flow.protocol)

        async with asked(decide) as made:
            made.ask()
            await trio.testing.wait_all_tasks_blocked(0.01)
            made.withdraw()
            await until(lambda: ended == ["tcp"])
            made.withdraw()  # of a name without a question
            assert made.verdicts() == []

    trio.run(main)


def test_a_decider_that_answers_although_it_is_cancelled_is_ignored() -> None:
    async def main() -> None:
        release, done = trio.Event(), trio.Event()

        async def decide(flow: NewFlow) -> Verdict:
            with trio.CancelScope(shield=True):
                await release.wait()
            done.set()
            return Allow()

        async with asked(decide) as made:
            made.ask()
            await trio.testing.wait_all_tasks_blocked(0.001)
            made.withdraw()
            release.set()
            await done.wait()
            await trio.testing.wait_all_tasks_blocked()
            assert made.verdicts() == []

    trio.run(main)


def test_a_question_that_is_withdrawn_before_its_task_begins_does_no_harm() -> None:
    async def main() -> None:
        async def decide(flow: NewFlow) -> Verdict:
            await trio.lowlevel.checkpoint()
            return Allow()

        async with asked(decide) as made:
            made.ask()
            made.withdraw()
            await trio.testing.wait_all_tasks_blocked()
            assert made.verdicts() == []

    trio.run(main)


async def run_alone(decide: Decider, *, inbound: bool = False) -> None:
    """Run a driver without a nursery around it, and ask once."""
    made = Asked(decide)
    made.driver.tell(lambda now: None)
    made.network.on_frames = lambda frames: made.network.orders.append(DecideFlow(ONE, 6, GUEST, SERVER, inbound, None))
    made.link.guest.send(b"go")
    try:
        with trio.fail_after(5):
            await made.driver.run()
    finally:
        made.link.guest.close()
        assert made.link.closed


def test_an_exception_of_the_decider_leaves_the_driver_alone() -> None:
    error = KeyError("mine")

    async def decide(flow: NewFlow) -> Verdict:
        raise error

    with pytest.raises(KeyError) as caught:
        trio.run(run_alone, decide)
    assert caught.value is error


def test_the_end_of_the_driver_cancels_the_questions() -> None:
    ended: list[bool] = []

    async def decide(flow: NewFlow) -> Verdict:
        try:
            await trio.sleep_forever()
        finally:
            ended.append(True)

    async def main() -> None:
        made = Asked(decide)
        async with trio.open_nursery() as nursery:
            await nursery.start(made.driver.run)
            made.ask()
            await trio.testing.wait_all_tasks_blocked(0.01)
            made.link.guest.close()

    with pytest.raises(ExceptionGroup) as caught:
        trio.run(main)
    assert isinstance(caught.value.exceptions[0], LinkClosed)
    assert ended == [True]


@pytest.mark.parametrize("value", [None, True, "allow", Allow, Refuse, 13])
def test_a_result_that_is_no_verdict_is_a_type_error(value: Any) -> None:
    async def decide(flow: NewFlow) -> Any:
        await trio.lowlevel.checkpoint()
        return value

    with pytest.raises(TypeError, match=r"for tcp .*; give Allow\(\), Refuse\(\), Drop\(\) or Serve\(handler\)$"):
        trio.run(run_alone, decide)


def test_a_serve_without_a_handler_is_a_type_error() -> None:
    async def decide(flow: NewFlow) -> Any:
        await trio.lowlevel.checkpoint()
        return policy.Serve()

    with pytest.raises(TypeError, match=r"give sansnet_trio\.Serve\(handler\)$"):
        trio.run(run_alone, decide)


def test_a_decider_that_is_not_async_is_a_type_error() -> None:
    def decide(flow: NewFlow) -> Any:
        return Allow()

    with pytest.raises(TypeError, match="it must be an async function"):
        trio.run(run_alone, decide)


def test_a_decider_that_cannot_be_called_is_a_type_error() -> None:
    not_callable: Any = Allow()
    link = PairLink()
    with pytest.raises(TypeError, match="is not an async function"):
        Driver(FakeNetwork(), link, decide=not_callable)
    link.close()
    link.guest.close()


def test_a_flow_from_outside_cannot_be_served() -> None:
    async def decide(flow: NewFlow) -> Verdict:
        await trio.lowlevel.checkpoint()
        return Serve(handler)

    async def main() -> None:
        await run_alone(decide, inbound=True)

    with pytest.raises(ValueError, match=r"from outside, which only the guest can answer; give Allow\(\)"):
        trio.run(main)


def test_a_verdict_sends_no_flow_to_port_0() -> None:
    async def decide(flow: NewFlow) -> Verdict:
        await trio.lowlevel.checkpoint()
        return Allow(("192.0.2.1", 0))

    async def main() -> None:
        await run_alone(decide)

    with pytest.raises(ValueError, match="but port 0 has no server; give the server's port"):
        trio.run(main)


def test_a_network_with_a_decider_asks_by_default_unless_its_configuration_says_otherwise() -> None:
    async def decide(flow: NewFlow) -> Verdict:
        raise AssertionError("nothing calls this")

    async def default_actions(config: NetworkConfig, decider: Decider | None) -> list[Action | None]:
        """At the beginning, and after the same configuration was set again."""
        link = PairLink()
        async with open_network(link, config, decide=decider) as network:
            actions = [network.config.default_action]
            network.reconfigure(replace(config, dns_search=("example",)))
            actions.append(network.config.default_action)
        link.guest.close()
        return actions

    config = NetworkConfig(ipv4=Ipv4Config(address=GUEST.address, prefix_length=24, gateway=None))
    assert trio.run(default_actions, config, None) == [None] * 2
    assert trio.run(default_actions, config, decide) == [Action.ASK] * 2
    for action in Action:
        assert trio.run(default_actions, replace(config, default_action=action), decide) == [action] * 2


def test_a_new_flow_reads_well() -> None:
    assert [
        str(NewFlow("tcp", GUEST, SERVER)),
        str(NewFlow("udp", GUEST, Endpoint("2001:db8::1", 53), name="a.example")),
        str(NewFlow("tcp", GUEST, SERVER, inbound=True)),
        str(NewFlow("ping", GUEST, SERVER)),
    ] == [
        "tcp 10.0.2.15:40000 to 192.0.2.80:443",
        "udp 10.0.2.15:40000 to [2001:db8::1]:53 (a.example)",
        "tcp 192.0.2.80:443 to 10.0.2.15:40000, from outside",
        "ping 10.0.2.15 to 192.0.2.80",
    ]
