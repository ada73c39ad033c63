"""A driver and its memory: see `sansnet_trio.shortage`."""

from __future__ import annotations

import errno
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from sansnet_core import (
    DecideFlow,
    Endpoint,
    OpenDatagram,
    OpenStream,
    Refuse,
    SendDatagram,
    SendStream,
    ShutdownStream,
    SocketId,
)
from sansnet_trio.host.poller import Handler
from sansnet_trio.host.sockets import HostSockets
from sansnet_trio.linux import memory
from sansnet_trio.linux.reserved_ports import parse_reserved_ports
from sansnet_trio.shortage import MemoryShortage
from tests.trio.fake import Bench, FakeNetwork
from tests.trio.test_driver import ForgetfulLink, run, running, until

LARGE = bytes(1000)


class Steps:
    """A shortage, with what it called."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.shortage = MemoryShortage(lambda: self.calls.append("changed"), lambda now: self.calls.append("shed"))


def test_there_is_no_shortage_at_first() -> None:
    steps = Steps()
    assert not steps.shortage.is_on
    assert steps.shortage.limit(64) == 64
    assert steps.shortage.taken([LARGE]) == [LARGE]
    assert steps.shortage.next_deadline() == float("inf")


def test_small_frames_are_taken_until_there_is_memory_again() -> None:
    steps = Steps()
    steps.shortage.failed(1.0)
    assert steps.shortage.limit(64) < 64
    assert steps.shortage.taken([LARGE, b"small"]) == [b"small"]
    steps.shortage.handle_deadline(steps.shortage.next_deadline())
    assert steps.calls == ["changed", "changed"]
    assert steps.shortage.taken([LARGE]) == [LARGE]


def test_connections_are_reset_if_memory_stays_short() -> None:
    steps = Steps()
    for number in range(25):
        steps.shortage.failed(float(number))
    assert steps.calls == ["changed", "shed", "shed"]


def test_a_reset_without_memory_is_tried_again() -> None:
    def fail(now: float) -> None:
        raise MemoryError

    shortage = MemoryShortage(lambda: None, fail)
    for number in range(25):
        shortage.failed(float(number))


def test_a_driver_reads_no_socket_while_memory_is_short() -> None:
    async def body() -> None:
        network, link = FakeNetwork(), ForgetfulLink()
        async with running(network, link) as driver:
            link.guest.send(b"lost")
            await until(lambda: driver._shortage.is_on and driver._context.blocked)
            link.short = False
            link.guest.send(LARGE)
            link.guest.send(b"small")
            await until(lambda: network.received == [b"small"])
            await until(lambda: not driver._shortage.is_on and not driver._context.blocked)
            link.guest.send(LARGE)
            await until(lambda: network.received == [b"small", LARGE])

    run(body)


def test_the_connections_that_hold_most_are_reset_first() -> None:
    with Bench() as bench, socket.create_server(("127.0.0.1", 0)) as listener:
        host = Endpoint(b"\x7f\0\0\1", listener.getsockname()[1])
        for number in range(8):
            bench.order(OpenStream(SocketId(number), host, None))
        bench.wait(lambda: len(bench.network.named("stream_connected")) == 8)
        bench.order(SendStream(SocketId(5), bytes(32 << 20)))
        bench.sockets.shed(1.0)
        failed = [fact[1:3] for fact in bench.network.named("stream_failed")]
        assert failed[0] == (SocketId(5), errno.ENOMEM)
        assert len(failed) == 2, "one in eight, and one more"
        assert len(bench.sockets) == 6
        for _ in range(10):
            bench.sockets.shed(1.0)
        assert len(bench.sockets) == 0


class LargeData(bytes):
    """Data that there is no memory for."""

    def __len__(self) -> int:
        raise MemoryError


class FullHandlers(dict[int, Handler]):
    """Handlers that there is no memory for."""

    def __setitem__(self, fd: int, handler: Handler) -> None:
        raise MemoryError


@contextmanager
def connected(bench: Bench, *names: int) -> Iterator[list[socket.socket]]:
    """Streams of the network with these names, and the remote ends of their connections."""
    with socket.create_server(("127.0.0.1", 0)) as listener, ExitStack() as stack:
        remotes = []
        for name in names:
            bench.order(OpenStream(SocketId(name), Endpoint(b"\x7f\0\0\1", listener.getsockname()[1]), None))
            remotes.append(stack.enter_context(listener.accept()[0]))
            remotes[-1].settimeout(5)
        bench.wait(lambda: len(bench.network.named("stream_connected")) == len(names))
        yield remotes


def failures(bench: Bench) -> list[tuple[SocketId, int]]:
    return [fact[1:3] for fact in bench.network.named("stream_failed")]


def test_a_stream_without_memory_for_its_data_is_reset_and_the_others_go_on() -> None:
    with Bench() as bench, connected(bench, 1, 2) as (first, second):
        with pytest.raises(MemoryError):
            bench.order(
                SendStream(SocketId(1), b"data"),
                SendStream(SocketId(1), LargeData(b"more")),
                SendStream(SocketId(2), b"data of another"),
                ShutdownStream(SocketId(2)),
            )
        with pytest.raises(ConnectionResetError):
            first.recv(100)
        assert second.recv(100) == b"data of another"
        assert second.recv(100) == b"", "what was ordered after it is carried out as well"
        assert failures(bench) == [(SocketId(1), errno.ENOMEM)]
        assert len(bench.sockets) == 1


def test_a_stream_is_reset_if_its_data_were_read_but_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    with Bench() as bench, connected(bench, 1) as [remote]:
        monkeypatch.setattr(bench.network, "stream_received", fail)
        remote.send(b"data")
        with pytest.raises(MemoryError):
            bench.until("stream_ended")
        with pytest.raises(ConnectionResetError):
            remote.recv(100)
        assert failures(bench) == [(SocketId(1), errno.ENOMEM)]
        assert len(bench.sockets) == 0


@pytest.mark.filterwarnings("error")
def test_a_stream_that_there_is_no_memory_for_is_closed_at_once() -> None:
    with Bench() as bench, socket.create_server(("127.0.0.1", 0)) as listener:
        handlers, bench.poller.handlers = bench.poller.handlers, FullHandlers()
        host = Endpoint(b"\x7f\0\0\1", listener.getsockname()[1])
        with pytest.raises(MemoryError):
            bench.order(OpenStream(SocketId(1), host, None))
        accepted, _ = listener.accept()
        with accepted:
            accepted.settimeout(5)
            assert accepted.recv(100) == b""
        assert failures(bench) == [(SocketId(1), errno.ENOMEM)]
        with socket.create_connection(listener.getsockname()):
            accepted, _ = listener.accept()
            with accepted, pytest.raises(MemoryError):
                bench.sockets.adopt_stream(SocketId(2), accepted, 0.0)
        assert failures(bench)[1:] == [(SocketId(2), errno.ENOMEM)]
        assert len(bench.sockets) == 0
        bench.poller.handlers = handlers


def test_datagrams_that_there_is_no_memory_for_are_opened_with_the_first() -> None:
    with Bench() as bench, socket.socket(type=socket.SOCK_DGRAM) as host:
        host.bind(("127.0.0.1", 0))
        host.settimeout(5)
        handlers, bench.poller.handlers = bench.poller.handlers, FullHandlers()
        with pytest.raises(MemoryError):
            bench.order(OpenDatagram(SocketId(1), Endpoint(bytes(4), 0)))
        bench.poller.handlers = handlers
        bench.order(SendDatagram(SocketId(1), Endpoint(b"\x7f\0\0\1", host.getsockname()[1]), b"data", 0, 64, 0))
        assert host.recv(100) == b"data"


def test_a_question_that_there_is_no_memory_for_is_answered() -> None:
    class Decisions:
        def ask(self, order: DecideFlow) -> None:
            raise MemoryError

        def withdraw(self, socket: SocketId) -> None:
            raise AssertionError

    with Bench() as bench:
        sockets = HostSockets(bench.context, Decisions())
        question = DecideFlow(SocketId(1), 6, Endpoint(bytes(4), 1), Endpoint(bytes(4), 2), inbound=False)
        with pytest.raises(MemoryError):
            sockets.apply([question], 0.0)
        assert bench.network.named("flow_decided") == [("flow_decided", SocketId(1), Refuse())]


# the default of --memory

MEGA = 1 << 20


def place(directory: Path, cgroup: str, mounts: list[tuple[str, str, str, str]]) -> str:
    """A directory like that of a process in /proc. A mount is: root, mount point, type, options."""
    (directory / "cgroup").write_text(cgroup)
    lines = [
        f"{number} 1 0:{number} {root} {point} rw,nosuid shared:{number} - {kind} {kind} {options}\n"
        for number, (root, point, kind, options) in enumerate(mounts)
    ]
    (directory / "mountinfo").write_text("".join(lines))
    return str(directory)


def limit(directory: Path, name: str, text: str) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / name).write_text(f"{text}\n")


def test_the_smallest_limit_of_nested_groups_counts(tmp_path: Path) -> None:
    tree = tmp_path / "sys fs"
    limit(tree, "memory.max", "max")
    limit(tree / "user.slice", "memory.max", str(64 * MEGA))
    limit(tree / "user.slice/session", "memory.max", "max")
    limit(tree / "user.slice/session", "memory.high", str(96 * MEGA))
    point = str(tree).replace(" ", "\\040")
    proc = place(tmp_path, "0::/user.slice/session\n", [("/", point, "cgroup2", "rw,nsdelegate")])
    assert memory.cgroup_limit(proc) == 64 * MEGA
    limit(tree / "user.slice/session", "memory.high", str(32 * MEGA))
    assert memory.cgroup_limit(proc) == 32 * MEGA


def test_the_first_version_of_groups(tmp_path: Path) -> None:
    limit(tmp_path / "memory", "memory.limit_in_bytes", "9223372036854771712")
    limit(tmp_path / "memory/docker/1", "memory.limit_in_bytes", str(MEGA))
    limit(tmp_path / "cpu/docker/1", "memory.limit_in_bytes", "1")
    mounts = [
        ("/", str(tmp_path / "cpu"), "cgroup", "rw,cpu,cpuacct"),
        ("/", str(tmp_path / "memory"), "cgroup", "rw,memory"),
    ]
    proc = place(tmp_path, "4:cpu,cpuacct:/docker/1\n3:memory:/docker/1\n0::/\n", mounts)
    assert memory.cgroup_limit(proc) == MEGA


@pytest.mark.parametrize("path", ["/", "/docker/1", "/../other"])
def test_a_container_sees_its_own_group_as_the_root(tmp_path: Path, path: str) -> None:
    limit(tmp_path / "own", "memory.max", str(MEGA))
    proc = place(tmp_path, f"0::{path}\n", [("/docker/1", str(tmp_path / "own"), "cgroup2", "rw")])
    assert memory.cgroup_limit(proc) == MEGA


def test_no_limit_that_can_be_read(tmp_path: Path) -> None:
    assert memory.cgroup_limit(str(tmp_path)) is None
    proc = place(tmp_path, "0::/gone\n", [("/", str(tmp_path / "gone"), "cgroup2", "rw")])
    assert memory.cgroup_limit(proc) is None


@pytest.mark.parametrize("kind", ["as", "data"])
def test_the_limits_of_the_process_count(kind: str) -> None:
    code = "from sansnet_trio.linux.memory import for_guest; print(for_guest())"
    command = ["prlimit", f"--{kind}={160 * MEGA}", "--", sys.executable, "-c", code]
    assert int(subprocess.run(command, check=True, capture_output=True, text=True).stdout) == 32 * MEGA


def test_the_list_of_reserved_ports() -> None:
    assert parse_reserved_ports("\n") == ()
    assert parse_reserved_ports("8080,30000-30002\n") == (8080, 30000, 30001, 30002)
