"""`sansnet qemu` from start to end, with a program in place of QEMU: it has a version, connects and ends.

Real ones are in tests/kernel/machines.
"""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

pytestmark = pytest.mark.slow

Fake = Callable[[str], Path]

PRELUDE: Final = """\
import os, re, resource, signal, socket, sys, time
if "--version" in sys.argv:
    print("QEMU emulator version 8.1.0")
    sys.exit()
path = re.search("addr.path=([^,]*)", " ".join(sys.argv))[1]
def connect():
    made = socket.socket(socket.AF_UNIX)
    made.connect(path)
    assert made.recv(1 << 16)
    return made
"""


@pytest.fixture
def fake(tmp_path: Path) -> Fake:
    """Makes a QEMU that prints its version or runs some Python."""

    def make(code: str) -> Path:
        made = tmp_path / "qemu"
        made.write_text(f"#!{sys.executable}\n{PRELUDE}{textwrap.dedent(code)}")
        made.chmod(0o755)
        return made

    return make


@pytest.fixture(autouse=True)
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory for temporary directories, which is empty afterwards."""
    made = tmp_path / "temporary"
    made.mkdir()
    monkeypatch.setenv("TMPDIR", str(made))
    return made


def start(program: Path | str, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "error", "-m", "sansnet_cli", "qemu", "--qemu", str(program), *arguments]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, text=True, stdin=pipe, stdout=pipe, stderr=pipe)


def run_qemu(program: Path | str, *arguments: str, given: str = "") -> tuple[int, str, str]:
    """The status and output of `sansnet qemu`."""
    with start(program, "--link", "stream", *arguments) as process:
        out, errors = process.communicate(given, timeout=20)
    return process.returncode, out, errors


def test_qemu_has_our_terminal_and_its_arguments_and_we_have_its_status(fake: Fake, empty: Path) -> None:
    program = fake("print(sys.argv[1:4], sys.stdin.read()); sys.exit(3)")
    assert run_qemu(program, "-m", "1500", "--", "-m", "1G", "disk image", given="hello") == (
        3,
        "['-m', '1G', 'disk image'] hello\n",
        "",
    )
    assert not list(empty.iterdir())


def test_qemu_is_served_without_a_word_and_again_when_it_comes_back(fake: Fake) -> None:
    program = fake("connect(); connect(); held = connect(); print('served')")
    assert run_qemu(program) == (0, "served\n", "")


def test_a_connection_that_is_lost_is_told_of_if_qemu_goes_on(fake: Fake) -> None:
    program = fake("connect().sendall(bytes(4)); time.sleep(1); connect()")
    status, _, errors = run_qemu(program)
    assert status == 0
    assert errors.startswith("sansnet: the machine has lost its network until QEMU connects again: ")
    assert "a frame of 0 bytes" in errors
    assert errors.count("\n") == 1


def test_what_was_configured_and_what_qemu_was_started_with(fake: Fake) -> None:
    program = fake("held = connect()")
    status, _, errors = run_qemu(program, "-v", "-m", "1400", "--", "-name", "a b")
    assert status == 0
    assert f"sansnet: started {program} -name 'a b' -netdev stream," in errors
    assert "host_mtu=1400" in errors
    assert "link: MTU 1400" in errors
    assert "frames to the guest" in errors


def test_a_signal_that_ended_qemu_is_named(fake: Fake) -> None:
    status, _, errors = run_qemu(fake("os.kill(os.getpid(), signal.SIGSEGV)"))
    assert (status, errors) == (128 + signal.SIGSEGV, "sansnet: signal 11 ended QEMU (Segmentation fault)\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
def test_a_signal_goes_to_qemu_which_decides(fake: Fake, number: signal.Signals) -> None:
    program = fake("""
        count = 0
        def hear(number, _):
            global count
            count += 1
            print("heard", number, count, flush=True)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
            signal.signal(number, hear)
        held = connect()
        print("ready", flush=True)
        while not count: time.sleep(0.01)
        time.sleep(0.2)
        sys.exit(7 + count)
    """)
    with start(program, "--link", "stream") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        assert process.stdout.readline() == f"heard {number} 1\n"
        assert process.wait(10) == 8


@pytest.fixture
def few_descriptors() -> Iterator[int]:
    """A limit that sansnet raises for itself."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard - 1, hard))
    yield hard - 1
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_qemu_has_the_signals_limits_and_descriptors_that_we_were_given(fake: Fake, few_descriptors: int) -> None:
    program = fake("""
        [blocked] = re.findall("SigBlk:\\t(.*)", open("/proc/self/status").read())
        held = connect()  # by then we serve, with a limit of our own
        print(int(blocked, 16), resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        print([fd for fd in range(3, 64) if fd != held.fileno() and os.path.exists(f"/proc/self/fd/{fd}")])
    """)
    assert run_qemu(program)[1] == f"0 {few_descriptors}\n[]\n"


