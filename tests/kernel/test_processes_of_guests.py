"""The PID and IPC namespaces of a command, its reaper, and processes that are stopped or killed from outside."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.kernel.test_process import gone
from tests.lab import RUN_SANSNET, SERVER4, USER, Lab, eventually
from tests.lab.namespaces import running
from tests.lab.processes import broker, children, descendants, reaper
from tests.lab.terminals import terminal

USERS = pytest.mark.parametrize("user", [None, USER], ids=["root", "user"])
WAYS = pytest.mark.parametrize("options", [[], ["--host-processes"]], ids=["own", "host"])
WAITS = ["sh", "-c", "echo ready; exec cat"]


def as_user(user: int | None) -> list[str]:
    return [] if user is None else ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]


@contextmanager
def waiting(
    lab: Lab, options: list[str], command: list[str], user: int | None = None
) -> Iterator[subprocess.Popen[str]]:
    """`sansnet run` of a command that has printed a line."""
    line = lab.sansnet_command(options, command, user=user, before="")
    pipe = subprocess.PIPE
    with running(line, stdin=pipe, stdout=pipe, stderr=pipe) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        yield process


def ended(process: subprocess.Popen[str], seconds: float = 10) -> tuple[int, str]:
    """The status of a command whose stdin is closed, and what sansnet said."""
    _, errors = process.communicate(timeout=seconds)
    return process.returncode, errors


@USERS
def test_a_command_sees_its_own_processes_only(lab: Lab, user: int | None) -> None:
    done = lab.sansnet([], ["ps", "-e", "-o", "pid,args", "--no-headers"], user=user)
    lines = [line.split() for line in done.stdout.splitlines()]
    assert [line[:2] for line in lines] == [["1", "sansnet-reaper"], ["2", "ps"]]
    assert done.stderr == ""


@USERS
def test_a_command_cannot_reach_its_reaper(lab: Lab, user: int | None) -> None:
    script = """
for number in KILL STOP TERM HUP TSTP INT USR1 SEGV; do kill -$number 1; done
kill -KILL -1
for name in environ exe root cwd mem maps fd/0 ns/net ns/mnt; do
    head -c1 /proc/1/$name >/dev/null 2>&1 && echo "can read $name"
done
timeout 5 strace -p 1 2>&1 | grep -q attached && echo can trace
prlimit --pid 1 --nofile=0 --as=0 --data=0 --nproc=0 --sigpending=0
(setsid sleep 0.2 &)
sleep 0.6
grep State /proc/1/status
exit 4
"""
    done = lab.sansnet([], ["bash", "-c", script], user=user)
    assert "can " not in done.stdout
    assert done.stdout.split() == ["State:", "S", "(sleeping)"]
    assert done.returncode == 4


@USERS
def test_a_command_cannot_signal_processes_of_the_host(lab: Lab, user: int | None) -> None:
    """Neither the user's other processes nor those of sansnet."""
    with running([*as_user(user), "sleep", "60"]) as bystander:
        script = f"kill -KILL {bystander.pid}; kill -STOP -1; kill -KILL -1; ping -c1 -W5 {SERVER4} >&2; exit 6"
        done = lab.sansnet(["-t", "8199"], ["sh", "-c", script], user=user)
        assert done.returncode == 6
        assert " 0% packet loss" in done.stderr
        assert bystander.poll() is None


