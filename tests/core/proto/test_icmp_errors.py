from __future__ import annotations

import errno
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sansnet_core.addresses import Endpoint, parse
from sansnet_core.config import Limits, LinkConfig, NetworkConfig
from sansnet_core.errors import Reason
from sansnet_core.orders import ExtendedError
from sansnet_core.proto.icmp_errors import IcmpError, IcmpErrors, for_extended_error
from sansnet_core.testing import ErrorMessage, packets, read_error
from sansnet_core.testing.packets import Ip, echo_request, icmp, udp
from tests.core.proto.bare import GATEWAY4, GATEWAY6, GUEST4, GUEST6, REMOTE4, REMOTE6, Bare, config, header

LOCAL, FROM_ICMP, FROM_ICMPV6 = 1, 2, 3
ROUTER4, ROUTER6 = parse("198.51.100.1"), parse("2001:db8:5::1")
LOOPBACK4, LOOPBACK6 = parse("127.0.0.1"), parse("::1")
SCTP = 132
WORD = st.integers(0, 0xFFFFFFFF)
BYTE = st.integers(0, 255)
OFFENDERS = st.one_of(st.none(), st.binary(min_size=4, max_size=4), st.binary(min_size=16, max_size=16))
EXTENDED = st.builds(
    ExtendedError, st.one_of(st.sampled_from(sorted(errno.errorcode)), WORD), BYTE, BYTE, BYTE, WORD, OFFENDERS
)
"""An `ExtendedError` with all fields."""


def local(number: int, info: int = 0) -> ExtendedError:
    return ExtendedError(number, LOCAL, 0, 0, info, None)


class Bench(Bare):
    """Errors about datagrams of the guest."""

    def __init__(self, configuration: NetworkConfig | None = None) -> None:
        super().__init__(configuration or config())
        self.errors = IcmpErrors(self.context)

    def fail(
        self, error: ExtendedError, remote: bytes = REMOTE4, *, host: bytes | None = None, data: bytes = b"question"
    ) -> list[ErrorMessage]:
        guest = GUEST4 if len(remote) == 4 else GUEST6
        packet = udp(guest, 4000, remote, 53, data)
        self.errors.host_failed(error, host or remote, guest, remote, packet.protocol, packet.payload)
        return self.taken()

    def refuse(self, reason: Reason, packet: Ip) -> list[ErrorMessage]:
        self.errors.refuse(reason, *header(packet))
        return self.taken()

    def taken(self) -> list[ErrorMessage]:
        return [read_error(packet) for packet in self.packets()]


@given(EXTENDED, st.sampled_from([4, 6]))
def test_any_extended_error_is_an_error_message_or_nothing(error: ExtendedError, version: int) -> None:
    found = for_extended_error(error, version)
    if found is None:
        assert error.origin > FROM_ICMPV6 or error.errno in (
            errno.EAGAIN,
            errno.EMFILE,
            errno.ENFILE,
            errno.ENOBUFS,
            errno.ENOMEM,
            errno.ENOSPC,
            errno.ETIMEDOUT,
        )
        return
    assert found.type in ((3, 11, 12) if version == 4 else (1, 2, 3, 4))
    assert 0 <= found.code <= 255
    assert 0 <= found.rest <= 0xFFFFFFFF
    if version == 6 and found.type == 2:
        assert found.rest >= 1280


@given(
    EXTENDED,
    st.sampled_from([REMOTE4, REMOTE6]),
    st.one_of(st.binary(max_size=40), st.integers(0, 65507).map(bytes)),
    st.booleans(),
    st.sampled_from([1280, 65520]),
)
def test_any_extended_error_makes_a_packet_that_a_guest_understands(
    error: ExtendedError, remote: bytes, data: bytes, vnet: bool, mtu: int
) -> None:
    bench = Bench(config(link=LinkConfig(mtu=mtu, max_frame_size=mtu + 14, vnet_header=vnet)))
    expected = for_extended_error(error, 4 if len(remote) == 4 else 6)
    messages = bench.fail(error, remote, data=data)
    assert [message.kind for message in messages] == ([expected] if expected else [])
    for message in messages:
        assert message.quoted.destination == remote
        assert message.ports == (4000, 53)
        whole = udp(message.receiver, 4000, remote, 53, data).payload
        assert message.quoted.payload == whole[: len(whole) - message.missing]
        assert message.sender not in (bench.context.guest.ipv4, bench.context.guest.ipv6)


