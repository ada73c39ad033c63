"""Replies of the DHCP server."""

from __future__ import annotations

from contextlib import suppress
from typing import Final

import dns.name
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sansnet_core.addresses import parse
from sansnet_core.config import Ipv4Config, Ipv6Config, LinkConfig, NetworkConfig
from sansnet_core.errors import Malformed, Reason
from sansnet_core.notices import LeaseGiven
from sansnet_core.proto.dhcp4 import Dhcp4, Reply, answer
from sansnet_core.records import replace
from sansnet_core.testing.packets import dhcp_discover, read_frame, read_ip, udp
from sansnet_core.wire import dhcp4
from sansnet_core.wire import udp as wire_udp
from sansnet_core.wire.dhcp4 import Message
from tests.core.clients import datagrams
from tests.core.proto.bare import GATEWAY4, GATEWAY6, GUEST4, GUEST_MAC, REMOTE4, Bare, config, header

NOWHERE: Final = bytes(4)
EVERYWHERE: Final = b"\xff" * 4
OTHER: Final = parse("10.9.9.9")
RELAY: Final = parse("10.0.2.3")
FOREVER: Final = b"\xff\xff\xff\xff"
CLIENT: Final = b"\x01" + GUEST_MAC


def request(
    kind: int | None,
    options: dict[int, bytes] | None = None,
    *,
    flags: int = 0,
    client: bytes = NOWHERE,
    relay: bytes = NOWHERE,
) -> Message:
    found = {} if kind is None else {dhcp4.MESSAGE_TYPE: bytes([kind])}
    return Message(dhcp4.BOOTREQUEST, 1, 7, flags, client, NOWHERE, relay, GUEST_MAC, found | (options or {}))


def answered(message: Message, configuration: NetworkConfig | None = None) -> Reply:
    reply = answer(message, configuration or config())
    assert reply is not None
    assert reply.source == GATEWAY4
    assert reply.message.operation == dhcp4.BOOTREPLY
    assert reply.message[1:3] == message[1:3]
    assert reply.message.hardware == message.hardware
    return reply


def options(message: Message, configuration: NetworkConfig) -> dict[int, bytes]:
    """The options of a reply, without the protocol's own."""
    own = (dhcp4.MESSAGE_TYPE, dhcp4.SERVER_ID, dhcp4.LEASE_TIME, dhcp4.RAPID_COMMIT, dhcp4.CLIENT_ID)
    told = answered(message, configuration).message.options
    return {code: value for code, value in told.items() if code not in own}


SELECT: Final = {dhcp4.SERVER_ID: GATEWAY4, dhcp4.REQUESTED_ADDRESS: GUEST4}

# Requests of a client, and type and address of the reply
ANSWERS: Final = [
    pytest.param(request(dhcp4.DISCOVER), dhcp4.OFFER, GUEST4, id="DISCOVER"),
    pytest.param(
        request(dhcp4.DISCOVER, {dhcp4.REQUESTED_ADDRESS: OTHER}), dhcp4.OFFER, GUEST4, id="DISCOVER with a wish"
    ),
    pytest.param(request(dhcp4.DISCOVER, {dhcp4.RAPID_COMMIT: b""}), dhcp4.ACK, GUEST4, id="rapid commit"),
    pytest.param(request(dhcp4.REQUEST, SELECT), dhcp4.ACK, GUEST4, id="SELECTING"),
    pytest.param(
        request(dhcp4.REQUEST, SELECT | {dhcp4.REQUESTED_ADDRESS: OTHER}), dhcp4.NAK, NOWHERE, id="SELECTING another"
    ),
    pytest.param(request(dhcp4.REQUEST, {dhcp4.SERVER_ID: GATEWAY4}), dhcp4.NAK, NOWHERE, id="SELECTING nothing"),
    pytest.param(request(dhcp4.REQUEST, {dhcp4.REQUESTED_ADDRESS: GUEST4}), dhcp4.ACK, GUEST4, id="INIT-REBOOT"),
    pytest.param(
        request(dhcp4.REQUEST, {dhcp4.REQUESTED_ADDRESS: OTHER}), dhcp4.NAK, NOWHERE, id="INIT-REBOOT from elsewhere"
    ),
    pytest.param(request(dhcp4.REQUEST, client=GUEST4), dhcp4.ACK, GUEST4, id="RENEWING, REBINDING"),
    pytest.param(request(dhcp4.REQUEST, client=OTHER), dhcp4.NAK, NOWHERE, id="REBINDING from elsewhere"),
    pytest.param(request(dhcp4.REQUEST), dhcp4.NAK, NOWHERE, id="REQUEST of nothing"),
    pytest.param(request(dhcp4.INFORM, client=OTHER), dhcp4.ACK, NOWHERE, id="INFORM"),
    pytest.param(request(None), None, GUEST4, id="BOOTP"),
]


