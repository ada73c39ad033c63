"""A network can be pickled and copied while anything is under way. tests/fuzz/test_copies.py compares what follows."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import pytest

from sansnet_core import LinkConfig, Network, SendStream
from sansnet_core.testing import GuestTcpOptions, HostScript, Pair, ScriptedHost, make_config
from sansnet_core.testing.packets import glue

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
