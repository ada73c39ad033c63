"""Frames of flows to the guest: checksums of every size, and runs of datagrams that fit the link."""

from __future__ import annotations

import struct
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sansnet_core import Endpoint, LinkConfig
from sansnet_core.egress import FlowHeaders
from sansnet_core.errors import UsageError
from sansnet_core.testing import SERVER, SERVER6, Pair, make_config
from sansnet_core.testing.packets import GSO_UDP_L4, NEEDS_CSUM, checksum, glue, pseudo_header, read_frame, read_ip, udp
from sansnet_core.wire.ip import TCP, UDP
from sansnet_core.wire.tcp import ACK, FIN, PSH
from tests.core.proto.bare import GUEST4, GUEST6, REMOTE4, REMOTE6, Bare, config

OFFLOAD = LinkConfig(
    mtu=65520, max_frame_size=65549, vnet_header=True, checksum_offload=True, tso4=True, tso6=True, uso=True
)
WITHOUT_TSO = [
    LinkConfig(mtu=1500),
    LinkConfig(mtu=1500, max_frame_size=1514, vnet_header=True),
    LinkConfig(mtu=1500, max_frame_size=1514, vnet_header=True, checksum_offload=True),
]
ENDS = {4: (REMOTE4, GUEST4), 6: (REMOTE6, GUEST6)}


class Bench(Bare):
    """The headers of one flow."""

    def __init__(self, family: int, protocol: int, link: LinkConfig) -> None:
        super().__init__(config(link=link))
        source, destination = ENDS[family]
        self.headers = FlowHeaders(self.context.egress, Endpoint(source, 5), Endpoint(destination, 6), protocol)

    def frames(self) -> list[bytes]:
        taken, self.context.out.frames = self.context.out.frames, []
        return [glue(frame) for frame in taken]


