"""A running network gets another configuration, as when the host roams."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sansnet_core import (
    CloseSocket,
    ConfigError,
    Endpoint,
    Ipv4Config,
    Ipv6Config,
    Limits,
    LinkConfig,
    NetworkConfig,
    OpenDatagram,
)
from sansnet_core.addresses import parse, with_zone
from sansnet_core.proto import dhcp4, dhcp6
from sansnet_core.proto.ndp import withdraw
from sansnet_core.records import replace
from sansnet_core.testing import GATEWAY6, SERVER, Pair, make_config
from sansnet_core.testing.packets import read_frame, read_ip, udp
from sansnet_core.wire import dhcp4 as wire4
from sansnet_core.wire import dhcp6 as wire6
from sansnet_core.wire import dns, dns_names, ndp

STAND_IN = parse("169.254.53.1")
OLD_SERVER, NEW_SERVER = parse("127.0.0.53"), parse("10.9.0.53")
NEW4 = Ipv4Config(address=parse("10.9.0.7"), prefix_length=16, gateway=parse("10.9.0.1"))
NEW6 = Ipv6Config(address=parse("2001:db8:9::7"), gateway=parse("fe80::9"))
OLD = make_config()
GUEST = OLD.ipv4.address if OLD.ipv4 else b""


def asked(pair: Pair, port: int = 53, source_port: int = 5000) -> Endpoint:
    """The host endpoint of a datagram to the guest's name server."""
    pair.guest.send(udp(GUEST, source_port, STAND_IN, port, b"?"))
    pair.settle()
    return pair.host.datagrams[-1].remote


@pytest.mark.parametrize("port", dns.PORTS)
def test_questions_go_to_the_new_server_at_once_even_from_a_port_that_asked_before(port: int) -> None:
    pair = Pair(replace(OLD, dns_forward=((STAND_IN, Endpoint(OLD_SERVER, 53)),)))
    assert asked(pair, port) == Endpoint(OLD_SERVER, port)
    first = pair.host.datagrams[-1].socket
    pair.network.reconfigure(replace(pair.config, dns_forward=((STAND_IN, Endpoint(NEW_SERVER, 53)),)), pair.now)
    pair.settle()
    assert asked(pair, port) == Endpoint(NEW_SERVER, port)
    assert pair.host.datagrams[-1].socket != first
    pair.host.datagram(pair.host.datagrams[-1].socket, Endpoint(NEW_SERVER, port), b"!", pair.now)
    pair.settle()
    ip, *_, data = pair.guest.datagrams[-1]
    assert (ip.source, data) == (STAND_IN, b"!")


def test_names_may_come_later() -> None:
    pair = Pair(replace(OLD, dns_servers=(STAND_IN,), hosts=()))
    named = replace(pair.config, hosts=(("host.example", (parse("10.9.0.1"),)),))
    pair.network.reconfigure(named, pair.now)
    question = b"\0\1" + b"\1\0" + b"\0\1" + bytes(6) + dns_names.emit("host.example") + b"\0\1\0\1"
    pair.guest.send(udp(GUEST, 5000, STAND_IN, 53, question))
    pair.settle()
    ip, *_, answer = pair.guest.datagrams[-1]
    assert (ip.source, answer[-4:]) == (STAND_IN, parse("10.9.0.1"))
    assert not pair.host.datagrams


def test_the_answer_to_a_question_that_was_asked_before_still_comes() -> None:
    """A resolver that waits for the answer repeats its query only after five seconds."""
    pair = Pair(replace(OLD, dns_forward=((STAND_IN, Endpoint(OLD_SERVER, 53)),)))
    asked(pair)
    first = pair.host.datagrams[-1].socket
    pair.network.reconfigure(replace(pair.config, dns_forward=((STAND_IN, Endpoint(NEW_SERVER, 53)),)), pair.now)
    pair.settle()
    pair.host.datagram(first, Endpoint(OLD_SERVER, 53), b"late", pair.now)
    pair.settle()
    assert [(ip.source, data) for ip, *_, data in pair.guest.datagrams] == [(STAND_IN, b"late")]
    assert asked(pair) == Endpoint(NEW_SERVER, 53)
    assert first not in pair.host.datagram_sockets


