"""Spliced connections between two sockets of the test."""

from __future__ import annotations

import errno
import fcntl
import os
import random
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from struct import pack

import pytest

from sansnet_trio.forward.splice_tcp import Fallback, Splices
from sansnet_trio.host.sockaddr import SocketAddress
from tests.trio.fake import Bench

MEBIBYTE = 1 << 20


class Spliced:
    """A bench with splices, and a listener that they connect to."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.splices = Splices(bench.context)
        self.listener = socket.create_server(("127.0.0.1", 0))

    def join(
        self, port: int | None = None, fallback: Fallback | None = None, *, inbound: bool = False
    ) -> socket.socket:
        """The client's socket of a splice that has just begun."""
        with socket.create_server(("127.0.0.1", 0)) as front:
            near = socket.create_connection(front.getsockname(), timeout=5)
            accepted, _ = front.accept()
        accepted.setblocking(False)
        other = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        address = "127.0.0.1", port or self.listener.getsockname()[1]
        self.splices.join(accepted, other, address, fallback, inbound=inbound)
        return near

    def pair(self, *, inbound: bool = False) -> tuple[socket.socket, socket.socket]:
        """Both ends."""
        near = self.join(inbound=inbound)
        self.bench.quiet()
        far, _ = self.listener.accept()
        far.settimeout(5)
        return near, far

    def over(self) -> None:
        """Wait until no splice is left."""
        self.bench.wait(lambda: len(self.splices) == 0)


@pytest.fixture
def spliced() -> Iterator[Spliced]:
    with Bench() as bench:
        made = Spliced(bench)
        with made.listener:
            yield made
        made.splices.close()


@contextmanager
def meanwhile(function: Callable[[], object]) -> Iterator[threading.Thread]:
    """Call a function in a thread."""
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    yield thread
    thread.join(10)
    assert not thread.is_alive()


def reset(stream: socket.socket) -> None:
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, pack("=ii", 1, 0))
    stream.close()


def drain(stream: socket.socket) -> bytes:
    data = bytearray()
    while piece := stream.recv(MEBIBYTE):
        data += piece
    return bytes(data)


def drain_to_reset(stream: socket.socket) -> None:
    with pytest.raises(ConnectionResetError):
        drain(stream)


def send_and_end(stream: socket.socket, data: bytes) -> None:
    stream.sendall(data)
    stream.shutdown(socket.SHUT_WR)


def through(spliced: Spliced, near: socket.socket, far: socket.socket, data: bytes) -> bytes:
    """The data that arrive when some are sent and the connection is closed."""
    received: list[bytes] = []
    with meanwhile(partial(send_and_end, near, data)), meanwhile(lambda: received.append(drain(far))):
        spliced.bench.wait(lambda: bool(received))
    return received[0]


def stall(spliced: Spliced, stream: socket.socket, data: bytes) -> int:
    """Send until no more bytes are taken; the number of bytes taken."""
    stream.setblocking(False)
    sent = 0
    misses = 0
    while misses < 5:
        try:
            sent += stream.send(data[sent : sent + MEBIBYTE])
            misses = 0
        except BlockingIOError:
            misses += 1
        spliced.bench.quiet()
    stream.settimeout(5)
    return sent


def test_bytes_go_both_ways(spliced: Spliced) -> None:
    near, far = spliced.pair()
    with near, far:
        near.sendall(b"question")
        spliced.bench.quiet()
        assert far.recv(100) == b"question"
        far.sendall(b"answer")
        spliced.bench.quiet()
        assert near.recv(100) == b"answer"


@pytest.mark.parametrize("urgent", [b"!", b"more!"])
def test_an_urgent_byte_does_not_stop_the_splice(spliced: Spliced, urgent: bytes) -> None:
    near, far = spliced.pair()
    with near, far:
        near.sendall(b"before")
        near.send(urgent, socket.MSG_OOB)
        near.sendall(b"behind")
        near.shutdown(socket.SHUT_WR)
        spliced.bench.quiet()
        assert drain(far) == b"before" + urgent + b"behind"


