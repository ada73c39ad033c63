"""Which questions of the guest are answered, how, and which of them leave the host."""

from __future__ import annotations

import struct

import dns.edns
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.reversename
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sansnet_core import Action, Ipv4Config, LinkConfig, NameAsked, Reason, Rule
from sansnet_core.addresses import format
from sansnet_core.policy import Group, NameMode, ProxyConfig, ProxyKind
from sansnet_core.records import replace
from sansnet_core.testing.packets import udp
from tests.core.direct import GUEST
from tests.core.resolver.bench import DNS4, DNS6, Bench, allow, configuration

ZONE: dict[tuple[str, str], tuple[str, ...]] = {
    ("www.example.org.", "A"): ("www.example.org. 60 IN A 93.184.216.7",),
    ("www.example.org.", "AAAA"): ("www.example.org. 60 IN AAAA 2a00:1:2::7",),
    ("four.example.org.", "A"): ("four.example.org. 60 IN A 93.184.216.8",),
    ("chain.example.org.", "A"): (
        "chain.example.org. 300 IN CNAME x.cdn.example.net.",
        "x.cdn.example.net. 20 IN A 93.184.216.9",
        "other.example.net. 20 IN A 93.184.216.66",
    ),
    ("chain.example.org.", "AAAA"): ("chain.example.org. 300 IN CNAME x.cdn.example.net.",),
    ("mail.example.org.", "MX"): ("mail.example.org. 60 IN MX 10 mx.example.net.",),
    ("text.example.org.", "TXT"): ('text.example.org. 60 IN TXT "hello"',),
}
ALLOWED = allow("*.example.org")
REFUSED = dns.rcode.REFUSED


def own() -> Bench:
    """The names of example.org are allowed, and have addresses of their own."""
    return Bench(configuration(ALLOWED))


def real() -> Bench:
    """The names of example.org are allowed, and have their real addresses."""
    return Bench(configuration(ALLOWED, names=NameMode.REAL))


def data(answer: dns.message.Message) -> list[str]:
    """The data of the records of an answer."""
    return [record.to_text() for rrset in answer.answer for record in rrset]


# which questions leave


@pytest.mark.parametrize("names", NameMode)
@pytest.mark.parametrize(
    "name",
    ["evil.net", "example.org", "badexample.org", "secret.www.example.org.evil.net", "org", ".", "a\\.example.org"],
)
@pytest.mark.parametrize("type_", ["A", "AAAA", "TXT", "NULL", "HTTPS"])
def test_a_question_that_no_rule_allows_leaves_the_host_never(names: NameMode, name: str, type_: str) -> None:
    bench = Bench(configuration(ALLOWED, names=names))
    (answer,) = bench.ask(name, type_)
    assert (answer.rcode(), answer.answer) == (REFUSED, [])
    assert bench.opened == []
    assert bench.orders == []
    (told,) = bench.told()
    assert (told.refused, told.type, told.rule) == (True, int(dns.rdatatype.from_text(type_)), None)
    assert bench.drops() == {Reason.REFUSED: 1}
    bench.wait(60)
    assert (bench.opened, bench.orders) == ([], [])


@pytest.mark.parametrize("names", NameMode)
@pytest.mark.parametrize("action", [Action.ALLOW, Action.ASK])
@pytest.mark.parametrize("via", [None, "office"])
@pytest.mark.parametrize("type_", ["A", "AAAA", "ANY"])
@pytest.mark.parametrize(
    "labels",
    [
        (b"*",),
        (b"*", b"example", b"org"),
        (b"evil", b"test:443/", b"example", b"org"),
        (b"me@evil/x", b"example", b"org"),
        (b"a\r\nb", b"example", b"org"),
        (b"evil.test", b"example", b"org"),
        (b"169", b"254", b"169", b"254"),
        (b"127", b"1"),
        (b"0x7f", b"1"),
        (),
        (b"\xff" * 63, b"\0" * 63, b"example", b"org"),
    ],
)
def test_only_host_names_have_addresses(
    labels: tuple[bytes, ...], type_: str, via: str | None, action: Action, names: NameMode
) -> None:
    """A rule about a flow to "*", or a proxy that gets "evil.test:443/.example.org", would open more than was asked."""
    proxies = (ProxyConfig(name="office", kind=ProxyKind.HTTP, server=("192.0.2.200", 3128)),)
    rule = Rule(action=action, names=("*",), via=via)
    bench = Bench(configuration(rule, names=names, proxies=proxies, notices=True))
    query = dns.message.make_query(dns.name.Name((*labels, b"")), type_, id=1)
    (answer,) = bench.ask_bytes(query.to_wire())
    assert answer.rcode() == dns.rcode.REFUSED
    assert bench.questions() == []
    assert not bench.network.statistics().flows["names"]
    (notice,) = bench.notices
    assert isinstance(notice, NameAsked)
    assert notice.refused


