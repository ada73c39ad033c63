"""When something fails outside, a program in a guest sees what it would have seen on the host.

All faults of `tests.lab.routers`, on every program of `tests.lab.observe`; the rows that cannot be equal are listed.
"""

from __future__ import annotations

import errno
import re
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final

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
"""Errors of routers that a UDP socket without an error queue does not get."""

PATHS: Final = [(FAR4, HOPS4), (FAR6, HOPS6)]
ECHO_PORT: Final = 7
RECEIVE_ERRORS: Final = {socket.AF_INET: (socket.IPPROTO_IP, 11), socket.AF_INET6: (socket.IPPROTO_IPV6, 25)}
MTU_DISCOVER: Final = {socket.AF_INET: (socket.IPPROTO_IP, 10), socket.AF_INET6: (socket.IPPROTO_IPV6, 23)}
MTU: Final = {socket.AF_INET: (socket.IPPROTO_IP, 14), socket.AF_INET6: (socket.IPPROTO_IPV6, 24)}
"""Options of setsockopt and getsockopt, from linux/in.h and linux/in6.h."""
DONT, DO = 0, 2
IP_RECVTTL, IP_RECVTOS = 12, 13
SCTP = 132


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
    # Of IPv4 there are final errors with the same errno
    if version == 6 and program == "UDP without IP_RECVERR" and expected <= SOFT:
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
def test_tracepath_finds_the_same_hops_way_back_and_mtu(lab: Lab, guest: Guest, address: str, path: list[str]) -> None:
    for namespace in (lab.host, guest):
        report = namespace.run("tracepath", "-n", address).stdout
        assert f"Resume: pmtu {SMALL_MTU} hops 4 back 4" in report
        assert "asymm" not in report
        assert [
            address for address in dict.fromkeys(re.findall(r": +([\da-f.:]+) ", report)) if address in path
        ] == path


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
            refused = ""
            for _ in range(10):  # the first one is sent in fragments
                try:
                    sock.send(bytes(min(size, 1500 - headers if learnt else size)))
                except OSError as error:
                    refused = str(error)
                    break
                time.sleep(0.3)
            assert "too long" in refused
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
def test_a_program_that_does_not_ask_arrives_as_from_the_host(lab: Lab, far: Namespace, address: str) -> None:
    with (
        Echo.datagrams(far.datagram(address, ECHO_PORT)),
        lab.guest() as guest,
        guest.open_socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as sock,
    ):
        sock.settimeout(0.5)
        answers = []
        for _ in range(3):  # over IPv6, one is lost to a router with a smaller MTU
            sock.sendto(bytes(20_000), (address, ECHO_PORT))
            with suppress(TimeoutError):
                answers.append(len(sock.recv(65536)))
        assert answers[-2:] == [20_000, 20_000]
        assert len(answers) == 3 or ":" in address


def test_an_alias_of_the_hosts_loopback_refuses_by_its_own_name(lab: Lab) -> None:
    with lab.guest("--map-host-loopback", "192.0.2.250", "--map-host-loopback", "2001:db8:f::250") as guest:
        for address in ("192.0.2.250", "2001:db8:f::250"):
            seen = PROBES["UDP"](guest, address)
            assert seen.report is not None
            assert (seen.errno, seen.report.offender) == ("ECONNREFUSED", address)
            assert PROBES["TCP"](guest, address).errno == "ECONNREFUSED"


@pytest.mark.parametrize(
    ("address", "program", "expected"),
    [
        ("240.0.0.1", "UDP without IP_RECVERR", "EHOSTUNREACH"),
        ("240.0.0.1", "TCP", "EHOSTUNREACH"),
        ("240.0.0.1", "ping", "EHOSTUNREACH"),
        ("::2", "UDP without IP_RECVERR", "EACCES"),
        ("::2", "TCP", "EACCES"),
        ("::2", "ping", "EACCES"),
    ],
)
def test_a_closed_address_is_prohibited(guest: Guest, address: str, program: str, expected: str) -> None:
    assert PROBES[program](guest, address).errno == expected


