"""Lost frames: timers (RFC 6298), fast retransmit, and SACK in both directions."""

from __future__ import annotations

from itertools import pairwise

import pytest

from sansnet_core import Limits
from sansnet_core.proto.tcp.receiving import DELAYED_ACK
from sansnet_core.testing import GuestTcpOptions, Impairment, ManualConnection, Netem, Pair, make_config
from sansnet_core.testing.packets import ACK, FIN, PSH, SYN, Segment


def _opened(*, sack: bool = True, round_trip: float = 0.0) -> tuple[Pair, ManualConnection]:
    """A connection whose round-trip time is measured once in the handshake, if it is not 0."""
    pair = Pair(down=Impairment(delay=round_trip))
    peer = ManualConnection(pair)
    if not round_trip:
        peer.open(sack_permitted=sack)
        return pair, peer
    peer.syn(sack_permitted=sack)
    pair.wait(round_trip)
    (syn_ack,) = peer.take()
    peer.sequence, peer.expected = 1001, (syn_ack.sequence + 1) % (1 << 32)
    peer.send()
    pair.wait(round_trip)
    peer.take()
    return pair, peer


def _times(pair: Pair, start: int) -> list[float]:
    return [when for when, _ in pair.sent[start:]]


def test_the_timeout_follows_the_measured_round_trip() -> None:
    """RFC 6298, 2.2: SRTT + 4 * RTTVAR, which after one sample is three times the sample."""
    pair, _ = _opened(round_trip=0.4)
    before = len(pair.sent)
    pair.host.produce(pair.host.stream, b"lost")
    pair.wait(3.0)
    first, second, *_ = _times(pair, before)

    assert second - first == pytest.approx(1.2, rel=0.02)


def test_each_timeout_doubles_the_next() -> None:
    pair, peer = _opened()
    before = len(pair.sent)
    pair.host.produce(pair.host.stream, b"lost")
    pair.wait(30.0)
    gaps = [later - earlier for earlier, later in pairwise(_times(pair, before))]
    segments = peer.take()

    assert 0.2 <= gaps[0] <= 1.0
    assert all(later == pytest.approx(2 * earlier, rel=0.01) for earlier, later in pairwise(gaps))
    assert {(segment.sequence, segment.payload) for segment in segments} == {(peer.expected, b"lost")}


def test_a_retransmitted_syn_ack_is_not_timed() -> None:
    """Karn's algorithm (RFC 6298, 3): the acknowledgment may be that of either transmission."""
    pair = Pair()
    peer = ManualConnection(pair)
    peer.syn()
    pair.wait(6.5)  # sent at 0, 1 and 3 s
    syn_ack, *_ = peer.take()
    peer.sequence, peer.expected = 1001, (syn_ack.sequence + 1) % (1 << 32)
    peer.send()
    before = len(pair.sent)
    pair.host.produce(pair.host.stream, b"lost")
    pair.wait(30.0)
    first, second, *_ = _times(pair, before)

    assert second - first <= 3.01  # RFC 6298, 5.7


def test_retransmitted_data_is_not_timed() -> None:
    pair, peer = _opened()
    pair.host.produce(pair.host.stream, b"lost twice")
    pair.wait(0.9)
    answers = peer.take()
    assert len(answers) >= 2
    peer.expected += len(answers[0].payload)
    peer.send()
    before = len(pair.sent)
    pair.host.produce(pair.host.stream, b"lost")
    pair.wait(10.0)
    first, second, *_ = _times(pair, before)

    assert second - first <= 1.7


def test_a_round_trip_that_becomes_longer_than_the_timeout_is_measured() -> None:
    """RFC 6298, 5: the backoff lasts until then. Otherwise all data would be sent twice, and never be measured."""
    pair = Pair(down=Impairment(delay=0.001))
    _, stream = pair.established()
    pair.down = Netem(Impairment(delay=0.5), 1)
    frames = []
    for _ in range(8):
        before = len(pair.sent)
        pair.host.produce(stream, b"answer")
        pair.wait(5.0)
        frames.append(len(pair.sent) - before)

    assert frames[0] > 1
    assert frames[-4:] == [1] * 4


