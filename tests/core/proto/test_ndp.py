"""Answers to solicitations, and router advertisements."""

from __future__ import annotations

from contextlib import suppress
from itertools import pairwise
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sansnet_core.addresses import Endpoint, format, parse
from sansnet_core.config import GATEWAY_MAC, Ipv4Config, Ipv6Config, LinkConfig, NetworkConfig
from sansnet_core.errors import Malformed, Reason
from sansnet_core.proto.ndp import Ndp, advertise
from sansnet_core.records import replace
from sansnet_core.testing.packets import Ip, icmp, neighbor_solicitation, read_frame, read_ip, router_solicitation
from sansnet_core.wire import icmp6, ndp
from sansnet_core.wire.ndp import RouterAdvertisement
from tests.core.proto.bare import GATEWAY6, GUEST4, GUEST6, GUEST_MAC, REMOTE6, Bare, config, header

LINK_LOCAL = parse("fe80::15")
UNSPECIFIED = bytes(16)
SERVER6 = parse("2001:db8::53")
ALIAS6, DNS6 = parse("fe80::12"), parse("fe80::3")


class Bench(Bare):
    """NDP on a context."""

    def __init__(self, configuration: NetworkConfig | None = None) -> None:
        super().__init__(configuration or config())
        self.ndp = Ndp(self.context)

    def receive(self, packet: Ip) -> None:
        ip, buf = header(packet)
        self.ndp.receive(ip, icmp6.parse(buf, ip, True), buf)

    def sent(self) -> list[tuple[bytes, bytes, bytes, int, bytes]]:
        """Take the frames: Ethernet destination, source, destination, type, and the bytes behind the checksum."""
        taken, self.context.out.frames = self.context.out.frames, []
        found = []
        for frame in (read_frame(frame, vnet=False) for frame in taken):
            packet = read_ip(frame)
            assert packet.ttl == 255
            found.append((frame.destination, packet.source, packet.destination, packet.payload[0], packet.payload[4:]))
        return found


def message(built: tuple[int, bytes]) -> bytes:
    """Both parts of a message behind its checksum."""
    rest, payload = built
    return rest.to_bytes(4, "big") + payload


def advertisement(configuration: NetworkConfig) -> bytes:
    told = advertise(configuration)
    assert told is not None
    return message(ndp.advertise_router(told))


def test_the_router_tells_all_it_knows() -> None:
    configuration = replace(
        config(link=LinkConfig(mtu=1500)),
        dns_servers=(GUEST4, SERVER6),
        dns_search=("example.org",),
    )
    assert advertise(configuration) == RouterAdvertisement(
        flags=ndp.MANAGED | ndp.OTHER,
        lifetime=65535,
        prefix=GUEST6[:8],
        mac=GATEWAY_MAC,
        mtu=1500,
        servers=(SERVER6,),
        search=("example.org",),
    )


@pytest.mark.parametrize("address", [None, LINK_LOCAL])
def test_without_a_global_address_there_is_no_prefix_and_dhcp_has_only_dns(address: bytes | None) -> None:
    told = advertise(NetworkConfig(ipv6=Ipv6Config(address=address, gateway=GATEWAY6)))
    assert told is not None
    assert (told.prefix, told.flags) == (None, ndp.OTHER)


def test_without_dhcp_the_router_does_not_send_guests_there() -> None:
    told = advertise(replace(config(), dhcp6=False))
    assert told is not None
    assert told.flags == 0


@pytest.mark.parametrize(
    "configuration",
    [replace(config(), advertise_mtu=False), config(link=LinkConfig(mtu=1279))],
    ids=["not wanted", "less than IPv6 needs"],
)
def test_the_mtu_is_not_advertised(configuration: NetworkConfig) -> None:
    told = advertise(configuration)
    assert told is not None
    assert told.mtu is None


SILENT = [
    pytest.param(replace(config(), router_advertisements=False), id="off"),
    pytest.param(replace(config(), ndp=False), id="NDP off"),
    pytest.param(
        NetworkConfig(ipv4=Ipv4Config(address=GUEST4, prefix_length=24, gateway=None)),
        id="no IPv6",
    ),
]


@pytest.mark.parametrize("configuration", SILENT)
def test_without_router_advertisements_none_are_sent(configuration: NetworkConfig) -> None:
    assert advertise(configuration) is None
    bench = Bench(configuration)
    bench.ndp.start()
    bench.wait(10_000)
    assert bench.sent() == []
    assert bench.ndp.deadline == inf