@pytest.mark.parametrize(
    ("version", "error", "expected"),
    [
        (4, ExtendedError(errno.ECONNREFUSED, FROM_ICMP, 3, 3, 7, REMOTE4), (3, 3, 0)),
        (4, ExtendedError(errno.EMSGSIZE, FROM_ICMP, 3, 4, 1300, REMOTE4), (3, 4, 1300)),
        (4, ExtendedError(errno.EMSGSIZE, FROM_ICMP, 3, 4, 70_000, REMOTE4), (3, 4, 65535)),
        (4, ExtendedError(errno.EHOSTUNREACH, FROM_ICMP, 11, 0, 0, REMOTE4), (11, 0, 0)),
        (4, ExtendedError(errno.EPROTO, FROM_ICMP, 12, 0, 20, REMOTE4), (12, 0, 20 << 24)),
        (4, ExtendedError(errno.EHOSTUNREACH, FROM_ICMP, 4, 0, 0, REMOTE4), (3, 1, 0)),
        (4, ExtendedError(errno.EACCES, FROM_ICMPV6, 1, 1, 0, REMOTE6), (3, 13, 0)),
        (6, ExtendedError(errno.EACCES, FROM_ICMPV6, 1, 5, 0, REMOTE6), (1, 5, 0)),
        (6, ExtendedError(errno.EMSGSIZE, FROM_ICMPV6, 2, 0, 1400, REMOTE6), (2, 0, 1400)),
        (6, ExtendedError(errno.EMSGSIZE, FROM_ICMPV6, 2, 0, 1000, REMOTE6), (2, 0, 1280)),
        (6, ExtendedError(errno.EPROTO, FROM_ICMPV6, 4, 1, 40, REMOTE6), (4, 1, 40)),
        (6, ExtendedError(errno.EHOSTUNREACH, FROM_ICMP, 3, 1, 0, REMOTE4), (1, 3, 0)),
        (4, local(errno.ENETUNREACH), (3, 6, 0)),
        (4, local(errno.ENETDOWN), (3, 6, 0)),
        (4, local(errno.EHOSTUNREACH), (3, 10, 0)),
        (4, ExtendedError(errno.ENETUNREACH, FROM_ICMP, 3, 0, 0, ROUTER4), (3, 0, 0)),
        (4, ExtendedError(errno.EHOSTUNREACH, FROM_ICMP, 3, 1, 0, ROUTER4), (3, 1, 0)),
        (4, local(errno.EHOSTDOWN), (3, 7, 0)),
        (4, local(errno.EACCES), (3, 13, 0)),
        (4, local(errno.EPERM), (3, 13, 0)),
        (4, local(errno.EMSGSIZE, 1500), (3, 4, 1500)),
        (4, local(errno.EINVAL), (3, 10, 0)),
        (6, local(errno.ENETUNREACH), (1, 0, 0)),
        (6, local(errno.EHOSTUNREACH), (1, 3, 0)),
        (6, local(errno.EACCES), (1, 1, 0)),
        (6, local(errno.EPERM), (1, 1, 0)),
        (6, local(errno.EMSGSIZE, 1500), (2, 0, 1500)),
        (6, local(errno.EINVAL), (1, 3, 0)),
        (4, local(errno.ETIMEDOUT), None),
        (6, local(errno.EMFILE), None),
        (4, local(errno.ENOSPC), None),
        (4, local(errno.ENOBUFS), None),  # a full queue
        (6, local(errno.ENOBUFS), None),
        (4, ExtendedError(0, 4, 0, 0, 0, None), None),  # a time stamp
    ],
)
def test_the_icmp_error_of_each_host_error(
    version: int, error: ExtendedError, expected: tuple[int, int, int] | None
) -> None:
    assert for_extended_error(error, version) == (IcmpError(*expected) if expected else None)


@pytest.mark.parametrize("protocol", [packets.TCP, packets.ICMP])
@pytest.mark.parametrize(
    ("number", "code"), [(errno.ENETUNREACH, 0), (errno.EHOSTUNREACH, 1), (errno.EHOSTDOWN, 7), (errno.EACCES, 13)]
)
def test_tcp_and_ping_are_told_what_a_router_would_say(protocol: int, number: int, code: int) -> None:
    assert for_extended_error(local(number), 4, protocol) == IcmpError(3, code)


