"""Questions over TCP: in any pieces, several on one connection, and no memory without bound."""

from __future__ import annotations

import copy
import pickle
import struct

import dns.message
import pytest

from sansnet_core import (
    CloseSocket,
    FlowClosed,
    FlowOpened,
    FlowRefused,
    Limits,
    LinkConfig,
    OpenDatagram,
    Reason,
    SendDatagram,
)
from sansnet_core.records import replace
from sansnet_core.testing import GuestConnection, ManualConnection, Pair
from sansnet_core.testing.packets import ACK, FIN, PSH, RST, SYN
from tests.core.resolver.bench import DNS4, DNS6, allow, configuration
from tests.sim.memory import Memory

CONFIG = configuration(allow("*.example.org"), hosts=(("a.example.org", ("93.184.216.1",)),))


def pair(limits: Limits | None = None) -> Pair:
    return Pair(replace(CONFIG, limits=limits or Limits()))


def query(name: str = "a.example.org", identifier: int = 1) -> bytes:
    """A query behind its length."""
    data = dns.message.make_query(name, "A", id=identifier).to_wire()
    return len(data).to_bytes(2, "big") + data


def messages(data: bytes) -> list[dns.message.Message]:
    """The messages of a stream, which must be whole."""
    found = []
    while data:
        size = int.from_bytes(data[:2], "big")
        assert len(data) >= 2 + size
        found.append(dns.message.from_wire(data[2 : 2 + size]))
        data = data[2 + size :]
    return found


def connect(made: Pair, server: bytes = DNS4) -> GuestConnection:
    connection = made.guest.connect((server, 53), now=made.now)
    made.settle()
    made.wait(0.1)
    return connection


def answered(made: Pair, connection: GuestConnection) -> list[dns.message.Message]:
    made.wait(1)
    return messages(bytes(connection.received))


@pytest.mark.parametrize("server", [DNS4, DNS6], ids=["ipv4", "ipv6"])
def test_a_question_over_tcp_is_answered_without_a_socket_of_the_host(server: bytes) -> None:
    made = pair()
    connection = connect(made, server)
    connection.send(query())
    (answer,) = answered(made, connection)
    assert [rrset.to_text() for rrset in answer.answer] == ["a.example.org. 0 IN A 93.184.216.1"]
    assert made.host.orders == []
    kinds = (FlowOpened, FlowClosed, FlowRefused)
    assert not any(isinstance(notice, kinds) for notice in made.notices)


@pytest.mark.parametrize("cut", range(1, len(query()) + 3))
def test_questions_may_be_split_at_every_byte(cut: int) -> None:
    made = pair()
    connection = ManualConnection(made, remote=(DNS4, 53))
    connection.open()
    data = query(identifier=1) + query("no.example.net", 2)
    received = connection.accept(connection.data(data[:cut]))
    received += connection.accept(connection.data(data[cut:]))
    made.wait(0.1)
    received += connection.accept([segment for segment in connection.take() if segment.sequence == connection.expected])
    assert [(answer.id, int(answer.rcode())) for answer in messages(received)] == [(1, 0), (2, 5)]


def test_questions_byte_by_byte() -> None:
    made = pair()
    connection = connect(made)
    for byte in query():
        connection.send(bytes((byte,)))
        made.wait(0.01)
    assert len(answered(made, connection)) == 1


def test_many_questions_in_a_row_are_all_answered() -> None:
    made = pair()
    connection = connect(made)
    connection.send(b"".join(query(identifier=n) for n in range(3000)))
    made.wait(5)
    assert [answer.id for answer in answered(made, connection)] == list(range(3000))
    assert made.network.statistics().tcp_held == 0


