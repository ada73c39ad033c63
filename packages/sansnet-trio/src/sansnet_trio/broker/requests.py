"""Requests to the broker: a closed list, without arguments.

A request is one byte and a number that its answer repeats, so that an answer that comes too late is not taken for
another one. The answer is that number and a pickled object: the result, or an `OSError`. It comes with descriptors.
"""

from __future__ import annotations

import errno
import math
import os
import pickle
import select
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from enum import IntEnum
from struct import Struct
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

from sansnet_core import SansnetError
from sansnet_trio.broker.jobs import Finished
from sansnet_trio.linux.descriptors import receive_descriptors

__all__ = ["Answer", "Asked", "Handler", "Request", "RequestJob", "Requester", "Unanswered"]

_REQUEST: Final = Struct("=BI")  # kind, number
_NUMBER: Final = Struct("=I")
_MAX_ANSWER: Final = 1 << 12
_MAX_DESCRIPTORS: Final = 8
_PER_RUN: Final = 4
"""Requests that are carried out before other jobs get their turn."""


class Request(IntEnum):
    """A request that the serving process may make."""

    NEXT_RECORDING = 1
    """The next file of the recording; the present one gets another name."""
    FAILURE_FILE = 2
    """A new file for the report of a failure."""
    OTHER_FAILURE_FILE = 3
    """The same in another directory, since the last one could not be written; that is removed."""
    POLICY_FILE = 4
    """A new file for the learnt policy."""
    POLICY_DONE = 5
    """That file is written: it replaces the one before."""
    SOCKET_AGENT = 6
    """A new socket agent; the one before is ended."""
    REMOVE_EARLIER = 7
    """The file with the part before of an earlier recording is removed, since a new recording begins."""


class Answer(NamedTuple):
    """The answer to a request.

    Attributes:
        result: an object that can be pickled.
        descriptors: descriptors that go with it; the broker closes its own copies.
    """

    result: Any = None
    descriptors: tuple[int, ...] = ()

    def expect(self, count: int) -> tuple[int, ...]:
        """The descriptors.

        Args:
            count: their number.

        Raises:
            OSError: the kernel has dropped some, because they are beyond our limit.
        """
        if len(self.descriptors) == count:
            return self.descriptors
        _close(self.descriptors)
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


Handler: TypeAlias = Callable[[], Answer]
"""Carries out a request; an `OSError` is the answer, too."""


class Asked(Protocol):
    """A broker, to be asked; see `Broker`."""

    def ask(self, request: Request, timeout: float = ..., /) -> Answer:
        """See `Requester.ask`."""


class Unanswered(OSError, SansnetError):
    """The broker has ended, or does not answer in time."""

    def __init__(self) -> None:
        super().__init__("the process that opens files for sansnet does not answer")


class RequestJob:
    """The broker's part: carries out requests. See `Job`.

    Args:
        channel: the socket, of SOCK_SEQPACKET. The process ends when its other end is closed.
        handlers: the requests that are possible. All others have no effect.
    """

    def __init__(self, channel: socket.socket, handlers: Mapping[Request, Handler]) -> None:
        self._channel = channel
        self._handlers = {int(request): handler for request, handler in handlers.items()}
        channel.setblocking(False)

    def descriptor(self) -> int | None:
        """See `Job`."""
        return self._channel.fileno()

    def due(self) -> float:
        """See `Job`."""
        return math.inf

    def run(self) -> None:
        """See `Job`."""
        for _ in range(_PER_RUN):
            try:
                data = self._channel.recv(_REQUEST.size)
            except BlockingIOError:
                return
            except OSError:
                raise Finished from None
            if not data:
                raise Finished
            if len(data) == _REQUEST.size:
                self._answer(*_REQUEST.unpack(data))

    def _answer(self, kind: int, number: int) -> None:
        handler = self._handlers.get(kind)
        if handler is None:
            return
        descriptors: tuple[int, ...] = ()
        try:
            result, descriptors = handler()
        except OSError as error:
            result = OSError(error.errno, error.strerror)
        try:
            # A serving process that does not read loses the answer
            with suppress(OSError):
                socket.send_fds(self._channel, [_NUMBER.pack(number) + pickle.dumps(result)], descriptors)
        finally:
            _close(descriptors)


class Requester:
    """The serving process's part.

    Args:
        channel: the socket, of SOCK_SEQPACKET.
    """

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._number = 0
        channel.setblocking(False)

    def ask(self, request: Request, timeout: float) -> Answer:
        """Block until a request is answered.

        Args:
            request: the request.
            timeout: seconds to wait for the answer.

        Raises:
            Unanswered: the broker has ended, or does not answer in time.
            OSError: it could not carry out the request.
        """
        self._number = (self._number + 1) % (1 << 32)
        deadline = time.monotonic() + timeout
        try:
            self._channel.send(_REQUEST.pack(request, self._number))
            return self._receive(deadline)
        except (BlockingIOError, ConnectionError) as error:
            raise Unanswered from error

    def _receive(self, deadline: float) -> Answer:
        poll = select.poll()
        poll.register(self._channel, select.POLLIN)
        while poll.poll(max(deadline - time.monotonic(), 0) * 1000):
            data, descriptors = receive_descriptors(self._channel, _MAX_ANSWER, _MAX_DESCRIPTORS)
            if not data:
                break
            if _NUMBER.unpack_from(data)[0] == self._number:
                result = pickle.loads(data[_NUMBER.size :])
                if isinstance(result, OSError):
                    raise result
                return Answer(result, tuple(descriptors))
            _close(descriptors)
        raise Unanswered


def _close(descriptors: Iterable[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
