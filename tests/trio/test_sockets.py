"""Host sockets, which talk to the kernel's own over loopback."""

from __future__ import annotations

import errno
import gc
import os
import random
import resource
import socket
import subprocess
import sys
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import groupby
from struct import Struct, pack

import pytest

from sansnet_core import (
    CloseSocket,
    Endpoint,
    ExtendedError,
    OpenDatagram,
    OpenEcho,
    OpenStream,
    ResumeStream,
    SendDatagram,
    SendEcho,
    SendStream,
    ShutdownStream,
    SocketId,
)
from sansnet_core.addresses import parse, with_zone
from sansnet_trio.host.poller import MAX_EVENTS
from sansnet_trio.host.sockaddr import encode, family_of
from sansnet_trio.host.socket_context import READ_AT_ONCE
from sansnet_trio.host.sockets import ALL_TURNS, LINGER
from tests.lab.namespaces import Namespace, held_namespace
from tests.trio.fake import Bench

V4 = b"\x7f\0\0\1"
V6 = bytes(15) + b"\1"
ANY4 = bytes(4)
ONE = SocketId(1)
TWO = SocketId(2)
TCP_INFO = Struct("=24xI")
"""Of struct tcp_info (linux/tcp.h): tcpi_unacked, the number of segments that are in flight."""
BOTH = pytest.mark.parametrize("address", [V4, V6], ids=["v4", "v6"])


@contextmanager
def accepted(address: bytes = V4) -> Iterator[tuple[Bench, socket.socket]]:
    """A bench whose socket 1 is connected, and the remote's end of the connection."""
    with Bench() as bench, socket.create_server(encode(address, 0), family=family_of(address)) as listener:
        bench.order(OpenStream(ONE, Endpoint(address, listener.getsockname()[1]), None))
        bench.until("stream_connected")
        remote, _ = listener.accept()
        remote.settimeout(5)
        with remote:
            yield bench, remote


def reset(remote: socket.socket) -> None:
    """Close with RST."""
    remote.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, pack("=ii", 1, 0))
    remote.close()


def fill(bench: Bench, remote: socket.socket) -> int:
    """Send more than the socket takes; how many bytes were sent."""
    size = 8 << 20
    bench.order(SendStream(ONE, bytes(size)))
    bench.quiet()
    assert sum(fact[2] for fact in bench.network.named("stream_sent")) < size
    return size


def drain(remote: socket.socket) -> int:
    """Read up to the end; how many bytes came."""
    total = 0
    while data := remote.recv(1 << 20):
        total += len(data)
    return total


@BOTH
def test_a_stream_connects_sends_receives_and_ends(address: bytes) -> None:
    with accepted(address) as (bench, remote):
        bench.order(SendStream(ONE, b"to "), SendStream(ONE, memoryview(b"the host")), ShutdownStream(ONE))
        assert remote.recv(100) == b"to the host"
        assert remote.recv(100) == b""
        remote.sendall(b"to the guest")
        remote.shutdown(socket.SHUT_WR)
        bench.until("stream_received", "stream_ended")
        assert bench.network.facts == [
            ("stream_connected", ONE),
            ("stream_sent", ONE, 11),
            ("stream_received", ONE, b"to the guest"),
            ("stream_ended", ONE),
        ]
        bench.quiet()
        bench.order(CloseSocket(ONE))
        assert len(bench.sockets) == 0
        assert not bench.poller.handlers


def test_orders_of_one_batch_for_one_stream_leave_in_one_call() -> None:
    with accepted() as (bench, remote):
        bench.order(*(SendStream(ONE, b"%04d" % number) for number in range(2000)))
        assert bench.network.named("stream_sent") == [("stream_sent", ONE, 8000)]
        bench.order(CloseSocket(ONE))
        assert drain(remote) == 8000


def test_the_source_address_is_bound() -> None:
    with Bench() as bench, socket.create_server(("127.0.0.1", 0)) as listener:
        bench.order(OpenStream(ONE, Endpoint(V4, listener.getsockname()[1]), b"\x7f\0\0\x09"))
        bench.until("stream_connected")
        remote, source = listener.accept()
        remote.close()
        assert source[0] == "127.0.0.9"


@BOTH
def test_a_refused_connection_is_a_fact(address: bytes) -> None:
    with Bench() as bench:
        bench.order(OpenStream(ONE, Endpoint(address, 1), None))
        bench.until("stream_failed")
        assert bench.network.facts == [("stream_failed", ONE, errno.ECONNREFUSED, None)]
        assert len(bench.sockets) == 0


def test_a_connection_that_fails_at_once_is_a_fact() -> None:
    with Bench() as bench:
        bench.order(OpenStream(ONE, Endpoint(b"\xff\xff\xff\xff", 80), None))
        [(_, _, code, _)] = bench.network.named("stream_failed")
        assert code in (errno.ENETUNREACH, errno.EACCES)
        assert not bench.poller.handlers


def test_a_source_address_that_is_not_ours_is_a_fact() -> None:
    with Bench() as bench:
        bench.order(OpenStream(ONE, Endpoint(V4, 80), b"\xc0\x00\x02\x01"))
        assert bench.network.facts == [("stream_failed", ONE, errno.EADDRNOTAVAIL, None)]


def test_what_the_socket_does_not_take_is_kept_and_sent_when_it_can_be() -> None:
    with accepted() as (bench, remote):
        size = fill(bench, remote)
        bench.order(ShutdownStream(ONE))
        total = 0
        while total < size:
            total += len(remote.recv(1 << 20))
            bench.round(0)
        assert remote.recv(1) == b""
        assert sum(fact[2] for fact in bench.network.named("stream_sent")) == size


