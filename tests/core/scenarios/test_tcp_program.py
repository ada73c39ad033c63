"""Connections of the program to servers in the guest."""

from __future__ import annotations

from errno import (
    EADDRINUSE,
    EADDRNOTAVAIL,
    EAFNOSUPPORT,
    ECONNREFUSED,
    ECONNRESET,
    EHOSTUNREACH,
    ENOBUFS,
    EPROTONOSUPPORT,
    ETIMEDOUT,
)

import pytest

from sansnet_core import (
    Action,
    CloseSocket,
    Endpoint,
    FlowOpened,
    Ipv6Config,
    Limits,
    NetworkConfig,
    ResumeStream,
    Rule,
    UsageError,
)
from sansnet_core.orders import SocketId
from sansnet_core.records import replace
from sansnet_core.testing import (
    GATEWAY,
    GATEWAY6,
    OUTSIDER,
    SERVER,
    GuestTcpOptions,
    HostScript,
    HostStream,
    Impairment,
    ManualConnection,
    Pair,
    make_config,
)
from sansnet_core.testing.packets import ACK, RST, SYN, TCP

VIRTUAL = Endpoint("198.18.0.1", 5000)
VIRTUAL6 = Endpoint("2001:2::1", 5000)


def virtual() -> NetworkConfig:
    return replace(make_config(), virtual=("198.18.0.0/15", "2001:2::/48"))


def test_the_addresses_of_packets_of_the_program_are_told_before_there_are_any() -> None:
    pair = Pair(virtual())
    addresses = pair.network.program_addresses
    assert addresses(None, None) == (GATEWAY, pair.guest.ipv4)
    assert addresses(None, pair.guest.ipv6) == (GATEWAY6, pair.guest.ipv6)
    assert addresses("198.18.0.1", None) == (VIRTUAL.address, pair.guest.ipv4)
    assert addresses("198.18.0.1", pair.guest.ipv6) == EAFNOSUPPORT
    assert addresses(SERVER, None) == EADDRNOTAVAIL
    assert addresses(None, GATEWAY) == EHOSTUNREACH


def connected(pair: Pair, source: Endpoint | None = None, *, guest_address: bytes | None = None) -> HostStream:
    """A connection to the guest's port 80, with the handshake done."""
    pair.guest.listening[80] = GuestTcpOptions()
    stream = pair.host.connect(80, pair.now, source=source, guest_address=guest_address)
    assert isinstance(stream, HostStream)
    pair.settle()
    return stream


@pytest.mark.parametrize(
    ("source", "expected"),
    [(None, GATEWAY), (VIRTUAL, VIRTUAL.address), (VIRTUAL6, VIRTUAL6.address), (Endpoint(GATEWAY6, 7), GATEWAY6)],
)
def test_the_guest_is_connected_from_an_address_of_ours(source: Endpoint | None, expected: bytes) -> None:
    pair = Pair(virtual())
    stream = connected(pair, source)
    (connection,) = pair.guest.connections.values()
    assert connection.established
    assert pair.host.orders == [ResumeStream(stream.socket)]
    assert stream.remote.address == expected
    assert stream.remote.port == (source.port if source else stream.remote.port)
    pair.host.produce(stream, b"question")
    connection.send(b"answer")
    pair.settle()
    assert (bytes(connection.received), bytes(stream.received)) == (b"question", b"answer")

    guest = Endpoint(pair.guest.address(len(expected)), 80)
    if expected != GATEWAY6:
        assert pair.network.stream_endpoints(stream.socket) == (guest, stream.remote)
        assert pair.notices == [FlowOpened(stream.socket, TCP, guest, stream.remote, stream.remote, True, pair.now)]


def test_both_sides_end_and_the_socket_is_closed_as_usual() -> None:
    pair = Pair()
    stream = connected(pair)
    (connection,) = pair.guest.connections.values()
    pair.host.end(stream)
    pair.settle()
    connection.shutdown()
    pair.drive(lambda: stream.closed)
    assert pair.host.orders[-1] == CloseSocket(stream.socket, False, 0)
    assert pair.network.stream_endpoints(SocketId(99)) is None


def test_the_bytes_that_the_guest_has_not_acknowledged_are_known() -> None:
    pair = Pair()
    stream = connected(pair)
    pair.network.stream_received(stream.socket, b"12345", pair.now)
    assert pair.network.stream_unacknowledged(stream.socket) == 5
    pair.settle()
    pair.wait(1.0)
    assert pair.network.stream_unacknowledged(stream.socket) == 0
    assert pair.network.stream_unacknowledged(SocketId(99)) == 0


