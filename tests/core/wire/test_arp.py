from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sansnet_core.addresses import parse as address
from sansnet_core.errors import Malformed, Reason
from sansnet_core.wire import arp
from sansnet_core.wire.arp import ArpPacket
from sansnet_core.wire.ethernet import ETHERTYPE_ARP
from tests.core.vectors import A4, ANY_FRAME, B4, frames

VECTOR = bytes.fromhex("0001080006040001" + "02000000000a" + "c0000201" + "000000000000" + "c0000202")
PACKET = ArpPacket(arp.REQUEST, bytes.fromhex("02000000000a"), A4, bytes(6), B4)


def test_a_packet_is_read() -> None:
    assert arp.parse(VECTOR, 0, 28) == PACKET


def test_a_packet_is_written() -> None:
    assert arp.emit(PACKET) == VECTOR


def test_padding_is_not_looked_at() -> None:
    assert arp.parse(bytes(14) + VECTOR + bytes(18), 14, 60) == PACKET


def test_a_view_gives_bytes() -> None:
    assert arp.parse(memoryview(VECTOR), 0, 28) == PACKET


@pytest.mark.parametrize(
    "vector",
    [
        pytest.param(VECTOR[:27], id="truncated"),
        pytest.param(b"\x00\x06" + VECTOR[2:], id="hardware type"),
        pytest.param(VECTOR[:2] + b"\x86\xdd" + VECTOR[4:], id="protocol type"),
        pytest.param(VECTOR[:4] + b"\x08" + VECTOR[5:], id="hardware size"),
        pytest.param(VECTOR[:5] + b"\x10" + VECTOR[6:], id="protocol size"),
    ],
)
def test_anything_but_ipv4_over_ethernet_is_refused(vector: bytes) -> None:
    with pytest.raises(Malformed, match=Reason.ARP_MALFORMED.value):
        arp.parse(vector, 0, len(vector))


def test_what_linux_sends_is_read_and_written_back() -> None:
    operations = []
    for frame in frames(ETHERTYPE_ARP):
        packet = arp.parse(frame, 14, len(frame))
        operations.append(packet.operation)
        assert arp.emit(packet) == frame[14:42]
    assert operations[:2] == [arp.REQUEST, arp.REPLY]


def test_the_summary_says_who_asks_and_who_answers() -> None:
    assert arp.summary(VECTOR, 0, 28) == "ARP, who has 192.0.2.2, tell 192.0.2.1"
    reply = arp.emit(PACKET._replace(operation=arp.REPLY, sender=address("192.0.2.9")))
    assert arp.summary(reply, 0, 28) == "ARP, 192.0.2.9 is at 02:00:00:00:00:0a"
    assert arp.summary(arp.emit(PACKET._replace(operation=8)), 0, 28) == "ARP, operation 8"
    assert arp.summary(VECTOR, 0, 20) == f"ARP, {Reason.ARP_MALFORMED.value}"


@given(st.one_of(st.binary(max_size=60), ANY_FRAME))
def test_any_bytes_are_a_packet_or_malformed(data: bytes) -> None:
    arp.summary(data, 14, len(data))
    try:
        packet = arp.parse(data, 14, len(data))
    except Malformed:
        return
    assert arp.emit(packet) == data[14:42]