def test_all_other_flows_go_on() -> None:
    pair = Pair(replace(OLD, dns_forward=((STAND_IN, Endpoint(OLD_SERVER, 53)),)))
    connection, stream = pair.established()
    pair.guest.send(udp(GUEST, 5000, SERVER, 7, b"one"))
    asked(pair)
    other = next(order.socket for order in pair.host.datagrams if order.remote.port == 7)
    changed = replace(pair.config, ipv4=NEW4, ipv6=NEW6, map_host_loopback=(parse("10.9.0.1"),))
    pair.network.reconfigure(changed, pair.now)
    pair.guest.send(udp(GUEST, 5000, SERVER, 7, b"two"))
    connection.send(b"still here")
    pair.settle()
    assert pair.host.datagrams[-1].socket == other
    assert bytes(stream.received) == b"still here"
    assert asked(pair) == Endpoint(OLD_SERVER, 53)


def test_the_same_configuration_changes_nothing() -> None:
    pair = Pair(replace(OLD, dns_forward=((STAND_IN, Endpoint(OLD_SERVER, 53)),), router_advertisements=True))
    pair.settle()
    asked(pair)
    socket, sent = pair.host.datagrams[-1].socket, len(pair.sent)
    pair.network.reconfigure(replace(pair.config), pair.now)
    pair.settle()
    asked(pair)
    assert (pair.host.datagrams[-1].socket, len(pair.sent)) == (socket, sent)


@pytest.mark.parametrize(
    "changes",
    [
        {"mac": bytes.fromhex("020000000009")},
        {"link": LinkConfig(mtu=1400, max_frame_size=1514)},
        {"ipv4": None},
        {"ipv6": None},
        {"limits": Limits(tcp_flows=1)},
        {"tcp": False},
        {"dhcp": False},
        {"learn_addresses": False},
        {"notices": False},
    ],
)
def test_what_cannot_change_is_refused_and_nothing_changes(changes: dict[str, Any]) -> None:
    pair = Pair(replace(OLD, dns_forward=((STAND_IN, Endpoint(OLD_SERVER, 53)),)))
    wanted = replace(pair.config, **{"dns_forward": ((STAND_IN, Endpoint(NEW_SERVER, 53)),), **changes})
    with pytest.raises(ConfigError, match=next(iter(changes))):
        pair.network.reconfigure(wanted, pair.now)
    assert asked(pair) == Endpoint(OLD_SERVER, 53)


def test_from_outside_the_guest_is_at_its_new_address_if_it_has_moved() -> None:
    for moved in (False, True):
        pair = Pair()
        pair.network.reconfigure(replace(pair.config, ipv4=NEW4), pair.now, moved=moved)
        pair.network.stream_accepted(Endpoint(SERVER, 40000), None, 80, pair.now)
        [frame] = pair.network.take_frames()
        assert isinstance(frame, bytes)
        assert read_ip(read_frame(frame, vnet=False)).destination == (NEW4.address if moved else GUEST)


def advertisements(pair: Pair, since: int) -> list[tuple[bytes, int, bytes]]:
    """Source, router lifetime and options of the advertisements that were sent."""
    found = []
    for _, frame in pair.sent[since:]:
        packet = read_ip(read_frame(frame, vnet=False))
        if packet.payload[0] == 134:
            found.append((packet.source, int.from_bytes(packet.payload[6:8], "big"), bytes(packet.payload[16:])))
    return found


def test_the_new_prefix_is_advertised_and_the_old_one_is_taken_back() -> None:
    server = parse("2001:db8::53")
    pair = Pair(replace(OLD, router_advertisements=True, dns_servers=(server,), dns_search=("old.example",)))
    pair.wait(60)
    since = len(pair.sent)
    new = replace(pair.config, ipv6=NEW6, dns_servers=(), dns_search=("new.example",))
    pair.network.reconfigure(new, pair.now)
    pair.wait(0.001)
    gone, told = advertisements(pair, since)
    taken_back = withdraw(pair.config, new)
    assert taken_back is not None
    assert (taken_back.prefix, taken_back.servers, taken_back.search) == (
        parse("2001:db8::")[:8],
        (server,),
        ("old.example",),
    )
    assert gone == (GATEWAY6, 0, ndp.advertise_router(taken_back)[1][8:])
    assert told[:2] == (NEW6.gateway, 65535)
    assert NEW6.address is not None
    assert NEW6.address[:8] in told[2]
    assert NEW6.address[:8] not in gone[2]
    pair.wait(60)
    assert [source for source, *_ in advertisements(pair, since)] == [GATEWAY6, NEW6.gateway] * 3


def test_what_comes_back_is_not_taken_back() -> None:
    pair = Pair(replace(OLD, router_advertisements=True))
    pair.wait(60)
    since = len(pair.sent)
    pair.network.reconfigure(replace(pair.config, ipv6=NEW6), pair.now)
    pair.network.reconfigure(pair.config, pair.now)
    pair.wait(0.001)
    gone, told = advertisements(pair, since)
    assert (gone[:2], told[:2]) == ((NEW6.gateway, 0), (GATEWAY6, 65535))


