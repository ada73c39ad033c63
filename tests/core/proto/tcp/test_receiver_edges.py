"""The receiving half at its limits: one less, and one more."""

from __future__ import annotations

import pytest

from sansnet_core import UsageError
from sansnet_core.proto.tcp.gap import PIECE_COST
from sansnet_core.proto.tcp.receiving import CHALLENGE_INTERVAL, DELAYED_ACK, Receiver
from sansnet_core.wire.tcp import add

MSS = 1460
LIMIT = 100_000
FIRST = 1
"""RCV.NXT of a receiver made by `opened`."""


def opened(limit: int = LIMIT) -> Receiver:
    """A receiver that has offered its whole window."""
    receiver = Receiver(FIRST - 1, limit)
    assert receiver.offer_window(MSS, limit) == limit
    return receiver


def filled(count: int) -> Receiver:
    """A receiver that holds `count` bytes for the host."""
    receiver = opened()
    receiver.accept(FIRST, bytes(count), 8)
    return receiver


def acknowledges(receiver: Receiver) -> bool:
    """Whether it wants to acknowledge at once; it forgets that, as if an acknowledgment was sent."""
    now, receiver.ack_now = receiver.ack_now, False
    return now


@pytest.mark.parametrize(("limit", "edge"), [(65534, 65534), (65535, 65535), (65536, 65535), (1, 1)])
def test_the_first_window_is_never_scaled(limit: int, edge: int) -> None:
    receiver = Receiver(0xFFFFFFFF, limit)
    assert (receiver.next, receiver.acknowledged) == (0, 0)
    assert receiver.edge == receiver.largest_window == edge
    assert (receiver.limit, receiver.unsent, receiver.queued, receiver.ack_due) == (limit, 0, 0, float("inf"))
    assert not acknowledges(receiver)


@pytest.mark.parametrize(
    ("held", "taken", "opens"),
    [
        (60_000, 25_000, True),  # less than half is open, and a quarter can be opened
        (60_000, 24_999, False),
        (50_001, 25_000, True),
        (50_000, 25_000, False),  # half is open
        (40_000, 40_000, False),
        (100_000, MSS, True),  # closed, and a segment fits
        (100_000, MSS - 1, False),
        (100_000 - MSS + 1, MSS, True),
        (100_000 - MSS, MSS, False),  # a segment fits already
    ],
)
def test_when_a_larger_window_is_announced(held: int, taken: int, opens: bool) -> None:
    receiver = filled(held)
    may_open = receiver.delivered(taken)
    assert receiver.window_opens(MSS, LIMIT) is opens
    assert may_open or not opens


@pytest.mark.parametrize(("held", "opens"), [(32767, False), (32768, True)])
def test_a_window_of_one_large_segment_opens_when_half_of_it_is_used(held: int, opens: bool) -> None:
    receiver = Receiver(FIRST - 1, LIMIT)
    receiver.accept(FIRST, bytes(held), 8)
    assert receiver.delivered(held) is opens
    assert receiver.window_opens(65480, LIMIT) is opens


def test_a_window_smaller_than_two_segments_opens_by_half() -> None:
    receiver = opened(1000)
    receiver.accept(FIRST, bytes(1000), 8)
    receiver.delivered(499)
    assert not receiver.window_opens(MSS, 1000)
    assert receiver.offer_window(MSS, 1000) == 0
    receiver.delivered(1)
    assert receiver.window_opens(MSS, 1000)
    assert receiver.offer_window(MSS, 1000) == 500


def test_the_window_is_not_examined_as_long_as_it_is_open() -> None:
    assert not filled(40_000).delivered(40_000)


def test_a_window_of_one_byte_opens() -> None:
    receiver = opened(1)
    receiver.accept(FIRST, b"x", 8)
    assert receiver.offer_window(MSS, 1) == 0
    receiver.delivered(1)
    assert receiver.window_opens(MSS, 1)
    assert receiver.offer_window(MSS, 1) == 1


def test_the_window_is_not_moved_by_less_than_a_segment_and_never_back() -> None:
    receiver = filled(50_000)
    receiver.delivered(MSS - 1)
    assert receiver.offer_window(MSS, LIMIT) == 50_000
    receiver.delivered(1)
    assert receiver.offer_window(MSS, LIMIT) == 50_000 + MSS
    assert receiver.offer_window(MSS, 10) == 50_000 + MSS  # memory is short