def test_a_closed_stream_goes_on_sending() -> None:
    with accepted() as (bench, remote):
        size = fill(bench, remote)
        facts = len(bench.network.facts)
        bench.order(CloseSocket(ONE))
        assert bench.sockets.next_deadline() == LINGER
        total = 0
        while data := remote.recv(1 << 20):
            total += len(data)
            bench.round(0)
        assert total == size
        assert len(bench.network.facts) == facts
        assert len(bench.sockets) == 0
        assert bench.sockets.next_deadline() is None


def test_a_stream_that_waits_for_the_link_is_not_read_any_more_once_it_is_closed() -> None:
    with accepted() as (bench, remote):
        fill(bench, remote)
        bench.context.blocked = True
        remote.sendall(b"never read")
        bench.quiet()
        bench.order(CloseSocket(ONE), ResumeStream(ONE))
        bench.context.blocked = False
        bench.sockets.unpark()
        bench.quiet()
        assert bench.network.data() == b""


def test_a_stream_without_a_budget_that_was_reset_can_wait_when_epoll_takes_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with accepted() as (bench, remote):
        monkeypatch.setattr(bench.poller, "add", None)
        bench.network.budget = 0
        remote.sendall(b"last words")
        reset(remote)
        bench.quiet()
        bench.network.budget = 100
        bench.order(ResumeStream(ONE))
        bench.until("stream_failed")
        assert bench.network.data() == b"last words"
        assert not bench.poller.handlers


def test_a_closed_stream_is_given_up_when_its_time_is_over() -> None:
    with accepted() as (bench, remote):
        fill(bench, remote)
        bench.order(CloseSocket(ONE))
        bench.sockets.handle_deadline(LINGER - 1)
        assert len(bench.sockets) == 1
        bench.sockets.handle_deadline(LINGER)
        assert len(bench.sockets) == 0
        with pytest.raises(ConnectionResetError):
            drain(remote)


def test_a_closed_stream_that_is_reset_is_forgotten() -> None:
    with accepted() as (bench, remote):
        fill(bench, remote)
        bench.order(CloseSocket(ONE))
        reset(remote)
        bench.wait(lambda: len(bench.sockets) == 0)


def test_an_aborted_stream_is_reset() -> None:
    with accepted() as (bench, remote):
        bench.order(SendStream(ONE, b"x"), CloseSocket(ONE, abort=True))
        with pytest.raises(ConnectionResetError):
            remote.recv(1)


def test_what_the_guest_has_ended_arrives_whole_although_the_driver_ends() -> None:
    with accepted() as (bench, remote):
        size = 1 << 19  # more than the remote's kernel takes from a program that does not read
        bench.order(SendStream(ONE, bytes(size)), ShutdownStream(ONE))
        bench.quiet()
        assert sum(fact[2] for fact in bench.network.named("stream_sent")) == size
        bench.sockets.close()
        assert drain(remote) == size


def test_what_the_guest_has_not_ended_is_reset_when_the_driver_ends() -> None:
    with accepted() as (bench, remote):
        bench.order(SendStream(ONE, b"half a"))
        bench.sockets.close()
        with pytest.raises(ConnectionResetError):
            drain(remote)


def test_a_stream_that_the_remote_resets_fails() -> None:
    with accepted() as (bench, remote):
        reset(remote)
        bench.until("stream_failed")
        assert bench.network.facts[1:] == [("stream_failed", ONE, errno.ECONNRESET, None)]
        assert len(bench.sockets) == 0


def test_data_before_a_reset_are_delivered() -> None:
    with accepted() as (bench, remote):
        remote.sendall(b"last words")
        reset(remote)
        bench.until("stream_failed")
        assert bench.network.facts[1:] == [
            ("stream_received", ONE, b"last words"),
            ("stream_failed", ONE, errno.ECONNRESET, None),
        ]


def test_data_before_a_reset_are_delivered_when_sending_notices_it_first() -> None:
    with accepted() as (bench, remote):
        remote.sendall(b"last words")
        reset(remote)
        bench.order(SendStream(ONE, b"x"))
        assert bench.network.data() == b"last words"
        assert bench.network.facts[-1][:3] == ("stream_failed", ONE, errno.ECONNRESET)


def test_a_reset_after_the_end_fails() -> None:
    with accepted() as (bench, remote):
        remote.shutdown(socket.SHUT_WR)
        bench.until("stream_ended")
        reset(remote)
        bench.order(SendStream(ONE, b"x"))
        bench.until("stream_failed")
        assert bench.network.facts[-1][2] in (errno.ECONNRESET, errno.EPIPE)


def test_without_a_budget_nothing_is_read_until_resumed() -> None:
    with accepted() as (bench, remote):
        bench.network.budget = 0
        remote.sendall(b"held back")
        bench.quiet()
        assert bench.network.data() == b""
        bench.network.budget = 4
        bench.order(ResumeStream(ONE))
        assert bench.network.data() == b"held"  # at once: acknowledgments to the guest can ride on it
        bench.wait(lambda: bench.network.data() == b"held back")


def test_a_resumed_stream_is_read_in_its_turn_if_others_wait() -> None:
    with accepted() as (bench, first), socket.create_server(("127.0.0.1", 0)) as listener:
        bench.order(OpenStream(TWO, Endpoint(V4, listener.getsockname()[1]), None))
        bench.wait(lambda: len(bench.network.named("stream_connected")) == 2)
        second, _ = listener.accept()
        with second:
            bench.network.budget = 0
            first.sendall(b"first")
            second.sendall(b"second")
            bench.quiet()
            bench.context.blocked = True
            bench.network.budget = 100
            bench.order(ResumeStream(ONE))
            bench.context.blocked = False
            bench.order(ResumeStream(TWO))
            assert bench.network.data() == b""
            bench.round()
            assert bench.network.data() == b"firstsecond"


