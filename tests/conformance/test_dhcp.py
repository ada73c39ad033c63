"""Requirements of RFC 2131 and 8415 that no other test holds; see docs/conformance."""

from __future__ import annotations

import struct

import pytest

from sansnet_core.addresses import parse
from sansnet_core.proto import dhcp4, dhcp6
from sansnet_core.records import replace
from sansnet_core.wire import dhcp4 as wire4
from sansnet_core.wire import dhcp6 as wire6
from tests.core.proto.bare import GUEST4, GUEST6, GUEST_MAC, config

CLIENT = (wire6.CLIENT_ID, wire6.duid(GUEST_MAC))
SERVER = (wire6.SERVER_ID, wire6.duid(config().mac))
STRANGER = (wire6.SERVER_ID, wire6.duid(GUEST_MAC))
TO_ONE = (wire6.REQUEST, wire6.RENEW, wire6.DECLINE, wire6.RELEASE)
TO_ANY = (wire6.SOLICIT, wire6.CONFIRM, wire6.REBIND)
RECONFIGURE = 10


def association(*addresses: bytes) -> wire6.Option:
    return wire6.emit_association(wire6.IA_NA, b"iaid", [wire6.emit_address(address, 0) for address in addresses])


def answered(kind: int, *options: wire6.Option) -> bool:
    return dhcp6.answer(wire6.Message(kind, 1, (*options, association(GUEST6))), config()) is not None


def test_each_message_needs_its_identifiers() -> None:
    """RFC 8415, 16.2 to 16.11."""
    for kind in TO_ONE:
        assert answered(kind, CLIENT, SERVER), kind
        assert not answered(kind, SERVER), kind
        assert not answered(kind, CLIENT), kind
        assert not answered(kind, CLIENT, STRANGER), kind
    for kind in TO_ANY:
        assert answered(kind, CLIENT), kind
        assert not answered(kind), kind
        assert not answered(kind, CLIENT, SERVER), kind
    for kind in (wire6.ADVERTISE, wire6.REPLY, RECONFIGURE, 0, 12, 13, 255):
        assert not answered(kind, CLIENT), kind
        assert not answered(kind, CLIENT, SERVER), kind


@pytest.mark.parametrize(
    ("named", "status"),
    [
        ((GUEST6,), wire6.SUCCESS),
        ((parse("2001:db8:2::77"),), wire6.SUCCESS),
        ((GUEST6, parse("2001:db8:2:0:1::1")), wire6.SUCCESS),
        ((parse("2001:db8:2:1::15"),), wire6.NOT_ON_LINK),
        ((GUEST6, parse("2001:db8:3::15")), wire6.NOT_ON_LINK),
    ],
)
def test_confirm_asks_about_the_link_alone(named: tuple[bytes, ...], status: int) -> None:
    """RFC 8415, 18.3.3: another server may have given the address."""
    reply = dhcp6.answer(wire6.Message(wire6.CONFIRM, 1, (CLIENT, association(*named))), config())
    assert reply is not None
    assert reply.message.options == (SERVER, CLIENT, wire6.emit_status(status))
    assert reply.lease is None


@pytest.mark.parametrize("lease", [None, 1, 2, 3, 60, 3600, (1 << 31) - 1])
def test_the_times_of_a_lease_are_in_order(lease: int | None) -> None:
    """RFC 8415, 21.4 and 21.6: a client extends at T1, and asks any server at T2."""
    request = wire6.Message(wire6.REQUEST, 1, (CLIENT, SERVER, association()))
    reply = dhcp6.answer(request, replace(config(), lease_time=lease))
    assert reply is not None
    given = reply.message.option(wire6.IA_NA)
    assert given is not None
    t1, t2 = struct.unpack_from("!II", given, 4)
    preferred, valid = struct.unpack_from("!II", given, 12 + 4 + 16)
    assert 0 < t1 <= t2 <= preferred <= valid
    if lease is None:
        assert t1 == t2 == valid == wire6.FOREVER
    elif lease > 10:
        assert (t1, t2) == (lease // 2, lease * 4 // 5)
    assert struct.unpack_from("!4s", given)[0] == b"iaid"


@pytest.mark.parametrize("kind", [wire4.DISCOVER, wire4.REQUEST, wire4.INFORM])
@pytest.mark.parametrize("wanted", [GUEST4, parse("10.9.9.9")])
@pytest.mark.parametrize("identifier", [b"\1" + GUEST_MAC, bytes(100), None])
def test_a_reply_repeats_the_client_identifier(kind: int, wanted: bytes, identifier: bytes | None) -> None:
    """RFC 6842: OFFER, ACK and NAK."""
    options = {wire4.MESSAGE_TYPE: bytes((kind,)), wire4.REQUESTED_ADDRESS: wanted}
    if identifier is not None:
        options[wire4.CLIENT_ID] = identifier
    message = wire4.Message(wire4.BOOTREQUEST, 1, 0x12345678, 0, bytes(4), bytes(4), bytes(4), GUEST_MAC, options)
    reply = dhcp4.answer(message, config())
    assert reply is not None
    assert reply.message.options.get(wire4.CLIENT_ID) == identifier
    assert (reply.message.transaction, reply.message.hardware) == (0x12345678, GUEST_MAC)