def test_withdrawn_options_have_no_lifetime() -> None:
    old = replace(OLD, router_advertisements=True, dns_servers=(parse("2001:db8::53"),))
    gone = withdraw(old, replace(old, dns_servers=()))
    assert gone is not None
    assert (gone.lifetime, gone.prefix, gone.valid) == (65535, None, 0)
    _, payload = ndp.advertise_router(gone)
    assert payload[16:24] == bytes([25, 3]) + bytes(6)  # RFC 8106, 5.1: type, length, reserved, lifetime
    assert withdraw(old, old) is None


def test_a_client_with_the_old_address_gets_the_new_one() -> None:
    """RFC 2131, 4.3.2; RFC 8415, 18.3.4."""
    config = replace(OLD, ipv4=NEW4, ipv6=NEW6, lease_time=3600)
    request = wire4.Message(
        operation=wire4.BOOTREQUEST,
        client=GUEST,
        hardware=bytes(6),
        options={wire4.MESSAGE_TYPE: bytes([wire4.REQUEST])},
        hardware_type=1,
        transaction=7,
        flags=0,
        yours=bytes(4),
        relay=bytes(4),
    )
    refused = dhcp4.answer(request, config)
    assert refused is not None
    assert refused.message.type == wire4.NAK
    discover = replace_options(request, {wire4.MESSAGE_TYPE: bytes([wire4.DISCOVER])})
    offer = dhcp4.answer(discover, config)
    assert offer is not None
    assert (offer.message.yours, offer.message.options[wire4.LEASE_TIME]) == (NEW4.address, (3600).to_bytes(4, "big"))
    old = OLD.ipv6.address if OLD.ipv6 else None
    assert old is not None
    association = wire6.emit_association(wire6.IA_NA, b"\0\0\0\1", [wire6.emit_address(old, 3600)])
    options = ((wire6.CLIENT_ID, b"\0\1abc"), (wire6.SERVER_ID, wire6.duid(config.mac)), association)
    renewed = dhcp6.answer(wire6.Message(wire6.RENEW, 7, options), config)
    assert renewed is not None
    assert NEW6.address is not None
    inner = [wire6.emit_address(NEW6.address, 3600), wire6.emit_address(old, 0)]
    assert wire6.emit_association(wire6.IA_NA, b"\0\0\0\1", inner, times=(1800, 2880)) in renewed.message.options


def replace_options(message: wire4.Message, options: dict[int, bytes]) -> wire4.Message:
    return message._replace(options=options, client=bytes(4))


@pytest.mark.parametrize("lease_time", [0, -1, 1 << 31])
def test_a_lease_has_a_time(lease_time: int) -> None:
    with pytest.raises(ConfigError, match="lease_time"):
        NetworkConfig(ipv4=NEW4, lease_time=lease_time)


def test_a_guest_cannot_choose_a_zone_of_the_hosts() -> None:
    server = with_zone(parse("fe80::53"), 7)
    match = parse("fe80::53:1")
    config = replace(OLD, dns_forward=((match, Endpoint(server, 53)),))
    pair = Pair(config)
    guest6 = pair.guest.ipv6
    for destination in (server, match):
        pair.guest.send(udp(guest6, 5000, destination, 53, b"?"))
    pair.settle()
    assert [order.remote for order in pair.host.datagrams] == [Endpoint(server, 53)]


@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans(), st.integers(0, 3)), max_size=12))
def test_changes_in_any_order_leave_a_network_that_works(steps: list[tuple[bool, bool, bool, int]]) -> None:
    pair = Pair(replace(OLD, dns_forward=((STAND_IN, Endpoint(OLD_SERVER, 53)),), router_advertisements=True))
    for four, six, server, wait in steps:
        config = replace(
            pair.config,
            ipv4=NEW4 if four else pair.config.ipv4,
            ipv6=NEW6 if six else pair.config.ipv6,
            dns_forward=((STAND_IN, Endpoint(NEW_SERVER if server else OLD_SERVER, 53)),),
        )
        pair.network.reconfigure(config, pair.now)
        pair.wait(wait * 20)
        assert asked(pair) == Endpoint(NEW_SERVER if server else OLD_SERVER, 53)
    pair.wait(400)
    assert pair.network.statistics().flows["udp_flows"] == 0
    opened = {order.socket for order in pair.host.orders if isinstance(order, OpenDatagram)}
    assert opened == {order.socket for order in pair.host.orders if isinstance(order, CloseSocket)}
