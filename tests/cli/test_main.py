"""The parts of the command that need no guest; the others are in tests/kernel."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

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
        (["pasta", "--version"], "pasta 0.1.0"),
        (["passt", "--version"], "passt 0.1.0"),
        (["pasta", "--help"], "--map-host-loopback"),
        (["passt", "--help"], "--vhost-user"),
    ],
)
def test_help_and_version(arguments: list[str], words: str) -> None:
    done = sansnet(*arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert words in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["--version"], ["run", "--help"], ["pasta", "--help"], ["completion", "bash"]])
def test_what_is_printed_on_a_closed_stdout_is_lost_without_an_error(arguments: list[str]) -> None:
    command = ["sh", "-c", 'exec "$@" >&-', "sh", sys.executable, "-W", "error", "-m", "sansnet_cli", *arguments]
    done = subprocess.run(command, text=True, capture_output=True, timeout=20, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [[], ["walk"], ["--walk"], ["run", "--walk"], ["run", "-m", "x"], ["serve"]])
def test_a_wrong_command_line_is_one_sentence_and_status_2(arguments: list[str]) -> None:
    done = sansnet(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("sansnet: ")
    assert done.stderr.count("\n") == 1
    assert "--help`" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("link", ["pasta", "passt", "passt.avx2", "my-pasta"])
def test_a_link_of_their_names_is_one_of_the_compatible_commands(link: str, tmp_path: Path) -> None:
    (tmp_path / link).symlink_to(Path(sys.prefix, "bin", "sansnet"))
    done = subprocess.run([tmp_path / link, "--version"], text=True, capture_output=True, timeout=20, check=True)
    assert done.stdout.startswith("pasta " if "pasta" in link else "passt ")


@pytest.mark.slow
def test_misuse_of_a_compatible_command_is_status_1_and_the_usage_on_stderr() -> None:
    done = sansnet("pasta", "--foo")
    assert (done.returncode, done.stdout) == (1, "")
    first, second, *_ = done.stderr.splitlines()
    assert first == "pasta: unrecognized option '--foo'"
    assert second.startswith("usage: pasta ")


@pytest.mark.slow
def test_options_of_a_compatible_command_that_mean_nothing_together_are_one_sentence() -> None:
    done = sansnet("passt", "--config-net")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "passt: --config-net is an option of pasta; leave it out; see `passt --help`\n"


@pytest.mark.parametrize("error", ["MemoryError()", "SystemError('error return without exception set')"])
def test_too_little_memory_while_modules_are_loaded_is_one_sentence(error: str) -> None:
    program = (
        "import sys\n"
        "class Scarce:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name == 'sansnet_cli.run.command': raise {error}\n"
        "sys.meta_path.insert(0, Scarce())\n"
        "from sansnet_cli.dispatch import dispatch\n"
        "dispatch(['run', 'true'])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "sansnet: there is too little memory; allow more, for example: ulimit -v unlimited\n"
