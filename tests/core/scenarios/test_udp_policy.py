"""Ways around rules about UDP, ping and other packets: each is closed, and open without rules."""

from __future__ import annotations

from typing import Any

import pytest

from sansnet_core import Action, Ipv4Config, Limits, LinkConfig, OpenDatagram, Reason, Rule, SendDatagram, SendEcho
from sansnet_core.addresses import Endpoint, packed
from sansnet_core.config import ResolverConfig
from sansnet_core.policy import Group, parse_rules
from sansnet_core.records import replace
from sansnet_core.testing import GATEWAY, make_config, packets
from sansnet_core.testing.packets import Ip, echo_request, fragments, udp
from tests.core.bindings import FakeBindings
from tests.core.direct import GUEST, GUEST6, Direct

NAME = "db.example.org"
LEASE, LEASE6 = "198.18.0.1", "fd73:616e:736e:6574::1"
HOST, HOST6 = "172.17.0.1", "2606:4700::1"
ALIAS = "10.0.2.77"
SERVER, SERVER6 = "93.184.215.14", "2606:2800:21f:cb07::1"

CONFIG = replace(
    make_config(),
    link=LinkConfig(),
    dns_servers=("192.0.2.53",),
    dns_forward=(("10.0.2.3", Endpoint("127.0.0.53", 53)),),
    map_host_loopback=("10.0.2.2", "fe80::1"),
    map_guest_address=(ALIAS,),
    host_addresses=(HOST, HOST6),
)
RESOLVER = ResolverConfig(servers=(("192.0.2.53", 53),))
OPEN: dict[str, Any] = {}
NAMES: dict[str, Any] = {
    "rules": (Rule(action=Action.ALLOW, names=(NAME,)), Rule(action=Action.ALLOW, groups=(Group.PUBLIC,))),
    "default_action": Action.REFUSE,
}
"""A name, and all public addresses."""
CLOSED: dict[str, Any] = {"rules": (Rule(action=Action.ALLOW, names=(NAME,)),), "default_action": Action.REFUSE}
"""One name."""


def bench_of(**fields: Any) -> Direct:
    bench = Direct(replace(CONFIG, **fields))
    FakeBindings({LEASE: NAME, LEASE6: NAME}).attach(bench)
    return bench


def datagram(destination: str, port: int = 7, data: bytes = b"hello") -> Ip:
    address = packed(destination)
    return udp(GUEST if len(address) == 4 else GUEST6, 5000, address, port, data)


def ping(destination: str, data: bytes = b"data") -> Ip:
    address = packed(destination)
    return echo_request(GUEST if len(address) == 4 else GUEST6, address, 1, 1, data)


def leaves(bench: Direct, *sent: Ip) -> bool:
    """Whether packets lead to a host socket."""
    bench.send(*sent)
    return any(isinstance(order, SendDatagram | SendEcho) for order in bench.take())


ADDRESSES = [SERVER, SERVER6, HOST, HOST6, ALIAS, "10.0.2.2", "fe80::1", "10.1.2.3", "fd00::9", "169.254.169.254"]


@pytest.mark.parametrize("destination", [*ADDRESSES, "fd00:ec2::254", "100.100.100.200"])
@pytest.mark.parametrize("kind", ["udp", "ping", "fragments"])
def test_an_address_that_was_never_looked_up_is_closed(destination: str, kind: str) -> None:
    whole = ping(destination) if kind == "ping" else datagram(destination, data=bytes(600))
    sent = fragments(whole, 64) if kind == "fragments" else [whole]
    if not (kind == "ping" and destination == "fe80::1"):  # the router itself answers
        assert leaves(bench_of(**OPEN), *sent)
    bench = bench_of(**CLOSED)
    assert not leaves(bench, *sent)
    assert bench.network.statistics().flows["udp_flows"] == 0


@pytest.mark.parametrize("destination", [HOST, HOST6, ALIAS, "10.0.2.2", "fe80::1", "10.1.2.3", "169.254.169.254"])
def test_public_addresses_are_neither_the_host_nor_private(destination: str) -> None:
    bench = bench_of(**NAMES)
    assert leaves(bench, datagram(SERVER))
    assert leaves(bench, datagram(SERVER6))
    assert not leaves(bench, datagram(destination))
    assert destination == "fe80::1" or not leaves(bench, ping(destination))


