"""The attempts to connect to the addresses of a name, in the manner of RFC 8305, and connects by a proxy."""

from __future__ import annotations

from collections.abc import Sequence
from errno import (
    EACCES,
    ECONNREFUSED,
    ECONNRESET,
    EHOSTUNREACH,
    EMFILE,
    ENETUNREACH,
    ETIMEDOUT,
)
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sansnet_core import (
    Action,
    CloseSocket,
    Endpoint,
    ExtendedError,
    FlowClosed,
    FlowOpened,
    FlowRefused,
    Limits,
    OpenStream,
    Rule,
    SendStream,
    UsageError,
)
from sansnet_core.orders import ORIGIN_ICMP, SocketId
from sansnet_core.policy import ProxyConfig, ProxyKind
from sansnet_core.proto.tcp.attempts import DELAY, MAX_ENDPOINTS, alternate
from sansnet_core.records import replace
from sansnet_core.testing.packets import ACK, RST
from tests.core.direct import Direct
from tests.core.named import LEASE, LEASE6, NAME, PUBLIC, PUBLIC6, PUBLIC_B, PUBLIC_B6, TcpGuest, named, opened, sent
from tests.core.recording.accounts import wrong_accounts

RULE = Rule(action=Action.ALLOW, names=(NAME,), label="database")


def connecting(*hosts: str, lease: str = LEASE, limits: Limits | None = None) -> tuple[Direct, TcpGuest]:
    """A guest that has sent its SYN to a name with these addresses."""
    bench, bindings = named(RULE, limits=limits or Limits())
    bindings.know(NAME, *hosts)
    guest = TcpGuest(bench, lease)
    guest.syn()
    return bench, guest


def remotes(bench: Direct) -> list[str]:
    """The addresses that connects were ordered to since the last call."""
    return [str(order.remote).rpartition(":")[0].strip("[]") for order in opened(bench)]


def fail(bench: Direct, socket: int, errno: int, error: ExtendedError | None = None) -> None:
    bench.network.stream_failed(SocketId(socket), errno, error, bench.now)
    bench.collect()


def connect(bench: Direct, socket: int) -> None:
    bench.network.stream_connected(SocketId(socket), bench.now)
    bench.collect()


# order and time


def test_families_alternate_and_attempts_are_apart() -> None:
    bench, _ = connecting(PUBLIC6, PUBLIC_B6, PUBLIC, PUBLIC_B)
    assert remotes(bench) == [PUBLIC6]
    bench.wait(DELAY - 0.01)
    assert bench.take() == []
    bench.wait(0.02)
    assert remotes(bench) == [PUBLIC]
    bench.wait(DELAY)
    assert remotes(bench) == [PUBLIC_B6]
    bench.wait(DELAY)
    assert remotes(bench) == [PUBLIC_B]
    bench.wait(1.0)
    assert bench.take() == []


def test_a_failure_begins_the_next_attempt_at_once() -> None:
    bench, _ = connecting(PUBLIC6, PUBLIC, PUBLIC_B)
    assert remotes(bench) == [PUBLIC6]
    fail(bench, 1, ENETUNREACH)
    assert remotes(bench) == [PUBLIC]
    bench.wait(DELAY - 0.01)
    assert bench.take() == [], "the time runs from the last attempt"
    bench.wait(0.02)
    assert remotes(bench) == [PUBLIC_B]


@given(st.lists(st.tuples(st.sampled_from([4, 16]), st.integers(0, 50)), unique=True, max_size=30))
def test_any_order_of_addresses_alternates(given_: list[tuple[int, int]]) -> None:
    hosts = [Endpoint(number.to_bytes(size, "big"), 80) for size, number in given_]
    found = alternate(hosts)
    assert sorted(found) == sorted(hosts)
    assert found[:1] == hosts[:1]
    for size in (4, 16):
        assert [host for host in found if len(host.address) == size] == [
            host for host in hosts if len(host.address) == size
        ]
    sizes = [len(host.address) for host in found]
    changes = [one != other for one, other in pairwise(sizes)]
    assert all(changes[: max(2 * min(sizes.count(4), sizes.count(16)) - 1, 0)])


