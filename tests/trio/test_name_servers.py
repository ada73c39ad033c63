"""Which name servers a guest has, as data: what is kept of those that the host had before."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sansnet_core.addresses import Endpoint, is_loopback, parse, split_zone, with_zone
from sansnet_trio.plan.name_servers import GuestLink, NameServers, RememberedNameServers, choose
from sansnet_trio.plan.options import NetworkOptions

GATEWAYS = {4: parse("10.0.0.1"), 16: parse("fe80::1")}
LINK = GuestLink(own=[parse("10.0.0.2"), parse("2001:db8::2")], gateways=GATEWAYS, zone=7, mapped=[])
ONE, TWO, THREE, SIX = map(parse, ("192.0.2.1", "192.0.2.2", "192.0.2.3", "2001:db8::53"))
STAND_IN = parse("169.254.53.1")

server = st.sampled_from(
    [
        *map(parse, ("127.0.0.1", "127.0.0.53", "::1", "10.0.0.1", "10.0.0.2", "192.0.2.1", "2001:db8::53", "fe80::1")),
        *(with_zone(parse("fe80::53"), zone) for zone in (0, 7, 8)),
        *(parse(f"169.254.53.{n}") for n in range(1, 5)),
        *(parse(f"fe80::53:{n}") for n in range(1, 5)),
    ]
)


def chosen(*hosts: bytes, **options: Any) -> NameServers:
    return choose(NetworkOptions(**options), hosts, LINK)


def dns(address: bytes) -> Endpoint:
    return Endpoint(address, 53)


@given(st.lists(server, max_size=20), st.booleans())
def test_each_server_has_one_address_of_its_own_in_the_hosts_order(hosts: list[bytes], lenient: bool) -> None:
    names = chosen(*hosts, lenient=lenient)
    behind = {match: server.address for match, server in names.forward}
    plain = {split_zone(one)[0] for one in hosts}
    wanted = list(dict.fromkeys(one if split_zone(one)[1] != 7 else split_zone(one)[0] for one in hosts))[:16]
    assert [behind.get(address, address) for address in names.servers] == wanted
    assert not behind.keys() & (plain | set(LINK.own))
    assert not any(is_loopback(address) or address in LINK.own for address in names.servers)
    assert len(names.servers) == len(set(names.servers))


def test_what_the_guest_was_told_of_leads_to_the_server_at_its_place() -> None:
    remembered = RememberedNameServers()
    remembered.note(chosen(ONE, SIX, TWO))
    assert remembered.forward(chosen(THREE, parse("127.0.0.1")), LINK.own) == (
        (ONE, dns(THREE)),
        (TWO, dns(parse("127.0.0.1"))),
    )
    assert remembered.forward(chosen(THREE), LINK.own) == ((ONE, dns(THREE)), (TWO, dns(THREE)))
    assert remembered.forward(chosen(TWO, ONE), LINK.own) == ()
    assert remembered.forward(chosen(SIX, TWO), [*LINK.own, ONE]) == ()


def test_a_stand_in_stays_one_when_no_server_needs_it() -> None:
    remembered = RememberedNameServers()
    remembered.note(chosen(parse("127.0.0.53")))
    assert remembered.forward(chosen(ONE), LINK.own) == ((STAND_IN, dns(ONE)),)
    assert chosen(parse("127.0.0.1")).forward == ((STAND_IN, dns(parse("127.0.0.1"))),)


def test_servers_that_the_guest_knows_from_the_hosts_file_are_remembered_although_it_is_told_of_none() -> None:
    remembered = RememberedNameServers()
    remembered.note(chosen(ONE, parse("127.0.0.1"), dns=()))
    assert remembered.forward(chosen(TWO, dns=()), LINK.own) == ((ONE, dns(TWO)),)


def test_given_servers_are_nothing_to_remember() -> None:
    remembered = RememberedNameServers()
    remembered.note(chosen(ONE, dns=(THREE,)))
    assert remembered.forward(chosen(TWO, dns=(THREE,)), LINK.own) == ()


def test_what_is_remembered_has_a_bound() -> None:
    remembered = RememberedNameServers()
    for number in range(1, 100):
        remembered.note(chosen(parse(f"192.0.2.{number}")))
    found = remembered.forward(chosen(THREE), LINK.own)
    assert (len(found), found[-1]) == (32, (parse("192.0.2.99"), dns(THREE)))
