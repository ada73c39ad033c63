"""The broker: a process that opens files and the like for one that may not."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import pickle
import signal
import socket
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
import trio

from sansnet_trio.broker.agents import AgentJob, start_by
from sansnet_trio.broker.client import Broker
from sansnet_trio.broker.files import BrokeredFailureFiles, failure_handlers, make_recordings_by, recording_handlers
from sansnet_trio.broker.news import HostChanged, Trouble
from sansnet_trio.broker.process import Duties, WatchedHost
from sansnet_trio.broker.requests import Answer, Request, Unanswered
from sansnet_trio.guest.live_change import GuestChange, LiveGuest
from sansnet_trio.guest.plan import GuestPlan
from sansnet_trio.guest.socket_agent import SocketAgents
from sansnet_trio.hostinfo import HostInfo, Resolvers
from sansnet_trio.linux import own_names
from sansnet_trio.linux.own_names import OwnName
from sansnet_trio.linux.unix_socket import UnixSocket
from sansnet_trio.plan.options import NetworkOptions
from sansnet_trio.recording.failures import MAX_FILES
from sansnet_trio.recording.file import RecordingFile

SOON = 10.0
PLAN = GuestPlan(interface="eth7", mtu=1400)


@pytest.fixture(autouse=True)
def no_names_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Brokers of this file leave the names of other tests alone."""
    monkeypatch.setattr(own_names, "_names", [])


def in_trio(work: Callable[[], Any]) -> Any:
    async def main() -> Any:
        return work()

    return trio.run(main)


def eventually(found: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + SOON
    while not found():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def pid_of(broker: Broker) -> int:
    lines = Path(f"/proc/self/fdinfo/{broker._process}").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pid:"))


def open_files(pid: int) -> set[str]:
    found = set()
    for name in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            found.add(os.readlink(f"/proc/{pid}/fd/{name}"))
    return found


def read_status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


def with_broker(duties: Duties, work: Callable[[Broker], Any]) -> Any:
    def start() -> Any:
        with Broker(duties) as broker:
            return work(broker)

    return in_trio(start)


# the process


def test_it_has_no_privileges_and_only_the_descriptors_that_it_needs(tmp_path: Path) -> None:
    with (tmp_path / "secret").open("w") as secret:

        def check(broker: Broker) -> None:
            pid = pid_of(broker)
            assert eventually(lambda: read_status(pid)["NoNewPrivs"] == "1")
            assert eventually(lambda: secret.name not in open_files(pid))
            assert {found.partition(":")[0] for found in open_files(pid)} == {"socket", "/"}
            found = read_status(pid)
            assert {found[name] for name in ("CapEff", "CapPrm", "CapInh", "CapAmb")} == {"0" * 16}
            blocked = int(found["SigBlk"], 16)
            assert all(blocked >> number - 1 & 1 for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP))
            assert os.getsid(pid) == pid
            assert os.readlink(f"/proc/{pid}/cwd") == "/"

        with_broker(Duties(), check)
        assert not secret.closed


def test_it_ends_with_its_socket_and_is_reaped() -> None:
    pids: list[int] = []
    with_broker(Duties(), lambda broker: pids.append(pid_of(broker)))
    assert not Path(f"/proc/{pids[0]}").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGTSTP, signal.SIGUSR1])
def test_no_signal_but_kill_and_stop_disturbs_it(number: signal.Signals) -> None:
    def check(broker: Broker) -> None:
        os.kill(pid_of(broker), number)
        assert broker.ask(Request.NEXT_RECORDING, SOON).result == "answer"

    with_broker(Duties(handlers={Request.NEXT_RECORDING: lambda: Answer("answer")}), check)


# requests