def test_a_rule_may_drop_questions() -> None:
    bench = Bench(configuration(Rule(action=Action.DROP, names=("evil.net",), label="no"), ALLOWED))
    assert bench.ask("evil.net") == []
    assert bench.opened == []
    assert bench.told() == [NameAsked("evil.net", True, 1000.0, 1, True, "no")]


def test_a_refusal_says_that_the_name_is_blocked_if_the_guest_knows_edns() -> None:
    bench = own()
    (answer,) = bench.ask("evil.net", use_edns=0)
    (option,) = answer.options
    assert isinstance(option, dns.edns.EDEOption)
    assert option.code == dns.edns.EDECode.BLOCKED
    (answer,) = bench.ask("evil.net")
    assert answer.edns == -1


@pytest.mark.parametrize("type_", ["NULL", "DNSKEY", "TYPE65280", "AXFR"])
def test_unusual_types_of_an_allowed_name_do_not_leave(type_: str) -> None:
    bench = own()
    assert [answer.rcode() for answer in bench.ask("www.example.org", type_)] == [REFUSED]
    assert bench.opened == []


def test_a_rule_may_name_types() -> None:
    bench = Bench(configuration(allow("*.example.org", record_types=("NULL",))))
    bench.ask("www.example.org", "NULL")
    assert bench.questions() == [("www.example.org.", "NULL")]


def test_a_question_is_answered_by_one_family_while_the_other_one_is_late() -> None:
    bench = own()
    assert bench.ask("www.example.org") == []
    (question,) = [order for order in bench.asked if b"\0\x01\0\x01" in bytes(order.data)]
    assert bench.reply(question, "www.example.org. 60 IN A 93.184.216.7") == []
    bench.wait(0.25)
    assert len(bench.answers()) == 1
    (again,) = bench.ask("www.example.org", port=4001)
    assert len(again.answer) == 1
    assert bench.questions() == [("www.example.org.", "AAAA")]


def test_each_question_is_reported() -> None:
    bench = Bench(configuration(allow("*.example.org", label="mine")))
    bench.look_up("WWW.example.org", ZONE)
    bench.look_up("www.example.org", ZONE, "AAAA")
    bench.ask("evil.net")
    bench.look_up("mail.example.org", ZONE, "MX")
    assert bench.told() == [
        NameAsked("www.example.org", False, 1000.0, 1, False, "mine"),
        NameAsked("www.example.org", True, 1000.0, 28, False, "mine"),
        NameAsked("evil.net", True, 1000.0, 1, True, None),
        NameAsked("mail.example.org", False, 1000.0, 15, False, "mine"),
    ]


def test_a_flood_of_questions_does_not_flood_the_notices() -> None:
    bench = own()
    for n in range(3000):
        bench.ask(f"n{n}.evil.net")
    assert len(bench.told()) <= bench.config.limits.refusal_burst
    assert bench.network.statistics().refusals_unreported == 3000 - len(bench.told())


# addresses of names


def test_a_name_has_an_address_of_its_own_in_each_family_of_the_guest() -> None:
    bench = own()
    first = data(bench.look_up("www.example.org", ZONE))
    assert first == ["198.18.0.1"]
    assert data(bench.look_up("www.example.org", ZONE, "AAAA")) == ["fd73:616e:736e:6574::1"]
    assert data(bench.look_up("four.example.org", ZONE, "AAAA")) == ["fd73:616e:736e:6574::2"], "IPv4 at the host only"
    assert data(bench.look_up("four.example.org", ZONE)) == ["198.18.0.2"]
    assert data(bench.look_up("WWW.Example.org.", ZONE)) == first


def test_the_chain_of_a_name_stays_here() -> None:
    answer = own().look_up("chain.example.org", ZONE)
    assert data(answer) == ["198.18.0.1"]
    assert answer.answer[0].ttl == 20, "the shortest of the chain"


