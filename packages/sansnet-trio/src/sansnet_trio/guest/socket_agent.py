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
connection hardly ever waits for the agent. The agent has no terminal, blocks all signals, keeps no privileges, and no
process of the guest can read its memory, which is a copy of ours. It ends with us, however we end.

A process of the same user can still stop or kill it. So we wait for it for a bounded time only; one that does not
answer is killed, and another one takes its place. Where that happens again and again, the next one is started after a
pause that grows, and meanwhile there are no sockets (`NoAgent`).
"""

from __future__ import annotations

import contextlib
import errno
import gc
import logging
import os
import socket
import time
from collections import deque
from collections.abc import Callable
from struct import Struct
from typing import Final, NoReturn, Protocol, TypeAlias

from sansnet_core.errors import SansnetError
from sansnet_trio.guest import helper_process
from sansnet_trio.linux import proc
from sansnet_trio.linux.children import end_child
from sansnet_trio.linux.descriptors import receive_descriptors

__all__ = ["SocketAgent", "SocketAgents", "GuestSockets", "NoAgent", "Socket"]

Socket: TypeAlias = socket.socket

_BATCH: Final = 16
"""Sockets of one family and kind that are handed out at once."""
_MIN_READY: Final = _BATCH // 2
"""When that many are left, the next batch is asked for."""

TIMEOUT: Final = 0.25
"""Seconds that an answer may take. It takes a tenth of a millisecond, or the time for which others have the processor.
All that we serve waits for it, so it must not be long."""
_FIRST_TIMEOUT: Final = 1.0
"""The same for the first agent, which cannot have been disturbed yet."""
MAX_PAUSE: Final = 64.0
"""Seconds until another agent is tried, at most; the pauses before are 0, 1, 2, 4 and so on."""
_RESET_AFTER: Final = 60.0
"""Seconds after which what befalls an agent has nothing to do with what befell the one before."""

_REQUEST: Final = Struct("=ii")  # family, kind
_REPLY: Final = Struct("=iii")  # family, kind, errno
_READY: Final = Struct("=i")  # errno


class GuestSockets(Protocol):
    """Whatever makes sockets of a guest's network."""

    @property
    def directory(self) -> str:
        """In /proc, of a process in the guest's network namespace: its `net` is the guest's.

        Raises:
            OSError: there is none now.
        """

    def socket(self, family: int, kind: int) -> Socket:
        """A new socket of the guest's network, non-blocking and closed on exec.

        Args:
            family: AF_INET or AF_INET6.
            kind: SOCK_STREAM or SOCK_DGRAM.

        Raises:
            OSError: the guest has no such sockets, or no descriptor is left.
        """


class NoAgent(OSError, SansnetError):
    """There is no process that makes sockets in the guest, or it does not answer."""

    def __init__(self) -> None:
        super().__init__(errno.ETIMEDOUT, "the process that makes sockets in the guest does not answer")


class SocketAgent:
    """An agent, and what it made in advance. Made by `fork`; see `GuestSockets` for the rest.

    Attributes:
        pid: of the agent, which is in the guest's network namespace as long as it lives.
    """

    def __init__(self, pid: int, channel: socket.socket) -> None:
        self.pid = pid
        self._channel = channel
        self._directory: int | None = None
        self._ready: dict[tuple[int, int], deque[Socket]] = {}
        self._asked: dict[tuple[int, int], float] = {}

    @classmethod
    def fork(cls, join: Callable[[], None], timeout: float = TIMEOUT) -> SocketAgent:
        """Fork an agent. Blocks for a millisecond.

        As always with fork, the program should have one thread only.

        Args:
            join: called in the new process; it enters the guest's namespaces, or raises OSError.
            timeout: seconds that it may take.

        Raises:
            NoAgent: it does not answer.
            OSError: as `join` does, or there is no room for a process.
        """
        channel, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        parent = os.getpid()
        try:
            pid = os.fork()
        except OSError:
            channel.close()
            other.close()
            raise
        if pid == 0:
            _become(join, other, parent)
        other.close()
        agent = cls(pid, channel)
        try:
            data, descriptors = agent._receive(time.monotonic() + timeout, _READY.size)
            agent._directory = descriptors[0] if descriptors else None
            if code := _READY.unpack(data)[0] or (0 if descriptors else errno.EMFILE):
                raise OSError(code, os.strerror(code))
        except BaseException:
            agent.close()
            raise
        return agent

    def socket(self, family: int, kind: int) -> Socket:
        """See `GuestSockets`.

        Raises:
            NoAgent: it has ended, or does not answer. It is of no more use then.
        """
        key = family, kind
        ready = self._ready.setdefault(key, deque())
        if len(ready) <= _MIN_READY and key not in self._asked:
            try:
                self._channel.send(_REQUEST.pack(family, kind))
            except OSError as error:
                raise NoAgent from error
            self._asked[key] = time.monotonic()
        while not ready:
            answered, code = self._fetch(self._asked[key] + TIMEOUT)
            if code and answered == key:
                raise OSError(code, os.strerror(code))
        return ready.popleft()

    @property
    def directory(self) -> str:
        """See `GuestSockets`."""
        return f"/proc/self/fd/{self._directory}"

    def is_running(self) -> bool:
        """Whether it has not ended yet."""
        try:
            return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
        except ChildProcessError:
            return False

    def close(self) -> None:
        """End the agent, and close what it made and nobody took. A second call does nothing."""
        if self._channel.fileno() < 0:
            return
        self._channel.close()
        if self._directory is not None:
            os.close(self._directory)
        end_child(self.pid)
        for ready in self._ready.values():
            while ready:
                ready.pop().close()

    def _fetch(self, deadline: float) -> tuple[tuple[int, int], int]:
        """Take the next answer: whose, and the number of the error if it is one."""
        data, descriptors = self._receive(deadline, _REPLY.size)
        family, kind, code = _REPLY.unpack(data)
        key = family, kind
        self._asked.pop(key, None)
        for fd in descriptors:
            made = socket.socket(fileno=fd)
            made.setblocking(False)  # it is already, but Python does not know
            self._ready[key].append(made)
        if not code and not descriptors:  # the kernel drops what there is no number left for
            code = errno.EMFILE
        return key, code

    def _receive(self, deadline: float, size: int) -> tuple[bytes, list[int]]:
        """What it says, if it does by then; something that it has said already is received in any case."""
        self._channel.settimeout(max(deadline - time.monotonic(), 0.0))
        try:
            data, descriptors = receive_descriptors(self._channel, size, _BATCH)
        except (BlockingIOError, TimeoutError, ConnectionError) as error:
            raise NoAgent from error
        if not data:  # somebody killed it
            raise NoAgent
        return data, descriptors


