from __future__ import annotations

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
