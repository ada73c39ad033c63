"""Pseudo-terminals for commands."""

from __future__ import annotations

import os
import pty
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["Terminal", "terminal"]


class Terminal:
    """A pseudo-terminal, whose session a command leads."""

    def __init__(self, command: list[str]) -> None:
        self._master, slave = pty.openpty()
        self.process = subprocess.Popen(["setsid", "--ctty", *command], stdin=slave, stdout=slave, stderr=slave)
        os.close(slave)
        os.set_blocking(self._master, False)
        self.output = ""

    def type(self, text: str) -> None:
        """Type a text."""
        os.write(self._master, text.encode())

    def expect(self, text: str) -> None:
        """Read until a text has come."""
        deadline = time.monotonic() + 60
        while text not in self.output:
            assert time.monotonic() < deadline, self.output
            try:
                self.output += os.read(self._master, 4096).decode()
            except BlockingIOError:
                time.sleep(0.01)

    def close(self) -> None:
        """End the command, if it still runs."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(5)
        os.close(self._master)


@contextmanager
def terminal(command: list[str]) -> Iterator[Terminal]:
    """A pseudo-terminal for the block, with a command that is ended then."""
    made = Terminal(command)
    try:
        yield made
    finally:
        made.close()
