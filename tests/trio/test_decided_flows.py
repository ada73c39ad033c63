"""Verdicts about the flows of a simulated guest, in virtual time: results in the guest and on the host."""

from __future__ import annotations

import errno
from collections.abc import Awaitable, Callable
from typing import Any, Final, NoReturn

import pytest
import trio
from trio.testing import MockClock

from sansnet_core import (
    Action,
    Allow,
    Drop,
    FlowClosed,
    FlowOpened,
    FlowRefused,
    Limits,
    Reason,
    Refuse,
    Rule,
    addresses,
)
from sansnet_core.records import replace
from sansnet_trio import Decider, GuestDatagramChannel, GuestStream, NewFlow, Serve, Verdict
from sansnet_trio.testing import SimulatedGuest, make_simulated_config, open_simulated_guest

SERVER: Final = {4: "192.0.2.80", 6: "2001:db8:2::80"}
OTHER: Final = {4: "192.0.2.81", 6: "2001:db8:2::81"}
PORT: Final = 80

families: Final = pytest.mark.parametrize("family", [4, 6], ids=["ipv4", "ipv6"])
protocols: Final = pytest.mark.parametrize("protocol", ["tcp", "udp", "ping"])


def run(body: Callable[..., Awaitable[None]], *arguments: Any, decide: Decider | None = None, **options: Any) -> None:
    """Run the body of a test with a guest whose flows a decider decides about."""

    async def main() -> None:
        async with (
            open_simulated_guest(replace(make_simulated_config(), **options), decide=decide) as guest,
            trio.open_nursery() as nursery,
        ):
            for name in ("first", "other"):
                address = SERVER if name == "first" else OTHER
                for family in (4, 6):
                    serve = guest.host.listen_tcp(PORT, host=address[family])
                    nursery.start_soon(trio.serve_listeners, greet(name), [serve])
                    datagrams = guest.host.open_datagrams(PORT, host=address[family])
                    nursery.start_soon(answer, name, datagrams)
            await body(guest, *arguments)
            nursery.cancel_scope.cancel()

    trio.run(main, clock=MockClock(autojump_threshold=0))


def greet(name: str) -> Callable[[GuestStream], Awaitable[None]]:
    """A server on the host that says its name."""

    async def handler(stream: GuestStream) -> None:
        await stream.send_all(name.encode())

    return handler


async def answer(name: str, datagrams: Any) -> NoReturn:
    """A server on the host that says its name."""
    while True:
        _, peer = await datagrams.receive()
        await datagrams.send(name.encode(), peer)


async def ask(guest: SimulatedGuest, protocol: str, family: int) -> str:
    """The result in the guest: the name of the server, `reply` to a ping, an errno, or silence."""
    try:
        with trio.move_on_after(20):
            if protocol == "ping":
                await guest.ping(SERVER[family])
                return "reply"
            if protocol == "tcp":
                async with await guest.open_tcp_stream(SERVER[family], PORT) as stream:
                    return (await stream.receive_some()).decode()
            async with guest.open_datagrams() as datagrams:
                await datagrams.send(b"who?", (SERVER[family], PORT))
                return (await datagrams.receive())[0].decode()
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "silence"


def always(verdict: Verdict) -> Decider:
    """A decider with one verdict."""

    async def decide(flow: NewFlow) -> Verdict:
        await trio.sleep(1)
        return verdict

    return decide


async def expect(guest: SimulatedGuest, protocol: str, family: int, expected: str) -> None:
    assert await ask(guest, protocol, family) == expected


@families
@protocols
def test_an_allowed_flow_opens(protocol: str, family: int) -> None:
    run(expect, protocol, family, "reply" if protocol == "ping" else "first", decide=always(Allow()))


@families
@protocols
def test_a_flow_opens_to_another_endpoint(protocol: str, family: int) -> None:
    verdict = Allow(to=(OTHER[family], PORT))
    run(expect, protocol, family, "reply" if protocol == "ping" else "other", decide=always(verdict))


@families
@protocols
@pytest.mark.parametrize("number", [errno.EHOSTUNREACH, errno.ENETUNREACH])
def test_a_refused_flow_fails_with_the_errno(protocol: str, family: int, number: int) -> None:
    run(expect, protocol, family, errno.errorcode[number], decide=always(Refuse(number)))


@families
@protocols
def test_a_dropped_flow_gets_no_answer(protocol: str, family: int) -> None:
    run(expect, protocol, family, "silence", decide=always(Drop()))


@families
@protocols
def test_a_flow_without_a_verdict_in_time_is_refused(protocol: str, family: int) -> None:
    ended = []

    async def decide(flow: NewFlow) -> Verdict:
        try:
            await trio.sleep_forever()
        finally:
            ended.append(trio.current_time())

    async def body(guest: SimulatedGuest) -> None:
        began = trio.current_time()
        result = await ask(guest, protocol, family)
        assert result == ("EHOSTUNREACH" if family == 4 else "EACCES")
        assert 4 < trio.current_time() - began < 6
        assert len(ended) == 1
        assert guest.network.statistics().drops[Reason.UNDECIDED] >= 1

    run(body, decide=decide, limits=Limits(decision_time=5.0))


