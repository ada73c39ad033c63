"""Outsiders that reach a UDP socket of the guest, and packets of the guest that stay on its segment."""

from __future__ import annotations

import random
import select
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.lab import GATEWAY4, GATEWAY6, HOST4, SERVER4, SERVER6, Echo, Guest, Lab, Namespace, served
from tests.lab.machines import guest_of_kind
from tests.lab.tftp import tftp_server

CONTENT: Final = random.Random(11).randbytes(5000)
OTHER4: Final = "203.0.113.11"
OTHER6: Final = "2001:db8:2::11"
"""Further addresses of the upstream's."""
PORT: Final = 7777
QUIET: Final = 0.7
"""Seconds in which nothing must come."""


@pytest.fixture(scope="module", autouse=True)
def addresses(lab: Lab) -> Iterator[None]:
    change = "ip address {0} {1}/32 dev lo; ip address {0} {2}/128 dev lo {3}"
    lab.upstream.shell(change.format("add", OTHER4, OTHER6, "nodad"))
    yield
    lab.upstream.shell(change.format("del", OTHER4, OTHER6, ""))


def fetched(guest: Guest, address: str) -> bytes:
    """A file that curl gets by TFTP; empty if it does not."""
    host = f"[{address}]" if ":" in address else address
    with tempfile.NamedTemporaryFile() as file:
        command = ["curl", "-s", "-m", "6", "-o", file.name, f"tftp://{host}/file"]
        return Path(file.name).read_bytes() if guest.run(*command, check=False).returncode == 0 else b""


@pytest.mark.parametrize("kind", ["run", "serve"])
def test_a_file_comes_by_tftp_whose_server_answers_from_another_port(lab: Lab, kind: str, server: str) -> None:
    with guest_of_kind(lab, kind) as guest, tftp_server(lab.upstream, server, CONTENT):
        assert fetched(guest, server) == CONTENT


def test_so_it_does_from_the_hosts_loopback_by_its_alias(lab: Lab) -> None:
    aliases = {"127.0.0.1": "192.0.2.254", "::1": "2001:db8:f::1"}
    options = [word for alias in aliases.values() for word in ("--map-host-loopback", alias)]
    with lab.guest(*options) as guest:
        for loopback, alias in aliases.items():
            with tftp_server(lab.host, loopback, CONTENT):
                assert fetched(guest, alias) == CONTENT


def test_so_it_does_from_the_hosts_address_that_is_the_guests_too(lab: Lab) -> None:
    with lab.guest("--map-guest-addr", "192.0.2.254") as guest, tftp_server(lab.host, HOST4, CONTENT):
        assert fetched(guest, "192.0.2.254") == CONTENT


@pytest.mark.parametrize(
    ("filtering", "works"),
    [("endpoint-independent", True), ("address-dependent", True), ("address-and-port-dependent", False)],
)
def test_the_filter_is_as_asked_for(lab: Lab, server: str, filtering: str, works: bool) -> None:
    with lab.guest("--udp-filtering", filtering) as guest, tftp_server(lab.upstream, server, CONTENT):
        assert bool(fetched(guest, server)) == works


@pytest.mark.parametrize("port", [0, 5069], ids=["any port", "a port"])
@pytest.mark.parametrize("waits", [False, True], ids=["at once", "followed"])
@pytest.mark.parametrize("filtering", ["endpoint-independent", "address-dependent"])
def test_servers_answer_from_other_ports_while_ports_are_followed(
    lab: Lab, server: str, port: int, waits: bool, filtering: str
) -> None:
    """`-u auto` may have opened a port of the host for the guest's socket by the time that it is used, or not."""
    with (
        lab.guest("-u", "auto", "--udp-filtering", filtering) as guest,
        lab.upstream.datagram(server) as asked_port,
        lab.upstream.datagram(server) as other_port,
        guest.datagram("::" if ":" in server else "0.0.0.0", port) as near,
    ):
        if waits:
            time.sleep(1.5)
        near.sendto(b"request", asked_port.getsockname()[:2])
        seen = asked_port.recvfrom(100)[1]
        for turn in range(3):
            other_port.sendto(b"block %d" % turn, seen)
            data, source = near.recvfrom(100)
            assert (data, source[:2]) == (b"block %d" % turn, other_port.getsockname()[:2])
            near.sendto(b"ack %d" % turn, source)
            assert other_port.recvfrom(100) == (b"ack %d" % turn, seen)


@contextmanager
def asked(guest: Guest, upstream: Namespace, server: str) -> Iterator[tuple[socket.socket, tuple[str, int]]]:
    """A socket of the guest that has asked a server, and the endpoint that the server saw."""
    family = socket.AF_INET6 if ":" in server else socket.AF_INET
    with upstream.datagram(server) as far, guest.open_socket(family, socket.SOCK_DGRAM, timeout=5) as near:
        near.sendto(b"question", far.getsockname()[:2])
        seen = far.recvfrom(100)[1]
        far.sendto(b"answer", seen)
        assert near.recv(100) == b"answer"
        yield near, seen[:2]


def quiet(*sockets: socket.socket) -> bool:
    """Whether nothing comes to sockets for a while."""
    return not select.select(sockets, [], [], QUIET)[0]


