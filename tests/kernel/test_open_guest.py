"""Programs that give commands and namespaces a network by `open_guest`, `run_guest` and `attach`."""

from __future__ import annotations

import errno
import gc
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

import pytest
import trio

from sansnet_core import Action, Allow, Refuse, UsageError
from sansnet_core.policy import Rule
from sansnet_core.ports import TCP, UDP, parse_all
from sansnet_trio import (
    CommandNotFound,
    ForwardError,
    Guest,
    GuestError,
    GuestNetwork,
    LinkClosed,
    NamespaceOptions,
    NewFlow,
    Verdict,
    attach,
    open_guest,
    run_guest,
)
from sansnet_trio.front.ending import LastData
from tests.lab.namespaces import eventually

ROOT: Final = Path(__file__).parent.parent.parent
OPTIONS: Final = NamespaceOptions.made_up()


def run(main: Callable[[], Awaitable[None]]) -> None:
    """Run a program within a bound of time; it leaves no descriptor and no child."""

    async def bounded() -> None:
        with trio.fail_after(30):
            await main()

    before, others = len(os.listdir("/proc/self/fd")), children()
    trio.run(bounded)
    assert len(os.listdir("/proc/self/fd")) <= before
    assert children() <= others


def children() -> set[str]:
    """The process ids of our children; other tests may have some."""
    return {pid for each in Path("/proc/self/task").glob("*/children") for pid in each.read_text().split()}


async def output(
    script: str, *, input: bytes | None = None, env: dict[str, str] | None = None, cwd: Path | None = None
) -> str:
    """The output of a shell script in a guest."""
    command = ["sh", "-c", script]
    done = await run_guest(command, OPTIONS, capture_stdout=True, input=input, env=env, cwd=cwd)
    assert done.stdout is not None
    return done.stdout.decode()


# the command


def test_a_guest_with_made_up_addresses_does_not_depend_on_the_host() -> None:
    async def main() -> None:
        text = await output(
            "ip -brief addr show eth0; ip route; ip -6 route; cat /etc/resolv.conf; ping -c 1 -W 2 10.0.2.2"
        )
        for words in ("10.0.2.15/24 fd00::15/64", "default via 10.0.2.2", "default via fd00::2", "1 received"):
            assert words in text
        assert text.count("nameserver") == text.count("nameserver 10.0.2.3") == 1

    run(main)


def test_the_block_begins_when_the_command_runs_and_tells_its_status() -> None:
    async def main() -> None:
        async with open_guest(["sh", "-c", "exit 7"], OPTIONS) as guest:
            async with trio.open_nursery() as nursery:
                for _ in range(2):
                    nursery.start_soon(guest.wait)
            assert await guest.wait() == guest.returncode == 7
            assert repr(guest) == "<Guest ['sh', '-c', 'exit 7']: ended with status 7>"

    run(main)


def test_env_cwd_and_streams_are_the_commands(tmp_path: Path) -> None:
    async def main() -> None:
        text = await output("pwd; echo $WORD; cat", input=b"hello", env={"WORD": "mine", "PATH": "/bin"}, cwd=tmp_path)
        assert text == f"{tmp_path}\nmine\nhello"
        with (tmp_path / "both").open("wb") as file:
            await run_guest(["sh", "-c", "echo out; echo err >&2"], OPTIONS, stdout=file, stderr=subprocess.STDOUT)
        assert (tmp_path / "both").read_text() == "out\nerr\n"
        done = await run_guest(["sh", "-c", "echo err >&2; exit 3"], OPTIONS, capture_stderr=True, check=False)
        assert (done.returncode, done.stderr) == (3, b"err\n")
        assert not done.stdout
        assert await output("read line || echo empty") == "empty\n"

    run(main)


