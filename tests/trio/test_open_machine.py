"""`open_machine` with a program in place of QEMU; real ones are in tests/kernel/machines."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
import trio

from sansnet_trio import (
    CommandNotExecutable,
    CommandNotFound,
    HostError,
    LinkClosed,
    NetworkOptions,
    OptionsError,
    open_machine,
)
from sansnet_trio.front import ending

PRELUDE: Final = """\
import os, re, signal, socket, sys, time
if "--version" in sys.argv:
    print("QEMU emulator version 8.1.0")
    sys.exit()
path = re.search("addr.path=([^,]*)", " ".join(sys.argv))[1]
"""

Fake = Callable[[str], Path]


@pytest.fixture
def fake(tmp_path: Path) -> Fake:
    """Makes a QEMU that prints its version or runs some Python."""

    def make(code: str) -> Path:
        made = tmp_path / "qemu"
        made.write_text(f"#!{sys.executable}\n{PRELUDE}{code}")
        made.chmod(0o755)
        return made

    return make


def run(program: Path | str, *arguments: str) -> tuple[int, str]:
    """The status of a machine when it has ended, and what it has printed."""

    async def main() -> tuple[int, str]:
        output = b""
        options = NetworkOptions.made_up()
        with trio.fail_after(20):
            async with open_machine(
                [program, *arguments], options, use_vhost_user=False, stdout=subprocess.PIPE
            ) as machine:
                assert machine.stdout is not None
                async for part in machine.stdout:
                    output += part
                return await machine.wait(), output.decode()

    return trio.run(main)


def test_a_machine_that_ends_by_itself(fake: Fake) -> None:
    assert run(fake("print(sys.argv[1:3]); sys.exit(3)"), "-m", "1G") == (3, "['-m', '1G']\n")


def test_a_machine_that_ignores_sigterm_is_killed_at_the_end(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ending, "_GRACE", 0.5)
    program = fake("signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); signal.pause()")

    async def main() -> int | None:
        async with open_machine(
            [program], NetworkOptions.made_up(), use_vhost_user=False, stdout=subprocess.PIPE
        ) as machine:
            assert machine.stdout is not None
            assert await machine.stdout.receive_some() == b"\n"
        return machine.returncode

    started = time.monotonic()
    assert trio.run(main) == -signal.SIGKILL
    assert time.monotonic() - started < 10


def test_connections_that_end_are_told_of_if_qemu_goes_on(fake: Fake, caplog: pytest.LogCaptureFixture) -> None:
    program = fake("""
def connect():
    made = socket.socket(socket.AF_UNIX)
    made.connect(path)
    assert made.recv(1 << 16)
    return made
connect(); connect().sendall(bytes(4)); time.sleep(1); held = connect()
""")
    assert run(program) == (0, "")
    [told] = caplog.messages
    assert told.startswith("the machine has lost its network until QEMU connects again: a frame of 0 bytes")


def test_messages_name_the_arguments_of_the_function(fake: Fake) -> None:
    with pytest.raises(CommandNotFound, match=r"install QEMU 7.2 or newer, or give its path as command\[0\]$"):
        run("no-such-qemu")
    with pytest.raises(CommandNotExecutable, match=r", or give another QEMU as command\[0\]$"):
        run("/etc/passwd")
    with pytest.raises(HostError, match=r"does not print a version of QEMU; give another program as command\[0\]$"):
        run("true")


def test_memory_that_is_not_shared() -> None:
    async def main() -> None:
        async with open_machine(["true", "-mem-path", "x"], use_vhost_user=True):
            pass

    with pytest.raises(OptionsError, match=r"or give use_vhost_user=False$"):
        trio.run(main)


def test_a_program_that_prints_without_end_is_no_qemu(fake: Fake) -> None:
    with pytest.raises(HostError, match="does not print a version"):
        run("yes")


def test_without_a_directory_for_temporary_files(fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sansnet_trio.linux.temporary.temporary", lambda: str(tmp_path / "missing"))
    with pytest.raises(HostError, match="no directory for temporary files is writable; set TMPDIR"):
        run(fake(""))


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
