"""A guest with thousands of connections that it does not read; limits that a process reaches while it serves."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Final

import pytest

from tests.lab import SERVER4, USER, Lab, eventually, usage
from tests.lab.namespaces import running

PORT: Final = 8472
STATUS: Final = 7

SERVER: Final = f"""
import resource, selectors, socket
resource.setrlimit(resource.RLIMIT_NOFILE, (8192, 8192))
listener = socket.create_server(({SERVER4!r}, {PORT}), backlog=4096)
listener.setblocking(False)
chosen = selectors.DefaultSelector()
chosen.register(listener, selectors.EVENT_READ)
data = bytes(1 << 18)
print("ready", flush=True)
while True:
    for key, _ in chosen.select():
        try:
            if key.fileobj is listener:
                made, _ = listener.accept()
                made.setblocking(False)
                chosen.register(made, selectors.EVENT_WRITE)
            else:
                key.fileobj.send(data)
        except BlockingIOError:
            pass
        except OSError:
            chosen.unregister(key.fileobj)
            key.fileobj.close()
"""
"""Sends as much to everybody as is taken."""

STALLED: Final = f"""
import os, resource, socket, time
resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
made = []
for number in range(3000):
    one = socket.socket()
    one.setblocking(False)
    one.connect_ex(({SERVER4!r}, {PORT}))
    made.append(one)
    if not number % 50:
        time.sleep(0.02)
time.sleep(5)
for one in made:
    one.close()
until = time.monotonic() + 30
while time.monotonic() < until:
    try:
        with socket.create_connection(({SERVER4!r}, {PORT}), 5) as one:
            if one.recv(1):
                os._exit({STATUS})
    except OSError:
        pass
os._exit(1)
"""
"""Opens connections and reads none of them. Its status says whether another one works afterwards."""

BUSY: Final = f"""
import os, socket
print("ready", flush=True)
input()
for number in range(20):
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(type=kind) as one:
            one.settimeout(0.05)
            try:
                one.connect(({SERVER4!r}, {PORT}))
                one.send(b"data")
                one.recv(1000)
            except OSError:
                pass
os._exit({STATUS})
"""
"""Connects again and again, whatever comes of it."""


@pytest.fixture
def server(lab: Lab) -> Iterator[None]:
    with running(lab.upstream.command(sys.executable, "-c", SERVER), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield


def ended(line: list[str], limits: str) -> list[str]:
    """Run a command to its end. It must have its status; the lines of sansnet."""
    done = subprocess.run(
        ["prlimit", *limits.split(), "--", *line],
        check=False,
        text=True,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        timeout=120,
    )
    assert done.returncode == STATUS, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr.splitlines()


def test_three_thousand_stalled_readers_fit_into_little_memory(lab: Lab, server: None) -> None:
    """The default of --memory looks at the limit on the address space."""
    line = lab.sansnet_command([], [sys.executable, "-c", STALLED], user=None, before="")
    assert ended(line, f"--as={220 << 20}:unlimited --nofile=8192") == []


def test_more_memory_than_there_is_ends_nothing(lab: Lab, server: None) -> None:
    line = lab.sansnet_command(["--memory", "1G"], [sys.executable, "-c", STALLED], user=None, before="")
    [said] = ended(line, f"--as={102 << 20}:unlimited --nofile=8192")
    assert said.startswith("sansnet: there is too little memory, so frames and data from sockets are dropped")


@pytest.mark.parametrize("limit", ["nofile=8", "nproc=1", "as=1048576"])
@pytest.mark.parametrize("options", [[], ["-t", "8899", "-T", "8898", "-c", "/tmp/sansnet-memory-test"]])
def test_a_limit_that_is_reached_while_it_serves_keeps_the_status(
    lab: Lab, server: None, limit: str, options: list[str]
) -> None:
    command = [sys.executable, "-c", BUSY]
    line = lab.sansnet_command(options, command, user=USER, before="")
    with running(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        assert eventually(lambda: usage.is_served(process.pid))
        time.sleep(1)  # until it has all that it opens when it begins
        user = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--"]
        subprocess.run([*user, "prlimit", f"--pid={process.pid}", f"--{limit}:"], check=True)
        _, errors = process.communicate("\n", timeout=60)
    assert process.returncode == STATUS, errors
    assert "Traceback" not in errors
    lines = errors.splitlines()
    assert len(set(lines)) == len(lines), "each warning comes once"
