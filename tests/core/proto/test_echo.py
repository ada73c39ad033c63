"""Echo flows."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sansnet_core.addresses import format, parse
from sansnet_core.config import Limits, NetworkConfig
from sansnet_core.errors import Malformed, Reason
from sansnet_core.notices import FlowClosed, FlowOpened
from sansnet_core.orders import CloseSocket, Endpoint, ExtendedError, OpenEcho, SendEcho, SocketId
from sansnet_core.proto.echo import Echo
from sansnet_core.testing.packets import Ip, echo_request, icmp
from sansnet_core.wire import icmp4, icmp6
from tests.core.proto.bare import GATEWAY4, GATEWAY6, GUEST4, GUEST6, REMOTE4, REMOTE6, Bare, config, header

NOT_PERMITTED = ExtendedError(13, 1, 0, 0, 0, None)
UNREACHABLE = ExtendedError(113, 2, 3, 1, 0, REMOTE4)
LINK_LOCAL_GATEWAY4 = parse("169.254.2.2")
DNS4, DNS6 = parse("10.0.2.3"), parse("fd00::3")


class Bench(Bare):
    """An echo translator on a context."""

    def __init__(self, configuration: NetworkConfig | None = None) -> None:
        super().__init__(configuration or config())
        self.echo = Echo(self.context, self.icmp_errors)

    def receive(self, packet: Ip) -> None:
        ip, buf = header(packet)
        if packet.version == 4:
            self.echo.receive4(ip, icmp4.parse(buf, ip, True), buf)
        else:
            self.echo.receive6(ip, icmp6.parse(buf, ip, True), buf)

    def answer(self, socket: SocketId, source: bytes, sequence: int = 1, data: bytes = b"data") -> None:
        self.echo.echo_received(socket, source, sequence, data, 57, 0x28)


def ping(destination: bytes, *, identifier: int = 0x1234, sequence: int = 1, data: bytes = b"data") -> Ip:
    return echo_request(GUEST4 if len(destination) == 4 else GUEST6, destination, identifier, sequence, data)


def ends(destination: bytes, identifier: int = 0x1234) -> tuple[Endpoint, Endpoint]:
    """Both ends of a ping, as orders and notices have them."""
    return Endpoint(ping(destination).source, identifier), Endpoint(destination, identifier)


def pong(source: bytes, *, identifier: int = 0x1234, sequence: int = 1, data: bytes = b"data") -> tuple[bytes, ...]:
    """Source, destination and message of the expected reply to a ping."""
    kind, destination = (0, GUEST4) if len(source) == 4 else (129, GUEST6)
    body = struct.pack("!HH", identifier, sequence) + data
    packet = icmp(source, destination, kind, 0, body)
    return packet.source, packet.destination, packet.payload


def shape(packet: Ip) -> tuple[bytes, ...]:
    return packet.source, packet.destination, packet.payload


@pytest.mark.parametrize(("remote", "protocol"), [(REMOTE4, 1), (REMOTE6, 58)])
def test_the_first_request_opens_a_socket(remote: bytes, protocol: int) -> None:
    bench = Bench()
    bench.receive(replace(ping(remote), ttl=3, tos=0xB9))
    socket = SocketId(1)
    guest, target = ends(remote)
    assert bench.orders() == [
        OpenEcho(socket, remote, None, guest, target),
        SendEcho(socket, remote, 1, b"data", 3, 0xB9),
    ]
    assert bench.notices() == [FlowOpened(socket, protocol, guest, target, target, time=100.0)]
    assert bench.echo.statistics() == {"echo_flows": 1}


@pytest.mark.parametrize("remote", [REMOTE4, REMOTE6], ids=format)
def test_later_requests_use_the_same_socket(remote: bytes) -> None:
    bench = Bench()
    bench.receive(ping(remote))
    bench.orders()
    bench.receive(ping(remote, sequence=65535, data=b""))
    assert bench.orders() == [SendEcho(SocketId(1), remote, 65535, b"", 64, 0)]


def test_another_identifier_source_or_destination_is_another_flow() -> None:
    bench = Bench()
    bench.receive(ping(REMOTE4))
    bench.receive(ping(REMOTE4, identifier=0))
    bench.receive(ping(parse("192.0.2.8")))
    bench.receive(replace(ping(REMOTE4), source=parse("10.0.2.16")))
    assert bench.echo.statistics() == {"echo_flows": 4}


@pytest.mark.parametrize("remote", [REMOTE4, REMOTE6], ids=format)
def test_the_reply_carries_the_guests_identifier(remote: bytes) -> None:
    bench = Bench()
    bench.receive(ping(remote))
    bench.answer(SocketId(1), remote, 1, b"data")
    (packet,) = bench.packets()
    assert shape(packet) == pong(remote)
    assert (packet.ttl, packet.tos) == (57, 0x28)


def test_the_hosts_loopback_is_pinged_by_its_alias() -> None:
    bench = Bench(config(map_host_loopback=(GATEWAY4,), outbound4=parse("198.51.100.1")))
    bench.receive(ping(GATEWAY4))
    loopback = parse("127.0.0.1")
    assert bench.orders()[0] == OpenEcho(SocketId(1), loopback, None, *ends(GATEWAY4))
    bench.answer(SocketId(1), loopback)
    assert [shape(packet) for packet in bench.packets()] == [pong(GATEWAY4)]


def test_the_socket_is_bound_to_the_configured_source_address() -> None:
    bench = Bench(config(outbound6=parse("2001:db8:1::1")))
    bench.receive(ping(REMOTE6))
    assert bench.orders()[0] == OpenEcho(SocketId(1), REMOTE6, parse("2001:db8:1::1"), *ends(REMOTE6))


def test_a_reply_from_another_host_is_not_passed_on() -> None:
    bench = Bench()
    bench.receive(ping(REMOTE4))
    bench.answer(SocketId(1), parse("192.0.2.8"))
    assert bench.packets() == []
    assert bench.drops() == {Reason.HOST_SOURCE: 1}


@pytest.mark.parametrize(
    ("destination", "answers"),
    [
        (LINK_LOCAL_GATEWAY4, LINK_LOCAL_GATEWAY4),
        (GATEWAY6, GATEWAY6),
        (parse("ff02::1"), GATEWAY6),
        (parse("ff02::2"), GATEWAY6),
    ],
    ids=["gateway4", "gateway6", "all nodes", "all routers"],
)
def test_our_own_addresses_answer_at_once(destination: bytes, answers: bytes) -> None:
    bench = Bench(config(gateway4=LINK_LOCAL_GATEWAY4))
    bench.receive(replace(ping(destination), tos=0x10))
    assert bench.orders() == []
    (packet,) = bench.packets()
    assert shape(packet) == pong(answers)
    assert (packet.ttl, packet.tos) == (64, 0x10)


@pytest.mark.parametrize("gateway", [None, GATEWAY4])
def test_a_gateway_that_the_host_has_too_is_pinged_there(gateway: bytes | None) -> None:
    bench = Bench(config(gateway4=gateway, own_addresses=()))
    bench.receive(ping(GATEWAY4))
    assert bench.orders()[0] == OpenEcho(SocketId(1), GATEWAY4, None, *ends(GATEWAY4))


@pytest.mark.parametrize("address", [GATEWAY4, DNS4, DNS6], ids=format)
def test_an_address_of_the_guests_segment_answers_at_once(address: bytes) -> None:
    bench = Bench(config(dns_forward=((DNS4, Endpoint(REMOTE4, 53)), (DNS6, Endpoint(REMOTE6, 53)))))
    bench.receive(ping(address))
    assert bench.orders() == []
    assert [shape(packet) for packet in bench.packets()] == [pong(address)]


def test_ipv4_alone_answers_no_ipv6() -> None:
    both = config()
    bench = Bench(NetworkConfig(ipv4=both.ipv4))
    with pytest.raises(Malformed) as caught:
        bench.receive(ping(parse("ff02::1")))
    assert caught.value.reason is Reason.IP_DESTINATION


def test_ipv6_alone_answers_for_its_gateway() -> None:
    bench = Bench(NetworkConfig(ipv6=config().ipv6, guest_mac=config().guest_mac))
    bench.receive(ping(GATEWAY6))
    assert [shape(packet) for packet in bench.packets()] == [pong(GATEWAY6)]


@pytest.mark.parametrize(
    "destination",
    ["224.0.0.1", "255.255.255.255", "10.0.2.255", "ff02::fb", "ff05::2", "127.0.0.1", "::1", "::ffff:127.0.0.1"],
)
def test_groups_and_closed_destinations_are_not_pinged(destination: str) -> None:
    bench = Bench()
    with pytest.raises(Malformed) as caught:
        bench.receive(ping(parse(destination)))
    broadcast = destination in ("255.255.255.255", "10.0.2.255")
    assert caught.value.reason is (Reason.IP_BROADCAST if broadcast else Reason.IP_DESTINATION)
    assert bench.orders() == []
    assert bench.echo.statistics() == {"echo_flows": 0}


@pytest.mark.parametrize("remote", [REMOTE4, REMOTE6], ids=format)
@pytest.mark.parametrize(("kind", "code"), [(0, 0), (3, 3), (13, 0), (129, 0), (1, 0), (8, 1), (128, 1)])
def test_only_requests_are_translated(remote: bytes, kind: int, code: int) -> None:
    bench = Bench()
    with pytest.raises(Malformed) as caught:
        bench.receive(icmp(ping(remote).source, remote, kind, code, bytes(12)))
    assert caught.value.reason is Reason.ICMP_TYPE


@pytest.mark.parametrize("remote", [REMOTE4, REMOTE6], ids=format)
def test_a_request_without_a_source_is_dropped(remote: bytes) -> None:
    bench = Bench()
    with pytest.raises(Malformed) as caught:
        bench.receive(echo_request(bytes(len(remote)), remote, 1, 1, b""))
    assert caught.value.reason is Reason.IP_SOURCE


def test_without_icmp_nothing_is_answered() -> None:
    bench = Bench(config(icmp=False))
    with pytest.raises(Malformed) as caught:
        bench.receive(ping(GATEWAY6))
    assert caught.value.reason is Reason.PROTOCOL_CLOSED


@pytest.mark.parametrize("error", [NOT_PERMITTED, UNREACHABLE])
def test_an_error_is_counted_and_ends_nothing(error: ExtendedError) -> None:
    bench = Bench()
    bench.receive(ping(REMOTE4))
    bench.orders()
    bench.echo.echo_failed(SocketId(1), 1, error, b"data")
    assert bench.drops() == {Reason.HOST_SEND: 1}
    assert len(bench.packets()) == 1
    bench.receive(ping(REMOTE4, sequence=2))
    assert [type(order) for order in bench.orders()] == [SendEcho]


def test_facts_about_a_closed_socket_are_ignored() -> None:
    bench = Bench()
    bench.answer(SocketId(99), REMOTE4)
    bench.echo.echo_failed(SocketId(99), 1, UNREACHABLE, b"")
    assert bench.packets() == []
    assert bench.orders() == []
    assert bench.drops() == {}


def test_a_silent_flow_is_closed() -> None:
    bench = Bench()
    bench.receive(ping(REMOTE6))
    bench.answer(SocketId(1), REMOTE6)
    bench.orders()
    bench.notices()
    bench.wait(59)
    assert bench.orders() == []
    bench.wait(1)
    assert bench.orders() == [CloseSocket(SocketId(1))]
    guest, remote = ends(REMOTE6)
    assert bench.notices() == [FlowClosed(SocketId(1), 58, guest, remote, remote, False, 4, 4, 0, 160.0)]
    assert bench.context.timers.next_deadline() is None


def test_requests_keep_a_flow() -> None:
    bench = Bench()
    bench.receive(ping(REMOTE4))
    bench.receive(ping(REMOTE6))
    bench.wait(40)
    bench.receive(ping(REMOTE4, sequence=2))
    bench.orders()
    bench.wait(20)
    assert bench.orders() == [CloseSocket(SocketId(2))]
    bench.wait(40)
    assert bench.orders() == [CloseSocket(SocketId(1))]


def test_at_the_limit_the_flow_that_was_silent_longest_gives_way() -> None:
    bench = Bench(config(limits=Limits(echo_flows=2)))
    bench.receive(ping(REMOTE4, identifier=1))
    bench.receive(ping(REMOTE4, identifier=2))
    bench.receive(ping(REMOTE4, identifier=1))
    bench.orders()
    bench.receive(ping(REMOTE4, identifier=3))
    assert bench.orders()[0] == CloseSocket(SocketId(2))
    assert bench.echo.statistics() == {"echo_flows": 2}
    assert bench.drops() == {Reason.ECHO_LIMIT: 1}


def test_a_large_reply_comes_in_fragments() -> None:
    bench = Bench()
    bench.receive(ping(REMOTE4))
    bench.answer(SocketId(1), REMOTE4, 1, bytes(65500))
    packets = bench.packets()
    assert b"".join(packet.payload for packet in packets) == pong(REMOTE4, data=bytes(65500))[2]


@given(
    destination=st.binary(min_size=4, max_size=4) | st.binary(min_size=16, max_size=16),
    message=st.binary(max_size=32),
    kind=st.sampled_from([None, 8, 128]),
)
def test_no_message_makes_more_than_a_named_drop(destination: bytes, message: bytes, kind: int | None) -> None:
    bench = Bench()
    if kind is not None:
        message = bytes((kind, 0)) + message
    packet = Ip(ping(destination).source, destination, 1 if len(destination) == 4 else 58, message)
    ip, buf = header(packet)
    family, receive = (icmp4, bench.echo.receive4) if ip.version == 4 else (icmp6, bench.echo.receive6)
    try:
        receive(ip, family.parse(buf, ip, False), buf)
    except Malformed:
        assert bench.orders() == []
    else:
        assert len(bench.orders()) + len(bench.packets()) >= 1
