"""The stream link over pairs of sockets."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from sansnet_core import Frame, LinkConfig
from sansnet_core.link.stream import MAX_FRAME_SIZE, FrameDecoder, encode
from sansnet_trio.links import LinkClosed
from sansnet_trio.links.unix_stream import UnixStream

FRAMES = [bytes([number]) * 60 for number in range(200)]


@pytest.fixture
def guest() -> Iterator[socket.socket]:
    """The guest's end of the connection; `link` has the other end."""
    ours, theirs = socket.socketpair()
    theirs.settimeout(5)
    with theirs:
        _others[theirs.fileno()] = ours
        yield theirs


_others: dict[int, socket.socket] = {}


@pytest.fixture
def link(guest: socket.socket) -> Iterator[UnixStream]:
    made = UnixStream(_others.pop(guest.fileno()), mtu=1500)
    yield made
    made.close()


def send(guest: socket.socket, frames: list[bytes]) -> None:
    """Let the guest send frames in one piece."""
    guest.sendall(b"".join(encode(frames)))


def joined(frame: Frame) -> bytes:
    return b"".join(frame) if isinstance(frame, tuple) else bytes(frame)


def test_it_says_what_it_can_do(link: UnixStream) -> None:
    assert link.config == LinkConfig(mtu=1500, max_frame_size=MAX_FRAME_SIZE)
    assert not os.get_blocking(link.fileno())


def test_many_frames_come_with_one_call_and_the_limit_holds(link: UnixStream, guest: socket.socket) -> None:
    send(guest, FRAMES)
    assert link.read_frames(64) == FRAMES[:64]
    assert link.read_frames(64) == FRAMES[64:128]
    assert link.read_frames(72) == FRAMES[128:]
    assert link.read_frames(64) == []


def test_a_frame_that_comes_in_parts_is_whole(link: UnixStream, guest: socket.socket) -> None:
    guest.sendall(b"\0\0")
    assert link.read_frames(64) == []
    guest.sendall(b"\0\x3c" + FRAMES[1][:20])
    assert link.read_frames(64) == []
    guest.sendall(FRAMES[1][20:])
    assert link.read_frames(64) == [FRAMES[1]]


def test_many_frames_go_and_arrive_in_order(link: UnixStream, guest: socket.socket) -> None:
    frames: list[Frame] = [*FRAMES, (FRAMES[0], memoryview(bytes(5000)))]
    assert link.write_frames(frames) == len(frames)
    decoder = FrameDecoder()
    got: list[bytes] = []
    while len(got) < len(frames):
        decoder.receive(guest.recv(1 << 16))
        got += decoder.take_frames(1000)
    assert got == [joined(frame) for frame in frames]


def test_a_guest_that_stops_reading_makes_the_caller_wait_and_loses_nothing(
    link: UnixStream, guest: socket.socket
) -> None:
    noise = random.Random(5)
    sizes = [noise.choice([60, 1514, 65000]) for _ in range(1500)]
    frames: list[Frame] = [
        noise.randbytes(size) if size < 9000 else (bytes(54), noise.randbytes(size)) for size in sizes
    ]
    decoder = FrameDecoder()
    got: list[bytes] = []
    left = frames
    stops = 0
    while len(got) < len(frames):
        if left:
            left = left[link.write_frames(left) :]
            if left:
                stops += 1
                assert link.write_frames(left) == 0
        decoder.receive(guest.recv(noise.randrange(1, 1 << 18)))
        got += decoder.take_frames(1000)
    assert got == [joined(frame) for frame in frames]
    assert stops > 10
    assert link.dropped == 0


def test_frames_that_follow_a_frame_which_went_in_parts_are_whole(link: UnixStream, guest: socket.socket) -> None:
    decoder = FrameDecoder()
    got: list[bytes] = []

    def hear(count: int) -> None:
        while len(got) < count:
            decoder.receive(guest.recv(1 << 16))
            got.extend(decoder.take_frames(1000))

    frames: list[Frame] = [bytes([number]) * 65000 for number in range(200)]
    done = link.write_frames(frames)
    assert done < len(frames)
    hear(done)
    assert link.write_frames(frames[done : done + 1]) == 1
    assert link.write_frames(FRAMES[:3]) == 3
    hear(done + 4)
    assert got == [joined(frame) for frame in frames[: done + 1]] + FRAMES[:3]


class Counting(socket.socket):
    """A socket that counts its system calls."""

    calls = 0

    def sendmsg(self, *arguments: Any) -> int:
        self.calls += 1
        return super().sendmsg(*arguments)

    def recv_into(self, *arguments: Any) -> int:
        self.calls += 1
        return super().recv_into(*arguments)


def test_a_call_carries_many_frames_in_each_direction(guest: socket.socket) -> None:
    counted = Counting(fileno=_others.pop(guest.fileno()).detach())
    link = UnixStream(counted)
    assert link.write_frames(FRAMES) == len(FRAMES)
    assert counted.calls == 1
    send(guest, FRAMES)
    for start in range(0, 200, 50):
        assert link.read_frames(50) == FRAMES[start : start + 50]
    assert counted.calls == 2
    link.close()


def test_nothing_is_no_work(link: UnixStream) -> None:
    assert link.write_frames([]) == 0
    assert link.read_frames(64) == []


def test_a_guest_that_hangs_up_closes_the_link_after_its_last_frame(link: UnixStream, guest: socket.socket) -> None:
    send(guest, FRAMES[:2])
    guest.close()
    assert link.read_frames(64) == FRAMES[:2]
    with pytest.raises(LinkClosed, match="closed the connection"):
        link.read_frames(64)
    with pytest.raises(LinkClosed, match="closed the connection"):
        link.write_frames(FRAMES)


def test_a_guest_that_hangs_up_without_reading_closes_the_link(link: UnixStream, guest: socket.socket) -> None:
    link.write_frames(FRAMES)
    guest.close()
    with pytest.raises(LinkClosed, match="closed the connection"):
        link.read_frames(64)


@pytest.mark.parametrize("length", [0, 13, MAX_FRAME_SIZE + 1, 0xFFFFFFFF])
def test_a_length_out_of_range_closes_the_link(link: UnixStream, guest: socket.socket, length: int) -> None:
    guest.sendall(length.to_bytes(4, "big"))
    with pytest.raises(LinkClosed, match=f"a frame of {length} bytes"):
        link.read_frames(64)


def test_closing_twice_is_no_error(link: UnixStream) -> None:
    link.close()
    link.close()
