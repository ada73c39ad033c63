"""Questions to the host's name servers: lost and forged datagrams, slow servers, truncation, failures."""

from __future__ import annotations

import struct
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import pytest

from sansnet_core import CloseSocket, Endpoint, ExtendedError, OpenStream, Reason, SendStream
from sansnet_core.addresses import parse
from sansnet_core.records import replace
from tests.core.resolver.bench import SERVERS, Bench, allow, configuration

NAME = "www.example.org"
RECORD = "www.example.org. 60 IN A 93.184.216.7"
SERVFAIL, REFUSED, FORMERR = dns.rcode.SERVFAIL, dns.rcode.REFUSED, dns.rcode.FORMERR


def bench() -> Bench:
    """A bench whose names have IPv4 addresses only, so that a name is one question."""
    return Bench(configuration(allow("*.example.org"), resolver={"families": (4,)}))


def asked(made: Bench) -> list[Endpoint]:
    """The servers that are asked now."""
    made.sort()
    return [order.remote for order in made.asked]


def succeeded(answers: list[dns.message.Message]) -> bool:
    (answer,) = answers
    return answer.rcode() == 0 and len(answer.answer) == 1


def test_servers_are_asked_in_order_twice_and_then_the_name_fails() -> None:
    made = bench()
    assert made.ask(NAME) == []
    for server in SERVERS * 2:
        assert asked(made) == [server]
        made.wait(5.0)
    (answer,) = made.answers()
    assert answer.rcode() == SERVFAIL
    assert asked(made) == []
    assert len(made.opened) == len(made.closed) == 4
    assert len({order.socket for order in made.opened}) == 4
    made.wait(60)
    assert made.network.next_deadline() is None


def test_each_try_has_another_identifier() -> None:
    made = bench()
    made.ask(NAME)
    seen = set()
    for _ in range(4):
        made.sort()
        seen.add(bytes(made.asked[0].data[:2]))
        made.wait(5.0)
    assert len(seen) == 4


def test_a_lost_answer_is_made_up_for_by_the_next_server() -> None:
    made = bench()
    made.ask(NAME)
    made.wait(5.0)
    assert asked(made) == [SERVERS[1]]
    assert succeeded(made.reply(made.asked[0], RECORD))


def first_asked(made: Bench, name: str) -> Endpoint:
    """The server that is asked first for a name, which answers."""
    made.ask(name)
    (server,) = asked(made)
    assert succeeded(made.reply(made.asked[0], f"{name}. 60 IN A 93.184.216.7"))
    return server


def test_a_silent_server_is_asked_last_for_a_minute() -> None:
    """Otherwise each name would cost the guest 5 s as long as the first server is down."""
    made = bench()
    made.ask("first.example.org")
    made.wait(5.0)
    made.sort()
    made.reply(made.asked[0], "first.example.org. 60 IN A 93.184.216.7")
    for number in range(5):
        assert first_asked(made, f"name{number}.example.org") == SERVERS[1]
        made.wait(10.0)
    made.wait(11.0)
    assert first_asked(made, "last.example.org") == SERVERS[0]


def test_a_silent_server_that_answers_is_the_first_again() -> None:
    made = bench()
    made.ask("first.example.org")
    for _ in SERVERS:
        made.wait(5.0)
    assert asked(made) == [SERVERS[0]]
    made.reply(made.asked[0], rcode=SERVFAIL)
    made.sort()
    made.reply(made.asked[0], "first.example.org. 60 IN A 93.184.216.7")
    assert first_asked(made, "second.example.org") == SERVERS[0]


def test_if_all_servers_are_silent_their_order_stays() -> None:
    made = bench()
    made.ask("first.example.org")
    for _ in SERVERS * 2:
        made.wait(5.0)
    assert first_asked(made, "second.example.org") == SERVERS[0]


def test_a_server_that_answers_no_connections_is_not_silent() -> None:
    made = bench()
    made.ask("first.example.org")
    made.sort()
    made.reply(made.asked[0], flags=dns.flags.TC)
    made.wait(5.0)
    made.sort()
    made.reply(made.asked[0], "first.example.org. 60 IN A 93.184.216.7")
    assert first_asked(made, "second.example.org") == SERVERS[0]


def test_a_late_answer_of_the_first_server_is_not_taken() -> None:
    made = bench()
    made.ask(NAME)
    made.sort()
    first = made.asked[0]
    made.wait(5.0)
    assert made.reply(first, RECORD) == []
    assert asked(made) == [SERVERS[1]]


@pytest.mark.parametrize(
    "forged",
    [
        {"identifier": 0x10000},
        {"source": Endpoint(parse("192.0.2.66"), 53)},
        {"source": Endpoint(SERVERS[0].address, 54)},
        {"question": "other.example.org"},
    ],
    ids=str,
)
def test_a_forged_answer_is_ignored_and_counted(forged: dict[str, Any]) -> None:
    made = bench()
    made.ask(NAME)
    made.sort()
    order = made.asked[0]
    if "identifier" in forged:
        forged = {"identifier": struct.unpack("!H", order.data[:2])[0] ^ 1}
    assert made.reply(order, "www.example.org. 60 IN A 93.184.216.66", **forged) == []
    assert made.drops() == {Reason.HOST_SOURCE: 1}
    assert made.deliver(order, b"") == []
    assert made.deliver(order, bytes(order.data)) == []  # a query, not a response
    assert succeeded(made.reply(order, RECORD))


