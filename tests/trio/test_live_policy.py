"""A policy that changes while a simulated guest uses it, and flows that wait for answers, in virtual time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

import pytest
import trio
from trio.testing import MockClock

from sansnet_core import Action, Allow, ConfigError, Endpoint, FlowClosed, Limits, Reason, Refuse, UsageError
from sansnet_core.addresses import Prefix
from sansnet_core.config import Ipv4Config, ResolverConfig
from sansnet_core.policy import NameMode, Policy, parse_rule
from sansnet_core.records import replace
from sansnet_trio import Decider, NewFlow, NoSuchFlow, PendingFlow, Verdict, hold_flow
from sansnet_trio.policies import policy_of, rule_for, with_policy
from sansnet_trio.testing import SimulatedGuest, make_simulated_config, open_simulated_guest
from tests.trio.test_decided_flows import OTHER, PORT, SERVER, answer, ask, families, greet, protocols

CLOSED: Final = Policy(default_action=Action.REFUSE)


def run(body: Callable[..., Awaitable[None]], *arguments: Any, decide: Decider | None = None, **options: Any) -> None:
    """Run the body of a test with a guest, and servers on the host."""

    async def main() -> None:
        async with (
            open_simulated_guest(replace(make_simulated_config(), **options), decide=decide) as guest,
            trio.open_nursery() as nursery,
        ):
            for address in (*SERVER.values(), *OTHER.values()):
                nursery.start_soon(trio.serve_listeners, greet("first"), [guest.host.listen_tcp(PORT, host=address)])
                nursery.start_soon(answer, "first", guest.host.open_datagrams(PORT, host=address))
            await body(guest, *arguments)
            nursery.cancel_scope.cancel()

    trio.run(main, clock=MockClock(autojump_threshold=0))


async def pending(guest: SimulatedGuest, number: int = 1) -> list[PendingFlow]:
    """The flows that wait, once there are so many."""
    with trio.fail_after(5):
        while len(guest.network.pending()) < number:
            await trio.sleep(0.01)
    return guest.network.pending()


def closed(family: int) -> str:
    """The result of a refusal (see docs/errors.md)."""
    return "EHOSTUNREACH" if family == 4 else "EACCES"


def opened(protocol: str) -> str:
    return "reply" if protocol == "ping" else "first"


@families
@protocols
def test_a_rule_opens_what_was_closed_and_its_removal_closes_it(protocol: str, family: int) -> None:
    async def body(guest: SimulatedGuest) -> None:
        guest.network.set_policy(CLOSED)
        assert await ask(guest, protocol, family) == closed(family)
        guest.network.set_policy(replace(CLOSED, rules=[parse_rule(f"allow {protocol} {SERVER[family]}")]))
        assert await ask(guest, protocol, family) == opened(protocol)
        guest.network.set_policy(CLOSED)
        assert await ask(guest, protocol, family) == closed(family)

    run(body)


def test_the_policy_is_that_of_the_configuration_and_stays_when_the_configuration_changes() -> None:
    rules = (parse_rule("refuse private"), parse_rule("allow tcp any port 443"))

    async def body(guest: SimulatedGuest) -> None:
        network = guest.network
        assert network.policy == Policy(rules=rules[:1], default_action=Action.ALLOW)
        network.set_policy(Policy(rules=rules, default_action=Action.DROP))
        assert network.policy == Policy(rules=rules, default_action=Action.DROP)
        network.reconfigure(replace(make_simulated_config(), lease_time=77))
        assert network.config.lease_time == 77
        assert network.policy == Policy(rules=rules, default_action=Action.DROP)

    run(body, rules=rules[:1])


def test_a_default_action_that_is_left_out_stays() -> None:
    async def body(guest: SimulatedGuest) -> None:
        guest.network.set_policy(CLOSED)
        guest.network.set_policy(Policy(rules=[parse_rule("allow udp")]))
        assert guest.network.policy.default_action is Action.REFUSE
        guest.network.reconfigure(make_simulated_config())
        assert guest.network.policy.default_action is Action.REFUSE

    run(body)


def test_what_is_no_policy_changes_nothing() -> None:
    async def body(guest: SimulatedGuest) -> None:
        guest.network.set_policy(CLOSED)
        wrong: Any = ["allow tcp"]
        with pytest.raises(UsageError, match="a Policy"):
            guest.network.set_policy(wrong)
        assert guest.network.policy == CLOSED

    run(body)


def test_rules_with_names_need_a_name_server_and_get_a_resolver() -> None:
    named = Policy(rules=[parse_rule("allow tcp example.org:443")], default_action=Action.REFUSE)
    config = make_simulated_config()
    server = "192.0.2.53"
    with pytest.raises(ConfigError, match="no name server"):
        with_policy(replace(config, dns_servers=(), dns_forward=()), named)
    made = with_policy(replace(config, dns_servers=(server,), dns_forward=((server, ("127.0.0.1", 5353)),)), named)
    assert made.resolver is not None
    assert [str(one) for one in made.resolver.servers] == ["127.0.0.1:5353"]
    assert policy_of(made) == replace(named, names=NameMode.OWN)
    real = with_policy(made, replace(named, names=NameMode.REAL))
    assert real.resolver == replace(made.resolver, names=NameMode.REAL)
    assert with_policy(real, CLOSED).resolver == real.resolver, "the guest may have addresses that it gave"


def test_rules_with_names_get_the_resolver_of_the_plan() -> None:
    named = Policy(rules=[parse_rule("allow tcp example.org:443")])
    planned = ResolverConfig(servers=[("192.0.2.54", 53)], prefix4="10.254.0.0/16")
    config = replace(make_simulated_config(), dns_servers=["192.0.2.53"])
    made = with_policy(config, named, planned=planned)
    assert made.resolver == planned
    other = replace(planned, servers=[("192.0.2.55", 53)], prefix4="198.18.0.0/15")
    again = with_policy(config, named, present=made.resolver, planned=other).resolver
    assert again == replace(planned, servers=other.servers), "names keep their addresses"
    with pytest.raises(ConfigError, match="no name server"):
        with_policy(replace(config, dns_servers=()), named, planned=planned)


def test_without_a_plan_names_get_no_addresses_of_the_guests_network() -> None:
    named = Policy(rules=[parse_rule("allow tcp example.org:443")])
    four = Ipv4Config(address="198.18.5.2/16", gateway="198.18.5.1")
    made = with_policy(replace(make_simulated_config(), ipv4=four, dns_servers=["192.0.2.53"]), named).resolver
    assert made is not None
    assert made.prefix4 == Prefix("198.19.0.0/16")


def test_the_kind_of_names_stays_and_waits_for_a_resolver() -> None:
    async def body(guest: SimulatedGuest) -> None:
        network = guest.network
        network.set_policy(replace(CLOSED, names=NameMode.REAL))
        assert (network.config.resolver, network.policy.names) == (None, NameMode.REAL)
        network.set_policy(Policy(rules=[parse_rule("allow tcp example.org:443")]))
        assert network.config.resolver is not None
        assert network.config.resolver.names is network.policy.names is NameMode.REAL
        network.reconfigure(replace(network.config, resolver=None))
        assert network.config.resolver.names is NameMode.REAL

    run(body, dns_servers=("192.0.2.53",))


@families
@pytest.mark.parametrize("keep_flows", [False, True])
def test_an_open_connection_is_judged_again(family: int, keep_flows: bool) -> None:
    async def body(guest: SimulatedGuest) -> None:
        async with guest.network.subscribe() as events:
            stream = await guest.open_tcp_stream(SERVER[family], PORT)
            assert await stream.receive_some() == b"first"
            guest.network.set_policy(CLOSED, keep_flows=keep_flows)
            if keep_flows:
                assert await stream.receive_some() == b"", "the server has ended its side"
            else:
                with pytest.raises(trio.BrokenResourceError):
                    await send_until_broken(stream)
                closes = [event async for event in until_closed(events)]
                assert closes[-1].reason is Reason.REFUSED
            await trio.aclose_forcefully(stream)

    run(body)


async def send_until_broken(stream: Any) -> None:
    while True:
        await stream.send_all(b"more")
        await trio.sleep(0.1)


async def until_closed(events: AsyncIterator[object]) -> AsyncIterator[FlowClosed]:
    async for event in events:
        if isinstance(event, FlowClosed):
            yield event
            return


@families
@protocols
@pytest.mark.parametrize("verdict", [Allow(), Refuse()], ids=str)
def test_a_held_flow_gets_the_answer(protocol: str, family: int, verdict: Verdict) -> None:
    async def body(guest: SimulatedGuest) -> None:
        async with trio.open_nursery() as nursery:
            results: list[str] = []

            async def client() -> None:
                results.append(await ask(guest, protocol, family))

            nursery.start_soon(client)
            [waiting] = await pending(guest)
            assert waiting.flow.protocol == protocol
            assert waiting.until == waiting.since + 30
            assert waiting.since <= trio.current_time()
            guest.network.answer(waiting.id, verdict)
            assert guest.network.pending() == []
            with pytest.raises(NoSuchFlow, match=f"no flow {waiting.id} waits"):
                guest.network.answer(waiting.id, verdict)
        assert results == [opened(protocol) if isinstance(verdict, Allow) else closed(family)]

    run(body, decide=hold_flow)


@protocols
@pytest.mark.parametrize("action", [Action.ALLOW, Action.REFUSE])
def test_an_answer_becomes_a_rule_which_decides_about_the_others_too(protocol: str, action: Action) -> None:
    async def body(guest: SimulatedGuest) -> None:
        async with trio.open_nursery() as nursery:
            results: list[str] = []

            async def client() -> None:
                results.append(await ask(guest, protocol, 4))

            number = 1 if protocol == "ping" else 3  # all pings of a program are one flow
            for _ in range(3):
                nursery.start_soon(client)
            first, *others = await pending(guest, number)
            rule = rule_for(first.flow, action)
            guest.network.answer(first.id, Allow() if action is Action.ALLOW else Refuse(), rule)
            assert len(others) == number - 1
            assert guest.network.pending() == []
        expected = opened(protocol) if action is Action.ALLOW else closed(4)
        assert results == [expected] * 3
        assert guest.network.policy == Policy(rules=(rule,), default_action=Action.ASK)
        assert await ask(guest, protocol, 4) == expected

    run(body, decide=hold_flow)


def test_the_rule_of_an_answer_comes_before_the_one_that_asks() -> None:
    async def body(guest: SimulatedGuest) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, guest, "tcp", 4)
            [waiting] = await pending(guest)
            rule = rule_for(waiting.flow, Action.ALLOW)
            guest.network.answer(waiting.id, Allow(), rule)
        assert guest.network.policy.rules == (rule, parse_rule("ask tcp"))
        assert await ask(guest, "tcp", 4) == "first"

    run(body, decide=hold_flow, rules=[parse_rule("ask tcp")])


def test_a_flow_without_an_answer_is_refused_in_time() -> None:
    async def body(guest: SimulatedGuest) -> None:
        assert await ask(guest, "tcp", 4) == closed(4)
        assert guest.network.pending() == []
        assert trio.current_time() >= 5

    run(body, decide=hold_flow, limits=Limits(decision_time=5))


def test_an_answer_comes_before_that_of_the_decider() -> None:
    ended: list[NewFlow] = []

    async def decide(flow: NewFlow) -> Verdict:
        try:
            await trio.sleep(3)
        finally:
            ended.append(flow)
        return Refuse()

    async def body(guest: SimulatedGuest) -> None:
        async with trio.open_nursery() as nursery:

            async def client() -> None:
                assert await ask(guest, "tcp", 4) == "first"

            nursery.start_soon(client)
            [waiting] = await pending(guest)
            guest.network.answer(waiting.id, Allow())
        assert ended == [waiting.flow]
        assert trio.current_time() < 3

    run(body, decide=decide)


def test_a_wrong_answer_changes_nothing() -> None:
    async def handler(stream: object) -> None:
        raise AssertionError

    async def body(guest: SimulatedGuest) -> None:
        wrong: Any = "yes"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, guest, "tcp", 4)
            [waiting] = await pending(guest)
            before = guest.network.policy
            rule = rule_for(waiting.flow, Action.ALLOW)
            with pytest.raises(TypeError, match="the verdict is 'yes' for tcp"):
                guest.network.answer(waiting.id, wrong, rule)
            with pytest.raises(NoSuchFlow):
                guest.network.answer(waiting.id + 1, Allow(), rule)
            assert guest.network.policy == before
            assert guest.network.pending() == [waiting]
            nursery.cancel_scope.cancel()

    run(body, decide=hold_flow)


def test_a_network_without_a_decider_holds_nothing() -> None:
    async def body(guest: SimulatedGuest) -> None:
        assert await ask(guest, "tcp", 4) == closed(4)
        assert guest.network.pending() == []
        with pytest.raises(NoSuchFlow, match="no decide function"):
            guest.network.answer(1, Allow())

    run(body, default_action=Action.ASK)


@pytest.mark.parametrize(
    ("protocol", "destination", "name", "expected"),
    [
        ("tcp", ("203.0.113.7", 443), None, "allow out tcp 203.0.113.7:443"),
        ("tcp", ("2001:db8::7", 443), None, "allow out tcp [2001:db8::7]:443"),
        ("udp", ("198.18.0.1", 53), "example.org", "allow out udp example.org:53"),
        ("ping", ("203.0.113.7", 77), None, "allow out ping 203.0.113.7"),
        ("tcp", ("64:ff9b::192.0.2.1", 80), None, "allow out tcp 64:ff9b::c000:201,192.0.2.1 port 80"),
    ],
)
def test_the_rule_of_an_answer_names_what_was_asked(
    protocol: str, destination: tuple[str, int], name: str | None, expected: str
) -> None:
    flow = NewFlow(protocol, Endpoint("10.0.2.15", 40000), Endpoint(*destination), False, name)
    rule = rule_for(flow, Action.ALLOW)
    assert str(rule) == expected
    assert parse_rule(str(rule)) == rule


def test_the_rule_of_an_answer_about_an_outsider_is_about_its_address_and_our_port() -> None:
    flow = NewFlow("tcp", Endpoint("10.0.2.15", 8080), Endpoint("203.0.113.7", 40000), True)
    assert str(rule_for(flow, Action.REFUSE)) == "refuse in tcp 203.0.113.7:8080"
