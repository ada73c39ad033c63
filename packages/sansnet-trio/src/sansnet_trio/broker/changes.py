"""The job that changes the guest: the addresses and routes of its interface, and its own files."""

from __future__ import annotations

import errno
import math
import os
import socket
import time
from typing import Final

from sansnet_core import SansnetError
from sansnet_trio.guest import change_message
from sansnet_trio.guest.errors import GuestError
from sansnet_trio.guest.live_change import TIMEOUT, ChangeProcess, LiveGuest
from sansnet_trio.guest.plan import GuestPlan

__all__ = ["ChangeJob"]

_PART: Final = 1 << 16
"""Bytes of a request that are read at once."""


class ChangeJob:
    """Makes the changes that are requested, one after the other. See `Job`.

    It takes no more requests after one that is anything but a change of this guest.

    Args:
        guest: the guest.
        plan: plan of the guest.
        channel: a stream socket to the serving process; see `change_message`.
    """

    def __init__(self, guest: LiveGuest, plan: GuestPlan, channel: socket.socket) -> None:
        self._guest = guest
        self._plan = plan
        self._channel = channel
        self._received = bytearray()
        self._process: ChangeProcess | None = None
        self._deadline = math.inf
        channel.setblocking(False)

    def descriptor(self) -> int | None:
        """See `Job`."""
        if self._process is not None:
            return self._process.fileno()
        return self._channel.fileno() if self._channel.fileno() >= 0 else None

    def due(self) -> float:
        """See `Job`."""
        return self._deadline

    def run(self) -> None:
        """See `Job`."""
        try:
            if self._process is None:
                self._receive()
            else:
                self._finish(self._process)
        except BlockingIOError:
            return
        except OSError:  # the serving process has ended
            self._channel.close()

    def _receive(self) -> None:
        data = self._channel.recv(_PART)
        self._received += data
        if not data or len(self._received) > change_message.MAX_LINE:
            self._channel.close()
        elif self._received.endswith(b"\n"):
            line = bytes(self._received)
            self._received.clear()
            self._begin(line)

    def _begin(self, line: bytes) -> None:
        try:
            change = change_message.decode(line, self._plan)
        except Exception:
            self._channel.close()
            return
        try:
            self._process = self._guest.begin(change)
        except OSError as error:
            self._channel.send(change_message.failure(error))
        else:
            self._deadline = time.monotonic() + TIMEOUT

    def _finish(self, process: ChangeProcess) -> None:
        """Answer when the child has ended, or takes too long."""
        if time.monotonic() >= self._deadline:
            answer = change_message.failure(OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT)))
        else:
            try:
                answer = change_message.success(process.finish())
            except (OSError, SansnetError) as error:
                answer = change_message.failure(error)
            except Exception as error:  # a mistake in the child
                answer = change_message.failure(GuestError(f"{type(error).__name__}: {error}"))
        process.close()
        self._process, self._deadline = None, math.inf
        self._channel.send(answer)
