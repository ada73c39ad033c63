"""Reassembly alone; its callers are tested with real fragments in test_ipv4 and test_ipv6."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sansnet_core.config import Ipv4Config, Limits, NetworkConfig
from sansnet_core.context import Context
from sansnet_core.errors import Malformed, Reason
from sansnet_core.proto.icmp_errors import IcmpErrors
from sansnet_core.proto.reassembly import Reassembly
from sansnet_core.wire.ip import UDP, IpHeader

LARGEST = 65515
DATA = bytes(range(40))
Piece = tuple[int, int]


class Bench:
    """A `Reassembly` and its context."""

    def __init__(self, limits: Limits | None = None) -> None:
        ipv4 = Ipv4Config(address=bytes([10, 0, 2, 15]), prefix_length=24, gateway=None)
        config = NetworkConfig(ipv4=ipv4, limits=limits or Limits())
        self.context = Context(config, now=0.0, secret=bytes(16))
        self.reassembly = Reassembly(self.context, IcmpErrors(self.context), LARGEST)

    def add(
        self, offset: int, more: bool, data: bytes, *, key: int = 0, ttl: int = 64, tos: int = 0
    ) -> tuple[IpHeader, bytes] | None:
        header = IpHeader(4, bytes([10, 0, 2, 15]), bytes([192, 0, 2, 7]), UDP, ttl, tos, 0, 20, 20 + len(data))
        return self.reassembly.add(key, header, offset, more, data)

    def piece(self, start: int, end: int, *, key: int = 0) -> bytes | None:
        """Add a piece of `DATA`; the payload if that completes it."""
        found = self.add(start, end < len(DATA), DATA[start:end], key=key)
        return found[1] if found else None

    def refused(self, offset: int, more: bool, data: bytes, *, key: int = 0) -> Reason:
        with pytest.raises(Malformed) as caught:
            self.add(offset, more, data, key=key)
        return caught.value.reason

    def wait(self, now: float) -> None:
        self.context.now = now
        self.context.timers.expire(now)


def test_pieces_in_order() -> None:
    bench = Bench()
    assert [bench.piece(*piece) for piece in ((0, 16), (16, 32), (32, 40))] == [None, None, DATA]


@given(st.permutations([(0, 8), (8, 16), (16, 24), (24, 32), (32, 40)]), st.lists(st.integers(0, 3), max_size=5))
def test_pieces_in_any_order_with_duplicates(order: list[Piece], repeated: list[int]) -> None:
    bench = Bench()
    *early, last = order
    for piece in early:
        assert bench.piece(*piece) is None
    for index in repeated:
        assert bench.piece(*early[index]) is None
    assert bench.piece(*last) == DATA


@given(
    st.binary(min_size=1, max_size=400),
    st.lists(st.integers(1, 49), max_size=10, unique=True),
    st.randoms(use_true_random=False),
)
def test_any_cut_of_any_data(data: bytes, cuts: list[int], random: Random) -> None:
    edges = [0, *sorted(cut * 8 for cut in cuts if cut * 8 < len(data)), len(data)]
    pieces = list(pairwise(edges))
    random.shuffle(pieces)
    bench = Bench()
    found = [bench.add(start, end < len(data), data[start:end]) for start, end in pieces]
    assert found[:-1] == [None] * (len(pieces) - 1)
    assert found[-1] is not None
    assert found[-1][1] == data


def test_datagrams_do_not_mix() -> None:
    bench = Bench()
    assert bench.piece(0, 16, key=1) is None
    assert bench.piece(16, 40, key=2) is None
    assert bench.piece(16, 40, key=1) == DATA
    assert bench.piece(0, 16, key=2) == DATA


def test_a_key_serves_again_once_its_datagram_is_complete() -> None:
    bench = Bench()
    for _ in range(2):
        assert bench.piece(0, 16) is None
        assert bench.piece(16, 40) == DATA


def test_the_header_is_that_of_the_first_fragment() -> None:
    bench = Bench()
    bench.add(8, False, b"end", ttl=1, tos=4)
    found = bench.add(0, True, bytes(8), ttl=2, tos=8)
    assert found is not None
    assert (found[0].ttl, found[0].tos) == (2, 8)


def test_a_mark_of_congestion_on_any_fragment_is_kept() -> None:
    bench = Bench()
    bench.add(8, False, b"end", tos=0xB8 | 3)
    found = bench.add(0, True, bytes(8), tos=0x20 | 2)
    assert found is not None
    assert found[0].tos == 0x20 | 3


@pytest.mark.parametrize(
    ("offset", "more", "data"),
    [
        pytest.param(0, True, bytes(12), id="not a multiple of 8 bytes"),
        pytest.param(0, True, b"", id="empty"),
        pytest.param(8, False, b"", id="empty at the end"),
        pytest.param(65512, False, bytes(4), id="beyond the largest datagram"),
    ],
)
def test_an_impossible_fragment_is_refused_and_harms_no_other(offset: int, more: bool, data: bytes) -> None:
    bench = Bench()
    assert bench.piece(0, 16) is None
    assert bench.refused(offset, more, data) is Reason.FRAGMENT_MALFORMED
    assert bench.piece(16, 40) == DATA


def test_the_largest_datagram() -> None:
    bench = Bench()
    assert bench.add(0, True, bytes(32768)) is None
    found = bench.add(32768, False, bytes(LARGEST - 32768))
    assert found is not None
    assert len(found[1]) == LARGEST


def spoil(reason: Reason, pieces: Iterable[tuple[int, bool, bytes]], culprit: tuple[int, bool, bytes]) -> None:
    """The last piece contradicts the others: all further fragments of the datagram are dropped."""
    bench = Bench()
    for offset, more, data in pieces:
        assert bench.add(offset, more, data) is None
    assert bench.refused(*culprit) is reason
    assert bench.refused(0, True, bytes(8)) is reason
    assert bench.refused(8, False, bytes(8)) is reason
    assert bench.context.drops == {}
    bench.wait(30.0)
    assert bench.context.drops == {}
    assert bench.add(0, True, bytes(8)) is None


@pytest.mark.parametrize(
    ("pieces", "culprit"),
    [
        pytest.param([(0, True, bytes(16))], (8, True, bytes(16)), id="into the one before"),
        pytest.param([(8, True, bytes(16))], (0, True, bytes(16)), id="into the one behind"),
        pytest.param([(8, True, bytes(8))], (0, True, bytes(24)), id="around another"),
        pytest.param([(0, True, bytes(24))], (8, True, bytes(8)), id="inside another"),
        pytest.param([(0, True, bytes(8))], (0, True, bytes(16)), id="longer than before"),
        pytest.param([(0, True, bytes(8))], (0, True, b"\1" * 8), id="other bytes than before"),
        pytest.param([(0, True, bytes(16))], (8, False, bytes(8)), id="at the end"),
    ],
)
def test_an_overlap_spoils_the_datagram(
    pieces: list[tuple[int, bool, bytes]], culprit: tuple[int, bool, bytes]
) -> None:
    spoil(Reason.FRAGMENT_OVERLAP, pieces, culprit)


@pytest.mark.parametrize(
    ("pieces", "culprit"),
    [
        pytest.param([(16, False, bytes(8))], (24, True, bytes(8)), id="more behind the end"),
        pytest.param([(16, False, bytes(8))], (8, True, bytes(16)), id="more up to the end"),
        pytest.param([(16, True, bytes(8))], (8, False, bytes(8)), id="an end before the rest"),
        pytest.param([(16, False, bytes(8))], (24, False, bytes(8)), id="a second end"),
    ],
)
def test_two_ends_spoil_the_datagram(pieces: list[tuple[int, bool, bytes]], culprit: tuple[int, bool, bytes]) -> None:
    spoil(Reason.FRAGMENT_MALFORMED, pieces, culprit)


def test_too_many_fragments_spoil_the_datagram() -> None:
    bench = Bench(Limits(reassembly_fragments=3))
    for offset in (0, 8, 16):
        assert bench.add(offset, True, bytes(8)) is None
    assert bench.add(8, True, bytes(8)) is None, "a duplicate is not one more"
    assert bench.refused(24, False, bytes(8)) is Reason.FRAGMENT_LIMIT
    assert bench.refused(0, True, bytes(8)) is Reason.FRAGMENT_LIMIT


def test_the_oldest_of_too_many_datagrams_makes_room() -> None:
    bench = Bench(Limits(reassembly_datagrams=2))
    for key in (1, 2, 3):
        assert bench.piece(0, 16, key=key) is None
    assert bench.context.drops == {Reason.FRAGMENT_LIMIT: 1}
    assert bench.piece(16, 40, key=2) == DATA
    assert bench.piece(16, 40, key=3) == DATA
    assert bench.piece(16, 40, key=1) is None


def test_a_spoiled_datagram_that_makes_room_is_not_counted_twice() -> None:
    bench = Bench(Limits(reassembly_datagrams=1))
    assert bench.piece(0, 16, key=1) is None
    assert bench.refused(0, True, bytes(8), key=1) is Reason.FRAGMENT_OVERLAP
    assert bench.piece(0, 16, key=2) is None
    assert bench.context.drops == {}


def test_each_datagram_has_its_own_time() -> None:
    bench = Bench()
    timers = bench.context.timers
    assert bench.piece(0, 16, key=1) is None
    assert timers.next_deadline() == 30.0
    bench.wait(10.0)
    assert bench.piece(0, 16, key=2) is None
    bench.wait(29.0)
    assert bench.context.drops == {}
    bench.wait(30.0)
    assert bench.context.drops == {Reason.FRAGMENT_TIMEOUT: 1}
    assert timers.next_deadline() == 40.0
    assert bench.piece(16, 40, key=2) == DATA
    bench.wait(40.0)
    assert bench.context.drops == {Reason.FRAGMENT_TIMEOUT: 1}
    assert timers.next_deadline() is None


def test_a_fragment_that_comes_later_does_not_prolong_the_wait() -> None:
    bench = Bench()
    assert bench.piece(0, 16) is None
    bench.wait(29.0)
    assert bench.piece(16, 32) is None
    bench.wait(30.0)
    assert bench.context.drops == {Reason.FRAGMENT_TIMEOUT: 1}
    assert bench.piece(32, 40) is None


FRAGMENT = st.tuples(st.integers(0, 3), st.integers(0, 12), st.booleans(), st.integers(0, 20))


@given(st.lists(FRAGMENT, max_size=40))
def test_any_fragments_are_kept_or_malformed_and_a_complete_datagram_has_no_gap(
    fragments: list[tuple[int, int, bool, int]],
) -> None:
    bench = Bench(Limits(reassembly_datagrams=2, reassembly_fragments=5))
    source = bytes(range(1, 200))
    reasons: set[Reason] = set()
    for key, unit, more, size in fragments:
        offset = unit * 8
        try:
            found = bench.add(offset, more, source[offset : offset + size], key=key)
        except Malformed as error:
            reasons.add(error.reason)
        else:
            assert found is None or found[1] == source[: len(found[1])]
    assert all(reason.name.startswith("FRAGMENT_") for reason in reasons)
