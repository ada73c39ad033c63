"""Scripts by which shells complete command lines of sansnet."""

from __future__ import annotations

import argparse
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sansnet_cli.completion.command import script
from sansnet_cli.completion.parser import SHELLS, parse
from sansnet_cli.options.records import CommandLineError
from sansnet_cli.parsers import parsers
from tests.cli.test_main import sansnet

COMPLETE = """
source "$1"
shift
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
_shtab_sansnet
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def bash_script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("completion") / "sansnet"
    path.write_text(script("bash", parsers()))
    return path


def completed(bash_script: Path, *words: str, directory: Path | None = None) -> list[str]:
    """The words that bash offers in place of the last one."""
    command = ["bash", "--norc", "-c", COMPLETE, "bash", str(bash_script), *words]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=20, check=True)
    assert done.stderr == ""
    return done.stdout.split()


def visible(parser: argparse.ArgumentParser) -> Iterator[str]:
    for action in parser._actions:
        if action.help != argparse.SUPPRESS:
            yield from action.option_strings


def test_bash_accepts_its_script(bash_script: Path) -> None:
    done = subprocess.run(["bash", "-n", str(bash_script)], capture_output=True, text=True, timeout=20, check=True)
    assert (done.stdout, done.stderr) == ("", "")


def test_commands_are_completed(bash_script: Path) -> None:
    assert completed(bash_script, "sansnet", "ru") == ["run"]
    assert completed(bash_script, "sansnet", "") == [*parsers()]


@pytest.mark.parametrize("name", [*parsers()])
def test_all_options_of_a_command_are_completed(bash_script: Path, name: str) -> None:
    assert sorted(completed(bash_script, "sansnet", name, "-")) == sorted(visible(parsers()[name]))


def test_the_beginning_of_an_option_is_completed(bash_script: Path) -> None:
    found = completed(bash_script, "sansnet", "run", "--no-")
    assert {"--no-tcp", "--no-udp", "--no-icmp", "--no-config", "--no-splice"} <= {*found}
    assert all(option.startswith("--no-") for option in found)
    assert completed(bash_script, "sansnet", "serve", "--ns-") == []


def test_choices_are_completed(bash_script: Path) -> None:
    assert completed(bash_script, "sansnet", "ctl", "./socket", "f") == ["flows"]
    assert completed(bash_script, "sansnet", "qemu", "--link", "v") == ["vhost-user"]
    assert completed(bash_script, "sansnet", "completion", "z") == ["zsh"]


@pytest.mark.parametrize(
    "words",
    [
        ["run", "-p", "ma"],
        ["run", "--conf-path", "ma"],
        ["run", "--record", "ma"],
        ["replay", "ma"],
        ["replay", "--pcapng", "ma"],
        ["run", "--", "cat", "ma"],
        ["attach", "--pid", "ma"],
        ["attach", "--netns", "ma"],
        ["serve", "--socket", "ma"],
        ["qemu", "--", "-m", "1G", "ma"],
        ["ctl", "ma"],
    ],
)
def test_names_of_files_are_completed(bash_script: Path, words: list[str], tmp_path: Path) -> None:
    (tmp_path / "machine.pcap").touch()
    assert "machine.pcap" in completed(bash_script, "sansnet", *words, directory=tmp_path)


def test_the_command_of_run_is_completed(bash_script: Path) -> None:
    assert "hostname" in completed(bash_script, "sansnet", "run", "--", "hostna")


@pytest.mark.parametrize("shell", SHELLS)
def test_every_shell_gets_a_script_with_all_options(shell: str) -> None:
    text = script(shell, parsers())
    for name, parser in parsers().items():
        assert name in text
        for option in visible(parser):
            assert option.lstrip("-") in text


@pytest.mark.slow
@pytest.mark.parametrize("shell", SHELLS)
def test_the_command_prints_the_script(shell: str) -> None:
    done = sansnet("completion", shell)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == script(shell, parsers()) + "\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "SHELL"),
        (["powershell"], "bash, zsh, fish, tcsh"),
        (["fisch"], "did you mean fish"),
        (["bash", "zsh"], "zsh"),
    ],
)
def test_another_shell_is_refused(arguments: list[str], words: str) -> None:
    with pytest.raises(CommandLineError, match=words):
        parse(arguments)