def test_without_advertisements_neighbours_are_still_found() -> None:
    bench = Bench(replace(config(), router_advertisements=False))
    bench.receive(router_solicitation(LINK_LOCAL, GUEST_MAC))
    assert bench.sent() == []
    bench.receive(neighbor_solicitation(LINK_LOCAL, GATEWAY6, GUEST_MAC))
    assert len(bench.sent()) == 1


def test_a_guest_that_asks_for_routers_is_told() -> None:
    bench = Bench()
    bench.receive(router_solicitation(LINK_LOCAL, GUEST_MAC))
    body = advertisement(config())
    assert bench.sent() == [(GUEST_MAC, GATEWAY6, LINK_LOCAL, icmp6.ROUTER_ADVERTISEMENT, body)]


def test_a_guest_without_an_address_is_told_like_all_nodes() -> None:
    bench = Bench()
    bench.receive(icmp(UNSPECIFIED, ndp.ALL_ROUTERS, 133, 0, bytes(4), ttl=255))
    everybody = bytes.fromhex("333300000001")
    body = advertisement(config())
    assert bench.sent() == [(everybody, GATEWAY6, ndp.ALL_NODES, icmp6.ROUTER_ADVERTISEMENT, body)]


@pytest.mark.parametrize("target", [GATEWAY6, REMOTE6, parse("2001:db8:2::77")])
def test_every_address_is_ours(target: bytes) -> None:
    bench = Bench()
    asker = bytes.fromhex("020000000002")
    bench.receive(neighbor_solicitation(LINK_LOCAL, target, asker))
    body = message(ndp.advertise_neighbour(target, GATEWAY_MAC, override=target == GATEWAY6))
    assert bench.sent() == [(asker, target, LINK_LOCAL, icmp6.NEIGHBOUR_ADVERTISEMENT, body)]


def test_an_asker_that_does_not_say_who_it_is_gets_its_answer_at_the_guests_address() -> None:
    bench = Bench()
    bench.receive(icmp(LINK_LOCAL, GATEWAY6, 135, 0, bytes(4) + GATEWAY6, ttl=255))
    [(mac, *_)] = bench.sent()
    assert mac == GUEST_MAC


@pytest.mark.parametrize(
    ("source", "target"),
    [
        pytest.param(LINK_LOCAL, GUEST6, id="configured"),
        pytest.param(LINK_LOCAL, parse("2001:db8:2::99"), id="in use"),
        pytest.param(GUEST6, LINK_LOCAL, id="link-local"),
        pytest.param(parse("2001:db8:2::5"), parse("2001:db8:2::5"), id="the asker's"),
    ],
)
def test_the_guest_keeps_its_own_addresses(source: bytes, target: bytes) -> None:
    bench = Bench()
    bench.context.guest.ipv6 = parse("2001:db8:2::99")
    bench.context.guest.link_local = LINK_LOCAL
    bench.receive(neighbor_solicitation(source, target, GUEST_MAC))
    assert bench.sent() == []


def _detection(target: bytes) -> Ip:
    """RFC 4862, 5.4.2."""
    return icmp(UNSPECIFIED, ndp.solicited_node(target), 135, 0, bytes(4) + target, ttl=255)


@pytest.mark.parametrize("target", [GUEST6, REMOTE6])
def test_no_address_but_ours_is_a_duplicate(target: bytes) -> None:
    bench = Bench()
    bench.receive(_detection(target))
    assert bench.sent() == []


@pytest.mark.parametrize("target", [GATEWAY6, ALIAS6, DNS6], ids=format)
def test_our_own_addresses_are_defended(target: bytes) -> None:
    """RFC 4862, 5.4.3, and RFC 4861, 7.2.4: to all nodes, without the solicited flag."""
    bench = Bench(config(map_host_loopback=(ALIAS6,), dns_forward=((DNS6, Endpoint(parse("::1"), 53)),)))
    bench.receive(_detection(target))
    [(mac, source, destination, kind, body)] = bench.sent()
    assert mac == bytes.fromhex("333300000001")
    assert (source, destination, kind) == (target, ndp.ALL_NODES, icmp6.NEIGHBOUR_ADVERTISEMENT)
    assert int.from_bytes(body[:4], "big") == 0xA0000000
    assert body[4:20] == target
    assert bench.context.guest.ipv6 == GUEST6