def test_a_guest_without_ipv6_gets_no_ipv6_address() -> None:
    bench = Bench(replace(configuration(ALLOWED, dns_search=()), ipv6=None, dns_servers=(DNS4,)))
    answer = bench.look_up("www.example.org", ZONE, "AAAA")
    assert (answer.rcode(), answer.answer) == (0, [])


def test_a_guest_without_ipv4_gets_no_ipv4_address() -> None:
    bench = Bench(replace(configuration(ALLOWED), ipv4=None, dns_servers=(DNS6,)))
    assert data(bench.look_up("four.example.org", ZONE, "AAAA", server=DNS6)) == ["fd73:616e:736e:6574::1"]
    assert data(bench.look_up("four.example.org", ZONE, server=DNS6)) == []


def test_the_names_of_leases_are_known_by_their_addresses() -> None:
    bench = own()
    bench.look_up("www.example.org", ZONE)
    for address in ("198.18.0.1", "fd73:616e:736e:6574::1"):
        (answer,) = bench.ask(str(dns.reversename.from_address(address)), "PTR")
        assert data(answer) == ["www.example.org."]
        (answer,) = bench.ask(str(dns.reversename.from_address(address)), "TXT")
        assert (answer.rcode(), data(answer)) == (dns.rcode.NOERROR, [])
    (answer,) = bench.ask(str(dns.reversename.from_address("198.18.0.9")), "PTR")
    assert answer.rcode() == dns.rcode.NXDOMAIN
    (answer,) = bench.ask(str(dns.reversename.from_address("93.184.216.7")), "PTR")
    assert answer.rcode() == REFUSED
    assert bench.asked == []


def test_a_name_that_does_not_exist_has_no_address() -> None:
    bench = own()
    answer = bench.look_up("no.example.org", ZONE)
    assert (answer.rcode(), answer.answer) == (dns.rcode.NXDOMAIN, [])
    assert bench.questions() == []
    assert bench.ask("no.example.org")[0].rcode() == dns.rcode.NXDOMAIN, "from the cache"


def test_one_family_that_is_not_answered_delays_the_answer_shortly() -> None:
    bench = own()
    bench.ask("www.example.org")
    bench.sort()
    order = next(order for order in bench.asked if b"\0\x01\0\x01" in bytes(order.data[-20:]))
    assert bench.reply(order, *ZONE["www.example.org.", "A"]) == []
    bench.wait(0.3)
    (answer,) = bench.answers()
    assert data(answer) == ["198.18.0.1"]


def test_any_is_answered_with_an_address() -> None:
    bench = Bench(configuration(allow("*.example.org", record_types=("ANY",))))
    answer = bench.look_up("www.example.org", ZONE, "ANY")
    assert data(answer) == ["198.18.0.1"]
    assert answer.question[0].rdtype == dns.rdatatype.ANY


# hostile answers


HOSTILE = [
    ("A", "127.0.0.1"),
    ("A", "10.0.0.1"),
    ("A", "192.168.1.1"),
    ("A", "169.254.169.254"),
    ("A", "169.254.1.1"),
    ("A", "224.0.0.1"),
    ("A", "198.51.100.1"),
    ("AAAA", "::1"),
    ("AAAA", "fe80::1"),
    ("AAAA", "fd00:ec2::254"),
    ("AAAA", "::ffff:127.0.0.1"),
    ("AAAA", "64:ff9b::7f00:1"),
    ("AAAA", "64:ff9b::a00:1"),
    ("AAAA", "2002:7f00:1::1"),
    ("AAAA", "ff02::1"),
]


@pytest.mark.parametrize("names", NameMode)
@pytest.mark.parametrize(("type_", "address"), HOSTILE)
def test_addresses_that_a_name_must_not_lead_to_are_taken_out(names: NameMode, type_: str, address: str) -> None:
    """198.51.100.1 is an address of the host here."""
    config = configuration(ALLOWED, names=names, host_addresses=("198.51.100.1",))
    zone = {("rebind.example.org.", type_): (f"rebind.example.org. 0 IN {type_} {address}",)}
    bench = Bench(config)
    answer = bench.look_up("rebind.example.org", zone, type_)
    assert (answer.rcode(), data(answer)) == (0, [])
    both: dict[tuple[str, str], tuple[str, ...]] = {
        ("rebind.example.org.", "A"): ("rebind.example.org. 0 IN A 93.184.216.7",),
        ("rebind.example.org.", "AAAA"): ("rebind.example.org. 0 IN AAAA 2a00:1:2::7",),
    }
    both["rebind.example.org.", type_] += zone["rebind.example.org.", type_]
    (kept,) = data(Bench(config).look_up("rebind.example.org", both, type_))
    assert kept != address


