"""The driver on asyncio: with real guests, and with a link that has no room."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from http.server import HTTPServer, SimpleHTTPRequestHandler
from typing import Final

import pytest

from examples.asyncio_driver import MAX_PENDING, AsyncioDriver
from sansnet_core import Network, NetworkConfig
from sansnet_core.summary import summary
from sansnet_core.testing import GATEWAY, SECRET, GuestStack, make_config

EMBED: Final = [sys.executable, "-W", "error", "-m", "examples.asyncio_embed"]

TRANSFER: Final = """
import hashlib, os, socket, sys, threading
data = os.urandom(1 << 20)
with socket.create_connection(("10.0.2.2", int(sys.argv[1]))) as stream:
    def send():
        for _ in range(20):
            stream.sendall(data)
        stream.shutdown(socket.SHUT_WR)
    threading.Thread(target=send).start()
    received = hashlib.sha256()
    while chunk := stream.recv(1 << 16):
        received.update(chunk)
print(received.hexdigest() == hashlib.sha256(data * 20).hexdigest())
"""

ASK: Final = """
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
    asking.settimeout(20)
    for size in (0, 1, 512, 9000):
        asking.sendto(b"x" * size, ("10.0.2.2", int(sys.argv[1])))
        answer, source = asking.recvfrom(65535)
        print(len(answer), source == ("10.0.2.2", int(sys.argv[1])))
"""


def embed(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*EMBED, *command], capture_output=True, text=True, timeout=60, check=False)


@contextmanager
def served(kind: socket.SocketKind, serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """A server on the host's loopback, in a thread; its port."""
    with socket.socket(socket.AF_INET, kind) as server:
        server.bind(("127.0.0.1", 0))
        if kind == socket.SOCK_STREAM:
            server.listen()
        server.settimeout(50)
        thread = threading.Thread(target=serve, args=(server,), daemon=True)
        thread.start()
        yield server.getsockname()[1]
        thread.join(5)


def echo_stream(server: socket.socket) -> None:
    stream = server.accept()[0]
    with stream, suppress(ConnectionError):
        while data := stream.recv(1 << 16):
            stream.sendall(data)


def echo_datagrams(server: socket.socket) -> None:
    for _ in range(4):
        data, peer = server.recvfrom(65535)
        server.sendto(data, peer)


@pytest.mark.kernel
def test_a_guest_fetches_a_page() -> None:
    with HTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        done = embed("curl", "-sSI", f"http://10.0.2.2:{server.server_port}/")
        server.shutdown()
        thread.join(5)
    assert (done.returncode, done.stderr) == (0, "")
    assert "200 OK" in done.stdout


@pytest.mark.kernel
def test_20_megabytes_go_and_come_back() -> None:
    with served(socket.SOCK_STREAM, echo_stream) as port:
        done = embed(sys.executable, "-c", TRANSFER, str(port))
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")


@pytest.mark.kernel
def test_datagrams_go_and_come_back() -> None:
    with served(socket.SOCK_DGRAM, echo_datagrams) as port:
        done = embed(sys.executable, "-c", ASK, str(port))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["0 True", "1 True", "512 True", "9000 True"]


@pytest.mark.kernel
def test_the_guest_gets_the_errors_of_the_host() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        done = embed("curl", "-sS", f"http://10.0.2.2:{unused.getsockname()[1]}/")
    assert done.returncode == 7  # curl: failed to connect
    assert "after" in done.stderr


@pytest.mark.kernel
def test_a_guest_without_its_interface_goes_on_without_a_network() -> None:
    with served(socket.SOCK_STREAM, echo_stream) as port:
        script = f"exec 3<>/dev/tcp/10.0.2.2/{port}; echo hello >&3; read answer <&3; ip link delete eth0; echo $answer"
        done = embed("bash", "-c", script)
    assert (done.returncode, done.stdout, done.stderr) == (0, "hello\n", "")


@pytest.mark.kernel
def test_the_status_is_that_of_the_command() -> None:
    assert embed("sh", "-c", "exit 7").returncode == 7