@pytest.mark.parametrize("known", [(), ("93.184.215.20",)], ids=["unknown", "known"])
def test_an_alias_of_the_hosts_public_address_is_the_host(known: tuple[str, ...]) -> None:
    shared = Ipv4Config(address="93.184.215.20/24", gateway="93.184.215.1")
    config = replace(CONFIG, ipv4=shared, map_guest_address=("93.184.215.77",), host_addresses=known, **NAMES)
    assert leaves(Direct(config), datagram("93.184.215.78"))
    assert not leaves(Direct(config), datagram("93.184.215.77"), ping("93.184.215.77"))


@pytest.mark.parametrize(
    "carrying",
    [
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::a9fe:a9fe",
        "2002:a9fe:a9fe::1",
        "2001:0:1234::5601:5601",
        "2606:2800::5efe:169.254.169.254",
    ],
)
def test_an_ipv6_address_that_carries_a_closed_one_is_closed(carrying: str) -> None:
    assert leaves(bench_of(**OPEN), datagram(carrying))
    assert not leaves(bench_of(**NAMES), datagram(carrying))
    assert not leaves(bench_of(**NAMES), ping(carrying))


@pytest.mark.parametrize("mapped", ["::ffff:169.254.169.254", "::169.254.169.254", "::ffff:93.184.215.14"])
def test_ipv4_in_ipv6_is_no_destination_at_all(mapped: str) -> None:
    assert not leaves(bench_of(**OPEN), datagram(mapped), ping(mapped))


@pytest.mark.parametrize("port", [53, 853, 5353, 5355, 137])
@pytest.mark.parametrize("destination", ["8.8.8.8", "2001:4860:4860::8888"])
def test_other_resolvers_are_closed_under_rules_about_names(destination: str, port: int) -> None:
    assert leaves(bench_of(**OPEN), datagram(destination, port))
    assert not leaves(bench_of(**NAMES), datagram(destination, port))
    chosen = Rule(action=Action.ALLOW, destinations=(destination,), ports=(port,))
    assert leaves(bench_of(rules=(chosen, *NAMES["rules"]), default_action=Action.REFUSE), datagram(destination, port))


@pytest.mark.parametrize("rules", [{}, NAMES], ids=["none", "names"])
@pytest.mark.parametrize("server", ["10.0.2.3", "192.0.2.53"])
def test_our_own_resolver_is_the_only_one_at_its_addresses(server: str, rules: dict[str, Any]) -> None:
    assert leaves(bench_of(**OPEN), datagram(server, 853))
    bench = Direct(replace(CONFIG, resolver=RESOLVER, **rules))
    assert not leaves(bench, datagram(server, 853))
    assert not leaves(bench, datagram(server, 53, b"no query"))
    assert leaves(Direct(replace(CONFIG, resolver=RESOLVER)), datagram("192.0.2.53", 54))


@pytest.mark.parametrize("group", ["224.0.0.251", "239.255.255.250", "ff02::fb", "ff05::2"])
def test_groups_are_closed_unless_they_are_named(group: str) -> None:
    assert leaves(bench_of(**OPEN), datagram(group, 1900))
    assert not leaves(bench_of(**NAMES), datagram(group, 1900))
    named = Rule(action=Action.ALLOW, groups=(Group.MULTICAST,))
    assert leaves(bench_of(rules=(named,), default_action=Action.REFUSE), datagram(group, 1900))


@pytest.mark.parametrize("broadcast", ["255.255.255.255", "10.0.2.255"])
@pytest.mark.parametrize("rules", [(), (Rule(action=Action.ALLOW),)], ids=["none", "allow"])
def test_broadcasts_stay_on_the_segment_whatever_the_rules(broadcast: str, rules: tuple[Rule, ...]) -> None:
    bench = bench_of(rules=rules)
    assert not leaves(bench, datagram(broadcast, 9000))
    assert bench.drops() == {Reason.IP_BROADCAST: 1}


def test_quic_is_closed_where_a_connection_must_name_its_host() -> None:
    for text, opens in (
        (f"allow {NAME}", False),
        (f"allow tcp {NAME} port 443", False),
        (f"allow {NAME} port 443", False),
        (f"allow tcp,udp {NAME}", True),
        (f"allow {NAME} check=none", True),
    ):
        bench = bench_of(rules=parse_rules(text), default_action=Action.REFUSE)
        bindings = bench.network._context.bindings
        assert isinstance(bindings, FakeBindings)
        bindings.know(NAME, SERVER)
        assert leaves(bench, datagram(LEASE, 443)) is opens, text
        assert leaves(bench, datagram(LEASE, 444)) is ("port" not in text), text


