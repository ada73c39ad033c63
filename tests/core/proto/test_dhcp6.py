"""Replies of the DHCPv6 server."""

from __future__ import annotations

from contextlib import suppress
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sansnet_core.addresses import parse
from sansnet_core.config import GATEWAY_MAC, Ipv4Config, Ipv6Config, NetworkConfig
from sansnet_core.errors import Malformed, Reason
from sansnet_core.notices import LeaseGiven
from sansnet_core.proto.dhcp6 import Dhcp6, answer
from sansnet_core.records import replace
from sansnet_core.testing.packets import udp
from sansnet_core.wire import dhcp6, dns_names
from sansnet_core.wire import udp as wire_udp
from sansnet_core.wire.dhcp6 import Message, Option
from tests.core.clients import datagrams
from tests.core.proto.bare import GATEWAY4, GATEWAY6, GUEST4, GUEST6, GUEST_MAC, REMOTE6, Bare, config, header

LINK_LOCAL: Final = parse("fe80::15")
OTHER: Final = parse("2001:db8:2::99")
FAR: Final = parse("2001:db8:3::15")
SERVER6: Final = parse("2001:db8::53")

CLIENT: Final = (dhcp6.CLIENT_ID, dhcp6.duid(GUEST_MAC))
SERVER: Final = (dhcp6.SERVER_ID, dhcp6.duid(GATEWAY_MAC))
STRANGER: Final = (dhcp6.SERVER_ID, dhcp6.duid(GUEST_MAC))
RAPID: Final = (dhcp6.RAPID_COMMIT, b"")
PREFERRED: Final = (dhcp6.PREFERENCE, b"\xff")
NO_REQUEST: Final = (dhcp6.REQUESTED, b"")
"""An empty request for options: the reply has no network options."""

NOWHERE: Final = NetworkConfig(ipv6=Ipv6Config(address=None, gateway=GATEWAY6))
"""A network without a global address."""


def wants(*addresses: bytes, kind: int = dhcp6.IA_NA, id: int = 1) -> Option:
    """An association in a request."""
    inner = [dhcp6.emit_address(address, 0) for address in addresses]
    return dhcp6.emit_association(kind, id.to_bytes(4, "big"), inner)


def gets(*lost: bytes, id: int = 1) -> Option:
    """The association that gets the address, and loses others."""
    inner = [dhcp6.emit_address(GUEST6, dhcp6.FOREVER), *(dhcp6.emit_address(address, 0) for address in lost)]
    return dhcp6.emit_association(dhcp6.IA_NA, id.to_bytes(4, "big"), inner, times=(dhcp6.FOREVER, dhcp6.FOREVER))


def refused(status: int, *, kind: int = dhcp6.IA_NA, id: int = 1) -> Option:
    return dhcp6.emit_association(kind, id.to_bytes(4, "big"), [dhcp6.emit_status(status)])


def request(kind: int, *options: Option) -> Message:
    return Message(kind, 0xABCDEF, (*options, NO_REQUEST))


def told(message: Message, configuration: NetworkConfig | None = None) -> tuple[int, tuple[Option, ...]]:
    """Type and options of the reply, without the identifiers."""
    reply = answer(message, configuration or config())
    assert reply is not None
    assert reply.message.transaction == message.transaction
    assert reply.message.options[0] == SERVER
    client = message.option(dhcp6.CLIENT_ID)
    if client is None:
        return reply.message.type, reply.message.options[1:]
    assert reply.message.options[1] == (dhcp6.CLIENT_ID, client)
    return reply.message.type, reply.message.options[2:]


ONE: Final = (CLIENT, SERVER)
ANY: Final = (CLIENT,)

SUCCESS: Final = dhcp6.emit_status(dhcp6.SUCCESS)
NOT_ON_LINK: Final = dhcp6.emit_status(dhcp6.NOT_ON_LINK)


