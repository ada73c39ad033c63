"""The sending half by itself: timer, windows, acknowledgments, and the choice of what is sent again."""

from __future__ import annotations

from math import inf

import pytest

from sansnet_core.proto.tcp.handshake import Terms
from sansnet_core.proto.tcp.loss import MAX_BURST, Loss
from sansnet_core.proto.tcp.round_trips import INITIAL_RTO, MAX_RTO, MIN_RTO
from sansnet_core.proto.tcp.sending import (
    DUPLICATES,
    MAX_READ,
    OVERRIDE,
    RETRY_AFTER_RESET,
    RTO_AFTER_SYN_LOSS,
    Acked,
    Sender,
)
from sansnet_core.wire.tcp import ACK, FIN, SYN, TcpHeader, add, sack_option
from tests.core.attributes import attributes

ISS = 0xFFFFFFF0
"""So that numbers wrap within the first segments."""
MSS = 100
WINDOW = 10_000
GUEST = 5000
"""The guest's initial sequence number."""


def position(place: int) -> int:
    """The sequence number of a byte of the stream, the first of which is 0."""
    return add(ISS, 1 + place)


def opened(*, window: int = WINDOW, scale: int = 0, sack: bool = True, rtt: float = 0.01) -> Sender:
    """A sender after the handshake, at the time 1 s + `rtt`."""
    sender = Sender(ISS)
    terms = Terms(MSS, MSS, 10 * MSS, 65535, scale or None, scale, sack, 4)
    sender.agree(TcpHeader(1, 2, GUEST, 0, SYN, window, 0, 0, 0), terms)
    sender.send_syn(1.0)
    sender.establish(GUEST + 1)
    assert sender.wl1 == GUEST
    acked = take(sender, 0, 1.0 + rtt, window=window >> scale)
    assert acked == Acked(0, True, False)
    return sender


def take(
    sender: Sender,
    acknowledged: int,
    now: float,
    *,
    window: int = WINDOW,
    sequence: int = GUEST + 1,
    sack: tuple[tuple[int, int], ...] = (),
    size: int = 0,
    flags: int = ACK,
) -> Acked | None:
    """An acknowledgment up to a place of the stream, with blocks of places."""
    options = sack_option([(position(first), position(last)) for first, last in sack]) if sack else b""
    header = TcpHeader(
        1, 2, sequence, position(acknowledged), flags, window, 20 + len(options), 20 + len(options) + size, 20
    )
    return sender.take(header, bytes(20) + options + bytes(size), size, now)


def send(sender: Sender, count: int, now: float, size: int = MSS) -> list[bytes]:
    """Give bytes to the sender, and have sent what may be."""
    sender.buffer.append(bytes(n % 251 for n in range(count)))
    sent = []
    while sender.buffer.unsent and (payload := sender.next_payload(size, now)):
        sent.append(bytes(payload))
    return sent


def again(sender: Sender) -> list[tuple[int, int]]:
    """Places and sizes of what is sent again."""
    return [
        ((sequence - position(0) + (1 << 31)) % (1 << 32) - (1 << 31), len(payload))
        for sequence, payload in sender.retransmissions()
    ]


def recovers(sender: Sender) -> bool:
    return sender.loss is not None and sender.loss.recover is not None


def may_end(sender: Sender) -> bool:
    return sender.fin_may_go


def misses_fin(sender: Sender) -> bool:
    return sender.fin_is_missing


# the timer (RFC 6298)


def test_the_timer_before_a_round_trip_was_measured() -> None:
    sender = Sender(ISS)
    assert (sender.rto, sender.retransmit_at) == (INITIAL_RTO, inf)
    sender.agree(TcpHeader(1, 2, GUEST, 0, SYN, WINDOW, 0, 0, 0), Terms(MSS, MSS, MSS, 65535, None, 0, True, 4))
    sender.send_syn(5.0)
    assert sender.retransmit_at == 5.0 + INITIAL_RTO
    assert sender.in_flight == 1
    assert sender.next == position(0)


def test_the_timer_follows_the_round_trips() -> None:
    """RFC 6298, 2.2 and 2.3, with alpha = 1/8 and beta = 1/4."""
    sender = opened(rtt=0.4)
    srtt, rttvar = 0.4, 0.2
    assert sender.rto == pytest.approx(srtt + 4 * rttvar)
    now = 10.0
    for rtt in (0.4, 0.1, 1.0, 2.0):
        send(sender, MSS, now)
        assert sender.retransmit_at == now + sender.rto
        acked = take(sender, (sender.una - position(0)) % (1 << 32) + MSS, now + rtt)
        assert acked == Acked(MSS, True, False)
        rttvar = 0.75 * rttvar + 0.25 * abs(srtt - rtt)
        srtt = 0.875 * srtt + 0.125 * rtt
        assert sender.rto == pytest.approx(srtt + max(4 * rttvar, MIN_RTO))
        assert sender.retransmit_at == inf
        now += 10