def test_questions_that_wait_are_bounded_and_answered_in_any_order() -> None:
    made = pair()
    connection = connect(made)
    connection.send(b"".join(query(f"n{n}.example.org", n) for n in range(20)) + query(identifier=99))
    made.wait(1)
    assert made.network.statistics().flows["name_questions"] == 8
    asked = [order for order in made.host.orders if isinstance(order, SendDatagram)]
    assert len(asked) == 16, "two families"
    for order in asked[:2]:
        response = dns.message.make_response(dns.message.from_wire(bytes(order.data)))
        made.host.datagram(order.socket, order.remote, response.to_wire(max_size=65535), made.now)
    made.settle()
    made.wait(1)
    assert [answer.id for answer in messages(bytes(connection.received))] == [0]
    assert made.network.statistics().flows["name_questions"] == 8


def test_a_guest_that_reads_no_answers_cannot_fill_the_memory() -> None:
    """Its questions are not read beyond a bound, so that the window towards it closes."""
    made = pair(Limits(tcp_window=100_000))
    connection = ManualConnection(made, remote=(DNS4, 53))
    connection.window = 0
    connection.open()
    questions = query() * 40
    for _ in range(500):
        connection.data(questions)
    statistics = made.network.statistics()
    assert statistics.tcp_held < 200_000
    assert statistics.drops[Reason.TCP_SEQUENCE] > 300, "beyond the window"
    assert len(pickle.dumps(made.network)) < 400_000


def test_the_end_of_the_guest_is_answered_by_our_end() -> None:
    made = pair()
    connection = connect(made)
    connection.send(query())
    connection.shutdown()
    assert len(answered(made, connection)) == 1
    made.wait(10)
    assert made.network.statistics().flows["tcp_flows"] == 0
    assert made.network.statistics().flows["name_streams"] == 0


def test_an_end_in_a_question_ends_the_connection() -> None:
    made = pair()
    connection = connect(made)
    connection.send(query()[:-3])
    connection.shutdown()
    made.wait(10)
    assert made.network.statistics().flows["name_streams"] == 0
    assert made.network.statistics().flows["tcp_flows"] == 0


def test_an_idle_connection_is_ended_and_then_reset() -> None:
    made = pair()
    connection = ManualConnection(made, remote=(DNS4, 53))
    connection.open()
    made.wait(21)
    end = connection.take()[0]
    assert end.flags & FIN
    connection.expected += 1
    connection.send()
    made.wait(21)
    (reset,) = connection.take()
    assert reset.flags & RST
    assert made.network.statistics().flows["name_streams"] == 0
    made.wait(200)
    assert made.network.statistics().flows["tcp_flows"] == 0


def test_a_reset_of_the_guest_frees_the_connection() -> None:
    made = pair()
    connection = ManualConnection(made, remote=(DNS4, 53))
    connection.open()
    connection.data(query("slow.example.org"))
    connection.send(RST)
    assert made.network.statistics().flows["name_streams"] == 0
    assert made.host.orders
    assert all(isinstance(order, OpenDatagram | SendDatagram) for order in made.host.orders)
    made.wait(120)
    assert made.network.statistics().flows["name_questions"] == 0
    assert sum(isinstance(order, CloseSocket) for order in made.host.orders) == 8


def test_too_many_connections_reset_the_oldest() -> None:
    made = pair(Limits(name_streams=4))
    connections = [ManualConnection(made, port=50000 + n, remote=(DNS4, 53)) for n in range(6)]
    for connection in connections:
        connection.open()
    assert [bool(connection.take()) for connection in connections] == [True, True, False, False, False, False]
    assert made.network.statistics().flows["name_streams"] == 4
    assert made.network.statistics().flows["tcp_flows"] == 4
    assert len(messages(connections[5].accept(connections[5].data(query())))) == 1


@pytest.mark.parametrize("message", [b"\0\0", b"\0\1x", struct.pack("!H", 12) + bytes(12), b"\xff\xff" + bytes(65535)])
def test_messages_that_are_no_query_do_not_end_the_connection(message: bytes) -> None:
    made = pair()
    connection = connect(made)
    connection.send(message + query(identifier=9))
    made.wait(5)
    assert answered(made, connection)[-1].id == 9


