"""Services of the program, as programs in a guest see them. Their guest has made-up addresses."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Final

import pytest
import trio

from sansnet_trio import Guest, GuestStream, NamespaceOptions, Services, open_guest, run_guest
from tests.lab.serving import DISCARD, ECHO, GREETING, HASH, NAME, SERVICE, SILENT, SOURCE, chunks, world

OPTIONS: Final = NamespaceOptions.made_up()
PYTHON: Final = (sys.executable, "-c")
PRELUDE: Final = "import hashlib, select, socket, struct, time\n"


def run(tmp_path: Path, body: Callable[[Services, Path], Awaitable[None]], limit: float = 110) -> None:
    """Run a test with the services of `world`, and the file with its certificate authority."""

    async def main() -> None:
        authority = tmp_path / "ca.pem"
        with trio.fail_after(limit):
            async with world(authority) as services:
                await body(services, authority)

    trio.run(main)


async def inside(services: Services, *command: str) -> str:
    """The output of a command in a guest with these services."""
    done = await run_guest(command, OPTIONS, services=services, capture_stdout=True)
    assert isinstance(done.stdout, bytes)
    return done.stdout.decode()


async def script(services: Services, text: str) -> str:
    """The output of Python in a guest with these services."""
    return (await inside(services, *PYTHON, PRELUDE + text)).strip()


async def line_of(guest: Guest) -> str:
    """The next line that the guest's command prints."""
    line = b""
    assert guest.stdout is not None
    while not line.endswith(b"\n"):
        piece = await guest.stdout.receive_some(1)
        assert piece, line
        line += piece
    return line.decode().strip()


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_curl(scheme: str, tmp_path: Path) -> None:
    port = 80 if scheme == "http" else 443
    body = tmp_path / "body"
    body.write_bytes(b"".join(chunks(3 << 20)))

    async def main(services: Services, authority: Path) -> None:
        curl = ("curl", "-sS", "--cacert", str(authority), "--resolve", f"{NAME}:{port}:{SERVICE}")
        url = f"{scheme}://{NAME}/"
        assert await inside(services, *curl, url, url) == (GREETING * 2).decode()
        answer = tmp_path / "answer"
        await inside(services, *curl, "--data-binary", f"@{body}", "-o", str(answer), url)
        assert answer.read_bytes() == body.read_bytes()

    run(tmp_path, main)


def test_both_families_and_half_closed_connections(tmp_path: Path) -> None:
    async def main(services: Services, authority: Path) -> None:
        for host in (SERVICE, "fd00::2"):
            text = f"""
with socket.create_connection(({host!r}, {ECHO})) as stream:
    stream.sendall(b"a" * 300_000)
    stream.shutdown(socket.SHUT_WR)
    print(sum(map(len, iter(lambda: stream.recv(65536), b""))))
"""
            assert await script(services, text) == "300000"

    run(tmp_path, main)


def test_datagrams(tmp_path: Path) -> None:
    async def main(services: Services, authority: Path) -> None:
        for host, family in ((SERVICE, "AF_INET"), ("fd00::2", "AF_INET6")):
            text = f"""
datagrams = socket.socket(socket.{family}, socket.SOCK_DGRAM)
datagrams.connect(({host!r}, {ECHO}))
datagrams.settimeout(20)
for size in (0, 1, 1400, 9000, 60000):
    datagrams.send(bytes([size % 251]) * size)
    assert datagrams.recv(65536) == bytes([size % 251]) * size
print("equal")
"""
            assert await script(services, text) == "equal"

    run(tmp_path, main)


def transfer(mebibytes: int, tmp_path: Path) -> None:
    """Send data both ways, and compare their hashes."""

    async def main(services: Services, authority: Path) -> None:
        expected = hashlib.sha256()
        for piece in chunks(mebibytes << 20):
            expected.update(piece)
        down = f"""
with socket.create_connection(({SERVICE!r}, {SOURCE})) as stream:
    stream.sendall(b"{mebibytes}")
    digest = hashlib.sha256()
    while data := stream.recv(1 << 18):
        digest.update(data)
    print(digest.hexdigest())
"""
        up = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from tests.lab.serving import chunks
