"""Ports that are forwarded, as programs on both sides see them: both ends of each connection are in this process."""

from __future__ import annotations

import hashlib
import random
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Final, NamedTuple

import pytest

from tests.lab import GATEWAY4, GATEWAY6, HOST4, HOST6, SERVER6, USER, Echo, Guest, Lab, Namespace, eventually, served
from tests.lab.machines import bridged, configured, guest_of_kind, machine, serving
from tests.lab.namespaces import running

MEBIBYTE: Final = 1 << 20
SIZES: Final = (1, 1000, 65536, 300_000)
DATAGRAM_SIZES: Final = (1, 1400, 0)
LOOPBACK_SIZES: Final = (9000, 65000)
"""An answer of that size that goes outside is lost, if it is the first one: the guest learns the path's MTU by it."""


class Shape(NamedTuple):
    """Specifications of one kind, and a port that they forward, on either side."""

    specs: tuple[str, ...]
    host: int
    guest: int


SHAPES: Final = {
    "single": Shape(("8001",), 8001, 8001),
    "range": Shape(("8002-8004",), 8003, 8003),
    "translated": Shape(("8005:9005",), 8005, 9005),
    "translated-range": Shape(("8006-8008:9006-9008",), 8008, 9008),
    "address": Shape(
        (f"{HOST4}/8009:9009", f"{HOST6}/8009:9009", "127.0.0.1/8009:9009", "[::1]/8009:9009"), 8009, 9009
    ),
    "interface": Shape(("%uplink/8010:9010", "%lo/8010:9010"), 8010, 9010),
}
OPTIONS: Final = [word for shape in SHAPES.values() for spec in shape.specs for word in ("-t", spec, "-u", spec)]


@pytest.fixture(scope="module", params=["run", "serve"])
def guest(lab: Lab, request: pytest.FixtureRequest) -> Iterator[Guest]:
    """A guest of each kind in turn, with all of these forwards."""
    with guest_of_kind(lab, request.param, *OPTIONS) as made:
        made.run("ping", "-c1", "-W5", SERVER6)  # a machine is known by the address that it speaks from
        yield made


@pytest.fixture(params=[4, 6], ids=["ipv4", "ipv6"])
def family(request: pytest.FixtureRequest) -> int:
    version: int = request.param
    return version


@pytest.fixture(params=list(SHAPES.values()), ids=list(SHAPES))
def shape(request: pytest.FixtureRequest) -> Shape:
    chosen: Shape = request.param
    return chosen


class Origin(NamedTuple):
    """Where somebody connects from, and to which address."""

    namespace: Namespace
    address: str


@pytest.fixture(params=["outside", "loopback"])
def origin(lab: Lab, request: pytest.FixtureRequest, family: int) -> Origin:
    if request.param == "outside":
        return Origin(lab.upstream, HOST4 if family == 4 else HOST6)
    return Origin(lab.host, "127.0.0.1" if family == 4 else "::1")


def everywhere(family: int) -> str:
    return "0.0.0.0" if family == 4 else "::"