def test_the_timer_has_limits() -> None:
    assert opened(rtt=0.0001).rto == pytest.approx(0.0001 + MIN_RTO)
    sender = opened(rtt=100.0)
    assert sender.rto == MAX_RTO
    send(sender, MSS, 200.0)
    sender.time_out(300.0)
    assert sender.rto == MAX_RTO
    assert sender.retransmit_at == 300.0 + MAX_RTO


@pytest.mark.parametrize("rtt", [0.2, 0.25, 0.4])
def test_a_steady_round_trip_leaves_room_for_a_late_answer(rtt: float) -> None:
    """RTTVAR becomes small then; RFC 6298, 2.3 has a least value for 4 RTTVAR, and here it is Linux's."""
    sender = opened(rtt=rtt)
    now = 10.0
    for count in range(1, 100):
        send(sender, MSS, now)
        take(sender, count * MSS, now + rtt)
        now += 1
    assert sender.rto == pytest.approx(rtt + MIN_RTO)


def test_each_expiry_doubles_the_timer_and_a_measured_round_trip_restores_it() -> None:
    sender = opened()
    first = sender.rto
    send(sender, MSS, 2.0)
    for count, now in enumerate((3.0, 4.0, 5.0), 1):
        sender.time_out(now)
        assert sender.retries == count
        assert sender.rto == pytest.approx(first * 2**count)
        assert sender.retransmit_at == now + sender.rto
    take(sender, MSS, 6.0)  # repeated data is not timed
    assert sender.retries == 0
    assert sender.rto == pytest.approx(first * 8)
    send(sender, MSS, 7.0)
    take(sender, 2 * MSS, 7.0)
    assert MIN_RTO < sender.rto < first


@pytest.mark.parametrize("measured", [True, False])
def test_the_backoff_ends_once_something_is_acknowledged_that_was_sent_after_the_timeout(measured: bool) -> None:
    """RFC 6298, 5: earlier data may have been sent twice, and its acknowledgment tells nothing about a round trip."""
    sender = opened()
    if not measured:
        sender._srtt, sender.rto = None, INITIAL_RTO
    first = sender.rto
    send(sender, 3 * MSS, 2.0)
    for now in (3.0, 4.0, 5.0):
        sender.time_out(now)
    take(sender, MSS, 6.0)
    assert (sender.retries, sender.rto, sender.retransmit_at) == (0, first * 8, 6.0 + first * 8)
    send(sender, 2 * MSS, 6.0)
    sender.forget_timing()
    take(sender, 3 * MSS, 6.0)
    assert sender.rto == first * 8
    take(sender, 3 * MSS + 1, 6.0)
    assert (sender.rto, sender.retransmit_at) == (first, 6.0 + first)


def test_the_timeouts_for_several_losses_of_a_flight_do_not_add_up() -> None:
    sender = opened()
    first = sender.rto
    send(sender, 5 * MSS, 2.0)
    sender.time_out(3.0)
    take(sender, MSS, 3.1)
    for now in (4.0, 5.0, 6.0):
        sender.time_out(now)
    assert sender.rto == first * 16
    take(sender, 2 * MSS, 6.1)
    assert sender.rto == first * 2
    take(sender, 5 * MSS, 6.2)
    send(sender, 2 * MSS, 6.2)
    sender.time_out(7.0)  # for another flight
    take(sender, 6 * MSS, 7.1)
    assert sender.rto == first * 4


def test_the_first_segment_of_many_is_timed() -> None:
    """Otherwise a flight with a loss would not be measured."""
    sender = opened()
    before = sender.rto
    send(sender, 40 * MSS, 2.0, 40 * MSS)
    take(sender, MSS, 2.5)
    assert sender.rto > before


def test_only_the_first_of_several_segments_is_timed() -> None:
    sender = opened()
    before = sender.rto
    send(sender, MSS, 2.0)
    send(sender, MSS, 2.5)
    take(sender, MSS, 3.0)
    assert sender.rto > before
    measured = sender.rto
    take(sender, 2 * MSS, 9.0)  # not timed
    assert sender.rto == measured


