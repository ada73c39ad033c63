"""The map between addresses of the guest's side and of the host's."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sansnet_core.address_map import AddressMap
from sansnet_core.addresses import format, is_loopback, is_unspecified, parse
from sansnet_core.config import Ipv6Config, NetworkConfig
from sansnet_core.errors import ConfigError, Reason
from sansnet_core.guest_addresses import GuestAddresses
from sansnet_core.orders import Endpoint
from tests.core.proto.bare import GATEWAY4, GATEWAY6, GUEST4, GUEST6, REMOTE4, REMOTE6, config

LOOPBACK4 = parse("127.0.0.1")
LOOPBACK6 = parse("::1")
RESOLVER4 = parse("127.0.0.53")
RESOLVER6 = parse("2001:db8::53")
DNS4 = parse("10.0.2.3")
DNS6 = parse("fe80::53")
ALIAS4, ALIAS6 = parse("169.254.1.2"), parse("fe80::12")
LINK_LOCAL = parse("fe80::15")

addresses = st.binary(min_size=4, max_size=4) | st.binary(min_size=16, max_size=16)
# Uniformly random bytes would never be in the networks that matter
close_to_loopback = st.one_of(
    st.binary(min_size=3, max_size=3).map(lambda rest: b"\x7f" + rest),
    st.binary(min_size=3, max_size=3).map(lambda rest: b"\x00" + rest),
    st.binary(min_size=4, max_size=4).map(lambda rest: bytes(12) + rest),
    st.binary(min_size=4, max_size=4).map(lambda rest: bytes(10) + b"\xff\xff" + rest),
    st.sampled_from([bytes(15) + b"\x01", bytes(16), bytes(10) + b"\xff\xff\x7f\0\0\1"]),
)
ports = st.integers(0, 65535) | st.sampled_from([53, 853])


@pytest.mark.parametrize("address", ["192.0.2.7", "10.0.2.3", "169.254.1.1", "2001:db8::7", "fe80::7", "64:ff9b::1"])
def test_a_destination_is_its_own_host_address(address: str) -> None:
    assert AddressMap(config()).to_host(parse(address), 80) == Endpoint(parse(address), 80)


@pytest.mark.parametrize("groups", [False, True])
@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",
        "0.1.2.3",
        "127.0.0.1",
        "127.255.255.255",
        "240.0.0.1",
        "255.255.255.254",
        "::",
        "::1",
        "::127.0.0.1",
        "::ffff:127.0.0.1",
        "::ffff:192.0.2.7",
        "ff00::1",
        "ff01::1",
        "ff11::1",
    ],
)
def test_an_invalid_destination_is_closed(address: str, groups: bool) -> None:
    assert AddressMap(config()).to_host(parse(address), 80, groups=groups) is None


@pytest.mark.parametrize("address", ["224.0.0.251", "239.255.255.250", "ff02::fb"])
def test_groups_are_open_on_request_only(address: str) -> None:
    address_map = AddressMap(config())
    assert address_map.is_group(parse(address))
    assert address_map.to_host(parse(address), 80) is None
    assert address_map.to_host(parse(address), 80, groups=True) == Endpoint(parse(address), 80)


@pytest.mark.parametrize("groups", [False, True])
@pytest.mark.parametrize("address", ["255.255.255.255", "10.0.2.255"])
def test_broadcasts_do_not_leave(address: str, groups: bool) -> None:
    address_map = AddressMap(config())
    assert address_map.to_host(parse(address), 9, groups=groups) is None
    assert address_map.refusal(parse(address)) is Reason.IP_BROADCAST


@pytest.mark.parametrize("prefix_length", [31, 32])
def test_the_shortest_networks_have_no_broadcast_address(prefix_length: int) -> None:
    address_map = AddressMap(config(prefix_length=prefix_length))
    assert not address_map.is_group(parse("10.0.2.15"))
    assert not address_map.is_group(parse("10.0.2.255"))


def test_the_host_is_reached_by_its_aliases_on_any_port() -> None:
    address_map = AddressMap(config(map_host_loopback=(GATEWAY4, GATEWAY6)))
    assert address_map.to_host(GATEWAY4, 8080) == Endpoint(LOOPBACK4, 8080)
    assert address_map.to_host(GATEWAY6, 8080) == Endpoint(LOOPBACK6, 8080)


def test_an_alias_may_be_an_address_that_is_closed_otherwise() -> None:
    assert AddressMap(config(map_host_loopback=(LOOPBACK4,))).to_host(LOOPBACK4, 80) == Endpoint(LOOPBACK4, 80)


@pytest.mark.parametrize("port", [53, 853])
def test_dns_goes_to_the_hosts_resolver(port: int) -> None:
    address_map = AddressMap(config(dns_forward=((DNS4, Endpoint(RESOLVER4, 53)), (DNS6, Endpoint(RESOLVER6, 53)))))
    assert address_map.to_host(DNS4, port) == Endpoint(RESOLVER4, port)
    assert address_map.to_host(DNS6, port) == Endpoint(RESOLVER6, port)


def test_a_name_server_at_another_port_is_reached_there_and_port_853_is_closed() -> None:
    address_map = AddressMap(config(dns_forward=((DNS4, Endpoint(RESOLVER4, 5353)), (DNS6, Endpoint(RESOLVER6, 54)))))
    assert address_map.to_host(DNS4, 53) == Endpoint(RESOLVER4, 5353)
    assert address_map.to_host(DNS6, 53) == Endpoint(RESOLVER6, 54)
    assert address_map.to_host(DNS4, 853) is None
    assert address_map.to_host(DNS4, 5353) is None


def test_with_a_name_server_at_another_port_dns_over_tls_is_that_of_the_alias_of_loopback() -> None:
    address_map = AddressMap(config(dns_forward=((GATEWAY4, Endpoint(RESOLVER4, 54)),), map_host_loopback=(GATEWAY4,)))
    assert address_map.to_host(GATEWAY4, 853) == Endpoint(LOOPBACK4, 853)


def test_only_dns_ports_go_to_the_hosts_resolver() -> None:
    address_map = AddressMap(config(dns_forward=((DNS4, Endpoint(RESOLVER4, 53)),)))
    assert address_map.to_host(DNS4, 54) is None
    assert address_map.refusal(DNS4) is Reason.OWN_ADDRESS


@pytest.mark.parametrize("port", [0, 53, 80])
@pytest.mark.parametrize("address", [GATEWAY4, GATEWAY6], ids=format)
def test_a_gateway_exists_on_the_guests_segment_only(address: bytes, port: int) -> None:
    address_map = AddressMap(config())
    assert address_map.to_host(address, port) is None
    assert address_map.refusal(address) is Reason.OWN_ADDRESS


def test_an_address_that_is_not_listed_as_ours_is_reached_on_the_host() -> None:
    address_map = AddressMap(config(own_addresses=(GATEWAY6,), dns_forward=((GATEWAY4, Endpoint(RESOLVER4, 53)),)))
    assert address_map.to_host(GATEWAY4, 80) == Endpoint(GATEWAY4, 80)
    assert address_map.to_host(GATEWAY4, 53) == Endpoint(RESOLVER4, 53)
    assert address_map.to_host(GATEWAY6, 80) is None


def test_an_address_of_ours_that_is_mapped_is_reached() -> None:
    address_map = AddressMap(config(own_addresses=(GATEWAY4, DNS4), map_host_loopback=(GATEWAY4,)))
    assert address_map.to_host(GATEWAY4, 80) == Endpoint(LOOPBACK4, 80)
    assert address_map.own == {DNS4}


def test_addresses_of_ours_have_the_size_of_one() -> None:
    with pytest.raises(ConfigError, match="own_addresses"):
        config(own_addresses=(b"abc",))


@pytest.mark.parametrize("address", ["192.0.2.7", "2001:db8::7", "fe80::7"])
def test_a_host_endpoint_is_reachable_as_the_endpoint_that_leads_to_it(address: str) -> None:
    outsider = Endpoint(parse(address), 9)
    assert AddressMap(config()).reachable_as(outsider, None, GuestAddresses(config())) == outsider


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "0.0.0.0", "10.0.2.2", "10.0.2.15", "224.0.0.1", "::1", "fe80::2", "2001:db8:2::15"]
)
def test_an_endpoint_that_the_guest_cannot_send_to_is_not_reachable(address: str) -> None:
    configuration = config(map_host_loopback=(ALIAS4, ALIAS6), map_guest_address=(DNS4, DNS6))
    assert (
        AddressMap(configuration).reachable_as(Endpoint(parse(address), 9), None, GuestAddresses(configuration)) is None
    )


def test_an_endpoint_with_an_address_of_the_guest_is_not_reachable() -> None:
    guest = GuestAddresses(config())
    guest.learn(REMOTE4)
    assert AddressMap(config()).reachable_as(Endpoint(REMOTE4, 9), None, guest) is None


@given(address=addresses | close_to_loopback, alias=st.none() | addresses, port=ports)
def test_a_reachable_endpoint_leads_back_to_the_host_endpoint(address: bytes, alias: bytes | None, port: int) -> None:
    configuration = config(map_host_loopback=(ALIAS4, ALIAS6), dns_forward=((DNS4, Endpoint(RESOLVER4, 53)),))
    address_map = AddressMap(configuration)
    seen = address_map.reachable_as(Endpoint(address, port), alias, GuestAddresses(configuration))
    if seen is not None:
        assert address_map.to_host(*seen) == Endpoint(address, port)
        assert seen.address == (alias or address)


def test_dns_comes_before_the_alias_of_loopback() -> None:
    address_map = AddressMap(config(dns_forward=((GATEWAY4, Endpoint(RESOLVER4, 53)),), map_host_loopback=(GATEWAY4,)))
    assert address_map.to_host(GATEWAY4, 53) == Endpoint(RESOLVER4, 53)
    assert address_map.to_host(GATEWAY4, 80) == Endpoint(LOOPBACK4, 80)


def test_of_two_resolvers_for_one_address_the_first_counts() -> None:
    address_map = AddressMap(config(dns_forward=((DNS4, Endpoint(RESOLVER4, 53)), (DNS4, Endpoint(LOOPBACK4, 53)))))
    assert address_map.to_host(DNS4, 53) == Endpoint(RESOLVER4, 53)


def test_the_source_address_is_chosen_by_family() -> None:
    outbound4, outbound6 = parse("198.51.100.1"), parse("2001:db8:1::1")
    address_map = AddressMap(config(outbound4=outbound4, outbound6=outbound6))
    assert address_map.outbound(parse("192.0.2.7")) == outbound4
    assert address_map.outbound(parse("2001:db8::7")) == outbound6


@pytest.mark.parametrize("address", [RESOLVER4, LOOPBACK6], ids=format)
def test_the_source_address_for_loopback_is_left_to_the_kernel(address: bytes) -> None:
    address_map = AddressMap(config(outbound4=parse("198.51.100.1"), outbound6=parse("2001:db8:1::1")))
    assert address_map.outbound(address) is None


def test_without_configuration_the_source_address_is_left_to_the_kernel() -> None:
    assert AddressMap(config()).outbound(parse("192.0.2.7")) is None


@given(destination=addresses | close_to_loopback, port=ports, groups=st.booleans())
def test_nothing_reaches_the_hosts_loopback_unless_configured(destination: bytes, port: int, groups: bool) -> None:
    host = AddressMap(config()).to_host(destination, port, groups=groups)
    if host is not None:
        mapped = host.address[:12] == bytes(10) + b"\xff\xff"
        assert not is_loopback(host.address[12:] if mapped else host.address)
        assert not is_unspecified(host.address)
        assert host == Endpoint(destination, port)


@given(destination=addresses | close_to_loopback, port=ports, groups=st.booleans())
def test_with_aliases_only_they_reach_the_hosts_loopback(destination: bytes, port: int, groups: bool) -> None:
    address_map = AddressMap(
        config(map_host_loopback=(GATEWAY4, GATEWAY6), dns_forward=((DNS4, Endpoint(RESOLVER4, 53)),))
    )
    host = address_map.to_host(destination, port, groups=groups)
    if host is not None and is_loopback(host.address):
        assert destination in (GATEWAY4, GATEWAY6, DNS4)


def test_the_hosts_address_that_is_the_guests_own_is_reached_by_its_alias() -> None:
    address_map = AddressMap(config(map_guest_address=(ALIAS4, ALIAS6)))
    assert address_map.to_host(ALIAS4, 80) == Endpoint(GUEST4, 80)
    assert address_map.to_host(ALIAS6, 80) == Endpoint(GUEST6, 80)
    assert address_map.to_guest(GUEST4) == ALIAS4


def test_of_two_meanings_of_an_alias_the_hosts_loopback_comes_first() -> None:
    address_map = AddressMap(config(map_guest_address=(ALIAS4,), map_host_loopback=(ALIAS4,)))
    assert address_map.to_host(ALIAS4, 80) == Endpoint(LOOPBACK4, 80)


def test_where_the_guest_has_no_address_its_alias_is_an_address_like_any_other() -> None:
    configuration = NetworkConfig(ipv6=Ipv6Config(address=None, gateway=GATEWAY6), map_guest_address=(ALIAS4, ALIAS6))
    assert AddressMap(configuration).to_host(ALIAS6, 80) == Endpoint(ALIAS6, 80)


def test_a_family_has_one_alias_of_a_kind() -> None:
    with pytest.raises(ConfigError, match="map_host_loopback: there are two addresses of one family"):
        config(map_host_loopback=(ALIAS4, DNS4))
    with pytest.raises(ConfigError, match="map_guest_address: there are two addresses of one family"):
        config(map_guest_address=(ALIAS6, DNS6))


# inbound traffic


def from_outside(
    host: str | bytes, configuration: NetworkConfig | None = None, *, guest: GuestAddresses | None = None
) -> bytes | Reason:
    """The address by which the guest sees a host outside."""
    configuration = configuration or config()
    address = parse(host) if isinstance(host, str) else host
    ends = AddressMap(configuration).inbound(address, None, guest or GuestAddresses(configuration))
    return ends if isinstance(ends, Reason) else ends[0]


@pytest.mark.parametrize(
    "host", ["192.0.2.7", "10.0.2.2", "10.0.2.99", "169.254.7.7", "2001:db8::7", "fe80::7", "fd00::7"]
)
def test_a_host_that_the_guest_can_reply_to_keeps_its_address(host: str) -> None:
    assert from_outside(host) == parse(host)


@pytest.mark.parametrize(
    ("host", "ours"),
    [
        ("127.0.0.1", GATEWAY4),
        ("127.0.0.53", GATEWAY4),
        ("240.1.2.3", GATEWAY4),
        ("10.0.2.15", GATEWAY4),
        ("::1", GATEWAY6),
        ("2001:db8:2::15", GATEWAY6),
    ],
)
def test_a_host_that_the_guest_cannot_reply_to_gets_our_address(host: str, ours: bytes) -> None:
    assert from_outside(host) == ours


@pytest.mark.parametrize("host", ["0.0.0.0", "0.1.2.3", "::", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:192.0.2.7"])
def test_an_invalid_source_is_refused_since_a_reply_would_reach_the_hosts_loopback(host: str) -> None:
    assert from_outside(host) is Reason.INBOUND_SOURCE
    assert from_outside(host, config(map_host_loopback=(ALIAS4, ALIAS6))) is Reason.INBOUND_SOURCE


@pytest.mark.parametrize(
    ("host", "alias"),
    [("127.0.0.1", ALIAS4), ("127.0.0.2", GATEWAY4), ("::1", ALIAS6), ("10.0.2.15", GATEWAY4)],
)
def test_exactly_the_hosts_loopback_is_seen_as_its_alias(host: str, alias: bytes) -> None:
    assert from_outside(host, config(map_host_loopback=(ALIAS4, ALIAS6))) == alias


@pytest.mark.parametrize(
    ("host", "alias"), [("10.0.2.15", ALIAS4), ("2001:db8:2::15", ALIAS6), ("127.0.0.1", GATEWAY4)]
)
def test_the_hosts_address_that_is_the_guests_own_is_seen_as_its_alias(host: str, alias: bytes) -> None:
    assert from_outside(host, config(map_guest_address=(ALIAS4, ALIAS6))) == alias


def test_a_host_with_an_address_that_the_guest_used_gets_ours() -> None:
    guest = GuestAddresses(config())
    for address in (REMOTE4, REMOTE6, LINK_LOCAL):
        guest.learn(address)
    assert from_outside(REMOTE4, guest=guest) == GATEWAY4
    assert from_outside(REMOTE6, guest=guest) == GATEWAY6
    assert from_outside(LINK_LOCAL, guest=guest) == GATEWAY6
    assert from_outside(GUEST4, guest=guest) == GATEWAY4, "the address that it was given is still its own"


def test_a_host_with_the_destination_address_gets_ours() -> None:
    ends = AddressMap(config()).inbound(REMOTE4, REMOTE4, GuestAddresses(config()))
    assert ends == (GATEWAY4, REMOTE4)


def test_without_an_address_of_ours_who_cannot_be_answered_is_refused() -> None:
    assert from_outside("127.0.0.1", config(gateway4=None)) is Reason.INBOUND_SOURCE


@pytest.mark.parametrize(
    ("host", "addressed"),
    [("192.0.2.7", GUEST4), ("2001:db8::7", GUEST6), ("fe80::7", LINK_LOCAL), ("::1", LINK_LOCAL)],
)
def test_neighbours_reach_the_guests_link_local_address(host: str, addressed: bytes) -> None:
    guest = GuestAddresses(config())
    guest.learn(LINK_LOCAL)
    ends = AddressMap(config()).inbound(parse(host), None, guest)
    assert not isinstance(ends, Reason)
    assert ends[1] == addressed


def test_until_the_link_local_address_is_learnt_neighbours_reach_the_other_one() -> None:
    assert AddressMap(config()).inbound(parse("fe80::7"), None, GuestAddresses(config())) == (parse("fe80::7"), GUEST6)


@given(host=addresses | close_to_loopback)
def test_the_guest_can_reply_to_every_source_from_outside(host: bytes) -> None:
    address_map = AddressMap(config())
    ends = address_map.inbound(host, None, GuestAddresses(config()))
    if isinstance(ends, Reason):
        assert address_map.to_host(host, 80) is None
        return
    if ends[0] not in (GATEWAY4, GATEWAY6):
        assert address_map.to_host(ends[0], 80) == Endpoint(ends[0], 80)
    assert ends[0] not in (GUEST4, GUEST6)
