"""A flow of UDP that is given up after a mistake of the core leaves nothing behind, and no other flow suffers."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from sansnet_core import (
    Action,
    CloseSocket,
    DecideFlow,
    DeliverDatagram,
    Endpoint,
    FlowClosed,
    Limits,
    OpenStream,
    Prefix,
    Reason,
    Serve,
)
from sansnet_core.addresses import packed
from sansnet_core.dropped import Dropped
from sansnet_core.orders import SocketId
from sansnet_core.proto.udp.flow import Mapping
from sansnet_core.records import replace
from sansnet_core.testing import SERVER, make_config
from sansnet_core.testing.packets import UDP, udp
from tests.core.bindings import FakeBindings
from tests.core.direct import GUEST, Direct
from tests.core.recording.accounts import accounts, wrong_accounts
from tests.core.scenarios.test_proxies import RELAY, associate, datagram, network
from tests.core.scenarios.test_udp_associations import OFFLOADED

NAME, LEASE, GROUP = "db.example.org", "198.18.0.1", "239.255.255.250"
FROM = Endpoint(GUEST, 5000)


def begun(*remotes: Endpoint, **fields: Any) -> tuple[Direct, list[Any]]:
    """A network with flows of one endpoint of the guest, and those flows."""
    bench = Direct(replace(make_config(), **fields))
    bindings = FakeBindings({LEASE: NAME})
    bindings.attach(bench)
    bindings.know(NAME, "93.184.215.14")
    bench.send(*(udp(*FROM, *remote, b"hello") for remote in remotes))
    return bench, flows(bench)


def flows(bench: Direct) -> list[Any]:
    inside: Any = bench.network
    return list(inside._udp._flows.values())


def give_up(bench: Direct, owner: object) -> str | None:
    """Do what follows on an exception in the methods of an object; the flow as text."""
    inside: Any = bench.network
    text: str | None = inside._udp.abandon(owner)
    inside._udp.recount()
    bench.collect()
    assert wrong_accounts(bench.network) == []
    return text


def test_the_loss_is_counted_and_noticed() -> None:
    bench, (flow,) = begun(Endpoint(SERVER, 7))
    socket = bench.take()[0].socket
    assert give_up(bench, flow) == "udp 10.0.2.15:5000 to 192.0.2.80:7"
    assert bench.network.statistics().last_drops[Reason.FAILED] == (Dropped(17, FROM, Endpoint(SERVER, 7)),)
    assert bench.drops() == {Reason.FAILED: 1}
    closed = bench.notices[-1]
    assert isinstance(closed, FlowClosed)
    assert (closed.reason, closed.time, closed.sent) == (Reason.FAILED, bench.now, 5)
    assert bench.one(CloseSocket) == CloseSocket(socket)
    assert bench.network.statistics().flows["udp_sockets"] == 0
    bench.send(datagram())
    assert len(flows(bench)) == 1
    give_up(bench, flow)
    assert len(flows(bench)) == 1
    assert [type(notice) for notice in bench.notices].count(FlowClosed) == 1


@pytest.mark.parametrize("kept", [Endpoint(SERVER, 8), Endpoint(GROUP, 1900)])
def test_the_other_flows_of_its_socket_go_on(kept: Endpoint) -> None:
    bench, (flow, other) = begun(Endpoint(SERVER, 7), kept)
    socket = bench.take()[0].socket
    give_up(bench, flow)
    assert bench.take() == []
    assert bench.network.statistics().flows["udp_sockets"] == 1
    bench.network.datagram_received(
        socket, kept if kept.port == 8 else Endpoint(SERVER, 1), b"yes", 0, 60, 0, bench.now
    )
    bench.network.datagram_received(socket, Endpoint(SERVER, 8), b"yes", 0, 60, 0, bench.now)
    bench.collect()
    assert [packet.payload[8:] for packet in bench.packets] == [b"yes", b"yes"]
    give_up(bench, other)
    assert bench.one(CloseSocket) == CloseSocket(socket)


def test_its_name_is_free() -> None:
    bench, (flow,) = begun(Endpoint(LEASE, 7))
    bindings: Any = bench.network._context.bindings
    assert bindings.pins == {packed(LEASE): 1}
    give_up(bench, flow)
    assert bindings.pins == {}


def test_a_service_goes_on_and_the_end_of_one_flow_is_closed() -> None:
    bench, _ = begun(default_action=Action.ASK)
    service = bench.network.service_added(17, Prefix.of("192.0.2.0/24"), None, bench.now)
    bench.send(udp(*FROM, *Endpoint(SERVER, 7), b"1"), udp(*FROM, *Endpoint("198.51.100.1", 7), b"2"))
    delivered, question = bench.take()
    assert isinstance(delivered, DeliverDatagram)
    assert isinstance(question, DecideFlow)
    bench.network.flow_decided(question.socket, Serve(), bench.now)
    bench.collect()
    bench.take()
    first, second = flows(bench)
    give_up(bench, first)
    assert bench.take() == []
    give_up(bench, second)
    assert bench.one(CloseSocket) == CloseSocket(question.socket)
    bench.send(udp(*FROM, *Endpoint(SERVER, 7), b"3"))
    assert bench.one(DeliverDatagram).socket == service


def test_datagrams_that_wait_to_be_joined_are_lost_with_their_flow_only() -> None:
    remotes = Endpoint(SERVER, 7), Endpoint(SERVER, 8)
    for given_up, passed in ((0, 0), (1, 1)):
        bench, both = begun(*remotes, link=OFFLOADED)
        bench.network.datagram_received(bench.take()[0].socket, remotes[0], b"held", 0, 60, 0, bench.now)
        give_up(bench, both[given_up])
        assert len([packet for packet in bench.packets if packet.protocol == UDP]) == passed


def test_a_relay_is_given_up_with_all_its_flows() -> None:
    bench, _ = network(link=OFFLOADED)
    bench.send(datagram(), datagram(port=8))
    stream, opened, _ = associate(bench)
    held = b"\0\0\0\1" + packed("93.184.215.14") + b"\0\7held"  # to be joined with others
    bench.network.datagram_received(opened.socket, RELAY, held, 0, 60, 0, bench.now)
    owner = flows(bench)[0].end
    assert give_up(bench, owner) == ("udp 10.0.2.15:5000 to 93.184.215.14:7, udp 10.0.2.15:5000 to 93.184.215.14:8")
    assert bench.take() == [CloseSocket(stream), CloseSocket(opened.socket)]
    assert (flows(bench), bench.packets) == ([], [])
    assert give_up(bench, owner) == "udp through proxy office"
    bench.send(datagram())
    assert len(associate(bench)[2]) == 1


def test_a_relay_goes_on_when_that_of_another_endpoint_is_given_up() -> None:
    bench, _ = network()
    bench.send(datagram(), datagram(source_port=5001))
    first, second = (order.socket for order in bench.take() if isinstance(order, OpenStream))
    give_up(bench, flows(bench)[0].end)
    assert {order.socket for order in bench.take() if isinstance(order, CloseSocket)} == {first}
    bench.network.stream_connected(second, bench.now)
    bench.collect()
    assert [order.socket for order in bench.take()] == [second]


def test_a_relay_goes_on_with_the_flows_that_are_left() -> None:
    bench, _ = network()
    bench.send(datagram(), datagram(port=8))
    _, opened, _ = associate(bench)
    give_up(bench, flows(bench)[0])
    head = b"\0\0\0\1" + packed("93.184.215.14")
    for port in (b"\0\7", b"\0\x08"):
        bench.network.datagram_received(opened.socket, RELAY, head + port + b"answer", 0, 60, 0, bench.now)
    bench.collect()
    assert bench.take() == []
    assert [packet.payload[:2] for packet in bench.packets] == [b"\0\x08"]


def test_a_socket_that_was_forgotten_and_not_closed_yet_is_closed() -> None:
    bench, (flow,) = begun(Endpoint(SERVER, 7))
    socket = bench.take()[0].socket
    assert give_up(bench, flow.end) is None
    assert bench.take() == []
    inside: Any = bench.network
    del inside._udp._sockets[socket]
    inside._udp.abandon(flow.end)
    assert [type(order) for order in bench.network.take_orders()] == [CloseSocket]


def test_what_is_no_flow_is_not_given_up() -> None:
    bench, _ = begun(Endpoint(SERVER, 7))
    bench.take()
    for owner in (None, bench, bench.network._context):
        assert give_up(bench, owner) is None
    assert (bench.take(), len(flows(bench))) == ([], 1)


def test_a_flow_that_waits_is_found_by_its_name_and_given_up() -> None:
    bench, _ = begun(Endpoint(SERVER, 7), default_action=Action.ASK)
    question = bench.one(DecideFlow)
    inside: Any = bench.network
    assert inside._udp.named(SocketId(99)) is None
    give_up(bench, inside._udp.named(question.socket))
    assert bench.one(CloseSocket).socket == question.socket
    assert bench.network.flows() == []
    bench.wait(100)
    assert bench.network.next_deadline() is None


def test_all_sums_are_computed_again() -> None:
    bench, _ = begun(Endpoint(SERVER, 7), Endpoint(SERVER, 8), Endpoint(GROUP, 1900))
    bench.network.service_added(17, Prefix.of("198.51.100.0/24"), None, bench.now)
    bench.send(udp(*FROM, *Endpoint("198.51.100.1", 7), b"served"))
    forward = bench.network.forward_added(None, 53, bench.now)
    for port in (1000, 1001):
        bench.network.datagram_received(forward, Endpoint("203.0.113.1", port), b"x", 0, 60, 0, bench.now)
    right = accounts(bench.network)
    inside: Any = bench.network._udp
    inside._table._numbers = [1, 7]
    for end in inside._sockets.values():
        end.flows = {}
        if isinstance(end, Mapping):
            end.addresses, end.groups = Counter(), 7
    for end in inside._served._ends.values():
        end.flows = {}
    assert accounts(bench.network) != right
    inside.recount()
    assert accounts(bench.network) == right


@pytest.mark.parametrize("waited", [0.0, 3.9])
def test_a_question_ends_in_time_also_if_its_deadline_was_lost(waited: float) -> None:
    bench, _ = begun(Endpoint(SERVER, 7), default_action=Action.ASK, limits=Limits(decision_time=4))
    bench.wait(waited)
    inside: Any = bench.network
    if not waited:
        bench.network._context.timers.forget(inside._udp._opening._undecided)
    inside._udp.recount()
    bench.wait(4.05 - waited)
    assert bench.network.flows() == []


def test_flows_end_also_if_their_deadline_was_lost() -> None:
    bench, _ = begun(Endpoint(SERVER, 7))
    inside: Any = bench.network._udp
    bench.network._context.timers.forget(inside._table)
    inside.recount()
    bench.wait(40)
    assert bench.network.flows() == []
