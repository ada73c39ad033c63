"""The first bytes of a connection must name a host that the rules allow, before any of them passes."""

from __future__ import annotations

import ssl
from errno import EACCES
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sansnet_core import (
    Action,
    CloseSocket,
    Endpoint,
    FlowClosed,
    Limits,
    LinkConfig,
    Reason,
    ResumeStream,
    Rule,
    SendStream,
    ShutdownStream,
)
from sansnet_core.orders import SocketId
from sansnet_core.policy import Check
from sansnet_core.records import replace
from sansnet_core.testing.packets import ACK, RST
from tests.core.bindings import FakeBindings
from tests.core.direct import Direct
from tests.core.named import LEASE, NAME, OTHER, PUBLIC, PUBLIC_B, TcpGuest, named, opened, sent
from tests.sim.memory import Memory

RULE = Rule(action=Action.ALLOW, names=(NAME,), label="web")
EVIL = "evil.example.com"
DENY = Rule(action=Action.REFUSE, names=(EVIL,), label="evil")
ALL = Rule(action=Action.ALLOW, label="all")


def request(host: str, path: str = "/") -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()


def established(
    *rules: Rule, destination: str = LEASE, port: int = 80, real: dict[str, list[str]] | None = None, **fields: object
) -> tuple[Direct, TcpGuest, FakeBindings]:
    """A connection with both handshakes done."""
    bench, bindings = named(*(rules or (RULE,)), real=real, **fields)
    bindings.know(NAME, PUBLIC)
    guest = TcpGuest(bench, destination, port)
    guest.syn()
    (order,) = opened(bench)
    bench.network.stream_connected(order.socket, bench.now)
    bench.collect()
    guest.accept()
    assert bench.take() == [ResumeStream(order.socket)]
    return bench, guest, bindings


def assert_ended(bench: Direct, guest: TcpGuest, name: str | None) -> None:
    """The connection was reset on both sides, because of the name."""
    assert bench.take() == [CloseSocket(SocketId(1), abort=True, errno=EACCES)]
    assert [segment.flags & RST for segment in guest.segments()][-1:] == [RST]
    closed = bench.notices[-1]
    assert isinstance(closed, FlowClosed)
    assert (closed.reason, closed.errno, closed.name) == (Reason.NAME_REFUSED, EACCES, name)
    assert bench.drops() == {Reason.NAME_REFUSED: 1}
    assert (bench.network.flows(), bench.network.statistics().tcp_held) == ([], 0)


def test_small_pieces_that_are_held_back_cost_what_is_counted() -> None:
    """A ClientHello in pieces of two bytes."""
    bench, guest, _ = established(port=443)
    guest.data(bytes.fromhex("160301 4000 01 003ffc 0303"))
    with Memory() as memory:
        for _ in range(5000):
            guest.data(b"ab")
            bench.packets.clear()
    assert bench.network.statistics().tcp_held == 10_011
    assert memory.held < 60_000, f"{memory.held} bytes for 10,000 counted"


def test_nothing_passes_before_the_name_is_known() -> None:
    bench, guest, _ = established()
    whole = request(NAME)
    for start in range(len(whole) - 1):
        guest.data(whole[start : start + 1])
        assert bench.take() == []
    bench.wait(0.1)
    assert guest.segments()[-1].acknowledgment == guest.sequence, "it is held, so the guest need not repeat it"
    assert bench.network.statistics().tcp_held == len(whole) - 1
    guest.data(whole[-1:])
    assert sent(bench) == whole
    bench.network.stream_sent(SocketId(1), len(whole), bench.now)
    assert bench.network.statistics().tcp_held == 0


@given(cuts=st.lists(st.integers(1, 200), max_size=6), swap=st.booleans())
def test_what_passes_is_what_was_sent(cuts: list[int], swap: bool) -> None:
    bench, guest, _ = established()
    whole = request(NAME) + request(NAME, "/" + "x" * 100)
    places = [0, *sorted({cut for cut in cuts if cut < len(whole)}), len(whole)]
    pieces = [(start, whole[start:end]) for start, end in pairwise(places)]
    if swap and len(pieces) > 1:
        pieces[0], pieces[1] = pieces[1], pieces[0]
    first = guest.sequence
    for start, piece in pieces:
        guest.sequence = first + start
        guest.data(piece)
    assert sent(bench) == whole