def test_the_largest_window_is_remembered() -> None:
    receiver = filled(70_000)
    assert receiver.offer_window(MSS, LIMIT) == 30_000
    assert receiver.largest_window == LIMIT


def test_an_acknowledgment_that_is_sent_is_not_due_any_more() -> None:
    receiver = filled(10)
    assert receiver.delay_ack(MSS, 5.0)
    assert receiver.ack_due == 5.0 + DELAYED_ACK
    assert receiver.delay_ack(MSS, 6.0)
    assert receiver.ack_due == 5.0 + DELAYED_ACK  # from the first segment on
    receiver.ack_timed_out()
    assert acknowledges(receiver)
    assert receiver.ack_due == float("inf")
    receiver.offer_window(MSS, LIMIT)
    assert not acknowledges(receiver)
    assert receiver.acknowledged == add(FIRST, 10)


def test_two_segments_are_acknowledged_at_once() -> None:
    assert filled(2 * MSS - 1).delay_ack(MSS, 0.0)
    receiver = filled(2 * MSS)
    assert not receiver.delay_ack(MSS, 0.0)
    assert receiver.ack_due == float("inf")


def test_an_acknowledgment_can_be_asked_for() -> None:
    receiver = opened()
    receiver.acknowledge_now()
    assert acknowledges(receiver)


def test_acceptable_segments() -> None:
    """RFC 9293, 3.4; those without data may be at the right edge as well, see the docstring."""
    receiver = filled(10)
    first, edge = add(FIRST, 10), add(FIRST, LIMIT)
    assert receiver.acceptable(first, 0)
    assert not receiver.acceptable(add(first, -1), 0)
    assert receiver.acceptable(edge, 0)
    assert not receiver.acceptable(add(edge, 1), 0)
    assert not receiver.acceptable(add(first, -1), 1)
    assert receiver.acceptable(add(first, -1), 2)
    assert receiver.acceptable(add(edge, -1), 1)
    assert not receiver.acceptable(edge, 1)


def test_a_closed_window_takes_no_data() -> None:
    receiver = filled(LIMIT)
    receiver.offer_window(MSS, LIMIT)
    assert receiver.acceptable(receiver.next, 0)
    assert not receiver.acceptable(receiver.next, 1)
    assert not receiver.acceptable(add(receiver.next, -1), 2)


def test_a_window_of_one_takes_one() -> None:
    receiver = filled(LIMIT - 1)
    assert receiver.acceptable(receiver.next, 1)
    assert receiver.acceptable(receiver.next, 100)
    assert receiver.accept(receiver.next, b"ab", 8) == [b"a"]


def test_data_ends_at_the_fin() -> None:
    receiver = opened()
    assert not receiver.is_beyond_fin(add(FIRST, 5))
    receiver.note_fin(add(FIRST, 4))
    assert not receiver.is_beyond_fin(add(FIRST, 3))
    assert not receiver.is_beyond_fin(add(FIRST, 4))
    assert receiver.is_beyond_fin(add(FIRST, 5))


def test_a_fin_is_taken_inside_the_window_only() -> None:
    receiver = opened()
    receiver.note_fin(add(FIRST, LIMIT))
    assert not receiver.is_beyond_fin(add(FIRST, LIMIT + 1))
    assert acknowledges(receiver)
    receiver.note_fin(add(FIRST, LIMIT - 1))
    assert receiver.fin == add(FIRST, LIMIT - 1)
    assert not acknowledges(receiver)
    receiver.note_fin(add(FIRST, 5))  # a second one changes nothing
    assert receiver.fin == add(FIRST, LIMIT - 1)
    assert not acknowledges(receiver)


def test_a_fin_before_data_that_came_is_not_taken() -> None:
    receiver = opened()
    receiver.accept(add(FIRST, 10), b"0123456789", 8)
    receiver.note_fin(add(FIRST, 19))
    assert receiver.fin is None
    assert acknowledges(receiver)
    receiver.note_fin(add(FIRST, 20))
    assert receiver.fin == add(FIRST, 20)


