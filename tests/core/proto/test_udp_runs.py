"""Datagrams in a row are joined into one frame, and the guest can still tell where each ends."""

from __future__ import annotations

from typing import Any

import pytest

from sansnet_core.egress import FlowHeaders
from sansnet_core.orders import Buffer
from sansnet_core.proto.udp.runs import MAX_DATAGRAMS, Runs


class Headers(FlowHeaders):
    """Stands for the headers of one flow; `sent` has the payloads of its frames, with the size of their datagrams."""

    def __init__(self, most: int = 60_000) -> None:
        self.most = most
        self.sent: list[tuple[bytes, int]] = []

    def largest_run(self, segment_size: int) -> int:
        return max(self.most // segment_size, 1) * segment_size

    def udp(self, payload: Buffer, segment_size: int, ttl: int, tos: int) -> None:
        self.sent.append((bytes(payload), segment_size))


def joined(*datagrams: tuple[bytes, int], most: int = 60_000) -> list[tuple[bytes, int]]:
    """The frames for datagrams, or for runs of them with the size of each."""
    headers: Any = Headers(most)
    runs = Runs()
    for data, segment_size in datagrams:
        runs.add(headers, data, segment_size, 64, 0)
    runs.flush()
    runs.flush()
    frames: list[tuple[bytes, int]] = headers.sent
    return frames


@pytest.mark.parametrize(
    ("datagrams", "frames"),
    [
        ([(b"a", 0), (b"b", 0)], [(b"ab", 1)]),
        ([(b"aa", 0), (b"b", 0), (b"c", 0)], [(b"aab", 2), (b"c", 1)]),
        ([(b"aa", 0), (b"b", 0), (b"cc", 0)], [(b"aab", 2), (b"cc", 2)]),
        ([(b"a", 0), (b"bb", 0)], [(b"a", 1), (b"bb", 2)]),
        ([(b"a", 0), (b"", 0), (b"b", 0)], [(b"a", 1), (b"", 0), (b"b", 1)]),
        ([(b"aabb", 2), (b"cc", 0), (b"ddee", 2)], [(b"aabbccddee", 2)]),
        ([(b"aab", 2), (b"c", 0)], [(b"aab", 2), (b"c", 1)]),
        ([(b"aa", 0), (b"bbc", 2), (b"d", 0)], [(b"aabbc", 2), (b"d", 1)]),
        ([(b"aa", 0), (b"bc", 1)], [(b"aa", 2), (b"bc", 1)]),
    ],
)
def test_only_the_last_datagram_of_a_frame_is_shorter(
    datagrams: list[tuple[bytes, int]], frames: list[tuple[bytes, int]]
) -> None:
    assert joined(*datagrams) == frames


def test_a_frame_is_filled_and_no_more() -> None:
    assert [len(data) for data, _ in joined(*[(b"a", 0)] * (MAX_DATAGRAMS + 1))] == [MAX_DATAGRAMS, 1]
    assert [len(data) for data, _ in joined(*[(b"aa", 0)] * 5, most=9)] == [8, 2]
    assert [len(data) for data, _ in joined((b"aaaaaa", 2), (b"bbbb", 2), (b"cc", 0), most=9)] == [6, 6]


@pytest.mark.parametrize("other", [(63, 0), (64, 1)], ids=["ttl", "tos"])
def test_datagrams_that_differ_in_their_header_are_apart(other: tuple[int, int]) -> None:
    headers: Any = Headers()
    runs = Runs()
    for ttl, tos in ((64, 0), other):
        runs.add(headers, b"a", 0, ttl, tos)
    runs.flush()
    assert headers.sent == [(b"a", 1), (b"a", 1)]


def test_the_datagrams_of_a_flow_that_is_given_up_are_lost_and_those_of_others_are_not() -> None:
    lost: Any = Headers()
    kept: Any = Headers()
    runs = Runs()
    runs.add(lost, b"a", 0, 64, 0)
    runs.forget(kept)
    runs.forget(lost)
    runs.add(kept, b"b", 0, 64, 0)
    runs.forget(lost)
    runs.flush()
    assert (lost.sent, kept.sent) == ([], [(b"b", 1)])
