"""The names of a DNS server: forms of records, wildcards, zones, chains, negative answers, reverse names."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Address, ip_address
from pathlib import Path
from typing import Any

import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdataset
import dns.rdatatype
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sansnet_core import ConfigError, Endpoint
from sansnet_trio.dns import DnsServer, Question
from sansnet_trio.dns.exchange import Answers
from sansnet_trio.dns.message import MAX_SIZE_TCP
from sansnet_trio.dns.records import read_answer
from sansnet_trio.dns.zones import Zones

GUEST = Endpoint(bytes([10, 0, 2, 15]), 40000)


def ask(
    zones: Mapping[Any, Any], name: str, kind: str = "A", otherwise: Any = "NXDOMAIN", reverse: bool = False
) -> dns.message.Message:
    """The response to a question that needs no callable."""
    entry = read_answer(otherwise, 60, "otherwise")
    answers = Answers(Zones(zones, ttl=60, reverse=reverse), entry, 60, 5.0, None)
    exchange = answers.begin(dns.message.make_query(name, kind).to_wire(), GUEST)
    assert exchange is not None
    assert exchange.reply is not None
    return dns.message.from_wire(exchange.response(MAX_SIZE_TCP))


def records(response: dns.message.Message) -> list[str]:
    assert response.rcode() == dns.rcode.NOERROR
    return [line for rrset in response.answer for line in rrset.to_text().splitlines()]


def code(response: dns.message.Message) -> str:
    return dns.rcode.to_text(response.rcode())


# forms


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        ("10.9.0.1", "A", ["60 IN A 10.9.0.1"]),
        (IPv4Address("10.9.0.1"), "A", ["60 IN A 10.9.0.1"]),
        (bytes([10, 9, 0, 1]), "A", ["60 IN A 10.9.0.1"]),
        (ip_address("fd00::2"), "AAAA", ["60 IN AAAA fd00::2"]),
        (["10.9.0.2", "fd00::2", "10.9.0.3"], "A", ["60 IN A 10.9.0.2", "60 IN A 10.9.0.3"]),
        ("A 10.9.0.1", "A", ["60 IN A 10.9.0.1"]),
        ("5 a 10.9.0.1", "A", ["5 IN A 10.9.0.1"]),
        ("1h A 10.9.0.1", "A", ["3600 IN A 10.9.0.1"]),
        (["9 A 10.9.0.1", "5 A 10.9.0.2"], "A", ["5 IN A 10.9.0.1", "5 IN A 10.9.0.2"]),
        ("CNAME app.internal", "CNAME", ["60 IN CNAME app.internal."]),
        ("SRV 0 5 80 app.internal.", "SRV", ["60 IN SRV 0 5 80 app.internal."]),
        ('TXT "a text" more', "TXT", ['60 IN TXT "a text" "more"']),
        ("MX 10 mail.internal", "MX", ["60 IN MX 10 mail.internal."]),
        ("NS ns.internal", "NS", ["60 IN NS ns.internal."]),
        ("PTR app.internal", "PTR", ["60 IN PTR app.internal."]),
        ("HTTPS 1 . alpn=h2", "HTTPS", ['60 IN HTTPS 1 . alpn="h2"']),
        ("SOA ns.internal. me.internal. 1 2 3 4 5", "SOA", ["60 IN SOA ns.internal. me.internal. 1 2 3 4 5"]),
        (dns.rdata.from_text("IN", "A", "10.9.0.1"), "A", ["60 IN A 10.9.0.1"]),
        (dns.rdataset.from_text("IN", "A", 7, "10.9.0.1"), "A", ["7 IN A 10.9.0.1"]),
        (["10.9.0.1", "10.9.0.1"], "A", ["60 IN A 10.9.0.1"]),
        ([], "A", []),
    ],
    ids=str,
)
def test_the_forms_of_records(value: Any, kind: str, expected: list[str]) -> None:
    assert records(ask({"some.internal": value}, "some.internal", kind)) == [
        f"some.internal. {each}" for each in expected
    ]


@pytest.mark.parametrize(
    ("zones", "message"),
    [
        ({"a.example": "10.9.0"}, r"zones\['a.example'\]: '10.9.0' is no record .*; give an address"),
        ({"a.example": "10.9.0.1.2"}, "is no record"),
        ({"a.example": ""}, "is no record"),
        ({"a.example": "5"}, "is no record"),
        ({"a.example": "NOTHING x"}, "is no record"),
        ({"a.example": "A"}, "is no record"),
        ({"a.example": "A fd00::1"}, "is no record"),
        ({"a.example": "SRV 0 0 app.internal"}, "is no record"),
        ({"a.example": "fe80::1%eth0"}, "has a zone"),
        ({"a.example": b"abc"}, "is no record"),
        ({"a.example": 5}, "is no record"),
        ({"a.example": [5]}, "is no record"),
        ({"a.example": ["10.9.0.1", "NXDOMAIN"]}, "is no record"),
        ({"a.example": ["CNAME b.example", "10.9.0.1"]}, "excludes other records .* leave out A$"),
        ({"a.example": ["CNAME b.example", "CNAME c.example"]}, "one CNAME at most"),
        ({"a.example": "DNAME b.example"}, "class IN and type DNAME are not served; use a wildcard with a CNAME"),
        ({"a.example": dns.rdata.from_text("IN", "CNAME", "app")}, "without its final dot"),
        ({"a.example": dns.rdata.from_text("CH", "TXT", "app")}, "class CH and type TXT are not served"),
        ({"a..example": "10.9.0.1"}, "no domain name"),
        ({"x" * 64 + ".example": "10.9.0.1"}, "no domain name"),
        ({"": "10.9.0.1"}, "the name is empty; write '.'"),
        ({5: "10.9.0.1"}, "a name is text"),
        ({"a.*.example": "10.9.0.1"}, "a wildcard must be the first label"),
        ({"a.example": "10.9.0.1", "A.Example.": "10.9.0.2"}, "occurs twice"),
    ],
)
def test_mistakes_are_said_when_the_server_is_made(zones: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        DnsServer(zones)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"ttl": -1}, "ttl: -1 seconds"),
        ({"otherwise": "NOTHING"}, "otherwise: 'NOTHING' is no record"),
        ({"idle_time": 0}, "idle_time: 0 seconds"),
        ({"answer_time": -1}, "answer_time: -1"),
        ({"max_connections": 0}, "max_connections: 0"),
        ({"max_pending": 0}, "max_pending: 0"),
    ],
)
def test_wrong_limits(given: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        DnsServer({}, **given)


def test_wrong_names_replace_nothing() -> None:
    server = DnsServer({"a.example": "10.9.0.1"})
    with pytest.raises(ConfigError):
        server.replace({"a.example": "nothing"})
    assert server._answers.zones.exists(dns.name.from_text("a.example"))


# wildcards (the example of RFC 4592, section 2.2.1)

WILD = {
    "example": "SOA ns.example. me.example. 1 2 3 4 30",
    "*.example": ['TXT "this is a wildcard"', "MX 10 host1.example"],
    "sub.*.example.": 'TXT "this is not a wildcard"',
    "host1.example": "192.0.2.1",
    "_ssh._tcp.host1.example": "SRV 0 0 22 host1.example",
}


def test_a_wildcard_must_be_the_first_label() -> None:
    with pytest.raises(ConfigError):
        ask(WILD, "host3.example", "MX")


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        ("host3.example", "MX", "10 host1.example."),
        ("host3.example", "A", None),
        ("foo.bar.example", "TXT", '"this is a wildcard"'),
        ("host1.example", "MX", None),
        ("_telnet._tcp.host1.example", "SRV", "NXDOMAIN"),
        ("_tcp.host1.example", "A", None),
        ("*.example", "TXT", '"this is a wildcard"'),
    ],
)
def test_wildcards(name: str, kind: str, expected: str | None) -> None:
    zones = {key: value for key, value in WILD.items() if not key.startswith("sub")}
    found = ask(zones, name, kind)
    if expected is None or expected == "NXDOMAIN":
        assert (code(found), found.answer) == (expected or "NOERROR", [])
        assert str(found.authority[0].name) == "example."
    else:
        assert records(found) == [f"{name}. 60 IN {kind} {expected}"]


NAMES = st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=4).map(".".join)


@given(st.lists(st.tuples(st.booleans(), NAMES), max_size=6), NAMES)
def test_wildcards_against_a_search_of_all_names(entries: list[tuple[bool, str]], name: str) -> None:
    """RFC 4592 word for word: the closest encloser is the longest existing ancestor; its wildcard is the source."""
    zones = {f"*.{each}" if wild else each: f'TXT "{wild} {each}"' for wild, each in entries}
    existing = {""}
    for key in zones:
        labels = key.split(".")
        existing |= {".".join(labels[count:]) for count in range(len(labels))}
    found = ask(zones, name, "TXT")
    labels = name.split(".")
    if name in existing:
        expected = zones.get(name)
        assert found.rcode() == dns.rcode.NOERROR
    else:
        encloser = next(each for count in range(1, 9) if (each := ".".join(labels[count:])) in existing)
        expected = zones.get(f"*.{encloser}" if encloser else "*")
        assert (found.rcode() == dns.rcode.NXDOMAIN) == (expected is None)
    assert [rrset[0].to_text() for rrset in found.answer] == ([expected.removeprefix("TXT ")] if expected else [])


# zones, negative answers


def test_a_negative_answer_has_the_soa_of_the_closest_zone() -> None:
    zones = {
        "example": "900 SOA ns.example. me.example. 1 2 3 4 30",
        "deep.example": "10 SOA ns.example. me.example. 1 2 3 4 30",
        "www.example": "10.9.0.1",
    }
    for name, kind, rcode, owner, ttl in [
        ("nowhere.example", "A", "NXDOMAIN", "example.", 30),
        ("www.example", "AAAA", "NOERROR", "example.", 30),
        ("x.deep.example", "A", "NXDOMAIN", "deep.example.", 10),
        ("nowhere.invalid", "A", "NXDOMAIN", ".", 60),
    ]:
        found = ask(zones, name, kind)
        assert (code(found), found.answer) == (rcode, [])
        assert [(str(each.name), each.ttl, each.rdtype.name) for each in found.authority] == [(owner, ttl, "SOA")]
        assert found.flags & dns.flags.AA


def test_a_name_above_others_exists() -> None:
    """RFC 8020: NXDOMAIN would mean that nothing is below it."""
    assert records(ask({"a.b.example": "10.9.0.1"}, "b.example")) == []


def test_other_names_are_refused_by_choice_but_not_those_of_a_zone() -> None:
    zones = {"example": "SOA ns.example. me.example. 1 2 3 4 5", "www.internal": "10.9.0.1"}
    refused = ask(zones, "nowhere.invalid", otherwise="REFUSED")
    assert (code(refused), refused.authority) == ("REFUSED", [])
    assert not refused.flags & dns.flags.AA
    assert code(ask(zones, "nowhere.example", otherwise="REFUSED")) == "NXDOMAIN"
    assert records(ask(zones, "internal", otherwise="REFUSED")) == []


def test_other_names_may_have_records() -> None:
    assert records(ask({"a.example": "10.9.0.1"}, "b.example", otherwise="10.9.9.9")) == ["b.example. 60 IN A 10.9.9.9"]


def test_a_name_may_have_a_response_code() -> None:
    zones = {"*.example": "10.9.0.1", "broken.example": "SERVFAIL", "none.example": None}
    assert code(ask(zones, "broken.example")) == "SERVFAIL"
    assert code(ask(zones, "none.example")) == "NXDOMAIN"
    assert code(ask(zones, "any.example")) == "NOERROR"


# chains


def test_cname_records_are_followed() -> None:
    zones = {"a.example": "CNAME B.example", "*.example": "CNAME app.internal", "app.internal": "10.9.0.1"}
    assert records(ask(zones, "a.example")) == [
        "a.example. 60 IN CNAME B.example.",
        "B.example. 60 IN CNAME app.internal.",
        "app.internal. 60 IN A 10.9.0.1",
    ]
    assert records(ask(zones, "a.example", "CNAME")) == ["a.example. 60 IN CNAME B.example."]
    nothing = ask(zones, "a.example", "AAAA")
    assert (len(nothing.answer), len(nothing.authority)) == (2, 1)


def test_a_chain_to_a_name_that_does_not_exist() -> None:
    """RFC 6604, section 3: the code is that of the last name. A chain to other servers is no error."""
    zones = {"a.example": "CNAME nowhere.invalid"}
    found = ask(zones, "a.example")
    assert (code(found), len(found.answer), len(found.authority)) == ("NXDOMAIN", 1, 1)
    assert len(records(ask(zones, "a.example", otherwise="REFUSED"))) == 1


@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_circle_of_cname_records_ends(count: int) -> None:
    zones = {f"n{number}.example": f"CNAME n{(number + 1) % count}.example" for number in range(count)}
    answers = Answers(Zones(zones, ttl=60, reverse=False), dns.rcode.NXDOMAIN, 60, 5.0, None)
    exchange = answers.begin(dns.message.make_query("n0.example", "A").to_wire(), GUEST)
    assert exchange is not None
    assert exchange.reply is not None
    assert (exchange.reply.rcode, len(exchange.reply.answer)) == (dns.rcode.SERVFAIL, count)


def test_a_chain_without_an_end_ends() -> None:
    zones = {f"n{number}.example": f"CNAME n{number + 1}.example" for number in range(1000)}
    found = ask(zones, "n0.example")
    assert code(found) == "SERVFAIL"
    assert len(found.answer) < 20


def test_any_gets_one_rdataset() -> None:
    zones = {"a.example": ["10.9.0.1", "fd00::1", "TXT text"], "b.example": "CNAME a.example"}
    assert records(ask(zones, "a.example", "ANY")) == ["a.example. 60 IN A 10.9.0.1"]
    assert records(ask(zones, "b.example", "ANY")) == ["b.example. 60 IN CNAME a.example."]
    assert code(ask(zones, "c.example", "ANY")) == "NXDOMAIN"


# reverse names


def test_reverse_names_are_made_by_choice() -> None:
    zones = {
        "a.example": ["10.9.0.1", "fd00::1"],
        "b.example": "7 A 10.9.0.1",
        "*.example": "10.9.0.2",
        "10.9.0.3": "PTR x",
    }
    name = "1.0.9.10.in-addr.arpa"
    assert code(ask(zones, name, "PTR")) == "NXDOMAIN"
    found = ask(zones, name, "PTR", reverse=True)
    assert records(found) == [f"{name}. 7 IN PTR a.example.", f"{name}. 7 IN PTR b.example."]
    six = "1." + "0." * 27 + "0.0.d.f.ip6.arpa"
    assert records(ask(zones, six, "PTR", reverse=True)) == [f"{six}. 60 IN PTR a.example."]
    assert code(ask(zones, "2.0.9.10.in-addr.arpa", "PTR", reverse=True)) == "NXDOMAIN"
    assert records(ask(zones, "3.0.9.10.in-addr.arpa", "PTR", reverse=True)) == ["3.0.9.10.in-addr.arpa. 60 IN PTR x."]


def test_an_own_reverse_name_wins() -> None:
    zones = {"a.example": "10.9.0.1", "10.9.0.1": "PTR other.example"}
    name = "1.0.9.10.in-addr.arpa"
    assert records(ask(zones, name, "PTR", reverse=True)) == [f"{name}. 60 IN PTR other.example."]


def test_names_in_other_alphabets() -> None:
    assert records(ask({"bücher.example": "10.9.0.1"}, "xn--bcher-kva.example")) == [
        "xn--bcher-kva.example. 60 IN A 10.9.0.1"
    ]


def test_the_zones_of_the_how_to_page() -> None:
    page = (Path(__file__).parents[2] / "docs/how-to/answer-dns-questions.md").read_text()
    names: dict[str, Any] = {}
    exec(page.partition("```python\n")[2].partition("```")[0], names)
    assert records(ask(names["ZONES"], "www.example"))[1] == "app.internal. 60 IN A 10.9.0.1"
    assert len(records(ask(names["ZONES"], "_http._tcp.example", "SRV"))) == 2
    assert code(ask(names["ZONES"], "broken.example")) == "SERVFAIL"


def test_a_question_for_a_callable_has_a_readable_name() -> None:
    asked: list[Question] = []
    answers = Answers(Zones({"*.Example": asked.append}, ttl=60, reverse=False), dns.rcode.NXDOMAIN, 60, 5.0, None)
    exchange = answers.begin(dns.message.make_query("Some.Name.EXAMPLE", "HTTPS").to_wire(), GUEST)
    assert exchange is not None
    assert exchange.reply is None
