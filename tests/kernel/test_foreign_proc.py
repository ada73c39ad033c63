"""A PID namespace without a /proc of its own, as that of Debian's pasta: processes have other numbers in /proc."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lab import RUN_SANSNET, SERVER4, USER, Lab, eventually
from tests.lab.callers import alive
from tests.lab.namespaces import running

SANSNET = str(Path(sys.prefix) / "bin" / "sansnet")


def inside(lab: Lab, script: str, user: int | None) -> list[str]:
    """A shell script in such a namespace, where some numbers are used up first."""
    line = ["unshare", "--pid", "--fork", "--kill-child", "sh", "-c", f"for n in 1 2 3; do true & done; wait; {script}"]
    if user is not None:
        line = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "--", "unshare", "-U", *line[1:]]
    return lab.host.command(*line)


def done(line: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(line, capture_output=True, text=True, timeout=30, check=False, stdin=subprocess.DEVNULL)


@pytest.mark.parametrize("words", [RUN_SANSNET, (SANSNET, "pasta", "--config-net")], ids=["run", "pasta"])
def test_a_command_has_its_network(lab: Lab, words: tuple[str, ...]) -> None:
    ended = done(inside(lab, shlex.join([*words, "--", "ping", "-c1", "-W5", SERVER4]), None))
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "1 received" in ended.stdout


def test_a_users_command_has_its_network(lab: Lab) -> None:
    """Within namespaces that map the user alone."""
    script = shlex.join([*RUN_SANSNET, "--", "ping", "-c1", "-W5", SERVER4])
    line = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child", "sh", "-c", f"true; {script}"]
    as_user = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--"]
    ended = done(lab.host.command(*as_user, *line))
    assert (ended.returncode, ended.stderr) == (0, "")


def test_ports_are_followed_and_spliced(lab: Lab) -> None:
    """For both a process of the guest is looked up in /proc."""
    server = (
        "import socket; s = socket.create_server(('127.0.0.1', 8481)); print('ready', flush=True); "
        "s.accept()[0].send(b'hi')"
    )
    script = shlex.join([*RUN_SANSNET, "-t", "auto", "--host-lo-to-ns-lo", "--", "python3", "-c", server])
    with running(inside(lab, f"{script}; exit", None), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"

        def heard() -> bool:
            try:
                with lab.host.connect("127.0.0.1", 8481) as near:
                    return near.recv(2) == b"hi"
            except ConnectionRefusedError:
                return False

        assert eventually(heard)
        assert process.wait(10) == 0


def test_what_the_command_left_is_ended_and_nothing_else(lab: Lab) -> None:
    """The numbers in /proc of what is left are other processes' numbers in here."""
    run = shlex.join([*RUN_SANSNET, "--", "sh", "-c", "sleep 61 & sleep 61 & exit 0"])
    bystanders = "for n in 1 2 3 4 5 6 7 8; do sleep 62 & done"
    script = f"{bystanders}; {run} && echo ended || echo failed; cat"
    with running(inside(lab, script, None), stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ended\n"

        def sleeping(seconds: int) -> list[int]:
            found = subprocess.run(
                ["pgrep", "-x", "-f", f"sleep {seconds}"], capture_output=True, text=True, check=False
            )
            return [pid for pid in map(int, found.stdout.split()) if same_namespace(pid, process.pid)]

        assert eventually(lambda: not sleeping(61))
        assert len(sleeping(62)) == 8


def same_namespace(pid: int, unshare: int) -> bool:
    """Whether a process is in the PID namespace that an `unshare` made for its children."""
    try:
        return os.readlink(f"/proc/{pid}/ns/pid") == os.readlink(f"/proc/{unshare}/ns/pid_for_children")
    except OSError:
        return False


def test_attach_takes_the_number_that_a_process_has_here(lab: Lab, tmp_path: Path) -> None:
    made = tmp_path / "made"
    os.mkfifo(made)
    begun = f'unshare --net sh -c "echo >{made}; exec sleep 63"'  # its network namespace is there when it writes
    script = f"{begun} & read line <{made}; exec {SANSNET} attach $!"
    with running(inside(lab, script, None), stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        assert "attached to /proc/" in process.stderr.readline()
        [shell] = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        sansnet = int(shell)
        [guest] = [
            pid
            for pid in map(int, Path(f"/proc/{sansnet}/task/{sansnet}/children").read_text().split())
            if Path(f"/proc/{pid}/cmdline").read_bytes() == b"sleep\x0063\x00"
        ]
        assert "uplink" in Path(f"/proc/{guest}/net/dev").read_text()
        os.kill(guest, signal.SIGKILL)
        assert eventually(lambda: not alive(sansnet), seconds=5)
        assert process.wait(5) == 0
