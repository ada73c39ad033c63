"""Making sockets in a guest's network namespace, by a small process that stays there.

Theory of operation. A socket always belongs to the network namespace of the process that made it. A process of an
ordinary user can enter the guest's network namespace only together with its user namespace, and cannot return. So
another process does that, the socket agent: it makes sockets and sends their descriptors to us, and we bind, connect or
listen.

    parent                            socket agent
    start --------------------------> enter the guest's namespaces; close all descriptors
    ready <--------------------------
    request a batch ----------------> make the sockets
    descriptors <-------------------- close them here

The next batch is requested while sockets of the last one are left, and received when they are used up, so a connection
hardly ever waits for the agent. The agent is isolated: it has no terminal, blocks all signals, has no privileges and
is not dumpable, because its memory is a copy of ours and the guest must not read it. It ends with its parent.

The agent is forked in a millisecond. If our process has several threads, it is a new Python, which takes some 100 ms:
`SocketAgents.begin` waits for it while other tasks run, and there are no sockets while a later one starts.

A process of the same user can still stop or kill the agent. So each answer has a timeout; an agent that does not answer
is killed and replaced. If that happens repeatedly, the next agent is started after a growing pause, during which there
are no sockets (`NoAgent`).
"""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import resource
import select
import socket
import time
from collections import deque
from collections.abc import Callable, Collection
from functools import partial
from struct import Struct
from typing import Final, NamedTuple, NoReturn, Protocol, TypeAlias

from sansnet_core.errors import SansnetError
from sansnet_trio.guest import helper_process
from sansnet_trio.guest.launch import launch
from sansnet_trio.linux import proc
from sansnet_trio.linux.children import ProcessHandle
from sansnet_trio.linux.descriptors import receive_descriptors

__all__ = ["GuestSockets", "NoAgent", "Socket", "SocketAgent", "SocketAgents", "StartedAgent", "start_agent"]

Socket: TypeAlias = socket.socket

_BATCH: Final = 16
"""Most sockets of one family and kind in a batch. When half of them are left, the next batch is requested."""
_SHARE: Final = 64
"""A batch has at most one in so many of the descriptors that this process may have, so that others get them."""

TIMEOUT: Final = 0.25
"""Seconds that an answer may take. It usually takes 0.1 ms, or longer on a busy processor. The event loop is blocked
meanwhile, so it must be short."""
_FIRST_TIMEOUT: Final = 1.0
"""Seconds that the first agent may take to start; no process of the guest can have stopped it yet."""
_NEW_PYTHON_TIMEOUT: Final = 5.0
"""Seconds that an agent may take to start if this process has several threads, see `launch`."""
_POLL_INTERVAL: Final = 0.01
"""Seconds between two looks at an agent that starts."""
MAX_PAUSE: Final = 64.0
"""Seconds before the next agent is started, at most; the pauses before it are 0, 1, 2, 4 and so on."""
_RESET_AFTER: Final = 60.0
"""Seconds after which a failure no longer counts as a repetition of the last one."""

_REQUEST: Final = Struct("=iii")  # family, kind, count
_REPLY: Final = Struct("=iii")  # family, kind, errno
_READY: Final = Struct("=i")  # errno


class GuestSockets(Protocol):
    """Makes sockets in a guest's network namespace."""

    @property
    def directory(self) -> str:
        """Directory in /proc of a process in the guest's network namespace: its `net` shows the guest's tables.

        Raises:
            OSError: there is no such process now.
        """

    def socket(self, family: int, kind: int) -> Socket:
        """A new socket in the guest's network namespace, non-blocking and closed on exec.

        Args:
            family: AF_INET or AF_INET6.
            kind: SOCK_STREAM or SOCK_DGRAM.

        Raises:
            OSError: the guest does not support such sockets, or no descriptor is left.
        """

    async def prepare_sockets(self) -> None:
        """Get ready for `socket`, while other tasks run. Without this, its first call may block for long.

        Raises:
            OSError: no socket can be made now.
        """


class NoAgent(OSError, SansnetError):
    """There is no socket agent, or it does not answer."""

    def __init__(self) -> None:
        super().__init__(errno.ETIMEDOUT, "the process that makes sockets in the guest does not answer")


class StartedAgent(NamedTuple):
    """A new socket agent.

    Attributes:
        process: the agent.
        channel: the socket to it.
    """

    process: ProcessHandle
    channel: socket.socket


def start_agent(join: Callable[[], None], descriptors: Collection[int] = ()) -> StartedAgent:
    """Start an agent; see `SocketAgent.fork`.

    Raises:
        OSError: no process can be started.
    """
    pid, channel = launch(_become, join, descriptors)
    try:
        return StartedAgent(ProcessHandle.of_child(pid), channel)
    except BaseException:
        channel.close()
        raise