def test_the_number_of_addresses_is_bounded() -> None:
    bench, guest = connecting(*(f"93.184.1.{number}" for number in range(200)))
    for _ in range(40):
        bench.wait(DELAY)
        guest.syn()
    assert len(opened(bench)) == MAX_ENDPOINTS


def test_the_sockets_of_all_connections_are_bounded() -> None:
    """Without room for a second socket, an attempt waits until the one before has failed."""
    bench, bindings = named(RULE, limits=Limits(tcp_pending=2))
    bindings.know(NAME, PUBLIC6, PUBLIC, PUBLIC_B)
    for port in (40000, 40001):
        TcpGuest(bench, source_port=port).syn()
    bench.wait(DELAY)
    bench.wait(3 * DELAY)
    assert len(opened(bench)) == 4
    fail(bench, 1, ECONNREFUSED)
    assert len(opened(bench)) == 1
    bench.wait(3 * DELAY)
    assert bench.take() == [], "the other one still waits"


# the end of the race


@pytest.mark.parametrize("winner", [0, 1, 2])
@pytest.mark.parametrize("lease", [LEASE, LEASE6])
def test_the_first_that_connects_is_the_connection(winner: int, lease: str) -> None:
    bench, guest = connecting(PUBLIC6, PUBLIC, PUBLIC_B6, lease=lease)
    bench.wait(2 * DELAY)
    orders = opened(bench)
    sockets = [order.socket for order in orders]
    assert [order.name for order in orders] == [NAME] * 3
    connect(bench, sockets[winner])
    assert sorted(bench.take(), key=lambda order: order.socket) == [
        CloseSocket(socket, abort=True) for number, socket in enumerate(sockets) if number != winner
    ]
    guest.accept()
    (resumed,) = bench.take()
    assert resumed.socket == sockets[winner]
    guest.data(b"hello")
    (order,) = bench.take()
    assert order == SendStream(sockets[winner], b"hello")
    bench.network.stream_received(sockets[winner], b"answer", bench.now)
    bench.network.stream_sent(sockets[winner], 5, bench.now)
    bench.collect()
    assert b"".join(segment.payload for segment in guest.segments()) == b"answer"
    (report,) = bench.network.flows()
    assert (report.socket, report.host, report.name) == (sockets[0], orders[winner].remote, NAME)
    for loser in (socket for number, socket in enumerate(sockets) if number != winner):
        fail(bench, loser, ECONNREFUSED)  # the driver is late
        connect(bench, loser)
    assert len(bench.network.flows()) == 1
    fail(bench, sockets[winner], ECONNRESET)
    (first, last) = bench.notices
    assert isinstance(first, FlowOpened)
    assert isinstance(last, FlowClosed)
    assert first.socket == last.socket == sockets[0]
    assert last.host == orders[winner].remote
    assert bench.network.flows() == []
    bench.wait(5.0)
    assert bench.take() == []


def test_an_attempt_that_failed_before_is_not_closed_again() -> None:
    bench, _ = connecting(PUBLIC6, PUBLIC, PUBLIC_B)
    fail(bench, 1, ENETUNREACH)
    bench.wait(DELAY)
    first, second, third = opened(bench)
    assert first.socket == 1
    connect(bench, third.socket)
    assert bench.take() == [CloseSocket(second.socket, abort=True)]
    (report,) = bench.network.flows()
    assert report.socket == 1


def test_a_guest_that_gives_up_aborts_all_attempts() -> None:
    bench, guest = connecting(PUBLIC6, PUBLIC, PUBLIC_B)
    bench.wait(2 * DELAY)
    sockets = {order.socket for order in opened(bench)}
    bench.wait(30.0)
    assert {order.socket for order in bench.take() if isinstance(order, CloseSocket) and order.abort} == sockets
    assert bench.network.flows() == []
    connect(bench, max(sockets))
    assert guest.segments() == []


def test_attempts_that_are_not_begun_end_with_the_connection() -> None:
    bench, guest = connecting(PUBLIC6, PUBLIC)
    guest.sequence = 5000
    guest._send(RST)  # not acceptable
    bench.network.reconfigure(bench.config, bench.now)
    assert len(opened(bench)) == 1
    guest.sequence = 1001
    guest._send(RST)
    assert bench.take() == [CloseSocket(SocketId(1), abort=True, errno=ECONNRESET)]
    bench.wait(10.0)
    assert bench.take() == []


