"""Frames that the guest of a network sends: valid ones, those with one thing wrong, and hostile ones."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final, TypeAlias

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from sansnet_core.config import NetworkConfig
from sansnet_core.errors import UsageError
from sansnet_core.testing.checksums import with_checksums
from sansnet_core.testing.packets import IPV4, IPV6, Ip
from sansnet_core.testing.strategies.envelopes import Packet, datagrams_in_fragments, ethernet_parts, in_frames
from sansnet_core.testing.strategies.parties import Parties
from sansnet_core.testing.strategies.parts import Part, Parts, joined, nearly, several_changed, sizes
from sansnet_core.testing.strategies.transports import (
    arp_parts,
    echo_packets,
    error_packets,
    tcp_packets,
    udp_packets,
)

__all__ = ["PROTOCOLS", "batches", "frames", "hostile_frames", "nearly_valid_frames", "valid_frames"]

_Packets: TypeAlias = Callable[[Parties], SearchStrategy[Packet]]

_PACKETS: Final[dict[str, _Packets]] = {
    "udp": udp_packets,
    "tcp": tcp_packets,
    "icmp": lambda parties: st.one_of(echo_packets(parties), error_packets(parties)),
}
PROTOCOLS: Final = ("arp", *_PACKETS)
"""The names of protocols, for the arguments of strategies."""


def _parts(config: NetworkConfig, protocols: Collection[str]) -> SearchStrategy[Parts]:
    parties = Parties(config)
    unknown = [name for name in protocols if name not in PROTOCOLS]
    if unknown or not protocols:
        raise UsageError(f"protocols: {unknown} are none of them; give some of {', '.join(PROTOCOLS)}")
    found = [in_frames(parties, _PACKETS[name](parties)) for name in protocols if name in _PACKETS]
    if "arp" in protocols and (4 in parties.families or not found):
        found.append(arp_parts(parties))
    return st.one_of(found)


def valid_frames(config: NetworkConfig, protocols: Collection[str] = PROTOCOLS) -> SearchStrategy[bytes]:
    """Frames as a correct guest may send them, in the families that the configuration has.

    Args:
        config: of the network; it gives the addresses, the MTU, and whether frames have a `virtio_net_hdr`.
        protocols: of `PROTOCOLS`.

    Raises:
        UsageError: there is no such protocol.
    """
    return _parts(config, protocols).map(joined)


def nearly_valid_frames(config: NetworkConfig, protocols: Collection[str] = PROTOCOLS) -> SearchStrategy[bytes]:
    """Valid frames with one thing wrong: a field, an option, a length; with the old or with right checksums.

    Arguments and errors are those of `valid_frames`.
    """
    return nearly(_parts(config, protocols), vnet=config.link.vnet_header)


def hostile_frames(config: NetworkConfig, protocols: Collection[str] = PROTOCOLS) -> SearchStrategy[bytes]:
    """Frames with several things wrong, headers with any bytes behind them, and any bytes.

    Arguments and errors are those of `valid_frames`.
    """
    parts = _parts(config, protocols)
    return st.one_of(
        several_changed(parts, vnet=config.link.vnet_header),
        _any_packet(Parties(config)),
        _any_payload(Parties(config)),
        st.tuples(st.binary(min_size=12, max_size=12), valid_frames(config, protocols)).map(
            lambda pair: pair[0] + pair[1][12 if config.link.vnet_header else 0 :]
        ),
        _too_large(config),
        st.binary(max_size=120),
    )


def frames(config: NetworkConfig, protocols: Collection[str] = PROTOCOLS) -> SearchStrategy[bytes]:
    """Frames of all three kinds, valid ones first.

    Arguments and errors are those of `valid_frames`.
    """
    return st.one_of(
        valid_frames(config, protocols), nearly_valid_frames(config, protocols), hostile_frames(config, protocols)
    )


def batches(
    config: NetworkConfig, protocols: Collection[str] = PROTOCOLS, *, max_size: int = 8
) -> SearchStrategy[list[bytes]]:
    """Lists of frames for one call of `Network.receive_frames`; some are all the fragments of one packet.

    Arguments and errors are those of `valid_frames`.
    """
    parties = Parties(config)
    several = st.lists(frames(config, protocols), max_size=max_size)
    packets = [_PACKETS[name](parties) for name in protocols if name in _PACKETS]
    if not packets:
        return several
    return st.one_of(several, datagrams_in_fragments(parties, st.one_of(packets)))


@st.composite
def _any_packet(draw: DrawFn, parties: Parties) -> bytes:
    """A valid IP header with any protocol and any bytes behind it, from and to any address."""
    size = draw(st.sampled_from([4, 16]))
    places = (*parties.sources(size), *parties.strangers(size), *parties.groups(size), *parties.destinations(size))
    source, destination = draw(st.sampled_from(places)), draw(st.sampled_from([*reversed(places)]))
    protocol = draw(st.sampled_from([6, 17, 1, 58, 0, 43, 44, 60, 51, 50, 2, 132, 135, 255]) | st.integers(0, 255))
    ip = Ip(
        source, destination, protocol, draw(sizes(min(parties.mtu, 1500))), ttl=draw(st.sampled_from([64, 0, 1, 255]))
    )
    return _in_ethernet(parties, ip)


@st.composite
def _any_payload(draw: DrawFn, parties: Parties) -> bytes:
    """A known EtherType with any bytes behind it."""
    ethertype = draw(st.sampled_from([b"\x08\x00", b"\x08\x06", b"\x86\xdd", b"\x81\x00", b"\x88\xcc", b"\0\x2e"]))
    group = draw(st.sampled_from([parties.mac, b"\xff" * 6, b"\x33\x33\0\0\0\1", b"\x01\x80\xc2\0\0\0", bytes(6)]))
    head = (bytes(12) if parties.vnet else b"") + group + parties.guest_mac + ethertype
    return with_checksums(head + draw(st.binary(max_size=120)), vnet=parties.vnet)


def _in_ethernet(parties: Parties, ip: Ip) -> bytes:
    head = (Part("vnet", bytes(12)),) if parties.vnet else ()
    ethernet = ethernet_parts(parties, parties.mac, IPV4 if ip.version == 4 else IPV6)
    return with_checksums(joined((*head, *ethernet, Part("ip", ip.emit()))), vnet=parties.vnet)


def _too_large(config: NetworkConfig) -> SearchStrategy[bytes]:
    """A frame at or beyond the size of the largest."""
    size = config.link.max_frame_size + (12 if config.link.vnet_header else 0)
    return st.sampled_from([0, 1, 4, 5]).map(lambda more: bytes(size + more))
