"""A guest may stop waiting for a connection without a segment: the host's socket is closed all the same, in time."""

from __future__ import annotations

from errno import ETIMEDOUT
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sansnet_core import CloseSocket, FlowClosed, Limits, OpenStream, Reason, SocketId
from sansnet_core.testing import GuestTcpOptions, HostScript, ManualConnection, Pair, make_config

SILENT = HostScript(connect=None)
LINUX = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0]
"""Seconds between the SYNs of a guest with tcp_syn_retries=6; it waits for 64 more after the last one."""
LINEAR = [1.0, 1.0, 1.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0]
"""The same since Linux 6.5 (tcp_syn_linear_timeouts)."""
OLD = [3.0, 6.0, 12.0, 24.0]
"""RFC 1122, 4.2.3.1."""


def test_one_syn_that_is_not_repeated_is_given_up_after_seconds() -> None:
    pair = Pair(script=SILENT)
    assert ManualConnection(pair).syn() == []
    pair.wait(3.2)
    assert pair.tcp_flows == 1, "the SYN of an old guest comes again after 3 s"
    pair.wait(3.0)

    assert pair.host.orders[-1] == CloseSocket(SocketId(1), True, ETIMEDOUT)
    assert pair.tcp_flows == 0
    assert pair.sent == [], "nobody waits for an answer"
    assert any(isinstance(notice, FlowClosed) for notice in pair.notices)


@pytest.mark.parametrize("gaps", [LINUX, LINEAR, OLD])
def test_a_guest_that_still_waits_is_never_given_up(gaps: list[float]) -> None:
    pair = Pair(script=SILENT)
    peer = ManualConnection(pair)
    peer.syn()
    for gap in gaps:
        pair.wait(gap)
        assert pair.tcp_flows == 1
        peer.syn()
    pair.wait(2 * gaps[-1])
    assert pair.tcp_flows == 1
    pair.wait(10.0)

    assert pair.tcp_flows == 0
    assert sum(isinstance(order, OpenStream) for order in pair.host.orders) == 1


@given(repeats=st.integers(0, 6), first=st.sampled_from([0.2, 1.0, 3.0]))
def test_what_was_given_up_is_closed_in_proportion_to_the_wait(repeats: int, first: float) -> None:
    pair = Pair(script=SILENT)
    peer = ManualConnection(pair)
    peer.syn()
    last = 1.0
    for exponent in range(repeats):
        gap = first * 2**exponent
        last = max(gap, 1.0)
        pair.wait(gap)
        peer.syn()
    pair.wait(2 * last + 5.0)

    assert pair.tcp_flows == 0
    assert pair.network.next_deadline() is None


@pytest.mark.parametrize("when", [*accumulate(LINUX)])
def test_a_slow_host_is_waited_for_as_long_as_the_guest_does(when: float) -> None:
    pair = Pair(script=HostScript(connect_delay=when + 0.5))
    connection = pair.connect(GuestTcpOptions())
    pair.drive(lambda: connection.established)

    assert len(pair.host.streams) == 1


def test_a_syn_after_it_was_given_up_begins_anew() -> None:
    pair = Pair(script=SILENT)
    peer = ManualConnection(pair)
    peer.syn()
    pair.wait(30.0)
    pair.host.script = HostScript()

    assert peer.syn()
    assert len(pair.host.streams) == 2


def test_a_flood_that_is_given_up_leaves_no_sockets() -> None:
    pair = Pair(script=SILENT)
    for port in range(300):
        ManualConnection(pair, port=40_000 + port).syn()
    assert pair.tcp_flows == 300
    pair.wait(6.0)

    assert pair.tcp_flows == 0
    assert all(stream.aborted for stream in pair.host.streams.values())


@pytest.mark.parametrize("limits", [Limits(tcp_pending=3), Limits(tcp_flows=3)])
def test_at_the_limit_the_oldest_one_gives_way(limits: Limits) -> None:
    pair = Pair(make_config(limits=limits), SILENT)
    for port in range(3):
        ManualConnection(pair, port=40_000 + port).syn()
    pair.host.script = HostScript()
    peer = ManualConnection(pair, port=50_000)
    peer.open()

    assert [stream.aborted for stream in pair.host.streams.values()] == [True, False, False, False]
    assert pair.network.statistics().drops[Reason.TCP_LIMIT] == 1
    peer.data(b"hello")
    assert bytes(pair.host.stream.received) == b"hello"


def test_a_connect_that_the_host_has_answered_does_not_give_way() -> None:
    """A flood of SYNs that ignores the SYN-ACKs must not become as many connections of the host."""
    pair = Pair(make_config(limits=Limits(tcp_pending=3)))
    for port in range(20):
        ManualConnection(pair, port=40_000 + port).syn()

    assert len(pair.host.streams) == 3
    assert not any(stream.closed for stream in pair.host.streams.values())
    assert pair.network.statistics().drops[Reason.TCP_LIMIT] == 17
