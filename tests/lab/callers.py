"""Calls of pasta and passt in the ways in which container engines and libvirt call them."""

from __future__ import annotations

import contextlib
import itertools
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.lab.laboratory import Lab
from tests.lab.namespaces import Namespace, eventually, running

__all__ = [
    "Caller",
    "Done",
    "Rootless",
    "alive",
    "as_owner",
    "contained",
    "ended",
    "greeting",
    "heard",
    "processes_of",
    "rootless",
]

_numbers: Final = itertools.count()
_SANSNET: Final = Path(sys.prefix) / "bin" / "sansnet"


def _as_user(user: int) -> list[str]:
    return ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "--"]


@dataclass(frozen=True)
class Done:
    """How a call ended.

    Attributes:
        status: of the process that was called.
        output, errors: everything until the last process closed the pipe.
        seconds: until then.
    """

    status: int
    output: str
    errors: str
    seconds: float


class Caller:
    """Calls programs in the host of a laboratory, by links to `sansnet` that have their names.

    Attributes:
        directory: of the links, and of files for a caller.
    """

    def __init__(self, lab: Lab, directory: Path) -> None:
        self.lab = lab
        self.directory = directory
        directory.chmod(0o755)
        for name in ("pasta", "passt", "passt.avx2", "pesto"):
            (directory / name).symlink_to(_SANSNET)

    def words(self, program: str, *arguments: str) -> list[str]:
        """The command line of a program."""
        return [str(self.directory / program), *arguments]

    def command(self, *words: str, user: int | None = None, before: str = "") -> list[str]:
        """The same in the host; `before` is a shell script that comes first, in a mount namespace of its own."""
        line = self.words(*words)
        if user is not None:
            line = [*_as_user(user), *line]
        if before:
            line = ["unshare", "--mount", "--", "sh", "-ec", f"{before}\nexec {shlex.join(line)}"]
        return self.lab.host.command("env", "LC_ALL=C.UTF-8", *line)

    def call(self, *words: str, user: int | None = None, before: str = "", **options: Any) -> Done:
        """Call a program and read its pipes to their end, as callers do; the program must not keep them open."""
        started = time.monotonic()
        done = subprocess.run(
            self.command(*words, user=user, before=before),
            text=True,
            capture_output=True,
            timeout=20,
            check=False,
            stdin=subprocess.DEVNULL,
            **options,
        )
        return Done(done.returncode, done.stdout, done.stderr, time.monotonic() - started)


def alive(pid: int) -> bool:
    """Whether a process still runs, as opposed to a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@contextmanager
def ended(pid_file: Path) -> Iterator[int]:
    """The process of a pid file, which is ended with the block if it is not before."""
    pid = int(pid_file.read_text())
    try:
        yield pid
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        if not eventually(lambda: not alive(pid), seconds=5):
            os.kill(pid, signal.SIGKILL)


class Rootless(Caller):
    """Calls programs as root of an ordinary user's namespaces in the host, as podman does.

    Attributes:
        user: their owner.
        holder: the process that keeps them.
    """

    def __init__(self, lab: Lab, directory: Path, user: int, holder: int) -> None:
        super().__init__(lab, directory)
        self.user = user
        self.holder = holder

    def inside(self, *command: str) -> list[str]:
        """A command line in there; it keeps its process id."""
        enter = ["nsenter", f"--target={self.holder}", "--user", "--mount", "--preserve-credentials"]
        return self.lab.host.command(*_as_user(self.user), *enter, *command)

    def command(self, *words: str, user: int | None = None, before: str = "") -> list[str]:
        """See `Caller`; the user is always this one."""
        assert user is None
        assert not before
        return self.inside("env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", *self.words(*words))

    def run(self, *command: str) -> str:
        """The output of a command in there."""
        return subprocess.run(
            self.inside(*command), check=True, capture_output=True, text=True, timeout=20, stdin=subprocess.DEVNULL
        ).stdout

    @contextmanager
    def namespace(self) -> Iterator[Path]:
        """A network namespace in there, by the path where it is mounted; the block may remove it."""
        path = self.directory / f"netns-{next(_numbers)}"
        script = 'touch "$1"; unshare --net sh -ec "ip link set lo up; mount --bind /proc/self/ns/net $1"'
        self.run("sh", "-ec", script, "sh", str(path))
        try:
            yield path
        finally:
            self.remove(path)

    def remove(self, path: Path) -> None:
        """Remove a network namespace, if it is there."""
        self.run("sh", "-c", 'umount --lazy "$1" 2>/dev/null; rm -f "$1"', "sh", str(path))

    def within(self, path: Path, *command: str) -> list[str]:
        """A command line in a network namespace."""
        return self.inside("nsenter", f"--net={path}", *command)


@contextmanager
def rootless(lab: Lab, user: int) -> Iterator[Rootless]:
    """A user's namespaces in the host, gone with the block."""
    with tempfile.TemporaryDirectory(dir=lab.directory) as name:
        os.chown(name, user, user)
        hold = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", "echo made; exec sleep 600"]
        with running(lab.host.command(*_as_user(user), *hold), stdout=subprocess.PIPE) as holder:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "made\n"
            yield Rootless(lab, Path(name), user, holder.pid)


@contextmanager
def contained(lab: Lab, user: int | None = None) -> Iterator[Namespace]:
    """A process in user, network and mount namespaces that a user of the host made."""
    script = "ip link set lo up; echo made; exec sleep 600"
    line = ["unshare", "--user", "--map-root-user", "--net", "--mount", "sh", "-c", script]
    if user is not None:
        line = [*_as_user(user), *line]
    with running(lab.host.command(*line), stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "made\n"
        yield Namespace(holder.pid)


def as_owner(contained: Namespace, user: int) -> list[str]:
    """Prefix of a command line that enters all of a container's namespaces, as the user that made them."""
    enter = ["nsenter", f"--target={contained.pid}", "--user", "--net", "--mount", "--preserve-credentials", "--"]
    return [*_as_user(user), *enter]


@contextmanager
def greeting(command: list[str], port: int) -> Iterator[None]:
    """A server that sends `hello` to each client."""
    script = f"""
import socket
with socket.create_server(("", {port})) as listener:
    print("ready", flush=True)
    while True:
        stream, peer = listener.accept()
        stream.sendall(b"hello " + peer[0].encode())
        stream.close()
"""
    with running([*command, "python3", "-c", script], stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"
        yield


def heard(namespace: Namespace, address: str, port: int) -> str:
    """The answer of a server to a client in a namespace."""
    with namespace.connect(address, port) as stream:
        stream.settimeout(5)
        return b"".join(iter(lambda: stream.recv(100), b"")).decode()


def processes_of(word: str) -> list[int]:
    """Running processes that have a word in their command line."""
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if word.encode() in (directory / "cmdline").read_bytes().split(b"\0"):
                found.append(int(directory.name))
    return [pid for pid in found if alive(pid)]
