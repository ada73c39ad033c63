"""How a connection begins: the guest is answered when the host's connect has ended, and with its result."""

from __future__ import annotations

from dataclasses import replace
from errno import ECONNREFUSED, EHOSTUNREACH, ENETUNREACH, ETIMEDOUT
from itertools import pairwise

import pytest

from sansnet_core import CloseSocket, Endpoint, FlowOpened, LinkConfig, OpenStream, Reason, SocketId
from sansnet_core.testing import (
    OUTSIDER,
    SERVER,
    SERVER6,
    GuestTcpOptions,
    HostScript,
    ManualConnection,
    Pair,
    make_config,
)
from sansnet_core.testing.packets import ACK, FIN, PSH, RST, SYN, URG, Segment, icmp

_MODULUS = 1 << 32


@pytest.mark.parametrize(("family", "server"), [(4, SERVER), (6, SERVER6)])
def test_a_syn_opens_a_stream_to_what_the_guest_addressed(family: int, server: bytes) -> None:
    pair = Pair(script=HostScript(connect=None))
    pair.connect(port=443, family=family)
    pair.settle()

    guest = Endpoint(pair.guest.address(len(server)), 40001)
    destination = Endpoint(server, 443)
    assert pair.host.orders == [OpenStream(SocketId(1), destination, None, guest, destination)]
    assert pair.sent == []


def test_the_syn_ack_comes_with_the_hosts_connection_and_not_before() -> None:
    pair = Pair(script=HostScript(connect_delay=0.35))
    start = pair.now
    connection = pair.connect()
    pair.drive(lambda: connection.established)

    assert connection.established_at == pytest.approx(start + 0.35)
    assert pair.sent[0][0] == pytest.approx(start + 0.35)


def test_a_notice_tells_of_the_flow() -> None:
    pair = Pair()
    connection, stream = pair.established()

    (notice,) = (notice for notice in pair.notices if isinstance(notice, FlowOpened))
    assert notice.socket == stream.socket
    assert notice.protocol == 6
    assert notice.guest.address == pair.guest.ipv4
    assert notice.remote == notice.host == Endpoint(SERVER, 80)
    assert connection.established


def test_a_refusal_resets_with_the_number_that_the_guest_waits_for() -> None:
    pair = Pair(script=HostScript(connect=ECONNREFUSED))
    peer = ManualConnection(pair, sequence=0xFFFFFFFF)
    (reset,) = peer.syn()

    assert reset.flags == RST | ACK
    assert reset.acknowledgment == 0  # 0xFFFFFFFF + 1
    assert reset.sequence == 0
    assert pair.tcp_flows == 0


def test_a_guests_stack_takes_the_refusal_as_its_own() -> None:
    pair = Pair(script=HostScript(connect=ECONNREFUSED, connect_delay=0.1))
    connection = pair.connect()
    pair.drive(lambda: connection.refused)

    assert connection.retransmissions == 0


@pytest.mark.parametrize("errno", [EHOSTUNREACH, ENETUNREACH])
@pytest.mark.parametrize("family", [4, 6])
def test_every_other_failure_is_answered_too(errno: int, family: int) -> None:
    pair = Pair(script=HostScript(connect=errno))
    connection = pair.connect(family=family)
    pair.settle()

    assert connection.refused or pair.guest.others, "the guest would wait for its own timeout"


def test_a_syn_sent_again_while_the_host_connects_changes_nothing() -> None:
    pair = Pair(script=HostScript(connect_delay=10.0))
    connection = pair.connect()
    pair.drive(lambda: connection.established)

    assert connection.retransmissions >= 2
    assert len(pair.host.streams) == 1
    syn_acks = [segment for segment in connection.segments_received if segment.flags & SYN]
    assert len(syn_acks) == 1


def test_a_syn_sent_again_after_the_syn_ack_gets_the_same_one() -> None:
    pair = Pair()
    peer = ManualConnection(pair)
    (first,) = peer.syn()
    (second,) = peer.syn()

    assert not any(pair.network.statistics().drops.values())
    assert (second.flags, second.sequence, second.acknowledgment) == (first.flags, first.sequence, first.acknowledgment)
    assert (second.mss, second.scale, second.sack_permitted) == (first.mss, first.scale, first.sack_permitted)