@pytest.mark.parametrize("first", ["near", "far"])
def test_each_half_ends_by_itself(spliced: Spliced, first: str) -> None:
    near, far = spliced.pair()
    one, other = (near, far) if first == "near" else (far, near)
    with one, other:
        one.sendall(b"last words")
        one.shutdown(socket.SHUT_WR)
        spliced.bench.quiet()
        assert drain(other) == b"last words"
        other.sendall(b"still here")
        spliced.bench.quiet()
        assert one.recv(100) == b"still here"
        assert len(spliced.splices) == 1
        other.shutdown(socket.SHUT_WR)
        spliced.over()
        assert drain(one) == b""


def test_much_arrives_as_it_was_sent(spliced: Spliced) -> None:
    data = random.Random(1).randbytes(MEBIBYTE) * 16
    near, far = spliced.pair()
    with near, far:
        assert through(spliced, near, far, data) == data


def test_no_byte_is_a_python_object(spliced: Spliced, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any read of a socket into memory would call one of these."""
    moved: list[int] = []

    def counted(source: int, sink: int, size: int, *, flags: int) -> int:
        count = os_splice(source, sink, size, flags=flags)
        moved.append(count)
        return count

    os_splice = os.splice
    near, far = spliced.pair()
    monkeypatch.setattr(os, "splice", counted)
    with near, far:
        near.sendall(bytes(1000))
        spliced.bench.quiet()
        assert far.recv(2000) == bytes(1000)
    assert moved == [1000, 1000]  # in and out; the end is not tried


def test_a_reader_that_is_slow_stops_the_writer_and_loses_nothing(spliced: Spliced) -> None:
    data = random.Random(2).randbytes(64 * MEBIBYTE)
    near, far = spliced.pair()
    with near, far:
        sent = stall(spliced, near, data)
        assert sent < len(data)
        assert spliced.bench.spins() == 0
        near.shutdown(socket.SHUT_WR)
        received: list[bytes] = []
        with meanwhile(lambda: received.append(drain(far))):
            spliced.bench.wait(lambda: bool(received))
        assert received[0] == data[:sent]


def test_while_bytes_wait_the_other_direction_goes_on(spliced: Spliced) -> None:
    near, far = spliced.pair()
    with near, far:
        stall(spliced, near, bytes(64 * MEBIBYTE))
        far.sendall(b"I am busy")
        spliced.bench.quiet()
        assert near.recv(100) == b"I am busy"


@pytest.mark.parametrize("who", ["near", "far"])
def test_a_reset_is_one_on_the_other_side(spliced: Spliced, who: str) -> None:
    near, far = spliced.pair()
    one, other = (near, far) if who == "near" else (far, near)
    with other:
        reset(one)
        spliced.over()
        with pytest.raises(ConnectionResetError):
            other.recv(1)


def test_bytes_before_a_reset_arrive(spliced: Spliced) -> None:
    near, far = spliced.pair()
    with far:
        near.sendall(b"last words")
        spliced.bench.quiet()
        reset(near)
        assert far.recv(100) == b"last words"
        spliced.over()
        with pytest.raises(ConnectionResetError):
            far.recv(1)


def test_a_reset_while_bytes_wait_costs_nothing_and_is_passed_on_after_them(spliced: Spliced) -> None:
    near, far = spliced.pair()
    with far:
        stall(spliced, near, bytes(64 * MEBIBYTE))
        reset(near)
        spliced.bench.quiet()
        assert spliced.bench.spins() == 0
        assert len(spliced.splices) == 1
        with meanwhile(partial(drain_to_reset, far)):
            spliced.over()


def test_a_reset_after_the_end_is_noticed(spliced: Spliced) -> None:
    near, far = spliced.pair()
    with far:
        near.shutdown(socket.SHUT_WR)
        spliced.bench.quiet()
        reset(near)
        spliced.over()
        assert far.recv(1) == b""
        assert far.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.EPIPE  # Linux reports it so


def test_a_reset_by_a_client_that_does_not_read_ends_the_splice(spliced: Spliced) -> None:
    near, far = spliced.pair()
    with near:
        stall(spliced, near, bytes(64 * MEBIBYTE))
        reset(far)
        spliced.over()
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            near.sendall(bytes(MEBIBYTE))


def test_without_a_listener_the_connection_is_reset(spliced: Spliced) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with spliced.join(port) as near:
        spliced.over()
        with pytest.raises(ConnectionResetError):
            near.recv(1)


@pytest.fixture
def refusing() -> int:
    """A port without a listener."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port: int = closed.getsockname()[1]
    return port


def leads_to(port: int) -> Fallback:
    """A fallback to connect to."""

    def make() -> tuple[socket.socket, SocketAddress]:
        return socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK), ("127.0.0.1", port)

    return make


