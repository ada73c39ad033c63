"""Temporary files and directories."""

from __future__ import annotations

import fcntl
import os
import stat
from pathlib import Path

import pytest

from sansnet_trio.linux.temporary import make_directory, make_file, temporary


def test_a_file_is_for_this_user_and_this_program(tmp_path: Path) -> None:
    path, descriptor = make_file("one-", ".log", str(tmp_path))
    assert Path(path).parent == tmp_path
    assert Path(path).name.startswith("one-")
    assert Path(path).name.endswith(".log")
    assert stat.S_IMODE(os.fstat(descriptor).st_mode) == 0o600
    assert fcntl.fcntl(descriptor, fcntl.F_GETFD) == fcntl.FD_CLOEXEC
    os.write(descriptor, b"x")
    os.close(descriptor)
    assert Path(path).read_bytes() == b"x"


def test_names_differ(tmp_path: Path) -> None:
    made = {make_directory("d-", str(tmp_path)) for _ in range(20)}
    assert {stat.S_IMODE(os.stat(path).st_mode) for path in made} == {0o700}
    assert len(made) == 20


def test_a_name_that_exists_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also a link that another user has put there."""
    numbers = iter([b"a" * 6, b"b" * 6])
    (tmp_path / f"x-{b'aaaaaa'.hex()}").symlink_to(tmp_path / "elsewhere")
    monkeypatch.setattr(os, "urandom", lambda count: next(numbers))
    path, descriptor = make_file("x-", "", str(tmp_path))
    os.close(descriptor)
    assert Path(path).name == f"x-{b'bbbbbb'.hex()}"
    assert not (tmp_path / "elsewhere").exists()


def test_the_directory_is_the_first_that_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TMPDIR", "TEMP", "TMP"):
        monkeypatch.delenv(name, raising=False)
    assert temporary() == "/tmp"
    monkeypatch.setenv("TEMP", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "missing"))
    assert temporary() == str(tmp_path)


def test_an_error_names_the_directory(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        make_file("x-", "", str(tmp_path / "missing"))