@pytest.mark.parametrize("seed", range(20))
def test_all_data_arrive_whatever_the_sequence_of_events_and_orders(seed: int) -> None:
    """An edge-triggered event comes once: data that were not read then must be read later."""
    chance = random.Random(seed)
    with Bench() as bench, socket.create_server(("127.0.0.1", 0)) as listener, ExitStack() as stack:
        remotes: dict[SocketId, socket.socket] = {}
        for name in map(SocketId, range(1, 4)):
            bench.order(OpenStream(name, Endpoint(V4, listener.getsockname()[1]), None))
            remotes[name] = stack.enter_context(listener.accept()[0])
        bench.wait(lambda: len(bench.network.named("stream_connected")) == len(remotes))
        sent = dict.fromkeys(remotes, b"")
        for _ in range(60):
            name = chance.choice([*remotes])
            match chance.randrange(5):
                case 0:
                    data = chance.randbytes(chance.randrange(1, 40))
                    remotes[name].sendall(data)
                    sent[name] += data
                case 1:
                    bench.network.budget = chance.choice([0, 1, 7, 100])
                case 2:
                    bench.context.blocked = chance.choice([False, True])
                case 3:
                    bench.order(ResumeStream(name))
                case 4:
                    bench.round(0)
        bench.network.budget = 100
        bench.context.blocked = False
        bench.order(*map(ResumeStream, remotes))

        def received(name: SocketId) -> bytes:
            return b"".join(fact[2] for fact in bench.network.named("stream_received") if fact[1] == name)

        bench.wait(lambda: all(received(name) == data for name, data in sent.items()))


def test_a_reset_without_a_budget_does_not_spin_and_is_reported_after_the_data() -> None:
    with accepted() as (bench, remote):
        bench.network.budget = 0
        remote.sendall(b"held back")
        reset(remote)
        bench.quiet()
        assert bench.network.facts == [("stream_connected", ONE)]
        bench.network.budget = 100
        bench.order(ResumeStream(ONE))
        bench.until("stream_failed")
        assert bench.network.data() == b"held back"


def test_a_stream_that_is_over_both_ways_is_read_to_its_end_once_it_is_resumed() -> None:
    with accepted() as (bench, remote):
        bench.order(ShutdownStream(ONE))
        bench.network.budget = 0
        remote.sendall(b"held back")
        remote.close()
        bench.round()
        assert bench.network.data() == b""
        bench.network.budget = 4
        bench.order(ResumeStream(ONE))
        bench.until("stream_ended")
        assert bench.network.data() == b"held back"


def test_a_stream_that_is_over_both_ways_does_not_spin() -> None:
    with accepted() as (bench, remote):
        bench.order(ShutdownStream(ONE))
        remote.close()
        bench.until("stream_ended")
        bench.quiet()
        assert len(bench.sockets) == 1


def arrived(remote: socket.socket) -> None:
    """Wait until the other end's kernel has acknowledged all that was sent, so that it can be read there."""
    deadline = time.monotonic() + 5
    while TCP_INFO.unpack_from(remote.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO.size))[0]:
        assert time.monotonic() < deadline
        time.sleep(0.001)


@BOTH
def test_the_end_is_known_in_the_same_round_as_the_last_data(address: bytes) -> None:
    with accepted(address) as (bench, remote):
        remote.sendall(b"all of it")
        remote.shutdown(socket.SHUT_WR)
        arrived(remote)
        bench.round()
        assert bench.network.facts[1:] == [("stream_received", ONE, b"all of it"), ("stream_ended", ONE)]


def test_the_end_of_more_data_than_the_budget_is_known_with_the_last_of_them() -> None:
    with accepted() as (bench, remote):
        bench.network.budget = 4
        remote.sendall(b"123456")
        remote.shutdown(socket.SHUT_WR)
        arrived(remote)
        bench.round()
        assert bench.network.facts[1:] == [
            ("stream_received", ONE, b"1234"),
            ("stream_received", ONE, b"56"),
            ("stream_ended", ONE),
        ]


def test_an_end_behind_data_that_fill_the_budget_exactly_is_found() -> None:
    with accepted() as (bench, remote):
        bench.network.budget = 4
        remote.sendall(b"1234")
        remote.shutdown(socket.SHUT_WR)
        bench.until("stream_ended")
        assert bench.network.data() == b"1234"


def test_urgent_bytes_neither_hide_data_nor_pass_for_the_end() -> None:
    with accepted() as (bench, remote):
        remote.sendall(b"before")
        remote.send(b"!", socket.MSG_OOB)
        remote.sendall(b"after")
        remote.send(b"?", socket.MSG_OOB)
        remote.sendall(b"end")
        remote.shutdown(socket.SHUT_WR)
        arrived(remote)
        bench.until("stream_ended")
        assert bench.network.data() == b"before!after?end"
        assert bench.network.facts[-1] == ("stream_ended", ONE)
        bench.quiet()


def test_urgent_bytes_are_read_without_another_event() -> None:
    with accepted() as (bench, remote):
        remote.sendall(b"before")
        remote.send(b"!", socket.MSG_OOB)
        remote.sendall(b"after")
        arrived(remote)
        bench.quiet()
        assert bench.network.data() == b"before!after"


def test_a_connection_takes_two_changes_of_the_epoll_set_whatever_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    changes: list[str] = []

    def noted(name: str, make: Callable[..., object], *given: object) -> object:
        changes.append(name)
        return make(*given)

    with accepted() as (bench, remote):
        for name in ("add", "change", "remove", "retire"):
            monkeypatch.setattr(bench.poller, name, partial(noted, name, getattr(bench.poller, name)))
        size = fill(bench, remote)
        bench.network.budget = 0
        remote.sendall(b"held back")
        bench.quiet()
        bench.context.blocked = True
        bench.network.budget = 4
        bench.order(ResumeStream(ONE))
        bench.quiet()
        bench.context.blocked = False
        bench.sockets.unpark()
        total = 0
        while total < size:
            total += len(remote.recv(1 << 20))
            bench.round(0)
        remote.shutdown(socket.SHUT_WR)
        bench.until("stream_ended")
        assert bench.network.data() == b"held back"
        bench.order(ShutdownStream(ONE))
        bench.order(CloseSocket(ONE))
        assert changes == ["retire"]


