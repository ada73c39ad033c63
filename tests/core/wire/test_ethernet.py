from __future__ import annotations

import pytest

from sansnet_core.errors import Malformed, Reason
from sansnet_core.wire import ethernet


def test_a_frame_is_described() -> None:
    frame = bytes.fromhex("9a559a559a55 020000000001 88cc") + bytes(46)
    assert ethernet.summary(frame) == "02:00:00:00:00:01 > 9a:55:9a:55:9a:55, ethertype 0x88cc, length 60"
    assert ethernet.summary(memoryview(frame)) == ethernet.summary(frame)


def test_a_frame_that_is_cut_short_is_described() -> None:
    assert ethernet.summary(bytes(13)) == "Ethernet, truncated, length 13"


def test_the_types_are_two_bytes_in_network_order() -> None:
    types = ethernet.ETHERTYPE_IPV4, ethernet.ETHERTYPE_ARP, ethernet.ETHERTYPE_IPV6
    assert [int.from_bytes(ethertype, "big") for ethertype in types] == [0x0800, 0x0806, 0x86DD]


ADDRESSES = bytes(range(12))


@pytest.mark.parametrize("before", [0, 12])
@pytest.mark.parametrize("tag", ["0000", "2000", "e000", "1000", "f000"])
def test_a_tag_with_a_priority_only_is_taken_off(tag: str, before: int) -> None:
    head = bytes(before) + ADDRESSES
    frame = head + ethernet.ETHERTYPE_VLAN + bytes.fromhex(tag) + ethernet.ETHERTYPE_IPV4 + b"data"
    assert ethernet.without_priority_tag(frame, before) == head + ethernet.ETHERTYPE_IPV4 + b"data"
    assert ethernet.without_priority_tag(memoryview(frame), before) == head + ethernet.ETHERTYPE_IPV4 + b"data"


@pytest.mark.parametrize("tag", ["0001", "0080", "0100", "0800", "efff"])
def test_a_tag_with_a_vlan_is_refused(tag: str) -> None:
    frame = ADDRESSES + ethernet.ETHERTYPE_VLAN + bytes.fromhex(tag) + ethernet.ETHERTYPE_IPV4
    with pytest.raises(Malformed) as raised:
        ethernet.without_priority_tag(frame, 0)
    assert raised.value.reason is Reason.ETHERNET_TYPE


@pytest.mark.parametrize("before", [0, 12])
def test_a_tag_needs_a_type_behind_it(before: int) -> None:
    frame = bytes(before) + ADDRESSES + ethernet.ETHERTYPE_VLAN + bytes(2) + ethernet.ETHERTYPE_IPV4
    assert ethernet.without_priority_tag(frame, before) == bytes(before) + ADDRESSES + ethernet.ETHERTYPE_IPV4
    for size in range(before + 14, len(frame)):
        with pytest.raises(Malformed) as raised:
            ethernet.without_priority_tag(frame[:size], before)
        assert raised.value.reason is Reason.ETHERNET_TRUNCATED
