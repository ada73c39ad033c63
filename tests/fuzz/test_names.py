"""Hostile guests and hostile name servers: nothing leaves the host that the rules about names close."""

from __future__ import annotations

from itertools import pairwise
from typing import Final

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from sansnet_core import Action, Endpoint, OpenEcho, OpenStream, SendDatagram
from sansnet_core.addresses import format, parse
from sansnet_core.config import Limits
from sansnet_core.policy import Check, Group, NameMode
from sansnet_core.testing.packets import SYN, Segment, udp
from tests.core.direct import GUEST
from tests.core.resolver.bench import SERVERS, Bench, allow, configuration

NAMES: Final = (
    "a.example.org",
    "b.example.org",
    "db.example.net",
    "example.org",
    "evil.net",
    "x.evil.net",
    "A.Example.ORG",
)
TYPES: Final = ("A", "AAAA", "HTTPS", "MX", "TXT", "CNAME", "ANY", "NULL", "PTR")
PUBLIC: Final = ("93.184.216.7", "93.184.216.8", "2a00:1:2::7")
CLOSED: Final = ("127.0.0.1", "10.1.2.3", "169.254.169.254", "192.0.2.1", "::1", "fd00:ec2::254", "64:ff9b::7f00:1")
LEASES: Final = ("198.18.0.1", "198.18.0.2", "198.18.0.3", "198.18.0.4", "198.18.0.9")
addresses = st.sampled_from([*PUBLIC, *CLOSED, *LEASES, "8.8.8.8"])
RULES: Final = (
    allow("*.example.org", ports=(443,), check=Check.NONE),
    allow("db.example.net", groups=(Group.PRIVATE,), ports=(5432,)),
)


def may_be_asked(name: str) -> bool:
    name = name.lower().rstrip(".")
    return name.endswith(".example.org") or name == "db.example.net"


