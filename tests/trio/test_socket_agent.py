"""The process that makes sockets in a guest's network namespace."""

from __future__ import annotations

import ctypes
import errno
import itertools
import os
import resource
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from sansnet_trio.guest.command import CommandGuest
from sansnet_trio.guest.plan import GuestPlan
from sansnet_trio.guest.socket_agent import TIMEOUT, NoAgent, SocketAgent, SocketAgents, StartedAgent
from sansnet_trio.linux import syscalls
from tests.lab.namespaces import Namespace, eventually, held_namespace

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("one_thread")]

PR_GET_DUMPABLE = 3  # linux/prctl.h
STREAM, DATAGRAM = socket.SOCK_STREAM, socket.SOCK_DGRAM


def entering(namespace: Namespace) -> Callable[[], None]:
    def join() -> None:
        with open(f"/proc/{namespace.pid}/ns/net") as network:
            syscalls.setns(network.fileno(), syscalls.CLONE_NEWNET)

    return join


def check_hidden() -> None:
    """Raise if other processes of the same user may trace this one."""
    if ctypes.CDLL(None).prctl(PR_GET_DUMPABLE):
        raise OSError(errno.EBADE, "processes of the guest may trace this process")


def network_of(pid: int) -> str:
    return os.readlink(f"/proc/{pid}/ns/net")


def test_sockets_belong_to_the_guests_network_and_we_do_not() -> None:
    with held_namespace() as namespace:
        before = os.readlink("/proc/self/ns/net")
        agent = SocketAgent.fork(entering(namespace))
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


def test_sockets_are_non_blocking_closed_on_exec_and_of_the_requested_kind() -> None:
    agent = SocketAgent.fork(lambda: None)
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
    agent = SocketAgent.fork(lambda: None)
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


