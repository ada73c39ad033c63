"""The part that UDP and ping sockets share: the options of the packets they send, and their place in the epoll set."""

from __future__ import annotations

import gc
import socket
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Final

import pytest

from sansnet_core import CloseSocket, Endpoint, ExtendedError, OpenDatagram, OpenEcho, SendDatagram, SocketId
from sansnet_core.addresses import parse
from sansnet_trio.host import packet_socket
from sansnet_trio.host.datagrams import DatagramSocket
from sansnet_trio.host.echoes import EchoSocket
from sansnet_trio.host.packet_socket import PacketSocket
from sansnet_trio.host.sockopts import prepare_echo
from tests.lab.namespaces import held_namespace
from tests.trio.fake import Bench

ONE: Final = SocketId(1)
V4: Final = parse("127.0.0.1")


class Packets(PacketSocket):
    """A socket whose packets and errors go to two functions."""

    def __init__(
        self,
        bench: Bench,
        sock: socket.socket,
        receive: Callable[[], object] = lambda: None,
        failed: Callable[[Endpoint | None, bytes], object] = lambda remote, data: None,
    ) -> None:
        super().__init__(bench.context, sock)
        self._read, self._fail = receive, failed

    def receive(self, now: float) -> None:
        self._read()

    def failed(self, remote: Endpoint | None, error: ExtendedError, data: bytes, now: float) -> None:
        self._fail(remote, data)


@pytest.fixture
def udp() -> Iterator[socket.socket]:
    """A UDP socket with an error queue, bound to a port of its own."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as made:
        prepare_echo(made, socket.AF_INET)
        made.bind(("127.0.0.1", 0))
        yield made


@pytest.mark.interpreted
def test_options_that_are_set_already_cost_no_system_call(udp: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, int]] = []
    for name in ("set_ttl", "set_tos", "set_fragment"):
        monkeypatch.setattr(packet_socket, name, lambda _, __, value, name=name: calls.append((name, value)))
    with Bench() as bench:
        packets = Packets(bench, udp)
        packets.set_options(64, 0, True)
        packets.set_options(64, 0, True)
        packets.set_options(63, 0, True)
        packets.set_options(63, 4, False)
        packets.leave()
    assert calls == [
        ("set_ttl", 64),
        ("set_tos", 0),
        ("set_fragment", True),
        ("set_ttl", 63),
        ("set_tos", 4),
        ("set_fragment", False),
    ]


def test_an_option_that_was_refused_is_tried_again(udp: socket.socket) -> None:
    with Bench() as bench:
        packets = Packets(bench, udp)
        for _ in range(2):
            with pytest.raises(OSError, match="Invalid argument"):
                packets.set_options(256, 0, True)
        packets.set_options(7, 0x28, True)
        packets.leave()
    assert udp.getsockopt(socket.IPPROTO_IP, socket.IP_TTL) == 7
    assert udp.getsockopt(socket.IPPROTO_IP, socket.IP_TOS) == 0x28


def test_it_is_not_read_while_the_guest_has_no_room(udp: socket.socket) -> None:
    read: list[bytes] = []
    with Bench() as bench:
        packets = Packets(bench, udp, lambda: read.append(udp.recv(100)))
        bench.context.blocked = True
        udp.sendto(b"early", udp.getsockname())
        bench.quiet()
        assert not read
        bench.context.blocked = False
        bench.sockets.unpark()
        bench.wait(lambda: read == [b"early"])
        packets.leave()


def test_it_may_leave_while_it_waits_for_room(udp: socket.socket) -> None:
    """Its number may be another descriptor's by then."""
    with Bench() as bench:
        packets = Packets(bench, udp)
        bench.context.blocked = True
        udp.sendto(b"early", udp.getsockname())
        bench.quiet()
        packets.leave()
        bench.context.blocked = False
        bench.sockets.unpark()
        bench.quiet()


def test_errors_from_the_network_are_reported_and_do_not_come_again(udp: socket.socket) -> None:
    failed: list[tuple[Endpoint | None, bytes]] = []
    with Bench() as bench:
        packets = Packets(bench, udp, failed=lambda remote, data: failed.append((remote, data)))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as closed:
            closed.bind(("127.0.0.1", 0))
            nowhere = closed.getsockname()
        udp.sendto(b"lost", nowhere)
        bench.wait(lambda: failed == [(Endpoint(V4, nowhere[1]), b"lost")])
        assert packets.read_errors(0.0) is None
        bench.quiet()
        packets.leave()


@pytest.mark.parametrize("kind", [DatagramSocket, EchoSocket])
def test_a_closed_socket_is_freed_at_once(kind: type) -> None:
    """Without waiting for the garbage collector: a guest can open and close thousands."""
    with held_namespace() as namespace:
        namespace.shell("ip link set lo up; echo 0 2147483647 >/proc/sys/net/ipv4/ping_group_range")
        assert namespace.call(lambda: parts(kind)) == (1, 0)


def test_an_idle_socket_takes_little_memory() -> None:
    """A guest can have thousands."""
    count = 300
    names = [SocketId(number) for number in range(1000, 1000 + count)]
    with Bench() as bench:
        bench.order(OpenDatagram(ONE, Endpoint(V4, 0)), SendDatagram(ONE, Endpoint(V4, 9), b"x", 0, 64, 0))
        gc.collect()
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            for name in names:
                bench.order(OpenDatagram(name, Endpoint(V4, 0)), SendDatagram(name, Endpoint(V4, 9), b"x", 0, 64, 0))
            bench.network.facts.clear()
            gc.collect()
            taken = (tracemalloc.get_traced_memory()[0] - before) / count
        finally:
            tracemalloc.stop()
        for name in names:
            bench.order(CloseSocket(name))
    assert taken < 560, "bytes for each, with its share of the tables"


def parts(kind: type) -> tuple[int, int]:
    """How many objects of a kind there are while a socket is open, and after it was closed."""

    def count() -> int:
        return sum(isinstance(thing, kind) for thing in gc.get_objects())

    gc.collect()
    gc.disable()
    try:
        with Bench() as bench:
            before = count()
            if kind is DatagramSocket:
                bench.order(OpenDatagram(ONE, Endpoint(V4, 0)), SendDatagram(ONE, Endpoint(V4, 9), b"x", 0, 64, 0))
            else:
                bench.order(OpenEcho(ONE, V4, None))
            opened = count()
            bench.order(CloseSocket(ONE))
            return opened - before, count() - before
    finally:
        gc.enable()