def test_a_partial_acknowledgment_is_no_round_trip() -> None:
    sender = opened()
    before = sender.rto
    send(sender, MSS, 2.0)
    take(sender, MSS - 1, 3.0)
    assert sender.rto == before
    take(sender, MSS, 3.0)
    assert sender.rto > before


def test_the_timer_after_a_syn_was_lost() -> None:
    sender = Sender(ISS)
    sender.agree(TcpHeader(1, 2, GUEST, 0, SYN, WINDOW, 0, 0, 0), Terms(MSS, MSS, MSS, 65535, None, 0, True, 4))
    sender.send_syn(1.0)
    sender.retry_syn(1.5)
    assert sender.retransmit_at == 1.5 + RETRY_AFTER_RESET
    sender.back_off(2.0)
    assert (sender.rto, sender.retransmit_at) == (2 * INITIAL_RTO, 2.0 + 2 * INITIAL_RTO)
    sender.retry_syn(2.5)
    assert sender.retransmit_at == 2.0 + 2 * INITIAL_RTO
    sender.establish(GUEST + 1)
    assert sender.retransmit_at == inf
    take(sender, 0, 4.0)
    assert sender.rto == RTO_AFTER_SYN_LOSS
    send(sender, MSS, 5.0)
    assert sender.retransmit_at == 5.0 + RTO_AFTER_SYN_LOSS


def test_a_segment_that_was_sent_again_is_not_timed() -> None:
    """RFC 6298, 3: also one beyond the end of a recovery, which SACK reports as missing."""
    for lost, timed in ((5, False), (4, True)):
        sender = opened()
        send(sender, 5 * MSS, 2.0)
        take(sender, 0, 2.1, sack=((MSS, 4 * MSS),))
        assert again(sender) == [(0, MSS)]
        send(sender, 4 * MSS, 2.2)  # the first of them is timed
        before = sender.rto
        take(sender, 0, 2.3, sack=((5 * MSS if lost == 4 else 6 * MSS, 9 * MSS), (MSS, 4 * MSS)))
        assert again(sender)[0] == (4 * MSS, MSS)
        take(sender, 9 * MSS, 9.0)
        assert (sender.rto > before) is timed


def test_a_last_segment_that_was_sent_again_as_a_check_is_not_timed() -> None:
    sender = timed_out()
    send(sender, MSS, 3.0)
    take(sender, 200, 3.1)
    assert again(sender) == [(3000, MSS)]
    before = opened().rto
    take(sender, 3100, 9.0)
    assert sender.rto == before


# windows


def test_a_syn_is_sent_before_terms_are_known() -> None:
    sender = Sender(ISS)
    sender.send_syn(1.0)
    assert sender.next == add(ISS, 1)


def test_a_large_read_has_whole_frames_up_to_a_bound() -> None:
    sender = opened(scale=7)
    take(sender, 0, 2.0, window=65535)
    frame = 10 * MSS
    assert sender.room(1 << 20, frame) == MAX_READ // frame * frame
    assert sender.room(frame + MSS + 1, frame) == frame
    assert sender.room(frame - 1, frame) == frame - MSS


def test_a_frame_that_the_window_cuts_has_whole_segments() -> None:
    sender = opened(window=2 * MSS + 50)
    assert [len(payload) for payload in send(sender, 5 * MSS, 2.0, 10 * MSS)] == [2 * MSS]


def test_three_small_ranges_beyond_a_loss_begin_a_recovery() -> None:
    """RFC 6675, 4, IsLost."""
    for count in (2, 3):
        sender = opened()
        send(sender, 1000, 2.0)
        blocks = tuple((place, place + 10) for place in (100, 200, 300)[:count])
        assert take(sender, 0, 2.1, sack=blocks) == Acked(0, False, count == 3)


def test_a_sender_that_wakes_is_as_before() -> None:
    sender = opened(scale=3)
    state = sender.rest()
    assert state is not None
    assert len(state) == Sender.REST_SIZE
    woken = Sender(0)
    woken.wake(state, sender.terms)
    for name in attributes(Sender):
        if name not in ("buffer", "_rtt_sequence"):
            assert getattr(woken, name) == getattr(sender, name), name


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("next", position(1)),
        ("loss", Loss(position(0))),
        ("_srtt", None),
        ("retransmit_at", 5.0),
        ("retries", 1),
        ("duplicates", 1),
        ("_rtt_start", 1.0),
    ],
)
def test_a_sender_with_anything_to_send_or_to_wait_for_does_not_rest(name: str, value: object) -> None:
    sender = opened()
    assert sender.rest() is not None
    setattr(sender, name, value)
    assert sender.rest() is None
    sender = opened()
    sender.buffer.append(b"data")
    assert sender.rest() is None


