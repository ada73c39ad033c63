"""The link in memory, with epoll as the driver uses it."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator

import pytest

from sansnet_core import LinkConfig
from sansnet_trio import LinkClosed
from sansnet_trio.links import want
from sansnet_trio.testing import MemoryLink

FRAMES = [bytes([number]) * 60 for number in range(5)]


@pytest.fixture
def link() -> Iterator[MemoryLink]:
    link = MemoryLink(LinkConfig(), room=3)
    yield link
    link.close()


def readable(link: MemoryLink) -> bool:
    with select.epoll() as poller:
        poller.register(link.fileno(), select.EPOLLIN)
        return bool(poller.poll(0))


def test_it_is_readable_while_it_has_frames(link: MemoryLink) -> None:
    assert not readable(link)
    link.send(FRAMES)
    assert readable(link)
    assert link.read_frames(2) == FRAMES[:2]
    assert readable(link)
    assert link.read_frames(64) == FRAMES[2:]
    assert not readable(link)
    assert link.read_frames(64) == []


def test_a_driver_that_does_not_want_frames_is_not_woken(link: MemoryLink) -> None:
    want(link, frames=False, room=False)
    link.send(FRAMES)
    assert not readable(link)
    want(link, frames=True, room=False)
    assert readable(link)


def test_frames_beyond_its_room_stay_with_the_driver(link: MemoryLink) -> None:
    assert link.write_frames([(b"head", memoryview(b"payload")), *FRAMES]) == 3
    want(link, frames=True, room=True)
    assert link.write_frames(FRAMES) == 0
    assert not readable(link)
    assert link.take() == [b"headpayload", *FRAMES[:2]]
    assert readable(link), "there is room"
    assert link.write_frames(FRAMES) == 3


def test_a_program_can_take_the_room_away(link: MemoryLink) -> None:
    link.room = 0
    want(link, frames=True, room=True)
    assert link.write_frames(FRAMES) == 0
    assert not readable(link)
    link.room = 5
    assert readable(link)
    assert link.write_frames(FRAMES) == 5


def test_the_program_is_called_for_the_first_frame(link: MemoryLink) -> None:
    calls: list[int] = []
    link.on_frames = lambda: calls.append(link.waiting)
    link.write_frames(FRAMES[:1])
    link.write_frames(FRAMES[:1])
    assert len(calls) == 1
    link.take()
    link.write_frames(FRAMES[:1])
    assert len(calls) == 2


def test_its_end_is_known_after_the_last_frame(link: MemoryLink) -> None:
    link.send(FRAMES)
    link.hang_up()
    assert link.read_frames(64) == FRAMES
    assert readable(link)
    with pytest.raises(LinkClosed):
        link.read_frames(64)
    with pytest.raises(LinkClosed):
        link.write_frames(FRAMES)


def test_it_closes_its_descriptor_once() -> None:
    link = MemoryLink(LinkConfig())
    fd = link.fileno()
    link.close()
    assert link.closed
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
    link.close()
    link.send(FRAMES)  # nothing happens