@families
@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_a_served_flow_ends_in_the_program(protocol: str, family: int) -> None:
    seen = []

    async def serve_stream(stream: GuestStream) -> None:
        seen.append(stream.destination)
        await stream.send_all(b"program")

    async def serve_datagrams(channel: GuestDatagramChannel) -> None:
        seen.append(channel.destination)
        assert await channel.receive() == b"who?"
        await channel.send(b"program")

    verdict = Serve(serve_stream) if protocol == "tcp" else Serve(serve_datagrams)

    async def body(guest: SimulatedGuest) -> None:
        assert await ask(guest, protocol, family) == "program"
        assert guest.network.driver_statistics().sockets == 0
        assert [str(endpoint) for endpoint in seen] == [
            f"{SERVER[family]}:80" if family == 4 else f"[{SERVER[family]}]:80"
        ]

    run(body, decide=always(verdict))


@families
def test_a_served_ping_is_answered_here(family: int) -> None:
    async def handler(stream: object) -> None:
        raise AssertionError("nothing calls this")

    async def body(guest: SimulatedGuest) -> None:
        guest.host.blackhole("0.0.0.0/0")
        guest.host.blackhole("::/0")
        assert await ask(guest, "ping", family) == "reply"

    run(body, decide=always(Serve(handler)))


@families
def test_datagrams_of_a_served_flow_go_both_ways(family: int) -> None:
    channels = []

    async def handler(channel: GuestDatagramChannel) -> None:
        channels.append(channel)
        while True:
            await channel.send((await channel.receive()).upper())

    async def body(guest: SimulatedGuest) -> None:
        async with guest.open_datagrams() as datagrams:
            for number in range(100):
                await datagrams.send(b"data%d" % number, (SERVER[family], PORT))
                data, _ = await datagrams.receive()
                assert data == b"DATA%d" % number
        assert len(channels) == 1

    run(body, decide=always(Serve(handler)))


def test_a_flow_of_the_program_that_is_idle_ends_its_channel() -> None:
    ended = []

    async def handler(channel: GuestDatagramChannel) -> None:
        try:
            while True:
                await channel.receive()
        except trio.EndOfChannel:
            ended.append(trio.current_time())

    async def body(guest: SimulatedGuest) -> None:
        async with guest.open_datagrams() as datagrams:
            await datagrams.send(b"once", (SERVER[4], PORT))
            await trio.sleep(1000)
        assert len(ended) == 1

    run(body, decide=always(Serve(handler)))


def test_a_handler_that_fails_ends_the_network_with_its_exception() -> None:
    error = KeyError("mine")

    async def handler(stream: GuestStream) -> None:
        raise error

    async def body(guest: SimulatedGuest) -> None:
        await guest.open_tcp_stream(SERVER[4], PORT)
        await trio.sleep_forever()

    with pytest.raises(KeyError) as caught:
        run(body, decide=always(Serve(handler)))
    assert caught.value is error


@families
@protocols
def test_a_flow_is_asked_about_once(protocol: str, family: int) -> None:
    asked: list[NewFlow] = []

    async def decide(flow: NewFlow) -> Verdict:
        asked.append(flow)
        await trio.sleep(7)  # the guest repeats its SYN meanwhile
        return Allow()

    async def body(guest: SimulatedGuest) -> None:
        await ask(guest, protocol, family)
        assert [flow.protocol for flow in asked] == [protocol]
        assert asked[0].destination.address == addresses.parse(SERVER[family])
        assert not asked[0].inbound

    run(body, decide=decide)


@families
def test_a_refused_flow_is_not_asked_about_again_for_a_while(family: int) -> None:
    asked: list[NewFlow] = []

    async def decide(flow: NewFlow) -> Verdict:
        asked.append(flow)
        await trio.sleep(0.01)
        return Drop()

    async def body(guest: SimulatedGuest) -> None:
        async with guest.open_datagrams() as datagrams:
            for _ in range(9):
                await datagrams.send(b"again", (SERVER[family], PORT))
                await trio.sleep(3)
            assert len(asked) == 1
            await trio.sleep(60)
            await datagrams.send(b"again", (SERVER[family], PORT))
            await trio.sleep(5)
            assert len(asked) == 2

    run(body, decide=decide)


def test_datagrams_that_wait_for_the_verdict_arrive() -> None:
    async def body(guest: SimulatedGuest) -> None:
        server = guest.host.open_datagrams(99)
        async with guest.open_datagrams() as datagrams:
            for number in range(20):
                await datagrams.send(b"%d" % number, (SERVER[4], 99))
            got = [(await server.receive())[0] for _ in range(8)]
            assert got == [b"%d" % number for number in range(8)]
            with trio.move_on_after(10) as scope:
                await server.receive()
            assert scope.cancelled_caught

    run(body, decide=always(Allow()))


