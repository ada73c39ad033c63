"""Frames that no decent guest sends, from a packet socket in it: sansnet goes on, and its memory stays bounded."""

from __future__ import annotations

import random
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

import pytest

from sansnet_core.testing.packets import ACK, FIN, RST, SYN, TCP, Segment
from tests.lab import GATEWAY4, HOST4, SERVER4, Echo, Guest, Lab, eventually, held, served

MEBIBYTE: Final = 1 << 20
ALL_ETHERTYPES: Final = 0x0003


@pytest.fixture
def hostile(lab: Lab) -> Iterator[Guest]:
    """A guest of the test's own: at its end sansnet must have had nothing to say."""
    with lab.guest("--mtu", "1500") as guest:
        yield guest


def packet_socket(guest: Guest) -> socket.socket:
    made = guest.call(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ALL_ETHERTYPES)))
    made.bind((guest.interface, ALL_ETHERTYPES))
    return made


def send(packets: socket.socket, frame: bytes, number: int) -> None:
    """Send a frame, at a rate that leaves most of them to sansnet: the tap's own queue holds 1000."""
    packets.send(frame)
    if number % 400 == 0:
        time.sleep(0.03)


def frames_of_an_exchange(guest: Guest, lab: Lab) -> list[bytes]:
    """Frames that the guest's kernel sends while it does decent things."""
    guest.shell(f"ethtool -K {guest.interface} tso off gso off tx off; ip neighbour flush dev {guest.interface}")
    frames: list[bytes] = []
    with packet_socket(guest) as packets, served(lab.upstream.listen(SERVER4), Echo.stream) as port:
        packets.settimeout(1)
        with guest.connect(SERVER4, port) as near:
            near.sendall(b"x" * 3000)
            near.recv(1)
        guest.run("ping", "-c1", "-s4000", SERVER4)
        guest.run("ping", "-c1", GATEWAY4)
        while len(frames) < 12:
            data, (_, _, kind, *_) = packets.recvfrom(65536)
            if kind == socket.PACKET_OUTGOING:
                frames.append(data)
    return frames


def answered(guest: Guest) -> int:
    """How many frames the guest's interface got."""
    with open(f"/proc/{guest.pid}/net/dev") as file:
        [fields] = [line.split() for line in file if line.strip().startswith(f"{guest.interface}:")]
    return int(fields[2])


def wait_until_answered(guest: Guest, frames: int) -> None:
    assert eventually(lambda: answered(guest) >= frames)


def still_works(guest: Guest, lab: Lab) -> bool:
    with served(lab.upstream.listen(SERVER4), Echo.stream) as port, guest.connect(SERVER4, port) as near:
        near.sendall(b"hello")
        return near.recv(5) == b"hello"


def test_noise_and_mutated_frames_are_survived(hostile: Guest, lab: Lab) -> None:
    patterns = frames_of_an_exchange(hostile, lab)
    noise = random.Random(9)
    before = hostile.resident()
    with packet_socket(hostile) as packets:
        for number in range(20_000):
            frame = bytearray(noise.choice(patterns))
            for _ in range(noise.randrange(1, 6)):
                frame[noise.randrange(12, len(frame))] = noise.randrange(256)
            if noise.random() < 0.3:
                del frame[noise.randrange(14, len(frame)) :]
            send(packets, bytes(frame), number)
    assert still_works(hostile, lab)
    assert hostile.resident() - before < 32 * MEBIBYTE


def checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ipv4(protocol: int, payload: bytes, *, identification: int = 0, fragment: int = 0) -> bytes:
    """An Ethernet frame with an IPv4 packet from the guest to the server; `fragment` is flags and offset."""
    addresses = socket.inet_aton(HOST4) + socket.inet_aton(SERVER4)
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), identification, fragment, 64, protocol, 0) + addresses
    header = header[:10] + struct.pack("!H", checksum(header)) + header[12:]
    return bytes.fromhex("9a559a559a55 020000000001 0800") + header + payload


def syn(source: int, destination: int) -> bytes:
    segment = struct.pack("!HHIIBBHHH", source, destination, 1, 0, 5 << 4, 2, 65535, 0, 0)
    pseudo = socket.inet_aton(HOST4) + socket.inet_aton(SERVER4) + struct.pack("!HH", socket.IPPROTO_TCP, len(segment))
    return ipv4(socket.IPPROTO_TCP, segment[:16] + struct.pack("!H", checksum(pseudo + segment)) + segment[18:])


