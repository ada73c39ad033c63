"""The reader of packets and of ICMP errors, which is independent of the core."""

from __future__ import annotations

from dataclasses import replace
from errno import EACCES, ECONNREFUSED, EHOSTUNREACH, EMSGSIZE, ENETUNREACH, EPROTO

import pytest

from sansnet_core.testing import GATEWAY, GATEWAY6, SERVER, SERVER6, GuestStack
from sansnet_core.testing.icmp_errors import read_error
from sansnet_core.testing.packets import (
    ACK,
    IPV4,
    SYN,
    Ip,
    Segment,
    ethernet,
    icmp,
    read_frame,
    read_ip,
    read_segments,
    udp,
)

GUEST = GuestStack()


def read(ip: Ip) -> Ip:
    return read_ip(read_frame(ethernet(GUEST.mac, GUEST.gateway_mac, IPV4, ip.emit()).ljust(60, b"\0"), vnet=False))


def test_the_end_of_options_is_padding() -> None:
    syn = Segment(SERVER, 80, GUEST.ipv4, 4000, flags=SYN, raw_options=b"\x02\x04\x05\xb4\x00\x00\x00\x00")
    (found,) = read_segments(syn.ip())
    assert found.mss == 1460
    with pytest.raises(AssertionError, match="bytes behind the end of options"):
        read_segments(replace(syn, raw_options=b"\x00\x00\x02\x04").ip())


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (b"\x08\x0a" + bytes(10), "TCP option 8 that nobody asked for"),
        (b"\x02\x01\x00\x00", "option length"),
        (b"\x01\x01\x02\x04", "option length"),
        (b"\x03\x03\x07\x00", "an option of SYN segments in another one"),
    ],
)
def test_an_option_that_no_network_sends_is_noticed(options: bytes, why: str) -> None:
    with pytest.raises(AssertionError, match=why):
        read_segments(Segment(SERVER, 80, GUEST.ipv4, 4000, flags=ACK, raw_options=options).ip())


def test_a_protocol_that_is_not_known_has_no_checksum() -> None:
    packet = Ip(SERVER, GUEST.ipv4, 253, b"unread" * 10)
    assert read(packet).payload == packet.payload
    with pytest.raises(AssertionError, match="ICMP checksum"):
        read(replace(packet, protocol=1))


@pytest.mark.parametrize(
    ("version", "kind", "code", "expected"),
    [
        (4, 3, 0, ENETUNREACH),
        (4, 3, 1, EHOSTUNREACH),
        (4, 3, 3, ECONNREFUSED),
        (4, 3, 15, EHOSTUNREACH),
        (4, 3, 16, EPROTO),
        (4, 11, 0, EHOSTUNREACH),
        (4, 12, 0, EPROTO),
        (6, 1, 0, ENETUNREACH),
        (6, 1, 4, ECONNREFUSED),
        (6, 1, 6, EACCES),
        (6, 1, 7, EPROTO),
        (6, 2, 0, EMSGSIZE),
        (6, 3, 0, EHOSTUNREACH),
        (6, 4, 1, EPROTO),
    ],
)
def test_the_errno_of_an_icmp_error_is_that_of_linux(version: int, kind: int, code: int, expected: int) -> None:
    guest, remote, gateway = (GUEST.ipv4, SERVER, GATEWAY) if version == 4 else (GUEST.ipv6, SERVER6, GATEWAY6)
    failed = udp(guest, 4000, remote, 53, b"question")
    error = read_error(icmp(gateway, guest, kind, code, bytes(4) + failed.emit()))
    assert (error.errno, error.kind, error.ports, error.missing) == (expected, (kind, code, 0), (4000, 53), 0)
