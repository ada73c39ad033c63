"""The command itself, as far as it needs no guest; the rest is in tests/kernel."""

from __future__ import annotations

import subprocess
import sys

import pytest


def sansnet(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-m", "sansnet_cli", *arguments]
    return subprocess.run(command, text=True, capture_output=True, timeout=20, check=False, stdin=subprocess.DEVNULL)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--version"], "sansnet 0.1.0"),
        (["run", "--version"], "sansnet 0.1.0"),
        (["--help"], "usage: sansnet run"),
        (["run", "--help"], "--dns-forward"),
        (["serve", "--version"], "sansnet 0.1.0"),
        (["serve", "--help"], "--one-off"),
    ],
)
def test_help_and_version(arguments: list[str], words: str) -> None:
    done = sansnet(*arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert words in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [[], ["walk"], ["--walk"], ["run", "--walk"], ["run", "-m", "x"], ["serve"]])
def test_a_wrong_command_line_is_one_sentence_and_status_2(arguments: list[str]) -> None:
    done = sansnet(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("sansnet: ")
    assert done.stderr.count("\n") == 1
    assert "--help`" in done.stderr
