"""The privileges that each process of sansnet has while it serves."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from tests.lab import RUN_SANSNET, USER, Lab, eventually
from tests.lab.callers import Caller, ended
from tests.lab.namespaces import Namespace, held_namespace, running
from tests.lab.processes import broker, helpers, outside, reaper

NONE: Final = 0
SIGNALS: Final = 1 << 5
"""CAP_KILL (linux/capability.h)."""
LOW_PORTS: Final = 1 << 10
"""CAP_NET_BIND_SERVICE."""
INTERFACES: Final = 1 << 12
"""CAP_NET_ADMIN."""
ALL: Final = (2 << int(Path("/proc/sys/kernel/cap_last_cap").read_text())) - 1
SETS: Final = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")

SANSNET: Final = RUN_SANSNET[:-1]


class Sets(NamedTuple):
    """The sets of capabilities, as bits."""

    inheritable: int
    permitted: int
    effective: int
    bounding: int
    ambient: int


class Privileges(NamedTuple):
    """The state of a process in /proc; `hidden` is whether others of its user may not trace it."""

    no_new: bool
    sets: Sets
    hidden: bool
    filtered: bool


def privileges(pid: int) -> Privileges:
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    sets = Sets(*(int(fields[name], 16) for name in SETS))
    user = int(fields["Uid"].split()[1])
    # The files of a process that may not be traced belong to root, or to the root of its user namespace. For processes
    # of root itself that shows nothing; but only processes with CAP_SYS_PTRACE may read their environment.
    hidden = os.stat(f"/proc/{pid}/mem").st_uid != user if user else not readable(pid)
    return Privileges(fields["NoNewPrivs"].strip() == "1", sets, hidden, fields["Seccomp"].strip() == "2")


def readable(pid: int) -> bool:
    """Whether root without capabilities may look into a process of root's."""
    line = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "cat", f"/proc/{pid}/environ"]
    return subprocess.run(line, capture_output=True, check=False).returncode == 0


def renounced(kept: int = NONE, *, bounded: bool = True) -> Callable[[Privileges], bool]:
    """Whether nothing is left but some capabilities; an ordinary user cannot change the bounding set."""

    def check(found: Privileges) -> bool:
        sets = Sets(0, kept, kept, 0 if bounded else found.sets.bounding, 0)
        return found == Privileges(True, sets, hidden=True, filtered=True)

    return check


def descendants(pid: int) -> list[int]:
    found = [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [pid, *(one for child in found for one in descendants(child))]


def as_user(line: list[str], user: int | None) -> list[str]:
    return line if user is None else ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "--", *line]


@contextmanager
def started(lab: Lab, user: int | None, *words: str) -> Iterator[subprocess.Popen[str]]:
    line = lab.host.command("env", f"HOME={lab.directory}", *as_user([*SANSNET, *words], user))
    pipe = subprocess.PIPE
    with running(line, stdin=pipe, stdout=pipe, stderr=pipe) as process:
        yield process


@pytest.fixture
def place(lab: Lab) -> Path:
    directory = Path(tempfile.mkdtemp(dir=lab.directory))
    directory.chmod(0o777)
    return directory


def check(pid: int, expected: Callable[[Privileges], bool]) -> None:
    assert eventually(lambda: expected(privileges(pid))), privileges(pid)


def check_helpers(sansnet: int, command: int, user: int | None) -> None:
    """The reaper of root's guest may signal all users of that guest; other helpers have nothing."""
    of_guest = reaper(sansnet)
    for pid in descendants(sansnet)[1:]:
        if pid != command:
            kept = SIGNALS if (pid, user) == (of_guest, None) else NONE
            check(pid, renounced(kept, bounded=user is None or pid != broker(sansnet)))