def test_a_syn_with_another_number_while_the_host_connects_begins_anew() -> None:
    """A guest that restarted and uses the same port must not get answers for its old sequence number for ever."""
    pair = Pair(script=HostScript(connect_delay=1.0))
    assert ManualConnection(pair, sequence=1000).syn() == []
    peer = ManualConnection(pair, sequence=777_000)
    peer.syn()
    pair.wait(5.0)
    answers = peer.take()

    assert answers, "no answer at all"
    assert all(answer.flags & RST or answer.acknowledgment == 777_001 for answer in answers)


def test_the_syn_ack_is_sent_again_with_doubling_waits_and_then_given_up() -> None:
    pair = Pair()
    peer = ManualConnection(pair)
    peer.syn()
    pair.wait(300.0)
    times = [when for when, _ in pair.sent]
    answers = peer.take()

    syn_acks = [answer for answer in answers if answer.flags == SYN | ACK]
    assert 4 <= len(syn_acks) <= 8
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert gaps[0] == pytest.approx(1.0, abs=0.01)  # RFC 6298, 2.1
    assert all(later == pytest.approx(2 * earlier, rel=0.01) for earlier, later in pairwise(gaps))
    assert pair.host.orders[-1] == CloseSocket(SocketId(1), True, ETIMEDOUT)
    assert pair.tcp_flows == 0


def test_the_first_window_is_not_scaled() -> None:
    """RFC 7323, 2.2: the window field of a SYN or SYN-ACK is never scaled."""
    pair = Pair()
    peer = ManualConnection(pair)
    syn_ack = peer.open(scale=7, window=65535)
    assert syn_ack.window >= 14600
    pair.host.produce(pair.host.stream, bytes(200_000))
    pair.settle()
    segments = peer.take()

    assert sum(len(segment.payload) for segment in segments) <= 65535 << 7


def test_options_that_the_guest_did_not_offer_are_not_used() -> None:
    peer = ManualConnection(Pair())
    syn_ack = peer.open(scale=None, sack_permitted=False)

    assert syn_ack.scale is None
    assert not syn_ack.sack_permitted
    assert syn_ack.mss is not None


def test_options_that_the_guest_offered_are_used() -> None:
    peer = ManualConnection(Pair())
    syn_ack = peer.open(scale=0)

    assert syn_ack.scale is not None
    assert syn_ack.scale <= 14
    assert syn_ack.sack_permitted


@pytest.mark.parametrize(("mtu", "family", "expected"), [(1500, 4, 1460), (1500, 6, 1440), (65520, 4, 65480)])
def test_the_mss_announced_is_what_the_mtu_leaves(mtu: int, family: int, expected: int) -> None:
    pair = Pair(make_config(LinkConfig(mtu=mtu, max_frame_size=mtu + 14)))
    connection, _ = pair.established(family=family)

    assert connection.peer_mss == expected


@pytest.mark.parametrize(
    ("announced", "largest"), [(None, 536), (1460, 1460), (700, 700), (88, 88), (65535, 1460), (1461, 1460)]
)
def test_segments_are_never_larger_than_the_guest_says_and_the_mtu_allows(announced: int | None, largest: int) -> None:
    pair = Pair()
    peer = ManualConnection(pair)
    peer.open(mss=announced)
    pair.host.produce(pair.host.stream, bytes(10_000))
    pair.settle()

    assert max(len(segment.payload) for segment in peer.take()) == largest


@pytest.mark.parametrize("announced", [0, 1, 7, 40])
def test_an_absurdly_small_mss_does_not_make_absurdly_many_segments(announced: int) -> None:
    pair = Pair()
    peer = ManualConnection(pair)
    peer.open(mss=announced)
    pair.host.produce(pair.host.stream, bytes(8192))
    pair.settle()

    assert 1 <= len(peer.take()) <= 512


