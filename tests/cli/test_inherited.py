"""Descriptors that the command inherits beyond its standard streams: nothing but what is named stays open."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.lab.namespaces import eventually

SANSNET = [sys.executable, "-m", "sansnet_cli"]
INHERITED = 'exec 5</dev/zero 6</dev/zero 7</dev/zero 8</dev/zero; exec "$@"'


def kept(words: list[str], variables: Mapping[str, str]) -> set[int]:
    """Those of the inherited descriptors 5 to 8 that stay open for a command line."""
    program = f"""
        import os
        from sansnet_cli.process.inherited import close_unnamed
        variables = {variables!r}
        if variables.get("LISTEN_PID") == "ours":
            variables["LISTEN_PID"] = str(os.getpid())
        close_unnamed({words!r}, variables)
        print(*sorted(os.listdir("/proc/self/fd")))
    """
    command = ["sh", "-c", INHERITED, "sh", sys.executable, "-c", textwrap.dedent(program)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
    numbers = set(map(int, done.stdout.split()))
    assert {0, 1, 2} < numbers
    return numbers - {0, 1, 2, 3}  # 3 is of the list itself


@pytest.mark.parametrize(
    ("words", "variables", "numbers"),
    [
        ([], {}, set()),
        (["run", "-t", "5", "--mtu", "6", "--", "cat", "7"], {}, set()),
        (["attach", "8"], {}, set()),
        (["attach", "--netns", "/proc/self/fd/5", "--userns=/dev/fd/6"], {}, {5, 6}),
        (["serve", "--fd", "5"], {}, {5}),
        (["passt", "--fd=6"], {}, {6}),
        (["passt", "-F", "7"], {}, {7}),
        (["passt", "-F8"], {}, {8}),
        (["run", "-p/dev/fd/7", "--policy", "/proc/thread-self/fd/8", "--", "true"], {}, {7, 8}),
        (["pasta"], {"SANSNET_AUDIT": "/dev/fd/5", "AUDIT": "/dev/fd/6"}, {5}),
        (["serve"], {"LISTEN_PID": "ours", "LISTEN_FDS": "4"}, {5, 6}),
        (["serve"], {"LISTEN_PID": "1", "LISTEN_FDS": "4"}, set()),
        (["serve", "--fd"], {"LISTEN_PID": "ours", "LISTEN_FDS": "many"}, set()),
    ],
)
def test_only_what_is_named_stays_open(words: list[str], variables: Mapping[str, str], numbers: set[int]) -> None:
    assert kept(words, variables) == numbers


@pytest.mark.slow
@pytest.mark.parametrize("program", [["serve"], ["passt", "-f"]], ids=["serve", "passt"])
def test_a_command_closes_them(tmp_path: Path, program: list[str]) -> None:
    words = [*program, "--socket", "socket", "--pcap", "/dev/fd/7"]
    command = ["sh", "-c", INHERITED.replace("7</dev/zero", "7>capture"), "sh", *SANSNET, *words]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL) as process:
        try:
            assert eventually((tmp_path / "socket").exists)
            open_files = {os.readlink(each) for each in Path(f"/proc/{process.pid}/fd").iterdir()}
        finally:
            process.send_signal(signal.SIGTERM)
    assert "/dev/zero" not in open_files
    assert str(tmp_path / "capture") in open_files


@pytest.mark.slow
@pytest.mark.parametrize("program", [["serve", "--background", "--pid"], ["passt", "--pid"]], ids=["serve", "passt"])
def test_the_reader_of_a_process_id_sees_its_end(tmp_path: Path, program: list[str]) -> None:
    """The process in the background closes the descriptor that it inherited."""
    reader, writer = os.pipe()
    command = [*SANSNET, *program, f"/dev/fd/{writer}", "--socket", "socket"]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=30, pass_fds=[writer], capture_output=True)
    os.close(writer)
    with open(reader) as file:
        pid = int(file.read())
    os.kill(pid, signal.SIGTERM)
