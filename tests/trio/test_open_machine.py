"""`open_machine` with a program that is not QEMU."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from sansnet_trio import LinkClosed, NetworkOptions, open_machine

NOT_QEMU = """#!/bin/sh
test "$1" = --version && echo "QEMU emulator version 9.0.0" && exit
exit 3
"""


def test_a_task_that_waits_for_the_network_wakes_up_when_qemu_ends(tmp_path: Path) -> None:
    program = tmp_path / "qemu-system-x86_64"
    program.write_text(NOT_QEMU)
    program.chmod(0o755)

    async def main() -> None:
        with trio.fail_after(10):
            async with open_machine([program], NetworkOptions.made_up()) as machine:
                for _ in range(2):
                    with pytest.raises(LinkClosed, match="QEMU has ended with status 3"):
                        await machine.wait_network()

    trio.run(main)