def test_a_flood_of_guesses_ends_the_try() -> None:
    made = bench()
    made.ask(NAME)
    made.sort()
    for _ in range(64):
        made.deliver(made.asked[0], b"\0" * 12)
    assert asked(made) == [SERVERS[1]]


@pytest.mark.parametrize("rcode", [SERVFAIL, REFUSED, dns.rcode.NOTAUTH])
def test_a_server_that_fails_is_not_the_last_word(rcode: int) -> None:
    made = bench()
    made.ask(NAME)
    made.sort()
    assert made.reply(made.asked[0], rcode=rcode) == []
    assert asked(made) == [SERVERS[1]]
    assert succeeded(made.reply(made.asked[0], RECORD))


def test_a_server_without_edns_is_asked_again_without() -> None:
    made = bench()
    made.ask(NAME)
    made.sort()
    assert dns.message.from_wire(bytes(made.asked[0].data)).payload == 1232
    assert made.reply(made.asked[0], rcode=FORMERR) == []
    assert asked(made) == [SERVERS[0]]
    assert dns.message.from_wire(bytes(made.asked[0].data)).edns == -1
    assert succeeded(made.reply(made.asked[0], RECORD))


def test_a_name_that_does_not_exist_is_the_last_word() -> None:
    made = bench()
    made.ask(NAME)
    made.sort()
    (answer,) = made.reply(made.asked[0], rcode=dns.rcode.NXDOMAIN)
    assert answer.rcode() == dns.rcode.NXDOMAIN
    assert asked(made) == []


def test_a_server_that_cannot_be_reached_is_left_at_once() -> None:
    made = bench()
    made.ask(NAME)
    made.sort()
    error = ExtendedError(111, 2, 3, 3, 0, SERVERS[0].address)
    made.network.datagram_failed(made.asked[0].socket, SERVERS[0], error, b"", made.now)
    made.collect()
    assert asked(made) == [SERVERS[1]]


def truncated(made: Bench) -> OpenStream:
    """A truncated answer; the order to connect that follows."""
    made.ask(NAME)
    made.sort()
    assert made.reply(made.asked[0], flags=dns.flags.TC) == []
    made.sort()
    (order,) = made.orders
    made.orders = []
    assert isinstance(order, OpenStream)
    assert (order.remote, made.asked) == (SERVERS[0], [])
    return order


def connected(made: Bench, order: OpenStream) -> dns.message.Message:
    """The query on a stream that is connected now."""
    made.network.stream_connected(order.socket, made.now)
    made.collect()
    query = made.one(SendStream)
    data = bytes(query.data)
    assert int.from_bytes(data[:2], "big") == len(data) - 2
    return dns.message.from_wire(data[2:])


@pytest.mark.parametrize("size", [1, 2, 3, 7, 10_000])
def test_a_truncated_answer_is_asked_for_over_tcp_and_read_in_any_pieces(size: int) -> None:
    made = bench()
    order = truncated(made)
    query = connected(made, order)
    response = dns.message.make_response(query)
    response.answer.append(dns.rrset.from_text(f"{NAME}.", 60, "IN", "A", *(f"93.184.216.{n}" for n in range(60))))
    data = response.to_wire()
    data = len(data).to_bytes(2, "big") + data
    while data:
        budget = made.network.receive_budget(order.socket)
        assert 0 < budget <= len(data)
        piece = data[: min(size, budget)]
        data = data[len(piece) :]
        made.network.stream_received(order.socket, piece, made.now)
        made.collect()
    assert succeeded(made.answers())
    assert order.socket in made.closed
    made.wait(60)
    assert made.network.next_deadline() is None


@pytest.mark.parametrize("how", ["failed", "ended", "silent", "garbage"])
def test_a_stream_that_fails_leads_to_the_next_server(how: str) -> None:
    made = bench()
    order = truncated(made)
    connected(made, order)
    network = made.network
    if how == "failed":
        network.stream_failed(order.socket, 104, None, made.now)
    elif how == "ended":
        network.stream_ended(order.socket, made.now)
    elif how == "garbage":
        network.stream_received(order.socket, b"\0\0", made.now)
    else:
        made.wait(5.0)
    made.collect()
    assert asked(made) == [SERVERS[1]]
    closed = [each for each in made.closed if each == order.socket]
    assert closed == ([] if how == "failed" else [order.socket]), "a driver has closed a stream that failed"
    assert succeeded(made.reply(made.asked[0], RECORD))


def test_a_question_is_asked_once_however_often_the_guest_asks() -> None:
    made = bench()
    for port in range(4000, 4010):
        assert made.ask(NAME, port=port) == []
    assert len(asked(made)) == 1
    assert len(made.reply(made.asked[0], RECORD)) == 10


