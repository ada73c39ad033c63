from __future__ import annotations

import pytest
from hypothesis import given

from sansnet_core.summary import summary
from sansnet_core.wire import ipv4, ipv6, tcp, udp
from sansnet_core.wire.ethernet import ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6
from sansnet_core.wire.ip import ICMP, ICMPV6, TCP, UDP
from tests.core.vectors import A4, A6, ANY_FRAME, B4, B6, LINUX

MACS = bytes.fromhex("9a559a559a55020000000001")


def frame4(protocol: int, payload: bytes, fragment: int = 0) -> bytes:
    return MACS + ETHERTYPE_IPV4 + ipv4.emit_header(A4, B4, protocol, len(payload), 64, 0, 7, fragment) + payload


def frame6(protocol: int, payload: bytes) -> bytes:
    return MACS + ETHERTYPE_IPV6 + ipv6.emit_header(A6, B6, protocol, len(payload), 64, 0) + payload


def test_frames_of_linux() -> None:
    lines = [summary(frame) for frame in LINUX]
    for expected in (
        "ARP, who has 192.0.2.2, tell 192.0.2.1",
        "IP 192.0.2.1.43538 > 192.0.2.2.8080: Flags [S], seq 2732512103, win 64240, "
        "options [mss 1460,wscale 10,sackOK], length 0",
        "IP 192.0.2.1.43538 > 192.0.2.2.8080: Flags [.], ack 3055786448, win 63, length 0",
        "IP 192.0.2.1.43538 > 192.0.2.2.8080: Flags [P.], seq 2732512104:2732512113, ack 3055786448, win 63, length 9",
        "IP 192.0.2.1 > 192.0.2.2: protocol 17, length 1480, fragment of 26985 at 1480, more follow",
        "IP 192.0.2.1 > 192.0.2.2: protocol 17, length 120, fragment of 26985 at 2960",
        "IP 192.0.2.1.58689 > 192.0.2.2.9: UDP, length 6",
        "IP 192.0.2.2 > 192.0.2.1: ICMP destination unreachable, code 3, length 42",
        "IP 192.0.2.1 > 192.0.2.2: ICMP echo request, id 10477, seq 1, length 64",
        "IP6 2001:db8::2.8080 > 2001:db8::1.55394: Flags [F.], seq 440245174, ack 3703070946, win 63, length 0",
        "IP6 2001:db8::1 > 2001:db8::2: protocol 17, length 184, fragment of 3044988774 at 2896",
        "IP6 2001:db8::2 > 2001:db8::1: ICMP6, echo reply, id 10478, seq 1, length 64",
    ):
        assert expected in lines


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        (
            MACS + ETHERTYPE_IPV4 + b"\x45",
            "02:00:00:00:00:01 > 9a:55:9a:55:9a:55, ethertype 0x0800, length 15: "
            "IPv4 header truncated, or version, header length or total length wrong",
        ),
        (MACS + b"\x88\xcc", "02:00:00:00:00:01 > 9a:55:9a:55:9a:55, ethertype 0x88cc, length 14"),
        (MACS + ETHERTYPE_ARP, "ARP, ARP packet that is not IPv4 over Ethernet, or truncated, or from a group address"),
        (frame4(47, bytes(3)), "IP 192.0.2.1 > 192.0.2.2: protocol 47, length 3"),
        (frame4(UDP, bytes(3)), "IP 192.0.2.1 > 192.0.2.2: UDP, UDP header truncated or length wrong"),
        (frame4(TCP, bytes(3)), "IP 192.0.2.1 > 192.0.2.2: TCP, TCP header truncated or data offset wrong"),
        (
            frame4(ICMP, bytes(3)),
            "IP 192.0.2.1 > 192.0.2.2: ICMP, ICMP or ICMPv6 message truncated or with a wrong checksum",
        ),
        (
            frame6(ICMPV6, bytes(3)),
            "IP6 2001:db8::1 > 2001:db8::2: ICMP6, ICMP or ICMPv6 message truncated or with a wrong checksum",
        ),
        (frame6(ICMPV6, b"\xc8" + bytes(7)), "IP6 2001:db8::1 > 2001:db8::2: ICMP6, type 200, code 0, length 8"),
        (frame6(UDP, udp.emit(A6, B6, 5, 6, b"abc")), "IP6 2001:db8::1.5 > 2001:db8::2.6: UDP, length 3"),
        (frame4(UDP, b"\0\5\0\6\0\x0b\1\1abc"), "IP 192.0.2.1.5 > 192.0.2.2.6: UDP, length 3"),  # a wrong checksum
        (
            frame4(TCP, tcp.emit(A4, A4, 5, 6, 7, 8, tcp.SYN, 9)),  # a wrong checksum
            "IP 192.0.2.1.5 > 192.0.2.2.6: Flags [S], seq 7, win 9, length 0",
        ),
        (
            frame4(TCP, tcp.emit(A4, B4, 5, 6, 7, 8, 0, 9, tcp.sack_option([(1, 2), (3, 4)]))),
            "IP 192.0.2.1.5 > 192.0.2.2.6: Flags [none], win 9, options [sack {1:2} {3:4}], length 0",
        ),
    ],
)
def test_lines(frame: bytes, expected: str) -> None:
    assert summary(frame) == expected


@given(ANY_FRAME)
def test_any_bytes_make_one_line(frame: bytes) -> None:
    line = summary(frame)
    assert line.isprintable()
    assert line
