"""ICMP errors to the guest, about failures of host sockets and of the network behind them, and closed destinations."""

from __future__ import annotations

import dataclasses
import errno
import struct
from collections.abc import Iterator

import pytest

from sansnet_core import ExtendedError, Limits, OpenEcho, OpenStream, Reason, SendEcho
from sansnet_core.records import replace
from sansnet_core.testing import (
    GATEWAY,
    GATEWAY6,
    SERVER,
    SERVER6,
    ErrorMessage,
    GuestStack,
    HostScript,
    ManualConnection,
    Pair,
    make_config,
    read_error,
)
from sansnet_core.testing.packets import ACK, RST, SYN, Ip, Segment, echo_request, fragments, read_ip, udp

GUEST, GUEST6 = GuestStack().ipv4, GuestStack().ipv6
ROUTER, ROUTER6 = bytes((198, 51, 100, 1)), bytes.fromhex("20010db8000500000000000000000001")
SCTP = 132
BOTH = pytest.mark.parametrize("family", [4, 6])


def heard(pair: Pair) -> list[ErrorMessage]:
    """The errors that the guest received since the last call."""
    frames, pair.guest.others = pair.guest.others, []
    return [read_error(read_ip(frame)) for frame in frames]


def told(pair: Pair, packet: Ip) -> list[ErrorMessage]:
    """The errors that a packet causes at once."""
    pair.guest.send(packet)
    pair.settle()
    return heard(pair)


def ends(family: int) -> tuple[bytes, bytes]:
    return (GUEST, SERVER) if family == 4 else (GUEST6, SERVER6)


def unreachable(family: int) -> ExtendedError:
    """A router reports that there is no route to the host."""
    if family == 4:
        return ExtendedError(errno.EHOSTUNREACH, 2, 3, 1, 0, ROUTER)
    return ExtendedError(errno.EHOSTUNREACH, 3, 1, 3, 0, ROUTER6)


def syn(family: int, sequence: int = 0x12345678) -> Ip:
    guest, server = ends(family)
    return Segment(guest, 40000, server, 80, sequence=sequence, flags=SYN).ip()


# TCP


@BOTH
def test_a_connect_that_fails_outside_is_quoted_so_that_the_guest_finds_it(family: int) -> None:
    pair = Pair(script=HostScript(connect=None))
    assert told(pair, syn(family)) == []
    error = unreachable(family)
    pair.host.fail(pair.host.stream, errno.EHOSTUNREACH, pair.now, error)
    pair.settle()
    [message] = heard(pair)
    assert message.kind == (error.type, error.code, 0)
    assert message.sender == error.offender
    assert (message.quoted.source, message.quoted.destination) == ends(family)
    assert struct.unpack_from("!HHI", message.quoted.payload) == (40000, 80, 0x12345678)
    assert pair.tcp_flows == 0
    assert pair.guest.strays == []


@BOTH
@pytest.mark.parametrize("code", [errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EACCES, errno.EPERM, errno.EINVAL])
def test_what_the_hosts_own_kernel_refuses_is_told_by_the_gateway(family: int, code: int) -> None:
    pair = Pair(script=HostScript(connect=None))
    told(pair, syn(family))
    pair.host.fail(pair.host.stream, code, pair.now)
    pair.settle()
    [message] = heard(pair)
    assert message.sender == (GATEWAY if family == 4 else GATEWAY6)


def test_an_extended_error_of_another_failure_does_not_count() -> None:
    pair = Pair(script=HostScript(connect=None))
    told(pair, syn(4))
    pair.host.fail(pair.host.stream, errno.ENETUNREACH, pair.now, unreachable(4))
    pair.settle()
    assert [message.kind for message in heard(pair)] == [(3, 0, 0)]


