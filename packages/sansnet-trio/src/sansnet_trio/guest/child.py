"""A child that does some work, and the channel between parent and child: pickled messages, exceptions, descriptors.

An exception in the child is sent to the parent and raised there. The child has one thread and no event loop.
"""

from __future__ import annotations

import contextlib
import errno
import os
import pickle
import signal
import socket
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final, TypeAlias

from sansnet_trio.guest.errors import GuestError
from sansnet_trio.guest.launch import launch
from sansnet_trio.linux.descriptors import receive_descriptors, wait_readable

__all__ = ["TIMEOUT", "Channel", "start_child", "wait_answer"]

_MESSAGE_SIZE: Final = 1 << 16
_MAX_DESCRIPTORS: Final = 8
_IN_FILE: Final = b"\0"
"""Stands for a longer message, which is in a file; its descriptor comes first. No pickle is that short."""

TIMEOUT: Final = 30
"""Seconds to wait for the next message of a child, which usually takes milliseconds."""


class Channel:
    """One end of the connection between parent and child."""

    def __init__(self, own: socket.socket) -> None:
        self._socket = own

    def fileno(self) -> int:
        """A descriptor that is readable when a message has arrived."""
        return self._socket.fileno()

    def send(self, message: object, descriptors: Sequence[int] = ()) -> None:
        """Send a message. If the other process has ended, nothing happens; `receive` reports that."""
        data = pickle.dumps(message)
        with contextlib.suppress(BrokenPipeError), contextlib.ExitStack() as stack:
            if len(data) > _MESSAGE_SIZE:  # sockets limit the size of a message
                file = os.memfd_create("sansnet")
                stack.callback(os.close, file)
                _write_all(file, data)
                data, descriptors = _IN_FILE, [file, *descriptors]
            socket.send_fds(self._socket, [data], descriptors)

    def receive(self) -> Any:
        """Block until the next message arrives; for children, and for messages that have arrived already.

        Raises:
            EOFError: the other process has ended, or executed another program.
            Exception: the child raised it.
        """
        return self._receive()[0]

    def receive_with_descriptor(self, timeout: int = TIMEOUT) -> tuple[Any, int]:
        """The next message of a child, and its descriptor.

        Raises:
            GuestError, EOFError, Exception: see `receive_with_descriptors`.
            OSError: no descriptor was left to receive it.
        """
        message, descriptors = self.receive_with_descriptors(timeout)
        if not descriptors:  # the kernel drops those beyond our limit
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return message, descriptors[0]

    def receive_with_descriptors(self, timeout: int = TIMEOUT) -> tuple[Any, list[int]]:
        """The next message of a child, and its descriptors. The last ones are missing if not enough were left.

        Args:
            timeout: seconds to wait. Time during which this process was stopped does not count, since the child may
                have been stopped, too.

        Raises:
            GuestError: no message came in time.
            EOFError, Exception: see `receive`.
        """
        if not wait_readable(self._socket.fileno(), timeout):
            raise GuestError.unanswered(timeout)
        return self._receive()

    def close(self) -> None:
        """Close this end; the other process gets EOFError."""
        self._socket.close()

    def _receive(self) -> tuple[Any, list[int]]:
        data, descriptors = receive_descriptors(self._socket, _MESSAGE_SIZE, _MAX_DESCRIPTORS)
        if not data:
            raise EOFError
        if data == _IN_FILE:
            if not descriptors:  # the kernel drops those beyond our limit
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


Work: TypeAlias = Callable[[Channel, int], object]


def start_child(work: Work, descriptors: Collection[int] = ()) -> tuple[int, Channel]:
    """Start a child: by fork, or in a new Python if this process has several threads; see `launch`.

    Args:
        work: called in the child with its end of the channel and the process id of the parent. The child ends when it
            returns.
        descriptors: the descriptors that the child needs.

    Returns:
        The child's process id, and the parent's end of the channel.

    Raises:
        GuestError: this process has several threads, and `work` cannot be pickled.
        OSError: no process can be started, or no descriptor is left.
    """
    pid, ours = launch(_run_child, work, descriptors)
    return pid, Channel(ours)


async def wait_answer(channel: Channel) -> None:
    """Wait for the next message of a child, as long as `Channel.receive_with_descriptors` does, while other tasks run.

    Raises:
        GuestError: no message came in time.
    """
    import trio

    with trio.move_on_after(TIMEOUT):
        await trio.lowlevel.wait_readable(channel)
        return
    raise GuestError.unanswered(TIMEOUT)


def _run_child(load: Callable[[], Work], own: socket.socket, parent: int) -> None:
    channel = Channel(own)
    try:
        _reset_signals()
        load()(channel, parent)
    except BaseException as error:
        with contextlib.suppress(OSError):  # the parent has ended
            channel.send(_picklable(error))


def _picklable(error: BaseException) -> BaseException:
    """The exception, or a `GuestError` with its text if it cannot be pickled and unpickled."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return GuestError(f"{type(error).__name__}: {error}")
    return error


def _reset_signals() -> None:
    """Remove signal handlers of event loops. Signals that Python ignores stay ignored until `execute`."""
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals():
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_DFL)
