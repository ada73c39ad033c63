"""The options of a recording, of `sansnet run` and the other commands with a guest, and of pasta and passt."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sansnet_cli.attach.parser import parse as parse_attach
from sansnet_cli.compat.parsed_options import Misuse, ParsedOptions
from sansnet_cli.compat.request import read
from sansnet_cli.options.record import size
from sansnet_cli.options.records import CommandLineError, CommandOptions
from sansnet_cli.options.values import BadValue
from sansnet_cli.qemu.parser import parse as parse_qemu
from sansnet_cli.run.parser import parse
from sansnet_cli.runtime.record import recorded
from sansnet_cli.serve.parser import parse as parse_serve
from sansnet_trio import HostError, RecordingFile


def refusal(*arguments: str) -> str:
    with pytest.raises(CommandLineError) as caught:
        parse([*arguments, "--", "true"])
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (parse, ["true"]),
        (parse_attach, ["1"]),
        (parse_serve, ["--socket", "socket"]),
        (parse_qemu, ["--", "-m", "1G"]),
    ],
)
def test_every_command_with_a_guest_records(command: Callable[[list[str]], Any], words: list[str]) -> None:
    options = command(["--record", "net.rec", "--record-size", "64M", *words])
    assert (options.record, options.record_size) == ("net.rec", 64 << 20)
    assert command(words).record is None


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("1048576", 1 << 20),
        ("1M", 1 << 20),
        ("1024k", 1 << 20),
        ("2G", 2 << 30),
        ("64MiB", 64 << 20),
        ("64MB", 64 << 20),
    ],
)
def test_a_size_has_a_unit_or_none(text: str, found: int) -> None:
    assert size(text) == found


@pytest.mark.parametrize("text", ["", "M", "1.5M", "-1", "1T", "1 M", "²", "9" * 40])
def test_another_text_is_no_size(text: str) -> None:
    with pytest.raises(BadValue, match="is not a number of bytes like 300000000 or 256M"):
        size(text)


def test_wrong_options_are_refused_in_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert refusal("--record-size", "1M") == "--record-size needs --record FILE; give both, or leave it out"
    assert "argument --record-size: '1023K' is too small; give 1M or more" in refusal("--record-size", "1023K")
    assert refusal("--record", "") == "--record names no file; give a path"
    assert refusal("--record", "-") == (
        "--record - cannot write to stdout, which is the command's; give a file or a FIFO"
    )
    for option in ("-p", "--audit", "--learn"):
        assert refusal("--record", "f", option, f"{tmp_path}/f") == (
            f"--record would overwrite the file of {option}, f; give another one"
        )


def test_a_file_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    path = str(tmp_path / "missing" / "net.rec")
    with pytest.raises(HostError) as caught, recorded(CommandOptions(record=path)):
        pass
    assert str(caught.value) == (
        f"the file {path} of --record cannot be written (No such file or directory); give another one"
    )


def test_the_file_has_the_size_of_the_options_and_is_closed_at_the_end(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with recorded(CommandOptions(record=str(tmp_path / "net.rec"), record_size=1 << 20)) as file:
        assert isinstance(file, RecordingFile)
        file.begin(lambda write: write(b"begin"))
        asked: list[int] = []
        file.on_full = lambda: asked.append(1)
        file.write(bytes(1 << 19))
        assert asked
    assert len(os.listdir("/proc/self/fd")) == before


def test_no_module_of_recordings_is_loaded_without_need() -> None:
    """Before a guest is forked, the fewest modules are loaded."""
    program = (
        "import sys; from sansnet_cli.run.parser import parse; import sansnet_cli.runtime.record; parse(['true']); "
        "print(*(name for name in sys.modules if '.recording' in name or name == 'trio'))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"


# pasta and passt


@pytest.mark.parametrize("program", ["pasta", "passt"])
def test_the_compatible_programs_record(program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The path is absolute, since the process in the background changes its directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SANSNET_RECORD", raising=False)
    assert read(ParsedOptions(program, [])).options.record is None
    assert read(ParsedOptions(program, ["--record=net.rec"])).options.record == str(tmp_path / "net.rec")
    monkeypatch.setenv("SANSNET_RECORD", "other.rec")
    assert read(ParsedOptions(program, [])).options.record == str(tmp_path / "other.rec")
    assert read(ParsedOptions(program, ["--record=net.rec"])).options.record == str(tmp_path / "net.rec")
    monkeypatch.setenv("SANSNET_RECORD", "")
    assert read(ParsedOptions(program, [])).options.record is None


def test_a_wrong_name_is_misuse(tmp_path: Path) -> None:
    path = str(tmp_path / "file")
    with pytest.raises(Misuse, match="--record would overwrite the file of --pcap"):
        read(ParsedOptions("pasta", ["--record", path, "--pcap", path]))
    with pytest.raises(Misuse, match="cannot write to stdout"):
        read(ParsedOptions("passt", ["--record", "-"]))
