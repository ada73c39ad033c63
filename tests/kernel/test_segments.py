"""The segments of a connection, as they arrive at the guest's interface."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from struct import Struct
from typing import Final, NamedTuple

import pytest

from tests.lab import SERVER4, Guest, Lab

IPV4: Final = 0x0800
FIN: Final = 0x01
HEADERS: Final = Struct("=128s")
PORT_AND_FLAGS: Final = Struct("!H10xBB")
"""Of a TCP header: the source port, the header's length, and the flags."""
MEBIBYTE: Final = 1 << 20
SO_RCVBUFFORCE: Final = 33


class Segment(NamedTuple):
    """A segment to the guest: its flags, and the bytes of its payload."""

    flags: int
    size: int


@contextmanager
def captured(guest: Guest) -> Iterator[socket.socket]:
    """A socket that gets a copy of every IPv4 packet at the guest's interfaces."""
    with guest.call(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(IPV4))) as made:
        made.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 * MEBIBYTE)
        made.settimeout(0.5)
        yield made


def segments(packets: socket.socket, port: int) -> list[Segment]:
    """The segments from a port that were captured so far."""
    found: list[Segment] = []
    data = bytearray(HEADERS.size)
    while True:
        try:
            size, (_, _, kind, *_) = packets.recvfrom_into(data, 0, socket.MSG_TRUNC)
        except TimeoutError:
            return found
        start = (data[0] & 15) * 4
        if kind != socket.PACKET_OUTGOING and data[9] == socket.IPPROTO_TCP:
            source, length, flags = PORT_AND_FLAGS.unpack_from(data, start)
            if source == port:
                found.append(Segment(flags, size - start - (length >> 4) * 4))


@contextmanager
def stopped(guest: Guest) -> Iterator[None]:
    """Stop the program for a while, so that more than one thing happens until it looks."""
    os.kill(guest.sansnet, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(guest.sansnet, signal.SIGCONT)


@contextmanager
def connected(guest: Guest, lab: Lab) -> Iterator[tuple[socket.socket, socket.socket, int]]:
    """The ends of a connection in the guest and upstream, and the port of the second."""
    with lab.upstream.listen(SERVER4) as listener:
        port = listener.getsockname()[1]
        with guest.connect(SERVER4, port) as near, listener.accept()[0] as far:
            near.settimeout(20)
            far.settimeout(20)
            yield near, far, port


def drain(stream: socket.socket) -> int:
    total = 0
    while data := stream.recv(MEBIBYTE):
        total += len(data)
    return total


def send_and_close(stream: socket.socket, data: bytes) -> None:
    stream.sendall(data)
    stream.close()


@pytest.mark.parametrize("answer", [b"short", bytes(50_000)], ids=["short", "long"])
def test_fin_comes_with_the_last_data(lab: Lab, answer: bytes) -> None:
    with lab.guest() as guest, captured(guest) as packets, connected(guest, lab) as (near, far, port):
        near.sendall(b"?")
        assert far.recv(10) == b"?"
        with stopped(guest):
            far.sendall(answer)
            far.close()
        assert drain(near) == len(answer)
        found = segments(packets, port)
        assert [bool(segment.size) for segment in found if segment.flags & FIN] == [True]


@pytest.mark.parametrize("mtu", [1500, 65520])
def test_data_come_in_whole_frames(lab: Lab, mtu: int) -> None:
    """A few frames are smaller, while the window of the guest is small, and when its program is slow.

    There are more of them while the host's sender is slower than sansnet, so one of some transfers counts.
    """
    size = 32 * MEBIBYTE
    shares: list[float] = []
    with lab.guest("--mtu", str(mtu)) as guest, captured(guest) as packets:
        while not shares or (shares[-1] >= 0.1 and len(shares) < 5):
            with connected(guest, lab) as (near, far, port):
                threading.Thread(target=send_and_close, args=(far, bytes(size)), daemon=True).start()
                assert drain(near) == size
            sizes = [segment.size for segment in segments(packets, port) if segment.size]
            assert sum(sizes) >= size
            assert max(sizes) > 60_000
            shares.append(sum(each < max(sizes) // 2 for each in sizes) / len(sizes))
    assert shares[-1] < 0.1, shares