@pytest.mark.parametrize(
    ("message", "options"),
    [
        pytest.param(request(dhcp6.SOLICIT, *ANY, wants()), (PREFERRED, gets()), id="an address"),
        pytest.param(request(dhcp6.SOLICIT, *ANY, wants(OTHER)), (PREFERRED, gets()), id="another address"),
        pytest.param(request(dhcp6.SOLICIT, *ANY), (PREFERRED,), id="nothing"),
        pytest.param(
            request(dhcp6.SOLICIT, *ANY, wants(), wants(id=2)),
            (PREFERRED, gets(), refused(dhcp6.NO_ADDRESSES, id=2)),
            id="two addresses",
        ),
        pytest.param(
            request(dhcp6.SOLICIT, *ANY, wants(), wants(GUEST6, id=2)),
            (PREFERRED, refused(dhcp6.NO_ADDRESSES), gets(id=2)),
            id="the address for the second association",
        ),
        pytest.param(
            request(dhcp6.SOLICIT, *ANY, wants(kind=dhcp6.IA_TA), wants(kind=dhcp6.IA_PD)),
            (PREFERRED, refused(dhcp6.NO_ADDRESSES, kind=dhcp6.IA_TA), refused(dhcp6.NO_PREFIXES, kind=dhcp6.IA_PD)),
            id="temporary addresses and a prefix",
        ),
    ],
)
def test_a_solicitation_is_answered_with_an_advertisement(message: Message, options: tuple[Option, ...]) -> None:
    assert told(message) == (dhcp6.ADVERTISE, options)
    reply = answer(message, config())
    assert reply is not None
    assert reply.lease is None


@pytest.mark.parametrize(
    ("message", "options"),
    [
        pytest.param(request(dhcp6.SOLICIT, *ANY, RAPID, wants()), (RAPID, gets()), id="rapid commit"),
        pytest.param(request(dhcp6.REQUEST, *ONE, wants(GUEST6)), (gets(),), id="REQUEST"),
        pytest.param(request(dhcp6.REQUEST, *ONE, wants()), (gets(),), id="REQUEST of any"),
        pytest.param(request(dhcp6.REQUEST, *ONE, wants(OTHER, GUEST6)), (gets(),), id="REQUEST of several"),
        pytest.param(request(dhcp6.REQUEST, *ONE, wants(OTHER)), (gets(),), id="REQUEST of another one of the /64"),
        pytest.param(
            request(dhcp6.REQUEST, *ONE, wants(FAR), wants(id=2)),
            (refused(dhcp6.NOT_ON_LINK), gets(id=2)),
            id="REQUEST of two, one of them impossible",
        ),
        pytest.param(request(dhcp6.RENEW, *ONE, wants(GUEST6)), (gets(),), id="RENEW"),
        pytest.param(request(dhcp6.RENEW, *ONE, wants(OTHER, GUEST6)), (gets(OTHER),), id="RENEW of too much"),
        pytest.param(request(dhcp6.RENEW, *ONE, wants(OTHER)), (gets(OTHER),), id="RENEW of another address"),
        pytest.param(request(dhcp6.REBIND, *ANY, wants(GUEST6)), (gets(),), id="REBIND"),
        pytest.param(
            request(dhcp6.REBIND, *ANY, wants(OTHER), wants(GUEST6, id=2), wants(kind=dhcp6.IA_PD)),
            (refused(dhcp6.NO_BINDING), gets(id=2), refused(dhcp6.NO_BINDING, kind=dhcp6.IA_PD)),
            id="REBIND of two and a prefix",
        ),
    ],
)
def test_the_address_is_given(message: Message, options: tuple[Option, ...]) -> None:
    assert told(message) == (dhcp6.REPLY, options)
    reply = answer(message, config())
    assert reply is not None
    assert reply.lease == GUEST6


