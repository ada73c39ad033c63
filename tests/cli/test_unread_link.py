"""`UnreadLink`: frames that were read early come first, and wake the task that waits for frames."""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Sequence

from sansnet_cli.run.unread import UnreadLink
from sansnet_core import Buffer, Frame, LinkConfig
from sansnet_trio.links import want


class Pair:
    """A link over a socket, one frame per message."""

    config = LinkConfig(mtu=1500)
    dropped = 3

    def __init__(self) -> None:
        self.guest, self.own = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.own.setblocking(False)

    def fileno(self) -> int:
        return self.own.fileno()

    def read_frames(self, limit: int) -> Sequence[Buffer]:
        try:
            return [self.own.recv(2000)]
        except BlockingIOError:
            return []

    def write_frames(self, frames: Sequence[Frame]) -> int:
        for frame in frames:
            self.own.send(frame if isinstance(frame, bytes) else b"".join(map(bytes, frame)))
        return len(frames)

    def close(self) -> None:
        self.guest.close()
        self.own.close()


def is_ready(link: UnreadLink, *, frames: bool = True, room: bool = False) -> bool:
    poll = select.poll()
    poll.register(link.fileno(), want(link, frames=frames, room=room))
    return bool(poll.poll(0))


def test_early_frames_come_first() -> None:
    link = UnreadLink(pair := Pair(), [b"one", b"two", b"three"])
    pair.guest.send(b"four")
    assert (link.config, link.dropped) == (pair.config, 3)
    assert is_ready(link)
    assert link.read_frames(2) == [b"one", b"two"]
    assert is_ready(link)
    assert link.read_frames(2) == [b"three"]
    assert is_ready(link)
    assert link.read_frames(2) == [b"four"]
    assert not is_ready(link)
    assert link.read_frames(2) == []
    link.close()


def test_room_and_frames_are_waited_for_apart() -> None:
    link = UnreadLink(pair := Pair(), [b"one"])
    assert not is_ready(link, frames=False)
    assert is_ready(link, frames=False, room=True)
    assert link.write_frames([b"down"]) == 1
    assert pair.guest.recv(10) == b"down"
    link.close()


def test_all_descriptors_are_closed() -> None:
    before = os.listdir("/proc/self/fd")
    link = UnreadLink(Pair(), [])
    assert not is_ready(link)
    link.close()
    link.close()
    assert os.listdir("/proc/self/fd") == before