@pytest.mark.parametrize(
    ("offender", "sender"),
    [
        (ROUTER4, ROUTER4),
        (REMOTE4, REMOTE4),
        (GUEST4, GATEWAY4),  # the host has the guest's address, and reports the error itself
        (None, GATEWAY4),
        (ROUTER6, GATEWAY4),
        (parse("0.0.0.0"), GATEWAY4),
        (parse("224.0.0.1"), GATEWAY4),
        (LOOPBACK4, GATEWAY4),
    ],
)
def test_the_source_of_an_error(offender: bytes | None, sender: bytes) -> None:
    [message] = Bench().fail(ExtendedError(errno.EHOSTUNREACH, FROM_ICMP, 3, 1, 0, offender))
    assert message.sender == sender


@pytest.mark.parametrize(("offender", "sender"), [(ROUTER6, ROUTER6), (GUEST6, GATEWAY6), (None, GATEWAY6)])
def test_the_source_of_an_error_over_ipv6(offender: bytes | None, sender: bytes) -> None:
    [message] = Bench().fail(ExtendedError(errno.EHOSTUNREACH, FROM_ICMPV6, 1, 3, 0, offender), REMOTE6)
    assert message.sender == sender


def test_a_translated_destination_speaks_by_the_guests_name_for_it() -> None:
    alias, dns, resolver = parse("10.0.2.9"), parse("10.0.2.3"), parse("127.0.0.53")
    bench = Bench(config(map_host_loopback=(alias,), dns_forward=((dns, Endpoint(resolver, 53)),)))
    refused = ExtendedError(errno.ECONNREFUSED, FROM_ICMP, 3, 3, 0, LOOPBACK4)
    assert [message.sender for message in bench.fail(refused, alias, host=LOOPBACK4)] == [alias]
    refused = replace(refused, offender=resolver)
    assert [message.sender for message in bench.fail(refused, dns, host=resolver)] == [dns]
    assert [message.sender for message in bench.fail(refused, REMOTE4)] == [alias]


def test_without_a_gateway_the_destination_speaks_for_us() -> None:
    [message] = Bench(config(gateway4=None)).fail(local(errno.ENETUNREACH))
    assert message.sender == REMOTE4


def test_the_header_is_a_routers() -> None:
    bench = Bench()
    for remote, tos in ((REMOTE4, 0xC0), (REMOTE6, 0)):
        guest = GUEST4 if remote == REMOTE4 else GUEST6
        bench.errors.host_failed(local(errno.EACCES), remote, guest, remote, packets.TCP, bytes(20))
        [packet] = bench.packets()
        assert (packet.ttl, packet.tos) == (255, tos)


@pytest.mark.parametrize(
    ("packet", "expected"),
    [
        (udp(GUEST4, 1, LOOPBACK4, 2, b"x"), (3, 13, 0)),
        (udp(GUEST6, 1, LOOPBACK6, 2, b"x"), (1, 1, 0)),
        (echo_request(GUEST4, LOOPBACK4, 1, 1, b"x"), (3, 13, 0)),
        (echo_request(GUEST6, LOOPBACK6, 1, 1, b"x"), (1, 1, 0)),
        (replace(udp(GUEST4, 1, LOOPBACK4, 2, b"x"), options=bytes((7, 7, 4, 0, 0, 0, 0, 0))), (3, 13, 0)),
    ],
)
def test_a_closed_address_is_prohibited(packet: Ip, expected: tuple[int, int, int]) -> None:
    [message] = Bench().refuse(Reason.IP_DESTINATION, packet)
    assert message.kind == expected
    assert message.quoted == packet
    assert message.sender == (GATEWAY4 if packet.version == 4 else GATEWAY6)


@pytest.mark.parametrize(
    ("extensions", "protocol", "pointer"),
    [
        (b"", SCTP, 6),
        (bytes((SCTP, 0, 1, 4, 0, 0, 0, 0)), 60, 40),
        (bytes((60, 0, 1, 4, 0, 0, 0, 0)) + bytes((SCTP, 1, 1, 12)) + bytes(12), 0, 48),
        (bytes((60, 0, 0, 0, 0, 0, 0, 9)) + bytes((SCTP, 0, 1, 4, 0, 0, 0, 0)), 44, 48),
        (bytes((60, 5, 0, 0, 0, 0, 0, 9)) + bytes((SCTP, 0, 1, 4, 0, 0, 0, 0)), 44, 48),
    ],
    ids=[
        "none",
        "destination options",
        "hop-by-hop and destination options",
        "fragment header of a whole packet",
        "fragment header of a whole packet, reserved bits set",
    ],
)
def test_an_unknown_next_header_is_pointed_at(extensions: bytes, protocol: int, pointer: int) -> None:
    packet = Ip(GUEST6, REMOTE6, protocol, extensions + bytes(12))
    [message] = Bench().refuse(Reason.IP_PROTOCOL, packet)
    assert message.kind == (4, 1, pointer)
    assert packet.emit()[pointer] == SCTP
    assert message.quoted == packet


