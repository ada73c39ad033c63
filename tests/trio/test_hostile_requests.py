"""Requests of a serving process that an attacker controls, to the processes that work for it.

Each of them carries out the requests of its list, and ends at others. `test_broker` has those to the broker.
"""

from __future__ import annotations

import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from struct import Struct
from typing import Any, Final

import pytest

from sansnet_trio.guest.change_message import MAX_LINE
from tests.lab.namespaces import eventually

SOON: Final = 20.0
_WORDS: Final = Struct("=ii")
"""A request to the reaper: request, number."""
_SOCKETS: Final = Struct("=iii")
"""A request to the socket agent: family, kind, count."""
_CLOSED: Final = (b"", None)

_BEFORE: Final = """
import os, signal, socket, sys
from sansnet_trio.sandbox import Mode, choose
choose(Mode.ENFORCE)
channel = socket.socket(fileno=int(sys.argv[1]))
"""
_RESIDENT: Final = """
from sansnet_trio.guest.plan import GuestPlan
from sansnet_trio.guest.resident import serve_changes
serve_changes(channel, GuestPlan(interface="nowhere0", mtu=1400), lambda: False)
"""
_AGENT: Final = """
from sansnet_trio.guest.socket_agent import _become
_become(lambda: lambda: None, channel, os.getppid())
"""
_REAPER: Final = """
from sansnet_trio.guest.reaper import become_reaper
from sansnet_trio.linux import syscalls
syscalls.adopt_orphans()
command = os.fork()
if not command:
    os.setpgid(0, 0)
    os.execvp("sleep", ["sleep", "100"])
signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
become_reaper(channel, command, alone=False, users=False)
"""