with socket.create_connection(({SERVICE!r}, {HASH})) as stream:
    for piece in chunks({mebibytes} << 20):
        stream.sendall(piece)
    stream.shutdown(socket.SHUT_WR)
    print(stream.recv(100).decode())
"""
        assert await script(services, down) == expected.hexdigest()
        assert await script(services, up) == expected.hexdigest()

    run(tmp_path, main, 590)


def test_data_both_ways(tmp_path: Path) -> None:
    transfer(100, tmp_path)


@pytest.mark.timeout(600)
def test_a_gibibyte_both_ways(tmp_path: Path) -> None:
    transfer(1024, tmp_path)


def test_ten_thousand_connections(tmp_path: Path) -> None:
    """In a row, with at most 100 at a time."""

    async def main(services: Services, authority: Path) -> None:
        text = f"""
open_ones = []
for number in range(10_000):
    stream = socket.create_connection(({SERVICE!r}, {ECHO}))
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0) if number % 2 else bytes(8))
    stream.sendall(b"x")
    open_ones.append(stream)
    if len(open_ones) == 100:
        for stream in open_ones:
            assert stream.recv(1) == b"x"
            stream.close()
        open_ones.clear()
print("done")
"""
        async with open_guest([*PYTHON, PRELUDE + text], OPTIONS, services=services, stdout=subprocess.PIPE) as guest:
            assert await line_of(guest) == "done"
            assert guest.network.driver_statistics().sockets == 0
            await trio.sleep(1)
            states = [flow.state for flow in guest.network.flows()]
            assert set(states) <= {"TIME_WAIT"}

    run(tmp_path, main)


def test_a_program_that_does_not_read_stops_the_guest(tmp_path: Path) -> None:
    async def main(services: Services, authority: Path) -> None:
        text = f"""
stream = socket.create_connection(({SERVICE!r}, {SILENT}))
stream.setblocking(False)
sent = 0
while select.select([], [stream], [], 2)[1]:
    sent += stream.send(bytes(65536))
print(sent < 50 << 20)
"""
        assert await script(services, text) == "True"

    run(tmp_path, main)


def test_a_guest_that_does_not_read_stops_the_program(tmp_path: Path) -> None:
    counts = [0]

    async def count(stream: GuestStream) -> None:
        with suppress(trio.BrokenResourceError):
            while True:
                await stream.send_all(bytes(65536))
                counts[0] += 1

    async def main(services: Services, authority: Path) -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(services.serve_tcp, count, 1000))
            text = f"stream = socket.create_connection(({SERVICE!r}, 1000)); time.sleep(3); print(stream.recv(1))"
            assert "b'" in await script(services, text)
            assert 0 < counts[0] < 1000
            nursery.cancel_scope.cancel()

    run(tmp_path, main)


def test_both_ends_abort(tmp_path: Path) -> None:
    async def main(services: Services, authority: Path) -> None:
        text = f"""
results = []
for number in range(50):
    stream = socket.create_connection(({SERVICE!r}, {DISCARD}))
    stream.sendall(b"x")
    if number % 2:
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    else:
        try:
            stream.recv(1)
        except ConnectionResetError:
            results.append("reset")
    stream.close()
print(results.count("reset"))
"""
        assert await script(services, text) == "25"

    run(tmp_path, main)


def test_an_address_without_service_refuses(tmp_path: Path) -> None:
    async def main(services: Services, authority: Path) -> None:
        text = f"print(socket.socket().connect_ex(({SERVICE!r}, 4000)))"
        assert await script(services, text) == "111"

    run(tmp_path, main)


def test_the_program_connects_into_the_guest(tmp_path: Path) -> None:
    server = """
listener = socket.create_server(("", 8000))
datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
datagrams.bind(("", 8000))
print("ready", flush=True)
stream, peer = listener.accept()
print(peer[0], flush=True)
while data := stream.recv(65536):
    stream.sendall(data.upper())
