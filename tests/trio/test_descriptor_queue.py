"""A queue for free descriptors: the first goes on when one is freed, and all do after a moment."""

from __future__ import annotations

import math
import socket
from collections.abc import Iterator
from functools import partial

import pytest

from sansnet_trio.forward.descriptor_queue import DescriptorQueue
from sansnet_trio.host.poller import Poller


@pytest.fixture
def poller() -> Iterator[Poller]:
    made = Poller()
    yield made
    made.close()


def free(poller: Poller, count: int) -> None:
    """Close so many members of an epoll set."""
    for _ in range(count):
        member = socket.socket()
        poller.add(member.fileno(), 0, lambda flags, now: None)
        poller.retire(member)


def test_as_many_go_on_as_descriptors_were_freed(poller: Poller) -> None:
    queue, went_on = DescriptorQueue(poller), list[int]()
    free(poller, 3)
    for number in range(4):
        queue.wait(partial(went_on.append, number), 10.0)
    assert queue.next_deadline() == pytest.approx(10.1)
    free(poller, 2)
    assert queue.next_deadline() <= 10.0
    assert not queue.handle_deadline(10.0)
    assert (went_on, len(queue)) == ([0, 1], 2)
    assert queue.next_deadline() == pytest.approx(10.1)


def test_after_a_moment_all_go_on(poller: Poller) -> None:
    queue, went_on = DescriptorQueue(poller), list[int]()
    queue.wait(partial(went_on.append, 0), 10.0)
    queue.wait(partial(went_on.append, 1), 10.09)
    assert queue.handle_deadline(10.11)
    assert went_on == [0, 1]
    assert queue.next_deadline() == math.inf
    free(poller, 1)
    assert queue.next_deadline() == math.inf
    assert not queue.handle_deadline(20.0)


def test_what_finds_none_waits_again_at_the_end(poller: Poller) -> None:
    queue, went_on = DescriptorQueue(poller), list[str]()

    def again() -> None:
        went_on.append("again")
        queue.wait(again, 10.0)

    queue.wait(again, 10.0)
    queue.wait(partial(went_on.append, "other"), 10.0)
    free(poller, 1)
    queue.handle_deadline(10.0)
    assert queue.next_deadline() == pytest.approx(10.1), "not at once"
    free(poller, 1)
    queue.handle_deadline(10.0)
    assert went_on == ["again", "other"]
    assert queue.handle_deadline(10.2)
    assert (went_on[2:], len(queue)) == (["again"], 1)