def test_a_repeated_datagram_of_the_guest_gets_one_answer() -> None:
    made = bench()
    query = dns.message.make_query(NAME, "A", id=77).to_wire()
    for _ in range(5):
        assert made.ask_bytes(query) == []
    made.sort()
    assert len(made.reply(made.asked[0], RECORD)) == 1


def test_a_failure_is_kept_for_a_short_time() -> None:
    made = bench()
    made.ask(NAME)
    made.wait(20)
    made.answers()
    assert [answer.rcode() for answer in made.ask(NAME)] == [SERVFAIL]
    made.wait(6)
    assert made.ask(NAME) == []
    assert asked(made) == [SERVERS[0]]


def test_other_servers_of_a_new_configuration_are_asked_at_once() -> None:
    made = bench()
    made.ask(NAME)
    other = Endpoint(parse("192.0.2.99"), 53)
    assert made.config.resolver is not None
    made.network.reconfigure(replace(made.config, resolver=replace(made.config.resolver, servers=(other,))), made.now)
    made.collect()
    assert asked(made) == [other]
    assert succeeded(made.reply(made.asked[0], RECORD))


def test_a_resolver_without_servers_fails_at_once() -> None:
    made = Bench(configuration(allow("*.example.org"), resolver={"servers": ()}))
    assert [answer.rcode() for answer in made.ask(NAME)] == [SERVFAIL]
    assert made.orders == []


def test_a_server_on_loopback_is_asked_from_loopback() -> None:
    stub = Endpoint(parse("127.0.0.53"), 53)
    made = Bench(configuration(allow("*.example.org"), resolver={"servers": (stub,), "families": (4,)}))
    made.ask(NAME)
    made.sort()
    assert made.opened[0].local == Endpoint(parse("127.0.0.1"), 0)
    assert succeeded(made.reply(made.asked[0], RECORD))


def test_all_sockets_are_closed_in_the_end() -> None:
    made = bench()
    for n in range(50):
        made.ask(f"n{n}.example.org", port=5000 + n)
    made.wait(60)
    made.answers()
    assert sorted(made.closed) == sorted(order.socket for order in made.opened)
    assert not any(isinstance(order, CloseSocket) for order in made.orders)


def test_a_server_that_repeats_no_question_may_say_that_it_knows_no_edns() -> None:
    made = bench()
    made.ask(NAME)
    made.sort()
    order = made.asked[0]
    identifier = bytes(order.data[:2])
    assert made.deliver(order, identifier + b"\x80\x01" + bytes(8)) == []  # FORMERR, and nothing else
    assert asked(made) == [SERVERS[0]]
    assert dns.message.from_wire(bytes(made.asked[0].data)).edns == -1
    assert succeeded(made.reply(made.asked[0], RECORD))


def test_an_answer_without_a_question_is_ignored() -> None:
    made = bench()
    made.ask(NAME)
    made.sort()
    order = made.asked[0]
    assert made.deliver(order, bytes(order.data[:2]) + b"\x80\x00" + bytes(8)) == []
    assert asked(made) == [SERVERS[0]]
    assert made.drops() == {Reason.HOST_SOURCE: 1}


def test_a_truncated_answer_over_tcp_leads_to_the_next_server() -> None:
    made = bench()
    order = truncated(made)
    response = dns.message.make_response(connected(made, order))
    response.flags |= dns.flags.TC
    data = response.to_wire()
    for piece in (len(data).to_bytes(2, "big"), data):
        made.network.stream_received(order.socket, piece, made.now)
        made.collect()
    assert made.answers() == []
    assert asked(made) == [SERVERS[1]]


def test_what_follows_the_answer_in_a_run_of_datagrams_is_ignored() -> None:
    made = bench()
    made.ask(NAME)
    made.sort()
    order = made.asked[0]
    response = dns.message.make_response(dns.message.from_wire(bytes(order.data)))
    response.answer.append(dns.rrset.from_text(f"{NAME}.", 60, "IN", "A", "93.184.216.7"))
    data = response.to_wire()
    made.network.datagram_received(order.socket, order.remote, data * 3, len(data), 64, 0, made.now)
    made.collect()
    assert succeeded(made.answers())
    assert made.drops() == {}


def test_facts_about_a_socket_that_was_given_up_are_ignored() -> None:
    made = bench()
    first = truncated(made)
    connected(made, first)
    made.wait(5.0)  # the next server is asked, and the driver may not know yet
    network, error = made.network, ExtendedError(111, 2, 3, 3, 0, SERVERS[0].address)
    network.stream_connected(first.socket, made.now)
    network.stream_sent(first.socket, 0, made.now)
    network.stream_received(first.socket, b"\0\1x", made.now)
    network.stream_ended(first.socket, made.now)
    network.stream_failed(first.socket, 104, None, made.now)
    network.datagram_failed(first.socket, SERVERS[0], error, b"", made.now)
    assert network.receive_budget(first.socket) == 0
    made.collect()
    assert asked(made) == [SERVERS[1]]
    assert succeeded(made.reply(made.asked[0], RECORD))
