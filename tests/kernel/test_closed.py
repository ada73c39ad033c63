"""Addresses that a guest cannot reach: closed by default, and closed on request."""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest

from tests.lab import GATEWAY4, GATEWAY6, HOST4, HOST6, SERVER4, SERVER6, Echo, Guest, Lab, Namespace, served

PORT = 7777
OTHER_PORT = 7778


def reaches(guest: Guest, address: str, port: int) -> bool:
    """Whether a TCP connection comes about within some seconds."""
    try:
        with guest.open_socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM) as stream:
            stream.settimeout(3)
            stream.connect((address, port))
    except OSError:
        return False
    return True


def talks(namespace: Namespace, address: str, port: int) -> bool:
    """Whether a TCP connection comes about and carries something there and back."""
    try:
        with namespace.connect(address, port) as stream:
            stream.settimeout(3)
            stream.sendall(b"hello")
            return stream.recv(100) == b"hello"
    except OSError:
        return False


def answers(guest: Guest, address: str, port: int) -> bool:
    """Whether a datagram comes back within some seconds."""
    try:
        with guest.open_socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
            datagrams.settimeout(2)
            datagrams.connect((address, port))
            datagrams.send(b"hello")
            return datagrams.recv(100) == b"hello"
    except OSError:
        return False


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", GATEWAY4, GATEWAY6, HOST4, HOST6, "127.0.0.2", "0.0.0.0"])
@pytest.mark.parametrize("reach", [reaches, answers])
def test_the_hosts_loopback_is_closed_by_default(
    guest: Guest, lab: Lab, address: str, reach: Callable[[Guest, str, int], bool]
) -> None:
    loopback = "::1" if ":" in address else "127.0.0.1"
    with (
        served(lab.host.listen(loopback, PORT), Echo.stream),
        Echo.datagrams(lab.host.datagram(loopback, PORT)),
    ):
        assert not reach(guest, address, PORT)


@pytest.mark.parametrize(
    ("address", "loopback"), [("192.0.2.254", "127.0.0.1"), (GATEWAY4, "127.0.0.1"), ("2001:db8:f::1", "::1")]
)
def test_the_hosts_loopback_opens_on_request(lab: Lab, address: str, loopback: str) -> None:
    with (
        lab.guest("--map-host-loopback", address) as guest,
        served(lab.host.listen(loopback, PORT), Echo.stream),
        Echo.datagrams(lab.host.datagram(loopback, PORT)),
    ):
        assert reaches(guest, address, PORT)
        assert answers(guest, address, PORT)
        assert guest.run("ping", "-c1", "-W5", address, check=False).returncode == 0
        assert not reaches(guest, loopback, PORT)


@pytest.mark.parametrize(
    ("option", "works"),
    [("--no-tcp", {"udp", "ping"}), ("--no-udp", {"tcp", "ping"}), ("--no-icmp", {"tcp", "udp"})],
)
def test_a_protocol_can_be_left_out(lab: Lab, option: str, works: set[str]) -> None:
    for server in (SERVER4, SERVER6):
        with (
            lab.guest(option) as guest,
            served(lab.upstream.listen(server, PORT), Echo.stream),
            Echo.datagrams(lab.upstream.datagram(server, PORT)),
        ):
            found = {
                "tcp": reaches(guest, server, PORT),
                "udp": answers(guest, server, PORT),
                "ping": guest.run("ping", "-c1", "-W2", server, check=False).returncode == 0,
            }
        assert {name for name, there in found.items() if there} == works


def test_a_guest_without_protocols_has_only_what_is_forwarded_from_loopback_to_loopback(lab: Lab) -> None:
    closed = ("--no-tcp", "--no-udp", "--no-icmp")
    with (
        lab.guest(*closed, "-T", str(PORT), "-t", str(OTHER_PORT)) as guest,
        served(lab.upstream.listen(SERVER4, PORT), Echo.stream),
        served(lab.host.listen("127.0.0.1", PORT), Echo.stream),
        served(guest.listen("0.0.0.0", OTHER_PORT), Echo.stream),
    ):
        assert talks(guest, "127.0.0.1", PORT)
        assert talks(lab.host, "127.0.0.1", OTHER_PORT)
        assert not talks(guest, SERVER4, PORT)
        assert not talks(lab.upstream, HOST4, OTHER_PORT)


def test_nothing_of_the_guest_is_reachable_from_the_host(guest: Guest, lab: Lab) -> None:
    with guest.listen("0.0.0.0", PORT), pytest.raises(ConnectionRefusedError):
        lab.upstream.connect(HOST4, PORT)
