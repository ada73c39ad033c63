"""The short cut for datagrams of known flows and the ordinary path agree: same orders, frames, counts and state."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sansnet_core import Endpoint, ExtendedError, Limits, LinkConfig, NameAsked, Network, Notice, OpenDatagram, Reason
from sansnet_core.records import replace
from sansnet_core.testing import SECRET, make_config
from sansnet_core.wire import ipv4, ipv6, udp
from sansnet_core.wire.ethernet import ETHERTYPE_IPV4, ETHERTYPE_IPV6
from sansnet_core.wire.ip import UDP
from tests.core.direct import GUEST, GUEST6

SERVER: Final = {4: bytes((203, 0, 113, 1)), 6: bytes.fromhex("20010db8000000010000000000000001")}
SOURCES: Final = {
    4: [GUEST, bytes((10, 0, 2, 16)), bytes(4)],
    6: [GUEST6, bytes.fromhex("20010db8000000000000000000000016"), bytes(16)],
}
"""Addresses from which the guest may send, and the unspecified one, from which it may not."""
MACS: Final = [bytes.fromhex("020000000001"), bytes.fromhex("020000000002")]
PORTS: Final = (7, 53, 443)
QUESTION: Final = b"\0\7\1\0\0\1" + bytes(6) + b"\4host\7example\0\0\1\0\1"
"""A query for a name of the configuration."""
PLAIN: Final = LinkConfig(mtu=65520, max_frame_size=65549)
LINKS: Final = {
    "plain": PLAIN,
    "verified": replace(PLAIN, verify_checksums=True),
    "offloads": replace(PLAIN, vnet_header=True, checksum_offload=True, uso=True),
}


class Twins:
    """Two networks with the same inputs; the second one takes no short cut."""

    def __init__(self, link: str, version: int) -> None:
        config = make_config()
        names = {"dns_servers": (SERVER[4], SERVER[6]), "hosts": (("host.example", ("192.0.2.1",)),)}
        self.config = replace(config, link=LINKS[link], limits=Limits(udp_flows=3), notices=True, **names)
        self.version = version
        self.now = 1000.0
        self.networks = [Network(self.config, now=self.now, secret=SECRET) for _ in range(2)]
        self.networks[1]._context.expected.enabled = False
        self.sockets: list[Any] = []
        self.notices: list[Notice] = []

    def each(self, name: str, *arguments: Any) -> Any:
        """Call a method of both, whose results must be equal."""
        first, second = (getattr(network, name)(*arguments) for network in self.networks)
        assert first == second
        return first

    def take(self) -> None:
        for order in self.each("take_orders"):
            if isinstance(order, OpenDatagram):
                self.sockets.append(order.socket)
        self.notices += self.each("take_notices")
        for name in ("take_frames", "next_deadline", "flows", "statistics"):
            self.each(name)
        known = [network._context.guest for network in self.networks]
        assert (known[0].mac, known[0].ipv4, known[0].ipv6) == (known[1].mac, known[1].ipv4, known[1].ipv6)
        first, second = (
            [
                (flow.key, flow.last_used, flow.last_from_guest, flow.sent, flow.datagrams_sent, flow.whole, flow.tried)
                for flow in network._udp._flows.values()
            ]
            for network in self.networks
        )
        assert first == second

    def frame(self, port: int, data: bytes, **odd: Any) -> bytes:
        """A frame of the guest; `odd` are fields that differ from those of an ordinary datagram."""
        own, server = SOURCES[self.version][odd.get("source", 0)], SERVER[self.version]
        packet = udp.emit(own, server, 5000, port, data)
        size = max(len(packet) + odd.get("longer", 0), 0)
        ttl, tos = odd.get("ttl", 64), odd.get("tos", 0)
        if self.version == 4:
            ether = ETHERTYPE_IPV4
            head = ipv4.emit_header(own, server, UDP, size, ttl, tos, 7, odd.get("fragment", 0x4000))
        else:
            ether = ETHERTYPE_IPV6
            head = ipv6.emit_header(own, server, UDP, size, ttl, tos)
        whole = bytearray(head + packet)
        if "flip" in odd:
            whole[odd["flip"] % len(whole)] ^= 1
        if odd.get("no_checksum"):
            whole[len(head) + 6 : len(head) + 8] = b"\0\0"
        ethernet: bytes = odd.get("to", self.config.mac) + MACS[odd.get("mac", 0)] + ether
        vnet: bytes = odd.get("vnet", bytes(12)) if self.config.link.vnet_header else b""
        return vnet + ethernet + bytes(whole) + bytes(odd.get("padding", 0))


DATA: Final = st.one_of(
    st.binary(max_size=20),
    st.sampled_from([0, 1199, 1200, 1232, 1233, 1472, 8000, 60_000]).map(bytes),
    st.just(QUESTION),
)
ODD: Final = st.fixed_dictionaries(
    {},
    optional={
        "ttl": st.sampled_from([0, 1, 31, 32, 255]),
        "tos": st.integers(0, 255),
        "fragment": st.sampled_from([0, 0x2000, 1, 0x4001, 0x8000]),
        "flip": st.integers(0, 100),
        "longer": st.integers(-30, 30),
        "padding": st.integers(0, 30),
        "mac": st.integers(0, 1),
        "to": st.sampled_from([b"\xff" * 6, MACS[0]]),
        "vnet": st.sampled_from(
            [b"\1" + bytes(11), b"\1\5\0\0\5\0" + bytes(6), b"\0\5" + bytes(10), b"\0\1" + bytes(10)]
        ),
        "no_checksum": st.booleans(),
        "source": st.sampled_from([1, 2]),
    },
)
STEPS: Final = st.one_of(
    st.tuples(st.just("send"), st.lists(st.tuples(st.sampled_from(PORTS), DATA, st.just({})), max_size=5)),
    st.tuples(st.just("send"), st.lists(st.tuples(st.sampled_from(PORTS), DATA, ODD), max_size=5)),
    st.tuples(st.just("raw"), st.binary(max_size=80)),
    st.tuples(st.just("answer"), st.sampled_from(PORTS), st.binary(max_size=10)),
    st.tuples(st.just("fail"), st.sampled_from(PORTS), st.sampled_from([1300, 1500, 0])),
    st.tuples(st.just("wait"), st.sampled_from([0.01, 0.2, 1.5, 40.0, 400.0])),
    st.tuples(st.just("reconfigure"), st.booleans()),
)


def play(twins: Twins, step: tuple[Any, ...]) -> None:
    kind, *rest = step
    if kind == "send":
        frames = [twins.frame(port, data, **odd) for port, data, odd in rest[0]]
        twins.each("receive_frames", frames, twins.now)
    elif kind == "raw":
        twins.each("receive_frames", [rest[0], twins.frame(7, b"x")[:-1] + rest[0]], twins.now)
    elif kind == "wait":
        twins.now += rest[0]
        twins.each("handle_deadline", twins.now)
    elif kind == "reconfigure":
        link = replace(twins.config.link, verify_checksums=rest[0])
        twins.each("reconfigure", replace(twins.config, link=link), twins.now)
    elif twins.sockets:
        remote = Endpoint(SERVER[twins.version], rest[0])
        if kind == "answer":
            twins.each("datagram_received", twins.sockets[-1], remote, rest[1], 0, 60, 0, twins.now)
        else:
            error = ExtendedError(90, 1, 0, 0, rest[1], None)
            twins.each("datagram_failed", twins.sockets[-1], remote, error, bytes(8000), twins.now)
    twins.take()


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("link", LINKS)
@given(steps=st.lists(STEPS, min_size=1, max_size=12))
def test_both_paths_agree(link: str, version: int, steps: list[tuple[Any, ...]]) -> None:
    twins = Twins(link, version)
    for step in steps:
        play(twins, step)


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("link", ["plain", "offloads"])
def test_the_short_cut_takes_all_but_the_first(link: str, version: int) -> None:
    """Otherwise this file would compare the ordinary path with itself."""
    twins = Twins(link, version)
    network = twins.networks[0]
    frame = twins.frame(7, b"data")
    twins.each("receive_frames", [frame], twins.now)
    assert network._udp.known.receive(frame)
    assert network._udp.known.receive(memoryview(frame))
    assert not network._udp.known.receive(memoryview(bytearray(frame)))
    assert not network._udp.known.receive(twins.frame(7, b"data", ttl=0))
    assert not twins.networks[1]._udp.known.receive(frame)


def _changed(frame: bytes, headers: int) -> Iterator[bytes]:
    """The frame with each byte of its headers changed, with a right header checksum of IPv4 and as it is; and cut."""
    for place in range(headers):
        for bits in (1, 0x60, frame[place]):
            wrong = bytearray(frame)
            wrong[place] ^= bits
            yield bytes(wrong)
            ip = headers - 28
            if wrong[ip] == 0x45:
                wrong[ip + 10 : ip + 12] = bytes(2)
                total = sum(int.from_bytes(wrong[at : at + 2], "big") for at in range(ip, ip + 20, 2))
                wrong[ip + 10 : ip + 12] = (65535 - (total % 65535 or 65535)).to_bytes(2, "big")
                yield bytes(wrong)
    for size in range(len(frame)):
        yield frame[:size]


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("link", LINKS)
def test_each_changed_byte_of_a_datagram_has_the_same_effect(link: str, version: int) -> None:
    twins = Twins(link, version)
    right = [twins.frame(7, b"data"), twins.frame(7, b"may be sent in fragments", fragment=0, padding=3)]
    for frame in right:
        twins.each("receive_frames", right, twins.now)
        twins.take()
        for wrong in _changed(frame, _headers(twins)):
            twins.each("receive_frames", [wrong, frame], twins.now)
            twins.take()
    too_large = right[0] + bytes(PLAIN.max_frame_size + 12)
    for size in range(PLAIN.max_frame_size - 1, PLAIN.max_frame_size + 14):
        twins.each("receive_frames", [too_large[:size]], twins.now)
        twins.take()
    assert len(twins.networks[0].flows()) >= 1
    drops = twins.networks[0].statistics().drops  # both would agree that they take what is dropped
    assert drops[Reason.ETHERNET_TRUNCATED]
    assert drops[Reason.FRAME_TOO_LARGE]


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("link", LINKS)
def test_what_is_more_than_a_datagram_takes_the_ordinary_path(link: str, version: int) -> None:
    """Another address of the guest is learnt, a missing checksum is allowed in IPv4 only, a name may be known here."""
    twins = Twins(link, version)
    for odd in ({}, {"source": 1}, {}, {"mac": 1}, {"source": 1, "mac": 1}, {"mac": 1}, {}, {"no_checksum": True}, {}):
        twins.each("receive_frames", [twins.frame(7, b"data", **odd)], twins.now)
        twins.take()
    for port, data in ((53, b"forwarded"), (53, QUESTION), (7, b"")):
        twins.each("receive_frames", [twins.frame(port, data)], twins.now)
        twins.take()
    assert [notice.name for notice in twins.notices if isinstance(notice, NameAsked)] == ["host.example"]


def _headers(twins: Twins) -> int:
    """Bytes of all headers of a datagram."""
    return (12 if twins.config.link.vnet_header else 0) + 14 + (28 if twins.version == 4 else 48)
