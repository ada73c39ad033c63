"""Descriptors: those that come over a UNIX socket (SCM_RIGHTS in unix(7)), and what to do when there are none left."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
from array import array
from collections.abc import Iterator
from typing import Final

__all__ = ["MORE_DESCRIPTORS", "NO_DESCRIPTOR", "SHORTAGE", "Reserve", "receive_descriptors", "wait_readable"]

SHORTAGE: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""Errors that say nothing about one socket or connection, but that this process or system can have no more."""

NO_DESCRIPTOR: Final = frozenset({errno.EMFILE, errno.ENFILE})
"""Of those, the ones that end when a descriptor is closed: this process has too many, or the system has."""

MORE_DESCRIPTORS: Final = "allow more descriptors, as by: ulimit -n 100000"
"""The remedy, as the end of a sentence."""

_ITEM = array("i").itemsize


def receive_descriptors(channel: socket.socket, size: int, maximum: int) -> tuple[bytes, list[int]]:
    """A message, and the descriptors that came with it: closed on exec, which those of `socket.recv_fds` are not.

    There may be fewer than were sent, since the kernel drops those that we have no numbers left for.

    Raises:
        OSError: as the channel says.
    """
    data, ancillary, _, _ = channel.recvmsg(size, socket.CMSG_LEN(maximum * _ITEM), socket.MSG_CMSG_CLOEXEC)
    descriptors = array("i")
    for level, kind, content in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            descriptors.frombytes(content[: len(content) - len(content) % _ITEM])
    return data, descriptors.tolist()


class Reserve:
    """Descriptors that are kept for work which must be possible when no other is left. Close it.

    Args:
        size: how many.

    Raises:
        OSError: there are fewer.
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
        """For a block that waits for nothing: the descriptors are free, and kept again after it as far as possible."""
        self.close()
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                self._fill()

    def close(self) -> None:
        """Keep none any more."""
        while self._held:
            os.close(self._held.pop())

    def _fill(self) -> None:
        while len(self._held) < self._size:
            self._held.append(os.open("/", os.O_PATH | os.O_CLOEXEC))


def wait_readable(descriptor: int, seconds: int) -> bool:
    """Block until a descriptor is readable or its other end is closed; whether that came within some seconds.

    Seconds during which this process was stopped do not count, since then the process that we wait for may have been
    stopped, too, as by Ctrl-Z.
    """
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return any(poll.poll(1000) for _ in range(seconds))