def test_the_address_of_the_guest_can_be_given() -> None:
    other = bytes((172, 17, 0, 2))
    pair = Pair()
    pair.guest.ipv4 = other
    stream = connected(pair, guest_address=other)
    ends = pair.network.stream_endpoints(stream.socket)
    assert ends is not None
    assert ends[0] == Endpoint(other, 80)


def test_the_chosen_ports_differ_and_a_given_one_is_used_once() -> None:
    pair = Pair(virtual())
    ports = set()
    for _ in range(100):
        stream = pair.host.connect(80, pair.now)
        assert isinstance(stream, HostStream)
        ports.add(stream.remote.port)
    assert len(ports) == 100
    assert min(ports) >= 32768
    assert max(ports) < 61000
    connected(pair, VIRTUAL)
    assert pair.host.connect(80, pair.now, source=VIRTUAL) == EADDRINUSE
    assert isinstance(pair.host.connect(81, pair.now, source=VIRTUAL), HostStream)
    stream = pair.host.connect(80, pair.now, source=Endpoint(VIRTUAL.address, 0))
    assert isinstance(stream, HostStream)
    assert stream.remote.address == VIRTUAL.address
    assert stream.remote.port >= 32768


def test_a_port_in_time_wait_can_be_used_again() -> None:
    pair = Pair(virtual())
    stream = connected(pair, VIRTUAL)
    (connection,) = pair.guest.connections.values()
    pair.host.end(stream)
    pair.settle()
    connection.shutdown()
    pair.settle()
    assert [flow.state for flow in pair.network.flows()] == ["TIME_WAIT"]
    pair.guest.connections.clear()
    connected(pair, VIRTUAL)


def test_ports_run_out() -> None:
    pair = Pair(make_config(limits=Limits(tcp_pending=40_000, tcp_inbound_flows=40_000)))
    made = [pair.network.stream_opened(None, None, 80, pair.now) for _ in range(28_233)]
    assert made[-2] > 0
    assert made[-1] == -EADDRNOTAVAIL
    assert pair.network.stream_opened(None, None, 81, pair.now) > 0, "another server has all of them"


def test_the_program_is_not_asked_about_its_own_connections() -> None:
    pair = Pair(replace(make_config(), rules=(Rule(action=Action.REFUSE),), default_action=Action.ASK))
    connected(pair)
    assert pair.host.questions == {}


# failures


def test_a_guest_that_refuses_is_a_failure_with_the_errno_of_connect() -> None:
    pair = Pair()
    stream = pair.host.connect(80, pair.now)
    assert isinstance(stream, HostStream)
    pair.settle()
    (syn,) = pair.guest.strays
    peer = ManualConnection(pair, port=80, remote=stream.remote)
    peer.send(RST | ACK, sequence=0, acknowledgment=(syn.sequence + 1) % (1 << 32))
    assert pair.host.orders == [CloseSocket(stream.socket, True, ECONNREFUSED)]
    assert pair.tcp_flows == 0


def test_a_guest_that_is_silent_is_a_timeout() -> None:
    pair = Pair()
    stream = pair.host.connect(80, pair.now)
    assert isinstance(stream, HostStream)
    pair.wait(120.0)
    assert pair.host.orders == [CloseSocket(stream.socket, True, ETIMEDOUT)]


def test_a_reset_and_a_lost_guest_have_errnos_too() -> None:
    pair = Pair(make_config(limits=Limits(tcp_keepalive=10.0)))
    stream = connected(pair)
    (connection,) = pair.guest.connections.values()
    connection.abort(pair.now)
    pair.settle()
    assert pair.host.orders[-1] == CloseSocket(stream.socket, True, ECONNRESET)
    stream = connected(pair)
    pair.up.become(Impairment(loss=1.0, longest_loss=1000))
    pair.wait(2000.0)
    assert pair.host.orders[-1] == CloseSocket(stream.socket, True, ETIMEDOUT)


def test_a_program_that_gives_up_takes_the_syn_back() -> None:
    pair = Pair()
    stream = pair.host.connect(80, pair.now)
    assert isinstance(stream, HostStream)
    pair.settle()
    pair.host.fail(stream, ECONNRESET, pair.now)
    pair.settle()
    assert [segment.flags for segment in pair.guest.strays] == [SYN, RST]
    assert pair.tcp_flows == 0


