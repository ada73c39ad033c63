"""The orders for the host's sockets of connections: their source address, their ends, and when they are given up."""

from __future__ import annotations

from errno import ETIMEDOUT

import pytest

from sansnet_core import Action, CloseSocket, Endpoint, Limits, OpenStream, Rule, UsageError
from sansnet_core.addresses import packed
from sansnet_core.orders import SocketId
from sansnet_core.policy import ProxyConfig, ProxyKind
from sansnet_core.proto.tcp.attempts import DELAY
from tests.core.direct import GUEST, GUEST6
from tests.core.named import LEASE, NAME, PUBLIC, PUBLIC6, TcpGuest, named, opened

OUTBOUND, OUTBOUND6 = packed("203.0.113.9"), packed("2001:db8:cccc::9")
PROXY = ProxyConfig(name="office", kind=ProxyKind.SOCKS5, server=Endpoint("10.0.0.9", 1080))
ALL = Rule(action=Action.ALLOW)


@pytest.mark.parametrize(
    ("destination", "guest", "host", "local"),
    [
        (PUBLIC, GUEST, PUBLIC, OUTBOUND),
        (PUBLIC6, GUEST6, PUBLIC6, OUTBOUND6),
        ("10.0.2.2", GUEST, "127.0.0.1", None),
    ],
    ids=["ipv4", "ipv6", "loopback"],
)
def test_a_connect_leaves_from_the_address_of_its_family(
    destination: str, guest: bytes, host: str, local: bytes | None
) -> None:
    bench, _ = named(
        ALL, outbound4=OUTBOUND, outbound6=OUTBOUND6, map_host_loopback=(packed("10.0.2.2"),), host_addresses=()
    )
    TcpGuest(bench, destination).syn()
    assert opened(bench) == [
        OpenStream(SocketId(1), Endpoint(host, 5432), local, Endpoint(guest, 40000), Endpoint(destination, 5432), None)
    ]


def test_each_attempt_leaves_from_the_address_of_its_family() -> None:
    bench, bindings = named(ALL, outbound4=OUTBOUND, outbound6=OUTBOUND6)
    bindings.know(NAME, PUBLIC6, PUBLIC)
    TcpGuest(bench).syn()
    bench.wait(DELAY)
    ends = Endpoint(GUEST, 40000), Endpoint(LEASE, 5432)
    assert opened(bench) == [
        OpenStream(SocketId(1), Endpoint(PUBLIC6, 5432), OUTBOUND6, *ends, NAME),
        OpenStream(SocketId(2), Endpoint(PUBLIC, 5432), OUTBOUND, *ends, NAME),
    ]


def test_the_connect_to_a_proxy_leaves_from_it_too() -> None:
    bench, _ = named(Rule(action=Action.ALLOW, via="office"), proxies=(PROXY,), outbound4=OUTBOUND)
    TcpGuest(bench, PUBLIC).syn()
    ends = Endpoint(GUEST, 40000), Endpoint(PUBLIC, 5432)
    assert opened(bench) == [OpenStream(SocketId(1), PROXY.server, OUTBOUND, *ends, None)]


def test_other_connections_are_direct_where_there_are_proxies() -> None:
    bench, _ = named(ALL, proxies=(PROXY,))
    TcpGuest(bench, PUBLIC).syn()
    assert [order.remote for order in opened(bench)] == [Endpoint(PUBLIC, 5432)]


def test_the_dialogue_with_a_proxy_has_the_time_of_a_decision() -> None:
    via = Rule(action=Action.ALLOW, via="office")
    bench, _ = named(via, proxies=(PROXY,), limits=Limits(decision_time=4))
    guest = TcpGuest(bench, PUBLIC)
    guest.syn()
    bench.wait(1)
    bench.network.stream_connected(SocketId(1), bench.now)
    bench.take()
    for _ in range(3):
        guest.syn()
        bench.wait(1.3)
    bench.collect()
    assert not [order for order in bench.take() if isinstance(order, CloseSocket)]
    bench.wait(0.2)
    assert bench.take() == [CloseSocket(SocketId(1), True, ETIMEDOUT)]


def test_mistakes_of_the_driver_during_a_dialogue_are_told_in_one_sentence() -> None:
    bench, _ = named(Rule(action=Action.ALLOW, via="office"), proxies=(PROXY,))
    TcpGuest(bench, PUBLIC).syn()
    early = r"^stream_received: this stream's budget was 0; read nothing before a ResumeStream order$"
    with pytest.raises(UsageError, match=early):
        bench.network.stream_received(SocketId(1), b"early", bench.now)
    bench.network.stream_connected(SocketId(1), bench.now)
    for count in (-1, 4):
        sentence = rf"^count: {count} bytes were reported as sent, but only 3 were ordered$"
        with pytest.raises(UsageError, match=sentence):
            bench.network.stream_sent(SocketId(1), count, bench.now)
    for count in (0, 2, 0, 1, 0):
        bench.network.stream_sent(SocketId(1), count, bench.now)
