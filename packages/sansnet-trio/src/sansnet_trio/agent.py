"""Sockets of a guest's network, made by a small process that stays in it.

Theory of operation. A socket belongs for ever to the network namespace of the process that made it. An ordinary user's
process enters the guest's only by entering its user namespace too, and never comes back. So another process does that,
the agent: it makes sockets and hands them out over a socket; who gets them binds, connects and listens.

    we                                agent
    fork ---------------------------> enter the guest's namespaces; close all descriptors
    "joined" <-----------------------
    ask for a batch ----------------> make it
    its descriptors <---------------- close them here

A batch is asked for while there are still sockets of the one before, and fetched when they are used up, so that a
connection hardly ever waits for the agent. The agent is nobody's to disturb: it has no terminal, hears no signal, and
shows its memory, which is a copy of ours, to nobody in the guest. It ends with us, however we end.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import signal
import socket
from collections import deque
from collections.abc import Callable
from struct import Struct
from typing import Final, NoReturn, Protocol, TypeAlias

from sansnet_trio import syscalls
from sansnet_trio.descriptors import receive_descriptors

__all__ = ["Agent", "GuestSockets", "Socket"]

Socket: TypeAlias = socket.socket

_BATCH: Final = 16
"""Sockets of one family and kind that are handed out at once."""
_LOW: Final = _BATCH // 2
"""When that many are left, the next batch is asked for."""

_REQUEST: Final = Struct("=ii")  # family, kind
_REPLY: Final = Struct("=iii")  # family, kind, errno
_JOINED: Final = Struct("=i")  # errno


class GuestSockets(Protocol):
    """Whatever makes sockets of a guest's network."""

    @property
    def pid(self) -> int:
        """Of a process in the guest's network namespace: /proc/PID/net is the guest's."""

    def socket(self, family: int, kind: int) -> Socket:
        """A new socket of the guest's network, non-blocking and closed on exec.

        Args:
            family: AF_INET or AF_INET6.
            kind: SOCK_STREAM or SOCK_DGRAM.

        Raises:
            OSError: the guest has no such sockets, or no descriptor is left.
        """


class Agent:
    """An agent, and what it made in advance. Made by `fork`; see `GuestSockets` for the rest.

    Attributes:
        pid: of the agent, which is in the guest's network namespace as long as it lives.
    """

    def __init__(self, pid: int, channel: socket.socket) -> None:
        self.pid = pid
        self._channel = channel
        self._ready: dict[tuple[int, int], deque[Socket]] = {}
        self._asked: set[tuple[int, int]] = set()

    @classmethod
    def fork(cls, join: Callable[[], None]) -> Agent:
        """Fork an agent. Blocks for a millisecond.

        As always with fork, the program should have one thread only.

        Args:
            join: called in the new process; it enters the guest's namespaces, or raises OSError.

        Raises:
            OSError: as `join` does, or there is no room for a process.
        """
        channel, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            _become(join, other, parent)
        other.close()
        agent = cls(pid, channel)
        answer = channel.recv(_JOINED.size)
        code = _JOINED.unpack(answer)[0] if answer else errno.ESRCH
        if code:
            agent.close()
            raise OSError(code, os.strerror(code))
        return agent

    def socket(self, family: int, kind: int) -> Socket:
        """See `GuestSockets`."""
        key = family, kind
        ready = self._ready.setdefault(key, deque())
        if len(ready) <= _LOW and key not in self._asked:
            self._channel.send(_REQUEST.pack(family, kind))
            self._asked.add(key)
        while not ready:
            answered, code = self._fetch()
            if code and answered == key:
                raise OSError(code, os.strerror(code))
        return ready.popleft()

    def close(self) -> None:
        """End the agent, and close what it made and nobody took. A second call does nothing."""
        if self._channel.fileno() < 0:
            return
        self._channel.close()
        with contextlib.suppress(PermissionError):  # we are somebody else by now; but it ends with the channel, too
            os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        for ready in self._ready.values():
            while ready:
                ready.pop().close()

    def _fetch(self) -> tuple[tuple[int, int], int]:
        """Take the next answer: whose, and the number of the error if it is one."""
        data, descriptors = receive_descriptors(self._channel, _REPLY.size, _BATCH)
        if not data:  # somebody killed it
            raise BrokenPipeError(errno.EPIPE, "the process that makes sockets in the guest has ended")
        family, kind, code = _REPLY.unpack(data)
        key = family, kind
        self._asked.discard(key)
        for fd in descriptors:
            made = socket.socket(fileno=fd)
            made.setblocking(False)  # it is already, but Python does not know
            self._ready[key].append(made)
        if not code and not descriptors:  # the kernel drops what there is no number left for
            code = errno.EMFILE
        return key, code


# the agent's part


def _become(join: Callable[[], None], channel: socket.socket, parent: int) -> NoReturn:
    """Be the agent."""
    try:
        gc.disable()  # what is garbage here may own a number that is another descriptor's by now
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        os.setsid()
        os.chdir("/")
        syscalls.forbid_dump()  # before the guest's processes may trace this one
        code = _join(join)
        syscalls.set_parent_death_signal(signal.SIGKILL)  # entering a user namespace forgets it,
        syscalls.forbid_dump()  # and this as well, if fs.suid_dumpable says so
        os.closerange(0, channel.fileno())
        os.closerange(channel.fileno() + 1, os.sysconf("SC_OPEN_MAX"))
        channel.send(_JOINED.pack(code))
        if not code and os.getppid() == parent:
            _serve(channel)
    finally:
        os._exit(0)


def _join(join: Callable[[], None]) -> int:
    """The number of the error, if any."""
    try:
        join()
    except OSError as error:
        return error.errno or errno.EINVAL
    return 0


def _serve(channel: socket.socket) -> None:
    """Hand out batches until nobody is left to take them."""
    while request := channel.recv(_REQUEST.size):
        family, kind = _REQUEST.unpack(request)
        code = 0
        with contextlib.ExitStack() as stack:
            made: list[int] = []
            try:
                for _ in range(_BATCH):
                    new = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
                    made.append(stack.enter_context(new).fileno())
            except OSError as error:
                code = 0 if made else error.errno or errno.EINVAL
            socket.send_fds(channel, [_REPLY.pack(family, kind, code)], made)
