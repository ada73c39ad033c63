"""Starting a child process that calls a function of ours.

Theory of operation. A process with one thread forks. A process with several threads must not: in the child, a lock that
another thread held at that moment stays locked forever, and Python warns about it since version 3.12. There the child
is a new Python, which takes some 100 ms. It gets the same descriptors under the same numbers, the same `sys.path`, the
same mode of the sandbox, and the pickled function in a file in memory.
"""

from __future__ import annotations

import os
import pickle
import socket
import sys
from collections.abc import Callable, Collection
from typing import Any, Final, NoReturn, TypeAlias, TypeVar

from sansnet_trio.guest.errors import GuestError
from sansnet_trio.linux.proc import has_one_thread
from sansnet_trio.sandbox.mode import choose, chosen

__all__ = ["Entry", "launch", "resume"]

T = TypeVar("T")

Entry: TypeAlias = Callable[[Callable[[], T], socket.socket, int], object]
"""The function that the child calls, a function of a module. Its arguments are a function that returns the `work` of
`launch` or raises `GuestError`, the child's end of the channel, and the process id of the parent."""

_SCRIPT: Final = """\
import pickle, sys
file = open(int(sys.argv[1]), "rb")
sys.path[:] = pickle.load(file)
from sansnet_trio.guest.launch import resume
resume(file)
"""

_FLAGS: Final = {
    "I": "isolated",
    "E": "ignore_environment",
    "s": "no_user_site",
    "S": "no_site",
    "B": "dont_write_bytecode",
}
"""Options of Python that the child gets, too, by their names in `sys.flags`."""

_HINT: Final = (
    "this program has several threads, so a new process prepares the guest; give it a function of a module, with "
    "arguments that can be pickled"
)


def launch(entry: Entry[T], work: T, descriptors: Collection[int] = ()) -> tuple[int, socket.socket]:
    """Start a child. It never returns from `entry`: it ends then.

    Args:
        entry: the function that the child calls.
        work: passed to it; pickled if this process has several threads.
        descriptors: the descriptors that the child needs. A forked child has all of ours.

    Returns:
        The child's process id, and our end of a channel to it (SOCK_SEQPACKET).

    Raises:
        GuestError: `work` cannot be pickled, or there is no Python to start.
        OSError: no process can be started, or no descriptor is left.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        pid = _fork(entry, work, ours, theirs) if has_one_thread() else _spawn(entry, work, theirs, descriptors)
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    return pid, ours


def _fork(entry: Entry[T], work: T, ours: socket.socket, theirs: socket.socket) -> int:
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            ours.close()
            entry(lambda: work, theirs, parent)
        finally:
            os._exit(1)
    return pid


def _spawn(entry: Entry[T], work: T, theirs: socket.socket, descriptors: Collection[int]) -> int:
    import subprocess

    try:
        pickled = pickle.dumps(work)
    except Exception as error:
        raise GuestError(f"{_HINT} ({error})") from error
    if not sys.executable or getattr(sys, "frozen", False):
        raise GuestError("this program has several threads and no Python to start (sys.executable); begin with guests")
    with open(os.memfd_create("sansnet"), "w+b") as file:
        for part in (list(sys.path), (entry, theirs.fileno(), os.getpid(), chosen(), pickled)):
            pickle.dump(part, file)
        file.flush()
        file.seek(0)
        command = [sys.executable, *_options(), "-P", "-c", _SCRIPT, str(file.fileno())]
        child = subprocess.Popen(command, pass_fds=[file.fileno(), theirs.fileno(), *descriptors])
    child.returncode = 0  # the caller reaps it: the object must neither do that nor warn
    return child.pid


def _options() -> list[str]:
    options = [f"-{letter}" for letter, flag in _FLAGS.items() if getattr(sys.flags, flag)]
    return [*options, *(f"-W{option}" for option in sys.warnoptions)]


def resume(file: Any) -> NoReturn:
    """The child's part, in a new Python.

    Args:
        file: the file in memory, open for reading, after `sys.path`.
    """
    try:
        entry, number, parent, mode, pickled = pickle.load(file)
        file.close()
        choose(mode)
        channel = socket.socket(fileno=number)
        entry(lambda: _load(pickled), channel, parent)
    finally:
        os._exit(1)


def _load(pickled: bytes) -> Any:
    try:
        return pickle.loads(pickled)
    except Exception as error:
        raise GuestError(f"{_HINT} ({error})") from error