@pytest.mark.parametrize("sack", [False, True])
def test_a_stream_is_sent_once_after_its_round_trip_became_longer_than_the_timeout(sack: bool) -> None:
    """The same if data is always in flight: an acknowledgment of a part is no reason to end the backoff."""
    pair = Pair(down=Impairment(delay=0.001))
    connection, stream = pair.established(GuestTcpOptions(window=1 << 16, sack=sack))
    pair.down = Netem(Impairment(delay=0.3), 1)
    before = len(pair.sent)
    pair.host.produce(stream, bytes(1 << 20))
    pair.drive(lambda: len(connection.received) == 1 << 20)
    repeated = sum(len(frame) for _, frame in pair.sent[before:]) - (1 << 20)

    assert repeated < 1 << 18


def test_an_acknowledgment_of_something_new_starts_the_timer_again() -> None:
    """RFC 6298, 5.3."""
    pair, peer = _opened()
    pair.host.produce(pair.host.stream, bytes(2920))
    pair.settle()
    first, second = peer.take()
    before = len(pair.sent)
    pair.wait(0.15)
    peer.accept([first])
    peer.send()
    pair.wait(0.15)
    assert len(pair.sent) == before
    pair.wait(1.0)

    assert peer.take()[0].sequence == second.sequence


@pytest.mark.parametrize("sack", [False, True])
def test_three_duplicates_bring_the_segment_back_at_once(sack: bool) -> None:
    """RFC 5681, 3.2; RFC 6675 if they report what arrived beyond the gap."""
    pair, peer = _opened(sack=sack)
    pair.host.produce(pair.host.stream, bytes(range(146)) * 60)
    pair.settle()
    segments = peer.take()
    assert len(segments) == 6
    for count in (1, 2, 3):
        blocks = ((segments[1].sequence, segments[count].sequence + 1460),) if sack else ()
        answers = peer.send(sack=blocks)
        if count < 3:
            assert answers == []

    repeated = [segment for segment in [*answers, *peer.take()] if segment.payload]
    assert [(one.sequence, one.payload) for one in repeated] == [(segments[0].sequence, segments[0].payload)]


def test_with_sack_acknowledgments_without_news_are_no_duplicates() -> None:
    """RFC 6675, 2: they answer needless retransmissions, or come from a guest that could not keep the data."""
    pair, peer = _opened()
    pair.host.produce(pair.host.stream, bytes(14_600))
    pair.settle()
    segments = peer.take()
    for _ in range(5):
        assert peer.send() == []
    reported = ((segments[1].sequence, segments[1].sequence + 1460),)
    for _ in range(5):
        assert peer.send(sack=reported) == []


def test_only_the_holes_are_sent_again() -> None:
    """RFC 6675: nothing that SACK reports is sent again."""
    pair, peer = _opened()
    pair.host.produce(pair.host.stream, bytes(14_600))
    pair.settle()
    segments = peer.take()
    assert len(segments) == 10
    lost = {0, 3, 4, 7}
    blocks = ((1, 3), (5, 7), (8, 10))
    known: list[tuple[int, int]] = []
    answers: list[Segment] = []
    for low, high in blocks:
        for index in range(low, high):
            known = [block for block in known if block[0] != segments[low].sequence]
            known.insert(0, (segments[low].sequence, segments[index].sequence + 1460))
            answers += peer.send(sack=tuple(known))
    repeated = [segment.sequence for segment in answers if segment.payload]

    assert sorted(repeated) == sorted(segments[index].sequence for index in lost)


def test_each_hole_is_sent_again_once_however_many_duplicates_come() -> None:
    pair, peer = _opened()
    pair.host.produce(pair.host.stream, bytes(14_600))
    pair.settle()
    segments = peer.take()
    answers: list[Segment] = []
    for index in range(1, 10):
        answers += peer.send(sack=((segments[1].sequence, segments[index].sequence + 1460),))
    for _ in range(20):
        answers += peer.send(sack=((segments[1].sequence, segments[9].sequence + 1460),))

    assert [segment.sequence for segment in answers if segment.payload] == [segments[0].sequence]


def test_without_sack_each_partial_acknowledgment_brings_one_segment() -> None:
    """RFC 6582, 3.2: further duplicates do not, since what follows the hole may have arrived."""
    pair, peer = _opened(sack=False)
    pair.host.produce(pair.host.stream, bytes(14_600))
    pair.settle()
    segments = peer.take()
    answers: list[Segment] = []
    for _ in range(9):
        answers += peer.send()

    assert [segment.sequence for segment in answers if segment.payload] == [segments[0].sequence]