class Names(RuleBasedStateMachine):
    """A guest that asks and connects as it likes, and servers that answer as they like."""

    mode: NameMode
    ask_first = False

    def __init__(self) -> None:
        super().__init__()
        default = Action.ASK if self.ask_first else Action.REFUSE
        self.bench = Bench(configuration(*RULES, names=self.mode, default=default))
        self.given: dict[str, set[str]] = {}
        """Name -> the addresses that servers gave it."""
        self.port = 1024
        self.sent = 0

    @initialize()
    def begin(self) -> None:
        for name in NAMES[:3]:
            self.bench.ask(name)

    @rule(name=st.sampled_from(NAMES), type_=st.sampled_from(TYPES), edns=st.sampled_from([-1, 0]))
    def ask(self, name: str, type_: str, edns: int) -> None:
        self.port += 1
        self.bench.ask(name, type_, port=self.port, use_edns=edns)

    @rule(data=st.binary(max_size=60))
    def ask_anything(self, data: bytes) -> None:
        self.bench.ask_bytes(data)

    @rule(
        data=st.data(),
        found=st.lists(st.tuples(st.sampled_from(NAMES), addresses, st.sampled_from([0, 60, 100_000])), max_size=4),
        chain=st.lists(st.sampled_from(NAMES), max_size=3),
        rcode=st.sampled_from([0, 0, 0, 2, 3, 5]),
        wrong=st.sampled_from(["", "", "", "source", "identifier", "truncated"]),
    )
    def answer(
        self, data: st.DataObject, found: list[tuple[str, str, int]], chain: list[str], rcode: int, wrong: str
    ) -> None:
        bench = self.bench
        questions = self.questions()
        if not questions:
            return
        order = data.draw(st.sampled_from(questions))
        asked = str(dns.message.from_wire(bytes(order.data)).question[0].name)
        owners = [asked, *(f"{name}." for name in chain)]
        records = [f"{one} 60 IN CNAME {two}" for one, two in pairwise(owners)]
        records += [f"{name}. {ttl} IN {'AAAA' if ':' in address else 'A'} {address}" for name, address, ttl in found]
        records += [f"{owners[-1]} 60 IN {'AAAA' if ':' in address else 'A'} {address}" for _, address, _ in found]
        if not wrong:
            mine = self.given.setdefault(asked.rstrip(".").lower(), set())
            mine.update(format(parse(address)) for _, address, _ in found)
        source = Endpoint(parse("8.8.8.8"), 53) if wrong == "source" else None
        identifier = int.from_bytes(order.data[:2], "big") ^ 1 if wrong == "identifier" else None
        flags = dns.flags.TC if wrong == "truncated" else 0
        bench.reply(order, *records, rcode=rcode, source=source, identifier=identifier, flags=flags)

    @rule(data=st.data(), content=st.binary(max_size=80))
    def answer_anything(self, data: st.DataObject, content: bytes) -> None:
        questions = self.questions()
        if questions:
            order = data.draw(st.sampled_from(questions))
            self.bench.deliver(order, bytes(order.data[:2]) + b"\x81\x80" + content)

    @rule(address=addresses, port=st.sampled_from([443, 5432, 53, 853, 80]))
    def connect(self, address: str, port: int) -> None:
        self.port += 1
        if ":" not in address:
            self.bench.send(Segment(GUEST, self.port, parse(address), port, 1000, 0, SYN, 65535, b"", mss=1460).ip())

    @rule(address=addresses, port=st.sampled_from([443, 5432, 53, 853, 5353]))
    def send(self, address: str, port: int) -> None:
        self.port += 1
        if ":" not in address:
            self.bench.send(udp(GUEST, self.port, parse(address), port, b"data"))

    @rule(seconds=st.sampled_from([0.3, 5.0, 70.0]))
    def wait(self, seconds: float) -> None:
        self.bench.wait(seconds)

    @invariant()
    def nothing_leaves_that_is_closed(self) -> None:
        bench = self.bench
        bench.answers()
        for order in bench.asked:
            if order.remote in SERVERS:
                query = dns.message.from_wire(bytes(order.data)).question[0]
                assert may_be_asked(str(query.name))
                assert dns.rdatatype.to_text(query.rdtype) != "NULL"
            else:
                self.check(order.remote, None)
        bench.asked = self.questions()
        for other in bench.take():
            assert not isinstance(other, OpenEcho)
            if isinstance(other, OpenStream) and other.remote not in SERVERS:
                assert other.name is not None
                assert may_be_asked(other.name)
                self.check(other.remote, other.name)
        assert bench.network.statistics().flows["name_questions"] <= Limits().name_questions

    def questions(self) -> list[SendDatagram]:
        """The questions at the name servers."""
        self.bench.sort()
        return [order for order in self.bench.asked if order.remote in SERVERS]

    def check(self, remote: Endpoint, name: str | None) -> None:
        """Check that an endpoint is one that a server gave an allowed name."""
        names = [name] if name is not None else [one for one in self.given if may_be_asked(one)]
        address = format(remote.address)
        assert any(address in self.given[one] for one in names)
        if remote.port == 443:
            assert address in (*PUBLIC, "8.8.8.8")
        else:
            assert remote.port == 5432
            assert address in ("10.1.2.3", "192.0.2.1", *LEASES)

    def teardown(self) -> None:
        self.bench.wait(400.0)
        self.bench.answers()
        assert self.bench.network.statistics().flows["name_questions"] == 0
        own = {order.socket for order in self.bench.opened if not order.local.port}
        assert own <= set(self.bench.closed)


class OwnNames(Names):
    """Names with addresses of their own."""

    mode = NameMode.OWN


class RealNames(Names):
    """Names with their real addresses."""

    mode = NameMode.REAL


class AskedNames(Names):
    """Names with addresses of their own, and a driver that is asked about all others, and never answers."""

    mode = NameMode.OWN
    ask_first = True


@pytest.mark.slow
@pytest.mark.parametrize("machine", [OwnNames, RealNames, AskedNames])
def test_nothing_leaves_that_the_rules_close(machine: type[Names]) -> None:
    run_state_machine_as_test(machine, settings=settings(max_examples=25, stateful_step_count=30))