def test_the_window_of_a_syn_is_not_scaled() -> None:
    sender = Sender(ISS)
    sender.agree(TcpHeader(1, 2, GUEST, 0, SYN, 300, 0, 0, 0), Terms(MSS, MSS, MSS, 65535, 7, 7, True, 4))
    assert (sender.window, sender.largest_window) == (300, 300)
    sender.send_syn(1.0)
    sender.establish(GUEST + 1)
    take(sender, 0, 1.1, window=300)
    assert (sender.window, sender.largest_window) == (300 << 7, 300 << 7)


@pytest.mark.parametrize(
    ("sequence", "window", "taken"),
    [
        (GUEST + 1, 500, True),
        (GUEST, 500, False),  # older than the last one
        (GUEST + 2, 500, True),
        (GUEST + 1, WINDOW + 1, True),
    ],
)
def test_an_old_window_is_not_restored(sequence: int, window: int, taken: bool) -> None:
    sender = opened()
    take(sender, 0, 2.0, sequence=GUEST + 1)
    take(sender, 0, 2.0, sequence=sequence, window=window)
    assert sender.window == (window if taken else WINDOW)
    assert sender.largest_window == max(WINDOW, sender.window)


def test_news_bring_their_window_even_in_an_old_segment() -> None:
    sender = opened()
    send(sender, 2 * MSS, 2.0)
    take(sender, 0, 2.0, sequence=GUEST + 50)
    take(sender, MSS, 2.0, sequence=GUEST + 1, window=700)
    assert sender.window == 700
    take(sender, MSS, 2.0, sequence=GUEST + 49, window=800)  # older than the segment of the first window
    assert sender.window == 700
    take(sender, MSS, 2.0, sequence=GUEST + 50, window=900)
    assert sender.window == 900


def test_data_is_sent_as_far_as_the_window_reaches() -> None:
    sender = opened(window=250)
    assert list(map(len, send(sender, 1000, 2.0))) == [100, 100]  # less than a segment is no reason to send
    assert sender.in_flight == 200
    assert sender.buffer.unsent == 800
    take(sender, 100, 2.1, window=250)
    assert list(map(len, send(sender, 0, 2.1))) == [100]
    sender = opened(window=50)
    assert list(map(len, send(sender, 1000, 2.0))) == [50]  # with nothing in flight, no acknowledgment will come
    assert sender.next_payload(MSS, 2.0) == b""
    assert list(map(len, send(opened(window=1), 1000, 2.0))) == [1]


def test_the_last_bytes_are_sent_though_they_are_few() -> None:
    sender = opened()
    assert list(map(len, send(sender, 150, 2.0))) == [100, 50]
    sender = opened(window=150)
    assert list(map(len, send(sender, 150, 2.0))) == [100, 50]


def test_a_silly_window_is_filled_after_a_while() -> None:
    """RFC 9293, 3.8.6.2.1: though nothing is in flight. Half of the largest window is filled at once."""
    sender = opened(window=150)
    assert list(map(len, send(sender, 1000, 2.0))) == [100]
    take(sender, 100, 2.1, window=74)
    assert sender.next_payload(MSS, 3.0) == b""
    assert sender.retransmit_at == 3.0 + OVERRIDE
    rto = sender.rto
    sequence, payload = sender.probe(3.0 + OVERRIDE)
    assert (sequence, len(payload)) == (position(100), 74)
    assert (sender.rto, sender.retransmit_at) == (rto, 3.0 + OVERRIDE + rto)
    take(sender, 174, 4.0, window=75)
    assert sender.rto > rto  # it was timed
    assert list(map(len, send(sender, 0, 4.0))) == [75]


def test_a_window_that_shrinks_sends_nothing() -> None:
    sender = opened(window=500)
    send(sender, 500, 2.0)
    take(sender, 100, 2.1, window=200)
    assert sender.ack_sequence == position(300)  # the guest drops what is beyond
    assert send(sender, 100, 2.2) == []
    take(sender, 200, 2.3, window=300)
    assert sender.ack_sequence == position(500)


