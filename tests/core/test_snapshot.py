"""A network can be pickled and copied while anything is under way. tests/fuzz/test_copies.py compares what follows."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import pytest

from sansnet_core import (
    Action,
    Allow,
    DecideFlow,
    Endpoint,
    LinkConfig,
    Network,
    OpenDatagram,
    OpenEcho,
    OpenStream,
    SendStream,
    ServeStream,
    snapshot,
)
from sansnet_core.records import replace
from sansnet_core.testing import SERVER, GuestTcpOptions, HostScript, Pair, ScriptedHost, make_config
from sansnet_core.testing.packets import IPV4, SYN, Ip, Segment, echo_request, ethernet, fragments, glue, udp

WAYS: list[Callable[[Network], Network]] = [
    lambda network: pickle.loads(pickle.dumps(network)),
    lambda network: pickle.loads(pickle.dumps(network, 0)),
    copy.deepcopy,
    copy.copy,
]


@pytest.mark.parametrize("way", WAYS)
def test_a_copy_has_the_outputs_that_wait_and_the_data_in_flight(way: Callable[[Network], Network]) -> None:
    """Both are views of larger buffers, which `pickle` refuses."""
    pair = Pair(make_config(LinkConfig(mtu=65520)))
    connection, stream = pair.established(GuestTcpOptions(mss=65000, window=1 << 20, scale=8))
    pair.network.stream_received(stream.socket, bytes(range(256)) * 200, pair.now)
    connection.send(b"up" * 20_000)
    pair.guest.at(pair.now)
    pair.network.receive_frames([memoryview(frame) for frame in pair.guest.take_frames()], pair.now)

    other = way(pair.network)
    orders, frames = pair.network.take_orders(), pair.network.take_frames()
    assert any(isinstance(order, SendStream) for order in orders)
    assert frames
    assert other.take_orders() == orders
    assert [glue(frame) for frame in other.take_frames()] == [glue(frame) for frame in frames]
    assert other.statistics() == pair.network.statistics()
    assert other.flows() == pair.network.flows()


@pytest.mark.parametrize("way", WAYS)
def test_a_copy_carries_both_directions_and_leaves_the_original_alone(way: Callable[[Network], Network]) -> None:
    pair = Pair(script=HostScript(echo=True))
    connection, _ = pair.established()
    before = pickle.dumps(pair.network)

    original, script = pair.network, pair.host.script
    streams = pair.host.streams
    pair.network = way(original)
    pair.host = ScriptedHost(pair.network, script)
    pair.host.streams = streams
    connection.send(b"there and back")
    connection.shutdown()
    pair.drive(lambda: connection.closed)

    assert bytes(connection.received) == b"there and back"
    assert pickle.dumps(original) == before
    assert [flow.state for flow in original.flows()] == ["ESTABLISHED"]


@pytest.mark.parametrize("way", WAYS)
def test_a_copy_has_the_flows_that_wait_for_a_verdict_and_for_the_program(way: Callable[[Network], Network]) -> None:
    """And fragments whose datagram is not complete."""
    pair = Pair(replace(make_config(), default_action=Action.ASK, virtual=("10.9.0.0/16",)))
    network, guest, now = pair.network, pair.guest, pair.now
    service = network.service_added(17, None, 53, now)
    network.service_added(6, None, 80, now)
    syns = [Segment(guest.ipv4, 4000, *at, 1, 0, SYN, 1000).ip() for at in ((SERVER, 80), (b"\n\x09\0\1", 80))]
    whole = udp(guest.ipv4, 4001, SERVER, 53, bytes(3000))
    first, *rest = fragments(whole, 1400)
    ping = echo_request(guest.ipv4, SERVER, 7, 1, b"ping")
    before = [*syns, udp(guest.ipv4, 4000, SERVER, 53, b"q"), udp(guest.ipv4, 5, b"\n\x09\0\1", 53, b"q"), ping, first]
    network.receive_frames([frame(pair, ip) for ip in before], now)

    both = (network, way(network))
    asked = [network.take_orders() for network in both]
    assert asked[0] == asked[1]
    questions = [order for order in asked[0] if isinstance(order, DecideFlow)]
    assert {order.protocol for order in questions} == {1, 6, 17}
    assert any(isinstance(order, ServeStream) for order in asked[0])
    results = []
    for one in both:
        one.receive_frames([frame(pair, ip) for ip in rest], now)
        for question in questions:
            one.flow_decided(question.socket, Allow(), now)
        peer = Endpoint(guest.ipv4, 5)
        one.service_sent(service, peer, Endpoint("10.9.0.1", 53), b"answer", now)
        results.append((one.take_orders(), [glue(each) for each in one.take_frames()], one.flows(), one.statistics()))
    assert results[0] == results[1]
    assert {type(order) for order in results[0][0]} >= {DecideFlow, OpenStream, OpenDatagram, OpenEcho}


def frame(pair: Pair, ip: Ip) -> bytes:
    return ethernet(pair.config.mac, pair.guest.mac, IPV4, ip.emit())


def test_a_network_with_many_connections_is_copied_too() -> None:
    """Its parts refer to each other, which must not become a recursion as deep as there are connections."""
    pair = Pair()
    for port in range(2000):
        pair.connect(port=port + 1)
    pair.settle()

    assert len(copy.copy(pair.network).flows()) == 2000


def test_a_subclass_and_its_attributes_are_copied() -> None:
    network = Named(make_config(), now=1.0, secret=bytes(16))
    network.name = "one"
    other = copy.copy(network)
    network.name = "two"
    assert (type(other), other.name) == (Named, "one")


class Named(Network):
    name: str


def test_members_of_enumerations_are_saved_in_one_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python before 3.11.4 saves them by a call of `getattr`, which `load` refuses."""
    monkeypatch.setattr(Action, "__reduce_ex__", lambda member, _: (getattr, (Action, member.name)))
    owner = object()
    assert snapshot.load(snapshot.save(owner, {"action": Action.REFUSE}), owner) == {"action": Action.REFUSE}
