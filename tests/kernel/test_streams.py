"""TCP as a program in the guest sees it: both ends of each connection are in this process."""

from __future__ import annotations

import hashlib
import random
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import pytest

from tests.lab import SERVER4, UNREACHABLE4, UNREACHABLE6, Echo, Guest, Lab, eventually, served
from tests.lab.machines import guest_of_kind

MEBIBYTE: Final = 1 << 20


@pytest.fixture(scope="module", params=["run", "serve"])
def guest(lab: Lab, request: pytest.FixtureRequest) -> Iterator[Guest]:
    """A guest of each kind in turn."""
    with guest_of_kind(lab, request.param) as made:
        yield made


@contextmanager
def connected(guest: Guest, lab: Lab, server: str) -> Iterator[tuple[socket.socket, socket.socket]]:
    """A connection's end in the guest, and its end upstream."""
    with lab.upstream.listen(server) as listener:
        near = guest.connect(server, listener.getsockname()[1])
        with near, listener.accept()[0] as far:
            far.settimeout(20)
            yield near, far


def receive_exactly(stream: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size and (piece := stream.recv(size - len(data))):
        data += piece
    return bytes(data)


def send_and_end(stream: socket.socket, data: bytes) -> None:
    stream.sendall(data)
    stream.shutdown(socket.SHUT_WR)


def send_until_stalled(stream: socket.socket, data: memoryview, *, patience: float) -> int:
    """How many bytes a socket took before it took none for some seconds."""
    stream.setblocking(False)
    sent = 0
    while sent < len(data):
        if not select.select([], [stream], [], patience)[1]:
            break
        sent += stream.send(data[sent : sent + 256 * 1024])
    stream.settimeout(30)
    return sent


def retransmissions(guest: Guest) -> int:
    """Segments that the guest sent again because it had to.

    A loss probe is none: Linux sends it early, after two round trips that here are shorter than a process's turn.
    """
    return guest.counter("Tcp", "RetransSegs") - guest.counter("TcpExt", "TCPLossProbes")


def test_what_is_sent_comes_back(guest: Guest, lab: Lab, server: str) -> None:
    with served(lab.upstream.listen(server), Echo.stream) as port, guest.connect(server, port) as near:
        for size in (1, 10, 1460, 1461, 65536, 300_000):
            data = random.Random(size).randbytes(size)
            threading.Thread(target=near.sendall, args=(data,), daemon=True).start()
            assert receive_exactly(near, size) == data


def test_the_guest_may_close_its_half_first(guest: Guest, lab: Lab, server: str) -> None:
    with connected(guest, lab, server) as (near, far):
        near.sendall(b"question")
        near.shutdown(socket.SHUT_WR)
        assert receive_exactly(far, 100) == b"question"
        time.sleep(0.5)
        answer = random.Random(3).randbytes(2 * MEBIBYTE)
        threading.Thread(target=send_and_end, args=(far, answer), daemon=True).start()
        assert receive_exactly(near, len(answer) + 1) == answer


def test_the_host_may_close_its_half_first(guest: Guest, lab: Lab, server: str) -> None:
    with connected(guest, lab, server) as (near, far):
        far.sendall(b"greeting")
        far.shutdown(socket.SHUT_WR)
        assert receive_exactly(near, 100) == b"greeting"
        time.sleep(0.5)
        answer = random.Random(4).randbytes(2 * MEBIBYTE)
        threading.Thread(target=send_and_end, args=(near, answer), daemon=True).start()
        assert receive_exactly(far, len(answer) + 1) == answer


def test_both_may_close_at_the_same_time(guest: Guest, lab: Lab, server: str) -> None:
    for _ in range(20):
        with connected(guest, lab, server) as (near, far):
            near.sendall(b"n")
            far.sendall(b"f")
            near.shutdown(socket.SHUT_WR)
            far.shutdown(socket.SHUT_WR)
            assert receive_exactly(near, 100) == b"f"
            assert receive_exactly(far, 100) == b"n"


def reset(stream: socket.socket) -> None:
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    stream.close()


def test_a_reset_from_the_host_reaches_the_guest(guest: Guest, lab: Lab, server: str) -> None:
    with connected(guest, lab, server) as (near, far):
        reset(far)
        with pytest.raises(ConnectionResetError):
            near.recv(1)


def test_a_reset_from_the_guest_reaches_the_host(guest: Guest, lab: Lab, server: str) -> None:
    with connected(guest, lab, server) as (near, far):
        reset(near)
        with pytest.raises(ConnectionResetError):
            far.recv(1)


def answered_the_first_syn(took: Callable[[], float]) -> bool:
    """Whether one of some attempts took less than the second after which a SYN is sent again.

    On a busy machine one alone may take longer.
    """
    return any(took() < 0.9 for _ in range(5))


def test_a_closed_port_refuses_at_once(guest: Guest, server: str) -> None:
    def refused() -> float:
        started = time.monotonic()
        with pytest.raises(ConnectionRefusedError):
            guest.connect(server, 9)
        return time.monotonic() - started

    assert answered_the_first_syn(refused)


@pytest.mark.parametrize("address", [UNREACHABLE4, UNREACHABLE6])
def test_an_unreachable_address_fails_as_it_does_on_the_host(guest: Guest, lab: Lab, address: str) -> None:
    with pytest.raises(OSError, match=r"\[Errno") as on_host:
        lab.host.connect(address, 80)

    def failed() -> float:
        started = time.monotonic()
        with pytest.raises(OSError, match=r"\[Errno") as in_guest:
            guest.connect(address, 80)
        assert in_guest.value.errno == on_host.value.errno
        return time.monotonic() - started

    assert answered_the_first_syn(failed)


def test_a_guest_that_does_not_read_stops_the_sender_and_loses_nothing(guest: Guest, lab: Lab, server: str) -> None:
    data = memoryview(random.Random(5).randbytes(MEBIBYTE) * 256)
    before = guest.resident()
    with connected(guest, lab, server) as (near, far):
        sent = send_until_stalled(far, data, patience=1.5)
        assert sent < len(data)
        assert guest.resident() - before < 32 * MEBIBYTE
        far.shutdown(socket.SHUT_WR)
        digest = hashlib.sha256()
        while piece := near.recv(MEBIBYTE):
            digest.update(piece)
    assert digest.digest() == hashlib.sha256(data[:sent]).digest()


def test_a_host_that_does_not_read_stops_the_guest_which_never_retransmits(guest: Guest, lab: Lab, server: str) -> None:
    data = memoryview(random.Random(6).randbytes(MEBIBYTE) * 256)
    before = guest.resident()
    retransmitted = retransmissions(guest)
    with connected(guest, lab, server) as (near, far):
        sent = send_until_stalled(near, data, patience=1.5)
        assert sent < len(data)
        assert guest.resident() - before < 32 * MEBIBYTE
        near.shutdown(socket.SHUT_WR)
        digest = hashlib.sha256()
        while piece := far.recv(MEBIBYTE):
            digest.update(piece)
    assert digest.digest() == hashlib.sha256(data[:sent]).digest()
    assert retransmissions(guest) <= retransmitted  # a loss probe with new data is no retransmission, and lowers it


@pytest.mark.parametrize("reader", ["guest", "host"])
def test_a_slow_reader_with_a_small_buffer_gets_everything(guest: Guest, lab: Lab, server: str, reader: str) -> None:
    data = random.Random(7).randbytes(2 * MEBIBYTE)
    with lab.upstream.listen(server) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        near = guest.connect(server, listener.getsockname()[1], receive_buffer=8192)
        with near, listener.accept()[0] as far:
            far.settimeout(20)
            source, sink = (far, near) if reader == "guest" else (near, far)
            threading.Thread(target=source.sendall, args=(data,), daemon=True).start()
            received = bytearray()
            while len(received) < len(data):
                received += sink.recv(20_000)
                time.sleep(0.002)
    assert bytes(received) == data


def test_a_slow_writer_is_heard_byte_by_byte(guest: Guest, lab: Lab, server: str) -> None:
    with connected(guest, lab, server) as (near, far):
        near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for number in range(200):
            near.sendall(bytes([number]))
            assert far.recv(10) == bytes([number])
            far.sendall(bytes([number]))
            assert near.recv(10) == bytes([number])


def test_an_idle_connection_is_kept(guest: Guest, lab: Lab) -> None:
    with connected(guest, lab, SERVER4) as (near, far):
        time.sleep(5)
        near.sendall(b"still here")
        assert receive_exactly(far, 10) == b"still here"


def test_many_connections_at_once(guest: Guest, lab: Lab, server: str) -> None:
    with served(lab.upstream.listen(server), Echo.stream) as port:
        streams = [guest.connect(server, port) for _ in range(300)]
        for number, stream in enumerate(streams):
            stream.sendall(b"%d" % number)
        for number, stream in enumerate(streams):
            with stream:
                stream.shutdown(socket.SHUT_WR)
                assert receive_exactly(stream, 10) == b"%d" % number


@pytest.mark.parametrize("who", ["guest", "host"])
def test_ten_thousand_short_connections_leave_nothing_behind(lab: Lab, who: str) -> None:
    """`who` closes first.

    The first half shows how much memory the connections need that are remembered for a while after their end; how many
    those are varies from run to run. A leak of all of the second half would be 12 MiB.
    """

    def serve(stream: socket.socket) -> None:
        stream.sendall(stream.recv(1))
        if who == "guest":
            stream.recv(1)

    def use(port: int, count: int) -> None:
        for _ in range(count):
            with socket.create_connection((SERVER4, port), timeout=20) as stream:
                stream.sendall(b"x")
                assert stream.recv(1) == b"x"
                if who == "host":
                    assert stream.recv(1) == b""

    with lab.guest() as guest, served(lab.upstream.listen(SERVER4), serve) as port:
        idle = guest.descriptors()
        guest.call(lambda: use(port, 5000), timeout=120)
        assert eventually(lambda: guest.descriptors() <= idle, seconds=15)
        before = guest.resident()
        guest.call(lambda: use(port, 5000), timeout=120)
        assert eventually(lambda: guest.descriptors() <= idle, seconds=15)
        assert guest.resident() - before < 7 * MEBIBYTE
        assert lab.host.shell("ss --no-header --tcp state established state close-wait").stdout == ""
