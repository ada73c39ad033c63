"""Requirements of RFC 9293, 5961, 6298, 6675 and 7323 that no other test holds; see docs/conformance."""

from __future__ import annotations

import dataclasses
import struct

import pytest

from sansnet_core import Limits, OpenStream, Reason
from sansnet_core.testing import (
    OUTSIDER,
    SERVER,
    SERVER6,
    GuestStack,
    Impairment,
    ManualConnection,
    Pair,
    make_config,
)
from sansnet_core.testing.packets import ACK, FIN, PSH, RST, SYN, URG, Ip, Segment, icmp
from tests.core.direct import GUEST6, Direct

ECE, CWR = 0x40, 0x80
GUEST = GuestStack().ipv4
MODULUS = 1 << 32


def opened(pair: Pair | None = None, *, window: int = 65535) -> tuple[Pair, ManualConnection]:
    pair = pair or Pair()
    peer = ManualConnection(pair)
    peer.window = window
    peer.open()
    return pair, peer


def answering() -> tuple[Pair, ManualConnection, Segment]:
    """A guest that has our SYN-ACK, and has not answered it."""
    pair = Pair()
    peer = ManualConnection(pair)
    [answer] = peer.syn()
    peer.sequence, peer.expected = peer.first + 1, (answer.sequence + 1) % MODULUS
    return pair, peer, answer


def acknowledged(pair: Pair, peer: ManualConnection, data: bytes) -> Segment:
    """Send data; the last acknowledgment, which may be delayed."""
    answers = [answer for start in range(0, len(data), 1000) for answer in peer.data(data[start : start + 1000])]
    pair.wait(0.01)
    return [*answers, *peer.take()][-1]


# RFC 9293: header


@pytest.mark.parametrize("bits", [0x0E, 0x01])
def test_reserved_bits_are_sent_as_0_and_ignored(bits: int) -> None:
    """3.1. The last one was the nonce sum of RFC 3540."""
    bench = Direct()
    syn = Segment(GUEST, 4000, SERVER, 80, 5, 0, SYN).ip()
    changed = syn.payload[:12] + bytes((syn.payload[12] | bits, SYN | ECE | CWR)) + syn.payload[14:]
    bench.send(dataclasses.replace(syn, payload=changed))
    bench.network.stream_connected(bench.one(OpenStream).socket, bench.now)
    bench.collect()
    [answer] = bench.packets
    assert answer.payload[12] & 0x0F == 0
    assert answer.payload[13] == SYN | ACK


# RFC 9293: resets


@pytest.mark.parametrize("payload", [b"", b"why"])
@pytest.mark.parametrize("closed", [False, True])
def test_a_reset_counts_with_data_and_with_a_closed_window(closed: bool, payload: bytes) -> None:
    """3.6.1 and 3.8.6.1: the data of a reset takes no sequence numbers, and a reset needs no window."""
    pair = Pair(make_config(limits=Limits(tcp_window=2000)))
    _, peer = opened(pair)
    pair.host.stream.blocked = closed
    if closed:
        assert acknowledged(pair, peer, bytes(2000)).window == 0
    assert peer.send(RST | ACK, payload) == []
    assert pair.host.stream.aborted
    assert pair.tcp_flows == 0


@pytest.mark.parametrize("distance", [1, 1000])
def test_a_reset_in_the_window_is_challenged_before_the_handshake_is_complete(distance: int) -> None:
    """3.10.7.4, second; RFC 5961, 3.2."""
    pair, peer, _ = answering()
    [answer] = peer.send(RST, sequence=peer.sequence + distance)
    assert (answer.flags, answer.sequence, answer.acknowledgment) == (ACK, peer.expected, peer.sequence)
    peer.send()
    peer.data(b"alive")
    assert bytes(pair.host.stream.received) == b"alive"


def test_a_segment_outside_of_the_window_is_answered_before_the_handshake_is_complete() -> None:
    """3.10.7.4, first."""
    pair, peer, _ = answering()
    [answer] = peer.send(ACK, b"old", sequence=peer.sequence - 1000)
    assert (answer.flags, answer.sequence, answer.acknowledgment) == (ACK, peer.expected, peer.sequence)
    assert not pair.host.stream.received