@pytest.mark.parametrize(
    "options",
    [
        b"\0\0\0\0",
        b"\1\1\1\1",
        bytes((3, 3, 15, 0)),  # a scale above 14: RFC 7323 2.3 says use 14
        bytes((3, 3, 255, 1)),
        bytes((2, 0, 0, 0)),  # length 0
        bytes((2, 1, 0, 0)),  # length 1
        bytes((2, 3, 5, 0)),  # an MSS of the wrong length
        bytes((2, 4, 5)) + b"\xff",
        bytes((2, 40, 5, 5)),  # beyond the header
        bytes((5, 10, 0, 0)) + bytes(8),  # SACK in a SYN
        bytes((254, 4, 1, 2)),
        bytes((8, 10)) + bytes(10),  # timestamps
        bytes((34, 2, 1, 1)),  # a fast open cookie request
        b"\1" * 39 + b"\2",  # kind without length
        bytes((2, 4, 5, 180)) * 10,  # ten times MSS
        bytes(40),
    ],
)
def test_absurd_options_do_not_hinder_a_connection(options: bytes) -> None:
    pair = Pair()
    peer = ManualConnection(pair)
    peer.open(raw_options=options)
    pair.host.produce(pair.host.stream, b"hello")
    pair.settle()

    assert peer.accept(peer.take()) == b"hello"


def test_a_scale_above_14_is_taken_as_14() -> None:
    pair = Pair()
    peer = ManualConnection(pair)
    peer.open(scale=15, window=100)
    assert peer.send(window=1) == []
    pair.host.produce(pair.host.stream, bytes(60_000))
    pair.settle()

    assert (1 << 14) - 1460 < sum(len(segment.payload) for segment in peer.take()) <= 1 << 14


@pytest.mark.parametrize("flags", [SYN | FIN, SYN | FIN | PSH | URG, SYN | RST, SYN | RST | ACK])
def test_nonsense_with_a_syn_opens_no_second_connection(flags: int) -> None:
    pair = Pair()
    peer = ManualConnection(pair)
    peer.send(flags)

    assert len(pair.host.streams) <= 1
    if flags & RST:
        assert not pair.host.streams


@pytest.mark.parametrize("flags", [ACK, ACK | PSH, ACK | FIN, SYN | ACK])
def test_a_segment_while_the_host_connects_changes_nothing(flags: int) -> None:
    pair = Pair(script=HostScript(connect_delay=1.0))
    peer = ManualConnection(pair)
    peer.syn()
    assert peer.send(flags, b"early", sequence=1001) == []
    pair.wait(2.0)
    assert {(answer.flags, answer.acknowledgment) for answer in peer.take()} == {(SYN | ACK, 1001)}
    assert not pair.host.stream.received
    assert not pair.host.stream.shutdown_ordered


@pytest.mark.parametrize("flags", [0, PSH, FIN])
@pytest.mark.parametrize("answered", [False, True])
def test_a_segment_without_ack_changes_nothing_before_the_handshake_is_complete(flags: int, answered: bool) -> None:
    pair = Pair(script=HostScript(connect_delay=0.0 if answered else 1.0))
    peer = ManualConnection(pair)
    peer.syn()
    peer.sequence = 1001
    assert peer.send(flags, b"early") == []
    assert pair.network.statistics().drops == {Reason.TCP_SEQUENCE: 1}
    assert [report.state for report in pair.network.flows()] == ["SYN_ACK_SENT" if answered else "SYN_RECEIVED"]


def test_data_in_the_syn_arrives_once_in_the_end() -> None:
    """The guest sends the data again if its first copy was not taken; nothing is lost."""
    pair = Pair()
    peer = ManualConnection(pair)
    (syn_ack,) = peer.send(SYN, b"early", sequence=1000, mss=1460)
    assert syn_ack.acknowledgment in (1001, 1006)
    peer.sequence, peer.expected = 1001, (syn_ack.sequence + 1) % (1 << 32)
    peer.send(ACK | PSH, b"early and late")
    pair.wait(1.0)

    assert bytes(pair.host.stream.received) == b"early and late"


