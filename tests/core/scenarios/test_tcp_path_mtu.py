"""A link of a smaller MTU beyond the guest (RFC 1191, RFC 8201), and reports of one that are forged (RFC 5927)."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Final

import pytest

from sansnet_core import Limits, LinkConfig, Network, Reason
from sansnet_core.testing import GuestConnection, GuestStack, GuestTcpOptions, ManualConnection, Pair, make_config
from sansnet_core.testing.packets import (
    ICMP,
    SYN,
    TCP,
    Ip,
    Segment,
    glue,
    icmp,
    read_frame,
    read_ip,
    read_segments,
    udp,
)

PLAIN: Final = LinkConfig(mtu=1500, max_frame_size=1514)
OFFLOAD: Final = LinkConfig(
    mtu=1500, max_frame_size=65549, vnet_header=True, checksum_offload=True, tso4=True, tso6=True
)
DATA: Final = bytes(range(251)) * 800
MTU: Final = {4: 1000, 6: 1300}
HEADERS: Final = {4: 40, 6: 60}
_MODULUS: Final = 1 << 32


class Router(GuestStack):
    """A guest behind a link of its own.

    Attributes:
        mtu: of that link.
        silent: how many of the next reports get lost.
        reports: the reports that were sent.
        largest: bytes of the largest segment that has passed.
    """

    mtu = 65535
    silent = reports = largest = 0

    def receive(self, frame: bytes | memoryview | tuple[bytes, bytes | memoryview], now: float) -> None:
        read = read_frame(frame, vnet=self.vnet)
        ip = read_ip(read)
        if ip.protocol == TCP:
            packet = next(iter(read_segments(ip, read.gso_size))).ip().emit()
            if len(packet) > self.mtu:
                self.at(now)
                self._report(ip, packet)
                return
            self.largest = max(self.largest, len(packet))
        super().receive(frame, now)

    def _report(self, ip: Ip, packet: bytes) -> None:
        if self.silent:
            self.silent -= 1
            return
        self.reports += 1
        self.send(too_big(ip, packet[:100], self.mtu))


def too_big(ip: Ip, quoted: bytes, mtu: int) -> Ip:
    """The report of a router that a packet of the network is too big."""
    kind, code = (3, 4) if ip.version == 4 else (2, 0)
    return icmp(ip.destination, ip.source, kind, code, mtu.to_bytes(4, "big") + quoted)


def routed(
    link: LinkConfig, family: int, options: GuestTcpOptions | None = None
) -> tuple[Pair, Router, GuestConnection]:
    pair = Pair(make_config(link))
    router = Router(vnet=link.vnet_header, gateway_mac=pair.config.mac)
    router.at(pair.now)
    pair.guest = router
    connection, _ = pair.established(options or GuestTcpOptions(window=1 << 20, scale=7), family=family)
    router.mtu = MTU[family]
    return pair, router, connection


def download(pair: Pair, connection: GuestConnection, data: bytes = DATA) -> None:
    wanted = len(connection.received) + len(data)
    pair.host.produce(pair.host.stream, data)
    pair.drive(lambda: len(connection.received) >= wanted)
    assert connection.received.endswith(data)


links = pytest.mark.parametrize("link", [PLAIN, OFFLOAD], ids=["plain", "offload"])
families = pytest.mark.parametrize("family", [4, 6])


@links
@families
@pytest.mark.parametrize("sack", [True, False])
def test_segments_become_as_small_as_the_link_and_nothing_waits_for_a_timer(
    link: LinkConfig, family: int, *, sack: bool
) -> None:
    pair, router, connection = routed(link, family, GuestTcpOptions(window=1 << 20, scale=7, sack=sack))
    start = pair.now
    download(pair, connection)

    assert router.reports
    assert router.largest == MTU[family]
    assert pair.now - start < 0.1
    assert pair.network.statistics().drops == {}


@links
@families
def test_the_size_lasts_even_if_the_connection_rests(link: LinkConfig, family: int) -> None:
    pair, router, connection = routed(link, family)
    download(pair, connection)
    reports = router.reports
    for _ in range(3):
        pair.wait(20.0)
        download(pair, connection)

    assert router.reports == reports
    assert (router.segmented_frames > 10) == (link is OFFLOAD)


@links
@pytest.mark.parametrize("rests", [False, True])
def test_a_copy_of_the_network_keeps_the_size(link: LinkConfig, *, rests: bool) -> None:
    pair, _, connection = routed(link, 4)
    download(pair, connection)
    pair.wait(20.0 * rests)
    other: Network = copy.deepcopy(pair.network)
    other.stream_received(pair.host.stream.socket, DATA[:5000], pair.now)

    frames = [read_frame(glue(frame), vnet=link.vnet_header) for frame in other.take_frames()]
    segments = [one for read in frames for one in read_segments(read_ip(read), read.gso_size)]
    assert [len(segment.payload) for segment in segments] == [960, 960, 960, 960, 960, 200]


@families
def test_a_second_link_makes_them_smaller_again(family: int) -> None:
    pair, router, connection = routed(OFFLOAD, family)
    download(pair, connection)
    router.mtu, router.largest = {4: 600, 6: 1280}[family], 0
    download(pair, connection)

    assert router.largest == router.mtu


@links
@families
def test_data_with_fin_is_sent_again_as_well(link: LinkConfig, family: int) -> None:
    pair, router, connection = routed(link, family)
    connection.shutdown()
    pair.settle()
    pair.host.produce(pair.host.stream, DATA[:1440])
    pair.host.end(pair.host.stream)
    start = pair.now
    pair.drive(lambda: connection.closed)

    assert connection.received == DATA[:1440]
    assert router.reports == 1
    assert pair.now - start < 0.1


def test_reports_that_get_lost_cost_time_alone() -> None:
    pair, router, connection = routed(PLAIN, 4)
    router.silent = len(DATA) // 1460 + 3  # all in flight, and two timeouts
    download(pair, connection)

    assert router.largest == MTU[4]


# Reports that are made by hand


def in_flight(count: int = 3) -> tuple[Pair, ManualConnection, list[Segment]]:
    """Full segments are under way to the guest."""
    pair = Pair()
    peer = ManualConnection(pair)
    peer.open()
    pair.host.produce(pair.host.stream, bytes(1460 * count))
    pair.settle()
    return pair, peer, peer.take()


def tell(pair: Pair, segment: Segment, mtu: int, *, quoted: int = 28) -> None:
    ip = segment.ip()
    pair.guest.send(too_big(ip, ip.emit()[:quoted], mtu))
    pair.settle()


def size_of_new(pair: Pair, peer: ManualConnection, first: Segment, count: int = 3) -> int:
    """The size of the segments that follow when all before are acknowledged."""
    peer.take()
    peer.expected = (first.sequence + 1460 * count) % _MODULUS
    peer.send()
    pair.host.produce(pair.host.stream, bytes(3000))
    pair.settle()
    return len(peer.take()[0].payload)


@pytest.mark.parametrize("place", [0, 1, 1460, 3 * 1460 - 1])
def test_a_report_about_any_byte_in_flight_counts(place: int) -> None:
    pair, peer, (first, *_) = in_flight()
    tell(pair, replace(first, sequence=(first.sequence + place) % _MODULUS), 1000)

    [again] = peer.take()
    assert (again.sequence, len(again.payload)) == (first.sequence, 960)
    assert size_of_new(pair, peer, first) == 960
    assert pair.network.statistics().drops == {}


@pytest.mark.parametrize("place", [-1, -100_000, 3 * 1460, 100_000, 1 << 31])
def test_a_report_about_nothing_in_flight_is_counted(place: int) -> None:
    pair, peer, (first, *_) = in_flight()
    tell(pair, replace(first, sequence=(first.sequence + place) % _MODULUS), 1000)

    assert peer.take() == []
    assert size_of_new(pair, peer, first) == 1460
    assert pair.network.statistics().drops == {Reason.ICMP_MTU: 1}


def test_data_that_was_never_sent_is_not_in_flight() -> None:
    """A closed window holds it back."""
    pair = Pair()
    peer = ManualConnection(pair)
    syn_ack = peer.open()
    peer.send(window=0)
    pair.host.produce(pair.host.stream, bytes(5000))
    pair.settle()
    assert pair.network.statistics().tcp_held == 1460
    tell(pair, replace(syn_ack, sequence=peer.expected), 1000)

    assert pair.network.statistics().drops == {Reason.ICMP_MTU: 1}


@pytest.mark.parametrize("sack", [True, False])
@pytest.mark.parametrize(("scale", "window"), [(None, 65535), (3, Limits().tcp_window)])
def test_only_the_size_changes(*, sack: bool, scale: int | None, window: int) -> None:
    pair = Pair()
    peer = ManualConnection(pair)
    own_scale = peer.open(sack_permitted=sack, scale=scale).scale or 0
    pair.host.produce(pair.host.stream, bytes(1460))
    pair.settle()
    [first] = peer.take()
    tell(pair, first, 1000)
    peer.take()
    peer.sequence += 100
    [answer] = peer.send(payload=b"beyond a gap", acknowledgment=(first.sequence + 1460) % _MODULUS)

    assert bool(answer.sack) == sack
    assert answer.window << own_scale == window >> own_scale << own_scale
    pair.host.produce(pair.host.stream, bytes(200_000))
    pair.settle()
    assert (sum(len(segment.payload) for segment in peer.take()) > 65535) == (scale is not None)


def test_a_report_about_another_connection_is_counted() -> None:
    pair, peer, (first, *_) = in_flight()
    tell(pair, replace(first, source_port=81), 1000)

    assert size_of_new(pair, peer, first) == 1460
    assert pair.network.statistics().drops == {Reason.ICMP_MTU: 1}


def test_a_report_about_a_syn_is_counted() -> None:
    pair = Pair()
    peer = ManualConnection(pair)
    [syn_ack] = peer.syn()
    tell(pair, syn_ack, 1000)

    assert syn_ack.flags & SYN
    assert pair.tcp_flows == 1
    assert pair.network.statistics().drops == {Reason.ICMP_MTU: 1}


@pytest.mark.parametrize("mtu", [1500, 1501, 9000, 65535])
def test_no_report_makes_segments_larger(mtu: int) -> None:
    pair, peer, (first, *_) = in_flight()
    tell(pair, first, mtu)

    assert peer.take() == []
    assert size_of_new(pair, peer, first) == 1460
    assert pair.network.statistics().drops == {}


@pytest.mark.parametrize(("mtu", "size"), [(1499, 1459), (500, 460), (128, 88), (127, 88), (40, 88), (1, 88), (0, 512)])
def test_segments_do_not_become_tiny(mtu: int, size: int) -> None:
    """An MTU of 0 is that of a router older than RFC 1191, and counts as Linux's least, 552."""
    pair, peer, (first, *_) = in_flight()
    tell(pair, first, mtu)

    assert size_of_new(pair, peer, first) == size