def test_qemu_is_ended_in_good_order_if_we_are_killed(fake: Fake) -> None:
    program = fake("""
        signal.signal(signal.SIGTERM, lambda *_: (print("terminated", flush=True), os._exit(0)))
        print("ready", flush=True)
        while True: time.sleep(1)
    """)
    with start(program, "--link", "stream") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.kill()
        assert process.stdout.readline() == "terminated\n"


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (
            "QEMU emulator version 7.1.0",
            "is QEMU 7.1, but the oldest that works is 7.2; give a newer one by --qemu",
        ),
        ("qemu-img version 7.2.0", "does not print a version of QEMU"),
        ("", "does not print a version of QEMU"),
    ],
)
def test_a_program_that_will_not_do(tmp_path: Path, said: str, words: str) -> None:
    program = tmp_path / "qemu"
    program.write_text(f"#!/bin/sh\necho {said}\n")
    program.chmod(0o755)
    status, out, errors = run_qemu(program)
    assert (status, out) == (1, "")
    assert words in errors
    assert errors.count("\n") == 1


@pytest.mark.parametrize(
    ("program", "status", "words"),
    [
        ("no-such-qemu", 127, "no-such-qemu: command not found; install QEMU 7.2 or newer, or give its path by --qemu"),
        ("/etc/passwd/qemu", 127, "command not found"),
        ("/etc/passwd", 126, "or give another QEMU by --qemu PROGRAM"),
    ],
)
def test_a_program_that_there_is_not(program: str, status: int, words: str) -> None:
    done = run_qemu(program)
    assert done[:2] == (status, "")
    assert words in done[2]
    assert done[2].count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-m", "1G"], "QEMU's own arguments go after --, see `sansnet qemu --help`"),
        (["--", "-daemonize"], "-daemonize would leave the machine without its network"),
        (["--link", "vhost-user", "--", "-m", "1X"], "-m 1X for QEMU is not a size"),
    ],
)
def test_arguments_that_cannot_work_are_wrong(fake: Fake, arguments: list[str], words: str) -> None:
    status, out, errors = run_qemu(fake("print('ran')"), *arguments)
    assert (status, out) == (2, "")
    assert words in errors
    assert errors.count("\n") == 1


@pytest.mark.parametrize("hears", [True, False], ids=["hears", "deaf"])
def test_qemu_that_is_stopped_does_not_keep_us(fake: Fake, hears: bool) -> None:
    """A QEMU that ignores SIGTERM continues, and its network with it."""
    program = fake(f"""
        signal.signal(signal.SIGTERM, signal.SIG_DFL if {hears} else signal.SIG_IGN)
        print(os.getpid(), flush=True)
        os.kill(os.getpid(), signal.SIGSTOP)
        print("again", flush=True)
    """)
    with start(program, "--link", "stream") as process:
        assert process.stdout is not None
        machine = int(process.stdout.readline())
        while "T" not in Path(f"/proc/{machine}/stat").read_text().rpartition(")")[2].split()[0]:
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        assert process.stdout.read() == ("" if hears else "again\n")
        assert process.wait(10) == (128 + signal.SIGTERM if hears else 0)
