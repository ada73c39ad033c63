"""The files of `--audit` and `--learn`."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from sansnet_cli.options.records import CommandLineError, CommandOptions
from sansnet_cli.output import files
from sansnet_cli.output.files import ReplacedFile, open_appended
from sansnet_cli.runtime.audit import Audit, audited
from sansnet_core import Action, Rule
from sansnet_core.records import replace
from sansnet_core.testing import make_config
from sansnet_trio import HostError


def written(path: str, data: bytes = b"line\n") -> None:
    descriptor = open_appended(path)
    os.write(descriptor, data)
    os.close(descriptor)


def test_an_audit_is_appended_to_and_is_the_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "audit"
    written(str(path))
    written(str(path))
    assert path.read_bytes() == b"line\n" * 2
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_no_symbolic_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "target")
    (tmp_path / "target").write_text("kept")
    for opener in (open_appended, ReplacedFile):
        with pytest.raises(OSError, match="does not follow symbolic links"):
            opener(str(tmp_path / "link"))
    assert (tmp_path / "target").read_text() == "kept"


WRITER = """
import os, sys
from sansnet_cli.output.files import open_appended
descriptor = open_appended(sys.argv[1])
os.write(2, b"before\\n")
os.write(descriptor, b"line\\n")
os.write(2, b"after\\n")
"""


@pytest.mark.parametrize("path", ["/dev/stderr", "/dev/fd/2", "/proc/self/fd/2"])
def test_lines_go_to_stderr_in_order_whatever_it_is(tmp_path: Path, path: str) -> None:
    command = [sys.executable, "-c", WRITER, path]
    expected = b"before\nline\nafter\n"
    file = tmp_path / "stderr"
    with file.open("wb") as stderr:
        subprocess.run(command, stderr=stderr, check=True, timeout=60)
    assert file.read_bytes() == expected
    assert subprocess.run(command, stderr=subprocess.PIPE, check=True, timeout=60).stderr == expected
    ours, theirs = socket.socketpair()
    with ours, theirs:  # as under systemd
        subprocess.run(command, stderr=theirs.fileno(), check=True, timeout=60)
        theirs.close()
        data = b""
        while piece := ours.recv(1000):
            data += piece
    assert data == expected


def test_a_fifo_gets_lines_when_it_has_a_reader(tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    found: list[bytes] = []
    reader = threading.Thread(target=lambda: found.append(path.read_bytes()))
    reader.start()
    written(str(path))
    reader.join(10)
    assert found == [b"line\n"]


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "policy"
    path.write_text("old")
    file = ReplacedFile(str(path))
    assert path.read_text() == "old"
    with path.open() as reader:
        file.write("new")
        assert reader.read() == "old"
    assert path.read_text() == "new"
    file.write("newer")
    file.close()
    file.close()
    assert path.read_text() == "newer"
    assert os.listdir(tmp_path) == ["policy"]


def test_a_file_that_cannot_be_written_whole_keeps_its_contents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "policy"
    path.write_text("old")
    file = ReplacedFile(str(path))

    def full(descriptor: int, data: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        with pytest.raises(OSError, match="No space"):
            file.write("new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["policy"]


def test_nothing_is_left_if_nothing_is_written(tmp_path: Path) -> None:
    ReplacedFile(str(tmp_path / "policy")).close()
    assert os.listdir(tmp_path) == []


def test_a_process_that_changes_its_directory_writes_where_it_began(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = ReplacedFile("policy")
    monkeypatch.chdir("/")
    file.write("new")
    assert (tmp_path / "policy").read_text() == "new"


def test_a_policy_may_go_to_a_pipe(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    file = ReplacedFile(f"/proc/self/fd/{writer}")
    file.write("x" * 1000)
    file.close()
    os.close(writer)
    assert os.read(reader, 2000) == b"x" * 1000
    os.close(reader)


def test_the_reader_of_a_policy_may_be_slow(tmp_path: Path) -> None:
    text = "x" * 300_000
    reader, writer = os.pipe()
    got: list[bytes] = []

    def read() -> None:
        while data := os.read(reader, 30_000):
            got.append(data)
            time.sleep(0.01)

    thread = threading.Thread(target=read)
    thread.start()
    with closing(ReplacedFile(f"/proc/self/fd/{writer}")) as file:
        os.close(writer)
        file.write(text)
    thread.join(10)
    os.close(reader)
    assert b"".join(got) == text.encode()


def test_a_reader_that_does_not_read_cannot_keep_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_READER_TIMEOUT", 0.1)
    reader, writer = os.pipe()
    with closing(ReplacedFile(f"/proc/self/fd/{writer}")) as file:
        os.close(writer)
        with pytest.raises(TimeoutError, match="does not read"):
            file.write("x" * 300_000)
    os.close(reader)


ROOT = """
import os, sys
from sansnet_cli.output.files import ReplacedFile
from sansnet_trio.linux import privileges
file = ReplacedFile(sys.argv[1])
privileges.renounce(())
file.write("new")
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root loses privileges over the files of others")
@pytest.mark.parametrize("old", [None, "an old policy that is longer"])
def test_root_writes_into_the_directory_of_another_user_without_privileges(tmp_path: Path, old: str | None) -> None:
    directory = tmp_path / "home"
    directory.mkdir()
    path = directory / "policy"
    if old is not None:
        path.write_text(old)
    os.chown(directory, 65534, 65534)
    subprocess.run([sys.executable, "-c", ROOT, str(path)], check=True, timeout=60)
    assert path.read_text() == "new"
    assert os.listdir(directory) == ["policy"]


@pytest.mark.parametrize("field", ["audit", "learn"])
def test_a_wrong_file_is_one_sentence_with_the_option(tmp_path: Path, field: str) -> None:
    def enter(path: Path | str) -> None:
        with audited(replace(CommandOptions(), **{field: str(path)})):
            raise AssertionError

    with pytest.raises(CommandLineError, match=f"--{field} - cannot write to stdout"):
        enter("-")
    for path in (tmp_path / "missing" / "file", tmp_path):
        with pytest.raises(HostError, match=f"the file {path} of --{field} cannot be written"):
            enter(path)


def test_an_audit_that_is_full_already_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "audit"
    path.write_bytes(b"x\n" * 4096)
    with pytest.raises(HostError, match="has 8192 bytes already; move it away"), audited(options_of(path, 8192)):
        raise AssertionError
    with audited(options_of(path, 8193)):
        pass


def options_of(path: Path, size: int) -> CommandOptions:
    return CommandOptions(audit=str(path), audit_size=size)


@pytest.mark.parametrize(
    ("change", "live", "wanted"),
    [
        ({}, False, False),
        ({"default_action": Action.ALLOW}, False, False),
        ({"default_action": Action.REFUSE}, False, True),
        ({"rules": [Rule(action=Action.ALLOW)]}, False, True),
        ({}, True, True),
    ],
)
def test_there_are_accounts_only_if_something_asks_for_them(
    change: dict[str, object], live: bool, wanted: bool
) -> None:
    config = replace(make_config(), **change)
    assert (Audit().begin(config, live=live) is not None) == wanted


def test_the_modules_of_the_audit_are_loaded_only_if_it_is_wanted() -> None:
    script = (
        "import sys; from sansnet_cli.options.records import CommandOptions; from sansnet_cli.runtime import audit\n"
        "with audit.audited(CommandOptions()) as made: pass\n"
        "print(*(name for name in sys.modules if name.startswith(('sansnet_trio.audit', 'trio'))))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == ""
