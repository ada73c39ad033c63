"""Attacks from inside each process of each command, after it was confined: the kernel ends the process or refuses."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.kernel.sandbox import copies
from tests.kernel.sandbox.attacks import ATTACKS
from tests.kernel.sandbox.expected import AGENT, ALLOWED, BROKER, MAIN, REAPER, RESIDENT
from tests.lab import USER, Lab, eventually
from tests.lab.callers import ended
from tests.lab.namespaces import Namespace, held_namespace, running

Outcomes = dict[str, str]

ENFORCE: Final = ("--sandbox", "enforce")

REFUSED: Final = {"killed", "EACCES", "EPERM", "ENOSYS", "ENOTTY"}
"""The ends of an attack that the sandbox stopped."""


@pytest.fixture
def place() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="sansnet-attacks-") as name:
        Path(name).chmod(0o777)
        yield Path(name)


def line(lab: Lab, place: Path, user: int | None, program: str, *words: str) -> list[str]:
    """The command line of a command whose processes are copied for attacks."""
    command = [*copies.command(place, program), *words]
    if user is not None:
        command = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "--", *command]
    return lab.host.command("env", f"HOME={lab.directory}", "LC_ALL=C.UTF-8", *command)


def read(place: Path, process: str) -> Outcomes:
    """The ends of all attacks in a process, by their names."""
    file = copies.outcomes(place, process)
    assert eventually(lambda: file.exists() or any(place.glob("*.failed")), seconds=90), list(place.iterdir())
    assert [failed.read_text() for failed in place.glob("*.failed")] == []
    outcomes = {name: end for _, name, end in json.loads(file.read_text())}
    assert len(outcomes) == len(ATTACKS)
    return outcomes


def check(place: Path, *processes: str) -> None:
    """The attacks that succeed in the processes of a command are those that are allowed."""
    for process in (MAIN, BROKER, *processes):
        found = {name: end for name, end in read(place, process).items() if end not in REFUSED}
        if process == BROKER:  # its possibilities depend on the rights of the user
            assert {name: end for name, end in found.items() if name not in ALLOWED[BROKER]} == {}
        else:
            assert set(found) == ALLOWED[process], (process, found)
    assert {file.stem for file in place.glob("*.json")} == {MAIN, BROKER, *processes}


@contextmanager
def started(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    pipe = subprocess.PIPE
    with running(command, stdin=pipe, stdout=pipe, stderr=pipe) as process:
        yield process


USERS: Final = pytest.mark.parametrize("user", [None, USER], ids=["root", "user"])


@USERS
def test_run(lab: Lab, place: Path, user: int | None) -> None:
    options = [*ENFORCE, "-t", "auto", "-T", "8124"]
    with started(line(lab, place, user, "sansnet", "run", *options, "--", "sleep", "100")):
        check(place, AGENT, REAPER)


@contextmanager
def of_user() -> Iterator[Namespace]:
    """Namespaces of an ordinary user."""
    command = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--", "unshare", "-Urnm"]
    with running([*command, "sh", "-c", "echo; exec cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield Namespace(process.pid)


@USERS
def test_attach(lab: Lab, place: Path, user: int | None) -> None:
    with held_namespace() if user is None else of_user() as namespace:
        options = [*ENFORCE, "-t", "auto", "-T", "8124"]
        with started(line(lab, place, user, "sansnet", "attach", *options, str(namespace.pid))):
            check(place, AGENT, RESIDENT)


@USERS
@pytest.mark.parametrize("options", [[], ["--vhost-user"], ["-c", "control", "-t", "8125"]], ids=" ".join)
def test_serve(lab: Lab, place: Path, user: int | None, options: list[str]) -> None:
    words = [str(place / word) if word == "control" else word for word in options]
    with started(line(lab, place, user, "sansnet", "serve", *ENFORCE, *words, "--socket", str(place / "socket"))):
        check(place)


@USERS
@pytest.mark.parametrize("link", ["stream", "vhost-user"])
def test_qemu(lab: Lab, place: Path, user: int | None, link: str) -> None:
    """Of QEMU the stand-in is a program that stays."""
    program = place / "qemu"
    program.write_text('#!/bin/sh\n[ "$1" = --version ] && exec echo "QEMU emulator version 9.2.0"\nexec sleep 100\n')
    program.chmod(0o755)
    words = [*ENFORCE, "--qemu", str(program), "--link", link, "--", "-m", "64"]
    with started(line(lab, place, user, "sansnet", "qemu", *words)):
        check(place)


@USERS
def test_passt(lab: Lab, place: Path, user: int | None) -> None:
    words = [*ENFORCE, "-q", "-s", str(place / "socket"), "-P", str(place / "pid")]
    done = subprocess.run(line(lab, place, user, "passt", *words), timeout=60, check=False)
    assert done.returncode == 0
    with ended(place / "pid"):
        check(place)


@USERS
def test_pasta_of_a_process(lab: Lab, place: Path, user: int | None) -> None:
    with held_namespace() if user is None else of_user() as namespace:
        words = [*ENFORCE, "-q", "--config-net", "-P", str(place / "pid"), str(namespace.pid)]
        done = subprocess.run(line(lab, place, user, "pasta", *words), timeout=60, check=False)
        assert done.returncode == 0
        with ended(place / "pid"):
            check(place, AGENT, RESIDENT)


@USERS
def test_pasta_of_a_command(lab: Lab, place: Path, user: int | None) -> None:
    with started(line(lab, place, user, "pasta", *ENFORCE, "--config-net", "--", "sleep", "100")):
        check(place, REAPER)
