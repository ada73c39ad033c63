"""Memory and traffic that a guest, or a name server, can cause."""

from __future__ import annotations

import pickle
import struct

import dns.message
import dns.rcode
import dns.rrset
import pytest

from sansnet_core import Limits, LinkConfig, Reason
from sansnet_core.addresses import parse
from sansnet_core.policy import Check, NameMode
from sansnet_core.testing.packets import udp
from tests.core.direct import GUEST
from tests.core.resolver.bench import DNS4, Bench, allow, configuration
from tests.fuzz.cost import lines_of

ALLOWED = allow("*.example.org")


def test_questions_under_way_are_bounded() -> None:
    bench = Bench(configuration(ALLOWED, limits=Limits(name_questions=10)))
    answers = [bench.ask(f"n{n}.example.org", port=5000 + n) for n in range(20)]
    assert [len(each) for each in answers].count(0) <= 10
    assert {int(answer.rcode()) for each in answers for answer in each} == {2}
    assert len(bench.asked) <= 10
    assert bench.drops()[Reason.NAME_LIMIT] >= 10
    bench.wait(60)
    assert len(bench.answers()) == [len(each) for each in answers].count(0)


def test_questions_per_second_are_bounded() -> None:
    """A wildcard of the rules is no way to flood the host's name servers."""
    bench = Bench(configuration(ALLOWED, resolver={"families": (4,)}, limits=Limits(name_rate=10, name_burst=20)))
    for n in range(1000):
        bench.ask(f"n{n}.example.org")
        bench.wait(0.01)
        if bench.asked:
            bench.reply(bench.asked[0], rcode=3)
    assert 20 <= len(bench.opened) <= 20 + 10 * 10 + 1


@pytest.mark.parametrize("counts", [(91, 0), (1, 90)], ids=["questions", "records"])
def test_a_query_with_many_compressed_names_costs_little(counts: tuple[int, int]) -> None:
    bench = Bench(configuration(ALLOWED))
    head = struct.pack("!HHHHHH", 1, 0x0100, counts[0], 0, 0, counts[1]) + b"\1a" * 126 + bytes((0, 0, 1, 0, 1))
    more = b"\xc0\x0c\0\1\0\1" + (bytes(6) if counts[1] else b"")
    (answer,) = bench.ask_bytes(head + more * 90)
    assert answer.rcode() == dns.rcode.FORMERR
    plain = dns.message.make_query("a.example.net", "A").to_wire()
    assert lines_of(lambda: bench.ask_bytes(head + more * 90)) < 2 * lines_of(lambda: bench.ask_bytes(plain))


def test_a_frame_has_as_many_queries_as_it_may_have_datagrams() -> None:
    """A run of tiny datagrams (USO) would else be thousands of queries, each with an answer."""
    link = LinkConfig(mtu=1500, max_frame_size=65535, vnet_header=True, checksum_offload=True, uso=True)
    bench = Bench(configuration(ALLOWED, link=link))
    head = struct.pack("<BBHHHHH", 1, 5, 42, 12, 34, 6, 0)
    queries = [struct.pack("!HHHHHH", number, 0x0100, 0, 0, 0, 0) for number in range(129)]
    bench.send(udp(GUEST, 4000, DNS4, 53, b"".join(queries)), head=head)
    assert bench.drops() == {Reason.VNET_HEADER: 1}
    assert not bench.answers()
    bench.send(udp(GUEST, 4000, DNS4, 53, b"".join(queries[:128])), head=head)
    assert [answer.id for answer in bench.answers()] == list(range(128))


def test_an_address_of_many_names_costs_little() -> None:
    """Each new flow to it is judged by its names, until one is allowed."""
    config = configuration(
        allow("*.example.org", ports=(443,), check=Check.NONE),
        names=NameMode.REAL,
        resolver={"families": (4,)},
        limits=Limits(names=200),
    )
    bench = Bench(config)
    address = parse("93.184.216.7")
    names = [f"n{n}.example.org" for n in range(150)]
    lines: list[int] = []
    for name in names:
        bench.ask(name)
        bench.reply(bench.asked[0], f"{name}. 3600 IN A 93.184.216.7")
        lines.append(lines_of(lambda: bench.send(udp(GUEST, 4000 + len(lines), address, 25, b"x"))))
    assert lines[-1] < 1.1 * lines[80]
    bench.send(udp(GUEST, 3999, address, 443, b"x"))
    assert bench.network.flows()[-1].name == names[-1]