@pytest.mark.kernel
def test_control_c_ends_all() -> None:
    reset = threading.Event()

    def serve(server: socket.socket) -> None:
        stream = server.accept()[0]
        with stream:
            stream.sendall(b"hello\n")
            try:
                stream.recv(1)
            except ConnectionResetError:
                reset.set()

    with served(socket.SOCK_STREAM, serve) as port:
        script = f"exec 3<>/dev/tcp/10.0.2.2/{port}; read answer <&3; echo $answer; exec sleep 60"
        command = [*EMBED, "bash", "-c", script]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            assert process.stdout.readline() == "hello\n"
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 130
            assert process.stderr.read() == ""
        assert reset.wait(10)


@asynccontextmanager
async def simulated_guest() -> AsyncIterator[tuple[AsyncioDriver, GuestStack, socket.socket]]:
    """A driver whose link is a small pair of sockets, a guest, and the guest's end of the link."""
    base = make_config()
    config = NetworkConfig(link=base.link, ipv4=base.ipv4, ipv6=base.ipv6, map_host_loopback=(GATEWAY,))
    ours, guests = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, guests:
        for end in (ours, guests):
            end.setblocking(False)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
        driver = AsyncioDriver(Network(config, now=time.monotonic(), secret=SECRET), ours.fileno())
        task = asyncio.create_task(driver.run())
        yield driver, GuestStack(gateway_mac=config.mac), guests
        task.cancel()
        await asyncio.wait([task])


@pytest.mark.slow
def test_time_passes_for_the_network() -> None:
    """A guest that does not answer gets the same segment again."""

    async def body(port: int) -> None:
        async with simulated_guest() as (_, guest, guests):
            guest.connect((GATEWAY, port), now=time.monotonic())
            for frame in guest.take_frames():
                guests.send(frame)
            answers = 0
            while answers < 2:
                with suppress(BlockingIOError):
                    answers += "Flags [S.]" in summary(guests.recv(1 << 17))
                await asyncio.sleep(0.01)

    with served(socket.SOCK_STREAM, echo_stream) as port:
        asyncio.run(asyncio.wait_for(body(port), 20))


@pytest.mark.slow
def test_a_guest_that_does_not_read_stops_the_remote_host_and_then_gets_all() -> None:
    """The link is a pair of sockets, whose other end belongs to a simulated guest."""
    size, sent = 8 << 20, 0

    def serve(server: socket.socket) -> None:
        nonlocal sent
        stream = server.accept()[0]
        with stream:
            for _ in range(size >> 16):
                stream.sendall(bytes(1 << 16))
                sent += 1 << 16

    async def body(port: int) -> None:
        nonlocal sent
        async with simulated_guest() as (driver, guest, guests):
            connection = guest.connect((GATEWAY, port), now=time.monotonic())

            async def exchange(*, reading: bool) -> None:
                now = time.monotonic()
                guest.at(now)
                for frame in guest.take_frames():
                    guests.send(frame)
                with suppress(BlockingIOError):
                    while reading:
                        guest.receive(guests.recv(1 << 17), time.monotonic())
                guest.handle_deadline(time.monotonic())
                await asyncio.sleep(0.001)

            while len(connection.received) < 1 << 16:
                await exchange(reading=True)
            before = -1
            while sent != before:  # the guest does not read until nothing moves
                before = sent
                for _ in range(300):
                    await exchange(reading=False)
            assert sent < size
            assert 0 < len(driver.pending) <= MAX_PENDING
            assert driver.timer is not None
            driver.timer.cancel()  # the link's room alone makes the driver go on
            while driver.pending:
                with suppress(BlockingIOError):
                    guest.receive(guests.recv(1 << 17), time.monotonic())
                await asyncio.sleep(0)
            while len(connection.received) < size:
                await exchange(reading=True)

    with served(socket.SOCK_STREAM, serve) as port:
        asyncio.run(asyncio.wait_for(body(port), 60))
    assert sent == size
