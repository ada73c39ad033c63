"""Reading the mounts that this process sees."""

from __future__ import annotations

from pathlib import Path

import pytest

from sansnet_trio.linux.mountinfo import Mount, read_mounts

_OTHER = "40 1 0:40 / /proc rw,nosuid - proc proc rw,hidepid=2\n"


def test_the_mounts_of_this_process() -> None:
    assert any(mount.point == "/proc" and mount.kind == "proc" for mount in read_mounts())


@pytest.mark.parametrize("source", ["", "a\\040-\\040b", "\u2028", "\r", "\N{NO-BREAK SPACE}", "\udcff"])
@pytest.mark.parametrize("name", ["a\u2028b", "a\rb", "a\x0cb", "a\u3000b", "a\udcffb", "a b", "a - b", "a\nb", "a\\b"])
def test_any_user_may_choose_a_path_and_a_source(tmp_path: Path, source: str, name: str) -> None:
    """The mounts of FUSE are for all to see."""
    written = name
    for character in "\\ \n":
        written = written.replace(character, f"\\{ord(character):03o}")
    line = f"36 1 0:36 / /home/{written} rw,nosuid shared:1 - fuse {source} rw,user_id=1000\n"
    (tmp_path / "mountinfo").write_bytes((line + _OTHER).encode(errors="surrogateescape"))

    assert read_mounts(str(tmp_path / "mountinfo")) == [
        Mount("0:36", "/", f"/home/{name}", ["rw", "nosuid"], "fuse", ["rw", "user_id=1000"]),
        Mount("0:40", "/", "/proc", ["rw", "nosuid"], "proc", ["rw", "hidepid=2"]),
    ]
