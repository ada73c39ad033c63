"""The model of the host's sockets takes the orders that a driver can carry out, and no others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import pytest

from sansnet_core import (
    Allow,
    CloseSocket,
    DecideFlow,
    DeliverDatagram,
    Endpoint,
    FailDatagram,
    KeepAlive,
    OpenDatagram,
    OpenEcho,
    OpenStream,
    Order,
    ResumeStream,
    SendDatagram,
    SendEcho,
    SendStream,
    Serve,
    ServeStream,
    ShutdownStream,
    SocketId,
)
from sansnet_core.testing.host_sockets import HostSockets, Kind

STREAM, CONNECTED, DATAGRAM, FORWARD, PING, SERVICE, FLOW, TCP_SERVICE, ASKED, NEW = map(SocketId, range(1, 11))
GUEST, SERVER, OTHER = Endpoint("10.0.2.15", 40000), Endpoint("192.0.2.80", 80), Endpoint("2001:db8::80", 80)
ANY: Final = Endpoint("0.0.0.0", 0)


def host() -> HostSockets:
    """A host with one of everything."""
    made = HostSockets()
    for name in (STREAM, CONNECTED):
        made.judge(OpenStream(name, SERVER, None, GUEST, SERVER))
    made.connected(CONNECTED)
    made.judge(OpenDatagram(DATAGRAM, ANY, GUEST))
    made.forward_added(FORWARD)
    made.judge(OpenEcho(PING, SERVER.address, None))
    made.service_added(SERVICE, 17)
    made.service_added(TCP_SERVICE, 6)
    for name in (FLOW, ASKED):
        made.judge(DecideFlow(name, 17, GUEST, SERVER, False))
    made.decided(FLOW, Serve())
    return made


LEGAL: Final[list[Order]] = [
    SendStream(CONNECTED, b"data"),
    ShutdownStream(CONNECTED),
    ResumeStream(CONNECTED),
    KeepAlive(CONNECTED, 1, 32767, 127),
    CloseSocket(STREAM),
    CloseSocket(PING),
    CloseSocket(FLOW),
    CloseSocket(ASKED),
    SendDatagram(DATAGRAM, SERVER, b"", 0, 64, 0),
    SendDatagram(DATAGRAM, SERVER, bytes(12800), 100, 255, 255),
    SendDatagram(FORWARD, OTHER, b"answer", 0, 64, 0, local=OTHER.address),
    SendEcho(PING, SERVER.address, 65535, bytes(65507), 1, 0),
    DeliverDatagram(SERVICE, GUEST, SERVER, b"ab", 1, 64, 0),
    DeliverDatagram(FLOW, GUEST, SERVER, b"", 0, 64, 0),
    FailDatagram(SERVICE, GUEST, SERVER, 111),
    FailDatagram(FLOW, GUEST, SERVER, 111),
    ServeStream(NEW, TCP_SERVICE, GUEST, SERVER),
    OpenStream(NEW, OTHER, OTHER.address),
    DecideFlow(NEW, 6, GUEST, SERVER, False),
    DecideFlow(CONNECTED, 6, GUEST, SERVER, True),
]
ILLEGAL: Final[list[tuple[Order, str]]] = [
    (SendStream(STREAM, b"data"), "not connected"),
    (SendStream(CONNECTED, b""), "without data"),
    (SendStream(NEW, b"data"), "never given"),
    (SendStream(DATAGRAM, b"data"), "for a datagram"),
    (ShutdownStream(STREAM), "not connected"),
    (ResumeStream(STREAM), "not connected"),
    (KeepAlive(STREAM, 1, 1, 1), "not connected"),
    (KeepAlive(CONNECTED, 0, 1, 1), "idle"),
    (KeepAlive(CONNECTED, 1, 32768, 1), "interval"),
    (KeepAlive(CONNECTED, 1, 1, 128), "count"),
    (CloseSocket(SERVICE), "for a service"),
    (CloseSocket(STREAM, errno=4096), "errno"),
    (SendDatagram(DATAGRAM, OTHER, b"", 0, 64, 0), "other family"),
    (SendDatagram(DATAGRAM, SERVER, b"", 0, 0, 0), "TTL"),
    (SendDatagram(DATAGRAM, SERVER, bytes(12801), 100, 64, 0), "more than 128 datagrams"),
    (SendDatagram(DATAGRAM, SERVER, bytes(65508), 0, 64, 0), "no datagram is as large"),
    (SendDatagram(DATAGRAM, SERVER, b"", 0, 64, 0, local=SERVER.address), "is bound"),
    (SendDatagram(FORWARD, SERVER, b"", 0, 64, 0, local=OTHER.address), "two families"),
    (CloseSocket(FORWARD), "for a forward"),
    (SendEcho(PING, GUEST.address, 1, b"", 64, 0), "somewhere else"),
    (DeliverDatagram(TCP_SERVICE, GUEST, SERVER, b"", 0, 64, 0), "service of TCP"),
    (DeliverDatagram(ASKED, GUEST, SERVER, b"", 0, 64, 0), "for a question"),
    (FailDatagram(DATAGRAM, GUEST, SERVER, 111), "for a datagram"),
    (ServeStream(NEW, SERVICE, GUEST, SERVER), "no service of TCP"),
    (ServeStream(NEW, None, GUEST, SERVER), "without a verdict"),
    (OpenStream(STREAM, SERVER, None), "used twice"),
    (OpenStream(ASKED, SERVER, None), "before the verdict"),
    (OpenStream(NEW, SERVER, OTHER.address), "two families"),
    (OpenStream(NEW, ANY, None), "no port"),
    (OpenEcho(NEW, ANY.address, None), "loopback"),
    (DecideFlow(STREAM, 17, GUEST, SERVER, False), "used twice"),
    (DecideFlow(NEW, 6, GUEST, SERVER, True), "no such connection"),
]


@pytest.mark.parametrize("order", LEGAL, ids=str)
def test_an_order_that_a_driver_can_carry_out_is_taken(order: Order) -> None:
    host().judge(order)


@pytest.mark.parametrize(("order", "why"), ILLEGAL, ids=str)
def test_an_order_that_no_driver_can_carry_out_is_noticed(order: Order, why: str) -> None:
    with pytest.raises(AssertionError, match=why):
        host().judge(order)


@pytest.mark.parametrize(
    "end",
    [
        lambda made: made.judge(CloseSocket(CONNECTED)),
        lambda made: made.failed(CONNECTED),
    ],
    ids=["closed", "failed"],
)
def test_no_order_may_name_a_closed_socket(end: Callable[[HostSockets], None]) -> None:
    made = host()
    end(made)
    for order in (SendStream(CONNECTED, b"data"), ShutdownStream(CONNECTED), CloseSocket(CONNECTED)):
        with pytest.raises(AssertionError, match="for a closed socket"):
            made.judge(order)
    assert CONNECTED not in {socket.name for socket in made.of(Kind.STREAM)}


def test_a_stream_is_shut_down_once_and_gets_no_data_behind_that() -> None:
    made = host()
    made.judge(ShutdownStream(CONNECTED))
    with pytest.raises(AssertionError, match="behind its end"):
        made.judge(SendStream(CONNECTED, b"data"))
    with pytest.raises(AssertionError, match="the second one"):
        made.judge(ShutdownStream(CONNECTED))


def test_a_question_may_be_withdrawn_also_when_its_connection_has_failed() -> None:
    made = host()
    made.judge(DecideFlow(CONNECTED, 6, GUEST, SERVER, True))
    made.failed(CONNECTED)
    made.judge(CloseSocket(CONNECTED))
    with pytest.raises(AssertionError, match="for a closed socket"):
        made.judge(CloseSocket(CONNECTED))


def test_a_verdict_binds_the_network() -> None:
    made = host()
    made.judge(DecideFlow(NEW, 6, GUEST, SERVER, False))
    made.decided(NEW, Serve())
    with pytest.raises(AssertionError, match="against the verdict"):
        made.judge(OpenStream(NEW, SERVER, None))
    made = host()
    made.decided(ASKED, Allow())
    made.decided(ASKED, Serve())  # too late: it was asked once
    made.judge(OpenDatagram(ASKED, ANY))
    assert made.all[ASKED].kind is Kind.DATAGRAM


def test_a_flow_that_the_program_has_ended_gets_no_datagrams_and_is_closed_by_an_order() -> None:
    made = host()
    for name in (FLOW, SERVICE):
        made.service_removed(name)
    with pytest.raises(AssertionError, match="the program has ended it"):
        made.judge(DeliverDatagram(FLOW, GUEST, SERVER, b"", 0, 64, 0))
    with pytest.raises(AssertionError, match="closed socket"):
        made.judge(DeliverDatagram(SERVICE, GUEST, SERVER, b"", 0, 64, 0))
    made.judge(CloseSocket(FLOW))


def test_budgets_pause_connected_streams_alone_until_they_are_resumed() -> None:
    made = host()
    for name in (STREAM, CONNECTED, DATAGRAM):
        made.budget(name, 0)
    assert [socket.name for socket in made.all.values() if socket.paused] == [CONNECTED]
    made.judge(ResumeStream(CONNECTED))
    assert not made.all[CONNECTED].paused
    with pytest.raises(AssertionError, match="below 0"):
        made.budget(CONNECTED, -1)


def test_the_driver_reports_no_more_bytes_than_it_was_given() -> None:
    made = host()
    made.judge(SendStream(CONNECTED, b"data"))
    made.sent(CONNECTED, 3)
    with pytest.raises(AssertionError, match="more bytes than it was given"):
        made.sent(CONNECTED, 2)