@pytest.mark.parametrize(("message", "kind", "yours"), ANSWERS)
def test_each_request_has_its_answer(message: Message, kind: int | None, yours: bytes) -> None:
    reply = answered(message)
    assert (reply.message.type, reply.message.yours) == (kind, yours)
    assert reply.lease == (kind in (None, dhcp4.ACK) and yours == GUEST4)


@pytest.mark.parametrize(("message", "kind", "yours"), ANSWERS)
def test_only_who_gets_an_address_gets_a_lease(message: Message, kind: int | None, yours: bytes) -> None:
    lease = answered(message).message.options.get(dhcp4.LEASE_TIME)
    assert lease == (FOREVER if kind is not None and yours == GUEST4 else None)


IGNORED: Final = [
    pytest.param(request(dhcp4.REQUEST, SELECT | {dhcp4.SERVER_ID: OTHER}), id="another server's offer"),
    pytest.param(request(dhcp4.DECLINE), id="DECLINE"),
    pytest.param(request(dhcp4.RELEASE), id="RELEASE"),
    pytest.param(request(dhcp4.OFFER), id="a server's message"),
    pytest.param(request(99), id="unknown type"),
    pytest.param(request(None, {dhcp4.MESSAGE_TYPE: b"\1\1"}), id="broken type"),
    pytest.param(request(dhcp4.DISCOVER)._replace(operation=dhcp4.BOOTREPLY), id="a reply"),
]


@pytest.mark.parametrize("message", IGNORED)
def test_other_messages_get_no_answer(message: Message) -> None:
    assert answer(message, config()) is None


@pytest.mark.parametrize(
    "configuration",
    [
        pytest.param(config(gateway4=None), id="no gateway"),
        pytest.param(NetworkConfig(ipv6=Ipv6Config(address=None, gateway=GATEWAY6)), id="no IPv4"),
    ],
)
def test_without_an_address_there_is_no_server(configuration: NetworkConfig) -> None:
    assert answer(request(dhcp4.DISCOVER), configuration) is None


@pytest.mark.parametrize(
    ("message", "destination"),
    [
        pytest.param(request(dhcp4.DISCOVER), (GUEST4, 68), id="the address given"),
        pytest.param(request(dhcp4.DISCOVER, flags=0x8000), (EVERYWHERE, 68), id="everywhere if asked"),
        pytest.param(request(dhcp4.DISCOVER, flags=0x7FFF), (GUEST4, 68), id="reserved flags"),
        pytest.param(request(dhcp4.REQUEST, client=GUEST4, flags=0x8000), (GUEST4, 68), id="the client's address"),
        pytest.param(request(dhcp4.INFORM, client=OTHER), (OTHER, 68), id="the address that the client took"),
        pytest.param(request(dhcp4.INFORM), (EVERYWHERE, 68), id="INFORM without an address"),
        pytest.param(request(dhcp4.REQUEST, client=OTHER), (EVERYWHERE, 68), id="NAK"),
        pytest.param(request(dhcp4.DISCOVER, relay=RELAY), (RELAY, 67), id="a relay"),
        pytest.param(request(dhcp4.REQUEST, relay=RELAY), (RELAY, 67), id="NAK by a relay"),
        pytest.param(request(None), (GUEST4, 68), id="BOOTP"),
    ],
)
def test_each_answer_goes_where_its_client_hears_it(message: Message, destination: tuple[bytes, int]) -> None:
    reply = answered(message)
    assert (reply.destination, reply.port) == destination
    assert reply.message.relay == message.relay


def test_a_relay_shall_broadcast_a_nak() -> None:
    assert answered(request(dhcp4.REQUEST, relay=RELAY)).message.flags == dhcp4.BROADCAST_FLAG
    assert answered(request(dhcp4.DISCOVER, relay=RELAY)).message.flags == 0


