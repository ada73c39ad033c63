"""`--background` and `--pid` of people's commands: how a process goes to the background, and what it leaves there.

It goes as the compatible commands do (`compat.daemon`). From then on the system's log has what it says.
"""

from __future__ import annotations

import contextlib
import os
import stat
import syslog
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final, TypeAlias

from sansnet_cli.output import report
from sansnet_cli.output.files import open_output
from sansnet_cli.process.systemd import notify_ready
from sansnet_core import SansnetError
from sansnet_trio.hostinfo import HostError

__all__ = ["Ready", "Work", "start"]

Ready: TypeAlias = Callable[[], None]
Work: TypeAlias = Callable[[Ready], None]

_LONGEST: Final = 32
"""Bytes of a process id, at most."""


def start(
    work: Work,
    *,
    background: bool,
    pid_file: str | None,
    needed: Iterable[int] = (),
    needed_paths: Iterable[str | None] = (),
) -> int:
    """Do a command's work in this process or in the background.

    Args:
        work: does it to its end. It calls its argument when everything works.
        background: return in this process when everything works, and go on in another one.
        pid_file: name of a file for the process id; written when everything works, and removed at the end.
        needed: inherited descriptors that the work needs; all others are closed in the background.
        needed_paths: of files that may be such descriptors too, as /proc/self/fd/5.

    Returns:
        The exit status of this process, whichever it is.

    Raises:
        HostError: the pid file cannot be written.
    """
    if not background and pid_file is None:
        work(notify_ready)
        return 0
    from sansnet_cli.process.daemon import close_inherited, named_descriptors, run_in_background

    if background:
        close_inherited([*needed, *named_descriptors(*needed_paths)])
    file = _PidFile(pid_file) if pid_file is not None else None

    def here(let_go: Ready) -> int:
        def ready() -> None:
            if file is not None:
                file.write()
            notify_ready()
            let_go()

        work(ready)
        return 0

    try:
        return run_in_background(partial(_alone, here), None) if background else here(lambda: None)
    finally:
        if file is not None:
            file.remove()


def _alone(work: Callable[[Ready], int], let_go: Ready) -> int:
    """Do what is done in the background."""
    is_alone = False

    def ready() -> None:
        nonlocal is_alone
        let_go()
        report.speak_through(_SystemLog())
        is_alone = True

    try:
        return work(ready)
    except Exception as error:
        if not is_alone:
            raise
        expected = isinstance(error, (OSError, SansnetError))
        report.warn(f"ended: {report.reason(error) if expected else repr(error)}")
        return 1


class _SystemLog:
    """A `report.Voice`."""

    def __init__(self) -> None:
        syslog.openlog("sansnet", syslog.LOG_PID, syslog.LOG_DAEMON)

    def warn(self, sentence: str) -> None:
        syslog.syslog(syslog.LOG_WARNING, sentence)

    def inform(self, sentence: str) -> None:
        syslog.syslog(syslog.LOG_INFO, sentence)

    def trace(self, line: str) -> None:
        syslog.syslog(syslog.LOG_DEBUG, line)


class _PidFile:
    """A file for the number of a process, opened now. Its contents stay as they are until `write`.

    Raises:
        HostError: it cannot be written.
    """

    def __init__(self, path: str) -> None:
        self._name = path
        self._path = os.path.abspath(path)  # the working directory is another one in the background
        try:
            self._fd = open_output(path, os.O_RDWR, truncate=False)
        except OSError as error:
            raise self._unwritable(error) from error

    def write(self) -> None:
        """Write the number of this process.

        Raises:
            HostError: it cannot be written, for lack of room for example.
        """
        try:
            self._write()
        except OSError as error:
            raise self._unwritable(error) from error

    def _write(self) -> None:
        regular = stat.S_ISREG(os.fstat(self._fd).st_mode)
        if regular:
            os.ftruncate(self._fd, 0)
        os.write(self._fd, b"%d\n" % os.getpid())
        if not regular:  # the caller may wait for the end of its pipe
            os.close(self._fd)
            self._fd = -1

    def remove(self) -> None:
        """Remove the file, unless it has the number of another process: in the background, or of a successor.

        The name of a stream, as /dev/stdout, is a link to the file, and stays.
        """
        with contextlib.suppress(OSError):
            ours = os.pread(self._fd, _LONGEST, 0).strip() in (b"", b"%d" % os.getpid())
            if ours and os.path.samestat(os.lstat(self._path), os.fstat(self._fd)):
                os.unlink(self._path)

    def _unwritable(self, error: OSError) -> HostError:
        return HostError(f"the pid file {self._name} cannot be written ({error.strerror}); give another one")