def icmp(errno: int) -> ExtendedError:
    return ExtendedError(errno, ORIGIN_ICMP, 3, 1, 0, bytes((192, 0, 2, 1)))


@pytest.mark.parametrize(
    ("failures", "expected"),
    [
        ([ENETUNREACH, ECONNREFUSED], ECONNREFUSED),
        ([ECONNREFUSED, ENETUNREACH], ECONNREFUSED),
        ([ETIMEDOUT, EHOSTUNREACH, ENETUNREACH], EHOSTUNREACH),
        ([ENETUNREACH, EACCES], EACCES),
        ([EHOSTUNREACH, ECONNREFUSED, EHOSTUNREACH], ECONNREFUSED),
        ([ENETUNREACH, ENETUNREACH], ENETUNREACH),
        ([EMFILE, ENETUNREACH], EMFILE),
        ([ENETUNREACH, EMFILE], EMFILE),
        ([EHOSTUNREACH, EACCES], EHOSTUNREACH),
    ],
)
def test_the_guest_sees_the_most_informative_failure(failures: list[int], expected: int) -> None:
    hosts = [PUBLIC, PUBLIC6, PUBLIC_B][: len(failures)]
    bench, guest = connecting(*hosts)
    for errno in failures:
        (order,) = opened(bench)
        fail(bench, order.socket, errno)
    opened_, refused, closed = bench.notices
    assert isinstance(opened_, FlowOpened)
    assert isinstance(refused, FlowRefused)
    assert isinstance(closed, FlowClosed)
    assert (refused.errno, closed.errno, refused.name) == (expected, expected, NAME)
    assert refused.host == Endpoint(hosts[failures.index(expected)], 5432)
    if expected == ECONNREFUSED:
        assert [segment.flags for segment in guest.segments()] == [RST | ACK]
    else:
        codes = {EHOSTUNREACH: [(3, 1)], EACCES: [(3, 13)], ENETUNREACH: [(3, 0)], EMFILE: []}
        assert guest.errors() == codes[expected]
    assert bench.network.flows() == []
    bench.wait(5.0)
    assert bench.take() == []


def test_the_error_of_a_router_says_more_than_a_missing_route() -> None:
    bench, guest = connecting(PUBLIC6, PUBLIC)
    fail(bench, 1, ENETUNREACH)
    _, second = opened(bench)
    fail(bench, second.socket, ENETUNREACH, icmp(ENETUNREACH))
    assert guest.errors() == [(3, 1)], "type and code of the router's own message"


@given(
    events=st.lists(
        st.sampled_from(["connect", "refuse", "unreachable", "time", "reset"]).flatmap(
            lambda what: st.tuples(st.just(what), st.integers(0, 5))
        ),
        max_size=15,
    )
)
def test_any_sequence_of_outcomes_leaves_one_connection_or_none(events: Sequence[tuple[str, int]]) -> None:
    bench, guest = connecting(PUBLIC6, PUBLIC, PUBLIC_B6, PUBLIC_B, "93.184.1.1")
    alive: dict[SocketId, bool] = {}
    """Open sockets; whether they are connected."""
    for what, number in [*events, ("time", 40), ("time", 40)]:
        for order in bench.take():
            if isinstance(order, OpenStream):
                assert order.socket not in alive
                alive[order.socket] = False
            elif isinstance(order, CloseSocket):
                del alive[order.socket]
        chosen = sorted(alive)[number] if number < len(alive) else None
        if what == "time":
            bench.wait(number * 0.2)
        elif what == "reset":
            guest.sequence = 1001
            guest._send(RST)
        elif chosen is not None and what == "connect" and not alive[chosen]:
            alive[chosen] = True
            connect(bench, chosen)
        elif chosen is not None and what in ("refuse", "unreachable"):
            del alive[chosen]
            fail(bench, chosen, ECONNREFUSED if what == "refuse" else ENETUNREACH)
        assert sum(alive.values()) <= 1 or any(isinstance(order, CloseSocket) for order in bench.orders)
        assert wrong_accounts(bench.network) == []
    bench.wait(200.0)
    for order in bench.take():
        if isinstance(order, CloseSocket):
            del alive[order.socket]
    assert (alive, bench.network.flows()) == ({}, [])
    assert bench.network.next_deadline() is None or bench.network.statistics().tcp_held == 0