@pytest.mark.parametrize(
    ("message", "configuration", "options"),
    [
        pytest.param(
            request(dhcp6.REQUEST, *ONE, wants(FAR)), config(), (refused(dhcp6.NOT_ON_LINK),), id="not on this link"
        ),
        pytest.param(
            request(dhcp6.REQUEST, *ONE, wants(GUEST6, FAR)),
            config(),
            (refused(dhcp6.NOT_ON_LINK),),
            id="one of two not on this link",
        ),
        pytest.param(
            request(dhcp6.REQUEST, *ONE, wants(GUEST6)), NOWHERE, (refused(dhcp6.NOT_ON_LINK),), id="no link prefix"
        ),
        pytest.param(
            request(dhcp6.REQUEST, *ONE, wants(OTHER, kind=dhcp6.IA_TA)),
            config(),
            (refused(dhcp6.NO_ADDRESSES, kind=dhcp6.IA_TA),),
            id="temporary address of the /64",
        ),
        pytest.param(
            request(dhcp6.REQUEST, *ONE, wants(FAR, kind=dhcp6.IA_TA)),
            config(),
            (refused(dhcp6.NOT_ON_LINK, kind=dhcp6.IA_TA),),
            id="temporary address not on this link",
        ),
        pytest.param(
            request(dhcp6.SOLICIT, *ANY, RAPID, wants()), NOWHERE, (RAPID, refused(dhcp6.NO_ADDRESSES)), id="none left"
        ),
        pytest.param(
            request(dhcp6.RENEW, *ONE, wants(OTHER)), NOWHERE, (refused(dhcp6.NO_BINDING),), id="none to renew"
        ),
        pytest.param(request(dhcp6.CONFIRM, *ANY, wants(GUEST6)), config(), (SUCCESS,), id="CONFIRM"),
        pytest.param(
            request(dhcp6.CONFIRM, *ANY, wants(GUEST6), wants(FAR)), config(), (NOT_ON_LINK,), id="CONFIRM of two"
        ),
        pytest.param(request(dhcp6.CONFIRM, *ANY, wants(OTHER)), config(), (SUCCESS,), id="CONFIRM of the same /64"),
        pytest.param(request(dhcp6.CONFIRM, *ANY, wants(FAR)), config(), (NOT_ON_LINK,), id="CONFIRM from elsewhere"),
        pytest.param(request(dhcp6.CONFIRM, *ANY, wants(GUEST6)), NOWHERE, (NOT_ON_LINK,), id="CONFIRM of no prefix"),
        pytest.param(request(dhcp6.RELEASE, *ONE, wants(GUEST6)), config(), (SUCCESS,), id="RELEASE"),
        pytest.param(
            request(dhcp6.DECLINE, *ONE, wants(GUEST6), wants(OTHER, id=2)),
            config(),
            (SUCCESS, refused(dhcp6.NO_BINDING, id=2)),
            id="DECLINE of two",
        ),
        pytest.param(request(dhcp6.INFORMATION_REQUEST), config(), (), id="INFORMATION-REQUEST"),
        pytest.param(request(dhcp6.INFORMATION_REQUEST, *ONE), config(), (), id="INFORMATION-REQUEST to us"),
    ],
)
def test_no_address_is_given(message: Message, configuration: NetworkConfig, options: tuple[Option, ...]) -> None:
    assert told(message, configuration) == (dhcp6.REPLY, options)
    reply = answer(message, configuration)
    assert reply is not None
    assert reply.lease is None


