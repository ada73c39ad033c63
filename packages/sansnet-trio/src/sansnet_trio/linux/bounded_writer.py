"""A pipe, a terminal or a socket that gets pieces of data, without waiting for its reader.

Theory of operation. Pieces that the reader has not taken wait, up to a bound; a piece beyond it is not taken. So no
reader can stop this process, and memory is bounded.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import stat
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import BinaryIO, Final

__all__ = ["BoundedWriter", "is_regular"]

_CLOSE_TIMEOUT: Final = 0.5
"""Seconds to wait for the reader at the end."""


def is_regular(file: BinaryIO) -> bool:
    """Whether a file is a regular file; False for one without a descriptor."""
    try:
        return stat.S_ISREG(os.fstat(file.fileno()).st_mode)
    except OSError:  # it has no descriptor
        return False


class BoundedWriter:
    """Writes pieces to a pipe, a terminal or a socket, or to a file without descriptor.

    Args:
        file: the file, which `close` closes. A pipe or a terminal must be non-blocking.
        limit: bytes that may wait for its reader.
    """

    def __init__(self, file: BinaryIO, limit: int) -> None:
        self._file = file
        self._limit = limit
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._socket: socket.socket | None = None
        self._send: Callable[[bytes], int] = file.write
        with suppress(OSError):  # it has no descriptor
            self._send = self._sender(file.fileno())

    def _sender(self, descriptor: int) -> Callable[[bytes], int]:
        if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            return lambda data: os.write(descriptor, data)
        self._socket = sock = socket.socket(fileno=os.dup(descriptor))
        return lambda data: sock.send(data, socket.MSG_DONTWAIT)

    @property
    def waits(self) -> bool:
        """Whether something waits for the reader."""
        return bool(self._waiting)

    def put(self, piece: bytes) -> bool:
        """Write a piece, or let it wait. Returns False if there is no room, so that it is lost.

        Raises:
            OSError: it cannot be written. The pieces that waited are lost.
        """
        room = self._size + len(piece) <= self._limit
        if room:
            self._waiting.append(piece)
            self._size += len(piece)
        self.push()
        return room

    def push(self) -> None:
        """Write what waits, as far as the reader reads. Raises as `put` does."""
        try:
            while self._waiting:
                sent = self._send(self._waiting[0])
                self._size -= sent
                rest = self._waiting[0][sent:]
                if rest:
                    self._waiting[0] = rest
                else:
                    self._waiting.popleft()
        except BlockingIOError:
            pass
        except OSError:  # there is no reader
            self._waiting.clear()
            self._size = 0
            raise

    def close(self) -> None:
        """Close the file, after a moment for the reader.

        Raises:
            OSError: what waited is lost.
        """
        deadline = time.monotonic() + _CLOSE_TIMEOUT
        try:
            self.push()
            while self._waiting and (left := deadline - time.monotonic()) > 0:
                room = select.poll()
                room.register(self._file, select.POLLOUT)
                room.poll(left * 1000)
                self.push()
            if self._waiting:
                raise TimeoutError(errno.ETIMEDOUT, "the reader does not read")
        finally:
            if self._socket is not None:
                self._socket.close()
            self._file.close()