@pytest.mark.parametrize("target", [UNSPECIFIED, parse("::1"), parse("::ffff:192.0.2.1")], ids=format)
def test_an_address_that_no_packet_comes_from_is_not_advertised(target: bytes) -> None:
    bench = Bench()
    bench.receive(neighbor_solicitation(LINK_LOCAL, target, GUEST_MAC))
    assert bench.sent() == []


@pytest.mark.parametrize("kind", [134, 136, 137])
def test_messages_for_hosts_are_ignored(kind: int) -> None:
    bench = Bench()
    bench.receive(icmp(LINK_LOCAL, ndp.ALL_NODES, kind, 0, bytes(36), ttl=255))
    assert bench.sent() == []


def test_malformed_messages_are_refused() -> None:
    with pytest.raises(Malformed, match=Reason.NDP_MALFORMED.value):
        Bench().receive(icmp(LINK_LOCAL, GATEWAY6, 135, 0, bytes(4) + GATEWAY6, ttl=64))


def test_switched_off_it_handles_nothing() -> None:
    bench = Bench(replace(config(), ndp=False))
    bench.receive(neighbor_solicitation(LINK_LOCAL, GATEWAY6, GUEST_MAC))
    assert bench.sent() == []
    assert (bench.drops(), bench.context.ignored) == ({}, 1)


def test_advertisements_go_out_unasked() -> None:
    bench = Bench()
    bench.ndp.start()
    times: list[float] = []
    while len(times) < 20:
        bench.wait(bench.ndp.deadline - bench.context.now)
        [(mac, source, destination, kind, _)] = bench.sent()
        assert (source, destination, kind) == (GATEWAY6, ndp.ALL_NODES, icmp6.ROUTER_ADVERTISEMENT)
        assert mac == bytes.fromhex("333300000001")
        times.append(bench.context.now)
    assert times[:3] == [100.0, 116.0, 132.0]
    intervals = [later - earlier for earlier, later in pairwise(times[2:])]
    assert all(200 <= interval <= 600 for interval in intervals)
    assert len(set(intervals)) == len(intervals)


def test_the_guests_ethernet_address_can_be_requested() -> None:
    bench = Bench()
    bench.ndp.locate_guest()
    body = message(ndp.solicit_neighbour(GUEST6, GATEWAY_MAC))
    group = ndp.solicited_node(GUEST6)
    mac = bytes.fromhex("3333ff000015")
    assert bench.sent() == [(mac, GATEWAY6, group, icmp6.NEIGHBOUR_SOLICITATION, body)]


def test_nothing_is_requested_without_an_address_of_the_guest() -> None:
    bench = Bench(NetworkConfig(ipv6=Ipv6Config(address=None, gateway=GATEWAY6)))
    bench.ndp.locate_guest()
    assert bench.sent() == []


@given(
    st.integers(133, 137),
    st.integers(0, 1),
    st.binary(max_size=100),
    st.sampled_from([LINK_LOCAL, UNSPECIFIED]),
    st.sampled_from([64, 255]),
)
def test_any_input_causes_at_most_one_frame(kind: int, code: int, data: bytes, source: bytes, ttl: int) -> None:
    bench = Bench()
    with suppress(Malformed):
        bench.receive(icmp(source, ndp.ALL_ROUTERS, kind, code, bytes(4) + data, ttl=ttl))
    assert len(bench.sent()) <= 1


@pytest.mark.parametrize(
    ("target", "known"),
    [
        (REMOTE6, (REMOTE6, None)),
        (LINK_LOCAL, (GUEST6, LINK_LOCAL)),
        (GATEWAY6, (GUEST6, None)),
        (bytes(15) + b"\x01", (GUEST6, None)),
    ],
    ids=["an address of its own", "its link-local one", "ours", "loopback"],
)
def test_detection_of_duplicates_tells_the_guests_address(target: bytes, known: tuple[bytes, bytes | None]) -> None:
    """RFC 4862, 5.4: before it has sent anything from that address."""
    bench = Bench()
    bench.receive(icmp(UNSPECIFIED, ndp.solicited_node(target), 135, 0, bytes(4) + target, ttl=255))
    assert (bench.context.guest.ipv6, bench.context.guest.link_local) == known


@pytest.mark.parametrize("before", SILENT)
def test_what_was_not_advertised_is_not_withdrawn(before: NetworkConfig) -> None:
    bench = Bench(before)
    bench.context.config = config()
    bench.ndp.reconfigured(before)
    bench.wait(1)
    assert [body for *_, body in bench.sent()] == [advertisement(config())]
