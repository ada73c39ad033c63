"""Frames that real network stacks sent, and variants of them."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from hypothesis import strategies as st

from sansnet_core.addresses import parse as address
from sansnet_core.pcap import read
from sansnet_core.wire import ipv4, ipv6
from sansnet_core.wire.ethernet import ETHERTYPE_IPV4, ETHERTYPE_IPV6
from sansnet_core.wire.ip import IpHeader

A4, B4 = address("192.0.2.1"), address("192.0.2.2")
A6, B6 = address("2001:db8::1"), address("2001:db8::2")
ENDS: Final = {4: (A4, B4), 6: (A6, B6)}
"""IP version -> the two hosts of the captures."""

LINUX: Final = [frame for _, frame in read((Path(__file__).parents[1] / "vectors" / "linux.pcap").read_bytes())]
"""See tests/vectors/PROVENANCE.md."""


def frames(ethertype: bytes) -> list[bytes]:
    """The frames of one EtherType."""
    return [frame for frame in LINUX if frame[12:14] == ethertype]


def packets(protocol: int) -> list[tuple[bytes, IpHeader]]:
    """The frames with a whole IP packet of one protocol, and the packet's header."""
    found = []
    for frame in frames(ETHERTYPE_IPV4):
        ip, _, field = ipv4.parse(frame, 14, len(frame))
        if not field & ipv4.FRAGMENTED:
            found.append((frame, ip))
    for frame in frames(ETHERTYPE_IPV6):
        ip, _, field = ipv6.parse(frame, 14, len(frame))
        if not field:
            found.append((frame, ip))
    return [(frame, ip) for frame, ip in found if ip.protocol == protocol]


def header(protocol: int, size: int, version: int = 4) -> IpHeader:
    """The IP header for a payload that fills its buffer."""
    return IpHeader(version, *ENDS[version], protocol, 64, 0, 0, 0, size)


@st.composite
def _bent(draw: st.DrawFn) -> bytes:
    """A real frame with some bytes changed, and truncated or extended."""
    frame = bytearray(draw(st.sampled_from(LINUX)))
    near_the_start = st.integers(0, 99).map(lambda index: index % len(frame))
    for index, value in draw(st.lists(st.tuples(near_the_start, st.integers(0, 255)), max_size=4)):
        frame[index] = value
    size = draw(st.one_of(st.just(len(frame)), st.integers(0, len(frame) + 8)))
    return bytes(frame[:size].ljust(size, b"\0"))


ANY_FRAME: Final = st.one_of(st.binary(max_size=120), _bent())
