"""File descriptors: receiving them over a UNIX socket (SCM_RIGHTS in unix(7)), closing them, and a shortage of them."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
from array import array
from collections.abc import Iterable, Iterator
from typing import Any, Final, SupportsIndex

__all__ = [
    "MORE_DESCRIPTORS",
    "NO_DESCRIPTOR",
    "SHORTAGE",
    "Reserve",
    "Uncopyable",
    "close_others",
    "is_readable",
    "receive_descriptors",
    "wait_readable",
]

SHORTAGE: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""Errors that do not depend on the socket: the limit of this process or of the system is reached."""

NO_DESCRIPTOR: Final = frozenset({errno.EMFILE, errno.ENFILE})
"""The errors of `SHORTAGE` that end when a descriptor is closed: the process or the system has too many."""

MORE_DESCRIPTORS: Final = "allow more descriptors, for example: ulimit -n 100000"
"""The remedy for a shortage, as the end of a sentence."""

_ITEM = array("i").itemsize


class Uncopyable:
    """Base class of objects that own descriptors, tasks or processes: `pickle` and `copy` refuse them at once.

    A copy would share a number that the first `close` makes another file's.
    """

    __slots__ = ()

    def __reduce_ex__(self, protocol: SupportsIndex) -> Any:
        raise TypeError(f"a {type(self).__name__} cannot be copied or pickled; it belongs to this process")


def receive_descriptors(channel: socket.socket, size: int, maximum: int) -> tuple[bytes, list[int]]:
    """Receive a message and its descriptors, which are closed on exec (those of `socket.recv_fds` are not).

    There may be fewer descriptors than were sent: the kernel drops those beyond our limit. If the other process has
    ended with messages unread, the kernel says that first (ECONNRESET), although there may be messages of that process.

    Args:
        channel: a UNIX socket that keeps messages apart.
        size: most bytes of the message.
        maximum: most descriptors.

    Raises:
        OSError: see recvmsg(2).
    """
    room = socket.CMSG_LEN(maximum * _ITEM)
    try:
        try:
            data, ancillary, _, _ = channel.recvmsg(size, room, socket.MSG_CMSG_CLOEXEC)
        except ConnectionResetError:
            data, ancillary, _, _ = channel.recvmsg(size, room, socket.MSG_CMSG_CLOEXEC)
    except MemoryError:  # before anything was received: a message is mostly much smaller than `size`
        size = min(channel.recv_into(bytearray(1), 1, socket.MSG_PEEK | socket.MSG_TRUNC), size)
        data, ancillary, _, _ = channel.recvmsg(max(size, 1), room, socket.MSG_CMSG_CLOEXEC)
    descriptors = array("i")
    for level, kind, content in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            descriptors.frombytes(content[: len(content) - len(content) % _ITEM])
    return data, descriptors.tolist()


def close_others(kept: Iterable[int]) -> None:
    """Close all descriptors except for `kept`.

    The open ones are listed, because `os.closerange` misses those above a limit that has been lowered, and tries all
    numbers up to the limit, maybe a billion, where the C library has no close_range(2). It is used if there is no list.
    """
    keep = sorted(set(kept))
    try:
        opened = {int(name) for name in os.listdir("/proc/self/fd")}
    except OSError:  # no /proc shows this process, or no descriptor is left
        first = 0
        for descriptor in keep:
            if first < descriptor:  # os.closerange(0, 0) closes all
                os.closerange(first, descriptor)
            first = descriptor + 1
        os.closerange(first, os.sysconf("SC_OPEN_MAX"))
        return
    for descriptor in opened.difference(keep):
        with contextlib.suppress(OSError):  # the descriptor of the list itself
            os.close(descriptor)


class Reserve:
    """Descriptors reserved for work that must succeed even when no other descriptor is left. Close it.

    Args:
        size: number of descriptors.

    Raises:
        OSError: fewer are available.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._held: list[int] = []
        try:
            self._fill()
        except OSError:
            self.close()
            raise

    @contextlib.contextmanager
    def open(self) -> Iterator[None]:
        """Free the descriptors for a block, and reserve them again afterwards if possible. The block must not wait."""
        self.close()
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                self._fill()

    def close(self) -> None:
        """Free the descriptors for good."""
        while self._held:
            os.close(self._held.pop())

    def _fill(self) -> None:
        while len(self._held) < self._size:
            self._held.append(os.open("/", os.O_PATH | os.O_CLOEXEC))


def wait_readable(descriptor: int, seconds: int) -> bool:
    """Block until a descriptor is readable or its other end is closed, or some seconds have passed.

    Time during which this process was stopped does not count: Ctrl-Z stops the process that we wait for, too.

    Returns:
        Whether it is readable or closed.
    """
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return any(poll.poll(1000) for _ in range(seconds))


def is_readable(descriptor: int) -> bool:
    """Whether a descriptor is readable, or its other end is closed."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))