class Noted(socket.socket):
    """A socket that notes when it is shut down."""

    shutdowns = 0

    def shutdown(self, how: int) -> None:
        type(self).shutdowns += 1
        super().shutdown(how)


@pytest.mark.parametrize("together", [True, False], ids=["in one batch", "in two batches"])
def test_a_stream_is_shut_down_unless_it_is_closed_in_the_same_batch(together: bool) -> None:
    near, remote = connected_pair()
    with Bench() as bench, remote:
        noted = Noted(fileno=near.detach())
        Noted.shutdowns = 0
        bench.sockets.adopt_stream(ONE, noted, 0.0)
        if together:
            bench.order(SendStream(ONE, b"last"), ShutdownStream(ONE), CloseSocket(ONE))
        else:
            bench.order(SendStream(ONE, b"last"), ShutdownStream(ONE))
            bench.order(CloseSocket(ONE))
        assert drain(remote) == 4
        assert len(bench.sockets) == 0
        assert Noted.shutdowns == (0 if together else 1)


def connected_pair() -> tuple[socket.socket, socket.socket]:
    """Two ends of a TCP connection over loopback."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        return near, listener.accept()[0]


def test_a_stream_that_cannot_send_all_before_it_is_closed_ends_after_the_data() -> None:
    with accepted() as (bench, remote):
        size = 8 << 20
        bench.order(SendStream(ONE, bytes(size)), ShutdownStream(ONE), CloseSocket(ONE))
        total = 0
        while data := remote.recv(1 << 20):
            total += len(data)
            bench.round(0)
        assert total == size
        assert len(bench.sockets) == 0


def test_one_round_does_not_read_all_streams_if_they_hold_much() -> None:
    size, names = 60_000, [SocketId(number) for number in range(16)]
    with Bench() as bench, socket.create_server(("127.0.0.1", 0)) as listener, ExitStack() as stack:
        bench.order(*(OpenStream(name, Endpoint(V4, listener.getsockname()[1]), None) for name in names))
        bench.wait(lambda: len(bench.network.named("stream_connected")) == len(names))
        bench.context.blocked = True
        for _ in names:
            remote = stack.enter_context(listener.accept()[0])
            remote.sendall(bytes(size))
            arrived(remote)
        bench.quiet()
        bench.context.blocked = False
        bench.round()
        assert READ_AT_ONCE <= len(bench.network.data()) < READ_AT_ONCE + size
        bench.wait(lambda: len(bench.network.data()) == len(names) * size)
        bench.quiet()


class Firehose:
    """A stream that always has more data.

    Args:
        bench: its sockets.
        failures: the errors of its first reads.
        size: bytes of a read.
    """

    def __init__(self, bench: Bench, *failures: Exception, size: int = READ_AT_ONCE) -> None:
        self.context, self.size = bench.context, size
        self.failures = list(failures)
        self.count = 0
        self.context.unread.append(self)

    def read(self, now: float) -> None:
        if self.failures:
            raise self.failures.pop()
        self.count += 1
        self.context.allowance -= self.size
        self.context.unread.append(self)


def test_what_one_round_reads_is_bounded() -> None:
    with Bench() as bench:
        stream = Firehose(bench, size=READ_AT_ONCE // 4)
        for number in (1, 2):
            bench.round(0)
            assert stream.count == 4 * number
        bench.context.unread.clear()


def test_data_beyond_the_budget_are_read_in_the_next_rounds() -> None:
    with accepted() as (bench, remote):
        bench.network.budget = 1000
        remote.sendall(bytes(5000))
        bench.wait(lambda: len(bench.network.data()) == 5000)


def test_streams_with_much_data_are_read_by_turns() -> None:
    """Each one gets its share of the time, and is read alone meanwhile."""
    with Bench() as bench:
        streams = [Firehose(bench) for _ in range(4)]
        order = []
        for number in range(1, 1001):
            before = [stream.count for stream in streams]
            bench.sockets.read_unread(number * ALL_TURNS / 20)
            (read,) = (one for one in range(4) if streams[one].count > before[one])
            order.append(read)
        turns = [(one, len(list(reads))) for one, reads in groupby(order)]
        assert [one for one, _ in turns[:8]] == [0, 1, 2, 3, 0, 1, 2, 3]
        assert {length for _, length in turns[:-1]} <= {5, 6, 7}
        bench.context.unread.clear()


def test_a_stream_that_ends_its_turn_early_gives_the_rest_of_the_round_to_the_next() -> None:
    with accepted() as (bench, remote):
        remote.sendall(b"a little")
        arrived(remote)
        bench.context.allowance = 0
        bench.poller.handle(bench.poller.poll(1, MAX_EVENTS), 0.0)
        other = Firehose(bench)
        bench.sockets.read_unread(0.0)
        assert (bench.network.data(), other.count) == (b"a little", 1)
        bench.context.unread.clear()


def test_a_stream_without_more_data_is_not_kept_in_memory() -> None:
    with Bench() as bench:
        stream = Firehose(bench)
        bench.sockets.read_unread(0.0)
        bench.context.unread.clear()
        bench.sockets.read_unread(0.0)
        reference = weakref.ref(stream)
        del stream
        gc.collect()
        assert reference() is None


def test_a_failed_read_does_not_keep_other_streams_from_being_read() -> None:
    with Bench() as bench:
        failing, other = Firehose(bench, MemoryError()), Firehose(bench)
        with pytest.raises(MemoryError):
            bench.sockets.read_unread(0.0)
        bench.round(0)
        assert (failing.count, other.count) == (0, 1)
        bench.context.unread.clear()


def test_events_that_were_lost_are_reported_again() -> None:
    with accepted() as (bench, remote):
        size = fill(bench, remote)
        remote.sendall(b"hello")
        remote.setblocking(False)
        total = 0
        while total < size:
            try:
                total += len(remote.recv(1 << 20))
            except BlockingIOError:
                bench.poller.poll(0.01, 10)  # and no handler is called
                bench.sockets.report_again()
                bench.round(0)
        bench.quiet()
        assert bench.network.data() == b"hello"


def test_an_established_connection_that_was_not_noticed_is_reported_again() -> None:
    with Bench() as bench, socket.create_server(("127.0.0.1", 0)) as listener:
        bench.order(OpenStream(ONE, Endpoint(V4, listener.getsockname()[1]), None))
        assert bench.poller.poll(5, 10)
        assert bench.round(0) == 0
        bench.sockets.report_again()
        bench.until("stream_connected")


def test_while_the_link_is_blocked_sockets_are_not_read() -> None:
    with accepted() as (bench, remote), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        bench.order(OpenDatagram(TWO, Endpoint(V4, 0)), SendDatagram(TWO, bound(other), b"x", 0, 64, 0))
        source = other.recvfrom(10)[1]
        bench.context.blocked = True
        remote.sendall(b"stream")
        other.sendto(b"datagram", source)
        bench.quiet()
        assert bench.network.facts == [("stream_connected", ONE)]
        bench.context.blocked = False
        bench.sockets.unpark()
        bench.until("stream_received", "datagram_received")


def test_orders_for_sockets_that_are_gone_are_ignored() -> None:
    with Bench() as bench:
        bench.order(
            SendStream(ONE, b"x"),
            ShutdownStream(ONE),
            ResumeStream(ONE),
            CloseSocket(ONE),
            SendDatagram(ONE, Endpoint(V4, 9), b"x", 0, 64, 0),
            SendEcho(ONE, V4, 1, b"", 64, 0),
        )
        assert bench.network.facts == []


@pytest.fixture
def no_descriptors() -> Iterator[None]:
    """Pretend that no descriptor is left."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def bench() -> Iterator[Bench]:
    """A socket opened before `no_descriptors`."""
    with Bench() as made:
        yield made


