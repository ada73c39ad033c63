"""Processes of sansnet that somebody stops or kills: everything else goes on, and ends when it is told to."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.kernel.test_attach import attached
from tests.kernel.test_control import ctl
from tests.lab import SERVER4, USER, Guest, Lab, Namespace, eventually
from tests.lab.callers import alive
from tests.lab.namespaces import held_namespace, running
from tests.lab.processes import helpers, outside

PORT = 18411
INSIDE = 9411
STOPS = pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL], ids=["stopped", "killed"])


@contextmanager
def guest_of(lab: Lab, *options: str, user: int | None = None) -> Iterator[Guest]:
    """As `Lab.guest`, but it may end in any way, and say something."""
    command = lab.sansnet_command(list(options), ["sh", "-c", "echo $$; exec cat"], user=user, before="")
    with running(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        guest = Guest(outside(process.pid, int(process.stdout.readline())), process.pid)
        assert eventually(guest.is_served)
        yield guest


@contextmanager
def echo(guest: Namespace) -> Iterator[None]:
    """A server in the guest that sends back what it receives, as several connections at once may want it."""
    script = (
        "import socketserver\n"
        "class Echo(socketserver.BaseRequestHandler):\n"
        "    def handle(self):\n"
        "        while data := self.request.recv(4096): self.request.sendall(data)\n"
        "class Server(socketserver.ThreadingTCPServer): daemon_threads = allow_reuse_address = True\n"
        f"with Server(('0.0.0.0', {INSIDE}), Echo) as server: print('ready', flush=True); server.serve_forever()\n"
    )
    with running(guest.command("python3", "-c", script), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield


def echoes(lab: Lab, count: int = 1) -> bool:
    """Whether connections over the host's loopback work, all open at once."""
    made: list[socket.socket] = []
    try:
        for _ in range(count):
            made.append(lab.host.connect("127.0.0.1", PORT))
            made[-1].sendall(b"x")
        return all(one.recv(1) == b"x" for one in made)
    finally:
        for one in made:
            one.close()


@STOPS
@pytest.mark.parametrize("user", [None, USER], ids=["root", "user"])
def test_the_process_that_makes_sockets(lab: Lab, number: signal.Signals, user: int | None) -> None:
    directory = Path(tempfile.mkdtemp(dir=lab.directory))
    directory.chmod(0o777)
    control = directory / "control"
    with guest_of(lab, "-t", f"{PORT}:{INSIDE}", "-c", str(control), user=user) as guest, echo(guest):
        assert echoes(lab)
        [agent] = helpers(guest.sansnet)
        os.kill(agent, number)
        assert echoes(lab, 40)  # more than were made in advance
        started = time.monotonic()
        assert ctl(lab, control, "counters").returncode == 0
        guest.run("ping", "-c1", "-W2", SERVER4)
        assert time.monotonic() - started < 5
        [other] = helpers(guest.sansnet)
        assert other != agent
        assert alive(other)
        os.kill(other, number)
        os.kill(guest.sansnet, signal.SIGTERM)
        assert eventually(lambda: not alive(guest.sansnet), seconds=3)
        assert not Path(f"/proc/{other}").exists()


def test_a_process_that_makes_sockets_and_is_stopped_whenever_it_is_there(lab: Lab) -> None:
    """Connections from the host's loopback then pass as frames, and nothing else suffers."""
    with guest_of(lab, "-t", f"{PORT}:{INSIDE}") as guest, echo(guest):
        assert echoes(lab)
        seen: set[int] = set()
        until = time.monotonic() + 4
        slowest = 0.0
        while time.monotonic() < until:
            for pid in helpers(guest.sansnet):
                seen.add(pid)
                os.kill(pid, signal.SIGSTOP)
            started = time.monotonic()
            assert echoes(lab, 20)
            slowest = max(slowest, time.monotonic() - started)
        assert len(seen) < 8
        assert slowest < 6  # some waits of 1 s each, on a busy machine; without bounds it would never end
        guest.run("ping", "-c1", "-W2", SERVER4)


@STOPS
def test_the_process_that_changes_an_attached_guest(lab: Lab, number: signal.Signals) -> None:
    """Addresses stay as they are, of which one warning speaks; all else goes on."""
    with held_namespace() as visited, attached(lab, str(visited.pid)) as sansnet:
        [pid] = helpers(sansnet.process.pid)
        os.kill(pid, number)
        for address in ("192.0.2.71", "192.0.2.72"):
            lab.host.shell(f"ip address add {address}/32 dev uplink")
            started = time.monotonic()
            visited.run("ping", "-c1", "-W2", SERVER4)
            assert time.monotonic() - started < 3
            assert eventually(lambda: not helpers(sansnet.process.pid), seconds=15)
        for address in ("192.0.2.71", "192.0.2.72"):
            lab.host.shell(f"ip address del {address}/32 dev uplink")
        sansnet.process.terminate()
        status, said = sansnet.ends(5)
        assert status == 0
        assert said.count("the process that changes its addresses and routes") == said.count("\n") == 1


@STOPS
def test_the_command_before_it_begins(lab: Lab, number: signal.Signals) -> None:
    """It is the child that prepares the guest."""
    directory = Path(tempfile.mkdtemp(dir=lab.directory))
    directory.chmod(0o755)
    hook = directory / "hook.py"
    hook.write_text(
        "import os, signal, sys\n"
        "import sansnet_trio.guest.child as child\n"
        "import sansnet_cli.main, sansnet_cli.run.command as command\n"
        "child.TIMEOUT = 2\n"
        "child.Channel.receive_with_descriptors.__defaults__ = (2,)\n"
        "import sansnet_cli.run.start as start\n"
        "start.TIMEOUT = 2\n"
        "prepare = command._prepare\n"
        f"command._prepare = lambda options: (os.kill(os.getpid(), {int(number)}), prepare(options))[1]\n"
        "sansnet_cli.main.main()\n"
    )
    line = lab.host.command(sys.executable, str(hook), "run", "--", "true")
    started = time.monotonic()
    done = subprocess.run(line, capture_output=True, text=True, timeout=20, check=False)
    assert time.monotonic() - started < 10
    if number == signal.SIGSTOP:
        assert (done.returncode, done.stderr.count("\n")) == (1, 1)
        assert "has not answered for 2 s" in done.stderr
    else:
        assert done.returncode == 128 + signal.SIGKILL


def test_a_command_that_is_stopped_ends_by_sigterm(lab: Lab) -> None:
    with guest_of(lab) as guest:
        os.kill(guest.pid, signal.SIGSTOP)
        guest_pid = guest.pid
        os.kill(guest.sansnet, signal.SIGTERM)
        assert eventually(lambda: not alive(guest_pid), seconds=3)
        assert eventually(lambda: not alive(guest.sansnet), seconds=3)