def test_only_the_broadcast_flag_is_repeated() -> None:
    assert answered(request(dhcp4.DISCOVER, flags=0xFFFF)).message.flags == dhcp4.BROADCAST_FLAG
    assert answered(request(dhcp4.DISCOVER, flags=0x7FFF)).message.flags == 0


def test_the_clients_address_is_repeated_in_an_ack_alone() -> None:
    assert answered(request(dhcp4.REQUEST, client=GUEST4)).message.client == GUEST4
    assert answered(request(dhcp4.REQUEST, client=OTHER)).message.client == NOWHERE
    assert answered(request(dhcp4.DISCOVER, client=OTHER)).message.client == NOWHERE


def test_an_offer_has_all_that_is_known() -> None:
    configuration = replace(
        config(link=LinkConfig(mtu=1500)),
        dns_servers=(REMOTE4, parse("2001:db8::53"), OTHER, GATEWAY4, RELAY),
        dns_search=("example.org", "lab.example.org."),
        hostname="guest",
        fqdn="guest.example.org",
    )
    message = request(dhcp4.DISCOVER, {dhcp4.CLIENT_ID: CLIENT})
    assert list(answered(message, configuration).message.options.items()) == [
        (53, b"\2"),
        (1, parse("255.255.255.0")),
        (3, GATEWAY4),
        (6, REMOTE4 + OTHER + GATEWAY4),
        (12, b"guest"),
        (15, b"example.org"),
        (26, b"\x05\xdc"),
        (51, FOREVER),
        (54, GATEWAY4),
        (61, CLIENT),
        (81, b"\x04\xff\xff\x05guest\x07example\x03org\x00"),
        (119, b"\x07example\x03org\x00\x03lab\xc0\x00"),
    ]


def test_a_released_address_is_offered_again() -> None:
    bench = Bench()
    bench.receive(dhcp4.emit(request(dhcp4.REQUEST, SELECT)))
    given = bench.reply()[-1]
    bench.receive(dhcp4.emit(request(dhcp4.RELEASE, client=GUEST4)))
    bench.receive(dhcp4.emit(request(dhcp4.DISCOVER)))
    offered = bench.reply()[-1]
    assert (given.yours, offered.yours) == (GUEST4, GUEST4)
    assert offered.options == {**given.options, dhcp4.MESSAGE_TYPE: bytes((dhcp4.OFFER,))}


def test_an_offer_has_nothing_that_is_not_known() -> None:
    configuration = replace(config(), advertise_mtu=False)
    assert list(answered(request(dhcp4.DISCOVER), configuration).message.options) == [53, 1, 3, 51, 54]


@pytest.mark.parametrize(("configured", "told"), [(None, FOREVER), (3600, bytes.fromhex("00000e10"))])
def test_the_lease_time_is_that_of_the_configuration(configured: int | None, told: bytes) -> None:
    wish = {dhcp4.LEASE_TIME: (60).to_bytes(4, "big")}
    configuration = replace(config(), lease_time=configured)
    for message in (request(dhcp4.DISCOVER, wish), request(dhcp4.REQUEST, SELECT | wish)):
        assert answered(message, configuration).message.options[dhcp4.LEASE_TIME] == told


def test_options_come_in_the_requested_order() -> None:
    message = request(dhcp4.DISCOVER, {dhcp4.PARAMETER_LIST: bytes([26, 99, 3, 26, 1])})
    assert list(answered(message).message.options) == [53, 26, 3, 1, 51, 54]
    message = request(dhcp4.DISCOVER, {dhcp4.PARAMETER_LIST: bytes([54, 53])})
    assert list(answered(message).message.options) == [54, 53, 1, 3, 26, 51]


def test_rapid_commit_is_confirmed_where_it_was_used() -> None:
    rapid = {dhcp4.RAPID_COMMIT: b""}
    assert answered(request(dhcp4.DISCOVER, rapid)).message.options[dhcp4.RAPID_COMMIT] == b""
    assert dhcp4.RAPID_COMMIT not in answered(request(dhcp4.REQUEST, SELECT | rapid)).message.options
    assert dhcp4.RAPID_COMMIT not in answered(request(dhcp4.INFORM, rapid)).message.options