@contextmanager
def helper(script: str, kind: int) -> Iterator[tuple[socket.socket, subprocess.Popen[bytes]]]:
    """A confined helper process, and our end of the channel to it."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
    with closing(ours):
        ours.settimeout(SOON)
        command = [sys.executable, "-c", _BEFORE + textwrap.dedent(script), str(theirs.fileno())]
        process = subprocess.Popen(command, pass_fds=[theirs.fileno()])
        theirs.close()
        try:
            yield ours, process
        finally:
            ours.close()
            try:
                process.wait(SOON)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise


def received(channel: socket.socket) -> bytes | None:
    """The next message; None if the other end was closed before it had read everything."""
    try:
        return channel.recv(1000)
    except ConnectionError:
        return None


# the resident


def change(**parts: Any) -> bytes:
    """A request to change the guest, with other parts than a real one has."""
    plan: dict[str, object] = {"addresses": [], "routes": [], "resolv_conf": None, "hosts": []}
    message = {"old": plan, "new": {**plan, **parts.pop("new", {})}, "kept": [], "given_up": [], **parts}
    return json.dumps(message).encode() + b"\n"


def test_the_resident_makes_changes_of_its_interface() -> None:
    """The other tests would hold for one that does nothing. This interface does not exist."""
    with helper(_RESIDENT, socket.SOCK_STREAM) as (channel, _):
        for _ in range(2):
            channel.sendall(change(new={"addresses": [["0a000001", 24]]}))
            assert json.loads(received(channel) or b"null") == [19, "", []]  # ENODEV


@pytest.mark.parametrize(
    "line",
    [
        b"\n",
        b"\xff" * 1000 + b"\n",
        b"[" * MAX_LINE,
        b"x" * MAX_LINE * 2,
        b'"' + b"\\u0000" * 1000 + b'"\n',
        pickle.dumps(os._exit) + b"\n",
        change(old=1),
        change(kept=["zz"]),
        change(kept=[[]]),
        change(new={"addresses": [["0a000001", "1" * 5000]]}),
        change(new={"addresses": [["0a000001", 1e400]]}),
        change(new={"addresses": [["0a0000", 24]]}),
        change(new={"routes": [["0a000001", 24]]}),
    ],
    ids=range(13),
)
def test_the_resident_ends_at_the_first_request_that_is_no_change(line: bytes) -> None:
    with helper(_RESIDENT, socket.SOCK_STREAM) as (channel, process):
        with suppress(ConnectionError):
            channel.sendall(line)
            channel.sendall(change())
        assert received(channel) in _CLOSED
        assert process.wait(SOON) == 1


# the socket agent


def begun(channel: socket.socket) -> None:
    """Receive the first message of a socket agent."""
    data, descriptors, _, _ = socket.recv_fds(channel, 100, 1)
    assert data == bytes(4)
    os.close(descriptors[0])


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"x", 0),
        (bytes(8), 0),
        (_SOCKETS.pack(socket.AF_INET, socket.SOCK_RAW, 1), -signal.SIGSYS),
        (_SOCKETS.pack(socket.AF_PACKET, socket.SOCK_RAW, 1), -signal.SIGSYS),
        (_SOCKETS.pack(socket.AF_NETLINK, socket.SOCK_RAW, 1), -signal.SIGSYS),
        (_SOCKETS.pack(socket.AF_UNIX, socket.SOCK_STREAM, 1), -signal.SIGSYS),
        (_SOCKETS.pack(socket.AF_VSOCK, socket.SOCK_STREAM, 1), -signal.SIGSYS),
        (_SOCKETS.pack(socket.AF_INET, socket.SOCK_SEQPACKET, 1), -signal.SIGSYS),
        (_SOCKETS.pack(1000, socket.SOCK_STREAM, 1), -signal.SIGSYS),
    ],
    ids=str,
)
def test_the_agent_ends_at_the_first_request_for_another_socket(request_: bytes, status: int) -> None:
    with helper(_AGENT, socket.SOCK_SEQPACKET) as (channel, process):
        begun(channel)
        channel.send(request_)
        assert received(channel) in _CLOSED
        assert process.wait(SOON) == status


@pytest.mark.parametrize("count", [-1, 16, 1 << 30])
def test_a_flood_of_requests_takes_few_descriptors_of_the_agent(count: int) -> None:
    """It waits until its answers are read, and keeps no socket."""
    with helper(_AGENT, socket.SOCK_SEQPACKET) as (channel, process):
        begun(channel)
        channel.setblocking(False)
        with suppress(BlockingIOError):
            for _ in range(10_000):
                channel.send(_SOCKETS.pack(socket.AF_INET, socket.SOCK_DGRAM, count))
        assert process.poll() is None
        status = Path(f"/proc/{process.pid}/status").read_text()
        size = next(line.split()[1] for line in status.splitlines() if line.startswith("FDSize:"))
        assert int(size) <= 256  # the most that it had at once, since the table only grows


# the reaper


@pytest.mark.parametrize("data", [b"x", b"", bytes(7)], ids=repr)
def test_the_reaper_ends_the_guest_at_the_first_request_that_is_none(data: bytes) -> None:
    with helper(_REAPER, socket.SOCK_SEQPACKET) as (channel, process):
        assert channel.recv(100) == bytes(8)
        command = command_of(process)
        channel.send(data)
        assert process.wait(SOON) == 0
        assert not Path(f"/proc/{command}").exists()


def command_of(process: subprocess.Popen[bytes]) -> int:
    [child] = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return int(child)


def test_the_reaper_survives_numbers_that_are_no_request_and_no_signal() -> None:
    numbers = (-(1 << 31), -1, 0, 65, 1000, (1 << 31) - 1)
    with helper(_REAPER, socket.SOCK_SEQPACKET) as (channel, process):
        assert channel.recv(100) == bytes(8)
        command = command_of(process)
        for kind in (-1, 0, 1, 3, (1 << 31) - 1):
            for number in numbers:
                channel.send(_WORDS.pack(kind, number))
        channel.send(_WORDS.pack(0, signal.SIGKILL))
        assert channel.recv(100) == _WORDS.pack(os.CLD_KILLED, signal.SIGKILL)
        for number in (signal.SIGTERM, signal.SIGKILL):  # when it has ended, its number may be another process's
            channel.send(_WORDS.pack(0, number))
            channel.send(_WORDS.pack(1, 0))
        assert process.poll() is None
        assert eventually(lambda: not Path(f"/proc/{command}").exists())


def test_the_reaper_does_not_wait_for_a_process_that_reads_no_reports() -> None:
    with helper(_REAPER, socket.SOCK_SEQPACKET) as (channel, process):
        assert channel.recv(100) == bytes(8)
        command = command_of(process)
        channel.setblocking(False)
        for _ in range(3000):
            for number in (signal.SIGSTOP, signal.SIGCONT):
                with suppress(BlockingIOError):
                    channel.send(_WORDS.pack(0, number))
        channel.setblocking(True)
        channel.send(_WORDS.pack(2, 0))
        assert process.wait(SOON) == 0
        assert not Path(f"/proc/{command}").exists()
