"""The part that UDP and ping sockets share: the options of the packets they send, and their place in the epoll set."""

from __future__ import annotations

import gc
import socket
from collections.abc import Iterator
from typing import Final

import pytest

from sansnet_core import CloseSocket, Endpoint, OpenDatagram, OpenEcho, SendDatagram, SocketId
from sansnet_core.addresses import parse
from sansnet_trio.host import packet_socket
from sansnet_trio.host.datagrams import DatagramSocket
from sansnet_trio.host.echoes import EchoSocket
from sansnet_trio.host.packet_socket import PacketOptions, PacketSocket
from sansnet_trio.host.sockopts import prepare_echo
from tests.lab.namespaces import held_namespace
from tests.trio.fake import Bench

ONE: Final = SocketId(1)
V4: Final = parse("127.0.0.1")


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
    options = PacketOptions(udp)
    options.set(64, 0, True)
    options.set(64, 0, True)
    options.set(63, 0, True)
    options.set(63, 4, False)
    assert calls == [
        ("set_ttl", 64),
        ("set_tos", 0),
        ("set_fragment", True),
        ("set_ttl", 63),
        ("set_tos", 4),
        ("set_fragment", False),
    ]


def test_an_option_that_was_refused_is_tried_again(udp: socket.socket) -> None:
    options = PacketOptions(udp)
    for _ in range(2):
        with pytest.raises(OSError, match="Invalid argument"):
            options.set(256, 0, True)
    options.set(7, 0x28, True)
    assert udp.getsockopt(socket.IPPROTO_IP, socket.IP_TTL) == 7
    assert udp.getsockopt(socket.IPPROTO_IP, socket.IP_TOS) == 0x28


def test_it_is_not_read_while_the_guest_has_no_room(udp: socket.socket) -> None:
    read: list[bytes] = []
    with Bench() as bench:
        packets = PacketSocket(bench.context, udp, lambda now: read.append(udp.recv(100)), lambda *_: None)
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
        packets = PacketSocket(bench.context, udp, lambda now: None, lambda *_: None)
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
        packets = PacketSocket(
            bench.context, udp, lambda now: None, lambda remote, error, data, now: failed.append((remote, data))
        )
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
        assert namespace.call(lambda: parts(kind)) == (2, 0)


def parts(kind: type) -> tuple[int, int]:
    """How many parts of a socket there are while it is open, and after it was closed."""

    def count() -> int:
        return sum(isinstance(thing, kind | PacketSocket) for thing in gc.get_objects())

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