def test_too_many_open_files_is_a_fact(bench: Bench, no_descriptors: None) -> None:
    error = ExtendedError(errno.EMFILE, 1, 0, 0, 0, None)
    bench.order(
        OpenStream(ONE, Endpoint(V4, 9), None),
        OpenDatagram(TWO, Endpoint(V4, 0)),
        SendDatagram(TWO, Endpoint(V4, 9), b"lost", 0, 64, 0),
    )
    assert bench.network.facts == [
        ("stream_failed", ONE, errno.EMFILE, None),
        ("datagram_failed", TWO, Endpoint(V4, 9), error, b"lost"),
    ]


def bound(sock: socket.socket, address: bytes = V4) -> Endpoint:
    """Bind a datagram socket to a free port; its endpoint."""
    sock.settimeout(5)
    sock.bind(encode(address, 0))
    return Endpoint(address, sock.getsockname()[1])


@contextmanager
def answering(address: bytes = V4) -> Iterator[tuple[Bench, socket.socket, Endpoint]]:
    """A bench with datagram socket 1, a remote socket, and its endpoint."""
    with Bench() as bench, socket.socket(family_of(address), socket.SOCK_DGRAM) as remote:
        endpoint = bound(remote, address)
        bench.order(OpenDatagram(ONE, Endpoint(bytes(len(address)), 0)))
        yield bench, remote, endpoint


@BOTH
def test_datagrams_go_to_and_fro_with_their_ttl_and_tos(address: bytes) -> None:
    with answering(address) as (bench, remote, endpoint):
        if address == V4:
            remote.setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
            remote.setsockopt(socket.IPPROTO_IP, 12, 1)  # IP_RECVTTL
            remote.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 7)
            remote.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, 0x2A)
        else:
            remote.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVTCLASS, 1)
            remote.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1)
            remote.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, 7)
            remote.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, 0x2A)
        bench.order(SendDatagram(ONE, endpoint, b"question", 0, 33, 0x55))
        data, ancillary, _, source = remote.recvmsg(100, 100)
        assert data == b"question"
        assert sorted(value[0] for _, _, value in ancillary) == [33, 0x55]
        remote.sendto(b"answer", source)
        bench.until("datagram_received")
        assert bench.network.facts == [("datagram_received", ONE, endpoint, b"answer", 0, 7, 0x2A)]


@BOTH
def test_datagrams_of_equal_size_are_sent_as_one_run(address: bytes) -> None:
    with answering(address) as (bench, remote, endpoint):
        remote.setsockopt(socket.IPPROTO_UDP, 104, 1)  # UDP_GRO: runs arrive as they were sent
        datagrams = [b"%04d" % number for number in range(70)] + [b"end", b"more"]
        bench.order(*(SendDatagram(ONE, endpoint, data, 0, 64, 0) for data in datagrams))
        runs = [remote.recv(1000) for _ in range(3)]
        assert runs == [b"".join(datagrams[:64]), b"".join(datagrams[64:71]), b"more"]


def test_a_run_arrives_as_one() -> None:
    with answering() as (bench, remote, endpoint):
        bench.order(SendDatagram(ONE, endpoint, b"x", 0, 64, 0))
        source = remote.recvfrom(10)[1]
        remote.sendmsg([b"aaaabbbbcc"], [(socket.IPPROTO_UDP, 103, pack("=H", 4))], 0, source)
        bench.until("datagram_received")
        [(_, _, _, data, segment_size, _, _)] = bench.network.facts
        assert (data, segment_size) == (b"aaaabbbbcc", 4)


def test_datagrams_that_differ_are_not_joined() -> None:
    with answering() as (bench, remote, endpoint):
        bench.order(
            SendDatagram(ONE, endpoint, b"aa", 0, 64, 0),
            SendDatagram(ONE, endpoint, b"bb", 0, 63, 0),
            SendDatagram(ONE, endpoint, b"cc", 0, 63, 4, True),
            SendDatagram(ONE, endpoint, b"cc", 0, 63, 4),
            SendDatagram(ONE, endpoint, b"ddd", 0, 63, 4),
            SendDatagram(ONE, endpoint, b"", 0, 63, 4),
            SendDatagram(ONE, endpoint, b"", 0, 63, 4),
        )
        assert [remote.recv(100) for _ in range(7)] == [b"aa", b"bb", b"cc", b"cc", b"ddd", b"", b""]


