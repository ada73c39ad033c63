"""Keepalive of the guest's programs: a peer that vanished is found out about as fast as on the host (tcp(7))."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import pytest

from tests.lab import HOST4, HOST6, Guest, Lab, eventually
from tests.lab.namespaces import Namespace

IDLE: Final = 2
INTERVAL: Final = 1
COUNT: Final = 3
"""The host's own kernel gives up after 5.1 s."""
MOST: Final = 12.0


def ask(program: socket.socket) -> None:
    """Turn on keepalive, as a program does."""
    program.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    program.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, IDLE)
    program.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, INTERVAL)
    program.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, COUNT)


@contextmanager
def dropping(namespace: Namespace, port: int) -> Iterator[None]:
    """Packets to and from a TCP port are lost on arrival."""
    namespace.shell(
        f"""
        nft add table inet vanished
        nft 'add chain inet vanished arriving {{ type filter hook prerouting priority -1; }}'
        nft add rule inet vanished arriving tcp dport {port} drop
        nft add rule inet vanished arriving tcp sport {port} drop
        """
    )
    try:
        yield
    finally:
        namespace.shell("nft delete table inet vanished")


def time_until_told(program: socket.socket) -> float:
    """Seconds until a program that reads learns that its peer is gone."""
    program.settimeout(60)
    started = time.monotonic()
    with pytest.raises(ConnectionResetError):
        program.recv(1)
    return time.monotonic() - started


def probing(namespace: Namespace, port: int) -> bool:
    """Whether a connection of this host has keepalive on."""
    return (
        "timer:(keepalive"
        in namespace.shell(f"ss --no-header --tcp --options --numeric '( dport = {port} or sport = {port} )'").stdout
    )


@pytest.mark.parametrize("vanishes", ["at once", "later"])
def test_a_client_learns_that_its_peer_vanished(lab: Lab, guest: Guest, server: str, vanishes: str) -> None:
    with lab.upstream.listen(server) as listener:
        port = listener.getsockname()[1]
        with guest.connect(server, port) as near, listener.accept()[0] as far:
            ask(near)
            near.sendall(b"x")
            assert far.recv(1) == b"x"
            if vanishes == "later":
                time.sleep(IDLE + 1.5)  # by then the host's kernel probes as well
                assert probing(lab.host, port)
                far.sendall(b"y")
                assert near.recv(1) == b"y"
            with dropping(lab.upstream, port):
                assert IDLE + COUNT * INTERVAL - 2 < time_until_told(near) < MOST


@pytest.mark.parametrize("address", [HOST4, HOST6])
def test_a_server_in_the_guest_learns_that_its_client_vanished(lab: Lab, address: str) -> None:
    any_address = "0.0.0.0" if address == HOST4 else "::"
    with (
        lab.guest("-t", "8301") as guest,
        guest.listen(any_address, 8301) as listener,
        lab.upstream.connect(address, 8301) as far,
        listener.accept()[0] as near,
    ):
        ask(near)
        far.sendall(b"x")
        assert near.recv(1) == b"x"
        with dropping(lab.upstream, 8301):
            assert time_until_told(near) < MOST


def test_an_idle_connection_with_keepalive_stays(lab: Lab, guest: Guest, server: str) -> None:
    with lab.upstream.listen(server) as listener:
        port = listener.getsockname()[1]
        with guest.connect(server, port) as near, listener.accept()[0] as far:
            ask(near)
            time.sleep(3 * IDLE + COUNT * INTERVAL)
            assert probing(lab.host, port)
            far.sendall(b"x")
            assert near.recv(1) == b"x"
            near.sendall(b"y")
            assert far.recv(1) == b"y"


def test_without_keepalive_the_host_does_not_probe(lab: Lab, guest: Guest, server: str) -> None:
    with lab.upstream.listen(server) as listener:
        port = listener.getsockname()[1]
        with guest.connect(server, port) as near, listener.accept()[0]:
            near.sendall(b"x")
            time.sleep(IDLE + 1)
            assert not probing(lab.host, port)


def test_both_ends_of_a_spliced_connection_are_probed(lab: Lab) -> None:
    with (
        lab.guest("-T", "7301") as guest,
        lab.host.listen("127.0.0.1", 7301) as listener,
        guest.connect("127.0.0.1", 7301),
        listener.accept()[0],
    ):
        assert eventually(lambda: probing(lab.host, 7301))
        assert eventually(lambda: probing(guest, 7301))
