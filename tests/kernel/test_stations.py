"""Several stations behind one link, as containers on a bridge or on macvlan interfaces in the guest; tagged frames."""

from __future__ import annotations

import socket
import struct
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Final

import pytest

from tests.lab import HOST4, HOST6, SERVER4, SERVER6, Echo, Guest, Lab, Namespace, served
from tests.lab.namespaces import held_namespace

NETWORK4, NETWORK6 = "10.66.0", "2001:db8:66:"
OPTIONS: Final = ("-a", f"{NETWORK4}.2/24", "-g", f"{NETWORK4}.1", "-a", f"{NETWORK6}:2/64", "-g", f"{NETWORK6}:1")
PORT: Final = 7777
GATEWAY_MAC: Final = bytes.fromhex("9a559a559a55")


def link_of(kind: str, guest: Guest, station: Namespace) -> None:
    """Give a station an interface `eth0` on the guest's link."""
    if kind == "macvlan":
        guest.run(*f"ip link add link {guest.interface} name eth0 netns {station.pid} type macvlan mode bridge".split())
        return
    port = f"port{station.pid}"
    line = f"ip link add {port} netns {guest.pid} type veth peer name eth0 netns {station.pid}"
    subprocess.run(line.split(), check=True)
    guest.shell(f"ip link set {port} up master bridge0")


@contextmanager
def stations(lab: Lab, kind: str, *options: str) -> Iterator[tuple[Guest, list[Namespace]]]:
    """Two stations with addresses of their own behind a guest's interface."""
    with lab.guest(*OPTIONS, *options) as guest, ExitStack() as stack:
        interface = guest.interface
        if kind == "bridge":
            guest.shell(
                f"ip link add bridge0 type bridge && ip link set bridge0 up && ip link set {interface} master bridge0"
            )
        made = []
        for number in (11, 12):
            station = stack.enter_context(held_namespace())
            link_of(kind, guest, station)
            station.shell(
                f"""
                echo 0 >/proc/sys/net/ipv6/conf/eth0/accept_dad
                ip link set eth0 mtu 1500 up
                ip address add {NETWORK4}.{number}/24 dev eth0
                ip address add {NETWORK6}:{number}/64 dev eth0 nodad
                ip route add default via {NETWORK4}.1
                ip -6 route add default via {NETWORK6}:1
                """
            )
            made.append(station)
        yield guest, made


@pytest.mark.parametrize("kind", ["bridge", "macvlan"])
def test_stations_behind_one_link_talk_at_the_same_time(lab: Lab, server: str, kind: str) -> None:
    family = socket.AF_INET6 if ":" in server else socket.AF_INET
    with (
        served(lab.upstream.listen(server, PORT), Echo.stream),
        lab.upstream.datagram(server, PORT) as far,
        stations(lab, kind) as (_, both),
        ExitStack() as stack,
    ):
        streams = [stack.enter_context(station.connect(server, PORT)) for station in both]
        near = [stack.enter_context(station.open_socket(family, socket.SOCK_DGRAM)) for station in both]
        for turn in range(10):
            asked = []
            for number, sock in enumerate(near):
                sock.sendto(b"%d" % number, (server, PORT))
                asked.append(far.recvfrom(100))
            for data, source in asked:  # what the first one asked is answered after the other one spoke
                far.sendto(data, source)
            assert [sock.recv(100) for sock in near] == [b"0", b"1"]
            for number, stream in enumerate(streams):
                stream.sendall(b"%d %d" % (turn, number))
            assert [stream.recv(100) for stream in streams] == [b"%d 0" % turn, b"%d 1" % turn]


@pytest.mark.parametrize("kind", ["bridge", "macvlan"])
def test_stations_ping_at_the_same_time(lab: Lab, server: str, kind: str) -> None:
    with stations(lab, kind) as (_, both):
        lines = [station.command("ping", "-c10", "-i0.05", "-W5", server) for station in both]
        running = [subprocess.Popen(line, stdout=subprocess.PIPE, text=True) for line in lines]
        reports = [process.communicate(timeout=30)[0] for process in running]
    for report in reports:
        assert " 0% packet loss" in report


@pytest.mark.parametrize(("host", "address"), [(HOST4, f"{NETWORK4}.12"), (HOST6, f"{NETWORK6}:12")])
def test_a_forward_finds_a_station_that_was_silent(lab: Lab, host: str, address: str) -> None:
    target = f"[{address}]" if ":" in address else address
    with (
        stations(lab, "macvlan", "-t", f"{PORT}:{target}/{PORT}") as (_, (first, second)),
        served(second.listen(address, PORT), Echo.stream),
    ):
        first.run("ping", "-c1", "-W5", SERVER6 if ":" in host else SERVER4)  # it is heard last
        with lab.upstream.connect(host, PORT) as stream:
            stream.sendall(b"hello")
            assert stream.recv(100) == b"hello"


def tagged(frame: bytes, control: int) -> bytes:
    """A frame with an 802.1Q tag."""
    return frame[:12] + struct.pack("!HH", 0x8100, control) + frame[12:]


def test_a_priority_tag_makes_no_difference(lab: Lab) -> None:
    with lab.guest(*OPTIONS) as guest, lab.upstream.datagram(SERVER4, PORT) as far:
        raw = guest.call(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW))
        with raw:
            raw.bind((guest.interface, 0))
            mac = raw.getsockname()[4]
            for number, control in enumerate((0x0005, 0x0000, 0xE000)):
                data = b"%d" % number
                udp = struct.pack("!HHHH", 4000, PORT, 8 + len(data), 0) + data
                head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0)
                head += socket.inet_aton(f"{NETWORK4}.2") + socket.inet_aton(SERVER4)
                total = sum(struct.unpack("!10H", head))
                total = (total & 0xFFFF) + (total >> 16)
                head = head[:10] + struct.pack("!H", ~total & 0xFFFF) + head[12:]
                raw.send(tagged(GATEWAY_MAC + mac + b"\x08\x00" + head + udp, control))
        assert [far.recv(100) for _ in range(2)] == [b"1", b"2"]