def test_a_run_of_the_guest_is_sent_whole_however_long() -> None:
    with answering() as (bench, remote, endpoint):
        data = bytes(range(250)) * 2
        bench.order(SendDatagram(ONE, endpoint, data, 3, 64, 0))
        received = [remote.recv(100) for _ in range(167)]
        assert b"".join(received) == data
        assert {len(datagram) for datagram in received[:-1]} == {3}


def test_runs_too_large_for_the_route_are_sent_one_by_one() -> None:
    # Two of these fit one send, but a segment must fit loopback's MTU of 65536 with its headers; 60000 twice does not.
    with answering() as (bench, remote, endpoint):
        remote.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        bench.order(*(SendDatagram(ONE, endpoint, bytes([number]) * 30000, 0, 64, 0) for number in range(5)))
        assert [remote.recv(65536) for _ in range(5)] == [bytes([number]) * 30000 for number in range(5)]


def test_a_port_that_is_taken_is_replaced() -> None:
    with answering() as (bench, remote, endpoint):
        bench.order(OpenDatagram(TWO, endpoint), SendDatagram(TWO, endpoint, b"x", 0, 64, 0))
        data, source = remote.recvfrom(10)
        assert data == b"x"
        assert source[1] != endpoint.port


def test_a_port_that_is_free_is_used() -> None:
    with answering() as (bench, remote, endpoint):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            wished = bound(probe).port
        bench.order(OpenDatagram(TWO, Endpoint(ANY4, wished)), SendDatagram(TWO, endpoint, b"x", 0, 64, 0))
        assert remote.recvfrom(10)[1][1] == wished


@BOTH
def test_the_hosts_privileged_ports_are_not_taken_even_by_root(address: bytes) -> None:
    any_address = bytes(len(address))
    with answering(address) as (bench, remote, endpoint):
        bench.order(OpenDatagram(TWO, Endpoint(any_address, 1023)), SendDatagram(TWO, endpoint, b"x", 0, 64, 0))
        assert remote.recvfrom(10)[1][1] >= 1024


@pytest.mark.kernel
@pytest.mark.parametrize(
    ("any_address", "group"), [("0.0.0.0", "239.255.255.250"), ("::", "ff05::c")], ids=["v4", "v6"]
)
def test_datagrams_to_a_group_do_not_reach_the_hosts_own_listeners(any_address: str, group: str) -> None:
    with held_namespace() as namespace:
        namespace.shell(
            "echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad;"
            "ip link add near type veth peer name far;"
            "echo 1 > /proc/sys/net/ipv6/conf/far/disable_ipv6;"
            "ip link set near up; ip link set far up;"
            "ip address add 192.0.2.1/24 dev near; ip -6 address add 2001:db8::1/64 dev near nodad;"
            "ip route add default dev near; ip -6 route add default dev near"
        )
        with namespace.datagram(any_address) as listener:
            namespace.call(lambda: send_to_group(listener, group))


def send_to_group(listener: socket.socket, group: str) -> None:
    """Send from a bench to a group that a socket of this host has joined, then to the socket's own address."""
    port = listener.getsockname()[1]
    interface = socket.if_nametoindex("near")
    if ":" in group:
        family, own = socket.AF_INET6, "2001:db8::1"
        member = socket.inet_pton(family, group) + interface.to_bytes(4, sys.byteorder)
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, member)
    else:
        family, own = socket.AF_INET, "192.0.2.1"
        member = socket.inet_pton(family, group) + socket.inet_pton(family, own)
        listener.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)
    with Bench() as bench:
        bench.order(OpenDatagram(ONE, Endpoint(bytes(len(socket.inet_pton(family, own))), 0)))
        for address, data in ((group, b"to all"), (own, b"to this host")):
            endpoint = Endpoint(socket.inet_pton(family, address), port)
            bench.order(SendDatagram(ONE, endpoint, data, 0, 64, 0))
        assert bench.network.facts == []
    assert listener.recv(100) == b"to this host"


@pytest.mark.kernel
@pytest.mark.parametrize("broadcast", ["255.255.255.255", "192.0.2.255"])
def test_broadcasts_are_refused_by_the_kernel(broadcast: str) -> None:
    with held_namespace() as namespace:
        namespace.shell(
            "ip link add near type veth peer name far; ip link set near up; ip link set far up;"
            "ip address add 192.0.2.1/24 broadcast + dev near; ip route add default dev near"
        )
        with namespace.datagram("0.0.0.0") as listener:
            port = listener.getsockname()[1]
            namespace.call(lambda: send_broadcast(Endpoint(socket.inet_aton(broadcast), port)))
            listener.settimeout(0.3)
            with pytest.raises(TimeoutError):
                listener.recv(100)


def send_broadcast(destination: Endpoint) -> None:
    """Try to send a broadcast from a bench."""
    with Bench() as bench:
        bench.order(OpenDatagram(ONE, Endpoint(ANY4, 0)), SendDatagram(ONE, destination, b"to all", 0, 64, 0))
        assert [fact[3].errno for fact in bench.network.named("datagram_failed")] == [errno.EACCES]