def test_the_exact_reset_ends_a_connection_whose_handshake_is_not_complete() -> None:
    """3.10.7.4, second: there is no LISTEN to return to."""
    pair, peer, _ = answering()
    assert peer.send(RST) == []
    assert pair.host.stream.aborted
    assert pair.tcp_flows == 0


def test_our_reset_acknowledges_and_has_no_window() -> None:
    pair, peer = opened()
    pair.host.fail(pair.host.stream, 104, pair.now)
    pair.settle()
    [reset] = peer.take()
    assert (reset.flags, reset.sequence, reset.acknowledgment) == (RST | ACK, peer.expected, peer.sequence)


def test_data_across_the_edge_of_the_window_is_taken_in_part() -> None:
    """3.10.7.4."""
    pair, peer = opened(Pair(make_config(limits=Limits(tcp_window=2000))))
    pair.host.stream.blocked = True
    peer.data(bytes(1400))
    peer.send(ACK | PSH, bytes(600) + b"beyond the window")
    pair.wait(0.01)
    answers = [*peer.take(), *peer.send(sequence=peer.sequence - 1)]
    assert (answers[-1].acknowledgment, answers[-1].window) == (peer.sequence + 600, 0)
    pair.host.stream.blocked = False
    pair.settle()
    assert bytes(pair.host.stream.received) == bytes(2000)


# RFC 9293: the end


def test_a_repeated_fin_begins_time_wait_again() -> None:
    """3.10.7.4, eighth: our acknowledgment was lost, and the next one may be lost, too."""
    pair, peer = opened()
    pair.host.end(pair.host.stream)
    pair.settle()
    peer.accept(peer.take())
    peer.send(FIN | ACK)
    linger = pair.config.limits.tcp_linger
    for _ in range(3):
        pair.wait(linger * 0.8)
        [answer] = peer.send(FIN | ACK)
        assert (answer.flags, answer.acknowledgment) == (ACK, peer.sequence + 1)
    pair.wait(linger + 0.1)
    assert pair.tcp_flows == 0


@pytest.mark.parametrize("distance", [-2, 0, 1, -1000])
def test_another_segment_does_not_begin_time_wait_again(distance: int) -> None:
    pair, peer = opened()
    pair.host.end(pair.host.stream)
    pair.settle()
    peer.accept(peer.take())
    peer.send(FIN | ACK)
    pair.wait(pair.config.limits.tcp_linger * 0.8)
    peer.send(FIN | ACK, sequence=peer.sequence + 1 + distance)
    pair.wait(pair.config.limits.tcp_linger * 0.3)
    assert pair.tcp_flows == 0


# RFC 5961


@pytest.mark.parametrize("distance", [1, 1000, 65535])
def test_a_repeated_segment_may_have_an_old_acknowledgment(distance: int) -> None:
    """5.2: as old as the largest window that the guest has offered."""
    pair, peer = opened()
    peer.send(ACK | PSH, b"data", acknowledgment=(peer.expected - distance) % MODULUS)
    assert bytes(pair.host.stream.received) == b"data"


# RFC 9293: options


@pytest.mark.parametrize(
    "options",
    [
        bytes((253, 4, 0xF9, 0x89)),
        bytes((8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 1)),
        bytes((1, 2, 4, 0, 88, 3, 3, 14)),
        bytes((0, 0, 0, 0)),
        bytes((1, 1, 1, 5)),
        bytes((34, 255, 1, 1)),
    ],
    ids=["unknown", "timestamps", "MSS and window scale", "end", "no length", "length behind the end"],
)
def test_options_in_any_segment_are_read_or_ignored(options: bytes) -> None:
    """3.1, and RFC 7323, 3.2: what is not a part of a SYN, and what was not agreed on, changes nothing."""
    pair, peer = opened()
    peer.send(ACK | PSH, b"data", raw_options=options)
    peer.sequence += 4
    pair.host.produce(pair.host.stream, bytes(3000))
    pair.settle()
    assert bytes(pair.host.stream.received) == b"data"
    assert [len(segment.payload) for segment in peer.take() if segment.payload] == [1460, 1460, 80]
    peer.accept([])
    peer.data(b"more", window=100)
    assert bytes(pair.host.stream.received) == b"datamore"