def test_attempts_that_new_rules_close_are_aborted_and_the_next_one_begins() -> None:
    bench, _ = connecting(PUBLIC6, PUBLIC, PUBLIC_B6)
    bench.wait(DELAY)
    first, second = opened(bench)
    refuse = Rule(action=Action.REFUSE, destinations=(PUBLIC6, PUBLIC))
    bench.network.reconfigure(replace(bench.config, rules=(refuse, RULE)), bench.now)
    bench.collect()
    *closed, third = bench.take()
    assert closed == [CloseSocket(one.socket, abort=True, errno=EACCES) for one in (first, second)]
    assert isinstance(third, OpenStream)
    assert third.remote == Endpoint(PUBLIC_B6, 5432)
    assert wrong_accounts(bench.network) == []
    connect(bench, third.socket)
    assert wrong_accounts(bench.network) == []


def test_an_endpoint_that_new_rules_close_is_not_tried_next() -> None:
    bench, _ = connecting(PUBLIC6, PUBLIC, PUBLIC_B6)
    bench.take()
    refuse = Rule(action=Action.REFUSE, destinations=(PUBLIC,))
    bench.network.reconfigure(replace(bench.config, rules=(refuse, RULE)), bench.now)
    bench.wait(3 * DELAY)
    assert remotes(bench) == [PUBLIC_B6]


def test_a_time_without_an_endpoint_left_begins_nothing() -> None:
    """The rules close the endpoint that would be tried next, after the time to it has begun."""
    bench, _ = connecting(PUBLIC6, PUBLIC)
    assert remotes(bench) == [PUBLIC6]
    refuse = Rule(action=Action.REFUSE, destinations=(PUBLIC,))
    bench.network.reconfigure(replace(bench.config, rules=(refuse, RULE)), bench.now)
    bench.wait(3 * DELAY)
    assert bench.take() == []
    connect(bench, 1)
    (report,) = bench.network.flows()
    assert report.host == Endpoint(PUBLIC6, 5432)


def test_late_facts_about_an_attempt_that_new_rules_closed_change_nothing() -> None:
    bench, _ = connecting(PUBLIC6, PUBLIC)
    bench.wait(DELAY)
    first, second = opened(bench)
    refuse = Rule(action=Action.REFUSE, destinations=(PUBLIC6,))
    bench.network.reconfigure(replace(bench.config, rules=(refuse, RULE)), bench.now)
    bench.collect()
    assert bench.take() == [CloseSocket(first.socket, abort=True, errno=EACCES)]
    connect(bench, first.socket)
    bench.network.stream_ended(first.socket, bench.now)
    fail(bench, first.socket, ECONNREFUSED)
    assert bench.take() == []
    assert wrong_accounts(bench.network) == []
    connect(bench, second.socket)
    (report,) = bench.network.flows()
    assert report.host == second.remote


# proxies


class Greeting:
    """A dialogue with a proxy: a question of eight bytes, and an answer of a length and as many bytes."""

    def __init__(self, proxy: ProxyConfig, host: str | bytes, port: int) -> None:
        self.asked = (proxy.name, host, port)
        self.needed = 1
        self.done = False
        self.errno = 0

    def start(self) -> bytes:
        return b"GREETING"

    def receive(self, data: bytes) -> bytes:
        assert len(data) <= self.needed
        if self.needed == 1:
            self.needed = data[0] + 1  # so that it differs from the length
            return b"MORE"
        self.done = True
        self.errno = ECONNREFUSED if data == b"no!" else 0
        return b""


PROXY = ProxyConfig(name="office", kind=ProxyKind.SOCKS5, server=Endpoint("10.0.0.9", 1080))
VIA = Rule(action=Action.ALLOW, names=(NAME,), via="office", label="by the office")


