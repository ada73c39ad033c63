"""Programs that call pasta or passt, as far as those can tell."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.lab.laboratory import Lab
from tests.lab.namespaces import eventually

__all__ = ["Caller", "Done", "alive", "ended"]

_SANSNET: Final = Path(sys.prefix) / "bin" / "sansnet"


@dataclass(frozen=True)
class Done:
    """How a call ended.

    Attributes:
        status: of the process that was called.
        output, errors: what came until nobody had the pipe open any more.
        seconds: until then.
    """

    status: int
    output: str
    errors: str
    seconds: float


class Caller:
    """Calls programs in the host of a laboratory, by links to `sansnet` that have their names.

    Attributes:
        directory: where the links are, and whatever files a caller wants.
    """

    def __init__(self, lab: Lab, directory: Path) -> None:
        self.lab = lab
        self.directory = directory
        directory.chmod(0o755)
        for name in ("pasta", "passt", "passt.avx2"):
            (directory / name).symlink_to(_SANSNET)

    def words(self, program: str, *arguments: str) -> list[str]:
        """The command line of a program."""
        return [str(self.directory / program), *arguments]

    def command(self, *words: str, user: int | None = None, before: str = "") -> list[str]:
        """The same in the host; `before` is a shell script that comes first, in a mount namespace of its own."""
        line = self.words(*words)
        if user is not None:
            line = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "--", *line]
        if before:
            line = ["unshare", "--mount", "--", "sh", "-ec", f"{before}\nexec {shlex.join(line)}"]
        return self.lab.host.command("env", "LC_ALL=C.UTF-8", *line)

    def call(self, *words: str, user: int | None = None, before: str = "", **options: Any) -> Done:
        """Call a program and read its pipes to their end, as callers do; it must not keep them open."""
        started = time.monotonic()
        done = subprocess.run(
            self.command(*words, user=user, before=before),
            text=True,
            capture_output=True,
            timeout=20,
            check=False,
            stdin=subprocess.DEVNULL,
            **options,
        )
        return Done(done.returncode, done.stdout, done.stderr, time.monotonic() - started)


def alive(pid: int) -> bool:
    """Whether a process still runs; nobody may have waited for one that has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@contextmanager
def ended(pid_file: Path) -> Iterator[int]:
    """The process of a pid file, which is ended with the block if it is not before."""
    pid = int(pid_file.read_text())
    try:
        yield pid
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        if not eventually(lambda: not alive(pid), seconds=5):
            os.kill(pid, signal.SIGKILL)