def test_an_unknown_protocol_is_unreachable() -> None:
    [message] = Bench().refuse(Reason.IP_PROTOCOL, Ip(GUEST4, REMOTE4, SCTP, bytes(2000)))
    assert message.kind == (3, 2, 0)
    assert message.missing == 2000 - 548 + 20


@pytest.mark.parametrize(
    ("reason", "packet"),
    [
        (Reason.IP_DESTINATION, udp(GUEST4, 1, parse("224.0.0.251"), 2, b"x")),
        (Reason.IP_DESTINATION, udp(GUEST4, 1, b"\xff" * 4, 2, b"x")),
        (Reason.IP_DESTINATION, udp(GUEST4, 1, parse("10.0.2.255"), 2, b"x")),
        (Reason.IP_DESTINATION, udp(GUEST6, 1, parse("ff02::1"), 2, b"x")),
        (Reason.IP_DESTINATION, udp(GUEST6, 1, parse("ff01::1"), 2, b"x")),
        (Reason.IP_DESTINATION, udp(bytes(4), 1, LOOPBACK4, 2, b"x")),
        (Reason.IP_DESTINATION, udp(parse("10.0.2.255"), 1, LOOPBACK4, 2, b"x")),
        (Reason.IP_DESTINATION, udp(bytes(16), 1, LOOPBACK6, 2, b"x")),
        (Reason.IP_DESTINATION, icmp(GUEST4, LOOPBACK4, 3, 3, bytes(40))),
        (Reason.IP_DESTINATION, icmp(GUEST4, LOOPBACK4, 11, 0, bytes(40))),
        (Reason.IP_DESTINATION, icmp(GUEST4, LOOPBACK4, 5, 0, bytes(40))),
        (Reason.IP_DESTINATION, icmp(GUEST6, LOOPBACK6, 1, 4, bytes(60))),
        (Reason.IP_DESTINATION, icmp(GUEST6, LOOPBACK6, 137, 0, bytes(60))),
        (Reason.IP_DESTINATION, Ip(GUEST4, LOOPBACK4, packets.ICMP, b"")),
        (Reason.IP_PROTOCOL, Ip(GUEST6, REMOTE6, 59, b"")),
        (Reason.UDP_MALFORMED, udp(GUEST4, 1, REMOTE4, 2, b"x")),
        (Reason.TCP_LIMIT, udp(GUEST4, 1, REMOTE4, 2, b"x")),
    ],
)
def test_packets_that_never_get_an_error(reason: Reason, packet: Ip) -> None:
    assert Bench().refuse(reason, packet) == []


def test_a_frame_to_many_is_never_answered() -> None:
    ip, buf = header(udp(GUEST4, 1, LOOPBACK4, 2, b"x"))
    bench = Bench()
    bench.errors.refuse(Reason.IP_DESTINATION, ip, b"\xff" * 6 + buf[6:])
    assert bench.taken() == []


def test_an_error_about_a_group_is_kept_back() -> None:
    assert Bench().fail(local(errno.ENETUNREACH), parse("239.255.255.250")) == []
    assert Bench().fail(local(errno.ENETUNREACH), parse("ff05::c")) == []


def test_the_rate_is_bounded() -> None:
    bench = Bench(config(limits=Limits(icmp_error_rate=10, icmp_error_burst=5)))
    assert sum(len(bench.fail(local(errno.ENETUNREACH))) for _ in range(20)) == 5
    assert bench.drops() == {Reason.ICMP_LIMIT: 15}
    bench.wait(0.25)
    assert sum(len(bench.fail(local(errno.ENETUNREACH))) for _ in range(20)) == 2
    bench.wait(60)
    assert sum(len(bench.refuse(Reason.IP_DESTINATION, udp(GUEST4, 1, LOOPBACK4, 2, b""))) for _ in range(20)) == 5


def test_the_default_rate_lets_a_scan_of_ports_through() -> None:
    bench = Bench()
    refused = ExtendedError(errno.ECONNREFUSED, FROM_ICMP, 3, 3, 0, REMOTE4)
    for _ in range(100):
        assert sum(len(bench.fail(refused)) for _ in range(20)) == 20
        bench.wait(0.02)
