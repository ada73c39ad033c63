"""Datagrams that are larger than the host's MTU, from a guest with a larger one: each row of the table in errors.md."""

from __future__ import annotations

import errno
import json
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Final

import pytest

from tests.lab import Echo, Guest, Lab, Namespace, eventually, laboratory
from tests.lab.laboratory import HOST4
from tests.lab.machines import guest_of_kind

LARGE: Final = 8000
HOST_MTU: Final = 1500
SMALL_MTU: Final = 1400
RECEIVE_ERRORS: Final = {socket.AF_INET: (socket.IPPROTO_IP, 11), socket.AF_INET6: (socket.IPPROTO_IPV6, 25)}
MTU_DISCOVER: Final = {socket.AF_INET: (socket.IPPROTO_IP, 10), socket.AF_INET6: (socket.IPPROTO_IPV6, 23)}
MTU: Final = {socket.AF_INET: (socket.IPPROTO_IP, 14), socket.AF_INET6: (socket.IPPROTO_IPV6, 24)}
"""IP_RECVERR, IP_MTU_DISCOVER and IP_MTU, from linux/in.h and linux/in6.h."""
DO, PROBE = 2, 3


@pytest.fixture(params=["run", "serve"])
def guest(lab: Lab, request: pytest.FixtureRequest) -> Iterator[Guest]:
    with guest_of_kind(lab, request.param) as made:
        yield made