def test_the_upper_half_of_the_field_is_no_part_of_the_mtu() -> None:
    """RFC 1191, 4: it is unused, and RFC 4884 has put a length there."""
    pair, peer, (first, *_) = in_flight()
    tell(pair, first, 7 << 16 | 1000)

    assert size_of_new(pair, peer, first) == 960


def test_a_guest_with_a_smaller_mss_keeps_it() -> None:
    pair = Pair()
    peer = ManualConnection(pair)
    peer.open(mss=300)
    pair.host.produce(pair.host.stream, bytes(900))
    pair.settle()
    first, *_ = peer.take()
    tell(pair, first, 0)

    assert peer.take() == []
    assert pair.network.statistics().drops == {}


@pytest.mark.parametrize(("mtu", "drops"), [(1280, {}), (1279, {Reason.ICMP_MTU: 1}), (0, {Reason.ICMP_MTU: 1})])
def test_an_mtu_that_no_link_of_ipv6_has_is_counted(mtu: int, drops: dict[Reason, int]) -> None:
    """RFC 8201, 4."""
    pair, router, connection = routed(PLAIN, 6)
    router.silent = 1
    pair.host.produce(pair.host.stream, DATA[:1440])
    pair.settle()
    [(_, frame)] = [one for one in pair.sent if len(one[1]) == 1514]
    ip = read_ip(read_frame(frame, vnet=False))
    router.mtu = 1280 if mtu == 1280 else 65535
    router.send(too_big(ip, ip.emit()[:100], mtu))
    pair.settle()

    assert pair.network.statistics().drops == drops
    assert (len(connection.received) == 1440) == (mtu == 1280)


@pytest.mark.parametrize("quoted", range(28))
def test_a_report_that_quotes_too_little_is_counted(quoted: int) -> None:
    pair, _, (first, *_) = in_flight()
    tell(pair, first, 1000, quoted=quoted)

    assert pair.network.statistics().drops == {Reason.ICMP_TYPE: 1}


def test_a_report_about_a_datagram_is_counted() -> None:
    pair, _, (first, *_) = in_flight()
    ip = udp(first.source, 53, first.destination, 1000, bytes(2000))
    pair.guest.send(too_big(ip, ip.emit()[:28], 1000))
    ip = Ip(first.source, first.destination, ICMP, bytes(8))
    pair.guest.send(too_big(ip, ip.emit(), 1000))
    pair.settle()

    assert pair.network.statistics().drops == {Reason.ICMP_TYPE: 2}
