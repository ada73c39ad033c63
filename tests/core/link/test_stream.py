"""The framing of QEMU's stream protocol: every split of a stream gives the same frames."""

from __future__ import annotations

from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sansnet_core.errors import UsageError
from sansnet_core.link.stream import MAX_FRAME_SIZE, FrameDecoder, FrameLengthError, encode

ONE = bytes(range(14))
TWO = b"two" * 20
STREAM = b"\0\0\0\x0e" + ONE + b"\0\0\0\x3c" + TWO


def decoded(*pieces: bytes, limit: int = 1000) -> list[bytes]:
    """All frames of a stream that is received in these pieces."""
    decoder = FrameDecoder()
    frames = []
    for piece in pieces:
        decoder.receive(piece)
        while taken := decoder.take_frames(limit):
            assert len(taken) <= limit
            frames += taken
    return frames


def test_a_frame_stands_behind_its_length() -> None:
    assert b"".join(encode([ONE, TWO])) == STREAM
    assert decoded(STREAM) == [ONE, TWO]


def test_a_frame_in_two_parts_is_one_and_is_not_copied() -> None:
    payload = memoryview(TWO[10:])
    pieces = encode([ONE, (TWO[:10], payload)])
    assert b"".join(pieces) == STREAM
    assert pieces[-1] is payload


def test_each_byte_may_come_alone() -> None:
    assert decoded(*(STREAM[at : at + 1] for at in range(len(STREAM)))) == [ONE, TWO]


def test_the_limit_leaves_the_rest_for_later() -> None:
    decoder = FrameDecoder()
    decoder.receive(STREAM + STREAM[:20])
    assert decoder.take_frames(1) == [ONE]
    assert decoder.take_frames(1) == [TWO]
    assert decoder.take_frames(1) == [ONE]
    assert decoder.take_frames(1) == []
    decoder.receive(STREAM[20:])
    assert decoder.take_frames(9) == [TWO]


@given(
    frames=st.lists(st.binary(min_size=14, max_size=200), max_size=8),
    cuts=st.lists(st.integers(0, 1700), max_size=12),
    limit=st.integers(1, 5),
)
def test_any_split_gives_the_same_frames(frames: list[bytes], cuts: list[int], limit: int) -> None:
    stream = b"".join(encode(frames))
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    pieces = [stream[start:end] for start, end in pairwise(edges)]
    assert decoded(*pieces, limit=limit) == frames


def test_frames_are_received_into_one_buffer_which_never_grows() -> None:
    frames = [bytes([number]) * (14 + 4001 * number % 60000) for number in range(120)]
    stream = b"".join(encode(frames))
    decoder = FrameDecoder()
    got: list[bytes] = []
    longest = 0
    while stream or len(got) < len(frames):
        room = decoder.room()
        longest = max(longest, len(room))
        assert len(room) >= 256 << 10, "there is less than one frame in the buffer"
        count = min(len(room), len(stream), 100_000)
        room[:count] = stream[:count]
        decoder.received(count)
        stream = stream[count:]
        got += decoder.take_frames(1000)
    assert got == frames
    assert longest == len(decoder.room())


def test_bytes_that_do_not_fit_are_a_mistake_of_the_caller() -> None:
    decoder = FrameDecoder()
    room = len(decoder.room())
    with pytest.raises(UsageError, match="do not fit"):
        decoder.receive(bytes(room + 1))
    with pytest.raises(UsageError, match="do not fit"):
        decoder.received(-1)
    decoder.receive(STREAM)
    assert decoder.take_frames(9) == [ONE, TWO]


def test_the_largest_and_the_smallest_frame_pass() -> None:
    frames = [bytes(MAX_FRAME_SIZE), bytes(14)]
    assert decoded(b"".join(encode(frames))) == frames


@pytest.mark.parametrize("length", [0, 1, 13, MAX_FRAME_SIZE + 1, 0x0E000000, 0xFFFFFFFF])
def test_a_length_out_of_range_has_a_name_and_stays_an_error(length: int) -> None:
    decoder = FrameDecoder()
    decoder.receive(STREAM + length.to_bytes(4, "big"))
    assert decoder.take_frames(2) == [ONE, TWO]
    for _ in range(2):
        with pytest.raises(FrameLengthError, match=f"a frame of {length} bytes") as caught:
            decoder.take_frames(1)
        assert caught.value.length == length
        decoder.receive(STREAM)


@given(st.lists(st.binary(max_size=40), max_size=20))
def test_no_bytes_do_anything_but_give_frames_or_the_named_error(pieces: list[bytes]) -> None:
    with suppress(FrameLengthError):
        assert all(14 <= len(frame) <= MAX_FRAME_SIZE for frame in decoded(*pieces, limit=2))