def test_a_question_about_a_connection_that_the_guest_resets_is_withdrawn() -> None:
    ended = []

    async def decide(flow: NewFlow) -> Verdict:
        try:
            await trio.sleep_forever()
        finally:
            ended.append(flow.guest.port)

    async def body(guest: SimulatedGuest) -> None:
        stack = guest.stack
        connection = stack.connect((bytes([192, 0, 2, 80]), PORT), now=trio.current_time())
        with trio.move_on_after(0.5):
            await guest.ping("10.0.2.2")
        assert ended == []
        connection.abort(trio.current_time())
        await guest.ping("10.0.2.2")
        await trio.sleep(1)
        assert len(ended) == 1

    run(body, decide=decide)


def test_the_number_of_questions_is_bounded() -> None:
    running = most = 0

    async def decide(flow: NewFlow) -> Verdict:
        nonlocal running, most
        running += 1
        most = max(most, running)
        try:
            await trio.sleep(3)
        finally:
            running -= 1
        return Allow()

    async def body(guest: SimulatedGuest) -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(30):
                nursery.start_soon(expect, guest, "tcp", 4, "first")
        assert most == 10
        assert guest.network.statistics().drops[Reason.UNDECIDED_LIMIT] >= 20

    run(body, decide=decide, limits=Limits(undecided_flows=10))


# from outside


@families
def test_a_connection_from_outside_is_asked_about(family: int) -> None:
    asked: list[NewFlow] = []

    async def decide(flow: NewFlow) -> Verdict:
        asked.append(flow)
        await trio.sleep(1)
        return Allow() if flow.guest.port == 8080 else Refuse()

    async def body(guest: SimulatedGuest) -> None:
        outsider = ("198.51.100.7" if family == 4 else "2001:db8:7::7", 5555)
        async with trio.open_nursery() as nursery:
            for port in (8080, 8081):
                nursery.start_soon(trio.serve_listeners, greet("guest"), [guest.listen_tcp(port)])
            async with await guest.host.open_tcp_stream(8080, source=outsider) as stream:
                assert await stream.receive_some() == b"guest"
            with pytest.raises(OSError, match="denied"):
                await guest.host.open_tcp_stream(8081, source=outsider)
            nursery.cancel_scope.cancel()
        assert [(flow.protocol, flow.inbound, flow.guest.port) for flow in asked] == [
            ("tcp", True, 8080),
            ("tcp", True, 8081),
        ]
        assert str(asked[0].destination) == ("198.51.100.7:5555" if family == 4 else "[2001:db8:7::7]:5555")

    run(body, decide=decide)


# rules, services and virtual addresses come first


def test_rules_decide_before_the_program_is_asked() -> None:
    asked: list[NewFlow] = []

    async def decide(flow: NewFlow) -> Verdict:
        asked.append(flow)
        await trio.sleep(0)
        return Refuse(errno.EHOSTUNREACH)

    async def body(guest: SimulatedGuest) -> None:
        await expect(guest, "tcp", 4, "first")
        await expect(guest, "tcp", 6, "EHOSTUNREACH")
        await expect(guest, "ping", 4, "silence")
        await expect(guest, "udp", 4, "EHOSTUNREACH")
        assert [flow.protocol for flow in asked] == ["tcp", "udp"]

    rules = (
        Rule(action=Action.ALLOW, protocols=("tcp",), destinations=("192.0.2.0/24",)),
        Rule(action=Action.DROP, protocols=("ping",)),
    )
    run(body, decide=decide, rules=rules)


def test_a_virtual_address_is_not_asked_about_and_refuses() -> None:
    async def decide(flow: NewFlow) -> Verdict:
        raise AssertionError("nothing calls this")

    async def body(guest: SimulatedGuest) -> None:
        for family in (4, 6):
            await expect(guest, "ping", family, "reply")
            await expect(guest, "tcp", family, "ECONNREFUSED")
            await expect(guest, "udp", family, "ECONNREFUSED")
        assert guest.network.driver_statistics().sockets == 0

    run(body, decide=decide, virtual=("192.0.2.0/24", "2001:db8:2::/48"))


def test_verdicts_and_their_ends_are_events() -> None:
    async def decide(flow: NewFlow) -> Verdict:
        await trio.sleep(2)
        return Allow(to=(OTHER[4], PORT)) if len(flow.destination.address) == 4 else Refuse(errno.EHOSTUNREACH)

    async def body(guest: SimulatedGuest) -> None:
        async with guest.network.subscribe() as events:
            began = trio.current_time()
            await expect(guest, "tcp", 4, "other")
            opened = await anext(events)
            assert isinstance(opened, FlowOpened)
            assert (str(opened.remote), str(opened.host)) == ("192.0.2.80:80", "192.0.2.81:80")
            assert began + 2 <= opened.time <= trio.current_time()
            closed = await anext(events)
            assert isinstance(closed, FlowClosed)
            assert (closed.received, closed.errno, closed.host) == (5, 0, opened.host)
            await expect(guest, "tcp", 6, "EHOSTUNREACH")
            refused = await anext(events)
            assert isinstance(refused, FlowRefused)
            assert (refused.errno, refused.reason) == (errno.EHOSTUNREACH, Reason.REFUSED)
            for event in (opened, closed, refused):
                assert "\n" not in str(event)
                assert "192.0.2.80:80" in str(event) or "[2001:db8:2::80]:80" in str(event)

    run(body, decide=decide)