def test_pipes_are_streams_of_trio() -> None:
    async def main() -> None:
        async with open_guest(["cat"], OPTIONS, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as guest:
            assert guest.stdin is not None
            assert guest.stdout is not None
            await guest.stdin.send_all(b"hello")
            assert await guest.stdout.receive_some() == b"hello"
            await guest.stdin.aclose()
            assert await guest.stdout.receive_some() == b""
            assert await guest.wait() == 0

    run(main)


def test_a_failed_command_is_an_exception() -> None:
    async def main() -> None:
        with pytest.raises(subprocess.CalledProcessError) as caught:
            await run_guest(["sh", "-c", "echo out; exit 3"], OPTIONS, capture_stdout=True)
        assert (caught.value.returncode, caught.value.output) == (3, b"out\n")
        with pytest.raises(CommandNotFound, match="nosuch: command not found"):
            await run_guest(["nosuch"], OPTIONS)
        with pytest.raises(GuestError, match="the working directory '/nosuch' cannot be entered"):
            await run_guest(["true"], OPTIONS, cwd="/nosuch")
        with pytest.raises(UsageError, match="'true' is one string"):
            await run_guest("true", OPTIONS)

    run(main)


def test_background_processes_end_with_the_block() -> None:
    async def main() -> None:
        assert (await output("sleep 60 & echo $!")).strip().isdigit()  # though it holds the pipe open

    run(main)


@pytest.mark.parametrize("script", ["exec sleep 60", "trap '' TERM; kill -STOP $$; sleep 60"])
def test_cancellation_ends_the_command(script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sansnet_trio.front.ending._GRACE", 0.5)

    async def main() -> None:
        with trio.move_on_after(0.5) as scope:
            await run_guest(["sh", "-c", script], OPTIONS)
        assert scope.cancelled_caught

    run(main)


def test_a_command_that_runs_is_ended_at_the_end_of_the_block() -> None:
    async def main() -> None:
        async with open_guest(["sleep", "60"], OPTIONS) as guest:
            assert guest.returncode is None
        assert guest.returncode == -signal.SIGTERM

    run(main)


def test_the_exception_of_the_body_leaves_alone() -> None:
    error = LookupError()

    async def main() -> None:
        with pytest.raises(LookupError) as caught:
            async with open_guest(["sleep", "60"], OPTIONS):
                raise error
        assert caught.value is error

    run(main)


def test_an_interface_that_the_guest_deletes_is_one_exception() -> None:
    async def main() -> None:
        with pytest.raises(LinkClosed) as caught:
            await run_guest(["sh", "-c", "ip link delete eth0; sleep 60"], OPTIONS, root=True)
        assert (caught.value.__cause__, caught.value.__context__) == (None, None)
        assert "\n" not in str(caught.value)

    run(main)


def test_user_namespaces_that_are_forbidden_are_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(flags: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("sansnet_trio.linux.syscalls.unshare", refuse)

    async def main() -> None:
        with pytest.raises(GuestError, match="user namespaces cannot be made") as caught:
            await run_guest(["true"], OPTIONS)
        assert "\n" not in str(caught.value)

    run(main)


SEVERAL: Final = """
import subprocess, sys, time, trio
from sansnet_trio import NamespaceOptions, open_guest, run_guest, attach
from sansnet_core.ports import TCP, parse_all
async def one(number, found):
    options = NamespaceOptions.made_up(own=[f"10.0.2.{number}/24"], families={4})
    done = await run_guest(["sh", "-c", "sleep 0.3; hostname -I"], options, capture_stdout=True)
    found.append(done.stdout.decode().split())
async def main():
    await trio.to_thread.run_sync(time.sleep, 0)  # its thread stays for a while
    found = []
    async with trio.open_nursery() as nursery:
        for number in (10, 11, 12):
            nursery.start_soon(one, number, found)
    assert sorted(found) == [["10.0.2.10"], ["10.0.2.11"], ["10.0.2.12"]], found
    forwards = parse_all(["38080:80"], TCP)
    async with open_guest(["sleep", "60"], NamespaceOptions.made_up(), forwards=forwards) as guest:
        async with attach(guest.pid, NamespaceOptions.made_up(ifname="eth1")) as network:
            await trio.sleep(0.1)
trio.run(main)
"""


def test_several_guests_at_once_in_a_program_with_threads() -> None:
    """Every warning is an error, such as that of Python 3.12 about a fork.

    The port that is forwarded is free, because the network is new.
    """
    command = ["unshare", "--net", sys.executable, "-W", "error", "-c", SEVERAL]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


BEATING: Final = """
import os, sys, time, trio
from sansnet_trio import NamespaceOptions, open_guest
async def beat(gaps):
    last = time.monotonic()
    while True:
        await trio.sleep(0.01)
        now = time.monotonic()
        gaps.append(now - last)
        last = now
async def main():
    await trio.to_thread.run_sync(time.sleep, 0)  # its thread stays for a while
    async with open_guest(["sleep", "60"], NamespaceOptions.made_up()) as guest:
        os.environ["PYTHONPATH"] = sys.argv[1]
        gaps, began = [], time.monotonic()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(beat, gaps)
            await guest.network.forward(0, 80, inbound=False)
            took = time.monotonic() - began
            nursery.cancel_scope.cancel()
    assert took > 2, took
    assert max(gaps) < 1.5, max(gaps)
trio.run(main)
"""


def test_other_tasks_run_while_a_slow_python_starts_to_make_sockets(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import time; time.sleep(2)")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", BEATING, tmp_path],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


NOT_MAIN: Final = """
import threading, subprocess, trio
from sansnet_core.ports import TCP, parse_all
from sansnet_trio import NamespaceOptions, attach, open_guest, run_guest
options = NamespaceOptions.made_up()
async def main():
    done = await run_guest(["hostname", "-I"], options, capture_stdout=True)
    assert done.stdout.split()[0] == b"10.0.2.15", done.stdout
    async with open_guest(["sleep", "60"], options, forwards=parse_all(["auto"], TCP, inbound=False)) as guest:
        with await guest.network.forward(0, 80, inbound=False) as forward:
            assert forward.port
        async with attach(guest.pid, NamespaceOptions.made_up(ifname="eth1")):
            await trio.sleep(0.1)
        guest.terminate()
        assert await guest.wait() == -15
threads = [threading.Thread(target=trio.run, args=(main,)) for _ in range(2)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print("done")
"""


def test_guests_of_programs_whose_trio_runs_in_other_threads() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", NOT_MAIN], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


# namespaces


@pytest.fixture
def namespace() -> Iterator[int]:
    """The id of a process in namespaces of its own."""
    with subprocess.Popen(["unshare", "--user", "--map-root-user", "--net", "sleep", "60"]) as process:
        own = os.readlink("/proc/self/ns/net")
        assert eventually(lambda: os.readlink(f"/proc/{process.pid}/ns/net") != own)
        assert eventually(lambda: Path(f"/proc/{process.pid}/comm").read_text() == "sleep\n")  # after the map of users
        yield process.pid
        process.kill()


def entering(pid: int) -> list[str]:
    """The beginning of a command in the namespaces of a process."""
    return ["nsenter", "-U", "--preserve-credentials", "-n", "-t", str(pid)]


def interfaces(pid: int) -> str:
    return Path(f"/proc/{pid}/net/dev").read_text()


def test_attach_gives_a_namespace_an_interface_for_the_time_of_the_block(namespace: int) -> None:
    async def main() -> None:
        async with attach(namespace, OPTIONS) as network:
            assert isinstance(network, GuestNetwork)
            assert "eth0:" in interfaces(namespace)
            await trio.run_process(
                [*entering(namespace), "ping", "-c", "1", "-W", "5", "10.0.2.2"], capture_stdout=True
            )
        assert "eth0:" not in interfaces(namespace)

    trio.run(main)


def test_a_message_about_the_interface_names_the_field(namespace: int) -> None:
    async def main() -> None:
        with pytest.raises(GuestError, match=r"give another name with ifname=$"):
            async with attach(namespace, NamespaceOptions.made_up(ifname="lo")):
                pass

    trio.run(main)


def test_a_namespace_that_is_gone_is_one_exception(namespace: int) -> None:
    async def main() -> None:
        with trio.fail_after(10):
            async with attach(namespace, OPTIONS):
                os.kill(namespace, signal.SIGKILL)
                await trio.sleep_forever()

    with pytest.raises(LinkClosed, match=f"the namespace /proc/{namespace}/ns/net is gone"):
        trio.run(main)


def test_a_namespace_that_does_not_exist_is_one_sentence() -> None:
    async def main() -> None:
        with pytest.raises(GuestError, match="there is no network namespace 'nosuch'"):
            async with attach("nosuch"):
                pass

    run(main)


# ports

SERVER: Final = """
import socket
with socket.create_server(("", 80)) as server:
    print("ready", flush=True)
    while True:
        connection, peer = server.accept()
        connection.sendall(b"from the guest")
        connection.close()
"""


SERVERS: Final = """
import selectors, socket
waiting = selectors.DefaultSelector()
for port in (80, 81):
    server = socket.socket(socket.AF_INET, socket.{kind})
    server.bind(("", port))
    if server.type == socket.SOCK_STREAM:
        server.listen()
    waiting.register(server, selectors.EVENT_READ)
print("ready", flush=True)
while True:
    for key, _ in waiting.select():
        if key.fileobj.type == socket.SOCK_STREAM:
            with key.fileobj.accept()[0] as connection:
                connection.sendall(b"from the guest")
        else:
            key.fileobj.sendto(b"from the guest", key.fileobj.recvfrom(100)[1])
"""


async def said(port: int, host: str = "127.0.0.1") -> bytes:
    """The first words of a server."""
    stream = await trio.open_tcp_stream(host, port)
    async with stream:
        return bytes(await stream.receive_some())


async def ready(guest: Guest) -> None:
    """Wait until the server in a guest says that it is ready."""
    assert guest.stdout is not None
    text = b""
    while not text.endswith(b"\n"):
        text += await guest.stdout.receive_some()


async def serve_in_guest(check: Callable[[GuestNetwork], Awaitable[None]], options: NamespaceOptions = OPTIONS) -> None:
    """Run a server on the guest's port 80 while a check runs."""
    async with open_guest([sys.executable, "-c", SERVER], options, stdout=subprocess.PIPE) as guest:
        await ready(guest)
        await check(guest.network)


def test_ports_are_forwarded_to_the_guest_while_it_runs() -> None:
    async def check(network: GuestNetwork) -> None:
        with await network.forward(0, 80) as forward:
            assert network.forwards == forward.rules
            assert await said(forward.port) == b"from the guest"
            with pytest.raises(ForwardError, match="cannot be bound"):
                await network.forward(busy.getsockname()[1], 80)
            other = await network.forward(0, 80, address="127.0.0.1")
            assert await said(other.port) == b"from the guest"
            assert [*network.forwards] == [*forward.rules, *other.rules]
            other.close()
            other.close()
        assert [*network.forwards] == []
        with pytest.raises(OSError, match="all attempts to connect"):
            await said(forward.port)

    with socket.create_server(("127.0.0.1", 0)) as busy:
        run(lambda: serve_in_guest(check))


def test_the_hosts_ports_are_forwarded_to_the_guests_loopback() -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            async with open_guest(["sleep", "60"], OPTIONS) as guest:
                forward = await guest.network.forward(0, port, inbound=False)
                script = f"exec 3<>/dev/tcp/127.0.0.1/{forward.port}; cat <&3"
                accepting = trio.socket.from_stdlib_socket(server.dup())
                accepting.listen()
                async with trio.open_nursery() as nursery:
                    client = partial(
                        trio.run_process, [*entering(guest.pid), "bash", "-c", script], capture_stdout=True
                    )
                    nursery.start_soon(client)
                    with accepting:
                        connection, _ = await accepting.accept()
                    with connection:
                        await connection.send(b"hello")

    trio.run(main)


def test_ports_of_a_guest_whose_command_has_ended(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with open_guest(["true"], OPTIONS) as guest:
            await guest.wait()
            for _ in range(3):
                with pytest.raises(ForwardError, match="the guest has ended"):
                    await guest.network.forward(0, 80, inbound=False)

    run(main)
    assert caplog.messages == []


def test_datagrams_are_forwarded_too() -> None:
    echo = "import socket; s = socket.socket(2, 2); s.bind(('', 53)); print('ready', flush=True); "
    echo += "data, peer = s.recvfrom(100); s.sendto(data + b' back', peer); s.recv(1)"

    async def main() -> None:
        async with open_guest([sys.executable, "-c", echo], OPTIONS, stdout=subprocess.PIPE) as guest:
            await ready(guest)
            forward = await guest.network.forward(0, 53, protocol="udp")
            client = trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            with client:
                await client.sendto(b"there and", ("127.0.0.1", forward.port))
                assert await client.recv(100) == b"there and back"

    run(main)


def test_rules_about_outsiders_hold_for_the_hosts_loopback_too() -> None:
    """The loopback path would bypass the network, which evaluates them."""
    rules = (Rule(action=Action.REFUSE, inbound=True),)

    async def check(network: GuestNetwork) -> None:
        forward = await network.forward(0, 80)
        try:
            text = await said(forward.port)
        except (OSError, trio.BrokenResourceError):
            text = b""
        assert text == b""

    run(lambda: serve_in_guest(check, NamespaceOptions.made_up(rules=rules)))


def test_a_lack_of_descriptors_leaves_none_behind() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    async def main() -> None:
        outcomes = set()
        gc.collect()  # other tests may have left descriptors that are not closed yet
        for free in range(20):
            used = len(os.listdir("/proc/self/fd")) - 1
            resource.setrlimit(resource.RLIMIT_NOFILE, (used + free, hard))
            try:
                await run_guest(["true"], OPTIONS)
                outcomes.add(0)
            except OSError as error:
                outcomes.add(error.errno or 0)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            assert len(os.listdir("/proc/self/fd")) - 1 <= used, free
        assert outcomes >= {0, errno.EMFILE}

    run(main)


@pytest.mark.parametrize("at_run_time", [False, True])
@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_a_decider_is_asked_about_the_hosts_loopback_too(protocol: str, *, at_run_time: bool) -> None:
    """Whether the ports are forwarded from the beginning, or later."""
    asked: list[NewFlow] = []

    async def decide(flow: NewFlow) -> Verdict:
        asked.append(flow)
        return Allow() if flow.guest.port == 81 else Refuse(errno.ECONNREFUSED)

    async def answer(port: int, seconds: float) -> bytes:
        """The answer of the server; empty if it is not reached."""
        with suppress(OSError, trio.BrokenResourceError), trio.move_on_after(seconds):
            if protocol == "tcp":
                return await said(port)
            with trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
                await client.connect(("127.0.0.1", port))
                await client.send(b"hello")
                return await client.recv(100)
        return b""

    async def main() -> None:
        number = TCP if protocol == "tcp" else UDP
        begin = () if at_run_time else parse_all(["38124:80", "38125:81"], number)
        server = SERVERS.format(kind="SOCK_STREAM" if protocol == "tcp" else "SOCK_DGRAM")
        async with open_guest(
            [sys.executable, "-c", server], OPTIONS, decide=decide, forwards=begin, stdout=subprocess.PIPE
        ) as guest:
            await ready(guest)
            if at_run_time:
                for port, to in ((38124, 80), (38125, 81)):
                    await guest.network.forward(port, to, protocol=protocol)
            assert await answer(38125, 20) == b"from the guest"
            assert await answer(38124, 1) == b""
        assert [(flow.protocol, flow.inbound, flow.guest.port) for flow in asked] == [
            (protocol, True, 81),
            (protocol, True, 80),
        ]

    run(main)


def test_ports_of_the_beginning() -> None:
    forwards = parse_all(["127.0.0.1/38123:80"], TCP)

    async def main() -> None:
        async with open_guest(
            [sys.executable, "-c", SERVER], OPTIONS, forwards=forwards, stdout=subprocess.PIPE
        ) as guest:
            await ready(guest)
            assert await said(38123) == b"from the guest"
            assert guest.network.forwards == forwards

    run(main)


def test_a_port_that_cannot_be_bound_leaves_nothing_behind() -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as busy:
            forwards = parse_all([f"127.0.0.1/{busy.getsockname()[1]}:80"], TCP)
            with pytest.raises(ForwardError, match="cannot be bound"):
                async with open_guest(["sleep", "60"], OPTIONS, forwards=forwards):
                    pass

    run(main)


# the end


@pytest.mark.parametrize("ends", [True, False])
def test_the_last_data_of_a_command_that_ends_by_itself_are_waited_for(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, *, ends: bool
) -> None:
    waits: list[bool] = []

    class Lossy(LastData):
        async def wait(self, *, briefly: bool = False) -> None:
            waits.append(briefly)

        def loss(self) -> str | None:
            return "7 bytes are lost"

    async def main() -> None:
        async with open_guest(["true"] if ends else ["sleep", "100"], OPTIONS) as guest:
            if ends:
                await guest.wait()

    monkeypatch.setattr("sansnet_trio.front.command.LastData", Lossy)
    run(main)
    assert waits == [not ends]
    told = [record.getMessage() for record in caplog.records if record.name == "sansnet"]
    assert told == ["7 bytes are lost"] * ends


def test_a_command_that_ends_by_itself_after_its_output_has_ended_is_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waits: list[bool] = []

    class Noting(LastData):
        async def wait(self, *, briefly: bool = False) -> None:
            waits.append(briefly)

    script = "trap '' TERM; exec >&-; sleep 0.3; exit 7"

    async def main() -> None:
        async with open_guest(["sh", "-c", script], OPTIONS, stdout=subprocess.PIPE) as guest:
            assert guest.stdout is not None
            assert await guest.stdout.receive_some() == b""
        assert guest.returncode == 7

    monkeypatch.setattr("sansnet_trio.front.command.LastData", Noting)
    run(main)
    assert waits == [False]


def test_a_wait_for_the_last_data_that_is_cancelled_tells_the_loss(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    waits: list[bool] = []

    class Endless(LastData):
        async def wait(self, *, briefly: bool = False) -> None:
            waits.append(briefly)
            await trio.sleep_forever()

        def loss(self) -> str | None:
            return "7 bytes are lost"

    async def main() -> None:
        with trio.CancelScope() as scope:
            async with open_guest(["true"], OPTIONS) as guest:
                await guest.wait()
                scope.cancel()
        assert scope.cancelled_caught

    monkeypatch.setattr("sansnet_trio.front.command.LastData", Endless)
    run(main)
    assert waits == [False, False]  # half a second that is not cancelled, and the rest
    told = [record.getMessage() for record in caplog.records if record.name == "sansnet"]
    assert told == ["7 bytes are lost"]
