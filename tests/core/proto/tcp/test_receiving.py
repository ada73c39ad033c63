"""The receiving half against a model: a set of the positions that it keeps."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from sansnet_core.proto.tcp.gap import PIECE_COST
from sansnet_core.proto.tcp.receiving import Receiver
from sansnet_core.wire.tcp import add

WINDOW = 300


def _runs(kept: set[int]) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for position in sorted(kept):
        if found and found[-1][1] == position:
            found[-1] = found[-1][0], position + 1
        else:
            found.append((position, position + 1))
    return found


@given(
    irs=st.sampled_from([0, 5, 0x7FFFFFF0, 0xFFFFFFF0]), seed=st.integers(0, 1 << 32), longest=st.sampled_from([3, 30])
)
def test_what_is_kept_and_reported_is_what_came(irs: int, seed: int, longest: int) -> None:
    random = Random(seed)
    receiver = Receiver(irs, WINDOW)
    first = receiver.next
    taken = 0
    kept: set[int] = set()
    for _ in range(100):
        position, size = taken + random.randint(-5, 120), random.randint(1, longest)
        sequence = add(first, position)
        if kept and random.random() < 0.1:
            freed = receiver.discard_piece() - PIECE_COST
            kept -= set(sorted(kept)[-freed:])
        elif receiver.acceptable(sequence, size):
            data = bytes((position + n) % 251 for n in range(size))
            ready = b"".join(receiver.accept(sequence, data, 1000))
            kept |= {one for one in range(position, position + size) if taken <= one < WINDOW}
            assert ready == bytes((taken + n) % 251 for n in range(len(ready)))
            taken += len(ready)
            kept -= set(range(taken))
            assert taken not in kept
            newest = receiver.sack_blocks(1)
            if position > taken and position < WINDOW:
                assert newest[0][0] in {add(first, start) for start, end in _runs(kept) if start <= position < end}
        blocks = receiver.sack_blocks(1000)
        assert sorted(blocks) == sorted((add(first, start), add(first, end)) for start, end in _runs(kept))
        assert receiver.sack_blocks(3)[:1] == blocks[:1]
        assert receiver.next == add(first, taken)
        assert receiver.queued >= len(kept)
        assert bool(receiver.queued) == bool(kept)
