"""Idle flows of UDP: their memory in the core, and what they do after a rest."""

from __future__ import annotations

import gc
import tracemalloc
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from sansnet_core import CloseSocket, Endpoint, Network, OpenDatagram, SocketId
from sansnet_core.config import Limits
from sansnet_core.proto.udp.headers import MOST
from sansnet_core.proto.udp.host import _MAX_HOSTS
from sansnet_core.testing import SECRET, SERVER, make_config, packets
from tests.core.direct import GUEST, Direct

COUNT = 500
LIMIT = 900
"""Bytes for each flow, with its share of the tables."""
TO = Endpoint(SERVER, 7)
OTHER_GUEST = bytes((10, 0, 2, 77))
GUEST_MAC = bytes.fromhex("020000000001")
MACS = (bytes.fromhex("020000000011"), bytes.fromhex("020000000022"))


def test_an_idle_flow_takes_little_memory() -> None:
    bench = Direct(make_config())
    _exchange(bench, range(1000, 1001))
    gc.collect()
    tracemalloc.start()
    try:
        _exchange(bench, range(2000, 2000 + MOST))  # from now on, flows take each other's headers
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        _exchange(bench, range(10_000, 10_000 + COUNT))
        gc.collect()
        taken = (tracemalloc.get_traced_memory()[0] - before) / COUNT
    finally:
        tracemalloc.stop()
    assert taken < LIMIT


def _exchange(bench: Direct, ports: range) -> None:
    """A datagram in each direction for each port of the guest."""
    for port in ports:
        _, answers = _ask(bench, port)
        assert [(answer.destination, answer.payload[8:]) for answer in answers] == [(GUEST, b"answer")]
    bench.wait(3.0)
    bench.take()
    bench.notices.clear()


def _ask(bench: Direct, port: int) -> tuple[SocketId, list[packets.Ip]]:
    bench.packets.clear()
    bench.send(packets.udp(GUEST, port, *TO, b"question"))
    socket = next(order.socket for order in bench.take() if isinstance(order, OpenDatagram))
    bench.network.datagram_received(socket, TO, b"answer", 0, 60, 0, bench.now)
    bench.collect()
    return socket, bench.packets


def test_only_the_latest_flows_have_headers_and_those_that_are_over_keep_none() -> None:
    bench = Direct(make_config())
    inside: Any = bench.network
    for port in range(1, MOST + 3):
        _ask(bench, port)
    assert [flow.headers is None for flow in inside._udp._flows.values()] == [True] * 2 + [False] * MOST
    bench.wait(60.0)
    assert not inside._udp._flows
    assert not inside._udp._table.headers._flows


def test_the_endpoints_that_flows_have_in_common_are_bounded() -> None:
    bench = Direct(make_config())
    inside: Any = bench.network
    for number, kept in ((_MAX_HOSTS, _MAX_HOSTS), (1, 1)):
        bench.send(*(packets.udp(GUEST, number, SERVER, port, b"x") for port in range(1000, 1000 + number)))
        assert len(inside._udp._host._hosts) == kept


def test_datagrams_to_a_guest_that_was_silent_so_far_go_to_its_given_address_also_after_many_others() -> None:
    network = Network(make_config(), now=0.0, secret=SECRET)
    forward = network.forward_added(None, 53, 0.0)
    for port in (*range(1, MOST + 2), 1):
        network.datagram_received(forward, Endpoint(SERVER, port), b"question", 0, 60, 0, 0.0)
    read = [packets.read_frame(frame, vnet=False) for frame in network.take_frames()]
    assert [one.destination for one in read if one.ethertype == packets.IPV4] == [GUEST_MAC] * (MOST + 2)


def test_a_flow_is_answered_after_many_others_and_at_its_own_station() -> None:
    """Also if the table of stations has lost that meanwhile."""
    config = make_config(limits=Limits(stations=1))
    network = Network(config, now=0.0, secret=SECRET)

    def send(mac: bytes, source: bytes, port: int) -> SocketId:
        packet = packets.udp(source, port, *TO, b"question").emit()
        network.receive_frames([packets.ethernet(config.mac, mac, packets.IPV4, packet)], 0.0)
        return next(order.socket for order in network.take_orders() if isinstance(order, OpenDatagram))

    def answer(socket: SocketId) -> list[bytes]:
        """The Ethernet destinations of the frames."""
        network.take_frames()
        network.datagram_received(socket, TO, b"answer", 0, 60, 0, 0.0)
        return [frame[:6] for frame in network.take_frames() if isinstance(frame, bytes)]

    first = send(MACS[0], GUEST, 1)
    assert answer(first) == [MACS[0]]
    for port in range(2, MOST + 2):
        assert answer(send(MACS[1], OTHER_GUEST, port)) == [MACS[1]]
    assert answer(first) == [MACS[0]]


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(1, 6), st.booleans())))
@example([(1, True), (2, True), (3, True), (1, True), (4, True), (5, True), (2, True), (3, True), (1, True)])
@example([(1, False), (2, False), (3, False), (4, False), (1, True), (2, False), (4, True), (3, True)])
def test_the_least_recently_used_flow_gives_way(uses: list[tuple[int, bool]]) -> None:
    """Some ports of the guest are used, the time passing or not. Of those used at one time, the first flow goes."""
    bench = Direct(make_config(limits=Limits(udp_flows=3)))
    flows: dict[int, SocketId] = {}
    used: dict[int, float] = {}
    for port, later in uses:
        if later:
            bench.wait(0.5)
        bench.send(packets.udp(GUEST, port, *TO, b"x"))
        orders = bench.take()
        closed = [order.socket for order in orders if isinstance(order, CloseSocket)]
        if port in flows:
            assert not closed
        else:
            assert closed == ([flows.pop(min(flows, key=used.__getitem__))] if len(flows) == 3 else [])
            flows[port] = next(order.socket for order in orders if isinstance(order, OpenDatagram))
        used[port] = bench.now
