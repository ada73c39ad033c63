"""`-T` and `-U` are about all of loopback: what the guest asks at 127.x is what the host has at 127.x."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Final

import pytest

from tests.lab import HOST4, Lab, eventually, served
from tests.lab.namespaces import Namespace, held_namespace, running
from tests.lab.servers import answered

ADDRESSES: Final = ("127.0.0.1", "127.0.0.53", "127.255.255.254")
RULES: Final = {
    "named": ("-T", "7301", "-U", "7301"),
    "mapped": ("-T", "7311:7301", "-U", "7311:7301"),
    "all": ("-T", "~1-7300,~7302-65535", "-U", "~1-7300,~7302-65535"),
    "auto": ("-T", "auto", "-U", "auto"),
}


def listens(namespace: Namespace, port: int, kind: str) -> bool:
    return bool(namespace.shell(f"ss --no-header --listening --{kind} --numeric 'sport = {port}'").stdout)


def say(stream: socket.socket) -> None:
    """Say at which address somebody has connected."""
    stream.sendall(stream.getsockname()[0].encode())


@contextmanager
def names(namespace: Namespace, address: str, port: int) -> Iterator[None]:
    """A service at an address, over TCP and UDP, that says at which one it is."""
    datagrams = namespace.datagram(address, port)
    with served(namespace.listen(address, port), say), answered(datagrams, lambda data: address.encode()):
        yield


def heard(guest: Namespace, address: str, port: int) -> tuple[str, str]:
    """The answers over TCP and over UDP; an answer comes from the address that was asked."""
    with guest.connect(address, port) as near:
        over_tcp = near.recv(100).decode()
    with guest.datagram("0.0.0.0") as near:
        near.settimeout(5)
        near.sendto(b"who?", (address, port))
        over_udp, source = near.recvfrom(100)
        assert source == (address, port)
    return over_tcp, over_udp.decode()


@pytest.mark.parametrize("rule", RULES)
def test_each_loopback_address_of_the_guest_is_the_hosts(lab: Lab, rule: str) -> None:
    port = 7311 if rule == "mapped" else 7301
    with ExitStack() as stack:
        for address in ADDRESSES:
            stack.enter_context(names(lab.host, address, 7301))
        guest = stack.enter_context(lab.guest(*RULES[rule]))
        assert eventually(lambda: listens(guest, port, "tcp") and listens(guest, port, "udp"))
        for address in ADDRESSES:
            assert heard(guest, address, port) == (address, address)


def test_what_listens_at_any_address_is_reached_at_each(lab: Lab) -> None:
    with served(lab.host.listen("0.0.0.0", 7301), say), lab.guest("-T", "7301") as guest:
        for address in (*ADDRESSES, "127.9.8.7"):
            with guest.connect(address, 7301) as near:
                assert near.recv(100).decode() == address


def test_auto_sees_who_listens_at_another_loopback_address_alone(lab: Lab) -> None:
    with lab.guest("-T", "auto", "-U", "auto") as guest:
        with names(lab.host, "127.0.0.53", 7302):
            assert eventually(lambda: listens(guest, 7302, "tcp") and listens(guest, 7302, "udp"))
            assert heard(guest, "127.0.0.53", 7302) == ("127.0.0.53", "127.0.0.53")
            with pytest.raises(ConnectionError), guest.connect("127.0.0.1", 7302) as near:
                near.recv(1)
        assert eventually(lambda: not listens(guest, 7302, "tcp"))


def test_the_guests_own_addresses_do_not_lead_to_the_host(lab: Lab) -> None:
    with names(lab.host, "127.0.0.1", 7301), lab.guest("-T", "7301", "-U", "7301") as guest:
        with pytest.raises(ConnectionError), guest.connect(HOST4, 7301) as near:
            near.recv(1)
        with guest.datagram("0.0.0.0") as near:
            near.settimeout(0.5)
            near.sendto(b"who?", (HOST4, 7301))
            with pytest.raises((TimeoutError, ConnectionError)):
                near.recv(100)


def test_nothing_outside_reaches_a_loopback_address_through_the_guest(lab: Lab) -> None:
    """Packets from the guest's interface do not reach the listeners of its loopback."""
    with names(lab.host, "127.0.0.1", 7301), lab.guest("-T", "7301", "-t", "8301:7301") as guest:
        assert listens(guest, 7301, "tcp")
        for namespace, address in ((lab.upstream, HOST4), (lab.host, "127.0.0.1")):
            with pytest.raises(ConnectionError), namespace.connect(address, 8301) as near:
                near.recv(1)


@pytest.mark.parametrize("address", ["127.0.0.53", HOST4])
def test_what_the_guest_serves_itself_goes_first(lab: Lab, address: str) -> None:
    """A port that the guest uses at another address is the host's at 127.0.0.1 alone."""
    with names(lab.host, "127.0.0.1", 7301), held_namespace() as visited:
        visited.shell("ip link set lo up; ip address add 198.51.100.2/32 dev lo")
        with visited.listen(address, 7301), attached(lab, visited, "-T", "7301") as process:
            assert eventually(lambda: "127.0.0.1:7301" in visited.shell("ss -Hltn").stdout)
            assert process.poll() is None
            with visited.connect("127.0.0.1", 7301) as near:
                assert near.recv(100) == b"127.0.0.1"
        with visited.listen("127.0.0.1", 7301), attached(lab, visited, "-T", "7301") as process:
            assert process.wait(10) == 1
            assert process.stderr is not None
            assert process.stderr.read() == (
                "sansnet: -T 7301: port 7301 of the guest cannot be bound at 127.0.0.1 (Address already in use); give "
                "another port, or end the program that has it\n"
            )


@contextmanager
def attached(lab: Lab, visited: Namespace, *options: str) -> Iterator[subprocess.Popen[str]]:
    line = [sys.executable, "-W", "error", "-m", "sansnet_cli", "attach", *options, str(visited.pid)]
    with running(lab.host.command(*line), stderr=subprocess.PIPE) as process:
        yield process


def test_pasta_covers_them_too(lab: Lab) -> None:
    """By default it follows all ports."""
    with ExitStack() as stack:
        for address in ADDRESSES:
            stack.enter_context(names(lab.host, address, 7303))
        visited = stack.enter_context(held_namespace())
        line = [sys.executable, "-W", "error", "-m", "sansnet_cli", "pasta", "-f", "--config-net", str(visited.pid)]
        stack.enter_context(running(lab.host.command(*line)))
        assert eventually(lambda: listens(visited, 7303, "tcp") and listens(visited, 7303, "udp"))
        for address in ADDRESSES:
            assert heard(visited, address, 7303) == (address, address)