@pytest.mark.parametrize("lead", [b"", b"\1", b"\1\1", b"\1\1\1"])
def test_options_need_no_alignment(lead: bytes) -> None:
    """3.1."""
    options = lead + struct.pack("!BBH", 2, 4, 700)
    pair = Pair()
    peer = ManualConnection(pair)
    peer.open(raw_options=options + bytes(-len(options) % 4))
    pair.host.produce(pair.host.stream, bytes(1400))
    pair.settle()
    assert [len(segment.payload) for segment in peer.take()] == [700, 700]


@pytest.mark.parametrize("kind", [8, 34, 253])
def test_options_that_the_guest_offers_and_we_do_not_know_are_not_answered(kind: int) -> None:
    """RFC 7323, 3.2 for timestamps; the reader of segments refuses any option that we do not support."""
    peer = ManualConnection(Pair())
    answer = peer.open(raw_options=bytes((2, 4, 5, 180, kind, 10)) + bytes(8) + b"\1\1")
    assert (answer.mss, answer.scale, answer.sack_permitted) == (1460, None, False)


@pytest.mark.parametrize("header", [bytes((7, 7, 4, 0, 0, 0, 0, 1)), bytes((68, 4, 5, 0)), bytes((148, 4, 0, 0))])
def test_options_of_ip_change_nothing(header: bytes) -> None:
    """3.9.2: record route, time stamp and router alert."""
    pair = Pair()
    peer = ManualConnection(pair)
    packet = peer.segment(SYN, sequence=peer.first, mss=1460).ip()
    pair.guest.send(Ip(packet.source, packet.destination, packet.protocol, packet.payload, options=header))
    pair.settle()
    [answer] = peer.take()
    assert answer.flags == SYN | ACK


@pytest.mark.parametrize("kind", [131, 137])
def test_a_packet_whose_source_route_is_not_complete_is_counted(kind: int) -> None:
    """3.9.2.1; RFC 7126, 4.3 and 4.4: its destination is not the last one."""
    pair = Pair()
    peer = ManualConnection(pair)
    packet = peer.segment(SYN, sequence=peer.first, mss=1460).ip()
    route = bytes((kind, 7, 4, 203, 0, 113, 9, 0))
    pair.guest.send(Ip(packet.source, packet.destination, packet.protocol, packet.payload, options=route))
    pair.settle()
    assert peer.take() == []
    assert pair.network.statistics().drops == {Reason.IPV4_SOURCE_ROUTE: 1}


# RFC 9293: data


def test_small_segments_are_not_held_back() -> None:
    """3.7.4: the remote host's kernel has applied the algorithm of Nagle already, or its program wants none."""
    pair, peer = opened()
    for byte in (b"a", b"b", b"c"):
        pair.host.produce(pair.host.stream, byte)
        pair.settle()
    assert [segment.payload for segment in peer.take()] == [b"a", b"b", b"c"]


def test_segments_are_as_large_as_possible_and_the_last_one_is_pushed() -> None:
    """3.9.1.2: a program cannot say where a message ends, so PSH marks the end of what is there."""
    pair, peer = opened()
    pair.host.produce(pair.host.stream, bytes(4000))
    pair.settle()
    segments = peer.take()
    assert [len(segment.payload) for segment in segments] == [1460, 1460, 1080]
    assert [bool(segment.flags & PSH) for segment in segments] == [False, False, True]


@pytest.mark.parametrize(("guest", "server", "largest"), [(GUEST, SERVER, 536), (GUEST6, SERVER6, 1220)])
def test_without_an_mss_segments_have_the_default_size(guest: bytes, server: bytes, largest: int) -> None:
    """3.7.1."""
    bench = Direct()
    bench.send(Segment(guest, 4000, server, 80, 5, 0, SYN).ip())
    socket = bench.one(OpenStream).socket
    bench.network.stream_connected(socket, bench.now)
    bench.collect()
    [answer] = bench.packets
    bench.packets.clear()
    first = int.from_bytes(answer.payload[4:8], "big") + 1
    bench.send(Segment(guest, 4000, server, 80, 6, first % MODULUS, ACK).ip())
    bench.network.stream_received(socket, bytes(10 * largest), bench.now)
    bench.collect()
    assert {len(packet.payload) for packet in bench.packets} == {20 + largest}
    assert {packet.ttl for packet in (answer, *bench.packets)} == {255}  # 3.9.2


