"""The window that a simulated guest offers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sansnet_core.testing import GuestTcpOptions, Pair
from sansnet_core.testing.strategies import guest_tcp_options, links


@pytest.mark.parametrize(
    "options",
    [
        GuestTcpOptions(window=65535, mss=100, scale=7, autoread=False),  # the scale takes 127 bytes from the window
        GuestTcpOptions(window=256 << 10, scale=None, autoread=False),  # the field has no more than 65535
        GuestTcpOptions(window=1, scale=0, autoread=False),
    ],
)
def test_reading_nothing_sends_nothing(options: GuestTcpOptions) -> None:
    pair = Pair()
    connection, _ = pair.established(options)
    pair.settle()
    pair.guest.take_frames()
    sent = 0
    for _ in range(50):
        assert connection.read(10) == b""
        connection.output(pair.now)
        sent += len(pair.guest.take_frames())
    assert sent == 0


def test_reading_opens_the_window() -> None:
    pair = Pair()
    connection, stream = pair.established(GuestTcpOptions(window=65535, mss=100, scale=7, autoread=False))
    data = bytes(200_000)
    pair.host.produce(stream, data)
    received = b""
    for _ in range(10):
        pair.settle()
        received += connection.read(len(data))
    assert received == data


@given(st.data())
def test_each_guest_that_is_drawn_can_receive(data: st.DataObject) -> None:
    options = data.draw(guest_tcp_options(data.draw(links())))
    assert options.window >> (options.scale or 0)
