"""Frames that the guest of a network sends: valid ones, those with one thing wrong, and hostile ones.

Functions named `_..._of` are composites: in reports of Hypothesis, they stand for all that is in them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Final, TypeAlias

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from sansnet_core.addresses import AnyAddress
from sansnet_core.config import NetworkConfig
from sansnet_core.errors import UsageError
from sansnet_core.testing.checksums import with_checksums
from sansnet_core.testing.packets import IPV4, IPV6, TCP, UDP, Ip
from sansnet_core.testing.strategies.applications import (
    dns_packets,
    dns_parts,
    http_packets,
    http_parts,
    tls_packets,
    tls_parts,
)
from sansnet_core.testing.strategies.envelopes import Packet, ethernet_parts, in_fragments, in_frame
from sansnet_core.testing.strategies.neighbours import (
    dhcp6_packets,
    dhcp6_parts,
    dhcp_packets,
    dhcp_parts,
    group_packets,
    ndp_packets,
)
from sansnet_core.testing.strategies.parties import Parties
from sansnet_core.testing.strategies.parts import (
    Part,
    Parts,
    below,
    chance,
    choose,
    joined,
    nearly,
    several_changed,
    sizes,
)
from sansnet_core.testing.strategies.transports import (
    arp_parts,
    echo_packets,
    error_packets,
    tcp_packets,
    udp_packets,
)

__all__ = [
    "MESSAGES",
    "PROTOCOLS",
    "batches",
    "frames",
    "hostile_frames",
    "messages",
    "nearly_valid_frames",
    "valid_frames",
    "valid_messages",
]

_Packets: TypeAlias = Callable[[DrawFn, Parties], Packet]

_PACKETS: Final[dict[str, _Packets]] = {
    "udp": udp_packets,
    "tcp": tcp_packets,
    "icmp": lambda draw, parties: choose(draw, (echo_packets, error_packets))(draw, parties),
    "ndp": ndp_packets,
    "igmp": group_packets,
    "dhcp": dhcp_packets,
    "dhcp6": dhcp6_packets,
    "dns": dns_packets,
    "tls": tls_packets,
    "http": http_packets,
}
_FAMILY: Final = {"arp": 4, "dhcp": 4, "ndp": 16, "dhcp6": 16}
"""Protocol -> size of the addresses of the only family that has it."""
_MESSAGES: Final[dict[str, Callable[[DrawFn, Parties], Parts]]] = {
    "dhcp": dhcp_parts,
    "dhcp6": dhcp6_parts,
    "dns": dns_parts,
    "tls": lambda draw, parties: tls_parts(draw),
    "http": lambda draw, parties: http_parts(draw),
}

PROTOCOLS: Final = ("arp", *_PACKETS)
"""The protocols of frames. "icmp" includes ICMPv6, "igmp" MLD."""
MESSAGES: Final = tuple(_MESSAGES)
"""The protocols of messages."""


def _check(name: str, given: Collection[str], known: Collection[str]) -> tuple[str, ...]:
    """The protocols that are given.

    Raises:
        UsageError: it is one text, or empty, or one of them is unknown.
    """
    if isinstance(given, str) or not given or not set(given) <= set(known):
        raise UsageError(f"{name}: {given!r:.100} is not a list of protocols; give some of {', '.join(known)}")
    return tuple(given)


def _possible(parties: Parties, protocols: Sequence[str]) -> Sequence[str]:
    """The protocols without those of a family that is off, unless there are no others."""
    return [name for name in protocols if _FAMILY.get(name, parties.families[0]) in parties.families] or protocols


def _parts_of(draw: DrawFn, parties: Parties, protocols: Sequence[str]) -> Parts:
    """Valid frames."""
    packets = _PACKETS.get(choose(draw, _possible(parties, protocols)))
    return arp_parts(draw, parties) if packets is None else in_frame(draw, parties, packets(draw, parties))


@st.composite
def _valid_of(draw: DrawFn, parties: Parties, protocols: Sequence[str]) -> bytes:
    return joined(_parts_of(draw, parties, protocols))


@st.composite
def _nearly_valid_of(draw: DrawFn, parties: Parties, protocols: Sequence[str]) -> bytes:
    if chance(draw, 8):
        return _cut_packet(draw, parties, protocols)
    return nearly(draw, _parts_of(draw, parties, protocols), vnet=parties.vnet)


@st.composite
def _hostile_of(draw: DrawFn, parties: Parties, protocols: Sequence[str]) -> bytes:
    match below(draw, 8):
        case 0:
            return _any_packet(draw, parties)
        case 1:
            return _any_payload(draw, parties)
        case 2:  # any offload header
            frame = joined(_parts_of(draw, parties, protocols))
            return draw(st.binary(min_size=12, max_size=12)) + (frame[12:] if parties.vnet else frame)
        case 3:
            return bytes(parties.config.link.max_frame_size + choose(draw, [0, 1, 4, 5, 12, 13, 17]))
        case 4:
            return draw(st.binary(max_size=120))
        case _:
            return several_changed(draw, _parts_of(draw, parties, protocols), vnet=parties.vnet)


@st.composite
def _frames_of(draw: DrawFn, parties: Parties, protocols: Sequence[str]) -> bytes:
    kind = choose(draw, [_valid_of, _nearly_valid_of, _hostile_of])
    return draw(kind(parties, protocols))


@st.composite
def _batches_of(draw: DrawFn, parties: Parties, protocols: Sequence[str], max_size: int) -> list[bytes]:
    packets = [_PACKETS[name] for name in protocols if name in _PACKETS and name not in _FAMILY and name != "igmp"]
    if packets and chance(draw, 5):
        packet = choose(draw, packets)(draw, parties)
        if not packet.gso_size:
            return in_fragments(draw, parties, packet)
    return draw(st.lists(_frames_of(parties, protocols), max_size=max_size))


def valid_frames(
    config: NetworkConfig,
    protocols: Collection[str] = PROTOCOLS,
    *,
    destinations: Collection[AnyAddress] | None = None,
    ports: Collection[int] | None = None,
) -> SearchStrategy[bytes]:
    """Frames as a correct guest may send them, in the families that the configuration has.

    Args:
        config: of the network; it gives the addresses, the MTU, and whether frames have a `virtio_net_hdr`.
        protocols: of `PROTOCOLS`. Those of a family that is off are left out, unless there are no others.
        destinations: the addresses that all packets go to, for a stack that has few. None for those that the
            configuration knows, an ordinary server, and groups. Some packets go to an address of their protocol:
            DHCP, NDP, IGMP.
        ports: the ports that datagrams and segments of the protocols "udp" and "tcp" go to; None for several.

    Raises:
        UsageError: there is no such protocol, or an address or a port is none, or no address is of a family that is
            on.
    """
    return _valid_of(Parties(config, destinations, ports), _check("protocols", protocols, PROTOCOLS))


def nearly_valid_frames(
    config: NetworkConfig,
    protocols: Collection[str] = PROTOCOLS,
    *,
    destinations: Collection[AnyAddress] | None = None,
    ports: Collection[int] | None = None,
) -> SearchStrategy[bytes]:
    """Valid frames with one thing wrong: a field, an option, a length; with the old or with right checksums.

    Arguments and errors are those of `valid_frames`.
    """
    return _nearly_valid_of(Parties(config, destinations, ports), _check("protocols", protocols, PROTOCOLS))


def hostile_frames(
    config: NetworkConfig,
    protocols: Collection[str] = PROTOCOLS,
    *,
    destinations: Collection[AnyAddress] | None = None,
    ports: Collection[int] | None = None,
) -> SearchStrategy[bytes]:
    """Frames with several things wrong, headers with any bytes behind them, and any bytes.

    Arguments and errors are those of `valid_frames`.
    """
    return _hostile_of(Parties(config, destinations, ports), _check("protocols", protocols, PROTOCOLS))


def frames(
    config: NetworkConfig,
    protocols: Collection[str] = PROTOCOLS,
    *,
    destinations: Collection[AnyAddress] | None = None,
    ports: Collection[int] | None = None,
) -> SearchStrategy[bytes]:
    """Frames of all three kinds.

    Arguments and errors are those of `valid_frames`.
    """
    return _frames_of(Parties(config, destinations, ports), _check("protocols", protocols, PROTOCOLS))


def batches(
    config: NetworkConfig,
    protocols: Collection[str] = PROTOCOLS,
    *,
    max_size: int = 8,
    destinations: Collection[AnyAddress] | None = None,
    ports: Collection[int] | None = None,
) -> SearchStrategy[list[bytes]]:
    """Lists of frames for one call of `Network.receive_frames`; some are all the fragments of one packet.

    Args:
        config: as in `valid_frames`.
        protocols: as in `valid_frames`.
        max_size: the most frames of a list; the fragments of a packet may be more, up to 512.
        destinations: as in `valid_frames`.
        ports: as in `valid_frames`.

    Raises:
        UsageError: as in `valid_frames`.
    """
    return _batches_of(Parties(config, destinations, ports), _check("protocols", protocols, PROTOCOLS), max_size)


def valid_messages(config: NetworkConfig, protocols: Collection[str] = MESSAGES) -> SearchStrategy[bytes]:
    """Messages of applications as a correct guest may send them, without the headers below.

    Args:
        config: of the network; it gives the addresses.
        protocols: of `MESSAGES`: datagrams of a DHCP or DHCPv6 client, DNS queries, TLS ClientHellos in their records,
            HTTP/1 requests.

    Raises:
        UsageError: there is no such protocol.
    """
    return _valid_messages_of(Parties(config), _check("protocols", protocols, MESSAGES))


def messages(config: NetworkConfig, protocols: Collection[str] = MESSAGES) -> SearchStrategy[bytes]:
    """Messages that are valid, that have one or several things wrong, and any bytes.

    Arguments and errors are those of `valid_messages`.
    """
    return _messages_of(Parties(config), _check("protocols", protocols, MESSAGES))


@st.composite
def _valid_messages_of(draw: DrawFn, parties: Parties, protocols: Sequence[str]) -> bytes:
    return joined(_MESSAGES[choose(draw, protocols)](draw, parties))


@st.composite
def _messages_of(draw: DrawFn, parties: Parties, protocols: Sequence[str]) -> bytes:
    parts = _MESSAGES[choose(draw, protocols)](draw, parties)
    match below(draw, 5):
        case 0 | 1:
            return joined(parts)
        case 2:
            return nearly(draw, parts, vnet=None)
        case 3:
            return several_changed(draw, parts, vnet=None)
        case _:
            return draw(st.binary(max_size=300))


_HEADERS: Final = {TCP: 20, UDP: 8}
"""Bytes of the headers without options; other protocols have 8 in most messages."""
_NUMBERS: Final = (6, 17, 1, 58, 0, 43, 44, 60, 51, 50, 2, 132, 135, 255)


def _any_packet(draw: DrawFn, parties: Parties) -> bytes:
    """A valid IP header with any protocol and any bytes behind it, from and to any address."""
    size = choose(draw, parties.families if parties.is_aimed else (4, 16))
    places = (*parties.sources(size), *parties.strangers(size), *parties.groups(size), *parties.destinations(size))
    targets = parties.destinations(size) if parties.is_aimed else places[::-1]
    source, destination = choose(draw, places), choose(draw, targets)
    protocol = below(draw, 256) if chance(draw, 4) else choose(draw, _NUMBERS)
    ip = Ip(source, destination, protocol, sizes(draw, min(parties.mtu, 1500)), ttl=choose(draw, [64, 0, 1, 255]))
    return _in_ethernet(parties, ip)


def _cut_packet(draw: DrawFn, parties: Parties, protocols: Sequence[str]) -> bytes:
    """A valid IP packet that ends within its transport header; or a frame of ARP that is cut anywhere."""
    packets = _PACKETS.get(choose(draw, _possible(parties, protocols)))
    if packets is None:
        frame = joined(arp_parts(draw, parties))
        return frame[: below(draw, len(frame))]
    packet = packets(draw, parties)
    data = joined(packet.parts)
    rest = data[: below(draw, min(len(data), _HEADERS.get(packet.protocol, 8)) or 1)]
    ip = Ip(packet.source, packet.destination, packet.protocol, rest, ttl=packet.hop_limit or 64)
    return _in_ethernet(parties, ip)


def _any_payload(draw: DrawFn, parties: Parties) -> bytes:
    """A known EtherType with any bytes behind it."""
    ethertype = choose(draw, [b"\x08\x00", b"\x08\x06", b"\x86\xdd", b"\x81\x00", b"\x88\xcc", b"\0\x2e"])
    group = choose(draw, [parties.mac, b"\xff" * 6, b"\x33\x33\0\0\0\1", b"\x01\x80\xc2\0\0\0", bytes(6)])
    head = (bytes(12) if parties.vnet else b"") + group + parties.guest_mac + ethertype
    return with_checksums(head + draw(st.binary(max_size=120)), vnet=parties.vnet)


def _in_ethernet(parties: Parties, ip: Ip) -> bytes:
    head = (Part("vnet", bytes(12)),) if parties.vnet else ()
    ethernet = ethernet_parts(parties, parties.mac, IPV4 if ip.version == 4 else IPV6)
    return with_checksums(joined((*head, *ethernet, Part("ip", ip.emit()))), vnet=parties.vnet)
