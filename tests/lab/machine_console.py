"""A shell on the serial console of a machine that the program runs by `open_machine`. See guest_init.sh."""

from __future__ import annotations

import base64
import re

from sansnet_trio import Machine

__all__ = ["MachineConsole"]


class MachineConsole:
    """The console of a machine whose standard input and output are pipes."""

    def __init__(self, machine: Machine) -> None:
        assert machine.stdin is not None
        assert machine.stdout is not None
        self._stdin = machine.stdin
        self._stdout = machine.stdout
        self._heard = ""

    async def wait_for(self, words: str) -> str:
        """All output up to a match of a regular expression."""
        while (found := re.search(words, self._heard)) is None:
            data = await self._stdout.receive_some()
            assert data, self._heard
            self._heard += bytes(data).decode(errors="replace")
        before, self._heard = self._heard[: found.end()], self._heard[found.end() :]
        return before

    async def run(self, script: str) -> str:
        """The output of a shell script, with its status at the end."""
        await self._stdin.send_all(base64.b64encode(script.encode()) + b"\n")
        return await self.wait_for(r"@@\d+\r?\n")
