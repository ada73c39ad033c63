"""UDP and ping, small and fragmented, and what they say when something fails."""

from __future__ import annotations

import random
import socket
import struct
import time
from collections.abc import Iterator
from typing import Final

import pytest

from tests.lab import SERVER4, SERVER6, UNREACHABLE4, UNREACHABLE6, USER, Echo, Guest, Lab
from tests.lab.machines import guest_of_kind

RECEIVE_ERRORS: Final = {socket.AF_INET: (socket.IPPROTO_IP, 11), socket.AF_INET6: (socket.IPPROTO_IPV6, 25)}
"""IP_RECVERR and IPV6_RECVERR, as arguments of setsockopt."""


@pytest.fixture(scope="module", params=["run-1500", "run-65520", "serve-1500", "serve-65520"])
def guest(lab: Lab, request: pytest.FixtureRequest) -> Iterator[Guest]:
    """A guest of each kind and MTU in turn."""
    kind, _, mtu = request.param.partition("-")
    with guest_of_kind(lab, kind, "--mtu", mtu) as made:
        yield made


def client(guest: Guest, server: str, port: int) -> socket.socket:
    made = guest.open_socket(socket.AF_INET6 if ":" in server else socket.AF_INET, socket.SOCK_DGRAM)
    made.connect((server, port))
    made.settimeout(4)
    return made


def exchange(near: socket.socket, data: bytes) -> bytes:
    """The answer to a datagram."""
    near.send(data)
    return near.recv(65536)


@pytest.mark.parametrize("size", [0, 1, 1472, 1473, 8000, 60_000, 65_000])
def test_a_datagram_comes_back_whole(guest: Guest, lab: Lab, server: str, size: int) -> None:
    data = random.Random(size).randbytes(size)
    with Echo.datagrams(lab.upstream.datagram(server)) as port, client(guest, server, port) as near:
        for _ in range(3):
            assert exchange(near, data) == data


@pytest.mark.parametrize("guest", ["run-65520"], indirect=True)
def test_a_datagram_whose_partial_checksum_would_be_zero_comes_back(guest: Guest, lab: Lab) -> None:
    """IPv6 has no datagrams without a checksum: Linux drops what says so."""
    with Echo.datagrams(lab.upstream.datagram(SERVER6)) as port, client(guest, SERVER6, port) as near:
        own = near.getsockname()[0]
        words = struct.unpack(
            "!16H", socket.inet_pton(socket.AF_INET6, own) + socket.inet_pton(socket.AF_INET6, SERVER6)
        )
        critical = -(sum(words) + socket.IPPROTO_UDP + 8) % 65535
        assert 1 < critical < 65000, "other addresses are needed"
        for size in (critical - 1, critical, critical + 1, critical):
            assert exchange(near, bytes(size)) == bytes(size)


def test_many_datagrams_of_many_sizes_come_back(guest: Guest, lab: Lab, server: str) -> None:
    noise = random.Random(8)
    with Echo.datagrams(lab.upstream.datagram(server)) as port, client(guest, server, port) as near:
        for _ in range(200):
            burst = [noise.randbytes(noise.randrange(1, 1400)) for _ in range(8)]
            for data in burst:
                near.send(data)
            assert [near.recv(65536) for _ in burst] == burst


def test_one_socket_of_the_guest_has_one_port_whomever_it_talks_to(guest: Guest, lab: Lab, server: str) -> None:
    near = guest.open_socket(socket.AF_INET6 if ":" in server else socket.AF_INET, socket.SOCK_DGRAM)
    with near, lab.upstream.datagram(server) as first, lab.upstream.datagram(server) as second:
        sources = []
        for far in (first, second):
            near.sendto(b"who am I", far.getsockname()[:2])
            sources.append(far.recvfrom(100)[1])
            far.sendto(b"reply", sources[-1])
            near.settimeout(5)
            data, source = near.recvfrom(100)
            assert data == b"reply"
            assert source[:2] == far.getsockname()[:2]
        assert sources[0] == sources[1]


def test_a_closed_port_refuses(guest: Guest, server: str) -> None:
    with client(guest, server, 9) as near:
        near.send(b"anyone?")
        with pytest.raises(ConnectionRefusedError):
            near.recv(100)


@pytest.mark.parametrize("address", [UNREACHABLE4, UNREACHABLE6])
def test_an_unreachable_address_fails_as_it_does_on_the_host(guest: Guest, lab: Lab, address: str) -> None:
    errors = []
    for where in (lab.host, guest):
        with where.open_socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as near:
            near.setsockopt(*RECEIVE_ERRORS[near.family], 1)  # else only a refusal is an error
            near.connect((address, 9))
            near.settimeout(2)
            near.send(b"anyone?")
            with pytest.raises(OSError, match=r"\[Errno") as caught:
                near.recv(100)
            errors.append(caught.value.errno)
    assert errors[0] == errors[1]


@pytest.mark.parametrize("size", [0, 56, 1472, 20_000, 60_000])
def test_ping_is_answered(guest: Guest, server: str, size: int) -> None:
    report = guest.run("ping", "-c3", "-i0.2", "-W5", f"-s{size}", server).stdout
    assert " 0% packet loss" in report
    assert "DUP!" not in report


def test_ping_says_what_a_host_would_hear(guest: Guest) -> None:
    assert "Unreachable" in guest.run("ping", "-c1", "-W5", UNREACHABLE4, check=False).stdout
    assert "unreachable" in guest.run("ping", "-c1", "-W5", UNREACHABLE6, check=False).stdout


@pytest.mark.parametrize("server", [SERVER4, SERVER6])
def test_the_command_of_an_ordinary_user_may_ping(lab: Lab, server: str) -> None:
    done = lab.sansnet([], ["ping", "-c2", "-i0.2", "-W5", server], user=USER)
    assert done.stderr == ""
    assert " 0% packet loss" in done.stdout


def test_two_pings_at_once_get_their_own_answers(guest: Guest, server: str) -> None:
    report = guest.shell(
        f"ping -c5 -i0.1 -W5 {server} >/dev/null & first=$!; ping -c5 -i0.1 -W5 {server} >/dev/null; wait $first"
    )
    assert report.returncode == 0


def test_a_quiet_flow_still_works_after_a_while(guest: Guest, lab: Lab, server: str) -> None:
    with Echo.datagrams(lab.upstream.datagram(server)) as port, client(guest, server, port) as near:
        for pause in (0, 2):
            time.sleep(pause)
            near.send(b"hello")
            assert near.recv(100) == b"hello"