@pytest.mark.parametrize("names", NameMode)
@pytest.mark.parametrize(
    ("rules", "text"),
    [
        ((allow("db.example.org", ports=(5432,)),), "an address of a name must be public, or allowed by a rule"),
        ((Rule(action=Action.REFUSE, groups=(Group.PRIVATE,)), ALLOWED), "refuse private"),
    ],
)
def test_a_name_whose_addresses_are_all_closed_is_reported(names: NameMode, rules: tuple[Rule, ...], text: str) -> None:
    zone = {("db.example.org.", "A"): ("db.example.org. 60 IN A 10.1.2.3",)}
    bench = Bench(configuration(*rules, names=names))
    bench.look_up("db.example.org", zone)
    first, *closed = [one for one in bench.told() if isinstance(one, NameAsked)]
    assert (first.refused, first.address) == (False, None)
    assert {(one.refused, one.rule, one.address) for one in closed} == {(True, text, bytes((10, 1, 2, 3)))}
    assert str(closed[0]) == f"db.example.org (A) looked up: closed by rule {text}: 10.1.2.3"


def test_a_shared_address_stands_first_for_the_name_that_was_asked_for_last() -> None:
    """So that a flow to it is reported under that name."""
    allowed = allow("a.example.org", "b.example.org")
    zone = {(f"{name}.example.org.", "A"): (f"{name}.example.org. 60 IN A 93.184.216.7",) for name in "ab"}
    bench = Bench(configuration(allowed, names=NameMode.REAL))
    for name in ("a", "b", "a"):
        bench.look_up(f"{name}.example.org", zone)
        bindings = bench.network._protocols.resolver.bindings if bench.network._protocols.resolver else None
        assert bindings is not None
        assert bindings.names(bytes((93, 184, 216, 7)))[0] == f"{name}.example.org"


@pytest.mark.parametrize("names", NameMode)
def test_a_rule_with_prefixes_allows_private_addresses_of_a_name(names: NameMode) -> None:
    zone = {("db.example.org.", "A"): ("db.example.org. 60 IN A 10.1.2.3",)}
    rules = (allow("db.example.org", ports=(5432,)), Rule(action=Action.ALLOW, destinations=("10.1.0.0/16",)))
    assert len(data(Bench(configuration(*rules, names=names)).look_up("db.example.org", zone))) == 1
    rule = allow("db.example.org", groups=(Group.PRIVATE,), ports=(5432,))
    assert len(data(Bench(configuration(rule, names=names)).look_up("db.example.org", zone))) == 1


def test_a_deny_rule_by_prefix_holds_for_names() -> None:
    rules = (Rule(action=Action.REFUSE, destinations=("93.184.216.0/24",)), ALLOWED)
    assert data(Bench(configuration(*rules, names=NameMode.REAL)).look_up("www.example.org", ZONE)) == []


def test_everything_is_open_without_rules() -> None:
    zone = {("db.example.org.", "A"): ("db.example.org. 60 IN A 10.1.2.3",)}
    bench = Bench(configuration(default=None, names=NameMode.REAL))
    assert data(bench.look_up("db.example.org", zone)) == ["10.1.2.3"]


# real addresses


def test_real_addresses_are_passed_on_with_their_chain_and_without_records_of_others() -> None:
    bench = real()
    answer = bench.look_up("chain.example.org", ZONE)
    assert data(answer) == ["x.cdn.example.net.", "93.184.216.9"]
    assert {rrset.ttl for rrset in answer.answer} == {20}
    assert bench.network._context.bindings is not None
    bindings = bench.network._context.bindings
    assert bindings.names(bytes((93, 184, 216, 9))) == ["chain.example.org"]
    assert bindings.names(bytes((93, 184, 216, 66))) == []


