"""Datagrams that the host's kernel refuses cost little, even if there are many."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from sansnet_core import Endpoint, OpenDatagram, SendDatagram, SocketId
from sansnet_core.addresses import parse
from sansnet_trio.host.sockaddr import encode
from tests.lab.namespaces import held_namespace
from tests.trio.fake import Bench

ONE = SocketId(1)
ANY4 = bytes(4)
V4 = parse("127.0.0.1")
NO_PORT = Endpoint(V4, 0)
"""EINVAL, an error by which the kernel also refuses runs only."""
NO_ROUTE = Endpoint(parse("192.0.2.1"), 9)


@contextmanager
def opened(local: bytes) -> Iterator[Bench]:
    """A bench with datagram socket 1."""
    with Bench() as bench:
        bench.order(OpenDatagram(ONE, Endpoint(local, 0)))
        yield bench


def refusals(bench: Bench) -> list[tuple[int, bytes]]:
    """The errors that were reported, and the data of each."""
    return [(fact[3].errno, fact[4]) for fact in bench.network.named("datagram_failed")]


@pytest.mark.parametrize("guest_made_it", [False, True], ids=["joined here", "the guest's"])
def test_a_run_that_the_host_refuses_is_reported_once(guest_made_it: bool) -> None:
    with opened(ANY4) as bench:
        if guest_made_it:
            bench.order(SendDatagram(ONE, NO_PORT, b"aabbccdde", 2, 64, 0))
        else:
            bench.order(*(SendDatagram(ONE, NO_PORT, data, 0, 64, 0) for data in (b"aa", b"bb", b"cc", b"dd", b"e")))
        assert refusals(bench) == [(errno.EINVAL, b"aa")]
        assert bench.context.datagrams_dropped == 4


def test_so_is_what_follows_in_the_same_batch() -> None:
    with opened(ANY4) as bench:
        bench.order(*(SendDatagram(ONE, NO_PORT, bytes(128), 1, 64, 0) for _ in range(64)))
        assert refusals(bench) == [(errno.EINVAL, b"\0")]
        assert bench.context.datagrams_dropped == 64 * 128 - 1
        bench.sockets.apply([SendDatagram(ONE, NO_PORT, b"a batch later", 0, 64, 0)], 1.0)
        assert refusals(bench)[1:] == [(errno.EINVAL, b"a batch later")]


def test_another_destination_is_not_held_liable() -> None:
    with opened(ANY4) as bench, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as remote:
        remote.settimeout(5)
        remote.bind(encode(V4, 0))
        endpoint = Endpoint(V4, remote.getsockname()[1])
        bench.order(SendDatagram(ONE, NO_PORT, b"lost", 0, 64, 0), SendDatagram(ONE, endpoint, b"found", 0, 64, 0))
        assert remote.recv(10) == b"found"


def test_a_run_is_sent_whole_when_the_error_was_an_earlier_ones() -> None:
    with opened(ANY4) as bench:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as closed:
            closed.bind(encode(V4, 0))
            nobody = Endpoint(V4, closed.getsockname()[1])
        for _ in range(3):
            bench.order(SendDatagram(ONE, nobody, bytes(128), 1, 64, 0))
        bench.quiet()
        assert len(refusals(bench)) == 6  # one for each send of at most 64


def large_ones() -> None:
    """They leave one by one, in sequence with small ones and with those of other options."""
    with opened(ANY4) as bench, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as remote:
        remote.settimeout(5)
        remote.bind(encode(V4, 0))
        endpoint = Endpoint(V4, remote.getsockname()[1])
        parts = [(2000, 64)] * 3 + [(3000, 64), (9, 64), (9, 64), (2000, 64), (4000, 63), (2000, 63), (1400, 63)]
        sent = [bytes([number]) * size for number, (size, _) in enumerate(parts)]
        bench.order(
            *(SendDatagram(ONE, endpoint, data, 0, ttl, 0, True) for data, (_, ttl) in zip(sent, parts, strict=True))
        )
        assert [remote.recv(65536) for _ in sent] == sent


def large_ones_to_nobody() -> None:
    """The kernel reports for each one that the one before has failed, and does not send it until then."""
    with opened(ANY4) as bench:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as closed:
            closed.bind(encode(V4, 0))
            nobody = Endpoint(V4, closed.getsockname()[1])
        bench.order(*(SendDatagram(ONE, nobody, bytes(2000), 0, 64, 0, True) for _ in range(12)))
        bench.quiet()
        assert [code for code, _ in refusals(bench)] == [errno.ECONNREFUSED] * 12


@pytest.mark.kernel
@pytest.mark.parametrize("end", [large_ones, large_ones_to_nobody], ids=["a server", "nobody"])
def test_datagrams_that_are_too_large_for_runs_are_all_sent(end: Callable[[], None]) -> None:
    with held_namespace() as namespace:
        namespace.shell("ip link set lo up mtu 1500")
        namespace.call(end)


@pytest.mark.kernel
def test_without_a_route_a_run_is_reported_once() -> None:
    def attempt() -> None:
        with opened(ANY4) as bench:
            bench.order(SendDatagram(ONE, NO_ROUTE, bytes(64), 1, 64, 0))
            assert refusals(bench) == [(errno.ENETUNREACH, b"\0")]
            assert bench.context.datagrams_dropped == 63

    with held_namespace() as namespace:
        namespace.call(attempt)


@pytest.mark.kernel
def test_what_is_smaller_than_a_datagram_too_large_is_sent() -> None:
    def attempt() -> None:
        with opened(ANY4) as bench, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as remote:
            remote.settimeout(5)
            remote.bind(encode(V4, 0))
            endpoint = Endpoint(V4, remote.getsockname()[1])
            for size in (2000, 2000, 2000, 100):
                bench.order(SendDatagram(ONE, endpoint, bytes(size), 0, 64, 0))
            bench.order(SendDatagram(ONE, endpoint, bytes(4100), 2000, 64, 0))
            [(code, data)] = refusals(bench)
            assert (code, len(data)) == (errno.EMSGSIZE, 2000)
            assert [len(remote.recv(3000)) for _ in range(2)] == [100, 100]
            assert bench.context.datagrams_dropped == 4

    with held_namespace() as namespace:
        namespace.shell("ip link set lo mtu 1500")
        namespace.call(attempt)