def by_proxy(*rules: Rule, destination: str = LEASE) -> tuple[Direct, TcpGuest, list[Greeting]]:
    bench, _ = named(*(rules or (VIA,)), proxies=(PROXY,))
    made: list[Greeting] = []

    def make(proxy: ProxyConfig, host: str | bytes, port: int) -> Greeting:
        made.append(Greeting(proxy, host, port))
        return made[-1]

    bench.network._tcp.opening.make_handshake = make
    guest = TcpGuest(bench, destination)
    guest.syn()
    return bench, guest, made


def test_a_connection_by_a_proxy_passes_the_name_on() -> None:
    bench, guest, made = by_proxy()
    (order,) = opened(bench)
    assert (order.remote, order.name, made[0].asked) == (PROXY.server, NAME, ("office", NAME, 5432))
    socket = order.socket
    assert bench.network.receive_budget(socket) == 0
    connect(bench, socket)
    assert sent(bench) == b"GREETING"
    assert guest.segments() == [], "the guest is connected when the proxy has connected"
    assert bench.network.receive_budget(socket) == 1
    bench.network.stream_received(socket, b"\2", bench.now)
    bench.network.stream_sent(socket, 8, bench.now)
    bench.collect()
    assert sent(bench) == b"MORE"
    assert bench.network.receive_budget(socket) == 3
    bench.network.stream_received(socket, b"yes", bench.now)
    bench.collect()
    assert bench.network.receive_budget(socket) == 0
    guest.accept()
    assert bench.network.receive_budget(socket) > 0
    bench.take()
    guest.data(b"hello")
    assert sent(bench) == b"hello"
    bench.network.stream_sent(socket, 4 + 5, bench.now)  # of the dialogue, and of the guest
    with pytest.raises(UsageError):
        bench.network.stream_sent(socket, 1, bench.now)
    assert bench.network.statistics().tcp_held == 0
    (report,) = bench.network.flows()
    assert (report.sent, report.received, report.host) == (5, 0, PROXY.server)


def test_a_proxy_gets_the_address_of_a_destination_without_a_name() -> None:
    rule = Rule(action=Action.ALLOW, via="office")
    _, _, made = by_proxy(rule, destination=PUBLIC)
    assert made[0].asked == ("office", Endpoint(PUBLIC, 1).address, 5432)


@pytest.mark.parametrize("how", ["refuses", "ends", "fails", "cannot be reached"])
def test_a_proxy_that_does_not_connect(how: str) -> None:
    bench, guest, _ = by_proxy()
    (order,) = opened(bench)
    expected = ECONNREFUSED
    if how != "cannot be reached":
        connect(bench, order.socket)
        bench.take()
    if how == "refuses":
        bench.network.stream_received(order.socket, b"\2", bench.now)
        bench.collect()
        bench.take()
        bench.network.stream_received(order.socket, b"no!", bench.now)
    elif how == "ends":
        expected = ECONNRESET
        bench.network.stream_ended(order.socket, bench.now)
    else:
        bench.network.stream_failed(order.socket, ECONNREFUSED, None, bench.now)
    bench.collect()
    closed = [CloseSocket(order.socket, abort=True, errno=expected)] if how in ("refuses", "ends") else []
    assert bench.take() == closed
    assert [segment.flags for segment in guest.segments()] == [RST | ACK]
    assert [notice.errno for notice in bench.notices if isinstance(notice, FlowRefused)] == [expected]


def test_a_proxy_that_does_not_answer_is_given_up_with_the_guest() -> None:
    bench, _, _ = by_proxy()
    (order,) = opened(bench)
    connect(bench, order.socket)
    bench.take()
    bench.wait(60.0)
    assert bench.take() == [CloseSocket(order.socket, abort=True, errno=ETIMEDOUT)]


def test_bytes_beyond_the_dialogue_are_an_error_of_the_driver() -> None:
    bench, _, _ = by_proxy()
    (order,) = opened(bench)
    with pytest.raises(UsageError, match="budget"):
        bench.network.stream_received(order.socket, b"early", bench.now)
    connect(bench, order.socket)
    with pytest.raises(UsageError, match="count"):
        bench.network.stream_sent(order.socket, 9, bench.now)