@pytest.mark.parametrize(("ttl", "lifetime"), [(0, 5), (20, 20), (2**31 - 1, 3600), (2**31, 5)])
def test_the_lifetime_of_an_address_has_bounds(ttl: int, lifetime: int) -> None:
    bench = real()
    assert bench.ask("www.example.org") == []
    (order,) = bench.asked
    query = bytes(order.data)
    record = b"\xc0\x0c" + struct.pack("!HHIH4s", 1, 1, ttl, 4, bytes((93, 184, 216, 7)))
    head = struct.pack("!2s5H", query[:2], 0x8180, 1, 1, 0, 0)
    (answer,) = bench.deliver(order, head + query[12:-11] + record)
    assert answer.answer[0].ttl == lifetime
    bindings = bench.network._context.bindings
    assert bindings is not None
    address = bytes((93, 184, 216, 7))
    bench.wait(lifetime + 119)
    bench.network.handle_deadline(bench.now)
    assert bindings.names(address) == ["www.example.org"]
    bindings.pin(address)
    bench.wait(2)
    bench.network.handle_deadline(bench.now)
    assert bindings.names(address) == ["www.example.org"], "a flow is open"
    bindings.unpin(address)
    assert bindings.names(address) == []


def test_a_shared_address_stands_for_all_its_names() -> None:
    bench = Bench(configuration(allow("*.example.org", "*.example.net"), names=NameMode.REAL))
    for name in ("a.example.org", "b.example.net"):
        bench.look_up(name, {(f"{name}.", "A"): (f"{name}. 60 IN A 93.184.216.7",)})
    assert bench.network._context.bindings is not None
    names = bench.network._context.bindings.names(bytes((93, 184, 216, 7)))
    assert sorted(names) == ["a.example.org", "b.example.net"]


# verdicts, proxies, names of the configuration


def test_a_name_to_be_asked_about_gets_an_address_without_a_question() -> None:
    bench = Bench(configuration(default=Action.ASK))
    (answer,) = bench.ask("secret.evil.net")
    assert data(answer) == ["198.18.0.1"]
    assert data(bench.ask("secret.evil.net", "HTTPS")[0]) == []
    assert data(bench.ask("secret.evil.net", "TXT")[0]) == []
    assert (bench.opened, bench.orders) == ([], [])


def test_a_name_to_be_asked_about_is_refused_if_only_real_addresses_would_do() -> None:
    bench = Bench(configuration(default=Action.ASK, names=NameMode.REAL))
    assert [answer.rcode() for answer in bench.ask("secret.evil.net")] == [REFUSED]
    assert bench.opened == []


def test_a_name_behind_a_proxy_is_not_asked_for_here() -> None:
    proxy = ProxyConfig(name="office", kind=ProxyKind.SOCKS5, server=("10.0.0.1", 1080))
    bench = Bench(configuration(allow("*.example.org", via="office"), proxies=(proxy,)))
    assert data(bench.ask("www.example.org")[0]) == ["198.18.0.1"]
    assert bench.opened == []


HOSTS = (("host.example.org", ("10.0.2.2", "93.184.216.1")), ("HOST.example.net", ("93.184.216.2",)))


@pytest.mark.parametrize("names", NameMode)
def test_names_of_the_configuration_need_no_server_and_obey_the_rules(names: NameMode) -> None:
    bench = Bench(configuration(ALLOWED, names=names, hosts=HOSTS))
    (answer,) = bench.ask("host.example.org")
    assert data(answer) == ["10.0.2.2", "93.184.216.1"], "10.0.2.2 exists on the guest's segment only"
    assert answer.answer[0].ttl == 0
    assert data(bench.ask("host.example.org", "AAAA")[0]) == []
    assert bench.ask("host.example.net")[0].rcode() == REFUSED
    assert bench.opened == []
    assert bench.network._context.bindings is not None
    assert bench.network._context.bindings.names(bytes((93, 184, 216, 2))) == ["host.example.net"]


def test_an_alias_of_the_hosts_loopback_is_in_an_answer_only_if_a_rule_says_so() -> None:
    hosts = (("host.example.org", ("10.9.9.9",)),)
    config = configuration(ALLOWED, hosts=hosts, map_host_loopback=("10.9.9.9",))
    assert data(Bench(config).ask("host.example.org")[0]) == []
    rules = (ALLOWED, Rule(action=Action.ALLOW, groups=(Group.LOOPBACK,), ports=(5432,)))
    config = configuration(*rules, hosts=hosts, map_host_loopback=("10.9.9.9",))
    assert data(Bench(config).ask("host.example.org")[0]) == ["10.9.9.9"]


