"""The memory of an idle connection in the core."""

from __future__ import annotations

import gc
import tracemalloc
from typing import Any

from sansnet_core.config import Limits
from sansnet_core.policy import Action, Rule
from sansnet_core.testing import SERVER, make_config, packets
from sansnet_core.wire import tcp
from tests.core.direct import GUEST, Direct
from tests.core.named import PUBLIC, PUBLIC_B, TcpGuest, named

COUNT = 500
LIMIT = 900
"""Bytes for each connection, with its share of the tables."""


def test_an_idle_connection_takes_less_than_a_kibibyte() -> None:
    bench = Direct(make_config(limits=Limits(tcp_keepalive=7200.0)))
    _connect(bench, 100, 10_000)
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        _connect(bench, COUNT, 20_000)
        bench.wait(3.0)
        bench.take()
        bench.packets.clear()
        bench.notices.clear()
        gc.collect()
        taken = (tracemalloc.get_traced_memory()[0] - before) / COUNT
    finally:
        tracemalloc.stop()
    inside: Any = bench.network
    assert all(flow.resting is not None for flow in inside._tcp._flows.values())
    assert taken < LIMIT


def test_connections_with_the_same_judgement_share_one_permission() -> None:
    rules = [Rule(action=Action.ALLOW, destinations=(one,), label=one) for one in (PUBLIC, PUBLIC_B)]
    bench, _ = named(*rules)
    for port, destination in enumerate((PUBLIC, PUBLIC, PUBLIC_B), 40_000):
        TcpGuest(bench, destination, source_port=port).syn()
    inside: Any = bench.network
    first, second, _ = inside._tcp._flows.values()
    assert first.permission is second.permission
    assert [flow.rule for flow in bench.network.flows()] == [PUBLIC, PUBLIC, PUBLIC_B]


def test_a_connection_with_something_to_do_does_not_rest() -> None:
    bench = Direct()
    _connect(bench, 1, 10_000)
    inside: Any = bench.network
    (flow,) = inside._tcp._flows.values()
    bench.network.stream_received(flow.socket, b"not acknowledged", bench.now)
    assert not flow.rest(inside._tcp._shared.no_headers)
    assert flow.resting is None
    bench.wait(0.1)
    bench.collect()
    assert any(packet.payload.endswith(b"not acknowledged") for packet in bench.packets)


def _connect(bench: Direct, count: int, first: int) -> None:
    for port in range(first, first + count):
        options = tcp.mss_option(1460) + tcp.window_scale_option(7) + tcp.sack_permitted_option()
        _send(bench, port, tcp.SYN, 0, 0, options)
        bench.network.stream_connected(bench.take()[0].socket, bench.now)
        bench.collect()
        answer = bench.packets.pop()
        sequence = int.from_bytes(answer.payload[4:8], "big")
        _send(bench, port, tcp.ACK, 1, tcp.add(sequence, 1), b"")
        bench.take()


def _send(bench: Direct, port: int, flags: int, sequence: int, acknowledgment: int, options: bytes) -> None:
    segment = tcp.emit(GUEST, SERVER, port, 80, sequence, acknowledgment, flags, 65535, options)
    bench.send(packets.Ip(GUEST, SERVER, 6, segment))