def test_a_nak_says_who_and_why_alone() -> None:
    told = answered(request(dhcp4.REQUEST, {dhcp4.CLIENT_ID: CLIENT})).message.options
    assert list(told) == [53, 54, 56, 61]


def test_bootp_gets_no_options_of_dhcp_and_no_more_than_it_has_room_for() -> None:
    configuration = replace(
        config(prefix_length=32), dns_servers=(REMOTE4,), hostname="h" * 30, dns_search=("example.org", "example.com")
    )
    told = answered(request(None, {dhcp4.CLIENT_ID: CLIENT}), configuration)
    assert list(told.message.options) == [1, 3, 6, 15, 26, 121]
    assert len(dhcp4.emit(told.message)) == 300


@pytest.mark.parametrize(
    ("prefix_length", "mask"), [(0, "0.0.0.0"), (8, "255.0.0.0"), (30, "255.255.255.252"), (32, "255.255.255.255")]
)
def test_the_mask(prefix_length: int, mask: str) -> None:
    told = options(request(dhcp4.DISCOVER), config(prefix_length=prefix_length))
    assert told[dhcp4.SUBNET_MASK] == parse(mask)


def test_a_gateway_off_the_network_gets_routes() -> None:
    off = NetworkConfig(ipv4=Ipv4Config(address=parse("192.0.2.15"), prefix_length=24, gateway=GATEWAY4))
    told = options(request(dhcp4.DISCOVER), off)
    assert told[dhcp4.ROUTER] == GATEWAY4
    assert told[dhcp4.CLASSLESS_ROUTES] == b"\x20" + GATEWAY4 + NOWHERE + b"\x00" + GATEWAY4
    assert dhcp4.CLASSLESS_ROUTES not in options(request(dhcp4.DISCOVER), config())


LONG: Final = tuple(f"{index:050}.example.org" for index in range(60))


@pytest.mark.parametrize(
    ("asked", "size"),
    [
        pytest.param(None, 548, id="not said"),
        pytest.param(b"\x00\x40", 548, id="less than allowed"),
        pytest.param(b"\x04\x00", 996, id="1024"),
        pytest.param(b"\xff\xff", 1472, id="more than the link takes"),
        pytest.param(b"\xff", 548, id="broken"),
    ],
)
def test_a_reply_is_no_larger_than_the_client_takes(asked: bytes | None, size: int) -> None:
    configuration = replace(config(link=LinkConfig(mtu=1500)), dns_search=LONG)
    limit = {} if asked is None else {dhcp4.MAX_SIZE: asked}
    reply = answered(request(dhcp4.DISCOVER, limit), configuration).message
    data = dhcp4.emit(reply)
    assert size - 60 < len(data) <= size
    assert dhcp4.parse(data, 0, len(data)) == reply


def test_search_domains_are_cut_at_a_whole_one() -> None:
    search = options(request(dhcp4.DISCOVER), replace(config(), dns_search=LONG))[dhcp4.DOMAIN_SEARCH]
    found, position = [], 0
    while position < len(search):
        name, used = dns.name.from_wire(search, position)
        found.append(name.to_text(omit_final_dot=True))
        position += used
    assert found == list(LONG[: len(found)])
    assert 0 < len(found) < len(LONG)


def test_the_most_important_options_have_priority() -> None:
    hostname, fqdn = ".".join(["h" * 60] * 3), ".".join(["f" * 60] * 4)
    configuration = replace(config(), dns_servers=(REMOTE4,), hostname=hostname, fqdn=fqdn, dns_search=("s" * 60,))
    told = answered(request(dhcp4.DISCOVER, {dhcp4.CLIENT_ID: bytes(255)}), configuration).message
    assert list(told.options) == [53, 1, 3, 6, 26, 51, 54, 61]
    told = answered(request(dhcp4.DISCOVER, {dhcp4.CLIENT_ID: bytes(999)}), configuration).message
    assert dhcp4.CLIENT_ID not in told.options
    assert len(dhcp4.emit(told)) <= 548