def test_a_receiver_rests_if_nothing_is_to_be_sent_delivered_or_awaited() -> None:
    receiver = opened()
    assert receiver.rest() is not None
    receiver.accept(FIRST, b"data", 8)
    receiver.offer_window(MSS, LIMIT)
    assert receiver.rest() is None  # the host has not taken the data
    receiver.delivered(4)
    assert receiver.rest() is not None
    receiver.acknowledge_now()
    assert receiver.rest() is None
    receiver.offer_window(MSS, LIMIT)
    receiver.delay_ack(MSS, 0.0)
    assert receiver.rest() is None
    receiver.offer_window(MSS, LIMIT)
    receiver.note_fin(add(receiver.next, 1))
    assert receiver.rest() is None
    receiver = opened()
    receiver.accept(add(FIRST, 1), b"beyond a gap", 8)
    receiver.offer_window(MSS, LIMIT)
    assert receiver.rest() is None
    receiver = filled(4)
    receiver.delivered(4)
    assert receiver.rest() is None  # the data is not acknowledged


@pytest.mark.parametrize("at_once", [True, False])
def test_the_fin_is_a_number_and_its_acknowledgment_may_wait(at_once: bool) -> None:
    receiver = filled(4)
    receiver.note_fin(receiver.next)
    receiver.take_fin(at_once=at_once)
    assert receiver.next == add(FIRST, 5)
    assert acknowledges(receiver) == at_once


def test_challenges_are_limited_and_said() -> None:
    receiver = opened()
    assert receiver.challenge(10.0, limited=True)
    assert acknowledges(receiver)
    assert not receiver.challenge(10.0 + CHALLENGE_INTERVAL * 0.99, limited=True)
    assert not acknowledges(receiver)
    assert receiver.challenge(10.0, limited=False)
    assert receiver.challenge(10.0 + CHALLENGE_INTERVAL, limited=True)
    assert not receiver.challenge(10.1 + CHALLENGE_INTERVAL, limited=True)


def test_a_socket_takes_what_was_ordered_and_no_more() -> None:
    receiver = filled(10)
    receiver.delivered(0)
    receiver.delivered(10)
    assert receiver.unsent == 0
    with pytest.raises(UsageError, match=r"^count: 1 bytes were reported as sent, but only 0 were ordered$"):
        receiver.delivered(1)
    with pytest.raises(UsageError):
        receiver.delivered(-1)


def test_bytes_to_a_proxy_are_held_as_well() -> None:
    receiver = filled(10)
    receiver.owe(5)
    assert receiver.unsent == 15


def test_pieces_are_bounded() -> None:
    receiver = opened()
    for place in (10, 20, 30):
        assert receiver.accept(add(FIRST, place), b"x", 2) == []
    assert receiver.queued == 2 * (1 + PIECE_COST)
    assert receiver.sack_blocks(4) == [(add(FIRST, 20), add(FIRST, 21)), (add(FIRST, 10), add(FIRST, 11))]
    assert receiver.discard_piece() == 1 + PIECE_COST
    assert receiver.discard_piece() == 1 + PIECE_COST
    assert receiver.queued == 0
    assert receiver.sack_blocks(4) == []


def test_a_piece_at_the_end_of_a_range_is_discarded_alone() -> None:
    receiver = opened()
    receiver.accept(add(FIRST, 10), b"ab", 8)
    receiver.accept(add(FIRST, 12), b"c", 8)
    assert receiver.sack_blocks(4) == [(add(FIRST, 10), add(FIRST, 13))]
    assert receiver.discard_piece() == 1 + PIECE_COST
    assert receiver.sack_blocks(4) == [(add(FIRST, 10), add(FIRST, 12))]


def test_what_is_given_up_is_freed() -> None:
    receiver = opened()
    receiver.accept(add(FIRST, 10), b"ab", 8)
    receiver.free_buffers()
    assert receiver.queued == 0
    assert receiver.sack_blocks(4) == []
    assert receiver.accept(FIRST, bytes(20), 8) == [bytes(20)]


def test_known_data_and_gaps_are_acknowledged_at_once() -> None:
    receiver = filled(10)
    assert not acknowledges(receiver)
    assert receiver.accept(FIRST, bytes(10), 8) == []
    assert acknowledges(receiver)
    receiver.accept(add(FIRST, 15), b"x", 8)
    assert acknowledges(receiver)
    receiver.accept(add(FIRST, 10), bytes(5), 8)
    assert acknowledges(receiver)  # a part of the gap is filled
    assert receiver.unsent == 16