@pytest.mark.parametrize("option", ["--no-tcp", "--no-udp", "--no-icmp"])
def test_a_protocol_that_is_off_is_prohibited(lab: Lab, option: str) -> None:
    program = {"--no-tcp": "TCP", "--no-udp": "UDP without IP_RECVERR", "--no-icmp": "ping"}[option]
    with lab.guest(option) as guest:
        assert PROBES[program](guest, FAR4).errno == "EHOSTUNREACH"
        assert PROBES[program](guest, FAR6).errno == "EACCES"


@pytest.mark.parametrize(("address", "expected"), [(FAR4, errno.ENOPROTOOPT), (FAR6, errno.EPROTO)])
def test_an_unknown_protocol_is_told(guest: Guest, address: str, expected: int) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with guest.call(lambda: socket.socket(family, socket.SOCK_RAW, SCTP)) as raw:
        raw.setsockopt(*RECEIVE_ERRORS[raw.family], 1)
        raw.settimeout(5)
        raw.connect((address, 0))
        raw.send(bytes(12))
        with pytest.raises(OSError, match="rotocol") as caught:
            raw.recv(100)
        assert caught.value.errno == expected


@pytest.mark.parametrize("address", [FAR4, FAR6])
def test_ttl_tos_and_ecn_travel_both_ways(far: Namespace, guest: Guest, address: str) -> None:
    with far.datagram(address) as there, datagrams(guest, address, DO) as here:
        here.connect(there.getsockname()[:2])
        for tos in (0xB9, 0x01, 0x02, 0x03, 0x00):  # expedited forwarding with ECT(1), then all of ECN
            set_tos(here, tos)
            set_tos(there, tos ^ 0xFF)
            here.send(b"question")
            ttl, arrived, source = received(there)
            assert (ttl, arrived) == (64 - 3, tos)
            there.sendto(b"answer", source)
            ttl, arrived, _ = received(here)
            assert (ttl, arrived) == (64 - 3, tos ^ 0xFF)


def set_tos(sock: socket.socket, tos: int) -> None:
    """And ask for what others set, and for their TTL."""
    if sock.family == socket.AF_INET:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, tos)
        sock.setsockopt(socket.IPPROTO_IP, IP_RECVTOS, 1)
        sock.setsockopt(socket.IPPROTO_IP, IP_RECVTTL, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, tos)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVTCLASS, 1)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1)


def received(sock: socket.socket) -> tuple[int, int, Any]:
    """TTL, TOS and source of the next datagram."""
    _, ancillary, _, source = sock.recvmsg(100, 200)
    found = {(level, kind): int.from_bytes(data, sys.byteorder) for level, kind, data in ancillary}
    if sock.family == socket.AF_INET:
        return found[socket.IPPROTO_IP, socket.IP_TTL], found[socket.IPPROTO_IP, socket.IP_TOS], source
    ipv6 = socket.IPPROTO_IPV6
    return found[ipv6, socket.IPV6_HOPLIMIT], found[ipv6, socket.IPV6_TCLASS], source


@pytest.mark.parametrize(("address", "word"), [(FAR4, "Packet filtered"), (FAR6, "Administratively prohibited")])
def test_a_guest_of_a_host_without_ping_sockets_is_told(lab: Lab, address: str, word: str) -> None:
    try:
        lab.host.shell("echo 1 0 >/proc/sys/net/ipv4/ping_group_range")
        done = lab.sansnet([], ["ping", "-c2", "-i0.2", "-W2", address])
    finally:
        lab.host.shell("echo 0 2147483647 >/proc/sys/net/ipv4/ping_group_range")
    assert done.stdout.count(word) == 2
    assert done.stderr.count("ping_group_range") == 1


def test_a_scan_of_closed_ports_ends_at_once(lab: Lab, guest: Guest) -> None:
    began = time.monotonic()
    for port in range(1, 300):
        with guest.open_socket(socket.AF_INET, socket.SOCK_STREAM) as sock, pytest.raises(OSError, match="No route"):
            sock.connect(("192.0.2.111", port))
    assert time.monotonic() - began < 20
