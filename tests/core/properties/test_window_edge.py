"""Invariants of acknowledgments whose sequence number is anywhere in the window, both edges included:

- they count, whatever the guest has sent, and lost, before: a guest acknowledges from its SND.NXT (RFC 9293, 3.10.7.4);
- beyond the right edge they do not.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sansnet_core import Limits, LinkConfig
from sansnet_core.testing import ManualConnection, Pair, make_config
from sansnet_core.testing.packets import ACK, PSH

_LARGE = LinkConfig(mtu=65520, max_frame_size=65535)


@pytest.mark.slow
@given(
    window=st.sampled_from([1, 1000, 2000, 60_000]),
    in_order=st.sampled_from([0.0, 0.3, 1.0]),
    beyond=st.sampled_from([0.0, 0.3, 1.0]),
    place=st.one_of(st.sampled_from([0.0, 1.0]), st.floats(0, 1)),
    outside=st.sampled_from([0, 0, 0, 1, 1000]),
    taken=st.integers(1, 500),
    ends=st.booleans(),
)
def test_an_acknowledgment_counts_anywhere_in_the_window(
    window: int, in_order: float, beyond: float, place: float, outside: int, taken: int, ends: bool
) -> None:
    """`in_order` and `beyond` a gap are parts of the window that are filled; `place` is where the acknowledgment is."""
    pair = Pair(make_config(_LARGE, Limits(tcp_window=window)))
    peer = ManualConnection(pair)
    peer.open()
    stream = pair.host.stream
    stream.blocked = True
    edge = peer.sequence + window
    pair.host.produce(stream, bytes(500))
    pair.settle()
    peer.accept(peer.take())
    first = peer.expected - 500
    assert pair.network.stream_unacknowledged(stream.socket) == 500
    filled = round(in_order * window)
    peer.send(ACK | PSH, bytes(filled), acknowledgment=first)
    begin = peer.sequence + filled
    if (size := round(beyond * (edge - begin - 1))) > 0:
        peer.send(ACK | PSH, bytes(size), sequence=edge - size, acknowledgment=first)
    if ends:
        pair.host.end(stream)
        pair.settle()
    sequence = edge + outside if outside else begin + round(place * (edge - begin))
    peer.send(ACK, sequence=sequence, acknowledgment=first + taken)

    assert pair.network.stream_unacknowledged(stream.socket) == (500 if outside else 500 - taken)