@USERS
@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGSTOP, signal.SIGKILL], ids=["USR1", "STOP", "KILL"])
def test_a_command_cannot_signal_the_process_group_of_its_caller(
    lab: Lab, number: signal.Signals, user: int | None
) -> None:
    """By kill(0), which needs no number of the group. Without a terminal, the command has another group."""
    line = lab.sansnet_command([], ["sh", "-c", f"trap '' USR1; kill -{number} 0; exit 6"], user=user, before="")
    caller = f'{shlex.join([*as_user(user), "sleep", "60"])} >/dev/null & echo $!; exec "$@"'
    with running(["sh", "-c", caller, "sh", *line], stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout is not None
        bystander = int(process.stdout.readline())
        try:
            expected = 128 + number
            if number == signal.SIGUSR1:
                expected = 6
            elif number == signal.SIGSTOP:
                assert eventually(lambda: any(state(pid) == "T" for pid in descendants(process.pid)))
                assert "T" not in (state(process.pid), state(bystander), state(reaper(process.pid)))
                process.terminate()
                expected = 128 + signal.SIGTERM
            assert process.wait(20) == expected
            assert state(bystander) == "S"
        finally:
            os.kill(bystander, signal.SIGKILL)


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_a_command_without_a_terminal_is_no_leader_of_a_process_group(lab: Lab) -> None:
    """Otherwise setsid(1) would start its program in the background, and setsid(2) would fail."""
    script = "import os; print(os.getpgrp() not in (0, os.getpid())); os.setsid()"
    line = lab.sansnet_command([], [sys.executable, "-c", script], user=None, before="")
    done = subprocess.run(line, capture_output=True, text=True, timeout=20, check=True, start_new_session=True)
    assert (done.stdout, done.stderr) == ("True\n", "")


@USERS
def test_shared_memory_is_the_guests_own(lab: Lab, user: int | None) -> None:
    made = subprocess.run(
        [*as_user(user), "ipcmk", "-M", "4096"], capture_output=True, text=True, check=True, timeout=10
    )
    segment = made.stdout.split()[-1]
    try:
        listed = [sys.executable, "-c", "print(open('/proc/sysvipc/shm').read())"]
        assert segment not in lab.sansnet([], listed, user=user).stdout.split()
        assert segment in lab.sansnet(["--host-processes"], listed, user=user).stdout.split()
    finally:
        subprocess.run(["ipcrm", "-m", segment], check=True, timeout=10)


@USERS
def test_the_processes_of_the_host_by_an_option(lab: Lab, user: int | None) -> None:
    done = lab.sansnet(["--host-processes"], ["sh", "-c", "echo $$; cat /proc/1/comm"], user=user)
    number, first = done.stdout.split()
    assert int(number) > 2
    assert first == Path("/proc/1/comm").read_text().strip()
    assert done.stderr == ""


LEAVES = "setsid sh -c 'trap \"\" TERM HUP; (setsid sleep 61 &); sleep 62' >/dev/null & sleep 1; echo left"


def sleepers(sansnet: int) -> list[int]:
    found = []
    for pid in descendants(sansnet):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        if words[0] == b"sleep" and words[1] in (b"61", b"62"):
            found.append(pid)
    return found


@USERS
@WAYS
def test_all_that_a_command_left_ends_with_it(lab: Lab, options: list[str], user: int | None) -> None:
    with waiting(lab, options, ["sh", "-c", f"{LEAVES}; cat"], user) as process:
        assert eventually(lambda: len(sleepers(process.pid)) == 2)
        left = sleepers(process.pid)
        assert ended(process) == (0, "")
        assert all(map(gone, left))


@USERS
@WAYS
def test_all_that_a_command_left_ends_with_a_killed_sansnet(lab: Lab, options: list[str], user: int | None) -> None:
    with waiting(lab, options, ["sh", "-c", f"{LEAVES}; cat"], user) as process:
        assert eventually(lambda: len(sleepers(process.pid)) == 2)
        left = list(descendants(process.pid))
        process.kill()
        process.wait(5)
        assert eventually(lambda: all(map(gone, left)))


@WAYS
def test_orphans_are_reaped(lab: Lab, options: list[str]) -> None:
    script = "for i in $(seq 200); do (true &) ; done; sleep 0.5; echo done; exec cat"
    with waiting(lab, options, ["sh", "-c", script]) as process:

        def zombies() -> list[int]:
            return [pid for pid in descendants(process.pid) if " Z " in Path(f"/proc/{pid}/stat").read_text()]

        assert eventually(lambda: not zombies())
        assert ended(process) == (0, "")


def test_orphans_without_end_delay_nothing(lab: Lab) -> None:
    """A loop that makes them as fast as it can: the command's end is noticed, and so is a signal."""
    script = "(while :; do (true &); done) & sleep 2; exit 5"
    started = time.monotonic()
    assert lab.sansnet([], ["sh", "-c", script]).returncode == 5
    assert time.monotonic() - started < 20


@USERS
def test_a_stopped_reaper_delays_nothing_for_long(lab: Lab, user: int | None) -> None:
    with waiting(lab, [], ["sh", "-c", "echo ready; read line; exit 3"], user) as process:
        os.kill(reaper(process.pid), signal.SIGSTOP)
        assert ended(process) == (3, "")
    with waiting(lab, [], ["sh", "-c", "echo ready; exec sleep 60"], user) as process:
        os.kill(reaper(process.pid), signal.SIGSTOP)
        process.send_signal(signal.SIGTERM)
        assert ended(process) == (128 + signal.SIGTERM, "")


def test_a_killed_reaper_ends_the_guest(lab: Lab) -> None:
    with waiting(lab, [], WAITS) as process:
        left = list(descendants(process.pid))
        os.kill(reaper(process.pid), signal.SIGKILL)
        assert process.wait(10) == 128 + signal.SIGKILL
        assert eventually(lambda: all(map(gone, left)))


def test_stopped_helpers_stop_neither_the_network_nor_control(lab: Lab) -> None:
    control = str(lab.directory / "control")
    script = f"echo ready; while read line; do ping -c1 -W5 {SERVER4} >/dev/null && echo reached; done"
    with waiting(lab, ["-c", control, "-t", "8198"], ["sh", "-c", script]) as process:
        command = next(pid for pid in children(reaper(process.pid)))
        for pid in children(process.pid):
            os.kill(pid, signal.SIGSTOP)
        assert process.stdin is not None
        assert process.stdout is not None
        print("go", file=process.stdin, flush=True)
        assert process.stdout.readline() == "reached\n"
        lab.host.run(*RUN_SANSNET[:-1], "ctl", control, "counters")
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 128 + signal.SIGTERM
        assert gone(command)


def test_a_stopped_broker_still_removes_the_names_at_the_end(lab: Lab) -> None:
    control = lab.directory / "stopped-broker"
    with waiting(lab, ["-c", str(control)], WAITS) as process:
        os.kill(broker(process.pid), signal.SIGSTOP)
        assert control.exists()
        assert ended(process) == (0, "")
        assert not control.exists()


def test_a_command_that_became_another_user_gets_signals(lab: Lab) -> None:
    other = (
        f"exec setpriv --reuid={USER} --clear-groups sh -c 'trap \"exit 9\" TERM; echo; while :; do sleep 0.1; done'"
    )
    with waiting(lab, [], ["sh", "-c", other]) as process:
        process.send_signal(signal.SIGTERM)
        assert ended(process) == (9, "")


def test_a_covered_proc_stays_and_is_said(lab: Lab) -> None:
    """As in most containers, where the kernel forbids a new one."""
    script = (
        f"mount --bind /dev/null /proc/version; exec {shlex.join(RUN_SANSNET)} -v -- sh -c 'echo $$; echo /proc/[0-9]*'"
    )
    done = lab.host.run("unshare", "--mount", "sh", "-c", script)
    number, shown = done.stdout.splitlines()
    assert number == "2"
    assert len(shown.split()) > 5
    [note] = [line for line in done.stderr.splitlines() if "/proc shows" in line]
    assert note == (
        "sansnet: the guest's /proc shows the processes of the host, since it cannot be replaced here (Operation not "
        "permitted); the guest still cannot signal them"
    )


def test_options_of_proc_are_kept(lab: Lab) -> None:
    script = (
        f"mount -t proc -o hidepid=invisible proc /proc; exec {shlex.join(RUN_SANSNET)} -- grep ' /proc ' /proc/mounts"
    )
    done = lab.host.run("unshare", "--mount", "--pid", "--fork", "sh", "-c", script)
    assert "hidepid=invisible" in done.stdout.splitlines()[-1]


def test_without_a_pid_namespace_there_is_a_warning(lab: Lab) -> None:
    limit = "echo 0 > /proc/sys/user/max_pid_namespaces"
    script = f"{limit}; exec {shlex.join(RUN_SANSNET)} -- sh -c 'echo $$; (setsid sleep 61 &); exit 7'"
    command = lab.host.command("unshare", "--user", "--map-root-user", "sh", "-c", script)
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert int(done.stdout) > 2
    assert done.returncode == 7
    assert re.fullmatch(
        r"sansnet: the command has no PID namespace .*; as root: sysctl -w user.max_pid_namespaces=10000\): .*\n",
        done.stderr,
    )


SHELLS = {"dash": [], "bash": ["--norc"], "busybox": ["ash"]}


@pytest.mark.parametrize("shell", SHELLS)
def test_an_interactive_shell_ends_with_its_own_status(lab: Lab, shell: str) -> None:
    """Although it cannot name the process group that was in the foreground before it began."""
    with terminal(lab.sansnet_command([], [shell, *SHELLS[shell], "-i"], user=None, before="")) as made:
        made.type("echo on-$((40+2)); tty\n")
        made.expect("on-42")
        made.type("exit 3\n")
        assert made.process.wait(20) == 3
        assert "set tty process group" not in made.output


def test_a_script_has_its_terminal_back_after_an_interactive_shell(lab: Lab) -> None:
    inner = shlex.join([*RUN_SANSNET, "--", "bash", "--norc", "-i"])
    script = f"{inner}; echo status-$?; read line; echo has-$line"
    with terminal(lab.host.command("bash", "--norc", "-i")) as made:
        made.type(f"PS1=; sh -c {shlex.quote(script)}\n")
        made.type("echo in-$((40+2))\n")
        made.expect("in-42")
        made.type("exit 4\n")
        made.expect("status-4")
        made.type("line\n")
        made.expect("has-line")


def test_a_command_in_the_background_stops_when_it_reads_the_terminal(lab: Lab) -> None:
    run = shlex.join([*RUN_SANSNET, "--", "sh", "-c", "read line; echo got-$line"])
    with terminal(lab.host.command("bash", "--norc", "-i")) as made:
        made.type(f"PS1=; {run} &\n")
        made.expect("[1]")
        made.type('until [ "$(jobs -s)" ]; do sleep 0.1; done; jobs\n')
        made.expect("Stopped")
        made.type("fg\n")
        time.sleep(0.5)
        made.type("word\n")
        made.expect("got-word")
