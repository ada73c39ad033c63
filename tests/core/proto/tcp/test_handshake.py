"""The terms of a connection, from the link and the options of both SYNs."""

from __future__ import annotations

import pytest

from sansnet_core import Limits, LinkConfig
from sansnet_core.proto.tcp.handshake import ALL_OPTIONS, MAX_FIELD, Negotiation, Terms, negotiate
from sansnet_core.testing import make_config
from sansnet_core.wire.tcp import TcpOptions, mss_option, sack_permitted_option, window_scale_option

PLAIN = TcpOptions(None, None, False, ())


def terms(
    options: TcpOptions = ALL_OPTIONS, version: int = 4, link: LinkConfig | None = None, window: int = 1 << 20
) -> Terms:
    return negotiate(make_config(link, Limits(tcp_window=window)), version, options)


def offloading(size: int, **offers: bool) -> LinkConfig:
    return LinkConfig(mtu=1500, max_frame_size=size, vnet_header=True, checksum_offload=True, **offers)


@pytest.mark.parametrize(
    ("options", "version", "expected"),
    [
        (PLAIN, 4, Terms(1460, 536, 122 * 536, 65535, None, 0, False, 4)),
        (PLAIN, 6, Terms(1440, 1220, 53 * 1220, 65535, None, 0, False, 4)),
        (TcpOptions(1000, None, True, ()), 4, Terms(1460, 1000, 65 * 1000, 65535, None, 0, True, 4)),
        (TcpOptions(9000, 3, True, ()), 4, Terms(1460, 1460, 44 * 1460, 1 << 20, 5, 3, True, 4)),
        (TcpOptions(9000, 0, False, ()), 6, Terms(1440, 1440, 45 * 1440, 1 << 20, 5, 0, False, 4)),
        (TcpOptions(1, 14, True, ()), 4, Terms(1460, 88, 744 * 88, 1 << 20, 5, 14, True, 4)),
    ],
)
def test_the_terms_follow_from_the_options(options: TcpOptions, version: int, expected: Terms) -> None:
    assert terms(options, version) == expected


@pytest.mark.parametrize(
    ("window", "offered", "scale"),
    [
        (1000, 1000, 0),
        (65535, 65535, 0),
        (65536, 65536, 1),
        (1 << 17, 1 << 17, 2),
        (MAX_FIELD << 14, MAX_FIELD << 14, 14),
    ],
)
def test_the_window_is_scaled_as_far_as_necessary(window: int, offered: int, scale: int) -> None:
    found = terms(window=window)
    assert (found.window, found.own_scale) == (offered, scale)
    found = terms(PLAIN, window=window)
    assert (found.window, found.own_scale) == (min(window, MAX_FIELD), None)


@pytest.mark.parametrize(
    ("version", "link", "mss", "payload"),
    [
        (4, offloading(14 + 40 + 2 * 1460, tso4=True), 1460, 2 * 1460),
        (4, offloading(14 + 40 + 2 * 1460 - 1, tso4=True), 1460, 1460),
        (6, offloading(14 + 60 + 2 * 1440, tso6=True), 1440, 2 * 1440),
        (6, offloading(14 + 60 + 2 * 1440 - 1, tso6=True), 1440, 1440),
        (4, offloading(14 + 65535, tso4=True), 1310, 49 * 1310),
        (6, offloading(14 + 65535, tso4=True), 1310, 49 * 1310),
        (4, offloading(14 + 65535, tso6=True), 1310, 49 * 1310),
        (4, LinkConfig(mtu=1500, max_frame_size=1514), 1460, 44 * 1460),
        (4, LinkConfig(mtu=65520, max_frame_size=65535), 65480, 65480),
    ],
)
def test_data_has_as_many_segments_as_the_link_takes_in_a_frame_and_without_offload_64_kib(
    version: int, link: LinkConfig, mss: int, payload: int
) -> None:
    assert terms(TcpOptions(mss, 0, True, ()), version, link).frame_payload == payload


def test_a_syn_offers_what_the_guest_permits() -> None:
    assert terms().syn_options() == mss_option(1460) + window_scale_option(5) + sack_permitted_option()
    assert terms(PLAIN).syn_options() == mss_option(1460)
    assert terms(TcpOptions(None, 0, False, ())).syn_options() == mss_option(1460) + window_scale_option(5)


def test_connections_with_the_same_options_share_their_terms() -> None:
    config = make_config()
    negotiation = Negotiation(config)
    for version in (4, 6):
        for options in (ALL_OPTIONS, PLAIN):
            found = negotiation.terms(version, options)
            assert found == negotiate(config, version, options)
            assert negotiation.terms(version, options) is found


def test_the_terms_that_are_kept_are_bounded() -> None:
    """A guest chooses its options."""
    negotiation = Negotiation(make_config())
    first = negotiation.terms(4, TcpOptions(500, 0, True, ()))
    for mss in range(501, 564):
        negotiation.terms(4, TcpOptions(mss, 0, True, ()))
        assert negotiation.terms(4, TcpOptions(500, 0, True, ())) is first
    negotiation.terms(4, TcpOptions(564, 0, True, ()))
    assert negotiation.terms(4, TcpOptions(500, 0, True, ())) is not first


@pytest.mark.parametrize(("mtu", "blocks"), [(68, 3), (75, 3), (76, 4), (1500, 4)])
def test_an_acknowledgment_has_as_many_blocks_as_a_packet_takes(mtu: int, blocks: int) -> None:
    found = terms(link=LinkConfig(mtu=mtu, max_frame_size=1514))
    assert (found.sack, found.sack_blocks) == (True, blocks)