def test_without_a_listener_the_fallback_is_tried(spliced: Spliced, refusing: int) -> None:
    near = spliced.join(refusing, leads_to(spliced.listener.getsockname()[1]))
    near.sendall(b"early")
    spliced.bench.quiet()
    far, _ = spliced.listener.accept()
    with near, far:
        far.settimeout(5)
        assert far.recv(10) == b"early"
        far.sendall(b"answer")
        spliced.bench.quiet()
        assert near.recv(10) == b"answer"
    spliced.over()


def test_an_immediate_refusal_leads_to_the_fallback(
    spliced: Spliced, refusing: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = socket.socket.connect_ex

    def refuse(made: socket.socket, address: tuple[str, int]) -> int:
        return errno.ECONNREFUSED if address[1] == refusing else connect(made, address)

    monkeypatch.setattr(socket.socket, "connect_ex", refuse)
    with spliced.join(refusing, leads_to(spliced.listener.getsockname()[1])):
        spliced.bench.quiet()
        spliced.listener.accept()[0].close()


def test_without_a_listener_at_the_fallback_the_connection_is_reset(spliced: Spliced, refusing: int) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with spliced.join(refusing, leads_to(refusing)) as near:
        spliced.over()
        with pytest.raises(ConnectionResetError):
            near.recv(1)
    assert len(os.listdir("/proc/self/fd")) == before


def test_without_a_socket_for_the_fallback_the_connection_is_reset(spliced: Spliced, refusing: int) -> None:
    def make() -> tuple[socket.socket, SocketAddress]:
        raise OSError(errno.EAFNOSUPPORT, "no such family")

    with spliced.join(refusing, make) as near:
        spliced.over()
        with pytest.raises(ConnectionResetError):
            near.recv(1)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ECONNREFUSED])
def test_a_fallback_that_fails_at_once_after_a_reset_by_the_client(
    spliced: Spliced, refusing: int, number: int
) -> None:
    """Both ends have an event in one batch, and handling the first one closes the other."""

    def make() -> tuple[socket.socket, SocketAddress]:
        raise OSError(number, os.strerror(number))

    before = len(os.listdir("/proc/self/fd"))
    near = spliced.join(refusing, make)
    reset(near)
    spliced.over()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_fallback_that_there_is_no_memory_for_leaves_nothing(spliced: Spliced, refusing: int) -> None:
    def make() -> tuple[socket.socket, SocketAddress]:
        raise MemoryError

    before = len(os.listdir("/proc/self/fd"))
    with spliced.join(refusing, make) as near:
        with pytest.raises(MemoryError):
            spliced.over()
        assert len(spliced.splices) == 0
        with pytest.raises(ConnectionResetError):
            near.recv(1)
    assert len(os.listdir("/proc/self/fd")) == before


def test_an_address_that_cannot_be_connected_to_resets_at_once(
    spliced: Spliced, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket.socket, "connect_ex", lambda *_: errno.ENETUNREACH)
    with spliced.join() as near, pytest.raises(ConnectionResetError):
        near.recv(1)
    assert len(spliced.splices) == 0


