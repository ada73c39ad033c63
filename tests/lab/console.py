"""A shell on a virtual machine's serial console, which is QEMU's standard input and output. See guest_init.sh."""

from __future__ import annotations

import base64
import os
import re
import select
import subprocess
import time
from typing import Final

__all__ = ["BOOT_SECONDS", "Console"]

BOOT_SECONDS: Final = 100.0
"""Most seconds until a machine has booted; it takes two seconds of an emulated processor's time, on a busy machine."""

_MAX_LINE: Final = 4095
"""Bytes of a line of a terminal (N_TTY)."""

_END: Final = re.compile(r"\n@@(\d+)\n")
"""After a command's output: its status."""


class Console:
    """The console of a process whose standard input and output are pipes."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process = process
        self._stdin = process.stdin
        self._stdout = process.stdout.fileno()
        self._heard = ""

    def begin(self, script: str) -> None:
        """Start a shell script, which `end` waits for."""
        line = base64.b64encode(script.encode()).decode()
        assert len(line) < _MAX_LINE, "a script that is too long for a terminal's line"
        self._stdin.write(f"{line}\n")
        self._stdin.flush()

    def end(self, timeout: float = 60.0) -> subprocess.CompletedProcess[str]:
        """Wait until the script has ended; its errors are among its output."""
        ending = self.wait_for(_END, timeout)
        return subprocess.CompletedProcess((), int(ending[1]), ending.string[: ending.start()], "")

    def wait_for(self, words: re.Pattern[str], timeout: float) -> re.Match[str]:
        """Wait for output that matches a pattern; the string of the match is all output up to its end.

        Raises:
            AssertionError: it did not come in time, or QEMU has ended.
        """
        deadline = time.monotonic() + timeout
        while (found := words.search(self._heard)) is None:
            left = deadline - time.monotonic()
            assert left > 0, f"the console says nothing more after {self._heard[-2000:]!r}"
            if select.select([self._stdout], [], [], left)[0]:
                data = os.read(self._stdout, 1 << 16)
                assert data, f"QEMU has ended with status {self._process.wait(10)} after {self._heard[-2000:]!r}"
                self._heard += data.decode(errors="replace")
        self._heard = self._heard[found.end() :]
        return found
