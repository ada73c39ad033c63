"""A shell in a guest that suspends itself, and the shell above it."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

pytestmark = [pytest.mark.kernel, pytest.mark.slow]

RUN = f"{sys.executable} -W error -m sansnet_cli run -- bash --norc -i"


class Terminal:
    """An interactive shell on a pseudo-terminal."""

    def __init__(self) -> None:
        self._fd, other = pty.openpty()
        command = ["setsid", "--ctty", "bash", "--norc", "-i"]
        self._process = subprocess.Popen(command, stdin=other, stdout=other, stderr=other)
        os.close(other)
        self._seen = ""

    def type(self, line: str) -> None:
        os.write(self._fd, f"{line}\n".encode())

    def expect(self, text: str) -> None:
        """Read up to and including a text."""
        deadline = time.monotonic() + 15
        while text not in self._seen:
            assert time.monotonic() < deadline, self._seen
            if select.select([self._fd], [], [], 0.1)[0]:
                self._seen += os.read(self._fd, 4096).decode()
        self._seen = self._seen.partition(text)[2]

    def close(self) -> None:
        self._process.kill()
        self._process.wait(5)
        os.close(self._fd)


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    made = Terminal()
    yield made
    made.close()


def test_a_suspended_shell_gives_the_terminal_back_and_goes_on_in_the_foreground(terminal: Terminal) -> None:
    # The shell computes the expected text, because the terminal echoes the typed text, too.
    terminal.type(RUN)
    terminal.type("echo in-the-$((6*7))-guest")
    terminal.expect("in-the-42-guest")
    terminal.type("suspend")
    terminal.expect("Stopped")
    terminal.type("echo above-$((6*7))")
    terminal.expect("above-42")
    terminal.type("fg")
    terminal.type("ls /sys/class/net | wc -l | sed s/^/interfaces-/")
    terminal.expect("interfaces-2")
    terminal.type("exit 5")
    terminal.type("echo status-$?-$((6*7))")
    terminal.expect("status-5-42")