def receive_exactly(stream: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size and (piece := stream.recv(size - len(data))):
        data += piece
    return bytes(data)


def send_and_end(stream: socket.socket, data: bytes) -> None:
    stream.sendall(data)
    stream.shutdown(socket.SHUT_WR)


@contextmanager
def connected(
    guest: Namespace, origin: Origin, host_port: int, guest_port: int, where: str
) -> Iterator[tuple[socket.socket, socket.socket]]:
    """A connection's end where it began, and its end in the guest."""
    with guest.listen(where, guest_port) as listener:
        near = origin.namespace.connect(origin.address, host_port)
        near.settimeout(20)
        with near, listener.accept()[0] as far:
            far.settimeout(20)
            yield near, far


def test_connections_arrive_whatever_the_shape(guest: Guest, origin: Origin, family: int, shape: Shape) -> None:
    with served(guest.listen(everywhere(family), shape.guest), Echo.stream):
        near = origin.namespace.connect(origin.address, shape.host)
        with near:
            for size in SIZES:
                data = random.Random(size).randbytes(size)
                threading.Thread(target=near.sendall, args=(data,), daemon=True).start()
                assert receive_exactly(near, size) == data
            near.shutdown(socket.SHUT_WR)
            assert near.recv(1) == b""


def test_datagrams_arrive_whatever_the_shape(guest: Guest, origin: Origin, family: int, shape: Shape) -> None:
    near = origin.namespace.datagram(everywhere(family))
    with Echo.datagrams(guest.datagram(everywhere(family), shape.guest)), near:
        for size in DATAGRAM_SIZES + (LOOPBACK_SIZES if origin.address in ("127.0.0.1", "::1") else ()):
            data = random.Random(size).randbytes(size)
            near.sendto(data, (origin.address, shape.host))
            assert near.recvfrom(65536)[0] == data


def test_the_guest_knows_who_is_outside(guest: Guest, lab: Lab, family: int) -> None:
    outside = GATEWAY4 if family == 4 else GATEWAY6
    origin = Origin(lab.upstream, HOST4 if family == 4 else HOST6)
    with connected(guest, origin, 8005, 9005, everywhere(family)) as (near, far):
        assert far.getpeername()[:2] == (outside, near.getsockname()[1])
    with guest.datagram(everywhere(family), 9005) as there, lab.upstream.datagram(outside) as here:
        here.sendto(b"x", (origin.address, 8005))
        assert there.recvfrom(10)[1][:2] == (outside, here.getsockname()[1])


def test_answers_leave_from_the_address_that_was_asked(guest: Guest, lab: Lab) -> None:
    lab.host.shell("ip address add 198.51.100.3/24 dev uplink")
    try:
        with Echo.datagrams(guest.datagram("0.0.0.0", 8001)), lab.upstream.datagram("0.0.0.0") as near:
            for address in (HOST4, "198.51.100.3"):
                near.sendto(b"x", (address, 8001))
                assert near.recvfrom(10)[1] == (address, 8001)
    finally:
        lab.host.shell("ip address del 198.51.100.3/24 dev uplink")


def test_a_port_that_nobody_listens_on_is_reset(guest: Guest, origin: Origin) -> None:
    with pytest.raises(ConnectionResetError), origin.namespace.connect(origin.address, 8001) as near:
        near.recv(1)


def test_each_half_ends_by_itself(guest: Guest, origin: Origin, family: int) -> None:
    with connected(guest, origin, 8001, 8001, everywhere(family)) as (near, far):
        near.sendall(b"question")
        near.shutdown(socket.SHUT_WR)
        assert receive_exactly(far, 100) == b"question"
        answer = random.Random(3).randbytes(2 * MEBIBYTE)
        threading.Thread(target=send_and_end, args=(far, answer), daemon=True).start()
        assert receive_exactly(near, len(answer) + 1) == answer


@pytest.mark.parametrize("who", ["outsider", "guest"])
def test_a_reset_reaches_the_other_end(guest: Guest, origin: Origin, family: int, who: str) -> None:
    with connected(guest, origin, 8001, 8001, everywhere(family)) as (near, far):
        one, other = (near, far) if who == "outsider" else (far, near)
        one.sendall(b"x")
        assert other.recv(1) == b"x"
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        one.close()
        with pytest.raises(ConnectionResetError):
            other.recv(1)


@pytest.mark.parametrize("where", ["outside", "loopback"])
@pytest.mark.parametrize("direction", ["in", "out"])
def test_a_hundred_megabytes_arrive(guest: Guest, lab: Lab, where: str, direction: str) -> None:
    origin = Origin(lab.upstream, HOST4) if where == "outside" else Origin(lab.host, "127.0.0.1")
    block = random.Random(5).randbytes(MEBIBYTE)
    with connected(guest, origin, 8001, 8001, "0.0.0.0") as (near, far):
        source, sink = (near, far) if direction == "in" else (far, near)

        def send() -> None:
            for _ in range(100):
                source.sendall(block)
            source.shutdown(socket.SHUT_WR)

        threading.Thread(target=send, daemon=True).start()
        digest, expected = hashlib.sha256(), hashlib.sha256()
        while piece := sink.recv(MEBIBYTE):
            digest.update(piece)
        for _ in range(100):
            expected.update(block)
        assert digest.digest() == expected.digest()


# one guest each, with other ports than the one above


def test_a_guest_that_does_not_read_stops_the_sender_and_loses_nothing(lab: Lab) -> None:
    for origin in (Origin(lab.upstream, HOST4), Origin(lab.host, "127.0.0.1")):
        with lab.guest("-t", "8101") as guest, connected(guest, origin, 8101, 8101, "0.0.0.0") as (near, far):
            before = guest.resident()
            near.setblocking(False)
            sent = 0
            quiet = time.monotonic() + 1
            while time.monotonic() < quiet:
                try:
                    sent += near.send(bytes(MEBIBYTE))
                    quiet = time.monotonic() + 1
                except BlockingIOError:
                    time.sleep(0.01)
            assert sent < 100 * MEBIBYTE
            assert guest.resident() - before < 32 * MEBIBYTE
            used = guest.processor_time()
            time.sleep(1)
            assert guest.processor_time() - used < 0.1
            near.shutdown(socket.SHUT_WR)
            received = 0
            while piece := far.recv(MEBIBYTE):
                received += len(piece)
            assert received == sent


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_ports_of_the_guests_loopback_lead_to_the_hosts(lab: Lab, address: str) -> None:
    specs = ["-T", "7001", "-T", "7002:7102", "-T", "7003-7004:7103-7104", "-U", "7001", "-U", "7005:7105"]
    with lab.guest(*specs) as guest:
        for here, there in ((7001, 7001), (7002, 7102), (7004, 7104)):
            with served(lab.host.listen(address, there), Echo.stream), guest.connect(address, here) as near:
                data = random.Random(here).randbytes(MEBIBYTE)
                threading.Thread(target=near.sendall, args=(data,), daemon=True).start()
                assert receive_exactly(near, len(data)) == data
        for here, there in ((7001, 7001), (7005, 7105)):
            with Echo.datagrams(lab.host.datagram(address, there)), guest.datagram(address) as near:
                for size in DATAGRAM_SIZES + LOOPBACK_SIZES:
                    near.sendto(bytes(size), (address, here))
                    data, source = near.recvfrom(65536)
                    assert (data, source[:2]) == (bytes(size), (address, here))


def test_who_comes_from_the_hosts_loopback_comes_to_the_guests_address_or_loopback(lab: Lab) -> None:
    cases: list[tuple[tuple[str, ...], str]] = [((), HOST4), (("--host-lo-to-ns-lo",), "127.0.0.1")]
    for options, where in cases:
        with lab.guest("-t", "8101", "-u", "8101", *options) as guest:
            with connected(guest, Origin(lab.host, "127.0.0.1"), 8101, 8101, where) as (_, far):
                assert far.getpeername()[0] == where
            with guest.datagram(where, 8101) as there, lab.host.datagram("127.0.0.1") as here:
                here.sendto(b"x", ("127.0.0.1", 8101))
                assert there.recvfrom(10)[1][0] == where


def test_without_splicing_the_hosts_loopback_is_the_gateway(lab: Lab) -> None:
    origin = Origin(lab.host, "127.0.0.1")
    with lab.guest("-t", "8101", "--no-splice") as guest, connected(guest, origin, 8101, 8101, "0.0.0.0") as (_, far):
        assert far.getpeername()[0] == GATEWAY4


def opened(namespace: Namespace, port: int, kind: str = "--tcp") -> bool:
    """Whether somebody listens on a port."""
    return bool(namespace.shell(f"ss --no-header --listening {kind} --numeric 'sport = {port}'").stdout)


@pytest.mark.parametrize("user", [None, USER], ids=["root", "user"])
def test_ports_follow_those_who_listen(lab: Lab, user: int | None) -> None:
    with lab.guest("-t", "auto", "-u", "auto", "-T", "auto", "-U", "auto", user=user) as guest:
        with guest.listen("0.0.0.0", 8101) as listener:
            assert eventually(lambda: opened(lab.host, 8101))
            with lab.upstream.connect(HOST4, 8101), listener.accept()[0] as far:
                assert far.getpeername()[0] == GATEWAY4
            assert eventually(lambda: opened(lab.host, 8101, "--udp"))
            assert not opened(guest, 8101, "--udp")
        assert eventually(lambda: not opened(lab.host, 8101))

        with served(lab.host.listen("127.0.0.1", 7001), Echo.stream):
            assert eventually(lambda: opened(guest, 7001))
            with guest.connect("127.0.0.1", 7001) as near:
                near.sendall(b"x")
                assert near.recv(1) == b"x"
        assert eventually(lambda: not opened(guest, 7001))

        with Echo.datagrams(guest.datagram("0.0.0.0", 8102)), lab.upstream.datagram("0.0.0.0") as near:
            assert eventually(lambda: opened(lab.host, 8102, "--udp"))
            near.sendto(b"x", (HOST4, 8102))
            assert near.recvfrom(10)[0] == b"x"


def test_verbose_says_what_leads_where_and_what_auto_opens_and_closes(lab: Lab) -> None:
    script = """
import socket
with socket.create_server(("0.0.0.0", 8101)):
    input()
input()
"""
    options = ["-v", "-t", "127.0.0.1/8080:80", "-t", "auto", "-T", "7001"]
    line = lab.sansnet_command(options, [sys.executable, "-c", script], user=USER, before="")
    said: list[str] = []
    with running(line, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        for expected in ("opened, because", "closed, because"):
            for text in process.stderr:
                said.append(text.rstrip("\n"))
                if expected in text:
                    break
            process.stdin.write("\n")
            process.stdin.flush()
        said += process.stderr.read().splitlines()
    followed = [line for line in said if ":8101 ->" in line]
    assert followed == [
        "sansnet: TCP: host 0.0.0.0:8101 -> guest port 8101: opened, because a program listens there",
        "sansnet: TCP: host 0.0.0.0:8101 -> guest port 8101: closed, because no program listens there any more",
    ]
    assert "sansnet: TCP: host 127.0.0.1:8080 -> guest port 80" in said
    assert "sansnet: TCP: guest 127.0.0.1:7001 and [::1]:7001 -> host port 7001" in said


def test_what_follows_in_both_directions_never_follows_itself(lab: Lab) -> None:
    """Ports that both follow would stay open for ever, each for the other's sake."""
    with lab.guest("-t", "auto", "-T", "auto", "--host-lo-to-ns-lo") as guest:
        with guest.listen("127.0.0.1", 8101), lab.host.listen("127.0.0.1", 7001):
            assert eventually(lambda: opened(lab.host, 8101) and opened(guest, 7001))
            time.sleep(1.2)
        assert eventually(lambda: not opened(lab.host, 8101) and not opened(guest, 7001))


def test_a_port_that_is_taken_is_said_before_the_command_begins(lab: Lab) -> None:
    with lab.host.listen("0.0.0.0", 8101):
        done = lab.sansnet(["-t", "8101"], ["echo", "begun"])
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "sansnet: -t 8101: port 8101 of the host cannot be bound (Address already in use); give another port, or end "
        "the program that has it\n"
    )


def test_an_ordinary_user_is_told_how_to_get_a_low_port(lab: Lab) -> None:
    done = lab.sansnet(["-t", "80"], ["true"], user=USER)
    assert done.returncode == 1
    assert "sysctl -w net.ipv4.ip_unprivileged_port_start=80" in done.stderr


def test_an_ordinary_user_forwards_in_both_directions(lab: Lab) -> None:
    with lab.guest("-t", "8101", "-T", "80:7001", user=USER) as guest:
        with connected(guest, Origin(lab.upstream, HOST4), 8101, 8101, "0.0.0.0") as (near, far):
            far.sendall(b"x")
            assert near.recv(1) == b"x"
        with connected(guest, Origin(lab.host, "127.0.0.1"), 8101, 8101, "0.0.0.0") as (near, far):
            far.sendall(b"y")
            assert near.recv(1) == b"y"
        with served(lab.host.listen("127.0.0.1", 7001), Echo.stream), guest.connect("127.0.0.1", 80) as near:
            near.sendall(b"z")
            assert near.recv(1) == b"z"


def test_ports_are_free_at_once_when_the_command_has_ended(lab: Lab) -> None:
    origin = Origin(lab.upstream, HOST4)
    for _ in range(3):
        with (
            lab.guest("-t", "8101", "-u", "8101") as guest,
            connected(guest, origin, 8101, 8101, "0.0.0.0") as (near, far),
        ):
            far.sendall(b"x")
            assert near.recv(1) == b"x"
        lab.host.listen("0.0.0.0", 8101).close()
        lab.host.datagram("0.0.0.0", 8101).close()


def test_all_ports_are_those_that_nobody_has(lab: Lab) -> None:
    """All but many: a thousand descriptors or ten thousands may be what a test is allowed."""
    with lab.host.listen("0.0.0.0", 8101), lab.guest("-t", "~1-8099,~8200-39999,~40100-65535") as guest:
        assert not opened(lab.host, 40000)
        with connected(guest, Origin(lab.upstream, HOST4), 8102, 8102, "0.0.0.0") as (near, far):
            far.sendall(b"x")
            assert near.recv(1) == b"x"


def test_the_ports_of_a_machine_wait_for_its_successor(lab: Lab) -> None:
    with serving(lab, "-t", "8101:80") as server:
        for _ in range(2):
            with machine() as guest, bridged(guest, server.path):
                configured(guest, ipv6=False)
                with served(guest.listen("0.0.0.0", 80), Echo.stream):
                    near = lab.upstream.connect(HOST4, 8101)
                    with near:
                        near.sendall(b"x")
                        assert near.recv(1) == b"x"
            assert opened(lab.host, 8101)
        assert server.end() == 0
        assert not opened(lab.host, 8101)


def test_many_connections_at_once(lab: Lab) -> None:
    for origin in (Origin(lab.upstream, HOST4), Origin(lab.host, "127.0.0.1")):
        with lab.guest("-t", "8101") as guest, served(guest.listen("0.0.0.0", 8101), Echo.stream):
            idle = guest.descriptors()
            streams = [origin.namespace.connect(origin.address, 8101) for _ in range(200)]
            for number, stream in enumerate(streams):
                stream.sendall(b"%d" % number)
            for number, stream in enumerate(streams):
                with stream:
                    stream.shutdown(socket.SHUT_WR)
                    assert receive_exactly(stream, 10) == b"%d" % number
            assert eventually(partial(few_more, guest, idle))


def few_more(guest: Guest, idle: int) -> bool:
    """Whether the connections' descriptors are closed; pipes and sockets in reserve may be more than before."""
    return guest.descriptors() <= idle + 60


def test_a_run_of_datagrams_too_large_for_the_guests_loopback_arrives_one_by_one(lab: Lab) -> None:
    with (
        lab.guest("-u", "8101") as guest,
        guest.datagram("0.0.0.0", 8101) as there,
        lab.host.datagram("0.0.0.0") as here,
    ):
        guest.shell("ip link set lo mtu 1400")
        there.settimeout(5)
        run = b"".join(bytes([number]) * 2000 for number in range(3))
        segment = (socket.IPPROTO_UDP, 103, struct.pack("=H", 2000))  # UDP_SEGMENT
        here.sendmsg([run], [segment], 0, ("127.0.0.1", 8101))
        assert [there.recv(65536) for _ in range(3)] == [bytes([number]) * 2000 for number in range(3)]
