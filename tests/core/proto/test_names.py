"""DNS queries that are answered here, and queries that are forwarded."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sansnet_core.addresses import parse
from sansnet_core.config import Limits, LinkConfig, NetworkConfig
from sansnet_core.errors import ConfigError
from sansnet_core.notices import NameAsked, Notice
from sansnet_core.orders import Endpoint, SendDatagram
from sansnet_core.proto.names import Names
from sansnet_core.proto.udp.handler import Udp
from sansnet_core.testing.packets import Ip, udp
from tests.core.proto.bare import GUEST4, GUEST6, REMOTE4, Bare, config, header

DNS4, DNS6 = parse("10.0.2.3"), parse("2001:db8:2::3")
STUB = Endpoint(parse("127.0.0.53"), 53)
HOST4, HOST6 = parse("10.0.2.4"), parse("2001:db8:2::4")
HOSTS = (("host.example", (HOST4, HOST6)), ("four.example", (HOST4,)), ("nothing.example", ()))
CONFIG = config(dns_forward=((DNS4, STUB),), dns_servers=(DNS6,), hosts=HOSTS)


class Bench(Bare):
    """A UDP translator that answers names, on a context."""

    def __init__(self, configuration: NetworkConfig = CONFIG) -> None:
        super().__init__(configuration)
        self.udp = Udp(self.context, self.icmp_errors, self.sought.append, {}, Names(self.context).answer)

    def receive(self, packet: Ip) -> None:
        self.udp.receive(*header(packet))

    def forwarded(self) -> list[bytes]:
        """The datagrams of orders since the last call."""
        return [bytes(order.data) for order in self.orders() if isinstance(order, SendDatagram)]

    def told(self) -> list[NameAsked]:
        """Names of notices since the last call."""
        notices: list[Notice] = self.notices()
        return [notice for notice in notices if isinstance(notice, NameAsked)]


def question(name: str = "host.example", type_: int = 1) -> bytes:
    labels = b"".join(bytes((len(label),)) + label.encode() for label in name.split("."))
    return struct.pack("!6H", 7, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!HH", type_, 1)


def asked(data: bytes, *, server: bytes = DNS4, port: int = 53) -> Ip:
    return udp(GUEST4 if len(server) == 4 else GUEST6, 4000, server, port, data)


def addresses(answer: bytes) -> list[bytes]:
    """The addresses in the records of an answer."""
    identifier, flags, questions, answers, *_ = struct.unpack_from("!6H", answer)
    assert (identifier, flags, questions) == (7, 0x8580, 1)
    position = answer.index(b"\0", 12) + 5
    found = []
    for _ in range(answers):
        (size,) = struct.unpack_from("!H", answer, position + 10)
        found.append(answer[position + 12 : position + 12 + size])
        position += 12 + size
    assert position == len(answer)
    return found


@pytest.mark.parametrize("server", [DNS4, DNS6], ids=["forwarded", "told"])
@pytest.mark.parametrize(
    ("name", "type_", "expected"),
    [
        ("host.example", 1, [HOST4]),
        ("host.example", 28, [HOST6]),
        ("host.example", 255, [HOST4]),
        ("host.example", 15, []),
        ("host.example", 65, []),
        ("HOST.Example", 1, [HOST4]),
        ("four.example", 28, []),
    ],
)
def test_a_name_is_answered_as_by_the_server(server: bytes, name: str, type_: int, expected: list[bytes]) -> None:
    bench = Bench()
    bench.receive(asked(question(name, type_), server=server))
    (packet,) = bench.packets()
    assert (packet.source, packet.destination) == (server, GUEST4 if len(server) == 4 else GUEST6)
    assert struct.unpack_from("!HH", packet.payload) == (53, 4000)
    assert addresses(packet.payload[8:]) == expected
    assert bench.orders() == []
    assert bench.told() == [NameAsked(name.lower(), answered=True, time=100.0)]
    assert bench.drops() == {}


@pytest.mark.parametrize(
    "data",
    [
        question("www.host.example"),
        question("example"),
        question("host.example.net"),
        question("host\0example"),
        question() + b"\0",
        question()[:-1],
        b"hello",
        b"",
    ],
)
def test_everything_else_passes_untouched(data: bytes) -> None:
    bench = Bench()
    bench.receive(asked(data))
    assert (bench.forwarded(), bench.packets(), bench.told()) == ([data], [], [])


@pytest.mark.parametrize(("server", "port"), [(REMOTE4, 53), (DNS4, 853), (DNS6, 5353)])
def test_a_query_to_another_server_or_port_passes(server: bytes, port: int) -> None:
    bench = Bench()
    bench.receive(asked(question(), server=server, port=port))
    assert (bench.forwarded(), bench.packets(), bench.told()) == ([question()], [], [])


def test_a_name_without_addresses_is_noticed_and_passes() -> None:
    bench = Bench()
    bench.receive(asked(question("nothing.example")))
    assert (bench.forwarded(), bench.packets()) == ([question("nothing.example")], [])
    assert bench.told() == [NameAsked("nothing.example", answered=False, time=100.0)]


def test_queries_for_both_families_and_for_other_names_come_from_one_socket() -> None:
    bench = Bench()
    for data in (question("www.example"), question(), question(type_=28), question("www.example", 28)):
        bench.receive(asked(data))
    assert bench.forwarded() == [question("www.example"), question("www.example", 28)]
    assert [addresses(packet.payload[8:]) for packet in bench.packets()] == [[HOST4], [HOST6]]


def test_another_configuration_is_followed() -> None:
    bench = Bench()
    bench.context.config = config(dns_servers=(REMOTE4,), hosts=(("other.example", (HOST4,)),))
    bench.receive(asked(question("other.example"), server=REMOTE4))
    assert len(bench.packets()) == 1
    bench.receive(asked(question("host.example")))
    assert bench.forwarded() == [question("host.example")]


def test_names_are_answered_where_udp_is_switched_off() -> None:
    bench = Bench(config(dns_servers=(DNS4,), hosts=HOSTS, udp=False))
    bench.receive(asked(question()))
    assert len(bench.packets()) == 1


def test_a_query_with_a_ttl_of_one_is_answered() -> None:
    bench = Bench()
    bench.receive(replace(asked(question()), ttl=1))
    assert len(bench.packets()) == 1


def test_an_offloaded_run_is_no_query() -> None:
    bench = Bench(config(link=LinkConfig(vnet_header=True), dns_forward=((DNS4, STUB),), hosts=HOSTS))
    bench.context.gso_size = 10
    bench.receive(asked(question()))
    assert (bench.forwarded(), bench.packets()) == ([question()], [])


def test_answers_take_no_flows() -> None:
    bench = Bench(config(dns_forward=((DNS4, STUB),), hosts=HOSTS, limits=Limits(udp_flows=1)))
    for _ in range(100):
        bench.receive(asked(question()))
    assert bench.udp.statistics() == {"udp_flows": 0, "udp_sockets": 0}
    assert len(bench.packets()) == 100


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 255)), max_size=4))
def test_a_query_that_was_changed_is_answered_or_forwarded(changes: list[tuple[int, int]]) -> None:
    data = bytearray(question() + b"\0\0\x29\x04\xd0\0\0\0\0\0\0")
    data[11] = 1
    for position, value in changes:
        data[position % len(data)] = value
    bench = Bench()
    bench.receive(asked(bytes(data)))
    assert len(bench.packets()) + len(bench.forwarded()) == 1


@pytest.mark.parametrize(
    ("hosts", "problem"),
    [
        ((("a..b", (HOST4,)),), "is not a domain name"),
        ((("a", (HOST4,)), ("A.", (HOST6,))), "twice"),
        ((("a", (HOST4,) * 9),), "up to 8"),
        ((("a", (b"\1",)),), "has 1 bytes"),
    ],
)
def test_wrong_names_are_refused(hosts: tuple[tuple[str, tuple[bytes, ...]], ...], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        config(hosts=hosts)