def test_the_known_part_of_a_segment_is_cut_off() -> None:
    receiver = filled(10)
    assert receiver.accept(add(FIRST, 6), b"0123456", 8) == [b"456"]
    assert receiver.unsent == 13
    assert receiver.next == add(FIRST, 13)


def test_filling_one_gap_leaves_the_pieces_behind_the_next() -> None:
    receiver = opened()
    receiver.accept(add(FIRST, 10), b"ab", 8)
    receiver.accept(add(FIRST, 13), b"cd", 8)
    assert receiver.accept(FIRST, bytes(10), 8) == [bytes(10), b"ab"]
    assert receiver.sack_blocks(4) == [(add(FIRST, 13), add(FIRST, 15))]
    assert receiver.queued == 2 + PIECE_COST
    assert receiver.unsent == 12
    assert receiver.accept(add(FIRST, 12), b"x", 8) == [b"x", b"cd"]
    assert receiver.sack_blocks(4) == []
    assert receiver.queued == 0
    assert receiver.next == add(FIRST, 15)


def test_the_newest_blocks_come_first() -> None:
    """RFC 2018, 4."""
    receiver = opened()
    for place in (10, 20, 30, 40):
        receiver.accept(add(FIRST, place), b"ab", 8)
    blocks = [(add(FIRST, place), add(FIRST, place + 2)) for place in (10, 20, 30, 40)]
    assert receiver.sack_blocks(3) == [blocks[3], blocks[2], blocks[1]]
    receiver.accept(add(FIRST, 21), b"xy", 8)
    assert receiver.sack_blocks(3) == [(add(FIRST, 20), add(FIRST, 23)), blocks[3], blocks[2]]
    receiver.accept(add(FIRST, 9), b"x", 8)
    assert receiver.sack_blocks(2) == [(add(FIRST, 9), add(FIRST, 12)), (add(FIRST, 20), add(FIRST, 23))]
    assert receiver.sack_blocks(1) == [(add(FIRST, 9), add(FIRST, 12))]
    assert receiver.sack_blocks(2, later=1) == [blocks[3], blocks[2]]
    assert receiver.sack_blocks(3, later=1) == [
        blocks[2],
        (add(FIRST, 9), add(FIRST, 12)),
        (add(FIRST, 20), add(FIRST, 23)),
    ]
    assert receiver.sack_blocks(4, later=1) == receiver.sack_blocks(4)


def test_blocks_are_reported_after_those_that_came_last_were_freed() -> None:
    """RFC 2018, 8: what is reported is held, and what is held is reported."""
    receiver = opened()
    places = list(range(10, 50, 2))
    for place in places:
        receiver.accept(add(FIRST, place), b"x", 32)
    for _ in places[1:]:
        receiver.discard_piece()
    assert receiver.sack_blocks(4) == [(add(FIRST, 10), add(FIRST, 11))]
    receiver.accept(add(FIRST, 20), b"x", 1)  # not kept
    assert receiver.sack_blocks(4) == [(add(FIRST, 10), add(FIRST, 11))]


def test_the_first_bytes_that_come_are_kept() -> None:
    """A hostile guest may send other bytes for the same place."""
    receiver = opened()
    receiver.accept(add(FIRST, 4), b"4567", 8)
    receiver.accept(add(FIRST, 10), b"AB", 8)
    receiver.accept(add(FIRST, 2), b"2345678901234", 8)
    assert receiver.sack_blocks(4) == [(add(FIRST, 2), add(FIRST, 15))]
    assert b"".join(receiver.accept(FIRST, b"01", 8)) == b"01" + b"23" + b"4567" + b"89" + b"AB" + b"234"
    assert receiver.next == add(FIRST, 15)


def test_data_beyond_a_gap_is_kept_up_to_the_edge() -> None:
    receiver = opened()
    receiver.accept(add(FIRST, LIMIT - 5), bytes(10), 8)
    assert receiver.sack_blocks(4) == [(add(FIRST, LIMIT - 5), add(FIRST, LIMIT))]
    receiver = opened()
    receiver.accept(add(FIRST, LIMIT), bytes(10), 8)
    assert acknowledges(receiver)
    assert receiver.sack_blocks(4) == []
    assert receiver.queued == 0
