from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sansnet_core import ConfigError, Endpoint, Prefix, addresses

ADDRESS = st.binary(min_size=4, max_size=4) | st.binary(min_size=16, max_size=16)


@pytest.mark.parametrize(("text", "size"), [("192.0.2.1", 4), ("2001:db8::1", 16), ("::", 16)])
def test_text_to_bytes_and_back(text: str, size: int) -> None:
    address = addresses.parse(text)
    assert len(address) == size
    assert addresses.format(address) == text


@pytest.mark.parametrize("text", ["", "host", "192.0.2", "192.0.2.1.1", "192.0.2.256", "fe80::1%eth0", "2001:db8::/32"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        addresses.parse(text)


def test_what_is_no_text_is_no_address() -> None:
    wrong: Any = 5
    with pytest.raises(ConfigError, match="5 is not the text of an address"):
        addresses.parse(wrong)


@pytest.mark.parametrize("text", ["52:54:00:12:34:56", "52-54-0-12-34-56", bytes.fromhex("525400123456")])
def test_an_ethernet_address_has_six_bytes(text: str | bytes) -> None:
    assert addresses.packed_mac(text) == bytes.fromhex("525400123456")


@pytest.mark.parametrize("wrong", [b"abc", "52:54:00:12:34", "52:54:00:12:34:5g", "52:54:00:12:34:+5", "", None])
def test_what_is_no_ethernet_address_is_refused(wrong: Any) -> None:
    with pytest.raises(ConfigError, match="Ethernet address"):
        addresses.packed_mac(wrong)


def test_a_changed_endpoint_or_prefix_is_checked_as_a_new_one() -> None:
    assert Endpoint("192.0.2.1", 80)._replace(port=81) == Endpoint("192.0.2.1", 81)
    with pytest.raises(ConfigError, match="70000 is not a port"):
        Endpoint("192.0.2.1", 80)._replace(port=70000)
    assert Prefix("192.0.2.0/24")._replace(length=25) == Prefix("192.0.2.0/25")
    with pytest.raises(ConfigError, match="has bits beyond its length"):
        Prefix("192.0.2.0/24")._replace(length=8)


def test_a_prefix_has_one_length() -> None:
    assert Prefix("192.0.2.0/24", 24) == Prefix("192.0.2.0", 24)
    with pytest.raises(ConfigError, match="the lengths contradict each other"):
        Prefix("192.0.2.0/24", 25)


@pytest.mark.parametrize("address", ["192.0.2.1", "169.254.0.1", "2001:db8::1", "fe80::1", "febf::1", "ff02::1", "::1"])
def test_a_zone_goes_with_a_link_local_address_alone(address: str) -> None:
    packed = addresses.parse(address)
    has_zone = address in ("fe80::1", "febf::1")
    zoned = addresses.with_zone(packed, 7)
    assert len(zoned) == len(packed)
    assert addresses.split_zone(zoned) == (packed, 7 * has_zone)
    assert addresses.split_zone(addresses.with_zone(zoned, 0)) == (packed, 0)
    assert addresses.format_zoned(zoned) == address + "%7" * has_zone


@pytest.mark.parametrize("size", [0, 3, 5, 15, 17])
def test_bytes_of_another_number_have_no_text(size: int) -> None:
    with pytest.raises(ValueError, match=r".+"):
        addresses.format(bytes(size))


@pytest.mark.parametrize(
    ("predicate", "inside", "outside"),
    [
        (
            addresses.is_multicast,
            ["224.0.0.0", "239.255.255.255", "ff00::", "ff02::1"],
            ["223.255.255.255", "240.0.0.0", "fe80::1", "2001:db8::ff"],
        ),
        (
            addresses.is_loopback,
            ["127.0.0.0", "127.0.0.1", "127.255.255.255", "::1"],
            ["126.255.255.255", "128.0.0.0", "::", "::2", "1::1"],
        ),
        (addresses.is_unspecified, ["0.0.0.0", "::"], ["0.0.0.1", "::1", "1::"]),
        (
            addresses.is_link_local,
            ["169.254.0.0", "169.254.255.255", "fe80::", "fe80::1", "febf::1"],
            ["169.253.255.255", "169.255.0.0", "fec0::", "fe7f::1"],
        ),
        (addresses.is_broadcast, ["255.255.255.255"], ["255.255.255.254", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"]),
        (
            addresses.is_unicast,
            ["192.0.2.1", "2001:db8::1", "fe80::1", "127.0.0.1", "::1"],
            ["0.0.0.0", "::", "224.0.0.1", "255.255.255.255", "ff02::1"],
        ),
    ],
)
def test_questions(predicate: Callable[[bytes], bool], inside: list[str], outside: list[str]) -> None:
    assert [text for text in inside if not predicate(addresses.parse(text))] == []
    assert [text for text in outside if predicate(addresses.parse(text))] == []


@given(ADDRESS)
def test_questions_have_the_answers_of_ipaddress(address: bytes) -> None:
    expected = ip_address(address)
    assert addresses.parse(addresses.format(address)) == address
    assert addresses.is_multicast(address) == expected.is_multicast
    assert addresses.is_loopback(address) == (address == bytes(15) + b"\1" if len(address) == 16 else address[0] == 127)
    assert addresses.is_unspecified(address) == expected.is_unspecified
    assert addresses.is_link_local(address) == expected.is_link_local
