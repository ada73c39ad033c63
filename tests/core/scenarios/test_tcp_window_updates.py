"""The guest learns of a larger window, judged by the window that it sees (RFC 9293, 3.8.6.2.2; RFC 7323, 2.3)."""

from __future__ import annotations

from hypothesis import assume, given
from hypothesis import strategies as st

from sansnet_core import Limits, LinkConfig
from sansnet_core.proto.tcp.memory import RESERVE
from sansnet_core.proto.tcp.receiving import Receiver
from sansnet_core.testing import ManualConnection, Pair, make_config

MSS = 1460
MEMORY = 6 << 20
SCALE = 7


class _Sender:
    """A guest that follows the window it sees."""

    def __init__(self, pair: Pair, port: int) -> None:
        self._pair = pair
        self._peer = ManualConnection(pair, port=port)
        assert self._peer.open(scale=SCALE).scale == SCALE
        self._edge = 0
        self.feed(1000)

    @property
    def room(self) -> int:
        return self._edge - self._peer.sequence

    def feed(self, size: int) -> None:
        self._peer.data(bytes(size))
        self._pair.wait(0.0021)
        self.look()

    def look(self) -> None:
        for answer in self._peer.take():
            self._edge = answer.acknowledgment + (answer.window << SCALE)


def test_a_window_that_looks_smaller_than_a_segment_is_updated() -> None:
    """Half of the memory is in use, so the window cannot grow by a quarter of its largest size."""
    pair = Pair(make_config(limits=Limits(tcp_memory=MEMORY)))
    one = _Sender(pair, 50001)
    stream = pair.host.stream
    other = _Sender(pair, 50002)
    pair.host.stream.blocked = True
    while other.room >= MSS:
        other.feed(MSS)
    while one.room > 2 * RESERVE:
        one.feed(MSS)
    stream.blocked = True
    while one.room > 1408 + MSS:
        one.feed(MSS)
    one.feed(one.room - 1408)
    assert one.room == 1408

    stream.blocked = False
    pair.settle()
    one.look()
    assert one.room == 2 * RESERVE


def test_after_a_rest_a_window_without_scaling_is_not_rounded() -> None:
    pair = Pair()
    peer = ManualConnection(pair)
    assert peer.open(scale=None).scale is None
    pair.host.produce(pair.host.stream, b"x")
    pair.settle()
    peer.accept(peer.take())
    peer.send()
    pair.wait(5.0)
    pair.host.produce(pair.host.stream, b"x")
    pair.settle()

    assert [segment.window for segment in peer.take()] == [65535]


@given(
    mss=st.sampled_from([536, MSS, 8960]),
    scale=st.integers(0, 14),
    unsent=st.integers(0, 40_000),
    left=st.integers(0, 40_000),
    limit=st.integers(1, 40_000) | st.just(2 * RESERVE),
)
def test_an_update_is_sent_exactly_if_the_guest_sees_a_step(
    mss: int, scale: int, unsent: int, left: int, limit: int
) -> None:
    receiver = Receiver(0, 65535 << scale, scale)
    receiver.offer_window(mss, 65535 << scale)
    receiver.next = (receiver.edge - left) % (1 << 32)
    receiver.unsent = unsent
    seen = left >> scale << scale
    possible = max(limit - unsent, 0) >> scale << scale
    step = min(mss, max(limit >> 1, 1))
    assume(seen < step)

    assert receiver.window_opens(mss, limit) == (possible - seen >= step)
    assert receiver.offer_window(mss, limit) == (possible if possible - seen >= step else seen)


@given(
    mss=st.sampled_from([536, MSS, 8960]),
    scale=st.integers(0, 14),
    unsent=st.integers(0, 200_000),
    left=st.integers(0, 200_000),
    limit=st.integers(1, 200_000),
)
def test_no_update_is_in_vain(mss: int, scale: int, unsent: int, left: int, limit: int) -> None:
    receiver = Receiver(0, 65535 << scale, scale)
    receiver.offer_window(mss, 65535 << scale)
    receiver.next = (receiver.edge - left) % (1 << 32)
    receiver.unsent = unsent
    edge = receiver.edge
    if receiver.window_opens(mss, limit):
        assert receiver.offer_window(mss, limit) > left >> scale << scale
    else:
        receiver.offer_window(mss, limit)
    assert (receiver.edge - edge) % (1 << 32) < 1 << 31  # it never moves left


def test_a_first_window_of_hardly_one_segment_grows_with_the_first_acknowledgment_that_is_due_anyway() -> None:
    """At a large MTU. A guest sends what fits into half of the window, so it does not wait for more."""
    pair = Pair(make_config(LinkConfig(mtu=65520, max_frame_size=65549)))
    peer = ManualConnection(pair)
    peer.open(mss=65480, scale=SCALE)
    stream = pair.host.stream
    assert peer.data(b"question") == []
    assert bytes(stream.received) == b"question"
    pair.host.produce(stream, b"answer")
    pair.settle()
    (answer,) = peer.take()

    assert (answer.payload, answer.acknowledgment) == (b"answer", peer.sequence)
    assert answer.window << SCALE > 65535


def test_a_first_window_of_which_more_than_half_is_used_grows_at_once() -> None:
    pair = Pair(make_config(LinkConfig(mtu=65520, max_frame_size=65549)))
    peer = ManualConnection(pair)
    peer.open(mss=65480, scale=SCALE)
    assert peer.data(bytes(32767)) == []
    (answer,) = peer.data(bytes(129))  # the guest sees a multiple of 128

    assert answer.window << SCALE > 65535
