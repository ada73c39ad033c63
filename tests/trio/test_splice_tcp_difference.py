"""A splice behaves like a direct connection, whatever its two ends do and in any order."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from struct import pack

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trio.fake import Bench
from tests.trio.test_splice_tcp import Spliced

Step = tuple[int, str]
"""The number of an end, and its action."""

SIZES = {"send a byte": 1, "send": 100, "send more": 20_000}
"""All data fit into the buffers of one connection, so the time of reading does not matter."""

_TRIES = 5
"""On a busy computer even loopback may deliver late, so a difference must occur every time."""


def perform(end: socket.socket, action: str) -> object:
    """Perform an action on a non-blocking end; its result."""
    try:
        match action:
            case "receive":
                return end.recv(50_000)
            case "end":
                end.shutdown(socket.SHUT_WR)
            case "close":
                end.close()
            case "reset":
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, pack("=ii", 1, 0))
                end.close()
            case _:
                return end.send(bytes([len(action)]) * SIZES[action])
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return None


def seen(pair: tuple[socket.socket, socket.socket], steps: list[Step], settle: Callable[[], None]) -> list[object]:
    """The result of each step, and of all actions at the end."""
    last = [(end, action) for action in ("receive", "send", "receive", "send", "receive") for end in (0, 1)]
    outcomes: list[object] = []
    with ExitStack() as stack:
        for end in pair:
            stack.enter_context(end).setblocking(False)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for number, action in [*steps, *last]:
            if pair[number].fileno() >= 0:
                outcomes.append((number, action, perform(pair[number], action)))
                settle()
    settle()
    return outcomes


@pytest.fixture(scope="module")
def spliced() -> Iterator[Spliced]:
    with Bench() as bench:
        made = Spliced(bench)
        with made.listener:
            yield made
        made.splices.close()


@settings(max_examples=150)
@given(
    steps=st.lists(
        st.tuples(st.integers(0, 1), st.sampled_from([*SIZES, *SIZES, "receive", "receive", "end", "close", "reset"])),
        max_size=8,
    )
)
def test_a_splice_is_like_a_direct_connection(spliced: Spliced, steps: list[Step]) -> None:
    def settle() -> None:
        while spliced.bench.round(0.0):
            pass

    def compare() -> tuple[list[object], list[object]]:
        near = socket.create_connection(spliced.listener.getsockname())
        direct = seen((near, spliced.listener.accept()[0]), steps, lambda: None)
        indirect = seen(spliced.pair(), steps, settle)
        spliced.over()
        return indirect, direct

    for _ in range(_TRIES):
        indirect, direct = compare()
        if indirect == direct:
            return
    assert indirect == direct