def test_a_reset_before_the_other_end_is_connected_ends_the_splice(spliced: Spliced) -> None:
    with socket.socket() as full:  # a listener whose backlog is full answers no SYN
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        with socket.create_connection(full.getsockname()):
            near = spliced.join(full.getsockname()[1])
            spliced.bench.quiet()
            assert len(spliced.splices) == 1
            reset(near)
            spliced.over()


def test_bytes_sent_before_the_other_end_is_connected_are_not_lost(spliced: Spliced) -> None:
    near = spliced.join()
    near.sendall(b"early")
    near.shutdown(socket.SHUT_WR)
    spliced.bench.quiet()
    far, _ = spliced.listener.accept()
    with near, far:
        far.settimeout(5)
        assert drain(far) == b"early"


def test_an_idle_connection_costs_two_descriptors_and_no_events(spliced: Spliced) -> None:
    with spliced.join() as first:
        first.sendall(b"x")
        spliced.bench.quiet()
        before = len(os.listdir("/proc/self/fd"))
        near, far = spliced.pair(), spliced.pair()
        for one, other in (near, far):
            one.sendall(b"y")
            spliced.bench.quiet()
            other.recv(1)
        assert len(os.listdir("/proc/self/fd")) - before == 2 * (2 + 2)  # ours and the test's
        assert spliced.bench.spins() == 0
        for stream in (*near, *far):
            stream.close()


def refuse_pipes(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(flags: int) -> tuple[int, int]:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(os, "pipe2", refuse)


def test_without_a_descriptor_for_a_pipe_the_bytes_wait(spliced: Spliced, monkeypatch: pytest.MonkeyPatch) -> None:
    near, far = spliced.pair()
    waiting = spliced.splices.waiting
    with near, far:
        with monkeypatch.context() as patch:
            refuse_pipes(patch)
            near.sendall(b"bytes")
            spliced.bench.wait(lambda: len(waiting) == 1)
            assert spliced.bench.spins() == 0
            waiting.handle_deadline(waiting.next_deadline())
            spliced.bench.wait(lambda: len(waiting) == 1)
        assert waiting.next_deadline() < 1
        waiting.handle_deadline(1.0)
        spliced.bench.quiet()
        assert far.recv(10) == b"bytes"
        assert not waiting


def test_a_pipe_that_is_given_back_goes_to_the_one_that_waits(
    spliced: Spliced, monkeypatch: pytest.MonkeyPatch
) -> None:
    (near, far), (other_near, other_far) = spliced.pair(), spliced.pair()
    with near, far, other_near, other_far:
        sent = stall(spliced, near, bytes(64 * MEBIBYTE))  # its pipe is full
        refuse_pipes(monkeypatch)
        other_near.sendall(b"bytes")
        spliced.bench.wait(lambda: len(spliced.splices.waiting) == 1)
        near.shutdown(socket.SHUT_WR)
        received: list[bytes] = []
        with meanwhile(lambda: received.append(drain(far))):
            spliced.bench.wait(lambda: bool(received))
        assert len(received[0]) == sent
        assert not spliced.splices.waiting
        assert other_far.recv(10) == b"bytes"


@pytest.mark.parametrize("end", [reset, socket.socket.close])
def test_an_end_that_waits_for_a_pipe_may_end_meanwhile(
    spliced: Spliced, monkeypatch: pytest.MonkeyPatch, end: Callable[[socket.socket], None]
) -> None:
    near, far = spliced.pair()
    with near, far, monkeypatch.context() as patch:
        refuse_pipes(patch)
        near.sendall(b"bytes")
        spliced.bench.wait(lambda: len(spliced.splices.waiting) == 1)
        far.close()
        end(near)
        spliced.bench.quiet()
        assert spliced.bench.spins() == 0
    spliced.splices.waiting.handle_deadline(1.0)
    spliced.over()


def test_beyond_the_users_share_of_pipes_a_small_one_will_do(spliced: Spliced, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: int) -> int:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    data = random.Random(3).randbytes(4 * MEBIBYTE)
    monkeypatch.setattr(fcntl, "fcntl", refuse)
    near, far = spliced.pair()
    with near, far:
        assert through(spliced, near, far, data) == data