IGNORED: Final = [
    pytest.param(request(dhcp6.SOLICIT, wants()), id="no client"),
    pytest.param(request(dhcp6.REQUEST, SERVER, wants()), id="no client in a request"),
    pytest.param(request(dhcp6.SOLICIT, CLIENT, CLIENT, wants()), id="two clients"),
    pytest.param(request(dhcp6.SOLICIT, (dhcp6.CLIENT_ID, b""), wants()), id="empty client"),
    pytest.param(request(dhcp6.SOLICIT, (dhcp6.CLIENT_ID, bytes(131)), wants()), id="client too long"),
    pytest.param(request(dhcp6.SOLICIT, *ONE, wants()), id="solicitation of one server"),
    pytest.param(request(dhcp6.REBIND, *ONE, wants()), id="rebinding to one server"),
    pytest.param(request(dhcp6.CONFIRM, *ONE, wants(GUEST6)), id="confirmation by one server"),
    pytest.param(request(dhcp6.CONFIRM, *ANY, wants()), id="confirmation of nothing"),
    pytest.param(request(dhcp6.REQUEST, *ANY, wants()), id="request to any server"),
    pytest.param(request(dhcp6.RENEW, CLIENT, STRANGER, wants()), id="renewal by another server"),
    pytest.param(request(dhcp6.RELEASE, CLIENT, SERVER, SERVER, wants()), id="two servers"),
    pytest.param(request(dhcp6.INFORMATION_REQUEST, CLIENT, STRANGER), id="information from another server"),
    pytest.param(request(dhcp6.INFORMATION_REQUEST, CLIENT, wants()), id="information and an address"),
    pytest.param(request(dhcp6.ADVERTISE, *ANY), id="a server's message"),
    pytest.param(request(12, *ANY), id="a relay's message"),
    pytest.param(request(dhcp6.SOLICIT, *ANY, *[wants()] * 17), id="too many associations"),
    pytest.param(request(dhcp6.SOLICIT, *ANY, wants(*[OTHER] * 17)), id="too many addresses"),
]


@pytest.mark.parametrize("message", IGNORED)
def test_other_messages_get_no_answer(message: Message) -> None:
    assert answer(message, config()) is None


def test_without_ipv6_there_is_no_server() -> None:
    configuration = NetworkConfig(ipv4=Ipv4Config(address=GUEST4, prefix_length=24, gateway=GATEWAY4))
    assert answer(request(dhcp6.SOLICIT, *ANY, wants()), configuration) is None


@pytest.mark.interpreted
def test_no_more_associations_are_read_than_are_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    parse_association = dhcp6.parse_association

    def count(option: Option) -> dhcp6.Association:
        read.append(option)
        return parse_association(option)

    monkeypatch.setattr(dhcp6, "parse_association", count)
    assert answer(request(dhcp6.SOLICIT, *ANY, *[wants()] * 17), config()) is None
    assert read == []
    assert answer(request(dhcp6.SOLICIT, *ANY, *[wants()] * 16), config()) is not None
    assert len(read) == 16


def test_broken_associations_are_refused() -> None:
    with pytest.raises(Malformed, match=Reason.DHCP_MALFORMED.value):
        answer(request(dhcp6.SOLICIT, *ANY, (dhcp6.IA_NA, b"")), config())


KNOWN: Final = replace(
    config(),
    dns_servers=(GUEST4, SERVER6, *[OTHER] * 5),
    dns_search=("example.org", "lab.example.org"),
    fqdn="guest.example.org",
)
DNS: Final = (dhcp6.DNS_SERVERS, SERVER6 + OTHER + OTHER)
SEARCH: Final = (dhcp6.DOMAIN_SEARCH, dns_names.emit("example.org") + dns_names.emit("lab.example.org"))
FQDN: Final = (dhcp6.CLIENT_FQDN, b"\x00" + dns_names.emit("guest.example.org"))


def information(*options: Option) -> tuple[Option, ...]:
    return told(Message(dhcp6.INFORMATION_REQUEST, 1, options), KNOWN)[1]


def asks(*codes: int) -> Option:
    return dhcp6.REQUESTED, b"".join(code.to_bytes(2, "big") for code in codes)


def test_a_request_without_an_option_list_gets_dns() -> None:
    assert information() == (DNS, SEARCH)


def test_requested_options_are_given() -> None:
    assert information(asks(24)) == (SEARCH,)
    assert information(asks(23)) == (DNS,)
    assert information(asks(39, 23, 24, 99)) == (DNS, FQDN, SEARCH)
    assert information((dhcp6.REQUESTED, b"\0\x17\0")) == (DNS,)
    assert information(asks()) == ()


