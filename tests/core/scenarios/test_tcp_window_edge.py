"""Segments at, across and beyond the edges of the window that the guest was offered (RFC 9293, 3.10.7.4; RFC 5961)."""

from __future__ import annotations

import pytest

from sansnet_core import Limits, LinkConfig, Reason
from sansnet_core.testing import GuestTcpOptions, ManualConnection, Pair, make_config
from sansnet_core.testing.packets import ACK, FIN, PSH, RST, SYN, SegmentFields

WINDOW = 2000


LARGE = LinkConfig(mtu=65520, max_frame_size=65535)


def _small() -> tuple[Pair, ManualConnection]:
    """A connection with a window of 2000 bytes to a host that takes nothing."""
    pair = Pair(make_config(LARGE, Limits(tcp_window=WINDOW)))
    peer = ManualConnection(pair)
    peer.open()
    pair.host.stream.blocked = True
    return pair, peer


def _unblock(pair: Pair) -> None:
    pair.host.stream.blocked = False
    pair.settle()


@pytest.mark.parametrize("before", [0, 1, 1999])
def test_a_fin_just_behind_a_full_window_is_trimmed_and_taken_when_repeated(before: int) -> None:
    """It would have moved RCV.NXT beyond the window."""
    pair, peer = _small()
    if before:
        peer.data(bytes(before))
    (answer,) = peer.send(ACK | FIN | PSH, bytes(WINDOW - before))
    assert (answer.acknowledgment, answer.window) == (peer.first + 1 + WINDOW, 0)
    assert not pair.host.stream.shutdown_ordered

    peer.sequence = peer.first + 1 + WINDOW
    _unblock(pair)
    assert peer.take()[-1].window > 0
    peer.send(ACK | FIN)
    assert pair.host.stream.shutdown
    assert bytes(pair.host.stream.received) == bytes(WINDOW)


