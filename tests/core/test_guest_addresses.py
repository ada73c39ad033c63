"""The guest's addresses are learnt from its packets."""

from __future__ import annotations

import pytest

from sansnet_core.addresses import Endpoint, format, parse
from sansnet_core.guest_addresses import GuestAddresses
from tests.core.proto.bare import GATEWAY4, GATEWAY6, GUEST4, GUEST6, REMOTE4, REMOTE6, config

LINK_LOCAL = parse("fe80::15")
DNS4, ALIAS4, ALIAS6 = parse("10.0.2.3"), parse("169.254.1.2"), parse("fe80::12")


def known(guest: GuestAddresses) -> tuple[bytes | None, bytes | None, bytes | None]:
    return guest.ipv4, guest.ipv6, guest.link_local


def test_addresses_follow_the_guest() -> None:
    guest = GuestAddresses(config())
    assert known(guest) == (GUEST4, GUEST6, None)
    for source in (REMOTE4, REMOTE6, LINK_LOCAL):
        guest.learn(source)
    assert known(guest) == (REMOTE4, REMOTE6, LINK_LOCAL)


def test_addresses_that_are_fixed_stay_but_for_the_link_local_one() -> None:
    guest = GuestAddresses(config(learn_addresses=False))
    for source in (REMOTE4, REMOTE6, LINK_LOCAL):
        guest.learn(source)
    assert known(guest) == (GUEST4, GUEST6, LINK_LOCAL)


@pytest.mark.parametrize("address", [GATEWAY4, GATEWAY6, DNS4, ALIAS4, ALIAS6, parse("10.0.2.4")], ids=format)
def test_an_address_of_ours_does_not_become_the_guests(address: bytes) -> None:
    guest = GuestAddresses(
        config(
            map_host_loopback=(ALIAS4, ALIAS6),
            map_guest_address=(parse("10.0.2.4"),),
            dns_forward=((DNS4, Endpoint(parse("127.0.0.53"), 53)),),
        )
    )
    guest.learn(address)
    assert known(guest) == (GUEST4, GUEST6, None)
