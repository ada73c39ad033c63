from __future__ import annotations

import dns.name
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sansnet_core.addresses import parse as address
from sansnet_core.errors import Malformed, Reason
from sansnet_core.wire import dns_names, icmp6, ndp
from sansnet_core.wire.icmp6 import IcmpHeader
from sansnet_core.wire.ip import ICMPV6, IpHeader
from sansnet_core.wire.ndp import RouterAdvertisement, Solicitation
from tests.core.vectors import A6, B6, packets

MAC = bytes.fromhex("02000000000a")
LINK_LOCAL = address("fe80::a")
UNSPECIFIED = bytes(16)
SLLA = b"\x01\x01" + MAC
GROUP = ndp.solicited_node(B6)

NS, RS = icmp6.NEIGHBOUR_SOLICITATION, icmp6.ROUTER_SOLICITATION

names = st.lists(
    st.text("abcdefghijklmnopqrstuvwxyz-0", min_size=1, max_size=63), min_size=1, max_size=3
).map(".".join)  # fmt: skip


def message(
    kind: int,
    payload: bytes,
    *,
    source: bytes = A6,
    destination: bytes = GROUP,
    ttl: int = 255,
    code: int = 0,
) -> tuple[bytes, IpHeader, IcmpHeader]:
    """A frame whose headers are zeros, and the parsed headers."""
    start = 14 + 40 + 8
    end = start + len(payload)
    ip = IpHeader(6, source, destination, ICMPV6, ttl, 0, 14, 14 + 40, end)
    return bytes(start) + payload, ip, IcmpHeader(kind, code, 0, start, end)


def test_a_neighbour_solicitation_is_read() -> None:
    assert ndp.parse(*message(NS, B6 + SLLA)) == Solicitation(B6, MAC)
    assert ndp.parse(*message(NS, B6)) == Solicitation(B6, None)


def test_a_neighbour_solicitation_is_written() -> None:
    assert ndp.solicit_neighbour(B6, MAC) == (0, B6 + SLLA)


def test_a_router_solicitation_is_read() -> None:
    assert ndp.parse(*message(RS, SLLA, destination=ndp.ALL_ROUTERS)) == Solicitation(None, MAC)
    unknown_option = b"\xfd\x02" + bytes(14)
    assert ndp.parse(*message(RS, unknown_option + SLLA)) == Solicitation(None, MAC)


def test_a_solicitation_may_be_large() -> None:
    assert ndp.parse(*message(RS, SLLA + b"\xfd\x01\0\0\0\0\0\0" * 180)) == Solicitation(None, MAC)


def test_duplicate_address_detection_is_read() -> None:
    assert ndp.parse(*message(NS, B6, source=UNSPECIFIED)) == Solicitation(B6, None)


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(message(NS, B6 + SLLA, ttl=254), id="through a router"),
        pytest.param(message(RS, b"", ttl=1), id="router solicitation through a router"),
        pytest.param(message(NS, B6 + SLLA, code=1), id="code"),
        pytest.param(message(RS, SLLA, code=1), id="router solicitation with a code"),
        pytest.param(message(NS, B6[:15]), id="no target"),
        pytest.param(message(NS, b""), id="empty"),
        pytest.param(message(NS, ndp.ALL_NODES), id="multicast target"),
        pytest.param(message(NS, B6 + SLLA, source=UNSPECIFIED), id="link address of an unspecified source"),
        pytest.param(
            message(RS, SLLA, source=UNSPECIFIED), id="router solicitation with link address, unspecified source"
        ),
        pytest.param(message(NS, B6, source=UNSPECIFIED, destination=B6), id="unicast detection of a duplicate"),
        pytest.param(message(NS, B6 + b"\x01\x00" + MAC), id="option of no length"),
        pytest.param(message(NS, B6 + b"\x01\x02" + MAC + bytes(8)), id="link address of another length"),
        pytest.param(message(NS, B6 + SLLA[:7]), id="truncated option"),
        pytest.param(message(NS, B6 + b"\x01\x02" + MAC), id="option beyond the end"),
        pytest.param(message(NS, B6 + b"\xfd"), id="option without a length"),
        pytest.param(message(RS, SLLA + b"\xfd\x01\0\0\0\0\0\0" * 181), id="too long"),
    ],
)
def test_what_rfc_4861_says_to_discard_is_refused(broken: tuple[bytes, IpHeader, IcmpHeader]) -> None:
    with pytest.raises(Malformed, match=Reason.NDP_MALFORMED.value):
        ndp.parse(*broken)
    assert ndp.summary(*broken) == Reason.NDP_MALFORMED.value


