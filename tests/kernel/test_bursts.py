"""Many connections from outside at once: the kernel keeps them, whatever sansnet does meanwhile."""

from __future__ import annotations

import os
import resource
import selectors
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Final

import pytest

from tests.lab import HOST4, Guest, Lab, eventually, held
from tests.lab.namespaces import Namespace

BURST: Final = 3000
"""Less than net.core.somaxconn, which is 4096 by default."""


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def burst(namespace: Namespace, address: str, port: int) -> list[socket.socket]:
    """Sockets that were all told to connect, at once."""

    def connect() -> list[socket.socket]:
        made = []
        for _ in range(BURST):
            near = socket.socket()
            made.append(near)
            near.setblocking(False)
            near.connect_ex((address, port))
        return made

    return namespace.call(connect)


def connected(sockets: list[socket.socket]) -> int:
    """How many of them are connected within a time that a busy machine keeps, too."""
    count = 0
    deadline = time.monotonic() + 10
    with selectors.DefaultSelector() as selector:
        for near in sockets:
            selector.register(near, selectors.EVENT_WRITE)
        while selector.get_map() and (left := deadline - time.monotonic()) > 0:
            for key, _ in selector.select(left):
                assert isinstance(key.fileobj, socket.socket)
                selector.unregister(key.fileobj)
                count += not key.fileobj.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    return count


def dropped(namespace: Namespace) -> int:
    """How many SYNs, or acknowledgements of SYNs, found no place at a listening socket; each comes again after 1 s."""
    return namespace.counter("TcpExt", "ListenDrops")


def established(guest: Guest, port: int) -> int:
    return len(
        guest.shell(f"ss --no-header --tcp --numeric state established '( sport = {port} )'").stdout.splitlines()
    )


@pytest.mark.usefixtures("many_descriptors")
@pytest.mark.parametrize("where", ["outside", "loopback"])
def test_a_burst_waits_and_is_served(lab: Lab, where: str) -> None:
    namespace, address = (lab.upstream, HOST4) if where == "outside" else (lab.host, "127.0.0.1")
    with (
        lab.guest("-t", "8101") as guest,
        held(guest.listen("0.0.0.0", 8101, backlog=2 * BURST)),
        ExitStack() as stack,
    ):
        before = dropped(lab.host)
        os.kill(guest.sansnet, signal.SIGSTOP)
        try:
            sockets = burst(namespace, address, 8101)
            for near in sockets:
                stack.callback(near.close)
            assert connected(sockets) == BURST
            assert dropped(lab.host) == before
        finally:
            os.kill(guest.sansnet, signal.SIGCONT)
        assert eventually(lambda: established(guest, 8101) == BURST)


@pytest.mark.usefixtures("many_descriptors")
def test_a_burst_to_the_hosts_loopback_waits_too(lab: Lab) -> None:
    with (
        lab.guest("-T", "7101") as guest,
        held(lab.host.listen("127.0.0.1", 7101, backlog=2 * BURST)),
        ExitStack() as stack,
    ):
        before = dropped(guest)
        os.kill(guest.sansnet, signal.SIGSTOP)
        try:
            sockets = burst(guest, "127.0.0.1", 7101)
            for near in sockets:
                stack.callback(near.close)
            assert connected(sockets) == BURST
            assert dropped(guest) == before
        finally:
            os.kill(guest.sansnet, signal.SIGCONT)
        assert eventually(lambda: established(guest, 7101) == BURST)
        time.sleep(0.5)
        assert established(guest, 7101) == BURST
