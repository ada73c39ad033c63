"""Epoll sets that have no room for another member (ENOSPC, ENOMEM: epoll_ctl(2))."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator

import pytest

from sansnet_core import Endpoint, ExtendedError, OpenDatagram, OpenEcho, OpenStream, SendDatagram, SendEcho, SocketId
from sansnet_core.ports import UDP, parse_all
from sansnet_trio.forward.forwards import Forwards
from sansnet_trio.host.poller import Handler
from tests.lab.namespaces import held_namespace
from tests.trio.fake import Bench
from tests.trio.test_forwards import PORT, Table

V4 = b"\x7f\0\0\1"
ONE = SocketId(1)
FULL = ExtendedError(errno.ENOSPC, 1, 0, 0, 0, None)


def no_room(fd: int, interest: int, handler: Handler) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """A bench whose epoll set takes no more members."""
    with Bench() as bench:
        monkeypatch.setattr(bench.poller, "add", no_room)
        yield bench


def open_descriptors() -> list[str]:
    return sorted(os.listdir("/proc/self/fd"))


def test_a_stream_fails(full: Bench) -> None:
    before = open_descriptors()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        full.order(OpenStream(ONE, Endpoint(V4, listener.getsockname()[1]), None))
    assert full.network.facts == [("stream_failed", ONE, errno.ENOSPC, None)]
    assert len(full.sockets) == 0
    assert open_descriptors() == before


def test_a_datagram_fails_and_a_later_one_tries_again(full: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    before = open_descriptors()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as remote:
        remote.settimeout(5)
        remote.bind(("127.0.0.1", 0))
        endpoint = Endpoint(V4, remote.getsockname()[1])
        full.order(OpenDatagram(ONE, Endpoint(bytes(4), 0)), SendDatagram(ONE, endpoint, b"lost", 0, 64, 0))
        assert full.network.facts == [("datagram_failed", ONE, endpoint, FULL, b"lost")]
        monkeypatch.undo()
        full.order(SendDatagram(ONE, endpoint, b"found", 0, 64, 0))
        assert remote.recv(10) == b"found"
    full.sockets.close()
    assert open_descriptors() == before


@pytest.mark.kernel
def test_a_ping_fails(full: Bench) -> None:
    def ping() -> None:
        before = open_descriptors()
        full.order(OpenEcho(ONE, V4, None), SendEcho(ONE, V4, 7, b"lost", 64, 0))
        assert full.network.facts == [("echo_failed", ONE, 7, FULL, b"lost")]
        assert open_descriptors() == before

    with held_namespace() as namespace:
        namespace.shell("echo 0 2147483647 > /proc/sys/net/ipv4/ping_group_range")
        namespace.call(ping)


def test_a_listener_that_a_driver_cannot_serve_is_there_for_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    with Forwards(parse_all([f"127.0.0.1/{PORT}"], UDP)) as forwards:
        with Bench() as bench:
            add = bench.poller.add

            def add_once(fd: int, interest: int, handler: Handler) -> None:
                monkeypatch.setattr(bench.poller, "add", no_room)
                add(fd, interest, handler)

            monkeypatch.setattr(bench.poller, "add", add_once)
            with pytest.raises(OSError, match="No space left"):
                forwards.serve(bench.context, bench.sockets, lambda: 0.0)
            forwards.leave()
        with Table(forwards) as bench, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as remote:
            remote.sendto(b"hello", ("127.0.0.1", PORT))
            bench.until("datagram_received")