# names with a meaning of their own


@pytest.mark.parametrize("names", NameMode)
@pytest.mark.parametrize("default", [Action.ALLOW, Action.ASK])
@pytest.mark.parametrize(
    ("name", "type_", "rcode", "found"),
    [
        ("localhost", "A", 0, ["127.0.0.1"]),
        ("LocalHost.", "AAAA", 0, ["::1"]),
        ("a.b.localhost", "A", 0, ["127.0.0.1"]),
        ("localhost", "TXT", 0, []),
        ("invalid", "A", 3, []),
        ("secret.invalid", "TXT", 3, []),
        ("onion", "A", 3, []),
        ("www.example.onion", "AAAA", 3, []),
        ("use-application-dns.net", "A", 3, []),
        ("_dns.resolver.arpa", "SVCB", 0, []),
        ("resolver.arpa", "A", 0, []),
    ],
)
def test_names_with_a_meaning_of_their_own_are_asked_for_nowhere(
    names: NameMode, default: Action, name: str, type_: str, rcode: int, found: list[str]
) -> None:
    bench = Bench(configuration(ALLOWED, names=names, default=default, notices=True))
    (answer,) = bench.ask(name, type_)
    assert (answer.rcode(), data(answer), bench.opened) == (rcode, found, [])
    (notice,) = bench.notices
    assert isinstance(notice, NameAsked)
    assert (notice.answered, notice.refused) == (True, False)
    bench = Bench(configuration(ALLOWED, names=names))
    assert bench.ask(name, type_)[0].rcode() == REFUSED, "the rules come first"


@pytest.mark.parametrize("name", ["localhost.example.org", "onion.example.org", "notlocalhost", "net", "arpa"])
def test_names_that_only_look_like_them_are_asked_for(name: str) -> None:
    bench = Bench(configuration(names=NameMode.REAL, default=Action.ALLOW))
    assert bench.ask(name) == []
    assert len(bench.asked) == 1


def test_the_names_of_the_configuration_come_before_those_with_a_meaning() -> None:
    bench = Bench(configuration(default=Action.ALLOW, hosts=(("db.localhost", ("10.0.2.2",)),)))
    assert data(bench.ask("db.localhost")[0]) == ["10.0.2.2"]


def test_a_proxy_may_know_names_that_no_name_server_has() -> None:
    """As Tor does, which is a SOCKS5 proxy."""
    proxy = ProxyConfig(name="tor", kind=ProxyKind.SOCKS5, server=("192.0.2.9", 9050))
    bench = Bench(configuration(allow("*.onion", via="tor"), proxies=(proxy,)))
    assert data(bench.ask("www.example.onion")[0]) == ["198.18.0.1"]


# other records


def test_other_records_are_passed_on() -> None:
    bench = own()
    assert data(bench.look_up("mail.example.org", ZONE, "MX")) == ["10 mx.example.net."]
    assert data(bench.look_up("text.example.org", ZONE, "TXT")) == ['"hello"']


def https(bench: Bench) -> list[str]:
    record = "www.example.org. 60 IN HTTPS 1 . alpn=h2,h3 ipv4hint=93.184.216.7 ech=AAj+DQAEYWJjZA== ipv6hint=2a00::1 "
    record += "port=8443"
    return data(bench.look_up("www.example.org", {("www.example.org.", "HTTPS"): (record,)}, "HTTPS"))


@pytest.mark.parametrize("names", NameMode)
def test_https_records_lose_their_hints_their_ech_and_http3_if_udp_is_closed(names: NameMode) -> None:
    assert https(Bench(configuration(ALLOWED, names=names))) == ['1 . alpn="h2" port="8443"']
    open_ = allow("*.example.org", protocols=("udp", "tcp"))
    assert https(Bench(configuration(open_, names=names))) == ['1 . alpn="h2,h3" port="8443"']