def test_a_partial_acknowledgment_beyond_all_sack_repeats_nothing() -> None:
    """Data that is not reported may be under way (RFC 6675): only holes below reported data count as lost."""
    pair, peer = _opened()
    pair.host.produce(pair.host.stream, bytes(14_600))
    pair.settle()
    segments = peer.take()
    answers: list[Segment] = []
    for index in range(1, 6):
        answers += peer.send(sack=((segments[1].sequence, segments[index].sequence + 1460),))
    peer.accept(segments[:6])
    answers += peer.send()

    assert [segment.sequence for segment in answers if segment.payload] == [segments[0].sequence]


def test_a_gap_is_reported_also_while_data_flows_the_other_way() -> None:
    """RFC 2018, 4: SACK is in every segment that does not acknowledge everything that is held."""
    pair, peer = _opened()
    stream = pair.host.stream
    reports: list[Segment] = []
    for number in range(4):
        pair.host.produce(stream, b"answer")
        reports += peer.send(ACK, bytes(1000), sequence=peer.sequence + 1000 + 1000 * number)

    assert any(segment.sack or not segment.payload for segment in reports)
    assert sum(bool(segment.sack) for segment in reports) >= 3


def test_after_a_timeout_sack_is_not_trusted() -> None:
    """RFC 2018, 8: the guest may have discarded what it reported."""
    pair, peer = _opened()
    pair.host.produce(pair.host.stream, bytes(2920))
    pair.settle()
    first, second = peer.take()
    peer.send(sack=((second.sequence, second.sequence + 1460),))
    pair.wait(2.0)
    peer.accept([first])
    peer.take()
    peer.send()
    pair.wait(5.0)

    assert second.sequence in [segment.sequence for segment in peer.take()]


@pytest.mark.parametrize(
    "block", [(0, 0), (5000, 4000), (-5000, -4000), (0, 1 << 31), (10_000_000, 10_001_000), (-1000, 1_000_000)]
)
def test_absurd_sack_blocks_do_no_harm(block: tuple[int, int]) -> None:
    pair, peer = _opened()
    pair.host.produce(pair.host.stream, bytes(range(100)) * 30)
    pair.settle()
    segments = peer.take()
    base = peer.expected
    wrapped = ((base + block[0]) % (1 << 32), (base + block[1]) % (1 << 32))
    for _ in range(5):
        peer.send(sack=(wrapped,))
    pair.wait(1.0)
    peer.take()
    peer.accept(segments)
    peer.send()
    pair.host.produce(pair.host.stream, b"more")
    pair.settle()

    assert peer.accept(peer.take()) == b"more"


def test_sack_of_a_repeated_segment_counts() -> None:
    pair, peer = _opened()
    pair.host.produce(pair.host.stream, bytes(4380))
    pair.settle()
    first, second, third = peer.take()
    received = ((second.sequence, third.sequence + 1460),)
    peer.send(sequence=peer.sequence - 1, sack=received)
    pair.wait(3.0)

    assert {segment.sequence for segment in peer.take()} == {first.sequence}


def test_sack_that_was_not_agreed_on_is_ignored() -> None:
    pair, peer = _opened(sack=False)
    pair.host.produce(pair.host.stream, bytes(4380))
    pair.settle()
    segments = peer.take()
    peer.send(sack=((segments[1].sequence, segments[2].sequence + 1460),))
    pair.wait(1.0)
    peer.take()
    peer.expected = segments[1].sequence
    peer.send()
    pair.wait(3.0)

    assert segments[1].sequence in [segment.sequence for segment in peer.take()]


def test_a_gap_is_reported_by_sack_at_once() -> None:
    """RFC 2018, 4: the first block holds what came last; RFC 5681, 4.2: immediately."""
    _, peer = _opened()
    start = peer.sequence
    reports = [
        peer.send(ACK, bytes(1000), sequence=start + offset)[-1]
        for offset in (2000, 5000, 8000, 3000)
    ]  # fmt: skip

    assert [report.acknowledgment for report in reports] == [start] * 4
    assert reports[0].sack == ((start + 2000, start + 3000),)
    assert reports[1].sack[0] == (start + 5000, start + 6000)
    assert set(reports[1].sack) == {(start + 5000, start + 6000), (start + 2000, start + 3000)}
    assert reports[2].sack[0] == (start + 8000, start + 9000)
    assert reports[3].sack[0] == (start + 2000, start + 4000)
    assert len(reports[3].sack) == 3