def test_an_mss_and_a_window_scale_are_sent_with_a_syn_alone() -> None:
    """3.2; RFC 7323, 2.2."""
    pair, peer = opened()
    assert peer.syn_ack is not None
    assert None not in (peer.syn_ack.mss, peer.syn_ack.scale)
    pair.host.produce(pair.host.stream, bytes(5000))
    pair.settle()
    segments = [*peer.take(), *peer.data(b"data")]
    pair.host.end(pair.host.stream)
    pair.wait(5.0)
    segments += peer.take()
    assert {one.flags & (ACK | FIN | PSH) for one in segments} >= {ACK, ACK | PSH, ACK | FIN}
    assert {(one.mss, one.scale, one.sack_permitted) for one in segments} == {(None, None, False)}


def test_data_that_waited_is_pushed_once() -> None:
    """3.9.1.2: the ends of what the program sent before are no ends any more."""
    pair, peer = opened(window=0)
    for _ in range(6):
        pair.host.produce(pair.host.stream, bytes(600))
        pair.settle()
    first, *others = peer.send(window=65535)
    assert len(first.payload) in (600, 1460)  # the first piece may have been read before the others came
    assert sum(len(segment.payload) for segment in others) == 3600 - len(first.payload)
    assert [bool(segment.flags & PSH) for segment in others] == [False] * (len(others) - 1) + [True]


def test_a_little_window_is_filled_after_a_while() -> None:
    """3.8.6.2.1: whether an acknowledgment is awaited or not."""
    pair, peer = opened(window=10_000)
    pair.host.produce(pair.host.stream, bytes(20_000))
    pair.settle()
    segments = peer.take()
    assert [len(segment.payload) for segment in segments] == [1460] * 6
    peer.accept(segments)
    assert peer.send(window=1000) == []
    pair.wait(0.09)
    assert peer.take() == []
    pair.wait(0.91)
    filled = [segment for segment in peer.take() if segment.sequence == peer.expected]
    assert {len(segment.payload) for segment in filled} == {1000}
    assert peer.send(window=1100) == []
    peer.accept(filled[:1])
    assert [len(segment.payload) for segment in peer.send(window=5000)][-1] == 1460


@pytest.mark.parametrize("counts", [True, False])
def test_a_segment_that_is_too_old_to_be_repeated_acknowledges_nothing(counts: bool) -> None:
    """3.10.7.4: no guest repeats more than the largest window. An acknowledgment of what it repeats counts."""
    pair, peer = opened()
    pair.host.produce(pair.host.stream, bytes(1000))
    pair.settle()
    peer.accept(peer.take())
    peer.send(sequence=(peer.sequence - (65535 if counts else 1 << 30)) % MODULUS, window=1)
    before = len(pair.sent)
    pair.wait(30.0)
    assert (len(pair.sent) == before) is counts


def test_windows_above_32767_are_not_negative() -> None:
    """3.8.6: neither the guest's nor ours."""
    pair, peer = opened(window=65535)
    pair.host.produce(pair.host.stream, bytes(100_000))
    pair.settle()
    assert sum(len(segment.payload) for segment in peer.take()) == 65535 // 1460 * 1460
    pair = Pair(make_config(limits=Limits(tcp_window=65535)))
    answer = ManualConnection(pair).open(scale=None)
    assert answer.window == 65535


def test_a_window_is_smaller_than_1_gib() -> None:
    """RFC 7323, 2.3: numbers beyond the window are never taken for old ones."""
    pair = Pair(make_config(limits=Limits(tcp_window=1 << 40)))
    peer = ManualConnection(pair)
    scale = peer.open(scale=14).scale
    assert scale is not None
    window = acknowledged(pair, peer, b"x").window << scale
    assert 1 << 29 < window < 1 << 30
    peer.send(ACK, b"beyond", sequence=(peer.sequence + (1 << 30)) % MODULUS)
    assert pair.network.statistics().drops == {Reason.TCP_SEQUENCE: 1}


