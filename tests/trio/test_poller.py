"""The nested epoll set."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from select import EPOLLIN, EPOLLOUT

import pytest

from sansnet_trio.host.poller import MAX_EVENTS, Poller


def handler(flags: int, now: float) -> None:
    """A handler that is never called: the driver calls handlers, not `Poller.poll`."""
    raise AssertionError


def test_a_member_is_reported_as_asked_until_it_is_removed() -> None:
    reading, writing = os.pipe()
    poller = Poller()
    try:
        poller.add(writing, 0, handler)
        assert poller.poll(0, MAX_EVENTS) == []
        poller.change(writing, EPOLLOUT)
        assert poller.poll(0, MAX_EVENTS) == [(writing, EPOLLOUT)]
        poller.change(writing, 0)
        assert poller.poll(0, MAX_EVENTS) == []
        poller.add(reading, EPOLLIN, handler)
        os.write(writing, b"x")
        assert poller.poll(0, MAX_EVENTS) == [(reading, EPOLLIN)]
        assert poller.handlers == {reading: handler, writing: handler}
        poller.remove(reading)
        assert poller.poll(0, MAX_EVENTS) == []
        assert poller.handlers == {writing: handler}
    finally:
        poller.close()
        os.close(reading)
        os.close(writing)


def test_the_set_is_itself_readable_while_a_member_is_ready() -> None:
    reading, writing = os.pipe()
    inner, outer = Poller(), Poller()
    try:
        inner.add(reading, EPOLLIN, handler)
        outer.add(inner.fileno(), EPOLLIN, handler)
        assert outer.poll(0, MAX_EVENTS) == []
        os.write(writing, b"x")
        assert outer.poll(0, MAX_EVENTS) == [(inner.fileno(), EPOLLIN)]
        os.read(reading, 1)
        assert outer.poll(0, MAX_EVENTS) == []
    finally:
        outer.close()
        inner.close()
        os.close(reading)
        os.close(writing)


def test_a_closed_set_forgets_its_handlers_and_leaves_its_members_open() -> None:
    reading, writing = os.pipe()
    poller = Poller()
    poller.add(reading, EPOLLIN, handler)
    poller.close()
    poller.close()
    assert poller.handlers == {}
    os.close(reading)
    os.close(writing)
    with pytest.raises(ValueError, match="closed"):
        poller.fileno()


def all_events(poller: Poller, count: int) -> list[tuple[int, int]]:
    """The events of one batch when this many members are ready."""
    while len(events := poller.poll(1, MAX_EVENTS)) < count:
        pass
    return events


@pytest.fixture
def two() -> Iterator[tuple[Poller, list[socket.socket]]]:
    """A set, and two sockets that can be read."""
    poller = Poller()
    pairs = socket.socketpair(), socket.socketpair()
    for _, other in pairs:
        other.send(b"x")
    yield poller, [one for one, _ in pairs]
    poller.close()
    for pair in pairs:
        for end in pair:
            end.close()


def test_a_member_that_is_retired_in_a_batch_gets_no_event_and_keeps_its_number(
    two: tuple[Poller, list[socket.socket]],
) -> None:
    """Each of two members closes both and opens another; only the first one in the batch can do it."""
    poller, members = two
    numbers = {member.fileno() for member in members}
    opened: list[socket.socket] = []

    def ready(flags: int, now: float) -> None:
        for member in members:
            poller.retire(member)
        opened.append(socket.socket())
        poller.add(opened[0].fileno(), EPOLLIN, handler)

    for member in members:
        poller.add(member.fileno(), EPOLLIN, ready)
    poller.handle(all_events(poller, 2), 0.0)
    with opened[0]:
        assert len(opened) == 1
        assert opened[0].fileno() not in numbers
        assert [member.fileno() for member in members] == [-1, -1]
        assert list(poller.handlers) == [opened[0].fileno()]


def test_a_member_that_is_removed_in_a_batch_gets_no_event(two: tuple[Poller, list[socket.socket]]) -> None:
    poller, members = two
    calls = []

    def ready(flags: int, now: float) -> None:
        calls.append(flags)
        for member in members:
            poller.remove(member.fileno())

    for member in members:
        poller.add(member.fileno(), EPOLLIN, ready)
    poller.handle(all_events(poller, 2), 0.0)
    assert calls == [EPOLLIN]
    assert poller.poll(0, MAX_EVENTS) == []


def test_between_batches_a_retired_member_is_closed_at_once(two: tuple[Poller, list[socket.socket]]) -> None:
    poller, [one, _] = two
    poller.add(one.fileno(), EPOLLIN, handler)
    poller.retire(one)
    assert one.fileno() == -1
    assert poller.poll(0, MAX_EVENTS) == []


def test_a_batch_that_fails_is_over(two: tuple[Poller, list[socket.socket]]) -> None:
    poller, [one, other] = two

    def fail(flags: int, now: float) -> None:
        poller.retire(one)
        raise MemoryError

    poller.add(one.fileno(), EPOLLIN, fail)
    poller.add(other.fileno(), 0, handler)
    with pytest.raises(MemoryError):
        poller.handle(all_events(poller, 1), 0.0)
    assert one.fileno() == -1
    poller.retire(other)
    assert other.fileno() == -1