def test_the_largest_window_without_scaling() -> None:
    pair = Pair()
    peer = ManualConnection(pair)
    peer.open(scale=None)
    pair.host.stream.blocked = True
    for _ in range(65535 // 1000):
        peer.data(bytes(1000))
    (answer,) = peer.send(ACK | FIN, bytes(535))
    assert (answer.acknowledgment, answer.window) == (peer.sequence + 535, 0)
    assert not pair.host.stream.shutdown_ordered


def test_the_largest_window_with_scaling() -> None:
    pair = Pair(make_config(LARGE))
    peer = ManualConnection(pair)
    edge = peer.first + 1 + peer.open(mss=65480, scale=14).window
    pair.host.stream.blocked = True
    while peer.sequence < edge:
        size = min(60_000, edge - peer.sequence)
        last = peer.sequence + size == edge > 4 << 20
        for answer in peer.send(ACK | FIN if last else ACK, bytes(size)):
            edge = max(edge, answer.acknowledgment + (answer.window << 7))
        peer.sequence += size
        pair.wait(0.01)
        for answer in peer.take():
            edge = max(edge, answer.acknowledgment + (answer.window << 7))
    assert edge > 4 << 20
    assert not pair.host.stream.shutdown_ordered


@pytest.mark.parametrize("size", [0, 1, 100])
def test_a_fin_at_the_edge_of_a_closed_window_is_not_taken(size: int) -> None:
    pair, peer = _small()
    peer.data(bytes(WINDOW))
    for _ in range(3):
        (answer,) = peer.send(ACK | FIN, bytes(size))
        assert (answer.acknowledgment, answer.window) == (peer.sequence, 0)
    assert not pair.host.stream.shutdown_ordered


def test_a_segment_without_ack_at_a_closed_window_is_answered() -> None:
    """RFC 9293, 3.10.7.4: its sequence number is checked first."""
    _, peer = _small()
    peer.data(bytes(WINDOW))
    (answer,) = peer.send(PSH, b"beyond the window")
    assert (answer.acknowledgment, answer.window) == (peer.sequence, 0)


def test_a_window_is_not_opened_by_a_few_bytes() -> None:
    """RFC 9293, 3.8.6.2.2: silly windows are avoided; half of a small one is enough."""
    pair, peer = _small()
    stream = pair.host.stream
    peer.data(bytes(WINDOW))
    pair.network.stream_sent(stream.socket, WINDOW // 2 - 1, pair.now)
    assert pair.network.take_frames() == []
    pair.network.stream_sent(stream.socket, 1, pair.now)
    assert len(pair.network.take_frames()) == 1


def test_a_reset_at_a_closed_window_counts() -> None:
    pair, peer = _small()
    peer.data(bytes(WINDOW))
    peer.send(RST)
    assert pair.tcp_flows == 0


@pytest.mark.parametrize("beyond", [0, 1, 1000])
def test_a_fin_out_of_order_and_beyond_the_window_is_forgotten(beyond: int) -> None:
    pair, peer = _small()
    start = peer.sequence
    peer.send(ACK | FIN, bytes(1000 + beyond), sequence=start + 1000)
    peer.send(ACK, bytes(1000))
    assert not pair.host.stream.shutdown_ordered

    peer.sequence = start + WINDOW
    _unblock(pair)
    peer.send(ACK | FIN, bytes(beyond))
    assert pair.host.stream.shutdown
    assert bytes(pair.host.stream.received) == bytes(WINDOW + beyond)


def test_a_fin_out_of_order_but_inside_the_window_waits_for_its_turn() -> None:
    pair, peer = _small()
    peer.send(ACK | FIN, bytes(999), sequence=peer.sequence + 1000)
    peer.send(ACK, bytes(1000))
    _unblock(pair)

    assert pair.host.stream.shutdown
    assert bytes(pair.host.stream.received) == bytes(1999)


def test_a_fin_before_data_that_came_already_does_not_end_the_stream_twice() -> None:
    """A contradiction: data that was received cannot be behind the end."""
    pair, peer = _small()
    peer.send(ACK, bytes(100), sequence=peer.sequence + 100)
    peer.send(ACK | FIN, sequence=peer.sequence + 50)
    peer.data(bytes(100))
    peer.sequence += 100
    assert not pair.host.stream.shutdown_ordered
    _unblock(pair)
    peer.send(ACK | FIN)

    assert pair.host.stream.shutdown
    assert bytes(pair.host.stream.received) == bytes(200)


def test_a_repeated_fin_is_acknowledged_each_time() -> None:
    pair, peer = _small()
    assert peer.send(ACK | FIN) == []  # an acknowledgment that may wait for the host's FIN
    for _ in range(5):
        (answer,) = peer.send(ACK | FIN)
        assert answer.acknowledgment == peer.sequence + 1
    assert pair.host.stream.shutdown_ordered


def test_an_acknowledgment_at_the_right_edge_counts() -> None:
    """The guest has filled the window and lost the first segment: its SND.NXT is the edge."""
    pair, peer = _small()
    edge = peer.sequence + WINDOW
    pair.host.produce(pair.host.stream, bytes(500))
    pair.settle()
    peer.accept(peer.take())
    peer.send(ACK, bytes(1000), sequence=edge - 1000, acknowledgment=peer.expected - 500)
    assert pair.network.statistics().tcp_held >= 1500

    assert peer.send(ACK, sequence=edge) == []
    assert pair.network.statistics().tcp_held < 1500
    assert Reason.TCP_SEQUENCE not in pair.network.statistics().drops


def test_an_acknowledgment_with_data_at_the_edge_of_a_closed_window_counts() -> None:
    pair, peer = _small()
    peer.data(bytes(WINDOW))
    pair.host.produce(pair.host.stream, bytes(500))
    pair.settle()
    peer.accept(peer.take())
    peer.send(ACK | FIN, b"beyond the window")

    assert pair.network.statistics().tcp_held == WINDOW


@pytest.mark.parametrize(
    ("flags", "fields"),
    [
        (ACK, SegmentFields(sequence=900)),
        (ACK, SegmentFields(sequence=50_000)),
        (ACK, SegmentFields(acknowledgment=1)),
        (SYN, SegmentFields()),
        (RST | ACK, SegmentFields(sequence=1500)),
    ],
    ids=str,
)
def test_answers_to_what_is_not_acceptable_are_limited(flags: int, fields: SegmentFields) -> None:
    """Otherwise two stacks that find each other's acknowledgments too old would never stop (RFC 5961, 7)."""
    pair, peer = _small()
    assert sum(len(peer.send(flags, **fields)) for _ in range(100)) == 1
    pair.wait(0.6)
    peer.take()

    assert len(peer.send(flags, **fields)) == 1


def test_repeated_data_is_acknowledged_each_time() -> None:
    """The guest's timer waits for that."""
    _, peer = _small()
    first = peer.sequence
    peer.data(b"data")

    assert all(len(peer.send(ACK, b"data", sequence=first)) == 1 for _ in range(10))


def test_a_syn_with_fin_opens_nothing_and_is_not_answered() -> None:
    pair = Pair()
    peer = ManualConnection(pair)
    assert peer.send(SYN | FIN, mss=1460) == []

    assert pair.host.orders == []
    assert pair.network.statistics().drops[Reason.TCP_FLAGS] == 1


def test_a_syn_with_fin_does_not_end_a_connection_in_time_wait() -> None:
    pair = Pair()
    peer = ManualConnection(pair)
    peer.open()
    pair.host.end(pair.host.stream)
    pair.settle()
    peer.accept(peer.take())
    peer.send(ACK | FIN)
    (flow,) = pair.network.flows()
    assert flow.state == "TIME_WAIT"
    peer.send(SYN | FIN, sequence=peer.sequence + 1000, mss=1460)

    assert pair.network.flows() == [flow]


@pytest.mark.parametrize("window", [0, 1, 65535])
def test_a_reset_before_the_handshake_is_complete_has_the_number_that_the_guest_expects(window: int) -> None:
    """The guest's window counts data, not our SYN: even with a window of 0 the number behind the SYN is expected."""
    pair = Pair()
    peer = ManualConnection(pair)
    (syn_ack,) = peer.syn(window=window)
    pair.host.fail(pair.host.stream, 104, pair.now)
    pair.settle()
    (reset,) = peer.take()

    assert reset.flags == RST | ACK
    assert reset.sequence == (syn_ack.sequence + 1) % (1 << 32)


@pytest.mark.parametrize("mtu", range(68, 82))
def test_acknowledgments_with_sack_fit_into_the_mtu(mtu: int) -> None:
    pair = Pair(make_config(LinkConfig(mtu=mtu, max_frame_size=1514)))
    peer = ManualConnection(pair)
    peer.open(mss=88)
    for number in range(1, 10):
        peer.send(ACK, b"x", sequence=peer.sequence + 2 * number)
    acknowledgments = [frame for _, frame in pair.sent if len(frame) > 60]

    assert acknowledgments
    assert max(map(len, acknowledgments)) <= 14 + mtu


def test_the_byte_of_a_probe_is_sent_again_as_soon_as_the_window_opens() -> None:
    pair = Pair()
    peer = ManualConnection(pair)
    peer.window = 1000
    peer.open()
    pair.host.produce(pair.host.stream, bytes(1000))
    pair.settle()
    peer.accept(peer.take())
    peer.window = 0
    peer.send()
    pair.host.produce(pair.host.stream, b"probe and more")
    pair.wait(1.5)
    assert {probe.payload for probe in peer.take()} == {b"p"}
    peer.window = 1000

    answers = peer.send()  # which does not acknowledge the byte: it was dropped
    assert peer.accept(answers) == b"probe and more", "not before the retransmission timer"


def test_one_sack_is_not_answered_with_thousands_of_frames() -> None:
    """4 MiB in flight in segments of 88 bytes."""
    pair = Pair()
    peer = ManualConnection(pair)
    peer.open(mss=1, scale=7)
    peer.window = 65535
    peer.send()
    size = 4 << 20
    pair.network.stream_received(pair.host.stream.socket, bytes(size), pair.now)
    pair.settle()
    pair.sent.clear()
    peer.take()
    first = peer.expected
    repeated = 0
    for number in range(1, 2000):
        block = first + 88 * number, first + 88 * number + 88
        answers = peer.send(sack=(((first + size - 880) % (1 << 32), (first + size) % (1 << 32)), block))
        assert len(answers) <= 20, f"{len(answers)} frames for one"
        repeated += len(answers)
    assert repeated > 1000


def test_a_guest_repeats_a_fin_until_a_slow_host_has_room() -> None:
    pair = Pair(make_config(limits=Limits(tcp_window=3000)))
    pair.host.script.accept = 500
    pair.host.script.accept_interval = 1.0
    connection = pair.connect(GuestTcpOptions())
    connection.send(bytes(20_000))
    connection.shutdown()
    pair.drive(lambda: pair.host.stream.shutdown)

    assert bytes(pair.host.stream.received) == bytes(20_000)


@pytest.mark.parametrize("mss", [88, 1460])
def test_a_large_hole_is_filled_by_each_segment_once(mss: int) -> None:
    """The guest has received only the last segments, and acknowledges each that arrives."""
    pair = Pair()
    peer = ManualConnection(pair)
    peer.open(mss=mss, scale=7)
    peer.window = 65535
    peer.send()
    size = 300 * mss
    pair.network.stream_received(pair.host.stream.socket, bytes(size), pair.now)
    pair.settle()
    peer.take()
    first = peer.expected
    block = (first + size - 5 * mss) % (1 << 32), (first + size) % (1 << 32)
    waiting = peer.send(sack=(block,))
    repeated: list[int] = []
    while waiting:
        segment = waiting.pop(0)
        repeated.append(segment.sequence)
        waiting += peer.send(acknowledgment=(segment.sequence + len(segment.payload)) % (1 << 32), sack=(block,))

    assert repeated == [(first + mss * number) % (1 << 32) for number in range(295)]