class SocketAgents:
    """One agent after the other; sockets of the guest, as long as one can be had.

    Args:
        join: see `SocketAgent.fork`.
    """

    def __init__(self, join: Callable[[], None]) -> None:
        self._join = join
        self._agent: SocketAgent | None = None
        self._failures = 0
        self._started = 0.0
        self._not_before = 0.0

    @property
    def directory(self) -> str:
        """Of one that lives; see `GuestSockets`."""
        if self._agent is not None and not self._agent.is_running():
            self._record_failure()
        return self._running_agent().directory

    def socket(self, family: int, kind: int) -> Socket:
        """See `GuestSockets`. The first one starts an agent.

        Raises:
            NoAgent: there is none now.
        """
        while True:
            agent = self._running_agent()
            try:
                return agent.socket(family, kind)
            except NoAgent:
                self._record_failure()

    def start(self) -> None:
        """Start an agent now: maybe we are not allowed to enter the namespace later."""
        self._running_agent()

    def close(self) -> None:
        """End it. A second call does nothing, and another socket starts another one."""
        if self._agent is not None:
            self._agent.close()
            self._agent = None

    def _running_agent(self) -> SocketAgent:
        if self._agent is None:
            now = time.monotonic()
            if now < self._not_before:
                raise NoAgent
            first = not self._started
            self._started = now
            try:
                self._agent = SocketAgent.fork(self._join, _FIRST_TIMEOUT if first else TIMEOUT)
            except OSError as error:
                self._record_failure()
                if first:
                    raise
                raise NoAgent from error  # maybe we are not allowed to enter the namespace any more
        return self._agent

    def _record_failure(self) -> None:
        """Have the next one wait for its turn, if this was not the first to fail for some time."""
        self.close()
        now = time.monotonic()
        if now - self._started > _RESET_AFTER and now - self._not_before > _RESET_AFTER:
            self._failures = 0
        self._failures += 1
        if self._failures > 1:
            self._not_before = now + min(2.0 ** min(self._failures - 2, 10), MAX_PAUSE)
        if self._failures == 2:
            logging.getLogger("sansnet").warning(
                "the process that makes sockets in the guest is stopped or killed again and again: what comes from the "
                "host's loopback goes by the guest's interface meanwhile; end what does that"
            )


# the agent's part


def _become(join: Callable[[], None], channel: socket.socket, parent: int) -> NoReturn:
    """Be the agent."""
    try:
        gc.disable()  # what is garbage here may own a number that is another descriptor's by now
        helper_process.detach()
        code = _join(join)
        helper_process.keep_only(channel.fileno())
        directory = proc.open_own()
        socket.send_fds(channel, [_READY.pack(code)], [directory])
        os.close(directory)
        if not code and os.getppid() == parent:
            _serve_requests(channel)
    finally:
        os._exit(0)


def _join(join: Callable[[], None]) -> int:
    """The number of the error, if any."""
    try:
        join()
    except OSError as error:
        return error.errno or errno.EINVAL
    return 0


def _serve_requests(channel: socket.socket) -> None:
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