@pytest.mark.parametrize("names", NameMode)
def test_https_records_lead_to_names_that_the_guest_may_ask_for_only(names: NameMode) -> None:
    zone = {
        ("www.example.org.", "HTTPS"): (
            "www.example.org. 60 IN CNAME x.cdn.example.net.",
            "x.cdn.example.net. 60 IN HTTPS 1 . alpn=h2",
            "x.cdn.example.net. 60 IN HTTPS 2 y.cdn.example.net. alpn=h2",
            "x.cdn.example.net. 60 IN HTTPS 3 y.Example.org. alpn=h2",
            "x.cdn.example.net. 60 IN HTTPS 0 z.cdn.example.net.",
        )
    }
    (rrset,) = Bench(configuration(ALLOWED, names=names)).look_up("www.example.org", zone, "HTTPS").answer
    assert rrset.name.to_text() == "www.example.org.", "the guest may not ask for the members of the chain"
    assert sorted(record.to_text() for record in rrset) == ['1 . alpn="h2"', '3 y.Example.org. alpn="h2"']


# messages


@pytest.mark.parametrize(
    ("message", "rcode"),
    [
        (struct.pack("!6H", 7, 0x0100, 0, 0, 0, 0), 1),
        (struct.pack("!6H", 7, 0x0100, 2, 0, 0, 0) + b"\1a\0\0\1\0\1" * 2, 1),
        (struct.pack("!6H", 7, 0x0100, 1, 1, 0, 0) + b"\1a\0\0\1\0\1" + b"\0" + struct.pack("!HHIH", 1, 1, 0, 0), 1),
        (struct.pack("!6H", 7, 0x0100, 1, 0, 0, 0) + b"\1a", 1),
        (struct.pack("!6H", 7, 0x0100, 1, 0, 0, 0) + b"\xc0\x0c\0\1\0\1", 1),
        (struct.pack("!6H", 7, 0x2800, 1, 0, 0, 0) + b"\1a\0\0\6\0\1", 4),  # UPDATE
        (struct.pack("!6H", 7, 0x0100, 1, 0, 0, 0) + b"\1a\0\0\1\0\3", 4),  # class CH
        (
            struct.pack("!6H", 7, 0x0100, 1, 0, 0, 1)
            + b"\1a\0\0\1\0\1"
            + b"\0"
            + struct.pack("!HHIH", 41, 1232, 1 << 16, 0),
            16,  # BADVERS
        ),
    ],
)
def test_a_query_that_cannot_be_answered_gets_an_error(message: bytes, rcode: int) -> None:
    bench = own()
    (answer,) = bench.ask_bytes(message)
    assert (answer.id, answer.rcode()) == (7, rcode)
    assert answer.flags & dns.flags.QR
    assert bench.opened == []
    assert sum(bench.drops().values()) == 1


@pytest.mark.parametrize("message", [b"", b"\0", bytes(11), struct.pack("!6H", 7, 0x8180, 0, 0, 0, 0)])
def test_bytes_that_are_no_query_get_no_answer(message: bytes) -> None:
    bench = own()
    assert bench.ask_bytes(message) == []
    assert bench.drops() == {Reason.DNS_MALFORMED: 1}


@given(st.binary(max_size=200))
def test_any_bytes_of_the_guest_are_answered_or_dropped(message: bytes) -> None:
    bench = Bench(configuration(default=Action.ALLOW))
    bench.send(udp(GUEST, 4000, DNS4, 53, message))
    bench.wait(60)
    assert len(bench.packets) <= 1
    assert bench.network.statistics().flows["name_questions"] == 0


@given(st.binary(max_size=200), st.sampled_from(["A", "HTTPS", "MX"]), st.sampled_from(NameMode))
def test_any_bytes_of_a_name_server_do_no_harm(message: bytes, type_: str, names: NameMode) -> None:
    bench = Bench(configuration(ALLOWED, names=names))
    bench.ask("www.example.org", type_)
    for order in list(bench.asked):
        query = bytes(order.data)
        bench.deliver(order, message)
        bench.deliver(order, query[:2] + b"\x81\x80" + message)
        bench.deliver(order, query[:2] + b"\x81\x80\0\1\0\1\0\1\0\0" + query[12:-11] + message)
    bench.wait(60)
    assert bench.network.statistics().flows["name_questions"] == 0


