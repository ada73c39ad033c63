"""Notices about flows of the guest that failed to open."""

from __future__ import annotations

import errno

import pytest

from sansnet_core import Endpoint, ExtendedError, FlowRefused, Reason
from sansnet_core.notices import Notice
from sansnet_core.records import replace
from sansnet_core.testing import OUTSIDER, SERVER, GuestStack, HostScript, Pair, make_config
from sansnet_core.testing.packets import ACK, RST, SYN, TCP, UDP, Segment, udp

GUEST = GuestStack().ipv4
CLOSED = bytes((240, 0, 0, 1))
HOST = Endpoint(SERVER, 80)
FROM = Endpoint(GUEST, 40000)


def refusals(pair: Pair) -> list[FlowRefused]:
    """The notices since the last call."""
    notices: list[Notice] = pair.notices
    pair.notices = []
    return [notice for notice in notices if isinstance(notice, FlowRefused)]


def segment(flags: int = SYN, sequence: int = 7, destination: bytes = SERVER) -> Segment:
    return Segment(GUEST, 40000, destination, 80, sequence=sequence, flags=flags)


@pytest.mark.parametrize("why", [errno.ECONNREFUSED, errno.ETIMEDOUT, errno.ENETUNREACH])
def test_a_connect_that_fails_is_told_with_its_errno(why: int) -> None:
    pair = Pair(script=HostScript(connect=None))
    pair.guest.send(segment().ip())
    pair.settle()
    assert refusals(pair) == []
    pair.host.fail(pair.host.stream, why, pair.now)
    pair.settle()
    assert refusals(pair) == [FlowRefused(TCP, FROM, HOST, HOST, why, None, False, pair.now)]


def test_a_connection_that_the_guest_gives_up_before_the_host_answers_is_told() -> None:
    pair = Pair(script=HostScript(connect=None))
    pair.guest.send(segment().ip())
    pair.settle()
    pair.guest.send(segment(RST | ACK, 8).ip())
    pair.settle()
    assert refusals(pair) == [FlowRefused(TCP, FROM, HOST, HOST, 0, None, False, pair.now)]


def test_a_connection_that_was_made_is_never_told() -> None:
    pair = Pair()
    _, stream = pair.established()
    pair.host.fail(stream, errno.ECONNRESET, pair.now)
    pair.settle()
    assert refusals(pair) == []


def test_a_connection_from_outside_is_never_told() -> None:
    pair = Pair()
    pair.host.accept(OUTSIDER, 80, pair.now)
    pair.drive(lambda: pair.tcp_flows == 0)
    assert refusals(pair) == []


def test_a_closed_address_is_told_for_both_protocols() -> None:
    pair = Pair()
    pair.guest.send(segment(destination=CLOSED).ip())
    pair.guest.send(udp(GUEST, 40000, CLOSED, 80, b"hello"))
    pair.settle()
    closed = Endpoint(CLOSED, 80)
    assert refusals(pair) == [
        FlowRefused(protocol, FROM, closed, None, 0, Reason.IP_DESTINATION, False, pair.now) for protocol in (TCP, UDP)
    ]


def test_of_a_udp_flow_the_first_failure_is_told_if_nothing_was_received() -> None:
    pair = Pair()
    error = ExtendedError(errno.ECONNREFUSED, 2, 3, 3, 0, SERVER)
    for _ in range(3):
        pair.guest.send(udp(GUEST, 40000, SERVER, 80, b"hello"))
        pair.settle()
        order = pair.host.datagrams[-1]
        pair.network.datagram_failed(order.socket, order.remote, error, b"hello", pair.now)
        pair.settle()
    assert refusals(pair) == [FlowRefused(UDP, FROM, HOST, HOST, errno.ECONNREFUSED, None, False, pair.now)]


def test_nothing_is_told_unless_it_is_wanted() -> None:
    pair = Pair(replace(make_config(), notices=False))
    pair.guest.send(segment(destination=CLOSED).ip())
    pair.settle()
    assert pair.notices == []
