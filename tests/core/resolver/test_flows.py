"""Flows of the guest to addresses that stand for names, from the question to the host's socket."""

from __future__ import annotations

from errno import EACCES, ECONNREFUSED, EHOSTUNREACH
from typing import Final

import pytest

from sansnet_core import (
    Action,
    Allow,
    DecideFlow,
    Endpoint,
    FlowOpened,
    FlowRefused,
    Limits,
    OpenStream,
    Reason,
    Rule,
    SendDatagram,
)
from sansnet_core.addresses import format, parse
from sansnet_core.policy import Check, Group, NameMode
from sansnet_core.testing.packets import ACK, RST, SYN, Segment, udp
from tests.core.direct import GUEST
from tests.core.resolver.bench import DNS4, Bench, allow, configuration
from tests.sim.memory import Memory

ZONE: Final = {
    ("www.example.org.", "A"): ("www.example.org. 60 IN A 93.184.216.7", "www.example.org. 60 IN A 93.184.216.8"),
    ("www.example.org.", "AAAA"): ("www.example.org. 60 IN AAAA 2a00:1:2::7",),
    ("db.example.org.", "A"): ("db.example.org. 60 IN A 10.1.2.3",),
}
LEASE: Final = bytes((198, 18, 0, 1))
OPEN: Final = allow("*.example.org", check=Check.NONE)


def syn(bench: Bench, address: bytes = LEASE, port: int = 443) -> None:
    bench.send(Segment(GUEST, 40000, address, port, 1000, 0, SYN, 65535, b"", mss=1460).ip())


def opened(bench: Bench) -> list[OpenStream]:
    bench.sort()
    return [order for order in bench.orders if isinstance(order, OpenStream)]


def refused(bench: Bench) -> list[tuple[Reason | None, int, str | None]]:
    notices = [notice for notice in bench.notices if isinstance(notice, FlowRefused)]
    return [(notice.reason, notice.errno, notice.name) for notice in notices]


def test_the_host_connects_to_what_it_resolved() -> None:
    bench = Bench(configuration(OPEN))
    bench.look_up("www.example.org", ZONE)
    syn(bench)
    (order,) = opened(bench)
    assert (order.remote, order.name) == (Endpoint(parse("2a00:1:2::7"), 443), "www.example.org")
    assert order.destination == Endpoint(LEASE, 443)
    bench.wait(0.25)
    assert [format(order.remote.address) for order in opened(bench)] == ["2a00:1:2::7", "93.184.216.7"]
    assert bench.asked == [], "asked once"
    (notice,) = [notice for notice in bench.notices if isinstance(notice, FlowOpened)]
    assert notice.name == "www.example.org"


def test_flows_given_up_do_not_wait_for_a_name() -> None:
    """The guest replaces its SYN by another one all the time, or its datagrams get no answer in time."""
    bench = Bench(configuration(OPEN, limits=Limits(decision_time=0.01, udp_flows=1)))
    bench.look_up("www.example.org", ZONE)
    bench.wait(100)
    bench.network.report_notices(False)
    bench.send(udp(GUEST, 39999, LEASE, 443, b"the question"))
    with Memory() as memory:
        for number in range(1000):
            bench.send(Segment(GUEST, 40000, LEASE, 443, number, 0, SYN, 65535, b"", mss=1460).ip())
            bench.send(udp(GUEST, 40000 + number, LEASE, 443, b"x"))
            if number % 10 == 9:
                bench.wait(0.02)
                bench.orders.clear()
                bench.packets.clear()
                bench.notices.clear()
    assert memory.held < 300_000, f"{memory.held} bytes"


def test_a_name_whose_records_have_expired_is_resolved_again() -> None:
    bench = Bench(configuration(OPEN))
    bench.look_up("www.example.org", ZONE)
    bench.wait(100)
    syn(bench)
    assert opened(bench) == []
    moved = {("www.example.org.", "A"): ("www.example.org. 60 IN A 93.184.216.99",)}
    bench.reply_all(moved)
    assert [format(order.remote.address) for order in opened(bench)] == ["93.184.216.99"]


def test_an_expired_address_does_if_the_servers_fail() -> None:
    bench = Bench(configuration(OPEN))
    bench.look_up("www.example.org", ZONE)
    for seconds in (100, 50):  # 60 of the records, and 120 more
        bench.wait(seconds)
        syn(bench, port=int(bench.now))
        bench.sort()
        while bench.asked:
            bench.reply(bench.asked[0], rcode=2)
        assert len({order.destination for order in opened(bench)}) == (1 if seconds == 100 else 2)
    bench.wait(50)
    syn(bench, port=int(bench.now))
    bench.sort()
    while bench.asked:
        bench.reply(bench.asked[0], rcode=2)
    assert len({order.destination for order in opened(bench)}) == 2
    assert refused(bench)[-1] == (Reason.NAME_UNRESOLVED, EHOSTUNREACH, "www.example.org")


def test_a_name_that_vanished_refuses_its_flows() -> None:
    bench = Bench(configuration(OPEN))
    bench.look_up("www.example.org", ZONE)
    bench.wait(100)
    syn(bench)
    bench.reply_all({})
    assert opened(bench) == []
    assert refused(bench) == [(Reason.NAME_UNRESOLVED, EHOSTUNREACH, "www.example.org")]


def test_an_own_address_without_a_name_refuses() -> None:
    bench = Bench(configuration(OPEN))
    syn(bench, bytes((198, 18, 0, 77)))
    assert opened(bench) == []
    (answer,) = bench.packets
    assert answer.payload[13] == RST | ACK
    assert refused(bench) == [(Reason.OWN_ADDRESS, 0, None)] or refused(bench)[0][1] in (0, ECONNREFUSED)