def test_a_request_is_answered_with_descriptors(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("contents")

    def handle() -> Answer:
        return Answer(("a", 1), (os.open(tmp_path / "file", os.O_RDONLY),))

    def check(broker: Broker) -> None:
        for _ in range(50):  # the broker keeps none of them
            answer = broker.ask(Request.POLICY_FILE, SOON)
            assert answer.result == ("a", 1)
            [descriptor] = answer.expect(1)
            assert os.read(descriptor, 20) == b"contents"
            assert not os.get_inheritable(descriptor)
            os.close(descriptor)
        assert len(os.listdir(f"/proc/{pid_of(broker)}/fd")) < 10

    with_broker(Duties(handlers={Request.POLICY_FILE: handle}), check)


def test_an_error_of_the_broker_is_an_error_here() -> None:
    def refuse() -> Answer:
        raise PermissionError(errno.EACCES, "no")

    def check(broker: Broker) -> None:
        with pytest.raises(PermissionError, match="no"):
            broker.ask(Request.POLICY_FILE, SOON)

    with_broker(Duties(handlers={Request.POLICY_FILE: refuse}), check)


def test_a_request_that_is_none_has_no_effect() -> None:
    """Only those of the list that this command needs do something; pickles are not even read."""

    class Harmful:
        def __reduce__(self) -> Any:
            return os._exit, (1,)

    def check(broker: Broker) -> None:
        channel = broker._channels.requests
        for data in (b"\0", b"\xff" * 5, b"\x06\0\0\0\0", pickle.dumps(Harmful()), bytes(100_000)):
            channel.send(data)
        assert broker.ask(Request.POLICY_FILE, SOON).result == "answer"
        with pytest.raises(Unanswered):
            broker.ask(Request.SOCKET_AGENT, 0.2)  # this broker was given no agents

    with_broker(Duties(handlers={Request.POLICY_FILE: lambda: Answer("answer")}), check)


def test_a_flood_of_requests_ends_when_it_ends() -> None:
    def check(broker: Broker) -> None:
        channel = broker._channels.requests
        for _ in range(10_000):
            with suppress(BlockingIOError):
                channel.send(b"\4\0\0\0\0")  # the answers are not read meanwhile
        assert eventually(lambda: _answers(broker))

    with_broker(Duties(handlers={Request.POLICY_FILE: lambda: Answer("answer")}), check)


def _answers(broker: Broker) -> bool:
    try:
        return bool(broker.ask(Request.POLICY_FILE, 1.0).result == "answer")
    except Unanswered:
        return False


def test_waiting_for_a_stopped_broker_has_a_bound_and_a_late_answer_is_dropped() -> None:
    numbers = iter(range(100))

    def check(broker: Broker) -> None:
        assert broker.ask(Request.POLICY_FILE, SOON).result == 0
        os.kill(pid_of(broker), signal.SIGSTOP)
        began = time.monotonic()
        with pytest.raises(Unanswered):
            broker.ask(Request.POLICY_FILE, 0.2)
        assert time.monotonic() - began < 5
        os.kill(pid_of(broker), signal.SIGCONT)
        assert broker.ask(Request.POLICY_FILE, SOON).result == 2  # and not 1
        os.kill(pid_of(broker), signal.SIGSTOP)

    began = time.monotonic()
    with_broker(Duties(handlers={Request.POLICY_FILE: lambda: Answer(next(numbers))}), check)
    assert time.monotonic() - began < 20  # its end has a bound, too


def test_if_it_is_killed_there_is_one_warning_and_requests_fail(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        with Broker(Duties(handlers={Request.POLICY_FILE: Answer})) as broker:
            os.kill(pid_of(broker), signal.SIGKILL)
            with trio.fail_after(SOON):
                await broker.run(follow)
            with pytest.raises(Unanswered):
                broker.ask(Request.POLICY_FILE, SOON)

    with caplog.at_level(logging.WARNING):
        trio.run(main)
    assert len(caplog.records) == 1
    assert "start sansnet again" in caplog.text


async def follow(_: HostChanged | Trouble) -> None:
    pass


# names


def test_it_removes_the_names_that_we_made_when_we_end(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with closing(UnixSocket(str(path))):
        with_broker(Duties(), lambda broker: None)
        assert not path.exists()


def test_it_removes_them_even_if_we_are_killed(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(reader)
            with own_names.temporary_directory(str(tmp_path)) as directory:
                made = UnixSocket(f"{directory}/socket")
                brokers = in_trio(lambda: (Broker(Duties()), made))
                os.write(writer, b"+")
                time.sleep(60)
                assert brokers
        finally:
            os._exit(1)
    os.close(writer)
    assert os.read(reader, 1) == b"+"
    assert list(tmp_path.iterdir())
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    os.close(reader)
    assert eventually(lambda: not list(tmp_path.iterdir()))


def test_a_name_that_another_program_has_taken_stays(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with closing(UnixSocket(str(path))) as ours:

        def replace(broker: Broker) -> None:
            path.unlink()
            path.write_text("another file")

        with_broker(Duties(), replace)
        ours.close()
    assert path.read_text() == "another file"


def test_a_name_is_left_alone_here_once_the_broker_has_it(tmp_path: Path) -> None:
    name = OwnName(str(tmp_path / "name"))

    def check(broker: Broker) -> None:
        (tmp_path / "name").touch()
        name.remove()
        assert (tmp_path / "name").exists()

    with_broker(Duties(), check)
    assert not (tmp_path / "name").exists()


# files


def begin_with(file: RecordingFile, text: bytes) -> None:
    file.begin(lambda write: write(text))


def test_a_recording_begins_its_next_file(tmp_path: Path) -> None:
    path = tmp_path / "net.rec"
    with closing(RecordingFile(path)) as file:

        def check(broker: Broker) -> None:
            make_recordings_by(broker, file)
            for text in (b"first", b"second"):
                begin_with(file, text)
            with pytest.raises(OSError, match="another process records"):
                RecordingFile(path)  # the lock has come with the descriptor

        with_broker(Duties(handlers=recording_handlers(file.path)), check)
    assert path.read_bytes() == b"second"
    assert (tmp_path / "net.rec.1").read_bytes() == b"first"
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_new_recording_removes_the_earlier_one(tmp_path: Path) -> None:
    for name in ("net.rec", "net.rec.1"):
        (tmp_path / name).write_bytes(b"old")
    with closing(RecordingFile(tmp_path / "net.rec")) as file:

        def check(broker: Broker) -> None:
            make_recordings_by(broker, file)
            begin_with(file, b"first")

        with_broker(Duties(handlers=recording_handlers(file.path)), check)
    assert os.listdir(tmp_path) == ["net.rec"]
    assert (tmp_path / "net.rec").read_bytes() == b"first"


def test_a_recording_begins_again_in_its_file_if_the_broker_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "net.rec"
    with closing(RecordingFile(path)) as file:

        def check(broker: Broker) -> None:
            make_recordings_by(broker, file)
            os.kill(pid_of(broker), signal.SIGKILL)
            for text in (b"first", b"second"):
                begin_with(file, text)

        with_broker(Duties(handlers=recording_handlers(file.path)), check)
    assert path.read_bytes() == b"second"
    assert os.listdir(tmp_path) == ["net.rec"]


def test_few_files_of_failures_are_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))

    def check(broker: Broker) -> None:
        files = BrokeredFailureFiles(broker)
        made: list[str] = []

        def make() -> None:
            path, descriptor = files.make()
            os.write(descriptor, b"data")
            os.close(descriptor)
            made.append(path)

        for _ in range(2 * MAX_FILES):
            make()
        with pytest.raises(OSError, match="enough"):
            make()
        assert all(Path(path).read_bytes() == b"data" for path in made)

    with_broker(Duties(handlers=failure_handlers()), check)


def test_the_file_of_a_failure_is_made_in_another_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr("sansnet_trio.recording.failures.temporary", lambda: str(tmp_path / "temporary"))

    def check(broker: Broker) -> None:
        files = BrokeredFailureFiles(broker)
        first, one = files.make()
        second, two = files.make_other("the disk is full")
        assert (Path(first).parent, Path(second).parent) == (tmp_path / "state" / "sansnet", tmp_path / "temporary")
        assert (Path(first).exists(), Path(second).exists()) == (False, True)
        os.close(one)
        os.close(two)

    with_broker(Duties(handlers=failure_handlers()), check)


# socket agents


def test_it_starts_agents_and_there_is_one_at_a_time() -> None:
    agents = SocketAgents(lambda: None)

    def check(broker: Broker) -> None:
        start_by(broker, agents)
        with closing(agents):
            agents.socket(socket.AF_INET, socket.SOCK_STREAM).close()
            [first] = children_of(pid_of(broker))
            os.kill(first, signal.SIGKILL)
            assert eventually(lambda: not Path(f"/proc/{first}").exists())  # it is reaped at once
            assert eventually(lambda: _makes(agents) and bool(children_of(pid_of(broker))))
            assert len(children_of(pid_of(broker))) == 1
            for _ in range(20):
                answer = broker.ask(Request.SOCKET_AGENT, SOON)
                assert len(children_of(pid_of(broker))) == 1
                for descriptor in answer.descriptors:
                    os.close(descriptor)

    with_broker(Duties(agents=agents), check)


@pytest.mark.usefixtures("one_thread")
def test_without_a_descriptor_for_an_agent_nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: int) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    job = AgentJob(SocketAgents(lambda: None))
    before = os.listdir("/proc/self/fd")
    monkeypatch.setattr(os, "dup", refuse)
    with pytest.raises(OSError, match="Too many open files"):
        job.start()
    job.close()
    assert os.listdir("/proc/self/fd") == before


def _makes(agents: SocketAgents) -> bool:
    try:
        agents.socket(socket.AF_INET, socket.SOCK_STREAM).close()
    except OSError:
        return False
    return True


def children_of(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


# changes of the guest


def test_a_change_of_the_guest_has_a_result() -> None:
    """Here the guest cannot be entered."""

    def refuse() -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    async def main() -> None:
        with Broker(Duties(guest=(LiveGuest(refuse), PLAN))) as broker:
            for _ in range(2):
                with trio.fail_after(SOON), pytest.raises(PermissionError):
                    await broker.change(GuestChange(old=PLAN, new=PLAN))

    trio.run(main)


@pytest.mark.parametrize(
    "line",
    [
        b"\n",
        b"{}\n",
        b"[" * 100_000 + b"\n",
        json.dumps({"old": {}, "new": 1, "kept": [], "given_up": []}).encode() + b"\n",
        json.dumps({"interface": "eth0"}).encode() + b"\n",
        pickle.dumps(os._exit) + b"\n",
        b"\xff" * 1000 + b"\n",
    ],
)
def test_anything_else_ends_changes_and_nothing_more(line: bytes) -> None:
    entered = os.eventfd(0, os.EFD_NONBLOCK)
    guest = LiveGuest(lambda: os.eventfd_write(entered, 1), (entered,))

    def check(broker: Broker) -> None:
        channel = broker._channels.changes
        channel.settimeout(SOON)
        channel.sendall(line)
        assert channel.recv(100) == b""
        assert broker.ask(Request.POLICY_FILE, SOON).result == "answer"
        with pytest.raises(BlockingIOError):
            os.eventfd_read(entered)

    with_broker(Duties(guest=(guest, PLAN), handlers={Request.POLICY_FILE: lambda: Answer("answer")}), check)
    os.close(entered)


# the host


def test_a_difference_from_the_host_as_it_was_is_news() -> None:
    old = HostInfo(resolvers=Resolvers(nameservers=[b"\x01\x02\x03\x04"]))
    found: list[HostChanged | Trouble] = []

    async def main() -> None:
        watched = WatchedHost(NetworkOptions(), old, ("/etc/resolv.conf",))
        with Broker(Duties(host=watched)) as broker:
            async with trio.open_nursery() as nursery:

                async def take(news: HostChanged | Trouble) -> None:
                    found.append(news)
                    nursery.cancel_scope.cancel()

                nursery.start_soon(broker.run, take)
                nursery.cancel_scope.deadline = trio.current_time() + SOON

    trio.run(main)
    [news] = found
    assert isinstance(news, HostChanged)
    assert news.host.resolvers != old.resolvers