def family_of(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def client(
    guest: Namespace, address: str, port: int, discover: int | None = None, *, errors: bool = False
) -> socket.socket:
    made = guest.open_socket(family_of(address), socket.SOCK_DGRAM, timeout=2)
    if discover is not None:
        made.setsockopt(*MTU_DISCOVER[made.family], discover)
    if errors:
        made.setsockopt(*RECEIVE_ERRORS[made.family], 1)
    made.connect((address, port))
    return made


def ask(near: socket.socket, size: int) -> int | str:
    """The size of the answer, or the name of the error of `send` or `recv`."""
    try:
        near.send(bytes(size))
        return len(near.recv(65536))
    except TimeoutError:
        return "silence"
    except OSError as error:
        return errno.errorcode[error.errno or 0]


def known_mtu(guest: Guest, address: str) -> int:
    """The MTU of a path, as the guest's kernel knows it; an open socket learns of it with its next datagram."""
    with client(guest, address, 9) as fresh:
        return fresh.getsockopt(*MTU[fresh.family])


@pytest.mark.parametrize("errors", [False, True], ids=["plain", "with-errors"])
def test_a_program_that_does_not_ask_sees_nothing(lab: Lab, guest: Guest, server: str, *, errors: bool) -> None:
    with Echo.datagrams(lab.upstream.datagram(server)) as port, client(guest, server, port, errors=errors) as near:
        assert ask(near, LARGE) == LARGE  # the first one already
        assert eventually(lambda: known_mtu(guest, server) == HOST_MTU)  # its kernel sends fragments from now on
        for size in (LARGE, 100, 1472, 1473, 60_000, LARGE):
            assert ask(near, size) == size
        near.setblocking(False)
        with pytest.raises(BlockingIOError):
            near.recv(1, socket.MSG_ERRQUEUE)


def test_a_program_that_must_not_be_fragmented_is_refused_by_its_kernel(lab: Lab, guest: Guest, server: str) -> None:
    with Echo.datagrams(lab.upstream.datagram(server)) as port, client(guest, server, port, DO) as near:
        assert ask(near, LARGE) == LARGE
        assert eventually(lambda: known_mtu(guest, server) == HOST_MTU)
        with pytest.raises(OSError, match="too long"):
            near.send(bytes(LARGE))
        headers = 28 if near.family == socket.AF_INET else 48
        assert ask(near, HOST_MTU - headers) == HOST_MTU - headers


def test_a_program_that_probes_gets_the_error(lab: Lab, guest: Guest, server: str) -> None:
    with Echo.datagrams(lab.upstream.datagram(server)) as port, client(guest, server, port, PROBE) as near:
        assert ask(near, LARGE) == LARGE
        assert eventually(lambda: known_mtu(guest, server) == HOST_MTU)
        time.sleep(1.2)
        for _ in range(3):
            assert ask(near, LARGE) == "EMSGSIZE"
        assert ask(near, 1000) == 1000


@pytest.mark.parametrize("discover", [DO, PROBE], ids=["do", "probe"])
def test_a_search_for_the_path_mtu_as_that_of_quic_finds_it(server: str, discover: int) -> None:
    with laboratory() as lab:
        interface = lab.host.shell("ip -o route show default").stdout.split(" dev ")[1].split()[0]
        lab.host.run("ip", "link", "set", interface, "mtu", str(SMALL_MTU))
        headers = 28 if ":" not in server else 48
        with (
            lab.guest() as guest,
            Echo.datagrams(lab.upstream.datagram(server)) as port,
            client(guest, server, port, discover) as near,
        ):
            near.settimeout(1)
            assert ask(near, 1200) == 1200
            low, high = 1200, 1452
            while low < high:
                size = (low + high + 1) // 2
                if ask(near, size) == size:
                    low = size
                else:
                    high = size - 1
            assert low == SMALL_MTU - headers
            assert ask(near, low) == low


def test_the_first_large_answer_to_each_client_arrives(lab: Lab, server: str) -> None:
    target = "198.51.100.2" if ":" not in server else "2001:db8:1::2"
    with lab.guest("-u", "7000") as guest, ExitStack() as stack:
        service = guest.open_socket(family_of(server), socket.SOCK_DGRAM)
        stack.enter_context(service)
        service.bind(("", 7000))
        for _ in range(5):
            near = stack.enter_context(client(lab.upstream, target, 7000))
            near.send(b"question")
            question, source = service.recvfrom(100)
            service.sendto(bytes(LARGE), source)
            assert (question, len(near.recv(65536))) == (b"question", LARGE)


@pytest.mark.parametrize("group", ["239.1.2.3", "ff05::1:2:3"])
def test_a_large_datagram_to_a_group_arrives(lab: Lab, group: str) -> None:
    """With the default TTL for groups, which is 1."""
    family = family_of(group)
    with lab.upstream.open_socket(family, socket.SOCK_DGRAM, timeout=5) as member, lab.guest() as guest:
        interface = lab.upstream.shell(f"ip -o route get {HOST4}").stdout.split(" dev ")[1].split()[0]
        index = lab.upstream.call(lambda: socket.if_nametoindex(interface))
        packed = socket.inet_pton(family, group)
        if family == socket.AF_INET:
            request = struct.pack("=4s4si", packed, bytes(4), index)
            member.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)
        else:
            member.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, struct.pack("=16si", packed, index))
        member.bind((group, 7000))
        with guest.open_socket(family, socket.SOCK_DGRAM) as near:
            near.sendto(bytes(LARGE), (group, 7000))
            assert len(member.recv(65536)) == LARGE


@pytest.mark.parametrize("options", ["", "-l 8000", "-l 8000 -b 100M"])
def test_iperf3_transfers_in_its_first_run(lab: Lab, server: str, options: str) -> None:
    with lab.guest() as guest, lab.iperf3_server(server, 5201):
        report = guest.run("iperf3", "-u", "-c", server, "-t", "1", "-J", *options.split())
        end = json.loads(report.stdout)["end"]["sum"]
        assert end["packets"] > 1
        assert end["lost_packets"] < end["packets"] / 2  # a busy machine's sockets overflow


def test_many_large_datagrams_stay_whole_on_the_guests_link(lab: Lab, server: str) -> None:
    """A frame for each fragment costs as much as one for the whole datagram."""
    with (
        lab.guest() as guest,
        Echo.datagrams(lab.upstream.datagram(server)) as port,
        client(guest, server, port) as near,
    ):
        for _ in range(200):
            near.send(bytes(LARGE))
        time.sleep(0.5)
        assert known_mtu(guest, server) > LARGE