def test_an_address_that_was_never_looked_up_is_closed() -> None:
    bench = Bench(configuration(OPEN))
    for address in ("93.184.216.7", "10.0.0.1", "169.254.169.254"):
        syn(bench, parse(address))
    assert opened(bench) == []
    assert {reason for reason, _, _ in refused(bench)} == {Reason.REFUSED}


@pytest.mark.parametrize("names", NameMode)
def test_another_port_of_an_allowed_name_is_closed(names: NameMode) -> None:
    bench = Bench(configuration(allow("*.example.org", ports=(443,), check=Check.NONE), names=names))
    bench.look_up("www.example.org", ZONE)
    address = LEASE if names is NameMode.OWN else parse("93.184.216.7")
    syn(bench, address, 22)
    assert opened(bench) == []
    assert [entry[1:] for entry in refused(bench)] == [(EACCES, "www.example.org" if names is NameMode.OWN else None)]
    syn(bench, address)
    assert len(opened(bench)) == 1


def test_an_address_changes_to_a_private_one_between_question_and_connection() -> None:
    """Rebinding: the address that is connected to is one that was judged."""
    bench = Bench(configuration(OPEN))
    bench.look_up("www.example.org", ZONE)
    bench.wait(100)
    syn(bench)
    bench.reply_all({("www.example.org.", "A"): ("www.example.org. 0 IN A 127.0.0.1",)})
    assert opened(bench) == []
    ((reason, _, name),) = refused(bench)
    assert (reason, name) == (Reason.NAME_UNRESOLVED, "www.example.org")


def test_a_private_address_is_reached_if_a_rule_says_so() -> None:
    rule = allow("db.example.org", groups=(Group.PRIVATE,), ports=(5432,))
    bench = Bench(configuration(rule))
    bench.look_up("db.example.org", ZONE)
    syn(bench, port=5432)
    assert [format(order.remote.address) for order in opened(bench)] == ["10.1.2.3"]


def test_an_address_keeps_its_name_until_the_last_of_its_flows_has_ended() -> None:
    bench = Bench(configuration(OPEN, names=NameMode.REAL))
    bench.look_up("www.example.org", ZONE)
    address = parse("93.184.216.7")
    bindings = bench.network._context.bindings
    assert bindings is not None
    for port in (5, 6):
        bench.send(udp(GUEST, 4000, address, port, b"question"))
    bench.wait(25)
    for _ in range(20):
        bench.send(udp(GUEST, 4000, address, 6, b"more"))
        bench.wait(25)
    assert [flow.remote.port for flow in bench.network.flows()] == [6]
    assert bindings.names(address) == ["www.example.org"]
    bench.wait(200)
    assert bench.network.flows() == []
    assert bindings.names(address) == []


def test_a_name_is_resolved_after_the_verdict() -> None:
    bench = Bench(configuration(default=Action.ASK))
    bench.ask("www.example.org")
    syn(bench)
    bench.sort()
    (question,) = bench.orders
    assert isinstance(question, DecideFlow)
    assert (question.name, bench.asked) == ("www.example.org", [])
    bench.orders = []
    bench.network.flow_decided(question.socket, Allow(), bench.now)
    bench.collect()
    assert sorted(bench.questions()) == [("www.example.org.", "A"), ("www.example.org.", "AAAA")]
    bench.reply_all(ZONE)
    assert [order.name for order in opened(bench)] == ["www.example.org"]


def test_a_datagram_goes_to_the_address_of_its_name() -> None:
    bench = Bench(configuration(allow("*.example.org", protocols=("udp",))))
    bench.look_up("www.example.org", ZONE)
    bench.send(udp(GUEST, 4000, LEASE, 1234, b"hello"))
    sent = [order for order in bench.take() if isinstance(order, SendDatagram)]
    assert [(format(order.remote.address), bytes(order.data)) for order in sent] == [("2a00:1:2::7", b"hello")]


def test_datagrams_to_other_resolvers_are_closed() -> None:
    bench = Bench(configuration(OPEN))
    for address, port in (("8.8.8.8", 53), ("8.8.8.8", 853), ("224.0.0.251", 5353), ("224.0.0.252", 5355)):
        bench.send(udp(GUEST, 4000, parse(address), port, b"question"))
    bench.sort()
    assert bench.asked == []


def test_dns_over_tls_of_the_resolver_is_closed_with_and_without_rules() -> None:
    for config in (configuration(OPEN), configuration(default=None), configuration(Rule(action=Action.ALLOW))):
        bench = Bench(config)
        syn(bench, DNS4, 853)
        assert opened(bench) == []
        bench.send(udp(GUEST, 4000, DNS4, 853, b"question"))
        bench.sort()
        assert bench.asked == []


def test_a_leased_address_keeps_its_name_while_a_flow_is_open() -> None:
    from sansnet_core import Limits

    limits = Limits(names=2, name_rate=1e9, name_burst=10**9)
    bench = Bench(configuration(OPEN, limits=limits))
    bench.look_up("www.example.org", ZONE)
    syn(bench)
    assert len(opened(bench)) == 1
    for n in range(10):
        bench.look_up(f"n{n}.example.org", {(f"n{n}.example.org.", "A"): (f"n{n}.example.org. 60 IN A 93.184.216.1",)})
    assert bench.network._context.bindings is not None
    assert bench.network._context.bindings.names(LEASE) == ("www.example.org",)