@pytest.mark.kernel
@pytest.mark.parametrize(
    ("any_address", "own", "group"),
    [("0.0.0.0", "192.0.2.1", "239.1.2.3"), ("::", "2001:db8::1", "ff05::1:3")],
    ids=["v4", "v6"],
)
def test_what_is_sent_to_a_group_that_others_joined_is_not_for_a_guest(any_address: str, own: str, group: str) -> None:
    with held_namespace() as namespace:
        namespace.shell(
            "ip link add near type veth peer name far; ip link set near up; ip link set far up;"
            "ip address add 192.0.2.1/24 dev near; ip -6 address add 2001:db8::1/64 dev near nodad;"
            "ip route add default dev near; ip -6 route add default dev near;"
            # The kernel makes the route to an address a moment after the address
            "until ip -6 route show table local | grep -q 2001:db8::1; do sleep 0.01; done"
        )
        with namespace.datagram(any_address) as member, namespace.datagram(any_address) as sender:
            namespace.call(lambda: hear_of_group(member, sender, own, group))


def hear_of_group(member: socket.socket, sender: socket.socket, own: str, group: str) -> None:
    """Let this host join a group; then send to the group and to the host's own address, at the port of a bench."""
    interface = socket.if_nametoindex("near")
    if member.family == socket.AF_INET6:
        member.setsockopt(
            socket.IPPROTO_IPV6,
            socket.IPV6_JOIN_GROUP,
            socket.inet_pton(socket.AF_INET6, group) + interface.to_bytes(4, sys.byteorder),
        )
        sender.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, interface)
    else:
        member.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(group) + socket.inet_aton(own))
    with socket.socket(member.family, socket.SOCK_DGRAM) as scratch:
        scratch.bind((member.getsockname()[0], 0))
        port = scratch.getsockname()[1]
    with Bench() as bench:
        bench.order(OpenDatagram(ONE, Endpoint(bytes(len(socket.inet_pton(member.family, own))), port)))
        sender.sendto(b"to the group", (group, port))
        sender.sendto(b"to this host", (own, port))
        bench.until("datagram_received")
        assert [fact[3] for fact in bench.network.named("datagram_received")] == [b"to this host"]


@pytest.mark.kernel
def test_a_namesake_on_another_link_is_not_taken_for_the_guests_neighbour() -> None:
    with held_namespace() as namespace, held_namespace() as neighbours:
        for number, name in ((1, "one"), (2, "two")):
            line = f"ip link add {name} netns {namespace.pid} type veth peer name {name} netns {neighbours.pid}"
            subprocess.run(line.split(), check=True)
            for where, end in ((namespace, number), (neighbours, 7)):
                where.shell(
                    f"ip link set {name} addrgenmode none; echo 0 >/proc/sys/net/ipv6/conf/{name}/accept_dad;"
                    f"ip link set {name} up; ip -6 address add fe80::{end}/64 dev {name} nodad"
                )
        namespace.call(lambda: hear_neighbours(neighbours))


def hear_neighbours(neighbours: Namespace) -> None:
    """Receive on a bench from two nodes with the same link-local address; one of them is on the guest's link."""
    with (
        socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as scratch,
        neighbours.open_socket(socket.AF_INET6, socket.SOCK_DGRAM) as sender,
    ):
        scratch.bind(("::", 0))
        port = scratch.getsockname()[1]
        scratch.close()
        scopes = neighbours.call(lambda: [socket.if_nametoindex(name) for name in ("one", "two")])
        with Bench(scope=socket.if_nametoindex("one")) as bench:
            bench.order(OpenDatagram(ONE, Endpoint(bytes(16), port)))
            sender.sendto(b"from two", ("fe80::2", port, 0, scopes[1]))
            sender.sendto(b"from one", ("fe80::1", port, 0, scopes[0]))
            bench.wait(lambda: len(bench.network.named("datagram_received")) == 2)
            facts = {fact[3]: fact[2].address for fact in bench.network.named("datagram_received")}
            neighbour = parse("fe80::7")
            assert facts == {
                b"from one": neighbour,
                b"from two": with_zone(neighbour, socket.if_nametoindex("two")),
            }


@BOTH
def test_a_refused_datagram_is_a_fact_with_the_icmp_error(address: bytes) -> None:
    with answering(address) as (bench, remote, endpoint):
        remote.close()
        bench.order(SendDatagram(ONE, endpoint, b"anyone there?", 0, 64, 0))
        bench.until("datagram_failed")
        origin, kind, code = (2, 3, 3) if address == V4 else (3, 1, 4)
        error = ExtendedError(errno.ECONNREFUSED, origin, kind, code, 0, address, 64)
        assert bench.network.facts == [("datagram_failed", ONE, endpoint, error, b"anyone there?")]
        bench.quiet()


def test_an_earlier_datagrams_error_does_not_lose_a_later_one() -> None:
    with answering() as (bench, remote, endpoint), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as closed:
        nobody = bound(closed)
        closed.close()
        bench.order(SendDatagram(ONE, nobody, b"lost", 0, 64, 0))
        bench.order(SendDatagram(ONE, endpoint, b"found", 0, 64, 0))
        bench.order(SendDatagram(ONE, nobody, b"lost", 0, 64, 0))
        bench.order(*(SendDatagram(ONE, endpoint, b"run", 0, 64, 0) for _ in range(3)))
        assert [remote.recv(10) for _ in range(4)] == [b"found", b"run", b"run", b"run"]
        bench.quiet()
        assert [fact[4] for fact in bench.network.named("datagram_failed")] == [b"lost", b"lost"]


def test_a_datagram_that_the_host_refuses_is_a_fact() -> None:
    with answering() as (bench, _, endpoint):
        bench.order(SendDatagram(ONE, endpoint, bytes(65508), 0, 64, 0))
        bench.order(SendDatagram(ONE, endpoint, b"ttl 0", 0, 0, 0))
        codes = [(fact[2], fact[3].errno, fact[3].origin) for fact in bench.network.named("datagram_failed")]
        assert codes == [(endpoint, errno.EMSGSIZE, 1), (endpoint, errno.EINVAL, 1)]
        bench.quiet()


