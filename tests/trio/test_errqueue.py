"""The error queue: the kernel's reports of packets that failed."""

from __future__ import annotations

import errno
import socket
import time
from dataclasses import replace

import pytest

from sansnet_core import Endpoint, ExtendedError, OpenDatagram, OpenStream, SendDatagram, SocketId
from sansnet_trio.host import errqueue
from sansnet_trio.host.sockopts import prepare_datagram
from tests.lab.namespaces import Namespace, held_namespace
from tests.trio.fake import Bench, Fact

LOOPBACK = b"\x7f\0\0\1"


def datagram_socket() -> socket.socket:
    """The options of the host sockets."""
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    prepare_datagram(made, socket.AF_INET)
    return made


def test_an_empty_queue_is_empty() -> None:
    with datagram_socket() as sock:
        assert errqueue.read(sock) == []


def test_errors_come_in_order_with_destination_and_data() -> None:
    with datagram_socket() as sock, datagram_socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        closed.close()
        sock.sendto(b"first", ("127.0.0.1", port))
        with pytest.raises(ConnectionRefusedError):
            sock.sendto(b"not sent", ("127.0.0.1", port))
        sock.sendto(b"second", ("127.0.0.1", port))
        error = ExtendedError(errno.ECONNREFUSED, 2, 3, 3, 0, LOOPBACK, 64)
        assert errqueue.read(sock) == [
            (Endpoint(LOOPBACK, port), error, b"first"),
            (Endpoint(LOOPBACK, port), error, b"second"),
        ]
        assert errqueue.read(sock) == []


def test_a_packet_too_large_is_a_local_error() -> None:
    with datagram_socket() as sock:
        with pytest.raises(OSError, match="too long"):
            sock.sendto(bytes(65508), ("127.0.0.1", 9))
        [(_, error, _)] = errqueue.read(sock)
        assert (error.errno, error.origin, error.offender) == (errno.EMSGSIZE, errqueue.ORIGIN_LOCAL, None)


def test_a_failed_call_is_a_local_error() -> None:
    assert errqueue.local_error(OSError(errno.EPERM, "")) == ExtendedError(errno.EPERM, 1, 0, 0, 0, None)
    assert errqueue.local_error(OSError()) == ExtendedError(errno.EIO, 1, 0, 0, 0, None)


def routed(host: Namespace, router: Namespace) -> None:
    """Give `host` a default route through `router`, which reports all destinations as unreachable."""
    host.shell(f"ip link add wan type veth peer name lan netns {router.pid}; ip link set wan up mtu 1500")
    host.shell("ip addr add 10.9.0.2/24 dev wan; ip route add default via 10.9.0.1")
    host.shell("ip -6 addr add fd09::2/64 dev wan nodad; ip -6 route add default via fd09::1")
    router.shell("ip link set lan up; ip addr add 10.9.0.1/24 dev lan; ip -6 addr add fd09::1/64 dev lan nodad")
    router.shell("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1")
    router.shell("sysctl -qw net.ipv4.icmp_ratelimit=0 net.ipv4.icmp_msgs_per_sec=100000 net.ipv6.icmp.ratelimit=0")
    router.shell("ip route add unreachable 10.8.0.0/24; ip route add prohibit 10.7.0.0/24")
    router.shell("ip -6 route add unreachable fd08::/64; ip -6 route add prohibit fd07::/64")


@pytest.mark.kernel
@pytest.mark.slow
def test_errors_of_a_router_reach_streams_and_datagrams() -> None:
    with held_namespace() as host, held_namespace() as router:
        routed(host, router)
        host.call(check_errors)


ROUTER = b"\x0a\x09\0\1"
ROUTER6 = b"\xfd\x09" + bytes(13) + b"\1"
EXPECTED = [
    (b"\x0a\x08\0\1", ExtendedError(errno.EHOSTUNREACH, 2, 3, 1, 0, ROUTER)),
    (b"\x0a\x07\0\1", ExtendedError(errno.EHOSTUNREACH, 2, 3, 13, 0, ROUTER)),
    (b"\xfd\x08" + bytes(13) + b"\1", ExtendedError(errno.ENETUNREACH, 3, 1, 0, 0, ROUTER6)),
    (b"\xfd\x07" + bytes(13) + b"\1", ExtendedError(errno.EACCES, 3, 1, 1, 0, ROUTER6)),
]


def send_until_told(bench: Bench, remote: Endpoint) -> list[Fact]:
    """Try repeatedly, since Linux's IPv4 routers report such an error a few times, then once a second (ip_error)."""
    for _ in range(10):
        bench.order(SendDatagram(SocketId(2), remote, b"data", 0, 64, 0))
        end = time.monotonic() + 1.5
        while time.monotonic() < end:
            if failures := bench.network.named("datagram_failed"):
                return failures
            bench.round()
    return []


def check_errors() -> None:
    """In the host's namespace: streams and datagrams to destinations that the router does not reach."""
    for address, expected in EXPECTED:
        remote = Endpoint(address, 99)
        with Bench() as bench:
            local = Endpoint(bytes(len(address)), 0)
            bench.order(OpenStream(SocketId(1), remote, None), OpenDatagram(SocketId(2), local))
            bench.until("stream_failed", seconds=15)
            assert bench.network.named("stream_failed") == [("stream_failed", 1, expected.errno, expected)]
            failures = send_until_told(bench, remote)
            assert failures
            fact = ("datagram_failed", 2, remote, replace(expected, ttl=64), b"data")
            assert all(failure == fact for failure in failures)
            bench.quiet()
