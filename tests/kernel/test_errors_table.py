"""When something fails outside, a program in a guest sees what it would have seen on the host.

All faults of `tests.lab.routers`, on every program of `tests.lab.observe`; the rows that cannot be equal are listed.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

import pytest

from tests.lab import Echo, Guest, Lab, Namespace, laboratory
from tests.lab.observe import CASES, PROBES, expect_quick_timeouts, observe
from tests.lab.routers import FAR4, FAR6, HOPS4, HOPS6, SMALL_MTU, Fault, routers

WITHOUT_ICMP: Final = {
    (4, "EACCES"): {"EHOSTUNREACH"},
    (4, "EPERM"): {"EHOSTUNREACH", "ECONNREFUSED"},
    (6, "EPERM"): {"EACCES", "ECONNREFUSED"},
    (4, "EINVAL"): {"EHOSTUNREACH"},
    (6, "EINVAL"): {"EHOSTUNREACH"},
}
"""IP version and errno of the host's own kernel that no ICMP message stands for -> what the guest sees instead."""

SOFT: Final = {"EHOSTUNREACH", "ENETUNREACH"}
"""What a UDP socket without an error queue does not learn from a router."""

PATHS: Final = [(FAR4, HOPS4), (FAR6, HOPS6)]
ECHO_PORT: Final = 7
RECEIVE_ERRORS: Final = {socket.AF_INET: (socket.IPPROTO_IP, 11), socket.AF_INET6: (socket.IPPROTO_IPV6, 25)}
MTU_DISCOVER: Final = {socket.AF_INET: (socket.IPPROTO_IP, 10), socket.AF_INET6: (socket.IPPROTO_IPV6, 23)}
MTU: Final = {socket.AF_INET: (socket.IPPROTO_IP, 14), socket.AF_INET6: (socket.IPPROTO_IPV6, 24)}
"""Options of setsockopt and getsockopt, from linux/in.h and linux/in6.h."""
DONT, DO = 0, 2


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with laboratory() as made:
        expect_quick_timeouts(made.host)
        yield made


@pytest.fixture(scope="module", autouse=True)
def far(lab: Lab) -> Iterator[Namespace]:
    with routers(lab) as made:
        yield made


@pytest.fixture(scope="module")
def guest(lab: Lab) -> Iterator[Guest]:
    with lab.guest() as made:
        expect_quick_timeouts(made)
        yield made


@pytest.mark.parametrize(
    ("where", "fault", "version", "program"),
    [(*case, program) for case in CASES for program in PROBES if program == "TCP" or not case[1].tcp],
    ids=lambda value: value.name if isinstance(value, Fault) else str(value),
)
def test_a_guest_sees_what_the_host_sees(
    lab: Lab, guest: Guest, where: str, fault: Fault, version: int, program: str
) -> None:
    row = observe(lab.host, guest, where, fault, version, program)
    if where != "host":
        assert row.guest == row.host  # with type, code and sender of the message
        return
    expected = WITHOUT_ICMP.get((version, row.host.errno), {row.host.errno})
    if program == "UDP without IP_RECVERR" and expected <= SOFT and row.host.errno not in ("EACCES", "EPERM"):
        expected = {"silence"}
    assert row.guest.errno in expected


def hops(namespace: Namespace, *command: str) -> list[str]:
    """The addresses in the lines of a report that begin with a number."""
    report = namespace.run(*command).stdout
    return re.findall(r"^ *\d+[.:| -]+([\da-f.:]+) ", report, re.MULTILINE)


@pytest.mark.parametrize("options", ["", "-I", "-U", "-q1 -N1"])
@pytest.mark.parametrize(("address", "path"), PATHS, ids=["ipv4", "ipv6"])
def test_traceroute_shows_the_same_hops(lab: Lab, guest: Guest, address: str, path: list[str], options: str) -> None:
    command = ["traceroute", "-n", *options.split(), address]
    assert hops(lab.host, *command) == hops(guest, *command) == path


@pytest.mark.parametrize("options", ["", "-u"])
@pytest.mark.parametrize(("address", "path"), PATHS, ids=["ipv4", "ipv6"])
def test_mtr_shows_the_same_hops(lab: Lab, guest: Guest, address: str, path: list[str], options: str) -> None:
    command = ["mtr", "-n", "-r", "-c1", "-i0.2", "-Z1", "-G1", *options.split(), address]
    assert hops(lab.host, *command) == hops(guest, *command) == path


@pytest.mark.parametrize(("address", "path"), PATHS, ids=["ipv4", "ipv6"])
def test_tracepath_finds_the_same_mtu(lab: Lab, guest: Guest, address: str, path: list[str]) -> None:
    for namespace in (lab.host, guest):
        report = namespace.run("tracepath", "-n", address).stdout
        assert f"pmtu {SMALL_MTU} hops {len(path)}" in report


def datagrams(guest: Guest, address: str, discover: int) -> socket.socket:
    """A connected UDP socket with an error queue."""
    made = guest.open_socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM, timeout=5)
    made.setsockopt(*RECEIVE_ERRORS[made.family], 1)
    made.setsockopt(*MTU_DISCOVER[made.family], discover)
    made.connect((address, ECHO_PORT))
    return made


@pytest.mark.parametrize("address", [FAR4, FAR6])
@pytest.mark.parametrize("size", [SMALL_MTU, 1500, 20_000])
def test_a_datagram_too_large_for_its_path_teaches_the_guest_the_mtu(lab: Lab, address: str, size: int) -> None:
    with lab.guest() as guest, datagrams(guest, address, DO) as sock:
        headers = 28 if sock.family == socket.AF_INET else 48
        learnt: list[int] = []
        while SMALL_MTU not in learnt:  # the host may know it already, or its uplink's only
            assert len(learnt) < 2
            sock.send(bytes(min(size, 1500 - headers if learnt else size)))
            with pytest.raises(OSError, match="too long"):
                sock.recv(100)
            learnt.append(sock.getsockopt(*MTU[sock.family]))
        assert learnt in ([SMALL_MTU], [1500, SMALL_MTU])
        with pytest.raises(OSError, match="too long"):
            sock.send(bytes(SMALL_MTU - headers + 1))


@pytest.mark.parametrize("size", [1273, 1473, 20_000, 65_000])
def test_a_datagram_that_may_be_fragmented_arrives(lab: Lab, far: Namespace, guest: Guest, size: int) -> None:
    with Echo.datagrams(far.datagram(FAR4, ECHO_PORT)), datagrams(guest, FAR4, DONT) as sock:
        sock.send(bytes(size))
        assert len(sock.recv(65536)) == size


@pytest.mark.parametrize("address", [FAR4, FAR6])
def test_a_program_that_does_not_care_arrives_when_its_kernel_has_learnt(
    lab: Lab, far: Namespace, address: str
) -> None:
    with (
        Echo.datagrams(far.datagram(address, ECHO_PORT)),
        lab.guest() as guest,
        guest.open_socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as sock,
    ):
        sock.settimeout(0.5)
        answers = []
        for _ in range(4):  # one is lost to each smaller MTU on the way
            sock.sendto(bytes(20_000), (address, ECHO_PORT))
            with suppress(TimeoutError):
                answers.append(len(sock.recv(65536)))
        assert answers[-2:] == [20_000, 20_000]