@pytest.mark.kernel
def test_what_may_not_be_fragmented_fails_with_the_mtu() -> None:
    with held_namespace() as namespace:
        namespace.shell("echo 0 2147483647 > /proc/sys/net/ipv4/ping_group_range")
        namespace.shell("ip link set lo mtu 1400; ip address add fd00::1/128 dev lo nodad")
        for address in (V4, V6):
            namespace.call(partial(check_fragments, address))


def check_fragments(address: bytes) -> None:
    """Over a loopback with an MTU of 1400."""
    large = bytes(2000)
    too_large = ExtendedError(errno.EMSGSIZE, 1, 0, 0, 1400, None)
    with answering(address) as (bench, remote, endpoint):
        bench.order(SendDatagram(ONE, endpoint, large, 0, 64, 0, True), SendDatagram(ONE, endpoint, large, 0, 64, 0))
        assert bench.network.facts == [("datagram_failed", ONE, endpoint, too_large, large)]
        assert remote.recv(65536) == large
        bench.order(OpenEcho(TWO, address, None))
        bench.order(SendEcho(TWO, address, 1, large, 64, 0, True), SendEcho(TWO, address, 2, large, 64, 0))
        assert bench.network.named("echo_failed") == [("echo_failed", TWO, 2, too_large, large)]
        bench.until("echo_received")
        bench.quiet()


@pytest.mark.kernel
def test_what_the_network_says_of_a_ping_is_a_fact() -> None:
    with held_namespace() as namespace:
        namespace.shell("echo 0 2147483647 > /proc/sys/net/ipv4/ping_group_range")
        namespace.shell("ip link add nobody type veth; ip link set nobody up; ip link set veth0 up")
        namespace.shell("ip address add 10.9.0.2/24 dev nobody; ip address add fd09::2/64 dev nobody nodad")
        namespace.shell("echo 1 >/proc/sys/net/ipv4/neigh/nobody/mcast_solicit")
        namespace.shell("echo 1 >/proc/sys/net/ipv6/neigh/nobody/mcast_solicit")
        namespace.call(check_unreachable)


def check_unreachable() -> None:
    """No node has these addresses, so this host reports them as unreachable."""
    for remote, own, kind in (
        (b"\x0a\x09\0\x09", b"\x0a\x09\0\2", (2, 3, 1)),
        (b"\xfd\x09" + bytes(13) + b"\x09", b"\xfd\x09" + bytes(13) + b"\2", (3, 1, 3)),
    ):
        with Bench() as bench:
            bench.order(OpenEcho(ONE, remote, None), SendEcho(ONE, remote, 0x1234, b"payload", 64, 0))
            bench.until("echo_failed")
            error = ExtendedError(errno.EHOSTUNREACH, *kind, 0, own, 64)
            assert bench.network.facts == [("echo_failed", ONE, 0x1234, error, b"payload")]
            bench.quiet()


def test_link_local_addresses_get_the_scope() -> None:
    assert encode(b"\xfe\x80" + bytes(13) + b"\1", 5, 3) == ("fe80::1", 5, 0, 3)
    assert encode(b"\xff\x02" + bytes(13) + b"\1", 5, 3) == ("ff02::1", 5, 0, 3)
    assert encode(b"\xff\x0e" + bytes(13) + b"\1", 5, 3) == ("ff0e::1", 5, 0, 0)
    assert encode(V6, 5, 3) == ("::1", 5, 0, 0)


@BOTH
def test_mapped_addresses_do_not_reach_ipv4(address: bytes) -> None:
    mapped = bytes(10) + b"\xff\xff" + V4
    with Bench() as bench, socket.create_server(("127.0.0.1", 0)) as listener:
        bench.order(OpenStream(ONE, Endpoint(mapped, listener.getsockname()[1]), None))
        assert [fact[0] for fact in bench.network.facts] == ["stream_failed"]


def test_closing_the_bench_closes_every_descriptor() -> None:
    before = os.listdir("/proc/self/fd")
    with accepted() as (bench, remote):
        fill(bench, remote)
        bench.order(CloseSocket(ONE), OpenDatagram(TWO, Endpoint(V4, 0)))
        bench.order(OpenStream(SocketId(3), Endpoint(V4, remote.getsockname()[1]), None))
    assert os.listdir("/proc/self/fd") == before


@pytest.mark.kernel
@BOTH
def test_an_echo_request_is_answered(address: bytes) -> None:
    with held_namespace() as namespace:
        namespace.shell("echo 0 2147483647 > /proc/sys/net/ipv4/ping_group_range")
        namespace.call(lambda: ping(address))


def ping(address: bytes) -> None:
    """Ping this host from a bench."""
    with Bench() as bench:
        bench.order(OpenEcho(ONE, address, address), SendEcho(ONE, address, 0x1234, b"payload", 33, 0))
        bench.until("echo_received")
        assert bench.network.facts == [("echo_received", ONE, address, 0x1234, b"payload", 64, 0)]
        bench.quiet()
        bench.order(CloseSocket(ONE))
        assert len(bench.sockets) == 0


@pytest.mark.kernel
def test_without_permission_to_ping_each_request_fails_and_there_is_one_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def attempt() -> None:
        with Bench() as bench:
            bench.order(OpenEcho(ONE, V4, None), OpenEcho(TWO, V4, None))
            assert bench.network.facts == []
            bench.order(*(SendEcho(name, V4, 7, b"payload", 64, 0) for name in (ONE, TWO, ONE)))
            denied = ExtendedError(errno.EACCES, 1, 0, 0, 0, None)
            assert bench.network.facts == [("echo_failed", name, 7, denied, b"payload") for name in (ONE, TWO, ONE)]
            bench.order(CloseSocket(ONE), SendEcho(ONE, V4, 8, b"", 64, 0))
            assert len(bench.network.facts) == 3

    with held_namespace() as namespace:
        namespace.shell("echo 1 0 > /proc/sys/net/ipv4/ping_group_range")
        namespace.call(attempt)
    [record] = caplog.records
    assert "net.ipv4.ping_group_range" in record.message