def test_no_more_than_four_blocks_are_reported_and_the_newest_is_first() -> None:
    _, peer = _opened()
    start = peer.sequence
    for number in range(1, 10):
        (report,) = peer.send(ACK, bytes(100), sequence=start + 200 * number)

    assert len(report.sack) <= 4
    assert report.sack[0] == (start + 1800, start + 1900)


def test_a_gap_is_reported_without_sack_if_the_guest_did_not_offer_it() -> None:
    _, peer = _opened(sack=False)
    reports = peer.send(ACK, b"x", sequence=peer.sequence + 1000)

    assert [(report.acknowledgment, report.sack) for report in reports] == [(peer.sequence, ())]


def _beyond_a_gap(pair: Pair, peer: ManualConnection, *numbers: int) -> list[Segment]:
    """The answers to segments of 1000 bytes that the guest sends in one batch."""
    for number in numbers:
        pair.guest.send(peer.segment(ACK, bytes(1000), sequence=peer.sequence + 1000 * number).ip())
    pair.settle()
    return [answer for answer in peer.take() if not answer.payload]


@pytest.mark.parametrize("sack", [False, True])
@pytest.mark.parametrize(("late", "duplicates"), [(1, 1), (2, 2), (3, 3), (29, 3)])
def test_a_batch_brings_as_many_duplicates_as_a_fast_retransmit_needs(late: int, duplicates: int, sack: bool) -> None:
    """RFC 5681, 4.2 and 3.2: otherwise only the guest's timer would repair the loss. Many count them with SACK too."""
    pair, peer = _opened(sack=sack)
    answers = _beyond_a_gap(pair, peer, *range(1, late + 1))
    assert [answer.acknowledgment for answer in answers] == [peer.sequence] * duplicates

    answers = _beyond_a_gap(pair, peer, late + 1)
    assert [answer.acknowledgment for answer in answers] == [peer.sequence]


def test_duplicates_follow_the_acknowledgment_of_what_came_before_the_gap() -> None:
    pair, peer = _opened(sack=False)
    answers = _beyond_a_gap(pair, peer, 0, 2, 3, 4, 5)
    assert [answer.acknowledgment for answer in answers] == [peer.sequence + 1000] * 4

    answers = _beyond_a_gap(pair, peer, 0)
    assert [answer.acknowledgment for answer in answers] == [peer.sequence + 1000]