@pytest.mark.parametrize("limit", [64, 256, 4096])
def test_the_sockets_in_stock_are_a_small_part_of_the_descriptors(limit: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    before = len(os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    agent = SocketAgent.fork(lambda: None)
    try:
        agents_own = len(os.listdir("/proc/self/fd")) - before
        for _ in range(20):
            agent.socket(socket.AF_INET, STREAM).close()
            assert len(os.listdir("/proc/self/fd")) - before - agents_own <= min(limit // 64 * 2, 24)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        agent.close()


def test_it_keeps_only_its_channel_and_blocks_all_signals() -> None:
    agent = SocketAgent.fork(lambda: None)
    try:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGTSTP):
            os.kill(agent.pid, number)
        agent.socket(socket.AF_INET, STREAM).close()
        assert eventually(lambda: len(os.listdir(f"/proc/{agent.pid}/fd")) == 1)  # it closes the sockets that it sent
        assert os.getsid(agent.pid) == agent.pid
    finally:
        agent.close()


def test_its_memory_is_hidden_before_it_enters_the_namespace() -> None:
    SocketAgent.fork(check_hidden).close()


def test_closing_it_leaves_no_process_and_no_descriptor() -> None:
    before = os.listdir("/proc/self/fd")
    agent = SocketAgent.fork(lambda: None)
    agent.socket(socket.AF_INET, STREAM).close()
    agent.close()
    agent.close()
    assert not Path(f"/proc/{agent.pid}").exists()
    assert os.listdir("/proc/self/fd") == before


def test_an_unsupported_socket_is_an_error_and_the_agent_goes_on() -> None:
    agent = SocketAgent.fork(lambda: None)
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
        SocketAgent.fork(refuse)
    assert os.listdir("/proc/self/fd") == before


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_an_agent_that_does_not_answer_is_an_error_soon(number: signal.Signals) -> None:
    agent = SocketAgent.fork(lambda: None)
    try:
        disturb(agent.pid, number)
        started = time.monotonic()
        with pytest.raises(NoAgent):
            agent.socket(socket.AF_INET, STREAM)
        assert time.monotonic() - started < TIMEOUT + 1
    finally:
        agent.close()
    assert not Path(f"/proc/{agent.pid}").exists()


def disturb(pid: int, number: signal.Signals) -> None:
    """Stop or kill a child, and wait for that."""
    os.kill(pid, number)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WSTOPPED | os.WNOWAIT)


def of(agents: SocketAgents) -> int:
    """The process id of the present agent."""
    return int(os.readlink(agents.directory).removeprefix("/proc/"))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_an_agent_that_does_not_answer_is_replaced_at_once(number: signal.Signals) -> None:
    before = os.listdir("/proc/self/fd")
    agents = SocketAgents(lambda: None)
    try:
        agents.start()
        first = of(agents)
        disturb(first, number)
        agents.socket(socket.AF_INET, STREAM).close()
        assert of(agents) != first
        assert not Path(f"/proc/{first}").exists()
    finally:
        agents.close()
    assert os.listdir("/proc/self/fd") == before


def test_the_directory_belongs_to_a_running_agent() -> None:
    agents = SocketAgents(lambda: None)
    try:
        first = of(agents)
        disturb(first, signal.SIGKILL)
        assert Path(agents.directory, "net/tcp").exists()
        assert of(agents) != first
    finally:
        agents.close()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_repeated_failures_delay_the_next_agent(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, number: signal.Signals
) -> None:
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", clock)
    forked: list[float] = []

    def join() -> None:
        os.kill(os.getpid(), number)

    agents = SocketAgents(join)
    start = agents.start_agent

    def counted() -> StartedAgent:
        forked.append(clock.now)
        return start()

    agents.start_agent = counted
    for _ in range(1000):
        with pytest.raises(NoAgent):
            agents.socket(socket.AF_INET, STREAM)
        clock.now += 0.25
    agents.close()
    pauses = [round(later - earlier, 2) for earlier, later in itertools.pairwise(forked)]
    assert pauses == [0.25, 1, 2, 4, 8, 16, 32, 64, 64]
    assert [record.name for record in caplog.records] == ["sansnet"]


class Clock:
    """A clock that the test moves."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_after_a_minute_without_failures_the_count_starts_again(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", clock)
    agents = SocketAgents(lambda: None)
    try:
        for _ in range(4):
            killed = of(agents)
            disturb(killed, signal.SIGKILL)
            assert of(agents) != killed  # without a pause
            clock.now += 61
    finally:
        agents.close()


def test_waiting_for_an_agent_that_may_not_be_killed_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = SocketAgent.fork(lambda: None)
    disturb(agent.pid, signal.SIGSTOP)

    def refuse(pid: int, number: int) -> None:
        raise PermissionError(errno.EPERM, "no")

    with monkeypatch.context() as patched:
        patched.setattr(signal, "pidfd_send_signal", refuse)
        started = time.monotonic()
        agent.close()
        assert time.monotonic() - started < 5
    os.kill(agent.pid, signal.SIGKILL)
    os.waitpid(agent.pid, 0)


def test_it_ends_with_its_parent() -> None:
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        agent = SocketAgent.fork(lambda: None)
        os.write(writer, str(agent.pid).encode())
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    status = Path(f"/proc/{int(os.read(reader, 20))}/status")
    os.close(reader)
    os.close(writer)
    assert eventually(lambda: not status.exists() or "zombie" in status.read_text())


@pytest.mark.parametrize("with_background_process", [False, True], ids=["alone", "beside something left over"])
def test_a_guest_makes_sockets_until_its_command_ends(with_background_process: bool) -> None:
    async def main() -> None:
        command = ["sh", "-c", "sleep 60 & exit 0"] if with_background_process else ["true"]
        with CommandGuest.fork(command, lambda: (GuestPlan(), None)) as guest:
            ready = await guest.ready()
            os.close(ready.tap)
            with guest.socket(socket.AF_INET, STREAM) as listener:
                listener.bind(("127.0.0.1", 80))
                agent = int(Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()[-1])
                assert network_of(agent) == network_of(guest.pid)
                guest.start()
                with trio.fail_after(10):
                    assert await guest.wait() == 0
                    await guest.end_remaining()
            assert not Path(f"/proc/{agent}").exists()
            with pytest.raises(ProcessLookupError, match="has ended"):
                guest.socket(socket.AF_INET, STREAM)

    trio.run(main)
