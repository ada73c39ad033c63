"""Frames for a stack that has few addresses and ports."""

from __future__ import annotations

import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st

from sansnet_core import UsageError
from sansnet_core.records import replace
from sansnet_core.testing import make_config
from sansnet_core.testing.strategies import batches, frames, hostile_frames, nearly_valid_frames, valid_frames

STACK = "10.0.2.2"


@settings(max_examples=200)
@given(valid_frames(make_config(), ["udp", "tcp"], destinations=[STACK], ports=[7]))
def test_all_packets_go_to_the_address_and_the_port(frame: bytes) -> None:
    start = 18 if frame[12:14] == b"\x81\0" else 14
    assert frame[start + 16 : start + 20] == bytes((10, 0, 2, 2)), "IPv4, as no address of IPv6 is given"
    transport = start + (frame[start] & 15) * 4
    if not int.from_bytes(frame[start + 6 : start + 8], "big") & 0x1FFF:  # the first fragment, or no fragment
        assert frame[transport + 2 : transport + 4] == b"\0\7"


def is_short_udp(frame: bytes) -> bool:
    """A valid IPv4 packet to the stack with less than a header of UDP."""
    if frame[12:15] != b"\x08\0\x45" or frame[23] != 17 or frame[30:34] != bytes((10, 0, 2, 2)):
        return False
    size = int.from_bytes(frame[16:18], "big")
    return 20 <= size < 28 and len(frame) >= 14 + size and not int.from_bytes(frame[20:22], "big") & 0x3FFF


def test_some_headers_of_udp_are_cut_in_a_valid_packet() -> None:
    only_search = settings(phases=[Phase.generate], max_examples=500)
    assert find(nearly_valid_frames(make_config(), ["udp"], destinations=[STACK]), is_short_udp, settings=only_search)


@settings(max_examples=50)
@given(st.data())
def test_every_kind_takes_them(data: st.DataObject) -> None:
    for kind in (valid_frames, nearly_valid_frames, hostile_frames, frames):
        assert isinstance(data.draw(kind(make_config(), destinations=[STACK, "fe80::2"], ports=[7])), bytes)
    assert isinstance(data.draw(batches(make_config(), destinations=[STACK], ports=[7])), list)


def test_what_is_no_destination_is_refused() -> None:
    config = replace(make_config(), ipv6=None)
    for wrong in (["10.0.2"], [], ["fe80::2"], [7]):
        with pytest.raises(UsageError, match="destinations: "):
            frames(config, destinations=wrong)  # type: ignore[arg-type]  # the last one has a wrong type
    for ports in ([], [70000], ["7"]):
        with pytest.raises(UsageError, match="ports: "):
            frames(config, ports=ports)  # type: ignore[arg-type]  # the last one has a wrong type