@pytest.mark.parametrize(
    ("window", "held", "limit", "room"),
    [
        (5000, 0, 100_000, 5000),
        (5001, 0, 100_000, 5000),  # whole frames
        (1000, 0, 100_000, 1000),
        (999, 0, 100_000, 900),  # whole segments
        (100, 0, 100_000, 100),
        (99, 0, 100_000, MSS),  # for a probe
        (0, 0, 100_000, MSS),
        (300, 200, 100_000, 100),
        (299, 200, 100_000, 0),
        (5000, 200, 700, 500),
        (5000, 200, 299, 0),
        (5000, 0, 50, MSS),
    ],
)
def test_how_much_is_read_from_the_host(window: int, held: int, limit: int, room: int) -> None:
    sender = opened(window=window)
    if held:
        assert len(send(sender, held, 2.0)) == 2
    assert sender.room(limit, 1000) == room


def test_unsent_bytes_take_room_as_well() -> None:
    sender = opened(window=1000)
    sender.buffer.append(bytes(300))
    assert sender.room(100_000, 1000) == 700
    assert sender.room(500, 1000) == 200


# probes of a closed window (RFC 9293, 3.8.6.1)


def test_a_closed_window_is_probed() -> None:
    sender = opened(window=200)
    send(sender, 500, 2.0)
    take(sender, 200, 2.1, window=0)
    assert sender.retransmit_at == inf
    assert sender.next_payload(MSS, 3.0) == b""
    rto = sender.rto
    assert sender.retransmit_at == 3.0 + rto
    assert sender.next_payload(MSS, 3.1) == b""
    assert sender.retransmit_at == 3.0 + rto  # not later
    assert sender.probe(3.5) == (position(200), bytes([200]))
    assert (sender.rto, sender.retransmit_at) == (2 * rto, 3.5 + 2 * rto)
    assert sender.in_flight == 1
    assert sender.ack_sequence == position(200)
    for _ in range(12):
        sender.back_off(9.0)
    assert sender.rto == MAX_RTO
    take(sender, 200, 10.0, window=0)
    assert sender.retries == 0  # the guest is alive
    assert take(sender, 200, 11.0, window=100) == Acked(0, False, True)
    assert (sender.rto, sender.retransmit_at) == (rto, 11.0 + rto)
    assert take(sender, 200, 11.0, window=100, sack=((0, 5),)) == Acked(0, False, False)
    assert again(sender) == [(200, 1)]


def test_a_window_opens_whatever_sack_says() -> None:
    sender = opened(window=200)
    send(sender, 500, 2.0)
    take(sender, 200, 2.1, window=0)
    sender.next_payload(MSS, 3.0)
    sender.probe(3.5)
    assert take(sender, 200, 4.0, window=100, sack=((0, 5),)) == Acked(0, False, True)


def test_a_probe_that_is_taken_opens_the_window() -> None:
    sender = opened(window=200)
    send(sender, 500, 2.0)
    take(sender, 200, 2.1, window=0)
    sender.next_payload(MSS, 3.0)
    rto = sender.rto
    sender.probe(3.5)
    assert take(sender, 201, 4.0, window=100) == Acked(1, True, False)
    assert not recovers(sender)
    assert (sender.rto, sender.retransmit_at) == (rto, inf)


def test_the_timer_after_probes_if_no_round_trip_was_measured() -> None:
    sender = Sender(ISS)
    sender.agree(TcpHeader(1, 2, GUEST, 0, SYN, 0, 0, 0, 0), Terms(MSS, MSS, MSS, 65535, None, 0, True, 4))
    sender.send_syn(1.0)
    sender.back_off(2.0)
    sender.establish(GUEST + 1)
    take(sender, 0, 2.5, window=0)
    assert send(sender, 500, 3.0) == []
    sender.probe(6.0)
    assert sender.rto == 2 * RTO_AFTER_SYN_LOSS
    take(sender, 0, 7.0)
    assert (sender.rto, sender.retransmit_at) == (INITIAL_RTO, 7.0 + INITIAL_RTO)


def test_a_fin_beyond_the_window_is_a_probe() -> None:
    sender = opened(window=200)
    send(sender, 199, 2.0)
    assert may_end(sender)
    at = sender.retransmit_at
    assert sender.send_fin(2.5) == position(199)
    assert sender.retransmit_at == at
    assert not misses_fin(sender)
    sender = opened(window=200)
    send(sender, 200, 2.0)
    assert not may_end(sender)
    take(sender, 200, 3.0, window=0)
    assert may_end(sender)
    sender.send_fin(3.0)
    assert misses_fin(sender)
    assert take(sender, 200, 4.0, window=100) == Acked(0, False, True)
    sender = opened()
    sender.send_fin(7.0)
    assert sender.retransmit_at == 7.0 + sender.rto
    assert sender.in_flight == 1