@pytest.mark.parametrize("host", [EVIL, OTHER, f"x.{NAME}", "93.184.215.14", ""])
def test_another_name_ends_the_connection(host: str) -> None:
    bench, guest, _ = established()
    guest.data(request(host))
    assert_ended(bench, guest, NAME)
    guest.data(b"more")
    assert [segment.flags & RST for segment in guest.segments()] == [RST]


def test_it_is_checked_at_each_of_several_addresses() -> None:
    bench, bindings = named(RULE)
    bindings.know(NAME, PUBLIC, PUBLIC_B)
    guest = TcpGuest(bench, LEASE, 80)
    guest.syn()
    bench.network.stream_connected(bench.take()[0].socket, bench.now)
    bench.collect()
    guest.accept()
    bench.take()
    guest.data(request(EVIL))
    assert_ended(bench, guest, NAME)


def test_bytes_behind_the_forbidden_ones_and_fin_do_no_harm() -> None:
    bench, guest, _ = established()
    first = guest.sequence
    guest.sequence = first + len(request(EVIL))
    guest.data(request(NAME))  # beyond a gap
    guest.fin()
    guest.sequence = first
    guest.data(request(EVIL))
    assert_ended(bench, guest, NAME)


def test_bytes_without_a_name_end_the_connection() -> None:
    bench, guest, _ = established()
    guest.data(b"SSH-2.0-x\r\n")
    assert_ended(bench, guest, NAME)


def test_no_server_name_in_tls_ends_the_connection() -> None:
    bench, guest, _ = established(port=443)
    guest.data(b"GET / HTTP/1.1\r\n")
    assert_ended(bench, guest, NAME)


def test_a_connection_that_ends_before_its_name() -> None:
    bench, guest, _ = established()
    guest.data(b"GET / HTTP/1.1\r\n")
    guest.fin()
    assert_ended(bench, guest, NAME)


def test_fin_behind_a_whole_request_passes() -> None:
    bench, guest, _ = established()
    guest.data(request(NAME))
    guest.fin()
    first, *_, last = bench.take()
    assert isinstance(first, SendStream)
    assert last == ShutdownStream(SocketId(1))


def test_too_many_bytes_without_a_name_end_the_connection() -> None:
    bench, guest, _ = established()
    guest.data(b"GET / HTTP/1.1\r\n")
    for _ in range(40):
        guest.data(b"x: " + b"y" * 1000 + b"\r\n")
        if not bench.network.flows():
            break
    else:
        raise AssertionError("held without a bound")
    assert_ended(bench, guest, NAME)


def test_each_request_is_checked() -> None:
    bench, guest, _ = established()
    guest.data(request(NAME))
    assert sent(bench) == request(NAME)
    guest.data(request(NAME) + request(EVIL))
    orders = bench.take()
    assert b"".join(bytes(order.data) for order in orders if isinstance(order, SendStream)) in (b"", request(NAME))
    assert orders[-1] == CloseSocket(SocketId(1), abort=True, errno=EACCES)
    assert bench.network.flows() == []


def test_other_ports_have_no_check_unless_a_rule_has() -> None:
    bench, guest, _ = established(port=8080)
    guest.data(b"anything")
    assert sent(bench) == b"anything"
    bench, guest, _ = established(replace(RULE, check=Check.HTTP), port=8080)
    guest.data(b"anything\r\n")
    assert_ended(bench, guest, NAME)
    bench, guest, _ = established(replace(RULE, check=Check.NONE), port=443)
    guest.data(b"anything")
    assert sent(bench) == b"anything"


def test_the_host_may_speak_first() -> None:
    bench, guest, _ = established()
    bench.network.stream_received(SocketId(1), b"220 hello", bench.now)
    bench.collect()
    assert b"".join(segment.payload for segment in guest.segments()) == b"220 hello"
    guest.data(request(EVIL))
    assert bench.network.flows() == []


