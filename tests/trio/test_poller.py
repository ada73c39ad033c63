"""The nested epoll set."""

from __future__ import annotations

import os
import socket
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


def test_a_retired_member_keeps_its_number_until_the_batch_is_over() -> None:
    poller = Poller()
    one, other = socket.socketpair()
    number = one.fileno()
    with other:
        poller.add(number, EPOLLIN, handler)
        other.send(b"x")
        poller.retire(one)
        assert poller.poll(0, MAX_EVENTS) == []
        poller.handlers[number](EPOLLIN, 0.0)  # an event of the same batch
        assert one.fileno() == number
        poller.settle()
        assert one.fileno() == -1
        assert number not in poller.handlers
        poller.settle()
    poller.close()


def test_a_closed_set_closes_what_was_retired() -> None:
    poller = Poller()
    one, other = socket.socketpair()
    with other:
        poller.add(one.fileno(), EPOLLIN, handler)
        poller.retire(one)
        poller.close()
        assert one.fileno() == -1