class SocketAgent:
    """A socket agent, and the sockets that it has made in advance. Made by `fork`; see also `GuestSockets`.

    Args:
        started: the agent, which may not have begun to answer yet.
        timeout: seconds that it may take to start.
    """

    def __init__(self, started: StartedAgent, timeout: float) -> None:
        self._process, channel = started
        self._channel = channel
        self._deadline = time.monotonic() + timeout
        self._directory: int | None = None
        self._ready: dict[tuple[int, int], deque[Socket]] = {}
        self._asked: dict[tuple[int, int], float] = {}
        self._batch = max(1, min(_BATCH, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // _SHARE))

    @property
    def pid(self) -> int:
        """Process id of the agent; 0 if another process started it."""
        return self._process.pid

    @classmethod
    def fork(cls, join: Callable[[], None], timeout: float = TIMEOUT, descriptors: Collection[int] = ()) -> SocketAgent:
        """Start an agent: by fork in a millisecond, or in a new Python if this process has several threads.

        Args:
            join: called in the new process; it enters the guest's namespaces, or raises OSError.
            timeout: seconds that a forked agent may take to start.
            descriptors: the descriptors that `join` needs.

        Raises:
            NoAgent: the agent does not answer.
            OSError: `join` raised it, or no process can be started.
        """
        agent = cls.launch(join, timeout, descriptors)
        agent.wait_ready()
        return agent

    @classmethod
    def launch(
        cls, join: Callable[[], None], timeout: float = TIMEOUT, descriptors: Collection[int] = ()
    ) -> SocketAgent:
        """Like `fork`, but it can be used only after `wait_ready`.

        Raises:
            OSError: no process can be started.
        """
        if not proc.has_one_thread():
            timeout = _NEW_PYTHON_TIMEOUT
        return cls(start_agent(join, descriptors), timeout)

    def is_starting(self) -> bool:
        """Whether `wait_ready` would block now."""
        poll = select.poll()
        poll.register(self._channel, select.POLLIN)
        return time.monotonic() < self._deadline and not poll.poll(0)

    def wait_ready(self) -> None:
        """Block until it has started; it is closed if that fails.

        Raises:
            NoAgent: the agent does not answer.
            OSError: `join` raised it.
        """
        try:
            data, descriptors = self._receive(self._deadline, _READY.size)
            self._directory = descriptors[0] if descriptors else None
            if code := _READY.unpack(data)[0] or (0 if descriptors else errno.EMFILE):
                raise OSError(code, os.strerror(code))
        except BaseException:
            self.close()
            raise

    def socket(self, family: int, kind: int) -> Socket:
        """See `GuestSockets`.

        Raises:
            NoAgent: the agent has ended, or does not answer; close it then.
        """
        key = family, kind
        ready = self._ready.setdefault(key, deque())
        if len(ready) <= self._batch // 2 and key not in self._asked:
            try:
                self._channel.send(_REQUEST.pack(family, kind, self._batch))
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
        """Whether the agent has not ended."""
        return self._process.is_running()

    def close(self) -> None:
        """End the agent, and close its unused sockets. A second call does nothing."""
        if self._channel.fileno() < 0:
            return
        self._channel.close()
        if self._directory is not None:
            os.close(self._directory)
        self._process.end()
        for ready in self._ready.values():
            while ready:
                ready.pop().close()

    def _fetch(self, deadline: float) -> tuple[tuple[int, int], int]:
        """Receive the next answer: family and kind of its sockets, and an errno or 0."""
        data, descriptors = self._receive(deadline, _REPLY.size)
        family, kind, code = _REPLY.unpack(data)
        key = family, kind
        self._asked.pop(key, None)
        for fd in descriptors:
            made = socket.socket(fileno=fd)
            made.setblocking(False)  # it is non-blocking already, but Python does not know
            self._ready[key].append(made)
        if not code and not descriptors:  # the kernel drops descriptors beyond our limit
            code = errno.EMFILE
        return key, code

    def _receive(self, deadline: float, size: int) -> tuple[bytes, list[int]]:
        """Receive a message until the deadline; one that has arrived already is received in any case."""
        self._channel.settimeout(max(deadline - time.monotonic(), 0.0))
        try:
            data, descriptors = receive_descriptors(self._channel, size, _BATCH)
        except (BlockingIOError, TimeoutError, ConnectionError) as error:
            raise NoAgent from error
        if not data:  # it was killed
            raise NoAgent
        return data, descriptors


class SocketAgents:
    """Makes sockets in a guest by a socket agent, which is replaced when it fails. See `GuestSockets`.

    Args:
        join: see `SocketAgent.fork`.
        descriptors: see `SocketAgent.fork`.

    Attributes:
        join: see above.
        descriptors: see above.
        start_agent: starts the next agent, or raises `OSError`. A process that can start none asks another one.
        is_forked: tells whether that agent is forked, and not a new Python, which takes long.
    """

    def __init__(self, join: Callable[[], None], descriptors: Collection[int] = ()) -> None:
        self.join = join
        self.descriptors = descriptors
        self.start_agent: Callable[[], StartedAgent] = partial(start_agent, join, descriptors)
        self.is_forked: Callable[[], bool] = proc.has_one_thread
        self._agent: SocketAgent | None = None
        self._starting: SocketAgent | None = None
        """The next one, a new Python that has not answered yet."""
        self._failures = 0
        self._started = 0.0
        self._not_before = 0.0

    @property
    def directory(self) -> str:
        """See `GuestSockets`."""
        if self._agent is not None and not self._agent.is_running():
            self._record_failure()
        return self._running_agent().directory

    def socket(self, family: int, kind: int) -> Socket:
        """See `GuestSockets`. The first call starts an agent.

        Raises:
            NoAgent: no agent is available now.
        """
        while True:
            agent = self._running_agent()
            try:
                return agent.socket(family, kind)
            except NoAgent:
                self._record_failure()

    def start(self) -> None:
        """Start an agent now, since we may not be allowed to enter the namespace later."""
        self._running_agent()

    async def begin(self) -> None:
        """Like `start`, while other tasks run. Several tasks may call it at once.

        Raises:
            OSError: it cannot be started.
        """
        import trio

        while self._agent is None:
            if self._starting is None:
                self._launch()
                if self.is_forked():
                    self._adopt()
            elif self._starting.is_starting():
                await trio.sleep(_POLL_INTERVAL)
            else:
                self._adopt()

    def close(self) -> None:
        """End the agent; the next socket starts another one. A second call does nothing."""
        for agent in (self._agent, self._starting):
            if agent is not None:
                agent.close()
        self._agent = self._starting = None

    def _running_agent(self) -> SocketAgent:
        """The agent. The first one is waited for, but a later one only if it was forked.

        Raises:
            NoAgent: there is none now.
            OSError: the first one cannot be started.
        """
        if self._agent is not None:
            return self._agent
        first = not self._started
        wait = self._starting is None and (first or self.is_forked())
        try:
            if self._starting is None:
                self._launch()
            if not wait and self._starting is not None and self._starting.is_starting():
                raise NoAgent
            return self._adopt()
        except OSError as error:
            if first or isinstance(error, NoAgent):
                raise
            raise NoAgent from error  # we may not be allowed to enter the namespace any more

    def _launch(self) -> None:
        """Begin to start an agent.

        Raises:
            NoAgent: it is too early for another one.
            OSError: no process can be started.
        """
        now = time.monotonic()
        if now < self._not_before:
            raise NoAgent
        timeout = TIMEOUT if self._started else _FIRST_TIMEOUT
        if not self.is_forked():
            timeout = _NEW_PYTHON_TIMEOUT
        self._started = now
        try:
            self._starting = SocketAgent(self.start_agent(), timeout)
        except OSError:
            self._record_failure()
            raise

    def _adopt(self) -> SocketAgent:
        """Wait until the agent that was launched has started.

        Raises:
            NoAgent: it does not answer.
            OSError: it cannot enter the namespaces.
        """
        starting, self._starting = self._starting, None
        assert starting is not None
        try:
            starting.wait_ready()
        except OSError:
            self._record_failure()
            raise
        self._agent = starting
        return starting

    def _record_failure(self) -> None:
        """Close the agent; after repeated failures, delay the next one."""
        self.close()
        now = time.monotonic()
        if now - self._started > _RESET_AFTER and now - self._not_before > _RESET_AFTER:
            self._failures = 0
        self._failures += 1
        if self._failures > 1:
            self._not_before = now + min(2.0 ** min(self._failures - 2, 10), MAX_PAUSE)
        if self._failures == 2:
            import logging  # loaded by now in a command, whose start it would delay

            logging.getLogger("sansnet").warning(
                "the process that makes sockets in the guest is stopped or killed again and again: traffic from "
                "the host's loopback arrives at the guest's interface meanwhile; end the program that does that"
            )


# the agent's part


def _become(load: Callable[[], Callable[[], None]], channel: socket.socket, parent: int) -> NoReturn:
    """Run the agent until the parent closes the channel."""
    try:
        from sansnet_trio.sandbox import chosen, confine  # while files can still be read
        from sansnet_trio.sandbox.profiles import SOCKET_AGENT

        join = load()
        gc.disable()  # finalizers of the parent's garbage could close descriptors that this process opens
        helper_process.detach()
        code = _join(join)
        helper_process.keep_only(channel.fileno())
        directory = proc.open_own()
        socket.send_fds(channel, [_READY.pack(code)], [directory])
        os.close(directory)
        if not code and os.getppid() == parent:
            confine(SOCKET_AGENT, chosen())
            _serve_requests(channel)
    finally:
        os._exit(0)


def _join(join: Callable[[], None]) -> int:
    """Enter the namespaces; an errno, or 0."""
    try:
        join()
    except OSError as error:
        return error.errno or errno.EINVAL
    return 0


def _serve_requests(channel: socket.socket) -> None:
    """Answer requests until the parent closes the channel."""
    while request := channel.recv(_REQUEST.size):
        family, kind, count = _REQUEST.unpack(request)
        code = 0
        with contextlib.ExitStack() as stack:
            made: list[int] = []
            try:
                for _ in range(min(count, _BATCH)):
                    new = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
                    made.append(stack.enter_context(new).fileno())
            except OSError as error:
                code = 0 if made else error.errno or errno.EINVAL
            socket.send_fds(channel, [_REPLY.pack(family, kind, code)], made)