@pytest.mark.parametrize("answer", [False, True], ids=["SYN", "SYN-ACK"])
def test_data_in_a_syn_is_not_taken_for_options(answer: bool) -> None:
    pair = Pair(script=HostScript(produce=bytes(3000)))
    peer = ManualConnection(pair, port=80, remote=OUTSIDER)
    if answer:
        pair.host.accept(OUTSIDER, 80, pair.now)
        pair.settle()
        peer.expected = (peer.take()[0].sequence + 1) % (1 << 32)
    answers = peer.send(SYN | ACK if answer else SYN, bytes((2, 4, 2, 0)), sequence=1000, mss=1000)
    peer.sequence, peer.expected = 1001, (answers[0].sequence + (not answer)) % (1 << 32)
    answers += peer.send()

    assert max(len(segment.payload) for segment in answers) == 1000


@pytest.mark.parametrize("distance", [-1, 1, 100_000])
def test_a_wrong_ack_of_the_syn_ack_is_reset(distance: int) -> None:
    """RFC 9293, 3.10.7.4: in SYN-RECEIVED an unacceptable ACK forms a reset with its own number."""
    pair = Pair()
    peer = ManualConnection(pair)
    (syn_ack,) = peer.syn()
    wrong = (syn_ack.sequence + 1 + distance) % (1 << 32)
    answers = peer.send(ACK, sequence=1001, acknowledgment=wrong)

    assert [(answer.flags, answer.sequence) for answer in answers] == [(RST, wrong)]
    peer.sequence, peer.expected = 1001, syn_ack.sequence + 1
    peer.data(b"still alive")
    assert bytes(pair.host.stream.received) == b"still alive"


@pytest.mark.parametrize(("flags", "distance"), [(ACK, -1), (RST, 1), (RST, 1000), (ACK | FIN, 1 << 20)])
def test_a_segment_out_of_place_is_acknowledged_before_the_handshake_is_complete(flags: int, distance: int) -> None:
    """RFC 9293, 3.10.7.4, and RFC 5961, 3.2: in SYN-RECEIVED as later."""
    pair = Pair()
    peer = ManualConnection(pair)
    (syn_ack,) = peer.syn()
    peer.expected = syn_ack.sequence + 1
    (answer,) = peer.send(flags, sequence=1001 + distance)

    assert (answer.flags, answer.sequence, answer.acknowledgment) == (ACK, peer.expected, 1001)
    assert answer.payload == answer.options() == b""
    peer.sequence = 1001
    peer.data(b"still alive")
    assert bytes(pair.host.stream.received) == b"still alive"


def test_data_with_the_ack_of_the_handshake_is_delivered() -> None:
    pair = Pair()
    peer = ManualConnection(pair)
    (syn_ack,) = peer.syn()
    peer.sequence, peer.expected = 1001, syn_ack.sequence + 1
    peer.data(b"GET /")

    assert bytes(pair.host.stream.received) == b"GET /"


def test_data_before_the_ack_of_the_handshake_is_not_lost_for_good() -> None:
    pair = Pair()
    peer = ManualConnection(pair)
    (syn_ack,) = peer.syn()
    peer.sequence, peer.expected = 1006, syn_ack.sequence + 1
    peer.send(ACK, b"second")
    peer.sequence = 1001
    peer.send(ACK, b"first")
    peer.sequence = 1006
    peer.send(ACK, b"second")
    pair.wait(0.5)

    assert bytes(pair.host.stream.received) == b"firstsecond"


@pytest.mark.parametrize("connected", [False, True])
def test_a_guest_that_gives_up_during_the_handshake_closes_the_hosts_socket(connected: bool) -> None:
    pair = Pair(script=HostScript(connect=0 if connected else None))
    peer = ManualConnection(pair)
    peer.syn()
    assert peer.send(RST, sequence=1001) == []

    assert pair.host.stream.closed
    assert pair.tcp_flows == 0
    assert pair.network.statistics().drops == {}


@pytest.mark.parametrize(("code", "errno"), [(3, ECONNREFUSED), (1, EHOSTUNREACH)])
def test_an_icmp_error_about_the_syn_ack_ends_the_handshake(code: int, errno: int) -> None:
    """Only with the right number (RFC 5927). The guest can connect again."""
    pair = Pair()
    peer = ManualConnection(pair)
    [syn_ack] = peer.syn()
    stream = pair.host.stream
    for sequence in (syn_ack.sequence - 1, syn_ack.sequence + 1, syn_ack.sequence):
        assert not stream.closed
        quoted = replace(syn_ack, sequence=sequence % _MODULUS).ip().emit()[:28]
        pair.guest.send(icmp(syn_ack.destination, syn_ack.source, 3, code, bytes(4) + quoted))
        pair.settle()

    assert pair.host.orders[-1] == CloseSocket(stream.socket, True, errno)
    assert pair.tcp_flows == 0
    assert peer.take() == []
    peer.open()