@pytest.mark.parametrize(("sent", "flags"), [(b"", 0), (b"\x00", 0), (b"\x04", 0), (b"\x01\x02me", 2)])
def test_a_client_that_says_its_name_is_told_its_name(sent: bytes, flags: int) -> None:
    assert information((dhcp6.CLIENT_FQDN, sent), asks()) == ((39, bytes([flags]) + FQDN[1][1:]),)


def test_options_without_a_value_are_left_out() -> None:
    message = Message(dhcp6.INFORMATION_REQUEST, 1, (asks(23, 24, 39),))
    assert told(message) == (dhcp6.REPLY, ())


def test_search_domains_are_cut_at_a_whole_one() -> None:
    domain = f"{0:050}.example.org"
    configuration = replace(KNOWN, dns_search=(domain,) * 99)
    reply = answer(Message(dhcp6.SOLICIT, 1, (CLIENT, wants())), configuration)
    assert reply is not None
    search = reply.message.option(dhcp6.DOMAIN_SEARCH)
    assert search is not None
    encoded = dns_names.emit(domain)
    assert search == encoded * (len(search) // len(encoded))
    assert 1280 - 48 - len(encoded) < len(dhcp6.emit(reply.message)) <= 1280 - 48


class Bench(Bare):
    """A DHCPv6 server on a context."""

    def __init__(self, configuration: NetworkConfig | None = None) -> None:
        super().__init__(configuration or config())
        self.server = Dhcp6(self.context)

    def receive(self, payload: bytes, destination: bytes = dhcp6.SERVERS) -> None:
        ip, buf = header(udp(LINK_LOCAL, 546, destination, 547, payload))
        self.server.receive(ip, wire_udp.parse(buf, ip, True), buf)


def test_a_reply_is_sent_and_noticed() -> None:
    bench = Bench()
    bench.context.guest.learn(REMOTE6)
    bench.receive(dhcp6.emit(request(dhcp6.REQUEST, *ONE, wants())))
    [packet] = bench.packets()
    assert (packet.source, packet.destination) == (GATEWAY6, LINK_LOCAL)
    assert packet.payload[:4] == bytes.fromhex("02230222")
    options = (SERVER, CLIENT, gets())
    assert dhcp6.parse(packet.payload, 8, len(packet.payload)) == Message(dhcp6.REPLY, 0xABCDEF, options)
    assert bench.notices() == [LeaseGiven(GUEST6, GUEST_MAC, 100.0)]
    assert bench.context.guest.ipv6 == GUEST6
    assert bench.drops() == {}


def test_a_repeated_or_later_request_gets_the_same_reply() -> None:
    bench = Bench()
    for kind in (dhcp6.REQUEST, dhcp6.REQUEST, dhcp6.RELEASE, dhcp6.REQUEST):
        bench.receive(dhcp6.emit(request(kind, *ONE, wants(GUEST6))))
    first, repeated, released, later = (packet.payload for packet in bench.packets())
    assert first == repeated == later != released
    assert gets() in dhcp6.parse(later, 8, len(later)).options


def test_an_advertisement_gives_nothing_yet() -> None:
    bench = Bench()
    bench.receive(dhcp6.emit(request(dhcp6.SOLICIT, *ANY, wants())))
    assert len(bench.packets()) == 1
    assert bench.notices() == []


def test_without_notices_in_the_configuration_there_are_none() -> None:
    bench = Bench(replace(config(), notices=False))
    bench.receive(dhcp6.emit(request(dhcp6.REQUEST, *ONE, wants())))
    assert bench.notices() == []


@pytest.mark.parametrize("message", IGNORED)
def test_a_message_without_a_reply_is_counted(message: Message) -> None:
    bench = Bench()
    bench.receive(dhcp6.emit(message))
    assert bench.packets() == []
    assert bench.drops() == {Reason.DHCP_IGNORED: 1}


@pytest.mark.parametrize("kind", [dhcp6.REQUEST, dhcp6.RENEW, dhcp6.RELEASE, dhcp6.DECLINE])
def test_a_unicast_message_to_one_server_is_refused(kind: int) -> None:
    """RFC 8415, 18.3.2, 18.3.4, 18.3.7 and 18.3.8."""
    bench = Bench()
    bench.receive(dhcp6.emit(request(kind, *ONE, wants(GUEST6))), GATEWAY6)
    [packet] = bench.packets()
    assert (packet.source, packet.destination) == (GATEWAY6, LINK_LOCAL)
    options = (SERVER, CLIENT, dhcp6.emit_status(dhcp6.USE_MULTICAST))
    assert dhcp6.parse(packet.payload, 8, len(packet.payload)) == Message(dhcp6.REPLY, 0xABCDEF, options)
    assert bench.notices() == []


@pytest.mark.parametrize(
    ("message", "destination"),
    [
        *((request(kind, *ANY, wants()), GATEWAY6) for kind in (dhcp6.SOLICIT, dhcp6.CONFIRM, dhcp6.REBIND)),
        (request(dhcp6.INFORMATION_REQUEST, *ANY), GATEWAY6),
        (request(dhcp6.REQUEST, CLIENT, STRANGER, wants()), GATEWAY6),
        (request(dhcp6.REQUEST, SERVER, wants()), GATEWAY6),
        (request(dhcp6.REQUEST, *ONE, wants()), REMOTE6),
    ],
)
def test_other_unicast_messages_get_no_reply(message: Message, destination: bytes) -> None:
    """RFC 8415, 16."""
    bench = Bench()
    bench.receive(dhcp6.emit(message), destination)
    assert bench.packets() == []
    assert bench.drops() == {Reason.DHCP_IGNORED: 1}


def test_malformed_messages_are_refused() -> None:
    with pytest.raises(Malformed, match=Reason.DHCP_MALFORMED.value):
        Bench().receive(b"\1\0\0")


def test_dhclient_is_served() -> None:
    bench = Bench(replace(config(), ipv6=Ipv6Config(address=parse("2001:db8::15"), gateway=GATEWAY6)))
    answers = []
    for ip, udp_header, buf in datagrams(547):
        bench.server.receive(ip, udp_header, buf)
        [packet] = bench.packets()
        message = dhcp6.parse(packet.payload, 8, len(packet.payload))
        answers.append((message.type, message.option(dhcp6.STATUS)))
    assert answers == [
        (dhcp6.ADVERTISE, None),
        (dhcp6.REPLY, None),
        (dhcp6.REPLY, SUCCESS[1]),
        (dhcp6.REPLY, None),
        (dhcp6.REPLY, SUCCESS[1]),
    ]


any_option = st.one_of(
    st.tuples(st.integers(0, 40), st.binary(max_size=60)),
    st.sampled_from([CLIENT, SERVER, RAPID, wants(), wants(GUEST6, OTHER), wants(kind=dhcp6.IA_PD)]),
)


@given(st.integers(0, 13), st.lists(any_option, max_size=20))
def test_any_input_causes_at_most_one_packet(kind: int, options: list[Option]) -> None:
    bench = Bench(KNOWN)
    with suppress(Malformed):
        bench.receive(dhcp6.emit(Message(kind, 1, tuple(options))))
    assert len(bench.packets()) <= 1


def test_the_largest_request_has_a_bounded_answer() -> None:
    configuration = replace(KNOWN, dns_search=(f"{0:050}.example.org",) * 99)
    most = [wants(*[OTHER] * 15, GUEST6, id=index) for index in range(16)]
    reply = answer(Message(dhcp6.REBIND, 1, (CLIENT, *most)), configuration)
    assert reply is not None
    assert len(dhcp6.emit(reply.message)) <= 1280 - 48