def test_a_scan_of_every_tcp_port_leaves_nothing_behind(hostile: Guest, lab: Lab) -> None:
    idle = hostile.descriptors()
    before = hostile.resident()
    with packet_socket(hostile) as packets:
        before_scan = answered(hostile)
        for port in range(1, 65536):
            packets.send(syn(40000, port))
            if port % 400 == 0:  # the tap's own queue holds 1000, and drops what comes then
                wait_until_answered(hostile, before_scan + port)
    assert still_works(hostile, lab)
    assert eventually(lambda: hostile.descriptors() <= idle, seconds=30)
    assert hostile.resident() - before < 32 * MEBIBYTE


GATEWAY_MAC: Final = bytes.fromhex("9a559a559a55")
STRANGER4: Final = "198.51.100.77"
"""An address that the guest's kernel does not have, so that it answers none of its segments."""


class RawConnection:
    """A connection from `STRANGER4`, by hand: it sends what it likes, and never repeats anything."""

    def __init__(self, packets: socket.socket, port: int) -> None:
        self._packets = packets
        self._port = port
        self._expected = 0
        self.sequence = 1
        self.edge = 0
        self.send(SYN, mss=65480)
        assert eventually(self._listen)
        self.sequence = 2
        self.send(ACK)

    def send(self, flags: int, data: bytes = b"", *, mss: int | None = None) -> None:
        addresses = socket.inet_aton(STRANGER4), socket.inet_aton(SERVER4)
        number = self._expected if flags & ACK else 0
        segment = Segment(
            addresses[0], 50_000, addresses[1], self._port, self.sequence, number, flags, 65535, data, mss=mss
        )
        self._packets.send(GATEWAY_MAC + self._packets.getsockname()[4] + b"\x08\x00" + segment.ip().emit())
        self.sequence += len(data)

    def _listen(self) -> bool:
        """Take in what was answered; whether anything was."""
        found = False
        self._packets.settimeout(0.5)
        with suppress(TimeoutError):
            while True:
                frame = self._packets.recv(65536)
                if frame[6:12] == GATEWAY_MAC and frame[12:14] == b"\x08\x00" and frame[23] == TCP:
                    sequence, acknowledgment, _, flags, window = struct.unpack_from("!IIBBH", frame, 38)
                    assert not flags & RST
                    self._expected = sequence + bool(flags & SYN)
                    self.edge = acknowledgment + window
                    found = True
        return found

    def fill(self, *, leave: int) -> None:
        """Send until no more than `leave` bytes have room, however long one waits."""
        while self._listen() or self.edge - self.sequence > leave:
            while (room := self.edge - self.sequence) > leave:
                self.send(ACK, bytes(min(room - leave, 32_000)))


def test_a_fin_behind_a_full_window_does_not_end_the_network(lab: Lab) -> None:
    """The host takes nothing, so the guest can fill the window to its edge."""
    with lab.guest() as guest, held(lab.upstream.listen(SERVER4)) as port, packet_socket(guest) as packets:
        connection = RawConnection(packets, port)
        connection.fill(leave=1000)
        assert connection.edge - connection.sequence == 1000
        connection.send(ACK | FIN, bytes(1000))
        assert still_works(guest, lab)


def test_a_flood_of_syns_to_one_port_is_bounded(hostile: Guest, lab: Lab) -> None:
    before = hostile.resident()
    with held(lab.upstream.listen(SERVER4)) as port, packet_socket(hostile) as packets:
        for number in range(30_000):
            send(packets, syn(1 + number, port), number)
        time.sleep(2)
        assert hostile.resident() - before < 256 * MEBIBYTE
    assert still_works(hostile, lab)


def test_datagrams_to_every_port_are_bounded(hostile: Guest, lab: Lab) -> None:
    before = hostile.resident()
    with hostile.datagram("0.0.0.0") as near:
        for port in range(1, 65536):
            try:
                near.sendto(b"x", (SERVER4, port))
            except BlockingIOError:
                time.sleep(0.01)
    assert still_works(hostile, lab)
    assert hostile.resident() - before < 64 * MEBIBYTE


def test_fragments_that_never_complete_are_bounded(hostile: Guest, lab: Lab) -> None:
    before = hostile.resident()
    more = 0x2000
    with packet_socket(hostile) as packets:
        for number in range(30_000):
            packets.send(
                ipv4(socket.IPPROTO_UDP, bytes(1200), identification=number & 0xFFFF, fragment=more | number % 8)
            )
    assert still_works(hostile, lab)
    assert hostile.resident() - before < 64 * MEBIBYTE
    report = hostile.run("ping", "-c2", "-s8000", "-W5", SERVER4).stdout
    assert " 0% packet loss" in report
