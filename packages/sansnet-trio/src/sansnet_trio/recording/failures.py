"""Reports of the core's own mistakes: one line, and a file with the last inputs to send to the developers.

The guest may cause such a mistake again and again, so the number of files is bounded, for each process and in their
directory.
"""

from __future__ import annotations

import errno
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, ClassVar, Final, Protocol

from sansnet_core.errors import SansnetError
from sansnet_trio.linux.temporary import make_file, temporary

if TYPE_CHECKING:
    from sansnet_core.recording import Failure

__all__ = ["MAX_FILES", "FailureFiles", "FailureReports", "NetworkFailed", "NewFiles"]

_log: Final = logging.getLogger("sansnet")

_PREFIX: Final = "sansnet-failure-"
_SUFFIX: Final = ".rec"
MAX_FILES: Final = 3
"""Most files that one process writes."""
_MAX_IN_DIRECTORY: Final = 20
"""Files in a directory at which no more are written there."""
_MAX_LINES: Final = 10
"""Most lines about failures that one process logs."""


class NetworkFailed(SansnetError):
    """A mistake in sansnet ended a network; the message says where it is recorded."""


class FailureFiles(Protocol):
    """Makes the files of reports."""

    def make(self) -> tuple[str, int]:
        """A new file in the best directory: its path and a descriptor.

        Raises:
            OSError: no directory is writable.
        """

    def make_other(self, reason: str) -> tuple[str, int]:
        """Remove the file that was made last, which cannot be written, and make one in the next directory.

        Args:
            reason: why the last one cannot be written.

        Raises:
            OSError: no other directory is writable.
        """


class NewFiles:
    """`FailureFiles` in the user's directories: for state, then for temporary files."""

    def __init__(self) -> None:
        self._last = ""
        self._directories: Iterator[str] = iter(())

    def make(self) -> tuple[str, int]:
        """See `FailureFiles`."""
        self._directories = _directories()
        return self._make("no directory is writable")

    def make_other(self, reason: str) -> tuple[str, int]:
        """See `FailureFiles`."""
        if self._last:
            os.unlink(self._last)
        return self._make(f"{reason}: {os.path.dirname(self._last)}")

    def _make(self, reason: str) -> tuple[str, int]:
        self._last = ""
        for directory in self._directories:
            try:
                path, descriptor = _make(directory)
            except OSError as error:
                reason = f"{error.strerror}: {directory}"
                continue
            self._last = path
            return path, descriptor
        raise OSError(errno.EACCES, reason)


class FailureReports:
    """Reports the failures of one network; give `report` to `sansnet_core.recording.RecordedNetwork`.

    Args:
        on_end: called with the exception for the users of the network when a failure ends it.

    Attributes:
        files: makes the files. A process that can make none asks another one.
        on_end: see above.
        ended: that exception; None while the network goes on.
    """

    files: ClassVar[FailureFiles] = NewFiles()
    _files = 0
    _lines = 0

    def __init__(self, on_end: Callable[[NetworkFailed], None] = lambda error: None) -> None:
        self.on_end = on_end
        self.ended: NetworkFailed | None = None
        self._last = (b"", "")
        """The last recording, and the sentence about it: several failures in one input have the same one."""

    def report(self, failure: Failure) -> None:
        """Report a failure: log a line, and write the last inputs to a file."""
        kind, place = type(failure.error).__name__, _place(failure.error)
        if failure.goes_on:
            lost = f"ended {failure.flow}" if failure.flow else "lost a packet"
            what = f"a mistake in sansnet {lost} ({kind} {place}); the network goes on"
        else:
            what = f"a mistake in sansnet ended the network ({kind} {place})"
        _log.debug("the core failed at %s", failure.entry, exc_info=failure.error)
        if failure.goes_on and FailureReports._lines >= _MAX_LINES:
            return
        FailureReports._lines += 1
        more = "; further ones are not shown" if FailureReports._lines == _MAX_LINES else ""
        sentence = f"{what}; {self._keep(failure.recording)}{more}"
        if failure.goes_on:
            _log.warning("%s", sentence)
        else:
            self.ended = NetworkFailed(sentence)
            self.on_end(self.ended)

    def _keep(self, recording: bytes) -> str:
        """Write a recording to a file; returns the sentence about it."""
        if recording and recording is self._last[0]:
            return self._last[1]
        if not recording or FailureReports._files >= MAX_FILES:
            return "enough of such mistakes have been recorded; please report them"
        try:
            path = self._write(recording)
        except OSError as error:
            reason = error.strerror
            return f"the guest's last packets could not be written to a file ({reason}); set TMPDIR to a directory"
        FailureReports._files += 1
        sentence = f"please report it with the file {path}, which has the guest's last packets with all their data"
        self._last = (recording, sentence)
        return sentence

    def _write(self, recording: bytes) -> str:
        """Write a recording to a new file; returns its path."""
        path, descriptor = self.files.make()
        while True:
            try:
                rest = memoryview(recording)
                while rest:
                    rest = rest[os.write(descriptor, rest) :]
                return path
            except OSError as error:
                reason = str(error.strerror)
            finally:
                os.close(descriptor)
            path, descriptor = self.files.make_other(reason)


def _place(error: BaseException) -> str:
    """The innermost line of the program that raised an error."""
    found = error.__traceback__
    while found is not None and found.tb_next is not None:
        found = found.tb_next
    if found is None:
        return "somewhere"
    path = found.tb_frame.f_code.co_filename
    return f"in {'/'.join(path.split(os.sep)[-2:])}:{found.tb_lineno}"


def _directories() -> Iterator[str]:
    """The directories for such files, the best first."""
    state, home = os.environ.get("XDG_STATE_HOME", ""), os.environ.get("HOME", "")
    if not os.path.isabs(state) and os.path.isabs(home):
        state = os.path.join(home, ".local", "state")
    if state and _is_own(state):
        yield os.path.join(state, "sansnet")
    with suppress(OSError):  # there is none
        yield temporary()


def _is_own(path: str) -> bool:
    """Whether a path, or the nearest of its parents that exists, belongs to this user.

    Root with the environment of another user leaves no files in that user's home.
    """
    while True:
        try:
            return os.stat(path).st_uid == os.geteuid()
        except OSError:
            if path == (path := os.path.dirname(path)):
                return False


def _make(directory: str) -> tuple[str, int]:
    """Make a new file in a directory: its path and a descriptor."""
    os.makedirs(directory, mode=0o700, exist_ok=True)
    if sum(name.startswith(_PREFIX) for name in os.listdir(directory)) >= _MAX_IN_DIRECTORY:
        raise OSError(0, f"it has {_MAX_IN_DIRECTORY} such files already, remove them")
    return make_file(f"{_PREFIX}{time.strftime('%Y%m%d-%H%M%S')}-", _SUFFIX, directory)
