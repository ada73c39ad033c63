"""A lack of this machine is reported in one sentence that names the remedy, and nothing is left half done."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import SERVER4, Lab, eventually
from tests.lab.callers import alive
from tests.lab.namespaces import running
from tests.lab.processes import outside

SANSNET = str(Path(sys.prefix) / "bin" / "sansnet")
NO_PROC = "mount -t tmpfs none /proc"
PROC = "there is no /proc here, which sansnet needs; as root: mount -t proc proc /proc"
PROCESSES = "no more processes are allowed here; allow more, for example: ulimit -u 1000"
GONE = "mkdir gone; cd gone; rmdir ../gone"
DELETED = "the working directory has been deleted; change to an existing one (cd)"
FULL = "cannot write to stdout (No space left on device); redirect it to a writable file"


INSIDE = r'sansnet_cli/(?!(main|__init__)\.py", line \d+, in <module>)'
"""A frame of sansnet in a traceback, but for the first lines of its first modules, which only import Python's own."""

UPLOADS = f"""
import socket, time
made = []
for _ in range(100):
    made.append(socket.socket())
    made[-1].setblocking(False)
    made[-1].connect_ex(({SERVER4!r}, 8471))
until = time.monotonic() + 5
while time.monotonic() < until:
    for one in made:
        try:
            one.send(bytes(1 << 16))
        except OSError:
            pass
"""
"""Sends as much as is taken."""


@pytest.fixture
def place(lab: Lab) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=lab.directory) as name:
        Path(name).chmod(0o777)
        yield Path(name)


def called(
    lab: Lab, place: Path, words: str, *, before: str = ":", limits: str = "", user: int | None = None
) -> subprocess.CompletedProcess[str]:
    """Call sansnet in the host, after a shell script as root in a mount namespace of its own."""
    line = f"prlimit {limits} -- " if limits else ""
    if user is not None:
        line += f"setpriv --reuid={user} --regid={user} --clear-groups -- "
    script = f"cd {shlex.quote(str(place))}\n{before}\nexec timeout 10 {line}{SANSNET} {words}"
    return lab.host.run("unshare", "--mount", "sh", "-ec", script, check=False, timeout=30)


@pytest.mark.parametrize(
    ("words", "before", "sentence"),
    [
        ("run -- true", NO_PROC, PROC),
        ("run -t auto -- true", NO_PROC, PROC),
        ("attach 1", NO_PROC, PROC),
        ("pasta -- true", NO_PROC, PROC),
        ("passt -f -s socket", GONE, DELETED),
        ("attach --netns ./x", GONE, DELETED),
        ("run -p x -- true", GONE, "the capture file x cannot be written (No such file or directory); give another"),
        ("--version", "exec >/dev/full", FULL),
        ("--help", "exec >/dev/full", FULL),
        ("run --help", "exec >/dev/full", FULL),
        ("pasta --help", "exec >/dev/full", FULL),
        ("pesto --version", "exec >/dev/full", FULL),
        ("passt -s socket -P /dev/full", ":", "the pid file cannot be written (No space left on device); give another"),
        ("pasta -P /dev/full -- true", ":", "the pid file cannot be written (No space left on device); give another"),
        ("serve --socket socket --pid /dev/full", ":", "the pid file /dev/full cannot be written (No space left on"),
        ("passt -f -s socket -l /nonexistent/log", ":", "the log file /nonexistent/log cannot be written (No such"),
        ("run -- true", "mount -t tmpfs none /dev/net", "/dev/net/tun is missing; load the module as root"),
    ],
)  # fmt: skip
def test_it_is_said_in_one_sentence(lab: Lab, place: Path, words: str, before: str, sentence: str) -> None:
    done = called(lab, place, words, before=before)
    said = [line for line in done.stderr.splitlines() if sentence in line]
    assert len(said) == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert done.returncode == 1


def test_passt_needs_no_proc(lab: Lab, place: Path) -> None:
    done = called(lab, place, "passt -q -f -s socket", before=NO_PROC)
    assert (done.returncode, done.stderr) == (124, "")  # it has served until the time limit


@pytest.mark.parametrize("number", range(4, 13))
def test_few_descriptors_are_what_it_speaks_of(lab: Lab, place: Path, number: int) -> None:
    done = called(lab, place, "run -- true", limits=f"--nofile={number}")
    assert done.returncode in (1, 127)  # 127 of the dynamic linker
    if "init_import_site" in done.stderr:  # Python ended at a package's .pth file, before sansnet's first line
        assert number == 4
        assert "sansnet_cli/" not in done.stderr
        return
    assert "Traceback" not in done.stderr
    assert re.search("Too many open files; allow more|cannot be loaded|Error 24", done.stderr), done.stderr