def test_a_large_answer_is_truncated_to_what_the_guest_takes() -> None:
    addresses = tuple(f"www.example.org. 60 IN A 93.184.216.{n}" for n in range(64))
    bench = real()
    answer = bench.look_up("www.example.org", {("www.example.org.", "A"): addresses})
    assert answer.flags & dns.flags.TC
    assert answer.answer == []
    (answer,) = bench.ask("www.example.org", use_edns=0, payload=1232)
    assert not answer.flags & dns.flags.TC
    assert len(data(answer)) == 64
    (answer,) = bench.ask("www.example.org", use_edns=0, payload=100)
    assert answer.flags & dns.flags.TC


def test_the_answer_repeats_the_question_as_it_was_asked() -> None:
    (answer,) = own().ask("EvIl.NeT")
    assert answer.question[0].name.to_text() == "EvIl.NeT."


@pytest.mark.parametrize("flags", [0, dns.flags.DO])
def test_the_answer_repeats_that_dnssec_is_wanted(flags: int) -> None:
    assert own().ask("evil.net", use_edns=0, ednsflags=flags)[0].ednsflags == flags


def test_questions_by_ipv6_are_answered_from_the_address_that_was_asked() -> None:
    bench = own()
    bench.identifier += 1
    assert data(bench.look_up("www.example.org", ZONE, server=DNS6)) == ["198.18.0.1"]


def test_questions_to_other_servers_are_not_answered_here() -> None:
    bench = Bench(configuration(default=None))
    bench.send(udp(GUEST, 4000, bytes((192, 0, 2, 200)), 53, dns.message.make_query("a.example", "A").to_wire()))
    bench.sort()
    assert [format(order.remote.address) for order in bench.asked] == ["192.0.2.200"]


def test_a_resolver_that_is_switched_on_later_answers_from_then_on() -> None:
    bench = Bench(replace(configuration(ALLOWED), resolver=None))
    bench.network.reconfigure(configuration(ALLOWED), bench.now)
    bench.collect()
    assert data(bench.look_up("www.example.org", ZONE)) == ["198.18.0.1"]
    bench.network.reconfigure(replace(configuration(default=None), resolver=None), bench.now)
    bench.collect()
    assert bench.ask("www.example.org") == []
    bench.sort()
    assert [order.remote.address for order in bench.asked] == [DNS4], "forwarded"
    assert bench.network._context.bindings is not None
    assert bench.network._context.bindings.names(bytes((198, 18, 0, 1))) == ("www.example.org",)


def test_no_module_of_the_resolver_is_loaded_without_one() -> None:
    import subprocess
    import sys

    script = (
        "import sys; from sansnet_core.testing import make_config; from sansnet_core import Network;"
        "Network(make_config(), now=0.0, secret=bytes(16));"
        "print([name for name in sys.modules if 'resolver' in name or 'dns_message' in name])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


def test_the_prefixes_of_names_cannot_change() -> None:
    from sansnet_core import ConfigError

    bench = own()
    with pytest.raises(ConfigError, match=r"resolver\.prefix4"):
        bench.network.reconfigure(configuration(ALLOWED, resolver={"prefix4": "198.19.0.0/16"}), bench.now)


def test_an_ipv4_network_of_any_prefix_is_no_obstacle() -> None:
    config = replace(configuration(ALLOWED), ipv4=Ipv4Config(address="10.0.2.15/8", gateway="10.0.2.2"))
    assert data(Bench(config).look_up("www.example.org", ZONE)) == ["198.18.0.1"]


def test_a_port_scan_does_not_hide_the_names_that_are_asked_for() -> None:
    bench = own()
    for port in range(1, 1500):
        bench.send(udp(GUEST, 4000, bytes((8, 8, 8, 8)), port, b"scan"))
    bench.ask("evil.net")
    assert [told.name for told in bench.told()] == ["evil.net"]


def test_an_offloaded_run_of_questions_is_answered_one_by_one() -> None:
    link = LinkConfig(
        mtu=1500, max_frame_size=65549, vnet_header=True, checksum_offload=True, tso4=True, tso6=True, uso=True
    )
    bench = Bench(configuration(ALLOWED, link=link))
    questions = [dns.message.make_query(f"n{n}.evil.net", "A", id=n).to_wire() for n in range(3)]
    head = struct.pack("<BB5H", 1, 5, 42, len(questions[0]), 34, 6, 0)
    bench.send(udp(GUEST, 4000, DNS4, 53, b"".join(questions)), head=head)
    assert [(answer.id, answer.rcode()) for answer in bench.answers()] == [(n, REFUSED) for n in range(3)]
