"""`--background` and `--pid` of `sansnet attach` and `serve`: the process in the background, its messages and pid file.

It goes to the background in the same way as pasta and passt (`process.daemon`). Its messages then go to syslog.
"""

from __future__ import annotations

import os
import stat
import syslog
from collections.abc import Callable
from functools import partial
from typing import TypeAlias

from sansnet_cli.output import report
from sansnet_cli.output.system_log import SystemLog
from sansnet_cli.process.inherited import close_named
from sansnet_cli.process.systemd import notify_ready
from sansnet_core import SansnetError
from sansnet_trio.hostinfo import HostError
from sansnet_trio.linux import files
from sansnet_trio.linux.files import open_output
from sansnet_trio.linux.own_names import OwnName

__all__ = ["Ready", "Work", "start"]

Ready: TypeAlias = Callable[[], None]
Work: TypeAlias = Callable[[Ready], None]


def start(
    work: Work,
    *,
    background: bool,
    pid_file: str | None,
) -> int:
    """Do a command's work in this process or in the background.

    Args:
        work: a function that does the command's work to its end. It calls its argument when everything works.
        background: return in this process when everything works, and go on in another one.
        pid_file: name of a file for the process id; written when everything works, and removed at the end.

    Returns:
        The exit status of the process in which this function returns: the first one, or the one in the background.

    Raises:
        HostError: the pid file cannot be written.
    """
    if not background and pid_file is None:
        work(notify_ready)
        return 0
    from sansnet_cli.process.daemon import run_in_background

    file = _PidFile(pid_file) if pid_file is not None else None

    def here(release_caller: Ready) -> int:
        def ready() -> None:
            if file is not None:
                file.write()
            notify_ready()
            release_caller()

        work(ready)
        return 0

    try:
        return run_in_background(partial(_in_background, here), None) if background else here(lambda: None)
    finally:
        if file is not None:
            file.remove()


def _in_background(work: Callable[[Ready], int], release_caller: Ready) -> int:
    """Do the work of the process in the background."""
    is_released = False

    def ready() -> None:
        nonlocal is_released
        release_caller()
        report.send_to(_Messages())
        is_released = True

    try:
        return work(ready)
    except Exception as error:
        if not is_released:
            raise
        expected = isinstance(error, (OSError, SansnetError))
        report.warn(f"ended: {report.reason(error) if expected else repr(error)}")
        return 1


class _Messages:
    """A `report.Destination`: the system's log."""

    def __init__(self) -> None:
        self._log = SystemLog("sansnet")
        self._log.open()

    def warn(self, sentence: str) -> None:
        self._log.write(syslog.LOG_WARNING, sentence)

    def inform(self, sentence: str) -> None:
        self._log.write(syslog.LOG_INFO, sentence)

    def trace(self, line: str) -> None:
        self._log.write(syslog.LOG_DEBUG, line)


class _PidFile:
    """A file for the id of this process, opened now. Its contents do not change before `write`.

    Raises:
        HostError: it cannot be opened.
    """

    def __init__(self, path: str) -> None:
        self._name = path
        self._path = os.path.abspath(path)  # the process in the background changes to another directory
        try:
            self._fd = open_output(path, os.O_RDWR, truncate=False)
        except OSError as error:
            raise self._unwritable(error) from error
        self._status = os.fstat(self._fd)
        self._pid = os.getpid()
        self._made = OwnName(self._path, self._is_ours)

    def write(self) -> None:
        """Write the id of this process.

        Raises:
            HostError: the file cannot be written, for example because the disk is full.
        """
        try:
            self._write()
        except OSError as error:
            raise self._unwritable(error) from error

    def _write(self) -> None:
        self._pid = os.getpid()
        regular = stat.S_ISREG(os.fstat(self._fd).st_mode)
        if regular:
            os.ftruncate(self._fd, 0)
        os.write(self._fd, b"%d\n" % self._pid)
        if not regular:  # the caller may wait for the end of a pipe
            os.close(self._fd)
            close_named(self._name)
            self._fd = -1

    def remove(self) -> None:
        """Remove the file, unless it names another process: the one in the background, or a later sansnet.

        A link to a descriptor, such as /dev/stdout, stays.
        """
        self._made.remove()

    def _is_ours(self) -> bool:
        """Called by the process that removes the file, which may not have our descriptor."""
        same = os.path.samestat(os.lstat(self._path), self._status)
        return same and files.read(self._path).strip() in ("", f"{self._pid}")

    def _unwritable(self, error: OSError) -> HostError:
        return HostError(f"the pid file {self._name} cannot be written ({error.strerror}); give another one")
