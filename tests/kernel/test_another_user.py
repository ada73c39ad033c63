"""passt and pasta that become another user: nothing is imported afterwards, and no file opened by its name."""

from __future__ import annotations

import shlex
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

import sansnet_cli
from tests.kernel.test_control import asked, ctl
from tests.lab import SERVER4, Lab
from tests.lab.callers import Caller, ended
from tests.lab.machines import bridged, configured, machine
from tests.lab.namespaces import held_namespace

WATCHED: Final = """\
import os, sys
from sansnet_cli import main
from sansnet_cli.process import daemon

log = os.open({log!r}, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
assume = daemon.Identity.assume
changed = None


def watch(event, arguments):
    named = event == "import" or (event == "open" and not isinstance(arguments[0], int))  # or a descriptor
    if named and changed == os.getpid():
        os.write(log, f"{{event}} {{arguments[0]!r}}\\n".encode())


def become(self):
    global changed
    assume(self)
    changed = os.getpid()
    os.write(log, b"changed\\n")


sys.addaudithook(watch)
daemon.Identity.assume = become
from sansnet_cli.process import inherited
kept = inherited.close_inherited
inherited.close_inherited = lambda others: kept([*others, log])
sys.argv[0] = {program!r}
main.main()
"""
"""Runs a command line, and writes down what it imports and opens when it is somebody else."""


@pytest.fixture
def place(lab: Lab) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=lab.directory) as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def caller(lab: Lab, place: Path) -> Caller:
    return Caller(lab, place)


def watched(lab: Lab, place: Path, *words: str) -> Path:
    """Run `passt` or `pasta` until it is in the background; the file that says what it does then."""
    script, log = place / "watched.py", place / "events"
    script.write_text(WATCHED.format(log=str(log), program=words[0]))
    done = lab.host.run(sys.executable, "-W", "error", str(script), *words[1:], check=False, timeout=20)
    assert (done.returncode, done.stderr) == (0, "")
    return log


def frames(path: Path) -> list[bytes]:
    """The frames of a capture with one header."""
    data = path.read_bytes()
    assert data[:4] == bytes.fromhex("d4c3b2a1")
    position, found = 24, []
    while position < len(data):
        _, _, kept, length = struct.unpack_from("<IIII", data, position)
        assert kept == length <= 65549
        found.append(data[position + 16 : position + 16 + kept])
        position += 16 + kept
    return found


def serve_two(place: Path, capture: Path, meanwhile: Callable[[], None] = lambda: None) -> None:
    """Two machines after each other; both are captured."""
    for number in (1, 2):
        with machine() as guest, bridged(guest, place / "socket"):
            configured(guest)
            guest.run("ping", "-c1", "-W5", "-p", f"5ea{number}", SERVER4)
            guest.run("sh", "-c", f"echo x | timeout 2 busybox nc -w1 {SERVER4} 9 || true")
            meanwhile()
    packed = frames(capture)
    for number in (1, 2):
        pattern = bytes.fromhex(f"5ea{number}") * 8
        assert sum(pattern in frame for frame in packed) == 2, f"request and reply of machine {number}"


@pytest.mark.parametrize("options", [[], ["--trace", "-c"]], ids=["plain", "control"])
def test_passt(lab: Lab, place: Path, options: list[str]) -> None:
    control, pid, capture = (place / name for name in ("control", "pid", "capture"))
    words = [*options, str(control)] if options else []
    log = watched(
        lab, place, "passt", "-q", *words, "-p", str(capture), "-l", str(place / "log"), "-t", "8461", "-u", "8461",
        "-s", str(place / "socket"), "-P", str(pid), "--runas", "65534",
    )  # fmt: skip

    def ask() -> None:
        assert "drops" in asked(lab, control, "counters")
        assert asked(lab, control, "flows")["total"]
        for change in ("add", "delete"):
            assert ctl(lab, control, change, "-t", "8462").returncode == 0
        assert ctl(lab, control, "add", "-t", "%nosuch0/8462").returncode == 1

    with ended(pid):
        serve_two(place, capture, ask if options else lambda: None)
    assert log.read_text() == "changed\n"


def test_pasta(lab: Lab, place: Path) -> None:
    pid, capture = place / "pid", place / "capture"
    with held_namespace() as namespace:
        log = watched(
            lab, place, "pasta", "-q", "-p", str(capture), "--config-net", "-t", "8463", "-T", "8464", "-P", str(pid),
            "--runas", "65534", str(namespace.pid),
        )  # fmt: skip
        with ended(pid):
            namespace.run("ping", "-c1", "-W5", SERVER4)
            with namespace.listen("0.0.0.0", 8463):
                lab.host.connect("127.0.0.1", 8463).close()
    assert log.read_text() == "changed\n"
    assert len(frames(capture)) > 1


def hidden(*directories: Path) -> str:
    """A shell script that lets root alone read some directories, in this mount namespace."""
    script = "mount --make-rprivate /\n"
    for directory in map(str, directories):
        name = shlex.quote(directory)
        script += (
            f"held=$(mktemp -d); mount --rbind {name} $held; mount -t tmpfs -o mode=700 none {name}\n"
            f"for one in $(ls -A $held); do\n"
            f"  if [ -d $held/$one ]; then mkdir {name}/$one; else touch {name}/$one; fi\n"
            f"  mount --rbind $held/$one {name}/$one\n"
            f"done\n"
        )
    return script


def test_an_installation_that_nobody_else_may_read(caller: Caller) -> None:
    place = caller.directory
    capture, pid = place / "capture", place / "pid"
    packages = Path(sansnet_cli.__file__).parents[3]
    done = caller.call(
        "passt", "-q", "-p", str(capture), "-s", str(place / "socket"), "-P", str(pid),
        before=hidden(packages, Path(sys.prefix)),
    )  # fmt: skip
    assert (done.status, done.errors) == (0, "")
    with ended(pid) as daemon:
        enter = ["nsenter", f"--target={daemon}", "--mount", "setpriv", "--reuid=65534", "--clear-groups"]
        assert subprocess.run([*enter, "ls", str(packages)], capture_output=True, check=False).returncode
        serve_two(place, capture)