# acknowledgments (RFC 9293, 3.10.7.4; RFC 5961, 5.2)


def test_which_acknowledgments_are_acceptable() -> None:
    sender = opened(window=1000)
    send(sender, 1000, 2.0)
    take(sender, 600, 2.1, window=1000)
    assert take(sender, 1001, 2.2, window=1000) is None
    assert take(sender, 600 - 1001, 2.2, window=1000) is None
    assert take(sender, 600 - 1000, 2.2, window=5) == Acked(0, False, False)
    assert sender.window == 1000
    assert take(sender, 1000, 2.2, window=1000) == Acked(400, True, False)
    assert sender.buffer.held == 0


def test_the_largest_window_tells_which_acknowledgments_are_too_old() -> None:
    """RFC 5961, 5.2: not the present one."""
    sender = opened(window=1000)
    send(sender, 1000, 2.0)
    take(sender, 600, 2.1, window=400)
    assert take(sender, 600 - 1000, 2.2, window=400) == Acked(0, False, False)
    assert take(sender, 600 - 1001, 2.2, window=400) is None


def test_a_fin_is_timed_as_data_is() -> None:
    sender = opened()
    before = sender.rto
    sender.send_fin(2.0)
    take(sender, 1, 4.0)
    assert sender.rto > before


def test_a_fin_is_acknowledged_without_bytes() -> None:
    sender = opened()
    send(sender, 10, 2.0)
    sender.send_fin(2.0)
    assert not misses_fin(sender)
    assert take(sender, 11, 2.1) == Acked(10, True, False)


# loss (RFC 5681, 6582, 6675)


def test_three_duplicates_begin_recovery() -> None:
    sender = opened(sack=False)
    send(sender, 1000, 2.0)
    for count in range(1, DUPLICATES):
        assert take(sender, 0, 2.1) == Acked(0, False, False)
        assert sender.duplicates == count
    assert take(sender, 0, 2.1) == Acked(0, False, True)
    assert sender.loss is not None
    assert sender.loss.recover == position(1000)
    assert again(sender) == [(0, 100)]
    take(sender, 1000, 2.2)
    assert not recovers(sender)
    assert sender.duplicates == 0


@pytest.mark.parametrize("change", ["window", "data", "nothing in flight"])
def test_what_is_no_duplicate(change: str) -> None:
    sender = opened(sack=False)
    if change != "nothing in flight":
        send(sender, 1000, 2.0)
    for count in range(5):
        if change == "window":
            take(sender, 0, 2.1, window=WINDOW + count + 1)
        else:
            take(sender, 0, 2.1, size=1 if change == "data" else 0)
    assert sender.duplicates == 0
    assert not recovers(sender)


def test_a_fin_is_no_duplicate() -> None:
    """RFC 5681, 2 (c)."""
    sender = opened(sack=False)
    send(sender, 1000, 2.0)
    for _ in range(5):
        take(sender, 0, 2.1, flags=ACK | FIN)
    assert sender.duplicates == 0


@pytest.mark.parametrize("early", [True, False])
def test_without_sack_duplicates_of_a_recovery_begin_no_other(early: bool) -> None:
    """RFC 6582, 3.2: what was sent again needlessly brings them. Only beyond `recover` they tell of another loss."""
    sender = opened(sack=False)
    send(sender, 500, 2.0)
    if early:
        sender.time_out(3.0)
    else:
        for _ in range(DUPLICATES):
            take(sender, 0, 2.1)
    take(sender, 500, 3.1)
    send(sender, 500, 3.2)
    for _ in range(DUPLICATES + 1):
        assert take(sender, 500, 3.3) == Acked(0, False, False)
    take(sender, 600, 3.4)
    for _ in range(DUPLICATES):
        acked = take(sender, 600, 3.5)
    assert acked == Acked(0, False, True)


def test_partial_acknowledgments_continue_recovery() -> None:
    sender = opened(sack=False)
    send(sender, 1000, 2.0)
    for _ in range(DUPLICATES):
        take(sender, 0, 2.1)
    again(sender)
    assert take(sender, 300, 2.2) == Acked(300, False, True)
    assert again(sender) == [(300, 100)]
    assert sender.loss is not None
    assert sender.loss.recover == position(1000)
    take(sender, 999, 2.3)
    assert sender.loss is not None
    assert sender.loss.recover == position(1000)
    take(sender, 1000, 2.3)
    assert not recovers(sender)