def test_probes_begin_after_the_timeout_and_back_off() -> None:
    """3.8.6.1."""
    pair, peer = opened(window=0)
    begin = pair.now
    pair.host.produce(pair.host.stream, bytes(5000))
    pair.wait(100.0)
    times = [when - begin for when, _ in pair.sent if when > begin]
    assert times[:7] == pytest.approx([0.2, 0.6, 1.4, 3.0, 6.2, 12.6, 25.4], rel=0.01)
    assert {(one.sequence, len(one.payload)) for one in peer.take()} == {(peer.expected, 1)}


@pytest.mark.parametrize("flags", [0, PSH, FIN])
def test_a_segment_without_ack_is_dropped_whatever_its_acknowledgment_is(flags: int) -> None:
    """3.10.7.4, fifth."""
    pair, peer = opened()
    peer.send(flags, b"data", acknowledgment=peer.expected)
    assert not pair.host.stream.received
    assert not pair.host.stream.shutdown_ordered


def test_urgent_data_of_a_closed_window_is_not_lost() -> None:
    """3.8.6.1: the pointer is not read, with any window; the data stays in the stream."""
    pair = Pair(make_config(limits=Limits(tcp_window=2000)))
    _, peer = opened(pair)
    pair.host.stream.blocked = True
    acknowledged(pair, peer, bytes(2000))
    [answer] = peer.send(ACK | URG, b"!", urgent=1)
    assert (answer.acknowledgment, answer.window) == (peer.sequence, 0)
    pair.host.stream.blocked = False
    pair.settle()
    peer.take()
    peer.data(b"!", urgent=1)
    assert bytes(pair.host.stream.received) == bytes(2000) + b"!"


def test_a_window_that_shrank_to_nothing_ends_no_connection() -> None:
    """3.8.6: data beyond the right edge is not acknowledged, and is no reason to give the guest up."""
    pair, peer = opened()
    pair.host.produce(pair.host.stream, bytes(20_000))
    pair.settle()
    peer.take()
    for _ in range(60):
        peer.send(window=0)
        pair.wait(20.0)
        peer.take()
    assert not pair.host.stream.closed
    assert pair.tcp_flows == 1