@pytest.mark.parametrize("user", [None, USER], ids=["root", "user"])
@pytest.mark.parametrize(
    ("options", "kept"),
    [([], NONE), (["-t", "8123"], NONE), (["-T", "8124", "-t", "auto"], LOW_PORTS), (["-c", "control"], LOW_PORTS)],
    ids=["plain", "ports", "auto", "control"],
)
def test_run(lab: Lab, place: Path, user: int | None, options: list[str], kept: int) -> None:
    words = [str(place / word) if word == "control" else word for word in options]
    with started(lab, user, "run", *words, "--", "sh", "-c", "echo $$; exec cat") as process:
        assert process.stdout is not None
        command = outside(process.pid, int(process.stdout.readline()))
        check(process.pid, renounced(NONE if user else kept, bounded=user is None))
        check_helpers(process.pid, command, user)
        theirs = privileges(command)
        assert not theirs.no_new
        assert theirs.sets.effective == theirs.sets.permitted == (ALL if user is None else NONE)
        assert theirs.sets.bounding == ALL


@contextmanager
def of_user() -> Iterator[Namespace]:
    """Namespaces of an ordinary user."""
    line = as_user(["unshare", "-Urnm", "cat"], USER)
    with running(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("x\n")
        process.stdin.flush()
        process.stdout.readline()
        yield Namespace(process.pid)


@pytest.mark.parametrize("user", [None, USER], ids=["root", "user"])
@pytest.mark.parametrize("options", [[], ["-t", "8123"], ["-T", "8124"]], ids=["plain", "inbound", "outbound"])
def test_attach(lab: Lab, user: int | None, options: list[str]) -> None:
    with (
        held_namespace() if user is None else of_user() as namespace,
        started(lab, user, "attach", *options, str(namespace.pid)) as process,
    ):
        assert process.stderr is not None
        assert "attached to" in process.stderr.readline()
        check(process.pid, renounced(bounded=user is None))
        check(broker(process.pid), renounced(bounded=user is None))
        first, *others = helpers(process.pid)
        check(first, resident)
        assert len(others) == (1 if options else 0)
        for pid in others:
            check(pid, renounced())


def resident(found: Privileges) -> bool:
    """Whether these are the privileges of a resident: it changes addresses and routes of a guest."""
    return renounced(INTERFACES)(found)


def test_the_process_that_stays_in_a_guest_has_nothing_else(lab: Lab) -> None:
    """No descriptor but the channel; it is in the guest's network, has a session of its own, and blocks signals."""
    with held_namespace() as namespace, started(lab, None, "attach", str(namespace.pid)) as process:
        assert process.stderr is not None
        assert "attached to" in process.stderr.readline()
        [pid] = helpers(process.pid)
        check(pid, resident)
        assert eventually(lambda: len(os.listdir(f"/proc/{pid}/fd")) == 1)
        [channel] = os.listdir(f"/proc/{pid}/fd")
        assert os.readlink(f"/proc/{pid}/fd/{channel}").startswith("socket:")
        assert os.readlink(f"/proc/{pid}/ns/net") == os.readlink(f"/proc/{namespace.pid}/ns/net")
        assert os.getsid(pid) == pid
        blocked = re.search(r"SigBlk:\s(\w+)", Path(f"/proc/{pid}/status").read_text())
        assert blocked is not None
        assert int(blocked[1], 16) & (1 << (signal.SIGTERM - 1))
        process.kill()
        assert eventually(lambda: not Path(f"/proc/{pid}").exists())


@pytest.mark.parametrize(
    "options",
    [["--no-config"], ["-4", "-a", "10.9.9.9/24", "-g", "10.9.9.1"]],
    ids=["no-config", "fixed"],
)
def test_no_process_stays_in_a_guest_that_does_not_change(lab: Lab, options: list[str]) -> None:
    with held_namespace() as namespace, started(lab, None, "attach", *options, str(namespace.pid)) as process:
        assert process.stderr is not None
        while "attached to" not in process.stderr.readline():
            assert process.poll() is None
        assert helpers(process.pid) == []


@pytest.mark.parametrize("user", [None, USER], ids=["root", "user"])
@pytest.mark.parametrize("options", [[], ["-c", "control"]], ids=["plain", "control"])
def test_serve(lab: Lab, place: Path, user: int | None, options: list[str]) -> None:
    words = [str(place / word) if word == "control" else word for word in options]
    with started(lab, user, "serve", *words, "--socket", str(place / "socket")) as process:
        assert process.stderr is not None
        assert "waiting for a guest" in process.stderr.readline()
        check(process.pid, renounced(LOW_PORTS if options and user is None else NONE, bounded=user is None))
        check(broker(process.pid), renounced(bounded=user is None))


@pytest.mark.parametrize("user", [None, USER], ids=["root", "user"])
def test_qemu(lab: Lab, place: Path, user: int | None) -> None:
    """Of QEMU the stand-in is a program that stays; it has what it would have without us."""
    program = place / "qemu"
    program.write_text(
        "#!/bin/sh\n[ \"$1\" = --version ] && exec echo 'QEMU emulator version 9.2.0'\necho started\nexec sleep 60\n"
    )
    program.chmod(0o755)
    with started(lab, user, "qemu", "--qemu", str(program), "--link", "stream", "--", "-m", "64") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        check(process.pid, renounced(bounded=user is None))
        check(broker(process.pid), renounced(bounded=user is None))
        [machine] = helpers(process.pid)
        theirs = privileges(machine)
        assert not theirs.no_new
        assert theirs.sets.permitted == (0 if user else privileges(os.getpid()).sets.permitted)


@pytest.fixture
def caller(lab: Lab, place: Path) -> Caller:
    made = Caller(lab, place)
    place.chmod(0o777)
    return made


@pytest.mark.parametrize("user", [None, USER], ids=["root", "user"])
@pytest.mark.parametrize("control", [False, True], ids=["plain", "control"])
def test_passt(caller: Caller, user: int | None, control: bool) -> None:
    """Without a control socket it is in a user namespace of its own, where even an ordinary user can empty all sets."""
    place = caller.directory
    words = ["-c", str(place / "control")] if control else []
    done = caller.call("passt", "-q", *words, "-s", str(place / "socket"), "-P", str(place / "pid"), user=user)
    assert (done.status, done.errors) == (0, "")
    with ended(place / "pid") as daemon:
        check(daemon, renounced(bounded=user is None or not control))
        check(broker(daemon), renounced(bounded=user is None or not control))


@pytest.mark.parametrize("user", [None, USER], ids=["root", "user"])
def test_pasta_of_a_process(caller: Caller, user: int | None) -> None:
    with held_namespace() if user is None else of_user() as namespace:
        pid_file = caller.directory / "pid"
        done = caller.call("pasta", "-q", "--config-net", "-P", str(pid_file), str(namespace.pid), user=user)
        assert (done.status, done.errors) == (0, "")
        with ended(pid_file) as daemon:
            kept = LOW_PORTS if user is None else NONE  # its ports follow who listens
            check(daemon, renounced(kept, bounded=user is None))
            first, agent = helpers(daemon)
            check(first, resident)
            check(agent, renounced())


@pytest.mark.parametrize("user", [None, USER], ids=["root", "user"])
def test_pasta_of_a_command(caller: Caller, user: int | None) -> None:
    line = caller.command("pasta", "--config-net", "--", "sh", "-c", "echo $$; exec cat", user=user)
    with running(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        command = outside(process.pid, int(process.stdout.readline()))
        check(process.pid, renounced(LOW_PORTS if user is None else NONE, bounded=user is None))
        check_helpers(process.pid, command, user)


def test_root_binds_low_ports_that_are_added_later(lab: Lab, place: Path) -> None:
    control = place / "control"
    with started(lab, None, "run", "-c", str(control), "--", "sh", "-c", "echo $$; exec cat") as process:
        assert process.stdout is not None
        process.stdout.readline()
        check(process.pid, renounced(LOW_PORTS))
        lab.host.run(*SANSNET, "ctl", str(control), "add", "-t", "83:8083", "-T", "84:8084")


def test_the_command_may_still_use_what_sets_the_user(lab: Lab) -> None:
    """A set-user-ID program of root's guest."""
    program = lab.directory / "whoami"
    shutil.copy("/usr/bin/id", program)
    os.chown(program, USER, USER)
    program.chmod(0o4755)
    assert lab.sansnet([], [str(program), "-u"]).stdout == f"{USER}\n"