def test_sack_beyond_two_segments_begins_recovery_at_once() -> None:
    sender = opened()
    send(sender, 1000, 2.0)
    assert take(sender, 0, 2.1, sack=((100, 300),)) == Acked(0, False, False)
    assert not recovers(sender)
    assert take(sender, 0, 2.1, sack=((100, 301),)) == Acked(0, False, True)
    assert again(sender) == [(0, 100)]
    assert again(sender) == []
    assert take(sender, 0, 2.1, sack=((400, 500),)) == Acked(0, False, True)
    assert again(sender) == [(301, 99)]
    assert take(sender, 0, 2.1, sack=((400, 500),)) == Acked(0, False, False)  # nothing new
    assert take(sender, 301, 2.2) == Acked(301, False, True)
    assert again(sender) == []
    assert take(sender, 500, 2.3) == Acked(199, False, True)
    assert again(sender) == []  # the rest may be under way


def test_sack_without_permission_and_nonsense_is_ignored() -> None:
    sender = opened(sack=False)
    send(sender, 1000, 2.0)
    assert take(sender, 0, 2.1, sack=((100, 900),)) == Acked(0, False, False)
    assert not recovers(sender)
    sender = opened()
    send(sender, 1000, 2.0)
    for block in ((0, 500), (500, 500), (900, 500), (500, 1001), (-100, 300)):
        take(sender, 0, 2.1, sack=(block,), window=WINDOW + sender.duplicates + 1)
        assert sender.loss is None, block
    take(sender, 0, 2.1, sack=((1, 1000),))
    assert sender.loss is not None
    assert sender.loss.sacked == [(position(1), position(1000))]


def test_blocks_are_merged() -> None:
    sender = opened()
    send(sender, 1000, 2.0)
    take(sender, 0, 2.1, sack=((700, 800), (100, 200), (400, 500)))
    take(sender, 0, 2.1, sack=((200, 300), (450, 460), (490, 600)))
    expected = [(position(first), position(last)) for first, last in ((100, 300), (400, 600), (700, 800))]
    assert sender.loss is not None
    assert sender.loss.sacked == expected
    take(sender, 299, 2.2)
    assert sender.loss is not None
    assert sender.loss.sacked == expected
    take(sender, 300, 2.2)
    assert sender.loss is not None
    assert sender.loss.sacked == expected[1:]
    take(sender, 500, 2.2)
    assert sender.loss is not None
    assert sender.loss.sacked == expected[1:]
    take(sender, 600, 2.2)
    assert sender.loss is not None
    assert sender.loss.sacked == expected[2:]
    take(sender, 800, 2.2)
    assert sender.loss is None or not sender.loss.sacked


def test_blocks_are_in_the_order_of_the_stream_and_may_be_small() -> None:
    sender = opened()
    send(sender, 1000, 2.0)
    blocks = ((100, 200), (5, 6), (201, 300))  # the second is before the numbers wrap
    take(sender, 0, 2.1, sack=blocks)
    assert sender.loss is not None
    assert sender.loss.sacked == [(position(first), position(last)) for first, last in ((5, 6), (100, 200), (201, 300))]


def test_a_timeout_forgets_what_sack_reported_and_sends_all_again() -> None:
    sender = opened()
    send(sender, 3000, 2.0)
    take(sender, 0, 2.1, sack=((100, 2900),))
    sender.time_out(3.0)
    assert again(sender) == [(0, 100)]
    bursts, done = [], 100
    while done < 3000:
        take(sender, done, 3.1)
        burst = again(sender)
        assert [place for place, _ in burst] == list(range(done, done + 100 * len(burst), 100))
        bursts.append(len(burst))
        done += 100 * len(burst)
    assert bursts == [2, 4, 8, 15]
    assert take(sender, 3000, 3.2) == Acked(1500, True, False)


def test_bursts_are_bounded() -> None:
    sender = opened()
    send(sender, 9000, 2.0)
    take(sender, 0, 2.1, sack=((8900, 9000), (8700, 8800), (8500, 8600)))
    assert recovers(sender)
    assert len(again(sender)) == MAX_BURST
    assert len(again(sender)) == MAX_BURST
    sender = opened()
    send(sender, 9000, 2.0)
    sender.time_out(3.0)
    lengths = []
    for done in range(100, 9000, 100):
        lengths.append(len(again(sender)))
        take(sender, done, 3.1)
    assert max(lengths) == MAX_BURST