def test_the_summary_names_the_target() -> None:
    assert ndp.summary(*message(NS, B6)) == "neighbour solicitation, who has 2001:db8::2"
    assert ndp.summary(*message(RS, b"")) == "router solicitation"


def test_a_neighbour_advertisement_is_written() -> None:
    # Router, solicited, override; the target's link-layer address
    assert ndp.advertise_neighbour(B6, MAC, override=True) == (0xE0000000, B6 + b"\x02\x01" + MAC)
    assert ndp.advertise_neighbour(B6, MAC, override=False) == (0xC0000000, B6 + b"\x02\x01" + MAC)


def test_a_router_advertisement_is_written() -> None:
    advertisement = RouterAdvertisement(
        flags=ndp.MANAGED,
        lifetime=1800,
        prefix=bytes.fromhex("20010db800020000"),
        mac=MAC,
        mtu=1500,
        servers=(A6, B6),
        search=("example.org", "lab.example.org"),
    )
    prefix = "0304 40c0 ffffffff ffffffff 00000000 20010db8000200000000000000000000"
    mtu = "0501 0000 000005dc"
    servers = "1905 0000 ffffffff" + A6.hex() + B6.hex()
    search = "1f05 0000 ffffffff 076578616d706c65036f726700 036c6162076578616d706c65036f726700 0000"
    options = bytes.fromhex(prefix) + SLLA + bytes.fromhex(mtu + servers + search)
    assert ndp.advertise_router(advertisement) == (0xFF800708, bytes(8) + options)


NOTHING = RouterAdvertisement(0, 65535, None, MAC, None, (), ())


def test_what_is_not_known_is_not_advertised() -> None:
    assert ndp.advertise_router(NOTHING) == (0xFF00FFFF, bytes(8) + SLLA)


def test_search_domains_need_no_servers_and_no_padding_if_they_fit_exactly() -> None:
    # 1 + 6 + 1 bytes: a multiple of 8 gets no further zeros
    _, payload = ndp.advertise_router(NOTHING._replace(search=("domain",)))
    assert payload == bytes(8) + SLLA + bytes.fromhex("1f020000ffffffff06646f6d61696e00")


def test_one_server_is_advertised() -> None:
    _, payload = ndp.advertise_router(NOTHING._replace(servers=(A6,)))
    assert payload == bytes(8) + SLLA + bytes.fromhex("1903 0000 ffffffff") + A6


def test_servers_and_domains_that_do_not_fit_are_left_out_whole() -> None:
    many = tuple(A6[:14] + index.to_bytes(2, "big") for index in range(200))
    _, payload = ndp.advertise_router(NOTHING._replace(servers=many, search=("example.org",) * 200))
    assert 1280 - 40 - 8 - 24 < len(payload) <= 1280 - 40 - 8
    assert payload[16:18] == bytes([25, 1 + 2 * 75])
    _, payload = ndp.advertise_router(NOTHING._replace(search=("example.org",) * 200))
    assert len(payload) <= 1280 - 40 - 8
    assert payload[16:18] == bytes([31, 151])
    assert payload[24:].rstrip(b"\0") + b"\0" == dns_names.emit("example.org") * 92