@pytest.mark.parametrize("code", [errno.ETIMEDOUT, errno.EMFILE, errno.ENOBUFS])
def test_after_silence_the_guest_tries_again(code: int) -> None:
    pair = Pair(script=HostScript(connect=None))
    told(pair, syn(4))
    pair.host.fail(pair.host.stream, code, pair.now)
    pair.settle()
    assert heard(pair) == []
    assert pair.guest.strays == []
    told(pair, syn(4))
    assert len([order for order in pair.host.orders if isinstance(order, OpenStream)]) == 2


@pytest.mark.parametrize("code", [errno.ECONNRESET, errno.ETIMEDOUT, errno.EHOSTUNREACH])
def test_a_connection_that_breaks_is_reset(code: int) -> None:
    pair = Pair()
    peer = ManualConnection(pair)
    peer.open()
    pair.host.fail(pair.host.stream, code, pair.now, unreachable(4))
    pair.settle()
    [segment] = peer.take()
    assert segment.flags & RST
    assert heard(pair) == []


# UDP


@BOTH
def test_a_datagram_that_fails_is_quoted_with_its_own_addresses(family: int) -> None:
    pair = Pair(replace(make_config(), map_host_loopback=(GATEWAY, GATEWAY6)))
    guest, server = ends(family)
    alias = GATEWAY if family == 4 else GATEWAY6
    for destination in (server, alias):
        packet = udp(guest, 4000, destination, 53, b"question")
        assert told(pair, packet) == []
        order = pair.host.datagrams[-1]
        kind = (2, 3, 3) if family == 4 else (3, 1, 4)
        refused = ExtendedError(errno.ECONNREFUSED, *kind, 0, order.remote.address)
        pair.network.datagram_failed(order.socket, order.remote, refused, b"question", pair.now)
        pair.settle()
        [message] = heard(pair)
        assert message.kind == (*kind[1:], 0)
        assert message.sender == destination
        assert (message.quoted.source, message.quoted.destination) == (guest, destination)
        assert message.quoted.payload == packet.payload
    assert pair.network.statistics().flows["udp_flows"] == 2


@BOTH
def test_whether_a_packet_may_be_fragmented_is_carried(family: int) -> None:
    pair = Pair()
    guest, server = ends(family)
    whole = udp(guest, 4000, server, 53, bytes(1000))
    told(pair, whole)
    told(pair, dataclasses.replace(whole, fragment=0))
    for part in fragments(whole, 400):
        pair.guest.send(part)
    pair.settle()
    assert [order.may_fragment for order in pair.host.datagrams] == [False, family == 4, True]
    ping = echo_request(guest, server, 1, 1, bytes(1000))
    told(pair, ping)
    for part in fragments(ping, 400):
        pair.guest.send(part)
    pair.settle()
    assert [order.may_fragment for order in pair.host.echoes] == [False, True]


# Ping


@BOTH
def test_a_ping_that_fails_is_quoted_with_its_number(family: int) -> None:
    pair = Pair()
    guest, server = ends(family)
    request = echo_request(guest, server, 77, 5, b"payload")
    told(pair, request)
    [order] = pair.host.echoes
    pair.network.echo_failed(order.socket, 5, unreachable(family), b"payload", pair.now)
    pair.settle()
    [message] = heard(pair)
    assert message.sender == (ROUTER if family == 4 else ROUTER6)
    assert message.quoted.payload == request.payload


def test_a_ping_without_permission_is_prohibited_each_time() -> None:
    pair = Pair()
    for sequence in (1, 2):
        told(pair, echo_request(GUEST, SERVER, 77, sequence, b""))
        denied = ExtendedError(errno.EACCES, 1, 0, 0, 0, None)
        order = pair.host.orders[-1]
        assert isinstance(order, SendEcho)
        pair.network.echo_failed(order.socket, sequence, denied, b"", pair.now)
        pair.settle()
        assert [message.kind for message in heard(pair)] == [(3, 13, 0)]
    assert len([order for order in pair.host.orders if isinstance(order, OpenEcho)]) == 1


# The configuration


