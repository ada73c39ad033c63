"""The broker as the serving process sees it."""

from __future__ import annotations

import logging
import os
import select
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

import trio

from sansnet_trio.broker import process
from sansnet_trio.broker.news import Gone, HostChanged, Trouble
from sansnet_trio.broker.process import Duties
from sansnet_trio.broker.requests import Answer, Request, Requester
from sansnet_trio.guest.change_message import request_change
from sansnet_trio.guest.child import Channel
from sansnet_trio.guest.errors import GuestError
from sansnet_trio.guest.live_change import GuestChange
from sansnet_trio.linux.descriptors import Uncopyable

__all__ = ["Broker"]

_log: Final = logging.getLogger("sansnet")

TIMEOUT: Final = 1.0
"""Seconds that an answer may take. No guest is served meanwhile."""
_END_TIMEOUT: Final = 2.0
"""Seconds that it may take to remove the names that we made, at the end."""


class Broker(Uncopyable):
    """A broker, from now on until it is closed. The process must have only one thread.

    Args:
        duties: its duties.

    Raises:
        OSError: no process can be started, or no descriptor is left.
    """

    def __init__(self, duties: Duties) -> None:
        pid, self._channels = process.fork(duties)
        self._process = os.pidfd_open(pid)
        self._requester = Requester(self._channels.requests)
        self._news = Channel(self._channels.news)
        self._gone = trio.Event()
        self._warned = False
        if duties.host is not None and duties.host.changes is not None:
            duties.host.changes.close()  # the broker receives them

    async def run(self, follow: Callable[[HostChanged | Trouble], Awaitable[None]]) -> None:
        """Receive news until cancelled, or until the broker has ended.

        Args:
            follow: called after a change of the host. The next change is reported when it has returned.
        """
        while True:
            await trio.lowlevel.wait_readable(self._news)
            try:
                news = self._news.receive()
            except (EOFError, OSError):
                self._warn()
                return
            match news:
                case HostChanged():
                    await follow(news)
                    with suppress(OSError):
                        self._channels.news.send(b"+")
                case Trouble():
                    await follow(news)
                case Gone():
                    self._gone.set()

    async def wait_gone(self) -> None:
        """Wait until the name of the namespace no longer leads to it."""
        await self._gone.wait()

    async def change(self, change: GuestChange) -> tuple[str, ...]:
        """Change the guest.

        Returns:
            A sentence for each file that could not be replaced.

        Raises:
            OSError: it is not permitted, or the guest is gone.
            GuestError: the interface cannot have an address, or the broker does not answer.
        """
        try:
            return await request_change(change, self._channels.changes)
        except EOFError:
            raise GuestError("the process that changes the guest has ended, or does not answer") from None

    def ask(self, request: Request, timeout: float = TIMEOUT) -> Answer:
        """Block until a request is answered; see `Requester.ask`."""
        return self._requester.ask(request, timeout)

    def close(self) -> None:
        """Wait until it has removed the names that this process made, and has ended. A second call does nothing."""
        if self._process < 0:
            return
        self._channels.close()
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._process, signal.SIGCONT)  # another process may have stopped it
        poll = select.poll()
        poll.register(self._process, select.POLLIN)
        if not poll.poll(_END_TIMEOUT * 1000):
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._process, signal.SIGKILL)
            poll.poll(_END_TIMEOUT * 1000)
        with suppress(ChildProcessError):
            os.waitid(os.P_PIDFD, self._process, os.WEXITED | os.WNOHANG)
        os.close(self._process)
        self._process = -1

    def __enter__(self) -> Broker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _warn(self) -> None:
        if not self._warned:
            self._warned = True
            _log.warning(
                "the process that watches the host's network and opens files has ended: the guest's network no longer "
                "follows the host's, and recordings do not begin a new file; start sansnet again"
            )
