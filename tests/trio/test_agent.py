"""The process that makes sockets of a guest's network."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from sansnet_trio import syscalls
from sansnet_trio.agent import Agent
from sansnet_trio.namespace import Guest, GuestPlan
from tests.lab.namespaces import Namespace, eventually, held_namespace

pytestmark = pytest.mark.kernel

PR_GET_DUMPABLE = 3  # linux/prctl.h
STREAM, DATAGRAM = socket.SOCK_STREAM, socket.SOCK_DGRAM


def entering(namespace: Namespace) -> Callable[[], None]:
    def join() -> None:
        with open(f"/proc/{namespace.pid}/ns/net") as network:
            syscalls.setns(network.fileno(), syscalls.CLONE_NEWNET)

    return join


def check_hidden() -> None:
    """Raise if this process may be traced by others of its user."""
    if ctypes.CDLL(None).prctl(PR_GET_DUMPABLE):
        raise OSError(errno.EBADE, "whoever is in the guest may trace this process")


def network_of(pid: int) -> str:
    return os.readlink(f"/proc/{pid}/ns/net")


def test_sockets_belong_to_the_guests_network_and_we_do_not() -> None:
    with held_namespace() as namespace:
        before = os.readlink("/proc/self/ns/net")
        agent = Agent.fork(entering(namespace))
        try:
            with agent.socket(socket.AF_INET, STREAM) as listener, agent.socket(socket.AF_INET6, DATAGRAM) as datagram:
                listener.bind(("127.0.0.1", 0))
                listener.listen()
                datagram.bind(("::1", 0))
                port = listener.getsockname()[1]
                namespace.connect("127.0.0.1", port).close()
                assert f"127.0.0.1:{port}" in namespace.shell("ss --no-header --all --numeric --tcp").stdout
                assert f"[::1]:{datagram.getsockname()[1]}" in namespace.shell("ss --no-header -aun").stdout
            assert network_of(agent.pid) == network_of(namespace.pid) != before
        finally:
            agent.close()
        assert os.readlink("/proc/self/ns/net") == before


def test_sockets_are_non_blocking_closed_on_exec_and_of_the_kind_that_was_asked_for() -> None:
    agent = Agent.fork(lambda: None)
    try:
        for family in (socket.AF_INET, socket.AF_INET6):
            for kind in (STREAM, DATAGRAM):
                with agent.socket(family, kind) as made:
                    assert (made.family, made.type, made.gettimeout()) == (family, kind, 0.0)
                    assert not os.get_blocking(made.fileno())
                    assert not os.get_inheritable(made.fileno())
    finally:
        agent.close()


def test_many_sockets_at_once() -> None:
    agent = Agent.fork(lambda: None)
    made: list[socket.socket] = []
    try:
        for _ in range(100):
            made.append(agent.socket(socket.AF_INET, STREAM))
            made.append(agent.socket(socket.AF_INET, DATAGRAM))
        assert len({one.fileno() for one in made}) == 200
        assert [one.type for one in made] == [STREAM, DATAGRAM] * 100
    finally:
        agent.close()
        for one in made:
            one.close()


def test_it_holds_its_channel_and_nothing_else_and_hears_no_signal() -> None:
    agent = Agent.fork(lambda: None)
    try:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGTSTP):
            os.kill(agent.pid, number)
        agent.socket(socket.AF_INET, STREAM).close()
        assert eventually(lambda: len(os.listdir(f"/proc/{agent.pid}/fd")) == 1)  # it closes what it handed out
        assert os.getsid(agent.pid) == agent.pid
    finally:
        agent.close()


def test_it_shows_its_memory_to_nobody_from_before_it_is_the_guests() -> None:
    Agent.fork(check_hidden).close()


def test_closing_it_leaves_no_process_and_no_descriptor() -> None:
    before = os.listdir("/proc/self/fd")
    agent = Agent.fork(lambda: None)
    agent.socket(socket.AF_INET, STREAM).close()
    agent.close()
    agent.close()
    assert not Path(f"/proc/{agent.pid}").exists()
    assert os.listdir("/proc/self/fd") == before


def test_what_the_guest_cannot_have_is_an_error_and_no_end() -> None:
    agent = Agent.fork(lambda: None)
    try:
        with pytest.raises(OSError, match="not supported") as caught:
            agent.socket(socket.AF_INET, socket.SOCK_SEQPACKET)
        assert caught.value.errno == errno.ESOCKTNOSUPPORT
        agent.socket(socket.AF_INET, STREAM).close()
    finally:
        agent.close()


def test_a_namespace_that_cannot_be_entered_is_an_error() -> None:
    def refuse() -> None:
        raise PermissionError(errno.EPERM, "no")

    before = os.listdir("/proc/self/fd")
    with pytest.raises(PermissionError):
        Agent.fork(refuse)
    assert os.listdir("/proc/self/fd") == before


def test_an_agent_that_was_killed_is_an_error() -> None:
    agent = Agent.fork(lambda: None)
    try:
        os.kill(agent.pid, signal.SIGKILL)
        os.waitid(os.P_PID, agent.pid, os.WEXITED | os.WNOWAIT)
        with pytest.raises(OSError):  # noqa: PT011 - which one depends on who notices first
            agent.socket(socket.AF_INET, STREAM)
    finally:
        agent.close()


def test_it_ends_with_us() -> None:
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        agent = Agent.fork(lambda: None)
        os.write(writer, str(agent.pid).encode())
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    status = Path(f"/proc/{int(os.read(reader, 20))}/status")
    os.close(reader)
    os.close(writer)
    assert eventually(lambda: not status.exists() or "zombie" in status.read_text())


@pytest.mark.parametrize("leftover", [False, True], ids=["alone", "beside something left over"])
def test_a_guest_makes_sockets_until_its_command_ends(leftover: bool) -> None:
    async def main() -> None:
        command = ["sh", "-c", "sleep 60 & exit 0"] if leftover else ["true"]
        with Guest.fork(command, lambda: (GuestPlan(), None)) as guest:
            ready = await guest.ready()
            os.close(ready.tap)
            with guest.socket(socket.AF_INET, STREAM) as listener:
                listener.bind(("127.0.0.1", 80))
                agent = int(Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()[-1])
                assert network_of(agent) == network_of(guest.pid)
                guest.start()
                with trio.fail_after(10):
                    assert await guest.wait() == 0
                    await guest.end_leftovers()
            assert not Path(f"/proc/{agent}").exists()
            with pytest.raises(ProcessLookupError, match="has ended"):
                guest.socket(socket.AF_INET, STREAM)

    trio.run(main)