def packets_of_all_protocols(family: int) -> Iterator[tuple[str, Ip]]:
    guest, server = ends(family)
    yield "tcp", syn(family)
    yield "udp", udp(guest, 4000, server, 53, b"x")
    yield "icmp", echo_request(guest, server, 1, 1, b"x")


@BOTH
@pytest.mark.parametrize("off", ["tcp", "udp", "icmp"])
def test_a_protocol_that_is_off_is_prohibited(family: int, off: str) -> None:
    base = make_config()
    config = {"tcp": replace(base, tcp=False), "udp": replace(base, udp=False), "icmp": replace(base, icmp=False)}[off]
    pair = Pair(config, HostScript(connect=None))
    for name, packet in packets_of_all_protocols(family):
        messages = told(pair, packet)
        if name == off:
            assert [message.kind for message in messages] == [(3, 13, 0) if family == 4 else (1, 1, 0)]
            assert messages[0].quoted == packet
        else:
            assert messages == []
    assert pair.network.statistics().drops == {Reason.PROTOCOL_CLOSED: 1}


@pytest.mark.parametrize(
    ("destination", "resets"), [(bytes((127, 0, 0, 1)), 0), (bytes((240, 0, 0, 1)), 1), (bytes((0, 1, 2, 3)), 0)]
)
def test_a_closed_address_is_prohibited_for_tcp_as_well(destination: bytes, resets: int) -> None:
    """No packet may come from loopback, or from 0.0.0.0/8 (RFC 1122, 3.2.1.3)."""
    pair = Pair()
    [message] = told(pair, Segment(GUEST, 40000, destination, 80, flags=SYN).ip())
    assert message.kind == (3, 13, 0)
    assert pair.guest.strays == []
    assert told(pair, Segment(GUEST, 40000, destination, 80, flags=ACK).ip()) == []
    assert len(pair.guest.strays) == resets


@BOTH
def test_an_unknown_protocol_is_told(family: int) -> None:
    pair = Pair()
    guest, server = ends(family)
    [message] = told(pair, Ip(guest, server, SCTP, bytes(16)))
    assert message.kind == ((3, 2, 0) if family == 4 else (4, 1, 6))


@BOTH
def test_a_packet_without_hops_left_goes_no_further(family: int) -> None:
    pair = Pair()
    guest, server = ends(family)
    for packet in (udp(guest, 4000, server, 53, b"x"), echo_request(guest, server, 1, 1, b"x")):
        [message] = told(pair, dataclasses.replace(packet, ttl=0))
        assert message.kind == ((11, 0, 0) if family == 4 else (3, 0, 0))
    assert pair.host.datagrams == []
    assert pair.host.echoes == []


# Fragments


@BOTH
def test_a_datagram_whose_fragments_get_lost_is_told_if_its_first_one_is_there(family: int) -> None:
    pair = Pair(make_config(limits=Limits(reassembly_time=5)))
    guest, server = ends(family)
    first, _ = fragments(udp(guest, 4000, server, 53, bytes(2000)), 1400, identification=1)
    pair.guest.send(first)
    _, other = fragments(udp(guest, 4001, server, 53, bytes(2000)), 1400, identification=2)
    pair.guest.send(other)
    pair.settle()
    pair.wait(6)
    [message] = heard(pair)
    assert message.kind == ((11, 1, 0) if family == 4 else (3, 1, 0))
    assert message.ports == (4000, 53)
    assert pair.network.statistics().drops == {Reason.FRAGMENT_TIMEOUT: 2}


@BOTH
def test_fragments_of_what_is_closed_are_answered_once_whole(family: int) -> None:
    pair = Pair(replace(make_config(), udp=False))
    guest, server = ends(family)
    first, second = fragments(udp(guest, 4000, server, 53, bytes(2000)), 1400)
    assert told(pair, second) == []
    [message] = told(pair, first)
    assert message.kind == ((3, 13, 0) if family == 4 else (1, 1, 0))
    assert message.ports == (4000, 53)
