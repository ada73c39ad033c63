"""Determinism: the same inputs give the same bytes, however frames are batched, and wherever objects are in memory."""

from __future__ import annotations

from errno import ECONNRESET
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sansnet_core import Buffer, Limits, NetworkConfig, SendStream
from sansnet_core.testing import (
    GATEWAY,
    OUTSIDER,
    OUTSIDER6,
    SECRET,
    SERVER,
    SERVER6,
    GuestTcpOptions,
    HostScript,
    Impairment,
    Pair,
    ScriptedHost,
    make_config,
)
from sansnet_core.testing.packets import arp_request, dhcp_discover, echo_request, udp
from tests.sim.record import Call, RecordingNetwork, replay


def _session(seed: int, *, secret: bytes = SECRET) -> tuple[NetworkConfig, float, RecordingNetwork]:
    """A quarter of an hour of streams under loss, datagrams, pings and services."""
    bad = Impairment(loss=0.1, duplicate=0.1, reorder=0.2, delay=0.001)
    pair = Pair(up=bad, down=bad, seed=seed)
    start = pair.now
    network = RecordingNetwork(pair.config, now=start, secret=secret)
    pair.network = network
    pair.host = ScriptedHost(network, HostScript(echo=True, accept=3000))
    guest = pair.guest
    guest.send_frame(arp_request(guest.mac, guest.ipv4, GATEWAY))
    guest.send(dhcp_discover(guest.mac))
    guest.listening[80] = GuestTcpOptions(window=20_000)
    forward = pair.host.forward(53, pair.now, outgoing=(4,))
    pair.host.accept(OUTSIDER, 80, pair.now)
    connections = [pair.connect(GuestTcpOptions(window=30_000), family=family) for family in (4, 6, 4)]
    for number, connection in enumerate(connections):
        connection.send(bytes(range(100 + number)) * 100)
        guest.send(udp(guest.ipv4, 5000 + number, SERVER, 53, b"question"))
        guest.send(udp(guest.ipv4, 53, *OUTSIDER, b"answer"))
        guest.send(echo_request(guest.ipv6, SERVER6, 9, number, b"ping"))
        pair.host.datagram(forward, OUTSIDER, b"question from outside", pair.now, local=SERVER)
        pair.host.accept(OUTSIDER6, 80, pair.now)  # refused: the guest could not tell it from the first
        pair.wait(0.5)
    for connection in connections[:2]:
        connection.shutdown()
    pair.host.remove_forward(forward, pair.now)
    pair.wait(900.0)
    return pair.config, start, network


def test_the_same_inputs_give_the_same_bytes() -> None:
    config, start, network = _session(1)

    assert replay(network.calls, config, now=start) == network.results


def test_the_whole_simulation_is_reproducible() -> None:
    _, _, first = _session(2)
    _, _, second = _session(2)

    assert first.calls == second.calls
    assert first.results == second.results


def test_another_secret_gives_other_bytes() -> None:
    _, _, first = _session(2)
    _, _, second = _session(2, secret=b"another sixteen bytes or more")

    assert first.results != second.results


@pytest.mark.slow
@settings(max_examples=30)
@given(seed=st.integers(0, 5), sizes=st.lists(st.integers(1, 4), min_size=1, max_size=6))
def test_any_split_into_batches_gives_the_same_bytes(seed: int, sizes: list[int]) -> None:
    """This holds as long as the outputs are taken at the same points."""

    def split(frames: list[Buffer]) -> list[list[Buffer]]:
        parts, position, number = [], 0, 0
        while position < len(frames):
            size = sizes[number % len(sizes)]
            parts.append(frames[position : position + size])
            position, number = position + size, number + 1
        return parts

    config, start, network = _session(seed)

    assert replay(network.calls, config, now=start, batch=split) == network.results


@pytest.mark.slow
@settings(max_examples=20)
@given(sizes=st.lists(st.integers(1, 7), min_size=1, max_size=6))
def test_taking_outputs_at_other_points_gives_the_same_stream(sizes: list[int]) -> None:
    """Acknowledgments are coalesced differently then, but the host is sent the same."""
    config, start, network = _session(3)
    frames = [call for call in network.calls if call[0] in ("receive_frames", "stream_connected", "stream_accepted")]
    streams = []
    for step in (1000, sizes[0]):
        calls: list[Call] = []
        for number, call in enumerate(frames):
            calls.append(call)
            if number % step == step - 1 or number == len(frames) - 1:
                calls += [("take_orders", ()), ("take_frames", ())]
        received: dict[int, bytes] = {}
        for result in replay(calls, config, now=start):
            for order in result if isinstance(result, list) else []:
                if isinstance(order, SendStream):
                    received[order.socket] = received.get(order.socket, b"") + bytes(order.data)
        streams.append(received)

    assert streams[0] == streams[1]
    assert any(streams[0].values())


def _shake(random: Random) -> list[object]:
    """Leave holes in the memory of small objects, so that new ones come to addresses in any order."""
    made: list[object] = [bytearray(random.randrange(700)) for _ in range(20_000)]
    made += [[None] * random.randrange(90) for _ in range(5_000)]
    random.shuffle(made)
    del made[::2]
    return made


@pytest.mark.slow
@settings(max_examples=15)
@given(
    count=st.integers(4, 12),
    memory=st.sampled_from([20_000, 60_000]),
    order=st.randoms(use_true_random=False),
    fails=st.booleans(),
)
def test_addresses_of_objects_do_not_matter(count: int, memory: int, order: Random, fails: bool) -> None:
    """Many streams wait for memory, and are resumed at once: in an order that no set of objects decides."""
    config = make_config(limits=Limits(tcp_memory=memory))
    pair = Pair(config)
    start = pair.now
    network = RecordingNetwork(config, now=start, secret=SECRET)
    pair.network, pair.host = network, ScriptedHost(network)
    connections = [pair.connect(GuestTcpOptions(window=1 << 20, scale=7)) for _ in range(count + 1)]
    pair.drive(lambda: all(connection.established for connection in connections))
    hog, *others = pair.host.streams.values()
    pair.down.become(Impairment(loss=1.0))
    pair.host.produce(hog, bytes(memory))
    pair.settle()
    order.shuffle(others)
    for stream in others:
        pair.host.produce(stream, bytes(5000))
    pair.settle()
    pair.down.become(Impairment())
    if fails:
        pair.host.fail(hog, ECONNRESET, pair.now)
    pair.wait(10.0)
    assert all(len(connection.received) == 5000 for connection in connections[1:])

    for seed in range(3):
        held = _shake(Random(seed))
        assert replay(network.calls, config, now=start) == network.results
        assert held
