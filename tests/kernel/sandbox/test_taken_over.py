"""System calls made in processes that serve a guest, by a debugger in place of an attacker who has taken them over."""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from sansnet_trio.sandbox.mode import Mode
from sansnet_trio.sandbox.profile import OWN_GROUP, OWN_PROCESS, Profile
from sansnet_trio.sandbox.profiles import BROKER, REAPER, RESIDENT, SOCKET_AGENT, Feature, main
from sansnet_trio.sandbox.seccomp import make_program
from tests.lab import RUN_SANSNET, SERVER4, USER, Guest, Lab, eventually
from tests.lab.injection import KilledError, filters, injected, is_supported
from tests.lab.namespaces import Namespace, held_namespace, running

pytestmark = pytest.mark.skipif(not is_supported(), reason="the registers of this processor are not known here")

ENFORCE: Final = ("--sandbox", "enforce")
HERE: Final = -100
"""AT_FDCWD."""


def descendants(pid: int) -> list[int]:
    found = [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [pid, *(one for child in found for one in descendants(child))]


def field(pid: int, name: str) -> str:
    found = re.search(rf"^{name}:\s*(.*)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found is not None
    return found[1]


def is_confined(pid: int) -> bool:
    """Whether each thread of a process has a filter and can gain no privileges."""
    return all(
        {"Seccomp:\t2", "NoNewPrivs:\t1"} <= set(Path(f"/proc/{pid}/task/{task}/status").read_text().splitlines())
        for task in os.listdir(f"/proc/{pid}/task")
    )


def program(profile: Profile, pid: int) -> bytes:
    """The filter that a process with a profile must have."""
    own = {OWN_PROCESS: int(field(pid, "NSpid").split()[-1]), OWN_GROUP: -os.getpgid(pid)}
    return make_program(profile, Mode.ENFORCE, os.uname().machine, own)


def profile_of(pid: int, features: set[Feature]) -> str:
    """The name of the profile whose filter a process has, and nothing else."""
    [found] = filters(pid)
    profiles = [main(features), BROKER, SOCKET_AGENT, RESIDENT, REAPER]
    [name] = {profile.name for profile in profiles if found == program(profile, pid)}
    return name


def ping(guest: Namespace) -> bool:
    return guest.run("ping", "-c1", "-W2", SERVER4, check=False).returncode == 0


@pytest.mark.parametrize("user", [None, USER], ids=["root", "user"])
def test_each_process_of_a_command_is_confined(lab: Lab, user: int | None) -> None:
    with lab.guest(*ENFORCE, "-t", "8126", "-T", "8127", user=user) as guest:
        assert eventually(lambda: is_confined(guest.sansnet))  # the last helper has begun before that
        others = set(descendants(guest.sansnet)) - set(descendants(guest.pid))
        assert eventually(lambda: all(is_confined(pid) for pid in others)), [field(pid, "Seccomp") for pid in others]
        features = {Feature.CHILD, Feature.TAP, Feature.FORWARDS}
        found = sorted(profile_of(pid, features) for pid in others)
        assert found == sorted(profile.name for profile in (main(()), BROKER, SOCKET_AGENT, REAPER))
        assert field(guest.pid, "Seccomp") == "0"


def test_a_process_that_is_refused_a_file_goes_on(lab: Lab) -> None:
    with lab.guest(*ENFORCE) as guest:
        assert eventually(lambda: is_confined(guest.sansnet))
        with injected(guest.sansnet) as attacker:
            assert attacker.call("getpid") == guest.sansnet
            for path in (b"/etc/passwd\0", b"/proc/self/mem\0"):
                assert attacker.call("openat", HERE, path, os.O_RDONLY) == -errno.EACCES
            assert attacker.call("openat", HERE, b"/tmp/sansnet-attack\0", os.O_WRONLY | os.O_CREAT) == -errno.EACCES
        assert ping(guest)


ATTACKS: Final[dict[str, tuple[int | bytes, ...]]] = {
    "execve": (b"/bin/true\0", bytes(8), bytes(8)),
    "clone": (int(signal.SIGCHLD), 0, 0, 0, 0),
    "socket": (16, 3, 0),
    "ptrace": (0, 0, 0, 0),
    "mprotect": (0, 4096, 5),
    "bpf": (0, bytes(128), 128),
    "io_uring_setup": (4, bytes(120)),
}


@contextmanager
def run(lab: Lab, *options: str) -> Iterator[tuple[subprocess.Popen[str], Guest]]:
    pipe = subprocess.PIPE
    line = lab.host.command(*RUN_SANSNET, *ENFORCE, *options, "--", "sh", "-c", "echo $$; exec cat")
    with running(line, stdin=pipe, stdout=pipe, stderr=pipe) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert eventually(lambda: is_confined(process.pid) and bool(commands(process.pid)))
        yield process, Guest(commands(process.pid)[0], process.pid)


def commands(pid: int) -> list[int]:
    """The processes of a command's guest that wait for input."""
    return [each for each in descendants(pid) if Path(f"/proc/{each}/comm").read_text() == "cat\n"]


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_ends_the_command_and_all_that_belongs_to_it(lab: Lab, name: str) -> None:
    with run(lab) as (process, _):
        whole = descendants(process.pid)
        with pytest.raises(KilledError, match="SIGSYS"), injected(process.pid) as attacker:
            attacker.call(name, *ATTACKS[name])
        assert eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in whole))


@pytest.mark.parametrize("victim", [SOCKET_AGENT, BROKER], ids=["agent", "broker"])
def test_an_attack_in_a_helper_ends_the_helper_alone(lab: Lab, victim: Profile) -> None:
    with run(lab, "-T", "8128") as (process, guest):
        features = {Feature.CHILD, Feature.TAP, Feature.FORWARDS}
        helpers = set(descendants(process.pid)) - set(descendants(guest.pid))
        assert eventually(lambda: all(is_confined(pid) for pid in helpers))
        [pid] = [pid for pid in helpers if profile_of(pid, features) == victim.name]
        with pytest.raises(KilledError, match="SIGSYS"), injected(pid) as attacker:
            attacker.call("execve", *ATTACKS["execve"])
        assert ping(guest)
        assert process.poll() is None


def test_the_processes_of_an_attached_namespace(lab: Lab) -> None:
    with held_namespace() as namespace:
        line = lab.host.command(*RUN_SANSNET[:-1], "attach", *ENFORCE, "-T", "8129", str(namespace.pid))
        with running(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert process.stderr is not None
            assert "attached to" in process.stderr.readline()
            assert eventually(lambda: all(is_confined(pid) for pid in descendants(process.pid)))
            features = {Feature.TAP, Feature.FORWARDS}
            found = sorted(profile_of(pid, features) for pid in descendants(process.pid))
            assert found == sorted(profile.name for profile in (main(()), BROKER, SOCKET_AGENT, RESIDENT))
            assert ping(namespace)
            process.terminate()
            assert process.wait(10) == 0