def _sum_of_zero(family: int, protocol: int, header: int) -> int:
    """Bytes of data for which the pseudo-header's sum is 0 modulo 65535."""
    source, destination = ENDS[family]
    words: tuple[int, ...] = struct.unpack("!16H" if family == 6 else "!4H", source + destination)
    return -(sum(words) + protocol + header) % 65535


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize(("protocol", "header", "place"), [(UDP, 8, 6), (TCP, 20, 16)], ids=["UDP", "TCP"])
def test_a_partial_checksum_is_never_zero(family: int, protocol: int, header: int, place: int) -> None:
    """Linux takes 0 for a missing checksum, and drops such datagrams of IPv6."""
    critical = _sum_of_zero(family, protocol, header)
    bench = Bench(family, protocol, OFFLOAD)
    offset = 12 + (34 if family == 4 else 54) + place
    assert 1 < critical < 65000
    for size in (critical - 1, critical, critical + 1):
        if protocol == UDP:
            bench.headers.udp(bytes(size), 0, 64, 0)
            bench.headers.udp(bytes(size), 1000, 64, 0)
        else:
            bench.headers.tcp(1, 2, 16, 3, b"", bytes(size), 0)
            bench.headers.tcp(1, 2, 16, 3, b"", bytes(size), 1000)
        for frame in bench.frames():
            assert frame[0] == NEEDS_CSUM
            field = int.from_bytes(frame[offset : offset + 2], "big")
            assert field == ((size - critical) % 65535 or 65535)
            read_ip(read_frame(frame, vnet=True))


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("mtu", [1500, 65520])
@pytest.mark.parametrize("size", [2, 1000, 3000])
def test_a_whole_udp_checksum_is_never_zero(family: int, mtu: int, size: int) -> None:
    """Neither in one piece nor in fragments (RFC 768; RFC 8200, 8.1)."""
    bench = Bench(family, UDP, LinkConfig(mtu=mtu, max_frame_size=65535))
    source, destination = ENDS[family]
    datagram = struct.pack("!4H", 5, 6, 8 + size, 0) + bytes(size)
    left = checksum(pseudo_header(source, destination, UDP, 8 + size) + datagram)
    bench.headers.udp(struct.pack("!H", left) + bytes(size - 2), 0, 64, 0)
    frame = bench.frames()[0]
    start = (34 if family == 4 else 54) + (8 if family == 6 and 8 + size > mtu - 40 else 0)

    assert frame[start : start + 4] == struct.pack("!2H", 5, 6)
    assert frame[start + 6 : start + 8] == b"\xff\xff"


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("largest", [1514, 1515, 3000, 4096, 9014, 20_000, 65535, 65549])
@pytest.mark.parametrize("segment", [1, 7, 500, 1452, 1472])
def test_runs_of_datagrams_fit_into_the_links_largest_frame(family: int, largest: int, segment: int) -> None:
    link = LinkConfig(mtu=1500, max_frame_size=largest, vnet_header=True, checksum_offload=True, uso=True)
    bench = Bench(family, UDP, link)
    data = bytes(range(256)) * 150
    bench.headers.udp(data, segment, 64, 0)
    frames = bench.frames()
    if segment + (28 if family == 4 else 48) <= 1500:
        assert max(map(len, frames)) <= 12 + largest
        # There are no more frames than necessary: two in sequence do not fit into one
        assert all(len(one) + segment > 12 + largest for one, _ in pairwise(frames)) or len(frames) == 1
    read = [read_frame(frame, vnet=True) for frame in frames]
    assert all(one.gso_size in (0, segment) for one in read)
    assert {frame[1] for frame in frames} <= {0, GSO_UDP_L4}
    if segment + (28 if family == 4 else 48) <= 1500:
        assert b"".join(read_ip(one).payload[8:] for one in read) == data


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("largest", [1514, 2000, 5000, 65549])
def test_datagrams_that_come_one_by_one_are_joined_up_to_the_largest_frame(family: int, largest: int) -> None:
    link = LinkConfig(mtu=1500, max_frame_size=largest, vnet_header=True, checksum_offload=True, uso=True)
    pair = Pair(make_config(link))
    guest, server = (pair.guest.ipv4, SERVER) if family == 4 else (pair.guest.ipv6, SERVER6)
    pair.guest.send(udp(guest, 1000, server, 2000, b"question"))
    pair.settle()
    (order,) = pair.host.datagrams
    for number in range(60):
        pair.host.datagram(order.socket, Endpoint(server, 2000), bytes([number]) * 500, pair.now)
    pair.settle()
    frames = [frame for _, frame in pair.sent]
    per_frame = (min(largest - 14, 65535) - (28 if family == 4 else 48)) // 500

    assert max(map(len, frames)) <= 12 + largest
    assert len(frames) == -(-60 // per_frame)
    assert b"".join(read_ip(read_frame(frame, vnet=True)).payload[8:] for frame in frames) == b"".join(
        bytes([number]) * 500 for number in range(60)
    )


def test_the_cache_of_headers_is_bounded() -> None:
    """The guest chooses segment sizes, by the MSS that it offers."""
    bench = Bench(4, TCP, OFFLOAD)
    for size in range(1000, 1200):
        bench.headers.tcp(1, 2, 16, 3, b"", bytes(3000), size)
    assert [read_frame(frame, vnet=True).gso_size for frame in bench.frames()] == list(range(1000, 1200))
    assert len(bench.context.egress._prefixes) <= 64


@pytest.mark.parametrize(("family", "most"), [(4, 65507), (6, 65527)])
def test_what_no_packet_can_carry_is_a_mistake(family: int, most: int) -> None:
    bench = Bench(family, UDP, LinkConfig(mtu=1500, max_frame_size=1514))
    assert bench.headers.holds(bytes(most), 0)
    bench.headers.udp(bytes(most), 0, 64, 0)
    assert len(bench.frames()) > 40
    assert not bench.headers.holds(bytes(most + 1), 0)
    with pytest.raises(UsageError, match="cannot carry"):
        bench.headers.udp(bytes(most + 1), 0, 64, 0)
    assert bench.frames() == []


@given(
    family=st.sampled_from([4, 6]),
    link=st.sampled_from(WITHOUT_TSO),
    flags=st.sampled_from([ACK, ACK | PSH, ACK | PSH | FIN, ACK | FIN]),
    numbers=st.tuples(*[st.integers(0, 0xFFFFFFFF)] * 2, st.integers(0, 65535)),
    size=st.integers(88, 1440),
    data=st.binary(min_size=1, max_size=2000).map(lambda some: some * 4),
)
def test_segments_of_one_call_are_those_of_one_call_each(
    family: int, link: LinkConfig, flags: int, numbers: tuple[int, int, int], size: int, data: bytes
) -> None:
    """Without the link's help, data of several segments makes the same frames; PSH and FIN are on the last."""
    sequence, acknowledgment, window = numbers
    together, alone = Bench(family, TCP, link), Bench(family, TCP, link)
    together.headers.tcp(sequence, acknowledgment, flags, window, b"", data, size if size < len(data) else 0)
    for start in range(0, len(data), size):
        part, last = data[start : start + size], start + size >= len(data)
        own = flags if last else flags & ~(PSH | FIN)
        alone.headers.tcp((sequence + start) & 0xFFFFFFFF, acknowledgment, own, window, b"", part, 0)
    frames = together.frames()
    assert frames == alone.frames()
    for frame in frames:
        read_ip(read_frame(frame, vnet=link.vnet_header))
