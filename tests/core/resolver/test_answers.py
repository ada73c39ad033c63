"""The records of a response that count: chains, owners, lifetimes, negative answers."""

from __future__ import annotations

from itertools import pairwise

import dns.message
import dns.rcode
import dns.rrset
import pytest

from sansnet_core.addresses import format
from sansnet_core.config import ResolverConfig
from sansnet_core.resolver.answers import FAILED, Answer, read_answer
from sansnet_core.wire import dns_message, dns_names
from sansnet_core.wire.dns_message import Question
from tests.core.resolver.bench import rrset

CONFIG = ResolverConfig()
NO_SOA = ("example.org. 900 IN SOA ns.example.org. admin.example.org. 1 2 3 4 30",)


def read(
    *records: str,
    name: str = "a.example.org",
    type_: str = "A",
    rcode: int = 0,
    authority: tuple[str, ...] = (),
    additional: tuple[str, ...] = (),
) -> Answer:
    message = dns.message.make_response(dns.message.make_query(name, type_))
    message.set_rcode(dns.rcode.Rcode(rcode))
    message.answer = [rrset(record) for record in records]
    message.authority = [rrset(record) for record in authority]
    message.additional = [rrset(record) for record in additional]
    question = Question(dns_names.from_text(name.lower()), {"A": 1, "AAAA": 28, "MX": 15, "CNAME": 5}[type_])
    return read_answer(dns_message.parse(message.to_wire()), question, CONFIG)


def addresses(answer: Answer) -> list[str]:
    return [format(address) for address in answer.addresses]


def test_a_chain_is_followed_and_its_shortest_lifetime_counts() -> None:
    answer = read(
        "a.example.org. 300 IN CNAME b.example.net.",
        "c.example.net. 200 IN A 93.184.216.1",
        "b.example.net. 30 IN CNAME C.Example.NET.",
    )
    assert (addresses(answer), answer.lifetime, len(answer.records)) == (["93.184.216.1"], 30, 3)


def test_the_case_of_an_owner_does_not_matter() -> None:
    assert addresses(read("A.EXAMPLE.ORG. 60 IN A 93.184.216.1")) == ["93.184.216.1"]


@pytest.mark.parametrize(
    "record",
    [
        "b.example.org. 60 IN A 93.184.216.66",
        "example.org. 60 IN A 93.184.216.66",
        "a.example.org. 60 CH A example. 1",
        "a.example.org. 60 IN AAAA 2001:db8::66",
    ],
)
def test_records_of_other_owners_classes_and_types_are_ignored(record: str) -> None:
    if "CH" in record:
        message = dns.message.make_response(dns.message.make_query("a.example.org", "A"))
        data = message.to_wire()
        head = data[:6] + b"\0\1" + data[8:]
        other = head + b"\xc0\x0c" + b"\0\1\0\3\0\0\0\x3c\0\4" + bytes((93, 184, 216, 66))
        answer = read_answer(dns_message.parse(other), Question(dns_names.from_text("a.example.org"), 1), CONFIG)
        assert answer.addresses == ()
        return
    assert read(record).addresses == ()
    assert addresses(read(record, "a.example.org. 60 IN A 93.184.216.1")) == ["93.184.216.1"]


def test_addresses_in_other_sections_are_ignored() -> None:
    record = ("a.example.org. 60 IN A 93.184.216.66",)
    assert read(authority=record, additional=record).addresses == ()


def test_a_loop_of_names_fails() -> None:
    assert read("a.example.org. 60 IN CNAME a.example.org.") == FAILED
    loop = ("a.example.org. 60 IN CNAME b.example.org.", "b.example.org. 60 IN CNAME a.example.org.")
    assert read(*loop) == FAILED


def test_a_chain_has_a_bound() -> None:
    def chain(length: int) -> Answer:
        names = ["a.example.org.", *(f"n{n}.example.org." for n in range(length))]
        links = [f"{one} 60 IN CNAME {two}" for one, two in pairwise(names)]
        return read(*links, f"{names[-1]} 60 IN A 93.184.216.1")

    assert addresses(chain(16)) == ["93.184.216.1"]
    assert chain(17) == FAILED


def test_a_question_for_an_alias_gets_the_alias() -> None:
    answer = read("a.example.org. 60 IN CNAME b.example.org.", type_="CNAME")
    assert len(answer.records) == 1


@pytest.mark.parametrize(
    ("authority", "lifetime"),
    [
        (NO_SOA, 30),
        (("org. 900 IN SOA ns.org. admin.org. 1 2 3 4 100000",), 900),
        (("org. 100000 IN SOA ns.org. admin.org. 1 2 3 4 100000",), 3600),
        (("example.net. 900 IN SOA ns.org. admin.org. 1 2 3 4 300",), 5),
        (("b.example.org. 900 IN SOA ns.org. admin.org. 1 2 3 4 300",), 5),
        ((), 5),
    ],
)
@pytest.mark.parametrize("rcode", [0, 3])
def test_a_negative_answer_is_valid_as_long_as_its_zone_says(
    authority: tuple[str, ...], lifetime: float, rcode: int
) -> None:
    answer = read(authority=authority, rcode=rcode)
    assert (answer.rcode, answer.addresses, answer.lifetime) == (rcode, (), lifetime)
    assert len(answer.authorities) == (lifetime > 5)


def test_a_chain_to_a_name_that_does_not_exist_is_negative() -> None:
    answer = read("a.example.org. 60 IN CNAME b.example.org.", rcode=3, authority=NO_SOA)
    assert (answer.rcode, len(answer.records), answer.lifetime) == (3, 1, 30)


@pytest.mark.parametrize("rcode", [1, 2, 4, 5, 9])
def test_other_codes_are_failures(rcode: int) -> None:
    assert read("a.example.org. 60 IN A 93.184.216.1", rcode=rcode) == FAILED


def test_the_addresses_of_a_name_have_a_bound() -> None:
    assert len(read(*(f"a.example.org. 60 IN A 93.184.216.{n}" for n in range(200))).addresses) == 64