stream.close()
data, peer = datagrams.recvfrom(100)
datagrams.sendto(data.upper(), peer)
time.sleep(100)
"""

    async def main(services: Services, authority: Path) -> None:
        async with open_guest([*PYTHON, PRELUDE + server], OPTIONS, stdout=subprocess.PIPE) as guest:
            assert await line_of(guest) == "ready"
            stream = await guest.network.open_tcp_stream(8000)
            assert await line_of(guest) == SERVICE
            await stream.send_all(b"hello")
            assert await stream.receive_some() == b"HELLO"
            await stream.send_eof()
            assert await stream.receive_some() == b""
            channel = await guest.network.open_udp(8000)
            await channel.send(b"hello")
            assert await channel.receive() == b"HELLO"
            await channel.aclose()
            async with await guest.network.open_udp(8001) as closed:
                await closed.send(b"anyone?")
                with pytest.raises(ConnectionRefusedError):
                    await closed.receive()
            with pytest.raises(ConnectionRefusedError):
                await guest.network.open_tcp_stream(8001)
            assert guest.network.driver_statistics().sockets == 0

    run(tmp_path, main)


def test_waiting_tasks_wake_up_when_the_guest_ends(tmp_path: Path) -> None:
    """The kernel ends the connections of a killed process; if its namespace ends before that, the stream breaks."""
    ends: list[object] = []

    async def wait(stream: GuestStream) -> None:
        await stream.receive_some()
        try:
            ends.append(await stream.receive_some())
        except trio.BrokenResourceError as error:
            ends.append(error)

    async def main(services: Services, authority: Path) -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(services.serve_tcp, wait, 1000))
            text = f"""
stream = socket.create_connection(({SERVICE!r}, 1000))
stream.send(b"x")
print("up", flush=True)
time.sleep(100)
"""
            command = [*PYTHON, PRELUDE + text]
            async with open_guest(command, OPTIONS, services=services, stdout=subprocess.PIPE) as guest:
                assert await line_of(guest) == "up"
                guest.kill()
                await guest.wait()
            await trio.sleep(0.1)
            nursery.cancel_scope.cancel()
        assert len(ends) == 1

    run(tmp_path, main)


@contextmanager
def traced(pid: int, output: Path) -> Iterator[None]:
    """The calls by which a process makes and uses sockets go to a file."""
    calls = "socket,socketpair,bind,connect,accept,accept4,listen"
    with subprocess.Popen(
        ["strace", "-e", f"trace={calls}", "-o", output, "-p", str(pid)], stderr=subprocess.PIPE, text=True
    ) as strace:
        assert strace.stderr is not None
        assert "attached" in strace.stderr.readline()
        yield
        strace.terminate()


def test_a_guest_with_services_alone_makes_no_host_socket(tmp_path: Path) -> None:
    """In a process of its own, since threads of this one may make sockets."""
    authority = tmp_path / "ca.pem"
    with subprocess.Popen(
        [sys.executable, "-m", "tests.lab.serving", authority],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    ) as program:
        assert program.stdin is not None
        assert program.stdout is not None
        pid = program.stdout.readline().strip()
        curl = ["curl", "-sS", "--cacert", str(authority), "--resolve", f"{NAME}:443:{SERVICE}", f"https://{NAME}/"]
        enter = ["nsenter", "-t", pid, "-n", "-U", "--preserve-credentials"]
        with traced(program.pid, tmp_path / "calls"):
            done = subprocess.run([*enter, *curl], check=True, capture_output=True)
            subprocess.run([*enter, "ping", "-c", "1", SERVICE], check=True, capture_output=True)
        assert done.stdout == GREETING
        assert [line for line in (tmp_path / "calls").read_text().splitlines() if re.match(r"\w+\(", line)] == []
        program.stdin.write("\n")
        program.stdin.flush()
        assert program.stdout.readline() == "0\n"
        program.stdin.close()
        assert program.wait(20) == 0