def test_an_upgrade_passes_when_the_host_has_agreed() -> None:
    bench, guest, _ = established()
    ask = f"GET / HTTP/1.1\r\nHost: {NAME}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n".encode()
    guest.data(ask)
    assert sent(bench) == ask
    guest.data(b"\x81\x05early")
    assert bench.take() == []
    bench.network.stream_received(SocketId(1), b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\n\r\n", bench.now)
    bench.collect()
    assert sent(bench) == b"\x81\x05early"
    guest.data(b"\x81\x05hello")
    assert sent(bench) == b"\x81\x05hello"


def test_what_waits_for_an_upgrade_that_the_host_does_not_agree_to_is_read() -> None:
    bench, guest, _ = established(DENY, ALL, destination=PUBLIC_B)
    guest.data(b"GET / HTTP/1.1\r\nHost: good.example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    guest.data(request(EVIL))
    bench.take()
    bench.network.stream_received(SocketId(1), b"HTTP/1.1 200 OK\r\n\r\n", bench.now)
    bench.collect()
    assert_ended(bench, guest, EVIL)


def test_any_name_may_be_named_at_an_address_that_a_rule_allows_without_a_name() -> None:
    rule = replace(RULE, names=(), destinations=(PUBLIC_B,), check=Check.HTTP)
    bench, guest, _ = established(rule, destination=PUBLIC_B)
    guest.data(request(OTHER))
    assert sent(bench) == request(OTHER)


def test_large_pieces_pass_each_by_itself() -> None:
    bench, guest, _ = established(link=LinkConfig(mtu=9000, max_frame_size=9014))
    for path in ("/a", "/b"):
        whole = request(NAME, path * 4000)
        for piece in (whole[:3000], whole[3000:6000], whole[6000:]):
            guest.data(piece)
        assert sent(bench) == whole


# names that share an address


def test_at_a_real_address_another_allowed_name_that_was_asked_for_may_be_named() -> None:
    both = replace(RULE, names=(NAME, OTHER, "third.example.net"))
    bench, guest, _ = established(both, destination=PUBLIC, real={PUBLIC: [NAME, OTHER]})
    guest.data(request(OTHER))
    assert sent(bench) == request(OTHER)
    guest.data(request("third.example.net"))  # allowed, but not at this address
    assert bench.take() == [CloseSocket(SocketId(1), abort=True, errno=EACCES)]


def test_at_a_real_address_a_name_that_no_rule_allows_may_not_be_named() -> None:
    bench, guest, _ = established(RULE, destination=PUBLIC, real={PUBLIC: [NAME, EVIL]})
    guest.data(request(EVIL))
    assert_ended(bench, guest, NAME)


def test_at_a_real_address_a_name_that_leads_elsewhere_may_not_be_named() -> None:
    first, second = (
        Rule(action=Action.ALLOW, names=(name,), to=Endpoint(to, 80))
        for name, to in ((NAME, PUBLIC), (OTHER, PUBLIC_B))
    )
    bench, guest, _ = established(first, second, destination=PUBLIC, real={PUBLIC: [NAME, OTHER]})
    guest.data(request(NAME))
    assert sent(bench) == request(NAME)
    guest.data(request(OTHER))
    assert bench.take() == [CloseSocket(SocketId(1), abort=True, errno=EACCES)]


# rules that refuse names


def test_a_refused_name_ends_a_connection_to_any_address() -> None:
    bench, guest, _ = established(DENY, ALL, destination=PUBLIC_B)
    guest.data(request(EVIL))
    assert_ended(bench, guest, EVIL)


@pytest.mark.parametrize("data", [request("other.example.com"), b"SSH-2.0-x\r\n", request("")])
def test_other_bytes_of_a_watched_connection_pass_at_once(data: bytes) -> None:
    bench, guest, _ = established(DENY, ALL, destination=PUBLIC_B)
    guest.data(data[:3])
    guest.data(data[3:])
    assert sent(bench) == data
    guest.fin()
    bench.network.stream_sent(SocketId(1), len(data), bench.now)
    bench.collect()
    assert bench.take() == [ShutdownStream(SocketId(1))]


def test_a_rule_that_allows_the_address_before_counts() -> None:
    bench, guest, _ = established(Rule(action=Action.ALLOW, destinations=(PUBLIC_B,)), DENY, ALL, destination=PUBLIC_B)
    guest.data(request(EVIL))
    assert sent(bench) == request(EVIL)


# memory and rules that change


def test_a_window_that_is_full_of_held_bytes_ends_the_connection() -> None:
    """The guest could send no more, and would wait for ever."""
    bench, guest, _ = established(limits=Limits(tcp_window=3000))
    guest.data(b"GET / HTTP/1.1\r\nHost: " + NAME.encode() + b"\r\nx: ")
    for _ in range(2):
        guest.data(b"y" * 1000)
    assert (bench.take(), len(bench.network.flows())) == ([], 1)
    for _ in range(2):
        guest.data(b"y" * 1000)
    assert bench.network.flows() == []


def test_a_forbidden_name_is_told_of_its_connection_only() -> None:
    bench, guest, _ = established(DENY, ALL, destination=PUBLIC)
    TcpGuest(bench, PUBLIC, 80, source_port=40001).syn()
    guest.data(request(EVIL))
    closed = bench.notices[-1]
    assert isinstance(closed, FlowClosed)
    assert closed.name == EVIL
    assert [flow.name for flow in bench.network.flows()] == [None]


def test_what_is_no_name_is_not_told_as_one() -> None:
    """A connection to an address without a name, which ends because its window is full."""
    rule = replace(RULE, names=(), destinations=(PUBLIC_B,), check=Check.HTTP)
    bench, guest, _ = established(rule, destination=PUBLIC_B, limits=Limits(tcp_window=3000))
    for _ in range(4):
        guest.data(b"y" * 1000)
    closed = bench.notices[-1]
    assert isinstance(closed, FlowClosed)
    assert (closed.reason, closed.name) == (Reason.NAME_REFUSED, None)


def test_a_name_is_judged_again_however_often_others_were_named_since() -> None:
    bench, guest, _ = established(replace(DENY, names=("other.example.com",)), ALL, destination=PUBLIC_B)
    guest.data(request(EVIL))
    for _ in range(20):
        guest.data(request("good.example.com"))
    bench.take()
    bench.network.reconfigure(replace(bench.config, rules=(DENY, ALL)), bench.now)
    bench.collect()
    assert bench.take() == [CloseSocket(SocketId(1), abort=True, errno=EACCES)]


def test_the_names_of_a_connection_are_bounded_in_number() -> None:
    bench, guest, _ = established(DENY, ALL, destination=PUBLIC_B)
    for number in range(40):
        guest.data(request(f"host{number}.example.com"))
    inside: Any = bench.network
    (flow,) = inside._tcp._flows.values()
    assert list(flow.gate._names.seen) == [f"host{number}.example.com" for number in range(24, 40)]


@pytest.mark.parametrize("size", [1, 7, 100, 1460])
@pytest.mark.parametrize("name", [NAME, EVIL])
def test_the_server_name_of_a_real_client_hello(size: int, name: str) -> None:
    bench, guest, _ = established(port=443)
    outgoing = ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    hello = outgoing.read()
    for start in range(0, len(hello), size):
        if bench.network.flows():
            guest.data(hello[start : start + size])
    if name == EVIL:
        assert_ended(bench, guest, NAME)
    else:
        assert sent(bench) == hello
        record = b"\x17\x03\x03\x00\x05hello"
        guest.data(record)
        assert sent(bench) == record


@pytest.mark.parametrize("keep_flows", [False, True])
def test_new_rules_end_a_connection_that_has_named_what_they_refuse(keep_flows: bool) -> None:
    bench, guest, _ = established(replace(DENY, names=("other.example.com",)), ALL, destination=PUBLIC_B)
    guest.data(request(EVIL))
    bench.network.stream_sent(SocketId(1), len(request(EVIL)), bench.now)
    bench.take()
    bench.network.reconfigure(replace(bench.config, rules=(DENY, ALL)), bench.now, keep_flows=keep_flows)
    bench.collect()
    closed = [] if keep_flows else [CloseSocket(SocketId(1), abort=True, errno=EACCES)]
    assert bench.take() == closed
    guest.segments()


def test_new_rules_count_for_the_next_request() -> None:
    bench, guest, _ = established()
    guest.data(request(NAME))
    assert sent(bench) == request(NAME)
    bench.network.reconfigure(replace(bench.config, rules=()), bench.now, keep_flows=True)
    guest.data(request(NAME))
    assert bench.take() == [CloseSocket(SocketId(1), abort=True, errno=EACCES)]


def test_a_connect_that_fails_has_its_errno_as_ever() -> None:
    bench, bindings = named(RULE)
    bindings.know(NAME, PUBLIC)
    guest = TcpGuest(bench, port=443)
    guest.syn()
    (order,) = opened(bench)
    assert order.remote == Endpoint(PUBLIC, 443)
    bench.network.stream_failed(order.socket, 111, None, bench.now)
    bench.collect()
    assert [segment.flags for segment in guest.segments()] == [RST | ACK]