@pytest.mark.parametrize("buffer", [10_000, 1 << 20])
def test_large_answers_over_tcp_are_whole(buffer: int) -> None:
    """Also those that are larger than what TCP takes at once."""
    limits = Limits(tcp_send_buffer=buffer)
    made = Pair(configuration(allow("*.example.org"), resolver={"families": (4,)}, limits=limits))
    connection = connect(made)
    data = dns.message.make_query("big.example.org", "TXT", id=5).to_wire()
    connection.send(len(data).to_bytes(2, "big") + data)
    made.wait(1)
    (order,) = [order for order in made.host.orders if isinstance(order, SendDatagram)]
    response = dns.message.make_response(dns.message.from_wire(bytes(order.data)))
    text = " ".join(f'"{n:03}{"x" * 252}"' for n in range(200))
    response.answer.append(dns.rrset.from_text("big.example.org.", 60, "IN", "TXT", text))
    made.host.datagram(order.socket, order.remote, response.to_wire(max_size=65535), made.now)
    made.settle()
    (answer,) = answered(made, connection)
    assert answer.answer == response.answer


def test_orders_for_a_connection_that_was_reset_reach_no_driver() -> None:
    """It was reset for another one that came in the same batch as its question."""
    made = pair(Limits(name_streams=1))
    old, new = (ManualConnection(made, port=port, remote=(DNS4, 53)) for port in (50000, 50001))
    old.open()
    made.guest.send(old.segment(ACK | PSH, query()).ip())
    made.guest.send(new.segment(SYN, mss=1460).ip())
    made.settle()
    assert [segment.flags & RST for segment in old.take()][-1:] == [RST]
    assert made.host.orders == []
    assert made.network.statistics().flows["name_streams"] == 1


def test_a_connection_survives_new_rules_and_other_servers() -> None:
    made = pair()
    connection = connect(made)
    connection.send(query(identifier=1))
    made.wait(1)
    made.network.reconfigure(replace(CONFIG, rules=(allow("*.example.net"),), dns_servers=("10.0.2.4",)), made.now)
    made.settle()
    connection.send(query(identifier=2) + query("a.example.org", 3))
    answers = answered(made, connection)
    assert [(answer.id, int(answer.rcode())) for answer in answers] == [(1, 0), (2, 5), (3, 5)]


def test_a_connection_of_a_copied_network_goes_on() -> None:
    made = pair()
    connection = ManualConnection(made, remote=(DNS4, 53))
    connection.open()
    connection.data(query()[:9])
    made.network = copy.deepcopy(made.network)
    made.host._network = made.network
    (answer,) = messages(connection.accept(connection.data(query()[9:])))
    assert len(answer.answer) == 1


@pytest.mark.parametrize("message", [b"", bytes(12)], ids=["empty", "malformed"])
def test_a_frame_with_thousands_of_messages_is_read_in_parts(message: bytes) -> None:
    """All else need not wait for them, and none is lost."""
    made = Pair(replace(CONFIG, link=LinkConfig(mtu=65520, max_frame_size=65535)))
    connection = ManualConnection(made, remote=(DNS4, 53))
    connection.open(mss=65000, scale=7)
    framed = len(message).to_bytes(2, "big") + message
    count = 60_000 // len(framed)
    connection.data(framed * count)
    assert 0 < made.network.statistics().drops[Reason.DNS_MALFORMED] <= 32
    made.wait(1.5)
    assert made.network.statistics().drops[Reason.DNS_MALFORMED] == count


def test_small_pieces_that_wait_cost_what_is_counted() -> None:
    """Questions in pieces of two bytes, which are not read while others wait for their answers."""
    made = pair()
    connection = ManualConnection(made, remote=(DNS4, 53))
    connection.open(scale=7)
    for number in range(8):
        connection.data(query(f"n{number}.example.org", number))
    with Memory() as memory:
        for _ in range(10_000):
            made.guest.send(connection.segment(payload=b"ab", flags=ACK | PSH).ip())
            connection.sequence += 2
            made.network.receive_frames(made.guest.take_frames(), made.now)
            made.network.take_orders()
            made.network.take_frames()
    assert memory.held < 60_000, f"{memory.held} bytes for 20,000 counted"