def test_initial_sequence_numbers_differ_by_connection_and_move_with_time() -> None:
    """RFC 6528: a clock of 4 us plus a keyed hash of the four-tuple."""
    pair = Pair()
    numbers = []
    for port in (50000, 50001, 50002):
        peer = ManualConnection(pair, port=port)
        numbers.append(peer.open().sequence)
        peer.send(RST)
    pair.wait(1.0)
    again = ManualConnection(pair, port=50000)
    later = again.open().sequence

    assert len(set(numbers)) == 3
    assert max(numbers) - min(numbers) > 1000, "consecutive ports must not have consecutive numbers"
    assert (later - numbers[0]) % (1 << 32) == pytest.approx(250_000, abs=5)


def test_another_secret_gives_other_numbers() -> None:
    numbers = {ManualConnection(Pair(secret=bytes([byte]) * 32)).open().sequence for byte in range(8)}

    assert len(numbers) == 8


def test_many_connections_at_once_do_not_meet() -> None:
    pair = Pair(script=HostScript(echo=True))
    connections = [pair.connect() for _ in range(200)]
    for number, connection in enumerate(connections):
        connection.send(b"%d" % number)
        connection.shutdown()
    pair.drive(lambda: all(connection.closed for connection in connections))

    assert [bytes(connection.received) for connection in connections] == [b"%d" % number for number in range(200)]


def test_the_same_port_to_two_servers_is_two_connections() -> None:
    pair = Pair()
    one = pair.guest.connect((SERVER, 80), port=40000, now=pair.now)
    two = pair.guest.connect((SERVER, 81), port=40000, now=pair.now)
    three = pair.guest.connect((bytes((192, 0, 2, 81)), 80), port=40000, now=pair.now)
    pair.drive(lambda: one.established and two.established and three.established)

    assert len(pair.host.streams) == 3


def test_a_port_of_zero_is_no_connection() -> None:
    pair = Pair()
    pair.guest.send(Segment(pair.guest.ipv4, 40000, SERVER, 0, flags=SYN).ip())
    pair.guest.send(Segment(pair.guest.ipv4, 0, SERVER, 80, flags=SYN).ip())
    pair.settle()

    assert pair.host.orders == []
    assert pair.sent == []


@pytest.mark.parametrize("destination", [b"\xff" * 4, bytes((224, 0, 0, 1)), bytes((239, 255, 255, 250))])
def test_a_syn_to_broadcast_or_multicast_is_silently_discarded(destination: bytes) -> None:
    """RFC 9293, 3.9.2.3 (MUST-57)."""
    pair = Pair()
    pair.guest.send(Segment(pair.guest.ipv4, 40000, destination, 80, flags=SYN).ip())
    pair.settle()

    assert pair.host.orders == []
    assert pair.sent == []


@pytest.mark.parametrize("destination", [bytes((127, 0, 0, 1)), bytes((0, 0, 0, 0)), bytes((127, 255, 0, 1))])
def test_the_hosts_loopback_is_closed(destination: bytes) -> None:
    pair = Pair()
    pair.guest.send(Segment(pair.guest.ipv4, 40000, destination, 80, flags=SYN).ip())
    pair.settle()

    assert pair.host.orders == []


def test_a_connection_works_with_the_largest_window_and_the_smallest() -> None:
    pair = Pair(script=HostScript(echo=True))
    large = pair.connect(GuestTcpOptions(window=16 << 20, scale=8))
    small = pair.connect(GuestTcpOptions(window=300, scale=None))
    for connection in (large, small):
        connection.send(bytes(5000))
        connection.shutdown()
    pair.drive(lambda: large.closed and small.closed)

    assert large.received == small.received == bytes(5000)