def test_the_reports_of_a_batch_name_other_ranges() -> None:
    """RFC 2018, 4: each names those that came last when it would have been sent by itself; the last one the newest."""
    pair, peer = _opened()
    answers = _beyond_a_gap(pair, peer, *range(1, 25, 2))
    firsts = [[(first - peer.sequence) // 1000 for first, _ in answer.sack] for answer in answers]
    assert firsts == [[7, 5, 3, 1], [15, 13, 11, 9], [23, 21, 19, 17]]


@pytest.mark.parametrize("sack", [False, True])
def test_a_retransmission_does_not_replace_the_report_of_a_gap(sack: bool) -> None:
    """RFC 2018, 4: frames are lost in both directions, and the guest reports its loss behind data of its own."""
    pair, peer = _opened(sack=sack)
    pair.host.produce(pair.host.stream, bytes(14_600))
    pair.settle()
    sent = peer.take()
    pair.guest.send(peer.segment(ACK, bytes(1000), sequence=peer.sequence + 1000).ip())
    blocks = ((sent[1].sequence, sent[6].sequence),) if sack else ()
    for _ in range(3):
        pair.guest.send(peer.segment(ACK, sequence=peer.sequence + 2000, sack=blocks).ip())
    pair.settle()
    answers = peer.take()

    assert [answer.sequence for answer in answers if answer.payload] == [sent[0].sequence]
    (report,) = [answer for answer in answers if not answer.payload]
    assert report.acknowledgment == peer.sequence
    assert report.sack == (((peer.sequence + 1000, peer.sequence + 2000),) if sack else ())


def test_a_filled_gap_is_acknowledged_at_once() -> None:
    pair, peer = _opened()
    peer.send(ACK, b"world", sequence=peer.sequence + 6)
    answers = peer.send(ACK, b"hello ")

    assert len(answers) == 1, "RFC 5681, 4.2"
    (answer,) = answers
    assert answer.acknowledgment == peer.sequence + 11
    assert answer.sack == ()
    assert bytes(pair.host.stream.received) == b"hello world"


def test_overlapping_data_is_delivered_once() -> None:
    pair, peer = _opened()
    text = b"abcdefghijklmnopqrstuvwxyz"
    start = peer.sequence
    for first, last in ((3, 6), (10, 14), (5, 12), (20, 26), (2, 21), (0, 1), (0, 26), (0, 3)):
        peer.send(ACK, text[first:last], sequence=start + first)

    assert bytes(pair.host.stream.received) == text


def test_old_data_is_acknowledged_and_not_delivered_again() -> None:
    pair, peer = _opened()
    start = peer.sequence
    peer.data(b"once")
    pair.wait(0.1)
    peer.take()
    answers = peer.send(ACK | PSH, b"once", sequence=start)

    assert [answer.acknowledgment for answer in answers] == [peer.sequence]
    assert bytes(pair.host.stream.received) == b"once"


def test_old_data_with_new_data_behind_is_taken_in_part() -> None:
    pair, peer = _opened()
    start = peer.sequence
    peer.data(b"once ")
    peer.send(ACK | PSH, b"once upon a time", sequence=start)

    assert bytes(pair.host.stream.received) == b"once upon a time"


def test_acknowledgments_are_coalesced_and_delayed_but_not_for_long() -> None:
    """RFC 9293, 3.8.6.3: for every second full segment at least, and within half a second."""
    pair, peer = _opened()
    for number in range(10):
        pair.guest.send(peer.segment(ACK, bytes(1460), sequence=peer.sequence + 1460 * number).ip())
    pair.settle()
    answers = peer.take()
    assert 1 <= len(answers) <= 5
    assert answers[-1].acknowledgment >= peer.sequence + 1460 * 9
    peer.sequence += 14_600
    peer.data(b"one byte more or less")
    pair.wait(0.5)

    assert peer.take()[-1].acknowledgment == peer.sequence


def test_more_data_does_not_delay_an_acknowledgment_further() -> None:
    pair, peer = _opened()
    other = ManualConnection(pair, port=peer.port + 1)
    other.open()
    assert peer.data(b"first") == []
    pair.wait(DELAYED_ACK / 2)
    assert other.data(b"later") == []
    pair.wait(DELAYED_ACK / 4)
    assert peer.data(b"more") == []
    pair.wait(DELAYED_ACK / 3)

    assert [answer.acknowledgment for answer in peer.take()] == [peer.sequence]


def test_the_full_segments_of_a_guest_with_a_smaller_mtu_are_acknowledged() -> None:
    """RFC 1122, 4.2.3.2: every second full segment; the guest's MSS tells how large these are."""
    pair = Pair(make_config(limits=Limits(tcp_window=1 << 20)))
    peer = ManualConnection(pair)
    peer.open(mss=500)
    assert peer.data(bytes(500)) == []
    [answer] = peer.data(bytes(500))
    assert answer.acknowledgment == peer.sequence


def test_an_answer_of_the_host_carries_the_acknowledgment() -> None:
    pair, peer = _opened()
    pair.host.stream.script.echo = True
    answers = peer.data(b"ping")

    assert [(answer.payload, answer.acknowledgment) for answer in answers] == [(b"ping", peer.sequence)]


def test_an_answer_carries_an_acknowledgment_that_is_due_at_once() -> None:
    pair = Pair()
    peer = ManualConnection(pair)
    peer.open()
    peer.data(b"question")
    peer.take()
    again = peer.segment(ACK | PSH, b"question", sequence=peer.sequence - 8)
    pair.network.receive_frames([pair.guest._ethernet(again.ip())], pair.now)
    pair.network.stream_received(pair.host.stream.socket, b"answer", pair.now)
    pair._outputs(pair.now)
    pair.settle()

    (segment,) = peer.take()
    assert (segment.payload, segment.acknowledgment) == (b"answer", peer.sequence)


def test_a_lost_fin_is_sent_again() -> None:
    pair, peer = _opened()
    pair.host.end(pair.host.stream)
    pair.wait(3.0)
    fins = peer.take()

    assert len(fins) >= 2
    assert {(fin.flags, fin.sequence) for fin in fins} == {(FIN | ACK, peer.expected)}


def test_lost_data_before_the_fin_is_sent_again_with_it() -> None:
    pair, peer = _opened()
    pair.host.produce(pair.host.stream, b"goodbye")
    pair.host.end(pair.host.stream)
    pair.wait(0.01)
    peer.take()
    pair.wait(5.0)
    segments = peer.take()
    got = next(segment for segment in segments if segment.payload)
    peer.accept([got])
    if not got.flags & FIN:
        assert any(segment.flags & FIN and segment.sequence == peer.expected for segment in peer.send())


@pytest.mark.parametrize("window", [20_000, 1 << 20])
@pytest.mark.parametrize("sack", [False, True])
def test_a_single_loss_costs_no_timeout(window: int, sack: bool) -> None:
    """One frame in the middle of a stream is lost; duplicates repair it within a few round trips."""
    pair = Pair(down=Impairment(delay=0.005), up=Impairment(delay=0.005))
    connection, stream = pair.established(GuestTcpOptions(window=window, sack=sack))
    data = bytes(range(251)) * 400
    pair.host.produce(stream, data)
    original = pair.down.put
    dropped: list[bytes] = []

    def put(frames: list[bytes], now: float) -> None:
        kept = []
        for frame in frames:
            if not dropped and len(frame) > 1000 and len(connection.received) > 10_000:
                dropped.append(frame)
            else:
                kept.append(frame)
        original(kept, now)

    pair.down.put = put  # type: ignore[assignment]  # it is a method
    start = pair.now
    pair.drive(lambda: len(connection.received) == len(data))

    assert bytes(connection.received) == data
    assert dropped or window > 100_000
    assert pair.now - start < 0.2 + 0.02 * len(data) / window


def test_a_lost_retransmission_is_sent_again() -> None:
    pair, peer = _opened()
    pair.host.produce(pair.host.stream, bytes(14_600))
    pair.settle()
    segments = peer.take()
    for index in range(1, 10):
        peer.send(sack=((segments[1].sequence, segments[index].sequence + 1460),))
    pair.wait(2.0)

    assert segments[0].sequence in [segment.sequence for segment in peer.take() if segment.payload]


@pytest.mark.parametrize("first", [0xFFFFFFFF, 0xFFFFFFFE, 0xFFFFF000, 0x7FFFFFFF, 0x7FFFF000, 0])
def test_sequence_numbers_wrap(first: int) -> None:
    pair = Pair()
    pair.host.script.echo = True
    connection = pair.connect(GuestTcpOptions(sequence=first, window=30_000))
    data = bytes(range(253)) * 80
    connection.send(data)
    connection.shutdown()
    pair.drive(lambda: connection.closed)

    assert bytes(connection.received) == data
    assert connection.retransmissions == 0


def test_our_sequence_numbers_wrap_too() -> None:
    """The clock of RFC 6528 puts the initial number just below the wrap."""
    probe = Pair()
    peer = ManualConnection(probe)
    until_wrap = ((1 << 32) - 20_000 - peer.open().sequence) % (1 << 32)
    pair = Pair(now=probe.now + until_wrap / 250_000)
    peer = ManualConnection(pair)
    assert peer.open().sequence > (1 << 32) - 30_000
    pair.host.produce(pair.host.stream, bytes(60_000))
    received = 0
    while received < 60_000:
        pair.settle()
        segments = peer.take()
        assert segments
        received += len(peer.accept([segment for segment in segments if segment.payload]))
        peer.send()

    assert peer.expected < 100_000


def test_reassembly_is_bounded_in_pieces_and_the_stream_still_comes_whole() -> None:
    pair = Pair(make_config(limits=Limits(tcp_reassembly_segments=16)))
    peer = ManualConnection(pair)
    peer.open()
    text = bytes(range(1, 201))
    start = peer.sequence
    for offset in range(199, 0, -2):
        peer.send(ACK, text[offset : offset + 1], sequence=start + offset)
    answers: list[Segment] = []
    for offset in range(200):
        answers += peer.send(ACK, text[offset : offset + 1], sequence=start + offset)
    pair.wait(0.1)
    answers += peer.take()

    assert bytes(pair.host.stream.received) == text
    assert answers[-1].acknowledgment == start + 200


def test_syn_is_never_sent_into_an_established_connection() -> None:
    pair, peer = _opened()
    pair.wait(60.0)

    assert not any(segment.flags & SYN for segment in peer.take())