def test_servers_and_domains_may_fill_the_packet() -> None:
    # 1280 - 40 - 16 bytes for options: two of 8 bytes, and then 8 + 75 * 16, or 8 + 1200
    _, payload = ndp.advertise_router(NOTHING._replace(mtu=1500, servers=(A6,) * 80))
    assert (len(payload), payload[24:26]) == (1280 - 48, bytes([25, 1 + 2 * 75]))
    _, payload = ndp.advertise_router(NOTHING._replace(mtu=1500, search=("a" * 38,) * 40))
    assert (len(payload), payload[24:26]) == (1280 - 48, bytes([31, 1 + 1200 // 8]))


def test_the_padding_of_domains_fits_as_well() -> None:
    # Behind SLLA and the head of the option there is room for 10 bytes, so for one word of 8 bytes
    _, payload = ndp.advertise_router(NOTHING._replace(search=("a" * 8,)), 40 + 16 + 8 + 8 + 10)
    assert payload == bytes(8) + SLLA
    _, payload = ndp.advertise_router(NOTHING._replace(search=("a" * 6,)), 40 + 16 + 8 + 8 + 10)
    assert payload == bytes(8) + SLLA + bytes.fromhex("1f02 0000 ffffffff 06 616161616161 00")


@given(st.lists(names, max_size=30), st.integers(0, 200), st.integers(104, 1600))
def test_an_advertisement_always_fits_and_its_options_add_up(search: list[str], servers: int, mtu: int) -> None:
    advertisement = NOTHING._replace(search=tuple(search), servers=(A6,) * servers, mtu=1280, prefix=bytes(8))
    _, payload = ndp.advertise_router(advertisement, mtu)
    assert len(payload) <= min(mtu, 1280) - 40 - 8
    position = 8
    while position < len(payload):
        position += 8 * payload[position + 1]
    assert position == len(payload)


def test_groups_and_their_ethernet_addresses() -> None:
    assert ndp.solicited_node(address("2001:db8::1:800:200e:8c6c")) == address("ff02::1:ff0e:8c6c")
    assert ndp.multicast_mac(ndp.ALL_NODES) == bytes.fromhex("333300000001")


def test_what_linux_sends_is_read() -> None:
    targets = []
    for frame, ip in packets(ICMPV6):
        icmp = icmp6.parse(frame, ip, True)
        if icmp.type == NS:
            found = ndp.parse(frame, ip, icmp)
            assert found.link_address == frame[6:12]
            targets.append(found.target)
    assert targets[0] in (A6, B6)


@given(st.binary(max_size=80), st.sampled_from([NS, RS]), st.sampled_from([A6, UNSPECIFIED, LINK_LOCAL]))
def test_any_bytes_are_a_solicitation_or_malformed(payload: bytes, kind: int, source: bytes) -> None:
    try:
        found = ndp.parse(*message(kind, payload, source=source))
    except Malformed:
        return
    assert (found.target is None) == (kind == RS)


@given(st.lists(names, max_size=20), st.integers(-2, 1000))
def test_names_are_encoded_as_dns_does_and_cut_at_a_whole_one(domains: list[str], room: int) -> None:
    for data in (dns_names.emit_list(domains, room), dns_names.emit_compressed(domains, room)):
        assert len(data) <= max(room, 0)
        found, position = [], 0
        while position < len(data):
            name, used = dns.name.from_wire(data, position)
            found.append(name.to_text(omit_final_dot=True))
            position += used
        assert found == domains[: len(found)]


def test_names_share_their_ends() -> None:
    data = dns_names.emit_compressed(("eng.apple.com", "marketing.apple.com."), 255)
    assert data == b"\3eng\5apple\3com\0\x09marketing\xc0\x04"  # the example of RFC 3397, 2
    assert dns_names.emit_compressed(("a.b", "A.B"), 255) == b"\1a\1b\0\xc0\x00"
    assert dns_names.emit_compressed(("a.b", "c.d", "e.b"), 255) == b"\1a\1b\0\1c\1d\0\1e\xc0\2"
    assert dns_names.emit("a.b.") == b"\1a\1b\0"


def test_names_may_fill_the_room() -> None:
    names = ("eng.apple.com", "marketing.apple.com")
    assert len(dns_names.emit_list(names, 36)) == 36
    assert len(dns_names.emit_list(names, 35)) == 15
    assert len(dns_names.emit_compressed(names, 27)) == 27
    assert len(dns_names.emit_compressed(names, 26)) == 15


def test_names_too_far_for_a_pointer_are_left_out() -> None:
    domains = [f"{index:060}.example" for index in range(400)]
    data = dns_names.emit_compressed(domains, 65535)
    assert 0x3FC0 - 63 < len(data) <= 0x3FFF
