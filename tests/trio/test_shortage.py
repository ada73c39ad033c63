"""If no descriptor is left (EMFILE), the oldest connection attempt is aborted; and keepalive."""

from __future__ import annotations

import errno
import logging
import os
import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from sansnet_core import (
    CloseSocket,
    Endpoint,
    KeepAlive,
    OpenDatagram,
    OpenEcho,
    OpenStream,
    SendDatagram,
    SendEcho,
    SocketId,
)
from sansnet_trio.linux.descriptors import Reserve
from tests.lab.namespaces import held_namespace
from tests.trio.fake import Bench

V4 = b"\x7f\0\0\1"
FULL = errno.EMFILE
OLD = SocketId(1)
OLDER = SocketId(2)
NEW = SocketId(3)


@contextmanager
def filled() -> Iterator[Endpoint]:
    """A port that answers no SYN, because its backlog is full and no connection is accepted."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        for _ in range(3):
            one = stack.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex(address)
        yield Endpoint(V4, address[1])


@pytest.fixture
def silent() -> Iterator[Endpoint]:
    with filled() as made:
        yield made


@contextmanager
def exhausted() -> Iterator[None]:
    """In the block no descriptor is left."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with ExitStack() as stack:
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))
        while True:
            try:
                stack.callback(os.close, os.open("/", os.O_PATH))
            except OSError:
                break
        yield


def lost(bench: Bench) -> list[tuple[SocketId, int]]:
    return [fact[1:3] for fact in bench.network.named("stream_failed")]


def test_a_new_stream_takes_the_place_of_the_oldest_connect(silent: Endpoint) -> None:
    with Bench() as bench, socket.create_server(("127.0.0.1", 0)) as listener:
        host = Endpoint(V4, listener.getsockname()[1])
        bench.order(OpenStream(OLDER, silent, None), OpenStream(OLD, silent, None))
        with exhausted():
            bench.order(OpenStream(NEW, host, None))
        bench.until("stream_connected")
        assert lost(bench) == [(OLDER, FULL)]
        assert bench.network.named("stream_connected") == [("stream_connected", NEW)]


def test_what_is_connected_gives_way_to_nothing() -> None:
    with Bench() as bench, socket.create_server(("127.0.0.1", 0)) as listener:
        host = Endpoint(V4, listener.getsockname()[1])
        bench.order(OpenStream(OLD, host, None))
        bench.until("stream_connected")
        with exhausted():
            bench.order(OpenStream(NEW, host, None))
        assert lost(bench) == [(NEW, FULL)]


def test_what_was_closed_or_failed_does_not_count(silent: Endpoint) -> None:
    with Bench() as bench:
        bench.order(OpenStream(OLDER, silent, None), OpenStream(OLD, silent, None), CloseSocket(OLDER, True))
        with exhausted():
            bench.order(OpenStream(NEW, silent, None))
            bench.order(OpenStream(SocketId(4), silent, None))
        assert lost(bench) == [(OLD, FULL), (NEW, FULL)]


def test_a_datagram_socket_takes_its_place_too(silent: Endpoint) -> None:
    with Bench() as bench, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as far:
        far.bind(("127.0.0.1", 0))
        far.settimeout(5)
        bench.order(OpenStream(OLDER, silent, None), OpenStream(OLD, silent, None))
        with exhausted():
            bench.order(OpenDatagram(NEW, Endpoint(bytes(4), 0)))
            bench.order(SendDatagram(NEW, Endpoint(V4, far.getsockname()[1]), b"hello", 0, 64, 0))
            assert far.recv(10) == b"hello"
        assert lost(bench) == [(OLDER, FULL)]
        assert bench.network.named("datagram_failed") == []


@pytest.mark.kernel
def test_a_ping_takes_its_place_too() -> None:
    def ping() -> None:
        with Bench() as bench, filled() as silent:
            bench.order(OpenStream(OLD, silent, None))
            with exhausted():
                bench.order(OpenEcho(NEW, V4, None))
                bench.order(SendEcho(NEW, V4, 1, b"", 64, 0))
            bench.until("echo_received")
            assert lost(bench) == [(OLD, FULL)]

    with held_namespace() as namespace:
        namespace.shell("ip link set lo up; echo 0 2147483647 >/proc/sys/net/ipv4/ping_group_range")
        namespace.call(ping)


def test_it_is_said_once_in_a_while(silent: Endpoint, caplog: pytest.LogCaptureFixture) -> None:
    with Bench() as bench, exhausted(), caplog.at_level(logging.WARNING, "sansnet"):
        for number in range(50):
            bench.order(OpenStream(SocketId(number), silent, None))
        assert [record.getMessage() for record in caplog.records] == [
            "no descriptor is left for more connections, so some of them wait or fail; "
            "allow more descriptors, for example: ulimit -n 100000"
        ]
        bench.sockets.apply([OpenStream(SocketId(60), silent, None)], 61.0)
        assert len(caplog.records) == 2


def test_what_is_kept_in_reserve_can_be_used() -> None:
    reserve = Reserve(2)
    with exhausted():
        with pytest.raises(OSError, match="Too many"):
            os.listdir("/proc/self")
        for _ in range(3):
            with reserve.open():
                os.listdir("/proc/self")
                with open("/proc/self/stat"), open("/proc/self/stat"):
                    pass
    reserve.close()
    reserve.close()


def keepalive_timer(port: int) -> bool:
    """Whether the socket that is connected to a port has a keepalive timer (proc(5), net/tcp: timer 2)."""
    lines = [line.split() for line in Path("/proc/self/net/tcp").read_text().splitlines()[1:]]
    [timer] = [line[5] for line in lines if line[2].endswith(f":{port:04X}") and line[3] == "01"]
    return timer.startswith("02:")


def test_the_kernel_probes_the_peer_when_ordered() -> None:
    with Bench() as bench, socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        bench.order(OpenStream(OLD, Endpoint(V4, port), None))
        bench.until("stream_connected")
        assert not keepalive_timer(port)
        bench.order(KeepAlive(OLD, 100, 7, 5))
        assert keepalive_timer(port)
        bench.order(KeepAlive(NEW, 1, 1, 1), CloseSocket(OLD), KeepAlive(OLD, 1, 1, 1))
        assert lost(bench) == []