@pytest.mark.parametrize(("filtering", "heard"), [("endpoint-independent", True), ("address-dependent", False)])
@pytest.mark.parametrize(("one", "other"), [(SERVER4, OTHER4), (SERVER6, OTHER6)], ids=["ipv4", "ipv6"])
def test_a_host_answers_from_its_other_address(lab: Lab, one: str, other: str, filtering: str, heard: bool) -> None:
    with (
        lab.guest("--udp-filtering", filtering) as guest,
        asked(guest, lab.upstream, one) as (near, seen),
        lab.upstream.datagram(other) as outsider,
    ):
        outsider.sendto(b"from elsewhere", seen)
        if not heard:
            assert quiet(near)
            return
        data, source = near.recvfrom(100)
        assert (data, source[:2]) == (b"from elsewhere", outsider.getsockname()[:2])
        near.sendto(b"reply", source)
        data, source = outsider.recvfrom(100)
        assert (data, source[:2]) == (b"reply", seen)


@pytest.mark.parametrize("server", [SERVER4, SERVER6], ids=["ipv4", "ipv6"])
def test_a_socket_that_sent_nothing_hears_nobody(guest: Guest, lab: Lab, server: str) -> None:
    far = HOST4 if ":" not in server else "2001:db8:1::2"
    with (
        guest.datagram("::" if ":" in server else "0.0.0.0", PORT) as near,
        lab.upstream.datagram(server) as outsider,
    ):
        outsider.sendto(b"psst", (far, PORT))
        assert quiet(near)


def test_the_hosts_own_programs_do_not_reach_in_by_loopback(guest: Guest, lab: Lab) -> None:
    for server, loopback, own in ((SERVER4, "127.0.0.1", HOST4), (SERVER6, "::1", "2001:db8:1::2")):
        with (
            asked(guest, lab.upstream, server) as (near, (_, port)),
            lab.host.datagram(loopback) as local,
            lab.host.datagram(own) as namesake,
        ):
            local.sendto(b"psst", (loopback, port))
            namesake.sendto(b"psst", (own, port))
            assert quiet(near)


@pytest.mark.parametrize("address", ["255.255.255.255", "198.51.100.255", "10.77.0.255", "10.78.0.255"])
def test_a_broadcast_stays_on_the_guests_segment(lab: Lab, address: str) -> None:
    """To all; to the network of guest and host; to another network of the host's; to one that only the guest has."""
    lab.host.shell(
        """
        ip link add side type veth peer name away
        ip link set away up
        ip link set side up
        ip address add 10.77.0.1/24 broadcast 10.77.0.255 dev side
        """
    )
    raw = lab.host.call(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800)))
    try:
        with (
            lab.guest() as guest,
            lab.host.datagram("0.0.0.0", PORT) as host,
            lab.upstream.datagram("0.0.0.0", PORT) as upstream,
            guest.open_socket(socket.AF_INET, socket.SOCK_DGRAM) as near,
            raw,
        ):
            guest.shell(f"ip address add 10.78.0.1/24 broadcast 10.78.0.255 dev {guest.interface}")
            raw.bind(("away", 0x0800))
            near.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            near.sendto(b"all", (address, PORT))
            near.sendto(b"all", (address, PORT))
            assert quiet(host, upstream, raw)
    finally:
        lab.host.shell("ip link del side")


@contextmanager
def namesake(lab: Lab, *addresses: str) -> Iterator[None]:
    """Nodes of the host's network have addresses that are also sansnet's own on the guest's segment."""
    for address in addresses:
        lab.upstream.shell(f"ip address add {address} dev lo {'nodad' if ':' in address else ''}")
    try:
        yield
    finally:
        for address in addresses:
            lab.upstream.shell(f"ip address del {address} dev lo")


@pytest.mark.parametrize(
    ("options", "address"),
    [
        (["-a", "10.0.2.15/24", "-g", "10.0.2.2"], "10.0.2.2"),
        (["-a", "2001:db8:9::15/64", "-g", "2001:db8:9::2"], "2001:db8:9::2"),
        (["--dns-forward", "192.0.2.53", "--dns-host", SERVER4], "192.0.2.53"),
    ],
    ids=["gateway4", "gateway6", "resolver"],
)
def test_a_made_up_address_does_not_lead_to_the_hosts_network(lab: Lab, options: list[str], address: str) -> None:
    with (
        namesake(lab, address),
        lab.guest(*options) as guest,
        served(lab.upstream.listen(address, PORT), Echo.stream),
        Echo.datagrams(lab.upstream.datagram(address, PORT)),
    ):
        before = lab.upstream.counter("Icmp", "InEchos")
        assert guest.run("ping", "-c1", "-W5", address, check=False).returncode == 0
        assert lab.upstream.counter("Icmp", "InEchos") == before
        with pytest.raises(ConnectionRefusedError):
            guest.connect(address, PORT)
        with guest.open_socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as near:
            near.connect((address, PORT))
            near.settimeout(5)
            near.send(b"hello")
            with pytest.raises(ConnectionRefusedError):
                near.recv(100)


@pytest.mark.parametrize("address", [GATEWAY4, GATEWAY6])
def test_a_gateway_that_was_copied_is_the_hosts(guest: Guest, lab: Lab, address: str) -> None:
    with served(lab.upstream.listen(address, PORT), Echo.stream), guest.connect(address, PORT) as stream:
        stream.sendall(b"hello")
        assert stream.recv(100) == b"hello"
