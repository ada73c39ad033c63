"""QEMU's monitor for programs (QMP), as much as tests need."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path
from typing import Any

from tests.lab.namespaces import eventually

__all__ = ["Qmp"]


class Qmp:
    """A connection to a monitor that listens on a socket: `-qmp unix:PATH,server=on,wait=off`."""

    def __init__(self, path: Path, *, seconds: float = 30.0) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(seconds)
        # the file exists before QEMU listens on it
        assert eventually(lambda: self._socket.connect_ex(str(path)) == 0)
        self._lines = self._socket.makefile("r")
        self._lines.readline()  # the greeting
        self("qmp_capabilities")

    def close(self) -> None:
        """Close the connection."""
        self._lines.close()
        self._socket.close()

    def __call__(self, command: str, **arguments: Any) -> Any:
        """The result of a command; arguments have underscores for hyphens.

        Raises:
            AssertionError: it failed.
        """
        words = {name.replace("_", "-"): value for name, value in arguments.items()}
        self._socket.sendall(json.dumps({"execute": command, "arguments": words}).encode())
        while True:
            answer = json.loads(self._lines.readline())
            assert "error" not in answer, (command, answer)
            if "return" in answer:
                return answer["return"]

    def status(self) -> str:
        """The state of the machine, such as `running`, or `inmigrate` while it is loaded."""
        status: str = self("query-status")["status"]
        return status

    def migrate(self, where: str, *, seconds: float = 60.0) -> None:
        """Send the machine's state somewhere, as fast as it goes, and wait until it is there."""
        self("migrate-set-parameters", max_bandwidth=1 << 34)
        self("migrate", uri=where)
        deadline = time.monotonic() + seconds
        while (state := self("query-migrate").get("status")) != "completed":
            assert state in (None, "setup", "active", "device", "pre-switchover"), state
            assert time.monotonic() < deadline, "the migration does not come to an end"
            time.sleep(0.01)