@pytest.mark.parametrize(
    ("source", "address", "port", "errno"),
    [
        (Endpoint(SERVER, 7), None, 80, EADDRNOTAVAIL),
        (OUTSIDER, None, 80, EADDRNOTAVAIL),
        (Endpoint("10.0.2.15", 7), None, 80, EADDRNOTAVAIL),
        (Endpoint("224.0.0.1", 7), None, 80, EADDRNOTAVAIL),
        (Endpoint("127.0.0.1", 7), None, 80, EADDRNOTAVAIL),
        (Endpoint("255.255.255.255", 7), None, 80, EADDRNOTAVAIL),
        (Endpoint("0.0.0.0", 7), None, 80, EADDRNOTAVAIL),
        (Endpoint("ff02::1", 7), None, 80, EADDRNOTAVAIL),
        (Endpoint(GATEWAY, 7), bytes(16), 80, EAFNOSUPPORT),
        (VIRTUAL6, bytes((10, 0, 2, 15)), 80, EAFNOSUPPORT),
        (None, bytes(4), 80, EHOSTUNREACH),
        (None, GATEWAY, 80, EHOSTUNREACH),
        (None, bytes((224, 0, 0, 1)), 80, EHOSTUNREACH),
        (None, bytes((127, 0, 0, 1)), 80, EHOSTUNREACH),
        (None, bytes((10, 0, 2, 255)), 80, EHOSTUNREACH),
    ],
)
def test_what_cannot_be_is_an_errno_at_once(
    source: Endpoint | None, address: bytes | None, port: int, errno: int
) -> None:
    for config in (virtual(), replace(virtual(), virtual=("0.0.0.0/0", "::/0"))):
        if source == Endpoint(SERVER, 7) or source == OUTSIDER:
            config = virtual()  # which exist in the program if all addresses do
        pair = Pair(config)
        assert pair.network.stream_opened(source, address, port, pair.now) == -errno
        assert pair.network.take_frames() == []
        assert pair.tcp_flows == 0


@pytest.mark.parametrize(
    ("source", "port"), [(None, 0), (None, 65536), (Endpoint._make((GATEWAY, -1)), 80), (Endpoint._make((b"", 1)), 80)]
)
def test_a_wrong_port_or_address_is_an_error_of_the_driver(source: Endpoint | None, port: int) -> None:
    pair = Pair()
    with pytest.raises(UsageError):
        pair.network.stream_opened(source, None, port, pair.now)


def test_a_network_with_one_family_connects_in_that() -> None:
    config = replace(make_config(), ipv4=None)
    pair = Pair(config)
    assert pair.network.stream_opened(Endpoint(GATEWAY, 7), None, 80, pair.now) == -EAFNOSUPPORT
    assert connected(pair).remote.address == GATEWAY6
    assert pair.network.stream_opened(None, bytes((10, 0, 2, 15)), 80, pair.now) == -EAFNOSUPPORT


def test_a_guest_without_an_address_cannot_be_reached() -> None:
    config = replace(make_config(), ipv4=None, ipv6=Ipv6Config(address=None, gateway=GATEWAY6))
    pair = Pair(config)
    assert pair.network.stream_opened(None, None, 80, pair.now) == -EHOSTUNREACH


def test_a_network_without_a_gateway_needs_a_source() -> None:
    ipv4 = make_config().ipv4
    assert ipv4
    pair = Pair(replace(virtual(), ipv4=replace(ipv4, gateway=None), ipv6=None))
    assert pair.network.stream_opened(None, None, 80, pair.now) == -EADDRNOTAVAIL
    assert connected(pair, VIRTUAL).connected


@pytest.mark.parametrize("limits", [Limits(tcp_flows=2), Limits(tcp_inbound_flows=2), Limits(tcp_pending=2)])
def test_they_count_among_the_inbound_ones(limits: Limits) -> None:
    pair = Pair(make_config(limits=limits))
    for _ in range(2):
        assert isinstance(pair.host.connect(80, pair.now), HostStream)
    assert pair.host.connect(80, pair.now) == ENOBUFS


@pytest.mark.parametrize("seed", range(20))
def test_the_ports_are_those_that_linux_takes(seed: int) -> None:
    pair = Pair(secret=bytes([seed]) * 32)
    for _ in range(3):
        assert 32768 <= connected(pair).remote.port < 61000


def test_nothing_connects_if_tcp_is_off() -> None:
    pair = Pair(replace(make_config(), tcp=False))
    assert pair.host.connect(80, pair.now) == EPROTONOSUPPORT


def test_an_end_that_came_before_the_guest_accepted_is_delivered() -> None:
    pair = Pair(script=HostScript(produce=b"all", end=True))
    connected(pair)
    (connection,) = pair.guest.connections.values()
    assert (bytes(connection.received), connection.fin_received) == (b"all", True)