def test_what_is_given_up_is_freed() -> None:
    sender = opened()
    send(sender, 500, 2.0)
    take(sender, 0, 2.1, sack=((100, 200),))
    sender.free_buffers()
    assert sender.loss is None or not sender.loss.sacked
    assert list(sender.buffer.segments(0, 500, MSS, [])) == []


def timed_out(*, sack: bool = True) -> Sender:
    """A sender of 3000 bytes that sent the first 100 again."""
    sender = opened(sack=sack)
    send(sender, 3000, 2.0)
    sender.time_out(3.0)
    assert again(sender) == [(0, 100)]
    return sender


def test_a_timeout_that_was_too_early_repeats_little() -> None:
    """Data that was not sent again is acknowledged (RFC 5682). The last segment asks once for the rest (RFC 8985)."""
    sender = timed_out()
    assert take(sender, 200, 3.1) == Acked(200, False, True)
    assert again(sender) == [(2900, 100)]
    for done in range(300, 2900, 100):
        take(sender, done, 3.1)
        assert again(sender) == []
    take(sender, 3000, 3.1)
    assert not recovers(sender)


def test_a_single_byte_that_was_not_sent_again_is_enough() -> None:
    sender = timed_out()
    take(sender, 101, 3.1)
    assert again(sender) == [(2900, 100)]


def test_a_duplicate_after_a_timeout_says_nothing() -> None:
    sender = timed_out()
    take(sender, 0, 3.1)
    take(sender, 100, 3.1)
    assert again(sender) == [(100, 100), (200, 100)]


def test_the_answer_to_the_last_segment_tells_what_is_lost() -> None:
    sender = timed_out()
    take(sender, 200, 3.1)
    assert again(sender) == [(2900, 100)]
    assert take(sender, 200, 3.2, sack=((2900, 3000),)) == Acked(0, False, True)
    assert len(again(sender)) == MAX_BURST
    assert again(sender)[0] == (200 + 100 * MAX_BURST, 100)


@pytest.mark.parametrize(
    ("acknowledged", "sack", "blocks"), [(100, True, ()), (200, True, ((300, 400),)), (200, False, ())]
)
def test_a_timeout_after_which_data_is_missing_repeats_all(
    acknowledged: int, sack: bool, blocks: tuple[tuple[int, int], ...]
) -> None:
    sender = timed_out(sack=sack)
    take(sender, acknowledged, 3.1, sack=blocks)
    repeated = again(sender)
    assert repeated[0] == (acknowledged, 100)
    assert len(repeated) == (1 if blocks else 2)


def test_a_fin_alone_is_no_last_segment() -> None:
    sender = opened()
    send(sender, 150, 2.0)
    sender.send_fin(2.0)
    sender.time_out(3.0)
    assert again(sender) == [(0, 100)]
    take(sender, 150, 3.1)
    assert again(sender) == []
    assert misses_fin(sender)


def test_the_last_segment_is_the_last_that_was_sent() -> None:
    sender = opened(window=300)
    assert len(send(sender, 1000, 2.0)) == 3
    sender.time_out(3.0)
    assert again(sender) == [(0, 100)]
    take(sender, 150, 3.1, window=150)
    assert again(sender) == [(200, 100)]
    sender = opened()
    send(sender, 150, 2.0)
    sender.time_out(3.0)
    assert again(sender) == [(0, 100)]
    take(sender, 120, 3.1)
    assert again(sender) == [(120, 30)]


def test_a_check_of_the_last_segment_is_forgotten_with_its_recovery() -> None:
    """Later acknowledgments without SACK blocks are no duplicates, and say nothing about what is missing."""
    sender = opened()
    send(sender, 3 * MSS, 2.0)
    sender.time_out(3.0)
    assert again(sender) == [(0, MSS)]
    take(sender, 3 * MSS, 3.1)  # the timeout came too early, and the recovery is over at the same time
    assert not recovers(sender)
    send(sender, MSS, 3.2)
    for _ in range(DUPLICATES):
        take(sender, 3 * MSS, 3.3)
    assert not recovers(sender)
    for count in range(DUPLICATES):
        first = 3 * MSS + 10 * count
        take(sender, 3 * MSS, 3.4, sack=((first + 1, first + 2),))
    assert recovers(sender)
    assert again(sender)[0] == (3 * MSS, 1)
