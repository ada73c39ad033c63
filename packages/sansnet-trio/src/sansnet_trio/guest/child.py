"""A forked child that works for us, and the channel between the two: pickled messages, exceptions, descriptors.

Whatever goes wrong in the child travels back as the exception that it is. The child is a plain process of one thread
that no event loop knows.
"""

from __future__ import annotations

import contextlib
import errno
import os
import pickle
import signal
import socket
from collections.abc import Callable, Sequence
from typing import Any, Final, NoReturn

from sansnet_trio.guest.errors import GuestError
from sansnet_trio.linux.descriptors import receive_descriptors, wait_readable

__all__ = ["Channel", "fork"]

_MESSAGE_SIZE: Final = 1 << 16
_MAX_DESCRIPTORS: Final = 8
_IN_FILE: Final = b"\0"
"""In place of a longer message, which is in a file whose descriptor comes first. No pickle is that short."""

TIMEOUT: Final = 30
"""Seconds that a child may take for its next message; it takes milliseconds."""


class Channel:
    """One end of what leads to the other process."""

    def __init__(self, own: socket.socket) -> None:
        self._socket = own

    def fileno(self) -> int:
        """To wait until there is a message."""
        return self._socket.fileno()

    def send(self, message: object, descriptors: Sequence[int] = ()) -> None:
        """Send a message; nothing happens if the other process has ended, which `receive` tells."""
        data = pickle.dumps(message)
        with contextlib.suppress(BrokenPipeError), contextlib.ExitStack() as stack:
            if len(data) > _MESSAGE_SIZE:  # a socket takes no message of any size, but a file does
                file = os.memfd_create("sansnet")
                stack.callback(os.close, file)
                _write_all(file, data)
                data, descriptors = _IN_FILE, [file, *descriptors]
            socket.send_fds(self._socket, [data], descriptors)

    def receive(self) -> Any:
        """The next message of the process that forked us, or one that is there already.

        Raises:
            EOFError: the other process has ended, or became another program.
            Exception: it failed with that.
        """
        return self._receive()[0]

    def receive_with_descriptor(self, timeout: int = TIMEOUT) -> tuple[Any, int]:
        """The next message of a child, and the descriptor that came with it.

        Raises:
            GuestError, EOFError, Exception: see `receive_with_descriptors`.
            OSError: there is no number left for the descriptor.
        """
        message, descriptors = self.receive_with_descriptors(timeout)
        if not descriptors:  # the kernel drops it then
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return message, descriptors[0]

    def receive_with_descriptors(self, timeout: int = TIMEOUT) -> tuple[Any, list[int]]:
        """The next message of a child, and its descriptors: the first ones, if there are no numbers for all.

        Args:
            timeout: seconds until we give up. Those during which we were stopped ourselves do not count, since then
                the child may have been, too.

        Raises:
            GuestError: there is none by then.
            EOFError, Exception: see `receive`.
        """
        if not wait_readable(self._socket.fileno(), timeout):
            raise GuestError.unanswered(timeout)
        return self._receive()

    def close(self) -> None:
        """The other process receives EOFError."""
        self._socket.close()

    def _receive(self) -> tuple[Any, list[int]]:
        data, descriptors = receive_descriptors(self._socket, _MESSAGE_SIZE, _MAX_DESCRIPTORS)
        if not data:
            raise EOFError
        if data == _IN_FILE:
            if not descriptors:  # the kernel drops it then
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            with open(descriptors.pop(0), "rb") as file:
                file.seek(0)
                data = file.read()
        message = pickle.loads(data)
        if isinstance(message, BaseException):
            raise message
        return message, descriptors


def _write_all(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]


def fork(work: Callable[[Channel, int], object]) -> tuple[int, Channel]:
    """Fork a child. As always with fork, the program should have one thread only.

    Args:
        work: what the child does, given its end of the channel and the id of the process that forked it. If it returns,
            the child ends.

    Returns:
        The child's process id, and our end of the channel.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    parent = os.getpid()
    try:
        pid = os.fork()
    except OSError:
        ours.close()
        theirs.close()
        raise
    if pid == 0:
        ours.close()
        _run_child(work, Channel(theirs), parent)
    theirs.close()
    return pid, Channel(ours)


def _run_child(work: Callable[[Channel, int], object], channel: Channel, parent: int) -> NoReturn:
    try:
        _reset_signals()
        work(channel, parent)
    except BaseException as error:
        with contextlib.suppress(OSError):  # nobody is left to be told
            channel.send(_picklable(error))
    finally:
        os._exit(1)


def _picklable(error: BaseException) -> BaseException:
    """An exception that can be pickled, and unpickled."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return GuestError(f"{type(error).__name__}: {error}")
    return error


def _reset_signals() -> None:
    """Undo what event loops did: no handlers of theirs. What Python ignores stays so, as `execute` undoes that."""
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals():
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_DFL)
