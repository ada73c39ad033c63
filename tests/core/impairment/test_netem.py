"""Cables: the rules of `Netem` in words.

- Without faults every frame arrives once, unaltered, in order, and never before its delay is over.
- Frames keep their order, whatever the jitter and the changes of rate and delay, unless they may be reordered.
- The rate holds over any time: no more bits arrive than it allows; the queue holds no more frames than it may.
- Shares of loss, duplication, reordering and corruption, and the length of bursts, are those that were asked for.
- Each frame is accounted for: put in + doubled = arrived + lost + overflowed + on its way.
- Memory is bounded. The same frames and times meet the same faults, in whatever batches they come.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import pairwise
from statistics import fmean, pstdev
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sansnet_core.impairment import Distribution, Impairment, Netem
from sansnet_core.records import replace

MANY: Final = 20_000

probabilities = st.sampled_from([0.0, 0.05, 0.5, 1.0])
impairments = st.builds(
    Impairment,
    delay=st.sampled_from([0.0, 0.01, 1.0]),
    jitter=st.sampled_from([0.0, 0.005, 2.0]),
    distribution=st.sampled_from(Distribution),
    rate=st.sampled_from([0.0, 1e4, 1e6]),
    queue=st.sampled_from([None, 1, 5]),
    loss=probabilities,
    longest_loss=st.sampled_from([None, 0, 2]),
    duplicate=probabilities,
    reorder=probabilities,
    jitter_reorders=st.booleans(),
    hold=st.sampled_from([None, 0.0, 0.5]),
    corrupt=probabilities,
)
steps = st.lists(
    st.tuples(st.sampled_from([0.0, 0.001, 0.1, 1.0]), st.lists(st.integers(14, 1514), max_size=5)), max_size=30
)


def frames_of(count: int, size: int = 100) -> list[bytes]:
    """Different frames of this many bytes."""
    return [number.to_bytes(size, "big") for number in range(count)]


def arrivals(cable: Netem) -> list[tuple[float, bytes]]:
    """All frames that are on their way, with the times of their arrival."""
    arrived = []
    while (now := cable.next_deadline()) is not None:
        arrived += [(now, frame) for frame in cable.take(now)]
    return arrived


def passed(how: Impairment, frames: Iterable[bytes], seed: int = 0, gap: float = 0.0) -> tuple[Netem, list[bytes]]:
    """A cable that frames have passed, and the frames that arrived."""
    cable, arrived = Netem(how, seed), []
    for number, frame in enumerate(frames):
        cable.put([frame], number * gap)
        arrived += cable.take(number * gap)
    return cable, arrived + [frame for _, frame in arrivals(cable)]


def test_without_faults_frames_arrive_at_once() -> None:
    cable = Netem()
    cable.put([b"a", memoryview(b"b"), (b"c", memoryview(b"d"))], 5.0)
    assert cable.next_deadline() == 5.0
    assert cable.take(5.0) == [b"a", b"b", b"cd"]
    assert cable.next_deadline() is None
    assert cable.statistics().frames == 3


def test_a_frame_arrives_after_its_delay_and_no_sooner() -> None:
    cable = Netem(Impairment(delay=0.25))
    cable.put([b"a"], 1.0)
    assert (cable.take(1.2499), cable.next_deadline(), cable.take(1.25)) == ([], 1.25, [b"a"])


@given(impairments, steps, st.integers(0, 5), st.lists(impairments, max_size=3), st.booleans())
@settings(max_examples=300)
def test_frames_are_accounted_for_and_keep_their_order(
    how: Impairment,
    steps: list[tuple[float, list[int]]],
    seed: int,
    later: list[Impairment],
    drops: bool,
) -> None:
    cable = Netem(how, seed, drops=drops)
    now, number, arrived = 0.0, 0, list[bytes]()
    hows = [how, *later]
    for index, (pause, sizes) in enumerate(steps):
        now += pause
        if index % 5 == 4 and later:
            hows.append(later.pop())
            cable.become(hows[-1])
        frames = [(number + place).to_bytes(14, "big") + bytes(size - 14) for place, size in enumerate(sizes)]
        number += len(frames)
        cable.put(frames, now)
        arrived += cable.take(now)
        deadline = cable.next_deadline()
        assert deadline is None or deadline > now
        counters = cable.statistics()
        gone = counters.lost + counters.overflowed
        assert counters.frames + counters.duplicated == len(arrived) + gone + counters.waiting
        if not drops:
            assert counters.overflowed == 0
    arrived += [frame for _, frame in arrivals(cable)]
    assert cable.statistics().waiting == 0
    if not any(each.reorder or each.jitter_reorders for each in hows):
        numbers = [int.from_bytes(frame[:14], "big") for frame in arrived]
        assert numbers == sorted(numbers)


@given(impairments, st.lists(st.integers(14, 1514), max_size=30), st.integers(0, 3), st.randoms())
def test_batches_do_not_matter(how: Impairment, sizes: list[int], seed: int, random: object) -> None:
    frames = [bytes([number]) * size for number, size in enumerate(sizes)]
    whole, single = Netem(how, seed), Netem(how, seed)
    whole.put(frames, 1.0)
    for frame in frames:
        single.put([frame], 1.0)
    assert arrivals(whole) == arrivals(single)
    assert whole.statistics() == single.statistics()


@pytest.mark.parametrize("gap", [0.0, 0.0005])
def test_the_rate_holds(gap: float) -> None:
    cable = Netem(Impairment(rate=1e6, delay=0.5, queue=1000))  # 125 bytes take a millisecond
    for number in range(500):
        cable.put([bytes(125)], number * gap)
    times = [time for time, _ in arrivals(cable)]
    assert times == pytest.approx([0.501 + number * 0.001 for number in range(500)])


def test_the_rate_does_not_count_the_virtio_net_hdr() -> None:
    cable = Netem(Impairment(rate=1e6), vnet_header=True)
    cable.put([bytes(12 + 125)], 0.0)
    assert cable.next_deadline() == pytest.approx(0.001)


def test_a_full_queue_loses_frames_and_has_room_as_they_leave() -> None:
    cable = Netem(Impairment(rate=1e6, delay=1.0, queue=3))
    cable.put(frames_of(10, 125), 0.0)
    assert (cable.statistics().waiting, cable.statistics().overflowed) == (3, 7)
    assert cable.is_full(0.0009)
    assert cable.room_at() == pytest.approx(0.001)
    assert not cable.is_full(0.0011)
    cable.put(frames_of(10, 125), 0.0011)
    assert (cable.statistics().waiting, cable.statistics().overflowed) == (4, 16)


def test_a_queue_that_loses_nothing_tells_that_it_is_full() -> None:
    cable = Netem(Impairment(rate=1e6, queue=3), drops=False)
    assert (cable.is_full(0.0), cable.room_at()) == (False, None)
    cable.put(frames_of(10, 125), 0.0)
    assert cable.room_at() == pytest.approx(0.008)
    assert cable.is_full(0.0079)
    assert not cable.is_full(0.0081)
    assert len(arrivals(cable)) == 10


def test_frames_that_wait_leave_at_a_new_rate() -> None:
    cable = Netem(Impairment(rate=1e3, delay=0.5, queue=1000))
    frames = frames_of(100, 125)
    cable.put(frames, 0.0)
    assert cable.take(1.5) == frames[:1]
    cable.become(Impairment(rate=1e6))
    found = arrivals(cable)
    assert [frame for _, frame in found] == frames[1:]
    assert found[-1][0] < 2.1
    cable.put(frames[:1], 3.0)
    cable.become(Impairment())
    assert [frame for _, frame in arrivals(cable)] == frames[:1]


def test_frames_that_wait_keep_their_order_at_a_new_rate_although_the_delay_varies() -> None:
    cable = Netem(Impairment(rate=1e4, delay=0.5, jitter=0.5, queue=1000))
    frames = frames_of(100, 125)
    cable.put(frames, 0.0)
    cable.become(replace(cable.impairment, rate=1e7))
    assert [frame for _, frame in arrivals(cable)] == frames


def test_a_frame_that_is_held_back_holds_back_no_other_at_a_new_rate() -> None:
    cable = Netem(Impairment(rate=1e3, reorder=1.0, hold=5.0))
    held, other = frames_of(2)
    cable.put([held], 0.0)
    cable.become(Impairment(rate=1e6))
    cable.put([other], 0.0)
    assert [frame for _, frame in arrivals(cable)] == [other, held]


def test_a_shorter_delay_overtakes_nothing() -> None:
    cable = Netem(Impairment(delay=1.0))
    cable.put([b"a"], 0.0)
    cable.become(Impairment())
    cable.put([b"b"], 0.5)
    assert arrivals(cable) == [(1.0, b"a"), (1.0, b"b")]


@pytest.mark.parametrize("loss", [0.01, 0.2, 0.5])
def test_the_share_of_loss(loss: float) -> None:
    cable, arrived = passed(Impairment(loss=loss), frames_of(MANY))
    assert cable.lost == MANY - len(arrived)
    assert cable.lost / MANY == pytest.approx(loss, abs=5 * math.sqrt(loss / MANY))


@pytest.mark.parametrize(("loss", "burst"), [(0.01, 5.0), (0.1, 2.5), (0.5, 1.0), (0.2, 20.0)])
def test_bursts_have_their_mean_length_and_the_same_share(loss: float, burst: float) -> None:
    count = 10 * MANY
    _, arrived = passed(Impairment(loss=loss, burst=burst), frames_of(count, 20))
    there = {int.from_bytes(frame, "big") for frame in arrived}
    lost = [number not in there for number in range(count)]
    bursts = sum(here and not before for before, here in pairwise([False, *lost]))
    assert sum(lost) / count == pytest.approx(loss, rel=0.15)
    assert sum(lost) / bursts == pytest.approx(burst, rel=0.1)


def test_all_can_be_lost_and_a_limit_of_losses_in_a_row_holds() -> None:
    assert passed(Impairment(loss=1.0), frames_of(100))[1] == []
    frames = frames_of(100)
    assert passed(Impairment(loss=1.0, longest_loss=3), frames)[1] == frames[3::4]


def test_the_share_of_duplicates() -> None:
    cable, arrived = passed(Impairment(duplicate=0.1), frames_of(MANY))
    assert len(arrived) == MANY + cable.duplicated
    assert cable.duplicated / MANY == pytest.approx(0.1, abs=0.01)


@pytest.mark.parametrize("rate", [0.0, 1e5, 1e7])
def test_frames_that_are_held_back_are_overtaken(rate: float) -> None:
    frames = frames_of(2000, 500)
    cable, arrived = passed(Impairment(reorder=0.1, rate=rate, queue=1 << 20), frames, gap=0.0002)
    assert sorted(arrived) == frames
    overtaken = sum(later < earlier for earlier, later in pairwise(arrived))
    assert cable.reordered / 2000 == pytest.approx(0.1, abs=0.03)
    assert overtaken > 50


@pytest.mark.parametrize("jitter_reorders", [False, True])
def test_jitter_alone_reorders_only_if_it_may(jitter_reorders: bool) -> None:
    frames = frames_of(1000)
    _, arrived = passed(Impairment(delay=0.1, jitter=0.05, jitter_reorders=jitter_reorders), frames, gap=0.001)
    assert sorted(arrived) == frames
    assert (arrived != frames) == jitter_reorders


@pytest.mark.parametrize("distribution", Distribution)
def test_delays_are_spread_around_the_mean(distribution: Distribution) -> None:
    how = Impairment(delay=10.0, jitter=0.1, distribution=distribution, jitter_reorders=True)
    cable = Netem(how)
    cable.put(frames_of(MANY), 0.0)
    delays = [time for time, _ in arrivals(cable)]
    deviation = 0.1 / math.sqrt(3) if distribution is Distribution.UNIFORM else 0.1
    assert fmean(delays) == pytest.approx(10.0, abs=0.005)
    assert pstdev(delays) == pytest.approx(deviation, rel=0.2)
    if distribution is Distribution.UNIFORM:
        assert 9.9 <= min(delays) < max(delays) <= 10.1


@given(st.binary(min_size=14, max_size=80), st.integers(0, 100))
def test_a_corrupted_frame_differs_in_one_bit_behind_the_ethernet_header(frame: bytes, seed: int) -> None:
    [found] = passed(Impairment(corrupt=1.0), [frame], seed)[1]
    assert found[:14] == frame[:14]
    difference = int.from_bytes(found, "big") ^ int.from_bytes(frame, "big")
    assert difference.bit_count() == (1 if len(frame) > 14 else 0)


def test_every_bit_can_be_wrong() -> None:
    cable = Netem(Impairment(corrupt=1.0))
    cable.put([bytes(17)] * 2000, 0.0)
    assert len({frame for _, frame in arrivals(cable)}) == 24


@pytest.mark.parametrize("size", [14, 1514])
def test_memory_is_bounded(size: int) -> None:
    cable = Netem(Impairment(delay=1000.0), memory=100_000)
    for _ in range(100):
        cable.put([bytes(size)] * 100, 0.0)
    counters = cable.statistics()
    assert counters.waiting * size < 100_000
    assert counters.waiting < 600
    assert counters.overflowed == 10_000 - counters.waiting
    arrivals(cable)
    cable.put([bytes(size)], 2000.0)
    assert cable.statistics().waiting == 1


def test_the_seed_decides() -> None:
    how = Impairment(loss=0.3, duplicate=0.2, reorder=0.2, corrupt=0.1, jitter=0.1)
    runs = [passed(how, frames_of(200), seed, 0.001)[1] for seed in (1, 1, 2)]
    assert runs[0] == runs[1] != runs[2]


def test_another_impairment_keeps_the_rest() -> None:
    cable = Netem(Impairment(loss=1.0))
    cable.put([b"a"], 0.0)
    cable.become(replace(cable.impairment, loss=0.0))
    cable.put([b"b"], 0.0)
    assert (cable.take(0.0), cable.lost) == ([b"b"], 1)
