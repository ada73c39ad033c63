"""The requests for files: both parts, that of the broker and that of the serving process."""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from sansnet_trio.broker.requests import Answer, Asked, Handler, Request
from sansnet_trio.recording.failures import MAX_FILES, NewFiles
from sansnet_trio.recording.file import RecordingFile, make_next, remove_earlier

__all__ = ["BrokeredFailureFiles", "failure_handlers", "make_recordings_by", "recording_handlers"]

_DIRECTORIES: Final = 2
"""Directories in which the file of a failure may be."""


# the broker's part


def recording_handlers(path: str) -> Mapping[Request, Handler]:
    """The handlers of the recording at a path."""

    def remove() -> Answer:
        remove_earlier(path)
        return Answer()

    return {Request.NEXT_RECORDING: lambda: Answer(None, (make_next(path),)), Request.REMOVE_EARLIER: remove}


def failure_handlers() -> Mapping[Request, Handler]:
    """The handlers of the files of failures; few are made, whatever the serving process asks for."""
    files = NewFiles()
    rest = MAX_FILES * _DIRECTORIES

    def bounded(make: Callable[[], tuple[str, int]]) -> Answer:
        nonlocal rest
        if not rest:
            raise OSError(errno.EDQUOT, "enough of such files have been made")
        rest -= 1
        path, descriptor = make()
        return Answer(path, (descriptor,))

    return {
        Request.FAILURE_FILE: partial(bounded, files.make),
        Request.OTHER_FAILURE_FILE: partial(bounded, partial(files.make_other, "it cannot be written")),
    }


# the part of the process that serves a guest


def make_recordings_by(broker: Asked, file: RecordingFile) -> None:
    """Let a recording ask a broker for its next file; see `RecordingFile.make_next`."""

    def remove() -> None:
        broker.ask(Request.REMOVE_EARLIER)

    file.make_next = lambda: broker.ask(Request.NEXT_RECORDING).expect(1)[0]
    file.remove_earlier = remove


class BrokeredFailureFiles:
    """`FailureFiles` that a broker makes."""

    def __init__(self, broker: Asked) -> None:
        self._broker = broker

    def make(self) -> tuple[str, int]:
        """See `FailureFiles`."""
        return self._ask(Request.FAILURE_FILE)

    def make_other(self, reason: str) -> tuple[str, int]:
        """See `FailureFiles`."""
        return self._ask(Request.OTHER_FAILURE_FILE)

    def _ask(self, request: Request) -> tuple[str, int]:
        answer = self._broker.ask(request)
        return answer.result, answer.expect(1)[0]