def test_a_burst_of_many_names_is_answered() -> None:
    """A browser or a crawler asks for two hundred names at once, each for both families."""
    bench = Bench(configuration(ALLOWED))
    names = [f"n{n}.example.org" for n in range(600)]
    for start in range(0, 600, 200):
        some = names[start : start + 200]
        answers = [bench.ask(name, type_) for name in some for type_ in ("A", "AAAA")]
        assert not any(answers), "none has failed"
        bench.reply_all({(f"{name}.", "A"): (f"{name}. 60 IN A 93.184.216.7",) for name in some})
    assert Reason.NAME_LIMIT not in bench.drops()


def test_the_cache_is_bounded_in_bytes() -> None:
    bench = Bench(configuration(ALLOWED, limits=Limits(name_cache=100_000, name_rate=1e9, name_burst=10**9)))
    text = " ".join(f'"{n}{"x" * 250}"' for n in range(40))
    for n in range(50):
        bench.ask(f"n{n}.example.org", "TXT")
        response = dns.message.make_response(dns.message.from_wire(bytes(bench.asked[0].data)))
        response.answer.append(dns.rrset.from_text(f"n{n}.example.org.", 3600, "IN", "TXT", text))
        bench.deliver(bench.asked[0], response.to_wire(max_size=65535))
    assert bench.network._protocols.resolver is not None
    assert bench.network._protocols.resolver._lookups.held <= 100_000
    assert len(pickle.dumps(bench.network)) < 400_000
    assert bench.ask("n49.example.org", "TXT") != [], "the latest is kept"
    assert bench.ask("n0.example.org", "TXT") == [], "the oldest is not"


def test_names_with_own_addresses_are_bounded() -> None:
    bench = Bench(configuration(ALLOWED, limits=Limits(names=100, name_rate=1e9, name_burst=10**9)))
    for n in range(300):
        bench.look_up(f"n{n}.example.org", {(f"n{n}.example.org.", "A"): (f"n{n}.example.org. 60 IN A 93.184.216.1",)})
    assert bench.network.statistics().flows["names"] == 100


def test_real_addresses_that_stand_for_names_are_bounded() -> None:
    limits = Limits(names=100, name_rate=1e9, name_burst=10**9)
    bench = Bench(configuration(ALLOWED, names=NameMode.REAL, limits=limits))
    addresses = [bytes((93, 184, 216 + n % 2, n // 2)) for n in range(300)]
    for n, address in enumerate(addresses):
        record = f"n{n}.example.org. 60 IN A {'.'.join(map(str, address))}"
        bench.look_up(f"n{n}.example.org", {(f"n{n}.example.org.", "A"): (record,)})
    bindings = bench.network._context.bindings
    assert bindings is not None
    assert [len(bindings.names(address)) for address in addresses] == [0] * 200 + [1] * 100


def test_a_network_with_questions_under_way_can_be_copied() -> None:
    bench = Bench(configuration(ALLOWED))
    bench.ask("www.example.org")
    other = pickle.loads(pickle.dumps(bench.network))
    other.handle_deadline(bench.now + 5.0)
    assert other.take_orders() != []
    assert len(bench.asked) == 2


def test_names_that_wait_are_bounded_by_the_same_limit() -> None:
    """Many names that lead to one question."""
    bench = Bench(configuration(ALLOWED, names=NameMode.REAL, limits=Limits(name_questions=3)))
    assert [bench.ask("www.example.org", port=5000 + n) == [] for n in range(3)] == [True] * 3
    (answer,) = bench.ask("www.example.org", port=6000)
    assert (answer.rcode(), bench.drops()) == (2, {Reason.NAME_LIMIT: 1})


def test_without_a_free_own_address_the_question_fails() -> None:
    bench = Bench(configuration(ALLOWED, limits=Limits(names=1)))
    zone = {(f"{one}.example.org.", "A"): (f"{one}.example.org. 60 IN A 93.184.216.1",) for one in "ab"}
    lease = bench.look_up("a.example.org", zone).answer[0][0].address
    bench.send(udp(GUEST, 4000, parse(lease), 9000, b"keeps its address while it is open"))
    bench.take()
    assert bench.look_up("b.example.org", zone).rcode() == 2
    assert bench.drops() == {Reason.NAME_LIMIT: 1}
