"""Answers to ARP requests, and addresses learnt from ARP."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sansnet_core.addresses import parse
from sansnet_core.config import GATEWAY_MAC, Ipv6Config, LinkConfig, NetworkConfig
from sansnet_core.errors import Malformed, Reason
from sansnet_core.proto.arp import Arp, answer
from sansnet_core.wire import arp
from sansnet_core.wire.arp import ArpPacket
from tests.core.proto.bare import GATEWAY4, GATEWAY6, GUEST4, GUEST_MAC, REMOTE4, Bare, config

OTHER = parse("10.0.2.99")
NOBODY = bytes(4)


def request(target: bytes, sender: bytes = GUEST4) -> ArpPacket:
    return ArpPacket(arp.REQUEST, GUEST_MAC, sender, bytes(6), target)


def reply(packet: ArpPacket, gateway: bytes | None = GATEWAY4) -> ArpPacket | None:
    return answer(packet, mac=GATEWAY_MAC, gateway=gateway, guest=(GUEST4, OTHER))


@pytest.mark.parametrize("target", [GATEWAY4, REMOTE4, parse("10.0.2.77")])
def test_every_address_is_ours(target: bytes) -> None:
    assert reply(request(target)) == ArpPacket(arp.REPLY, GATEWAY_MAC, target, GUEST_MAC, GUEST4)


@pytest.mark.parametrize(
    "packet",
    [
        pytest.param(request(GUEST4, REMOTE4), id="the configured address"),
        pytest.param(request(OTHER), id="the address that the guest uses"),
        pytest.param(request(REMOTE4, REMOTE4), id="an announcement"),
        pytest.param(request(GUEST4, NOBODY), id="a probe of the configured address"),
        pytest.param(request(REMOTE4, NOBODY), id="a probe of another address"),
        pytest.param(request(REMOTE4)._replace(operation=arp.REPLY), id="a reply"),
    ],
)
def test_the_guest_keeps_its_own_addresses(packet: ArpPacket) -> None:
    assert reply(packet) is None


def test_a_probe_of_the_gateway_is_a_conflict() -> None:
    assert reply(request(GATEWAY4, NOBODY)) == ArpPacket(arp.REPLY, GATEWAY_MAC, GATEWAY4, GUEST_MAC, NOBODY)


def test_a_reply_goes_to_whoever_asked() -> None:
    bench = Bare(config())
    asker = bytes.fromhex("020000000002")
    packet = arp.emit(request(REMOTE4)._replace(sender_mac=asker))
    Arp(bench.context).receive(bytes(14) + packet + bytes(18), 14, 60)
    [frame] = bench.context.out.frames
    answered = arp.emit(ArpPacket(arp.REPLY, GATEWAY_MAC, REMOTE4, asker, GUEST4))
    assert frame == asker + GATEWAY_MAC + b"\x08\x06" + answered + bytes(18)


def test_a_link_with_offload_headers_gets_one() -> None:
    bench = Bare(config(link=LinkConfig(vnet_header=True)))
    Arp(bench.context).receive(arp.emit(request(REMOTE4)), 0, 28)
    [frame] = bench.context.out.frames
    answered = arp.emit(ArpPacket(arp.REPLY, GATEWAY_MAC, REMOTE4, GUEST_MAC, GUEST4))
    assert frame == bytes(12) + GUEST_MAC + GATEWAY_MAC + b"\x08\x06" + answered


def test_the_address_that_the_guest_took_is_its_own() -> None:
    bench = Bare(config())
    bench.context.guest.ipv4 = OTHER
    service = Arp(bench.context)
    for target in (OTHER, GUEST4):
        service.receive(arp.emit(request(target, REMOTE4)), 0, 28)
    assert bench.context.out.frames == []


def test_malformed_packets_are_refused() -> None:
    with pytest.raises(Malformed, match=Reason.ARP_MALFORMED.value):
        Arp(Bare(config()).context).receive(bytes(28), 0, 28)


@pytest.mark.parametrize(("gateway", "sender"), [(GATEWAY4, GATEWAY4), (None, NOBODY)])
def test_an_announcement_asks_everybody_for_the_guest(gateway: bytes | None, sender: bytes) -> None:
    bench = Bare(config(gateway4=gateway))
    Arp(bench.context).locate_guest()
    [frame] = bench.context.out.frames
    asked = arp.emit(ArpPacket(arp.REQUEST, GATEWAY_MAC, sender, bytes(6), GUEST4))
    assert frame == b"\xff" * 6 + GATEWAY_MAC + b"\x08\x06" + asked + bytes(18)


def test_without_ipv4_no_address_is_requested() -> None:
    bench = Bare(NetworkConfig(ipv6=Ipv6Config(address=None, gateway=GATEWAY6)))
    Arp(bench.context).locate_guest()
    assert bench.context.out.frames == []


@pytest.mark.parametrize(
    ("sender", "known"),
    [(OTHER, OTHER), (NOBODY, GUEST4), (GATEWAY4, GUEST4), (parse("127.0.0.1"), GUEST4), (parse("224.0.0.1"), GUEST4)],
)
def test_an_announcement_tells_the_guests_address(sender: bytes, known: bytes) -> None:
    bench = Bare(config())
    Arp(bench.context).receive(arp.emit(request(sender, sender)), 0, 28)
    assert bench.context.guest.ipv4 == known


@given(st.binary(max_size=60))
def test_any_input_causes_at_most_one_frame(data: bytes) -> None:
    bench = Bare(config())
    buf = bytes.fromhex("0001080006040001") + data
    with suppress(Malformed):
        Arp(bench.context).receive(buf, 0, len(buf))
    assert len(bench.context.out.frames) <= 1


@pytest.mark.parametrize("target", ["0.0.0.0", "127.0.0.1", "224.0.0.1", "10.0.2.255", "255.255.255.255"])
def test_an_address_that_no_node_has_is_not_ours(target: str) -> None:
    bench = Bare(config())
    Arp(bench.context).receive(bytes(14) + arp.emit(request(parse(target))), 14, 42)
    assert bench.context.out.frames == []
    Arp(bench.context).receive(bytes(14) + arp.emit(request(REMOTE4)), 14, 42)
    assert len(bench.context.out.frames) == 1