class Bench(Bare):
    """A DHCP server on a context."""

    def __init__(self, configuration: NetworkConfig | None = None) -> None:
        super().__init__(configuration or config())
        self.server = Dhcp4(self.context)

    def receive(self, payload: bytes) -> None:
        ip, buf = header(udp(NOWHERE, 68, EVERYWHERE, 67, payload))
        self.server.receive(ip, wire_udp.parse(buf, ip, True), buf)

    def reply(self) -> tuple[bytes, bytes, bytes, int, int, Message]:
        """Take the one frame: Ethernet destination, source, destination, ports, message."""
        [frame] = [read_frame(frame, vnet=False) for frame in self.context.out.frames]
        self.context.out.frames = []
        ip = read_ip(frame)
        ports = int.from_bytes(ip.payload[:2], "big"), int.from_bytes(ip.payload[2:4], "big")
        return frame.destination, ip.source, ip.destination, *ports, dhcp4.parse(ip.payload, 8, len(ip.payload))


def test_an_offer_is_sent() -> None:
    bench = Bench()
    ip, buf = header(dhcp_discover(GUEST_MAC))
    bench.server.receive(ip, wire_udp.parse(buf, ip, True), buf)
    *ends, message = bench.reply()
    assert ends == [b"\xff" * 6, GATEWAY4, EVERYWHERE, 67, 68]
    assert (message.type, message.yours, message.transaction) == (dhcp4.OFFER, GUEST4, 0x5A5A5A5A)
    assert bench.notices() == []


def test_an_ack_is_sent_and_noticed() -> None:
    bench = Bench()
    bench.context.guest.learn(REMOTE4)
    bench.receive(dhcp4.emit(request(dhcp4.REQUEST, SELECT)))
    *ends, message = bench.reply()
    assert ends == [GUEST_MAC, GATEWAY4, GUEST4, 67, 68]
    assert (message.type, message.yours) == (dhcp4.ACK, GUEST4)
    assert bench.notices() == [LeaseGiven(GUEST4, GUEST_MAC, 100.0)]
    assert bench.context.guest.ipv4 == GUEST4
    assert bench.drops() == {}


def test_without_notices_in_the_configuration_there_are_none() -> None:
    bench = Bench(replace(config(), notices=False))
    bench.receive(dhcp4.emit(request(dhcp4.REQUEST, SELECT)))
    assert bench.notices() == []


@pytest.mark.parametrize("message", IGNORED)
def test_a_message_without_a_reply_is_counted(message: Message) -> None:
    bench = Bench()
    bench.receive(dhcp4.emit(message))
    assert bench.context.out.frames == []
    is_routine = message.operation == dhcp4.BOOTREQUEST and message.type in (dhcp4.REQUEST, dhcp4.RELEASE)
    assert bench.drops() == ({} if is_routine else {Reason.DHCP_IGNORED: 1})
    assert bench.context.ignored == is_routine


def test_malformed_messages_are_refused() -> None:
    with pytest.raises(Malformed, match=Reason.DHCP_MALFORMED.value):
        Bench().receive(bytes(100))


def test_real_clients_are_served() -> None:
    configuration = replace(
        config(), ipv4=Ipv4Config(address=parse("192.0.2.15"), prefix_length=24, gateway=parse("192.0.2.1"))
    )
    bench = Bench(configuration)
    kinds = []
    for ip, udp_header, buf in datagrams(67):
        bench.server.receive(ip, udp_header, buf)
        kinds.append(bench.reply()[-1].type)
    assert kinds == [dhcp4.OFFER, dhcp4.ACK, dhcp4.NAK, dhcp4.OFFER, dhcp4.ACK]


@given(
    st.one_of(st.none(), st.integers(0, 9)),
    st.dictionaries(st.sampled_from([50, 54, 55, 57, 61, 80, 81]), st.binary(max_size=500)),
    st.integers(0, 0xFFFF),
    st.binary(min_size=4, max_size=4),
    st.binary(min_size=4, max_size=4),
)
def test_any_input_causes_at_most_one_frame(
    kind: int | None, found: dict[int, bytes], flags: int, client: bytes, relay: bytes
) -> None:
    bench = Bench(replace(config(), dns_search=LONG, hostname="guest", fqdn="guest.example.org"))
    bench.receive(dhcp4.emit(request(kind, found, flags=flags, client=client, relay=relay)))
    assert len(bench.context.out.frames) + sum(bench.drops().values()) + bench.context.ignored == 1


@given(st.binary(max_size=120))
def test_no_bytes_raise_anything_else(data: bytes) -> None:
    bench = Bench()
    with suppress(Malformed):
        bench.receive(dhcp4.emit(request(None))[:240] + data)
    assert len(bench.context.out.frames) <= 1