def test_files_of_no_size_keep_no_command_from_its_network(lab: Lab, place: Path) -> None:
    """The guest's own files are on no disk, but the limit (RLIMIT_FSIZE) is for them too."""
    done = called(lab, place, "run -- test -r /etc/resolv.conf", limits="--fsize=0")
    assert done.returncode == 0
    assert "the guest's /etc/resolv.conf cannot be replaced (File too large)" in done.stderr


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("words", ["run -- true", "run -t 8999 -T 8998 -- true", "passt -s socket -P pid"])
def test_few_processes(lab: Lab, place: Path, words: str, number: int) -> None:
    # The limit counts all processes of a user, also those of other tests that run at the same time.
    done = called(lab, place, words, limits=f"--nproc={number}", user=(1 << 20) + os.getpid())
    assert "Traceback" not in done.stderr
    if done.returncode:
        assert done.returncode == 1
        assert "allow more" in done.stderr.splitlines()[-1]
    elif "pid" in words:
        os.kill(int((place / "pid").read_text()), signal.SIGTERM)
    assert number > 1 or PROCESSES in done.stderr


@pytest.mark.parametrize("words", ["run -- true", "attach 999999999", "pasta -- true", "passt -1 -f --fd 0"])
def test_little_memory_at_the_start(lab: Lab, place: Path, words: str) -> None:
    """Below some 15 MB Python itself does not start."""
    statuses = set()
    for megabytes in (*range(20, 100, 8), 200, 400):
        done = called(lab, place, words, limits=f"--as={megabytes << 20}", before="exec </dev/null")
        assert "Traceback" not in done.stderr, f"{megabytes} MB: {done.stderr}"
        assert not done.returncode or done.stderr.rstrip("\n").count("\n") <= 1, f"{megabytes} MB: {done.stderr}"
        statuses.add(done.returncode)
    assert statuses <= {0, 1}


def test_little_memory_while_it_serves(lab: Lab, place: Path) -> None:
    """It drops what it cannot keep, warns once, and works again when there is some."""
    command = lab.sansnet_command([], ["sh", "-c", "echo $$; exec cat"], user=None, before="")
    with (
        (place / "errors").open("w+") as errors,
        running(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors) as process,
    ):
        assert process.stdout is not None
        guest = outside(process.pid, int(process.stdout.readline()))
        time.sleep(1)
        enter = ["nsenter", f"--target={guest}", "--net", "--"]
        ping = [*enter, "ping", "-c1", "-W2", SERVER4]
        assert subprocess.run(ping, capture_output=True, check=False).returncode == 0
        limit = ["prlimit", f"--pid={process.pid}"]
        subprocess.run([*limit, "--as=1048576:unlimited"], check=True)
        with lab.upstream.listen(SERVER4, 8471):  # nobody accepts, so what the guest sends stays with sansnet
            line = [*enter, sys.executable, "-c", UPLOADS]
            subprocess.run(line, capture_output=True, timeout=60, check=False)
            assert alive(process.pid)
        subprocess.run([*limit, "--as=unlimited:unlimited"], check=True)
        assert eventually(lambda: subprocess.run(ping, capture_output=True, check=False).returncode == 0)
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(10) == 0
        errors.seek(0)
        said = errors.read()
    assert "Traceback" not in said
    assert said.count("\n") == said.count("there is too little memory") == 1


@pytest.mark.parametrize("words", ["run -- sleep 60", "serve -s socket", "passt -f -s socket", "ctl /nonexistent list"])
def test_ctrl_c_while_it_starts(lab: Lab, place: Path, words: str) -> None:
    """At whatever moment; before the program itself runs, Python says what it says."""
    for delay in range(0, 400, 25):
        line = lab.host.command(SANSNET, *words.replace("socket", str(place / "socket")).split())
        with running(line, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True) as process:
            time.sleep(delay / 1000)
            process.send_signal(signal.SIGINT)
            assert process.stderr is not None
            said = process.stderr.read()
            process.wait(10)
        assert not re.search(INSIDE, said), said


@pytest.mark.parametrize("words", ["run", "attach"])
def test_a_user_without_a_name_or_a_home(lab: Lab, words: str) -> None:
    command = ["env", "-u", "HOME", "-u", "SHELL", "-u", "USER", "-u", "LOGNAME"]
    line = [*command, "setpriv", "--reuid=654321", "--regid=654321", "--clear-groups", "--", SANSNET, words]
    done = lab.host.run(*line, *(["--", "id", "-u"] if words == "run" else ["1"]), check=False)
    assert "Traceback" not in done.stderr
    assert done.stdout == ("654321\n" if words == "run" else "")