@pytest.mark.parametrize("hostile", ["127.0.0.1", "::1", "169.254.169.254", "10.0.0.1", "fd00::1", HOST, HOST6, "::"])
def test_a_name_that_is_resolved_to_a_closed_address_opens_nothing(hostile: str) -> None:
    bench = bench_of(**CLOSED)
    bindings = bench.network._context.bindings
    assert isinstance(bindings, FakeBindings)
    bindings.know(NAME, hostile)
    assert not leaves(bench, datagram(LEASE), datagram(LEASE6), ping(LEASE), ping(LEASE6))
    bindings.know(NAME, hostile, SERVER)
    bench.wait(60)
    bench.send(datagram(LEASE))
    assert [order.remote for order in bench.take() if isinstance(order, SendDatagram)] == [Endpoint(SERVER, 7)]


@pytest.mark.parametrize("protocol", [2, 4, 41, 47, 50, 51, 89, 103, 132, 136])
def test_other_protocols_never_leave(protocol: int) -> None:
    bench = bench_of()
    bench.send(Ip(GUEST, packed(SERVER), protocol, bytes(40)), Ip(GUEST6, packed(SERVER6), protocol, bytes(40)))
    assert bench.take() == []


@pytest.mark.parametrize("kind", [0, 3, 4, 5, 9, 11, 13, 15, 17, 30, 40])
def test_other_messages_of_icmp_never_leave(kind: int) -> None:
    bench = bench_of()
    body = datagram(SERVER).emit()
    bench.send(packets.icmp(GUEST, packed(SERVER), kind, 0, bytes(4) + body))
    bench.send(packets.icmp(GUEST6, packed(SERVER6), kind, 0, bytes(4) + body))
    assert bench.take() == []


def test_a_host_socket_is_heard_only_where_the_guest_may_send() -> None:
    rule = Rule(action=Action.ALLOW, destinations=(SERVER,))
    bench = bench_of(rules=(rule,), default_action=Action.REFUSE)
    bench.send(datagram(SERVER))
    opened = next(order for order in bench.take() if isinstance(order, OpenDatagram))
    for source in (HOST, "127.0.0.1", "8.8.8.8", LEASE, "169.254.169.254", "10.0.2.15"):
        bench.network.datagram_received(opened.socket, Endpoint(source, 9), b"x", 0, 64, 0, bench.now)
    bench.collect()
    assert bench.packets == []
    assert bench.drops() == {Reason.HOST_SOURCE: 6}


def test_an_outsider_at_an_own_address_of_a_name_is_seen_at_the_gateway() -> None:
    """Else the guest's answer would go to the name."""
    bench = Direct(replace(CONFIG, resolver=RESOLVER))
    forward = bench.network.forward_added(None, 53, bench.now)
    bench.network.datagram_received(forward, Endpoint("198.18.7.7", 4000), b"x", 0, 60, 0, bench.now)
    bench.collect()
    assert [packet.source for packet in bench.packets] == [GATEWAY]


def test_an_own_address_of_a_name_is_no_address_of_the_host() -> None:
    bench = Direct(replace(CONFIG, resolver=RESOLVER))
    assert not leaves(bench, datagram("198.18.7.7"), datagram("fd73:616e:736e:6574::77"), ping("198.18.7.7"))


def test_flows_of_outsiders_need_a_rule_of_their_direction() -> None:
    outsider = Endpoint(SERVER, 4000)
    for rules, heard in (((), False), ((Rule(action=Action.ALLOW),), True), (NAMES["rules"], True)):
        for inbound in (True, False):
            bench = bench_of(rules=[replace(rule, inbound=inbound) for rule in rules], default_action=Action.REFUSE)
            forward = bench.network.forward_added(None, 53, bench.now)
            bench.network.datagram_received(forward, outsider, b"x", 0, 60, 0, bench.now)
            bench.collect()
            assert bool(bench.packets) is (heard and inbound)


def test_refused_packets_of_a_flood_take_no_memory_without_bound() -> None:
    limits = Limits(udp_flows=16, echo_flows=16)
    bench = Direct(replace(CONFIG, limits=limits, **CLOSED))
    for number in range(2000):
        bench.send(udp(GUEST, 5000, bytes((1, 2, number >> 8, number & 255)), 7, b"x"))
        bench.send(echo_request(GUEST, bytes((1, 2, number >> 8, number & 255)), number, 1, b"x"))
    assert bench.take() == []
    refusals = [bench.network._udp._opening._undecided._refusals[0], bench.network._echo._undecided._refusals[0]]
    assert [len(kept) for kept in refusals] == [16, 16]