def test_new_data_stays_within_a_window_that_shrank() -> None:
    """3.8.6."""
    pair, peer = opened()
    pair.host.produce(pair.host.stream, bytes(5000))
    pair.settle()
    end = peer.expected + 5000
    peer.take()
    peer.send(window=1000)
    pair.host.produce(pair.host.stream, bytes(5000))
    pair.settle()
    assert all(
        (segment.sequence + segment.size - end) % MODULUS in (0, *range(MODULUS // 2, MODULUS))
        for segment in peer.take()
    )


def test_data_is_sent_again_for_more_than_100_seconds() -> None:
    """3.8.3: R2."""
    pair, peer = opened()
    begin = pair.now
    pair.host.produce(pair.host.stream, b"lost")
    pair.wait(100.0)
    assert pair.tcp_flows == 1
    pair.wait(500.0)
    times = [when - begin for when, _ in pair.sent if when > begin]
    assert peer.take()[-1].flags & RST
    assert 100.0 < times[-1] < 500.0
    assert len(times) > 4  # R1
    assert pair.host.stream.aborted


def test_keepalive_probes_come_after_two_hours_of_silence_and_have_no_data() -> None:
    """3.8.4."""
    pair, peer = opened()
    before = len(pair.sent)
    pair.wait(7199.0)
    assert len(pair.sent) == before
    pair.wait(2.0)
    [probe] = peer.take()
    assert (probe.flags, probe.sequence, probe.payload) == (ACK, (peer.expected - 1) % MODULUS, b"")
    for _ in range(3):  # one answer that gets lost does not end the connection
        pair.wait(75.0)
    peer.take()
    peer.send()
    pair.wait(7000.0)
    assert pair.tcp_flows == 1


# RFC 9293: ICMP


@pytest.mark.parametrize(
    ("kind", "code"), [(4, 0), (11, 0), (11, 1), (12, 0), (3, 0), (3, 1), (3, 2), (3, 3), (3, 4), (3, 5), (5, 1)]
)
def test_no_icmp_error_ends_a_connection(kind: int, code: int) -> None:
    """3.9.2.2; RFC 5927 for those that RFC 9293 would let end it."""
    pair, peer = opened()
    pair.host.produce(pair.host.stream, b"data")
    pair.settle()
    [segment] = peer.take()
    quoted = segment.ip().emit()[:28]
    pair.guest.send(icmp(GUEST, SERVER, kind, code, bytes(4) + quoted))
    pair.settle()
    assert pair.tcp_flows == 1
    peer.accept([segment])
    peer.data(b"alive")
    assert bytes(pair.host.stream.received) == b"alive"


@pytest.mark.parametrize(("kind", "code"), [(4, 0), (11, 0), (12, 0), (3, 4)])
def test_an_error_that_says_nothing_of_the_port_does_not_end_an_attempt(kind: int, code: int) -> None:
    """3.9.2.2: source quench is discarded; time exceeded and parameter problem are soft errors."""
    pair = Pair()
    peer = ManualConnection(pair, port=80, remote=OUTSIDER)
    pair.host.accept(OUTSIDER, 80, pair.now)
    pair.settle()
    [syn] = peer.take()
    pair.guest.send(icmp(GUEST, OUTSIDER.address, kind, code, bytes(4) + syn.ip().emit()[:28]))
    pair.settle()
    assert pair.tcp_flows == 1


# RFC 9293: addresses


@pytest.mark.parametrize(
    "source", [bytes(4), b"\xff" * 4, bytes((224, 0, 0, 1)), bytes((127, 0, 0, 1)), bytes((10, 0, 2, 255))]
)
def test_a_syn_from_an_address_that_no_node_has_is_ignored(source: bytes) -> None:
    """3.9.2.3."""
    pair = Pair()
    peer = ManualConnection(pair)
    pair.guest.send(Segment(source, 50000, SERVER, 80, 1, 0, SYN).ip())
    pair.settle()
    assert not pair.host.streams
    assert peer.take() == []
    assert pair.network.statistics().drops == {Reason.IP_SOURCE: 1}


# RFC 6298


def _timeout(pair: Pair, peer: ManualConnection) -> float:
    """The retransmission timeout that new data has."""
    before = len(pair.sent)
    pair.host.produce(pair.host.stream, b"lost")
    pair.wait(20.0)
    times = [when for when, _ in pair.sent[before:]]
    return times[1] - times[0]


def test_the_second_sample_is_weighed() -> None:
    """2.3: RTTVAR changes by a quarter, and then SRTT by an eighth."""
    pair = Pair(down=Impairment(delay=0.4))
    peer = ManualConnection(pair)
    peer.syn()
    pair.wait(0.4)
    [answer] = peer.take()
    peer.sequence, peer.expected = 1001, (answer.sequence + 1) % MODULUS
    peer.send()
    pair.host.produce(pair.host.stream, b"data")
    pair.wait(0.8)
    peer.accept([segment for segment in peer.take() if segment.payload])
    peer.send()
    srtt, rttvar = 0.4, 0.2
    rttvar = rttvar * 3 / 4 + abs(srtt - 0.8) / 4
    srtt = srtt * 7 / 8 + 0.8 / 8
    assert _timeout(pair, peer) == pytest.approx(srtt + 4 * rttvar, rel=0.01)


def test_the_timeout_is_at_least_200_milliseconds() -> None:
    """2.4 has one second; Linux has this value as well."""
    pair, peer = opened()  # in no time
    assert _timeout(pair, peer) == pytest.approx(0.2, rel=0.01)


@pytest.mark.parametrize("round_trip", [0.13, 0.16, 0.19])
def test_the_clock_is_finer_than_100_milliseconds(round_trip: float) -> None:
    """4: the timeout is three times the only sample."""
    pair = Pair(down=Impairment(delay=round_trip))
    peer = ManualConnection(pair)
    peer.syn()
    pair.wait(round_trip)
    [answer] = peer.take()
    peer.sequence, peer.expected = 1001, (answer.sequence + 1) % MODULUS
    peer.send()
    assert _timeout(pair, peer) == pytest.approx(3 * round_trip, rel=0.01)


def test_the_timer_stops_when_all_data_is_acknowledged() -> None:
    """5.2."""
    pair, peer = opened()
    pair.host.produce(pair.host.stream, b"data")
    pair.settle()
    pair.wait(0.1)
    peer.accept(peer.take())
    peer.send()
    before = len(pair.sent)
    pair.wait(30.0)
    deadline = pair.network.next_deadline()
    assert len(pair.sent) == before
    assert deadline is None or deadline > pair.now + 100.0


@pytest.mark.parametrize("lost", [False, True])
def test_the_timeout_after_a_lost_syn_is_three_seconds(lost: bool) -> None:
    """2.1 and 5.7."""
    pair = Pair()
    peer = ManualConnection(pair)
    [answer] = peer.syn()
    if lost:
        pair.wait(1.5)
        assert [one.flags for one in peer.take()] == [SYN | ACK]
    peer.sequence, peer.expected = 1001, (answer.sequence + 1) % MODULUS
    peer.send()
    assert _timeout(pair, peer) == pytest.approx(3.0 if lost else 0.2, rel=0.01)


def test_a_measured_round_trip_after_timeouts_ends_the_backoff() -> None:
    """5.5 and its last paragraph: an acknowledgment of something sent twice does not. SRTT and RTTVAR are kept."""
    pair, peer = opened()
    pair.host.produce(pair.host.stream, b"lost")
    pair.wait(1.0)  # sent at 0, 0.2 and 0.6 s
    peer.accept(peer.take()[:1])
    peer.send()
    assert _timeout(pair, peer) == pytest.approx(0.8, rel=0.01)
    peer.accept(peer.take()[:1])
    peer.send()
    pair.host.produce(pair.host.stream, b"sent once")
    pair.settle()
    peer.accept(peer.take())
    peer.send()
    assert _timeout(pair, peer) == pytest.approx(0.2, rel=0.01)


# RFC 6675


def test_more_than_two_segments_worth_of_data_makes_a_hole_lost() -> None:
    """4, IsLost: (DupThresh - 1) * SMSS bytes are not enough, one more is."""
    pair, peer = opened()
    pair.host.produce(pair.host.stream, bytes(1460 * 6))
    pair.settle()
    segments = peer.take()
    start = segments[1].sequence
    assert peer.send(sack=((start, (start + 2920) % MODULUS),)) == []
    answers = peer.send(sack=((start, (start + 2921) % MODULUS),))
    assert [one.sequence for one in answers] == [segments[0].sequence]


def test_three_ranges_make_a_hole_lost_however_small_they_are() -> None:
    """4, IsLost: three discontiguous ranges, or more than two segments' worth of data."""
    pair, peer = opened()
    for _ in range(7):
        pair.host.produce(pair.host.stream, bytes(100))
        pair.settle()
    segments = peer.take()
    blocks = tuple((segments[i].sequence, segments[i].sequence + 100) for i in (1, 3, 5))
    assert peer.send(sack=blocks[:2]) == []
    answers = peer.send(sack=blocks)
    assert [one.sequence for one in answers] == [segments[i].sequence for i in (0, 2, 4)]


def test_in_a_recovery_every_hole_counts_as_lost() -> None:
    """4, NextSeg 3: also a hole with a single segment reported beyond it."""
    pair, peer = opened()
    pair.host.produce(pair.host.stream, bytes(14_600))
    pair.settle()
    segments = peer.take()
    begins = [segment.sequence for segment in segments]
    answers = peer.send(sack=((begins[1], begins[4]),))
    assert [one.sequence for one in answers] == [begins[0]]
    answers = peer.send(sack=((begins[5], begins[6]), (begins[1], begins[4])))
    assert [one.sequence for one in answers] == [begins[4]]


@pytest.mark.parametrize("mss", [100, 1460])
def test_a_hole_is_sent_again_once_while_more_arrives_behind_it(mss: int) -> None:
    """5, C."""
    pair = Pair()
    peer = ManualConnection(pair)
    peer.open(mss=mss)
    pair.host.produce(pair.host.stream, bytes(mss * 10))
    pair.settle()
    segments = peer.take()
    assert len(segments) == 10
    repeated = []
    for count in range(2, 11):
        end = (segments[1].sequence + mss * (count - 1)) % MODULUS
        repeated += [one.sequence for one in peer.send(sack=((segments[1].sequence, end),))]
    assert repeated == [segments[0].sequence]


def test_after_a_recovery_another_loss_begins_another_one() -> None:
    """5, A."""
    pair, peer = opened()
    for _ in range(3):
        pair.host.produce(pair.host.stream, bytes(1460 * 6))
        pair.settle()
        segments = peer.take()
        assert len(segments) == 6
        assert peer.send(sack=((segments[1].sequence, segments[2].sequence),)) == []  # not lost yet
        [repeated] = peer.send(sack=((segments[1].sequence, segments[5].sequence),))
        assert repeated.sequence == segments[0].sequence
        peer.accept(segments)
        assert peer.send() == []


@pytest.mark.parametrize("duplicates", [1, 2])
def test_new_data_is_sent_after_the_first_duplicates(duplicates: int) -> None:
    """5, 3: nothing counts as lost yet."""
    pair, peer = opened()
    pair.host.produce(pair.host.stream, bytes(1460 * 6))
    pair.settle()
    segments = peer.take()
    for count in range(duplicates):
        assert peer.send(sack=((segments[1].sequence, segments[2 + count].sequence),)) == []
    pair.host.produce(pair.host.stream, b"new")
    pair.settle()
    assert [segment.payload for segment in peer.take()] == [b"new"]


def test_new_data_is_sent_during_recovery() -> None:
    """4, NextSeg, rule 2; the guest's window is the only bound."""
    pair, peer = opened()
    pair.host.produce(pair.host.stream, bytes(1460 * 6))
    pair.settle()
    segments = peer.take()
    peer.send(sack=((segments[1].sequence, segments[5].sequence),))
    pair.host.produce(pair.host.stream, b"new")
    pair.settle()
    assert b"new" in [segment.payload for segment in peer.take()]


def test_after_a_timeout_new_sack_is_used() -> None:
    """5.1."""
    pair, peer = opened()
    pair.host.produce(pair.host.stream, bytes(1460 * 6))
    pair.settle()
    segments = peer.take()
    pair.wait(0.25)
    assert [one.sequence for one in peer.take()] == [segments[0].sequence]
    peer.accept(segments[:1])
    answers = peer.send(sack=((segments[2].sequence, segments[4].sequence),))
    assert [one.sequence for one in answers] == [segments[1].sequence]
    peer.accept(segments[1:4])
    assert {one.sequence for one in peer.send()} <= {segments[4].sequence, segments[5].sequence}


# RFC 7323


def test_the_window_of_our_syn_is_not_scaled() -> None:
    """2.2."""
    pair = Pair()
    answer = ManualConnection(pair).open(scale=7)
    assert (answer.window, bool(answer.scale)) == (65535, True)
    peer = ManualConnection(pair, port=80, remote=OUTSIDER)
    pair.host.accept(OUTSIDER, 80, pair.now)
    pair.settle()
    [syn] = peer.take()
    assert (syn.flags, syn.window, bool(syn.scale)) == (SYN, 65535, True)


@pytest.mark.parametrize("size", [2000, 65535, 70_000, 1 << 20])
def test_the_scaled_window_is_never_more_than_there_is_room_for(size: int) -> None:
    """2.3: the field is the window shifted right, rounded down."""
    pair = Pair(make_config(limits=Limits(tcp_window=size)))
    peer = ManualConnection(pair)
    scale = peer.open().scale
    assert scale is not None
    pair.host.stream.blocked = True
    for sent in range(150, 1500, 150):
        answer = acknowledged(pair, peer, bytes(150))
        assert answer.acknowledgment == peer.sequence
        assert size - sent - (1 << scale) < answer.window << scale <= size - sent


def test_a_scale_in_a_segment_that_is_no_syn_changes_nothing() -> None:
    """2.2."""
    pair, peer = opened(window=3000)
    peer.send(raw_options=bytes((1, 3, 3, 7)))
    pair.host.produce(pair.host.stream, bytes(10_000))
    pair.settle()
    assert sum(len(segment.payload) for segment in peer.take()) == 2920  # the whole segments in 3000 bytes
