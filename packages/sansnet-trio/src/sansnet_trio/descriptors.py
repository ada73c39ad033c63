"""Descriptors: those that come over a UNIX socket (SCM_RIGHTS in unix(7)), and the want of them."""

from __future__ import annotations

import errno
import select
import socket
from array import array
from typing import Final

__all__ = ["SHORTAGE", "receive_descriptors", "wait_readable"]

SHORTAGE: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""Errors that say nothing about one socket or connection, but that this process or system can have no more."""

_ITEM = array("i").itemsize


def receive_descriptors(channel: socket.socket, size: int, most: int) -> tuple[bytes, list[int]]:
    """A message, and the descriptors that came with it: closed on exec, which those of `socket.recv_fds` are not.

    There may be fewer than were sent, since the kernel drops those that we have no numbers left for.

    Raises:
        OSError: as the channel says.
    """
    data, ancillary, _, _ = channel.recvmsg(size, socket.CMSG_LEN(most * _ITEM), socket.MSG_CMSG_CLOEXEC)
    descriptors = array("i")
    for level, kind, content in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            descriptors.frombytes(content[: len(content) - len(content) % _ITEM])
    return data, descriptors.tolist()


def wait_readable(descriptor: int, seconds: int) -> bool:
    """Block until a descriptor is readable or its other end is closed; whether that came within some seconds.

    Seconds during which this process was stopped do not count, since then the process that we wait for may have been
    stopped, too, as by Ctrl-Z.
    """
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return any(poll.poll(1000) for _ in range(seconds))
