"""Files that root writes in directories of other users, and files of a process that becomes another user."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from sansnet_trio.linux.files import open_output
from tests.lab import USER, Lab
from tests.lab.callers import Caller, ended

PRECIOUS: Final = "precious"
NOBODY: Final = 65534


@pytest.fixture
def place(lab: Lab) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=lab.directory) as name:
        yield Path(name)


def planted_file(path: Path, secret: Path) -> None:
    path.write_text(PRECIOUS)
    os.chown(path, USER, USER)


def planted_fifo(path: Path, secret: Path) -> None:
    """It has no reader, and opening it must not wait for one."""
    os.mkfifo(path)
    os.chown(path, USER, USER)


def planted_link(path: Path, secret: Path) -> None:
    path.symlink_to(secret)
    os.chown(path, USER, USER, follow_symlinks=False)


def planted_hard_link(path: Path, secret: Path) -> None:
    """As any user can make it if fs.protected_hardlinks is 0."""
    os.link(secret, path)


@pytest.mark.parametrize("mode", [0o1777, 0o777, 0o1773], ids=oct)
@pytest.mark.parametrize("plant", [planted_file, planted_fifo, planted_link, planted_hard_link])
def test_nothing_that_another_user_has_planted_is_written(
    place: Path, plant: Callable[[Path, Path], None], mode: int
) -> None:
    secret, around = place / "secret", place / "tmp"
    secret.write_text(PRECIOUS)
    around.mkdir()
    around.chmod(mode)
    path = around / "capture"
    plant(path, secret)
    with pytest.raises(OSError, match=r"another user's file|a hard link|does not follow symbolic links"):
        open_output(str(path))
    assert secret.read_text() == PRECIOUS
    if path.is_file():
        assert path.read_text() == PRECIOUS


@pytest.mark.parametrize("relative", [False, True], ids=["absolute", "relative"])
def test_a_file_in_the_working_directory(place: Path, relative: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    place.chmod(0o1777)
    monkeypatch.chdir(place)
    planted_file(place / "capture", place)
    with pytest.raises(PermissionError):
        open_output("capture" if relative else str(place / "capture"))


@pytest.mark.parametrize(("mode", "owner"), [(0o755, USER), (0o1777, USER), (0o770, 0)])
def test_a_users_own_file_is_written_by_root(place: Path, mode: int, owner: int) -> None:
    """As with sudo."""
    around = place / "home"
    around.mkdir()
    around.chmod(mode)
    os.chown(around, owner, owner)
    path = around / "capture"
    planted_file(path, place)
    os.close(open_output(str(path)))
    assert path.read_text() == ""
    os.close(open_output(str(around / "new")))
    assert (around / "new").stat().st_uid == 0


@pytest.mark.parametrize("options", [[], ["--runas", "54321:54322"]], ids=["nobody", "runas"])
def test_files_are_of_the_user_that_passt_becomes(lab: Lab, place: Path, options: list[str]) -> None:
    """But for the pid file: root may end the process that it names."""
    place.chmod(0o1777)
    names = {"-p": "capture", "-l": "log", "--record": "recording", "--audit": "audit"}
    words = [word for option, name in names.items() for word in (option, str(place / name))]
    pid, policy = place / "pid", place / "policy"
    policy.write_text('rules = ["allow public"]\n')
    caller = Caller(lab, place)
    place.chmod(0o1777)
    before = os.umask(0)
    try:
        for _ in range(2):  # again, with the files of the first time
            done = caller.call("passt", "-q", "-s", str(place / "socket"), "-P", str(pid), *words, *options)
            assert (done.status, done.errors) == (0, "")
            with ended(pid):
                pass
    finally:
        os.umask(before)
    user, group = (54321, 54322) if options else (NOBODY, NOBODY)
    for name in names.values():
        found = (place / name).stat()
        assert (name, found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (name, user, group, 0o600)
    assert (pid.stat().st_uid, stat.S_IMODE(pid.stat().st_mode)) == (0, 0o600)
