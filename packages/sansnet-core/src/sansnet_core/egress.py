"""Builds all frames to the guest.

`Egress` sends single packets of any protocol. `FlowHeaders` sends the packets of one flow: it keeps everything that all
of them share (Ethernet header, addresses, ports, their checksums), so that a packet costs one `Struct.pack`. On a link
with offloads, a frame may ask for checksums or segmentation in its `virtio_net_hdr` (virtio 1.2, 5.1.6), and then be
larger than the MTU. On other links the data of several TCP segments still comes in one call, and is divided here: what
they have in common is made once.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

from sansnet_core.config import LinkConfig
from sansnet_core.entropy import Entropy
from sansnet_core.errors import UsageError
from sansnet_core.guest_addresses import GuestAddresses
from sansnet_core.mypyc import mypyc_attr
from sansnet_core.orders import Buffer, Endpoint
from sansnet_core.outbox import Outbox
from sansnet_core.wire import ipv4, ipv6
from sansnet_core.wire.checksum import finish, ones_sum, partial, pseudo_sum
from sansnet_core.wire.ethernet import ETHERTYPE_IPV4, ETHERTYPE_IPV6, MIN_SIZE
from sansnet_core.wire.ip import TCP, UDP
from sansnet_core.wire.ipv4 import DONT_FRAGMENT
from sansnet_core.wire.tcp import FIN, MASK, PSH
from sansnet_core.wire.virtio_net import (
    GSO_NONE,
    GSO_TCPV4,
    GSO_TCPV6,
    GSO_UDP_L4,
    HEADER,
    NEEDS_CSUM,
    NO_OFFLOAD,
)

__all__ = ["Egress", "FlowHeaders"]

TTL: Final = 255
ETHERNET: Final = 14
MAX_PACKET_SIZE: Final = 65535
"""Bytes; the most that IP's length fields can express."""

_IPV4_TCP: Final = Struct("!BBHHHBBH12sIIBBHHH")
_IPV6_TCP: Final = Struct("!IHBB36sIIBBHHH")
_IPV4_COMMON: Final = Struct("!BBHHHBBH12s")
_IPV6_COMMON: Final = Struct("!IHBB36s")
_TCP_REST: Final = Struct("!IIBBHHH")
"""The headers of a segment, as above, in the part that all segments of one size have in common, and the rest."""
_NO_OPTIONS: Final = 5 << 4
"""The data offset of a TCP header without options (RFC 9293, 3.1), with the reserved bits."""
_IPV4_UDP: Final = Struct("!BBHHHBBH12sHH")
_IPV6_UDP: Final = Struct("!IHBB36sHH")
_PORTS: Final = Struct("!HH")

_IPV4_SUM: Final = 0x4500 + DONT_FRAGMENT + 20
"""The sum of the fields of an IPv4 header that the pseudo-header does not have, without TTL and TOS."""

_MAX_PREFIXES: Final = 64
"""Most prefixes in the cache. There is one for each segment size, and the guest chooses the sizes."""

_COPY_BELOW: Final = 4096
"""Bytes. Shorter payloads are copied behind their headers: `write` of one buffer is cheaper than `writev` of two."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Egress:
    """Builds frames to the guest and puts them into the outbox.

    Args:
        link: capabilities of the guest's link.
        mac: our Ethernet address.
        guest: the guest's addresses.
        out: where the frames go.
        entropy: source of the fragments' identifications.

    Attributes:
        link: capabilities of the guest's link.
        checksum_offload: that of `link`, which is read for each packet.
        stations: the Ethernet addresses of the guest's IP addresses.
    """

    __slots__ = ("_entropy", "_guest", "_mac", "_out", "_prefixes", "_vnet", "checksum_offload", "link", "stations")

    def __init__(self, link: LinkConfig, mac: bytes, guest: GuestAddresses, out: Outbox, entropy: Entropy) -> None:
        self.link = link
        self.checksum_offload = link.checksum_offload
        self.stations = guest.stations
        self._vnet = link.vnet_header
        self._mac = mac
        self._guest = guest
        self._out = out
        self._entropy = entropy
        self._prefixes: dict[tuple[bytes, int, int, int], bytes] = {}

    def station(self, address: bytes) -> bytes:
        """Ethernet address for an IP address of the guest; if unknown, that of the latest frame's sender."""
        return self.stations.find(address) or self._guest.mac

    def prefix(self, mac: bytes, version: int, protocol: int, gso_size: int) -> bytes:
        """`virtio_net_hdr` (if the link has it) and Ethernet header of a flow's packets.

        Args:
            mac: Ethernet destination.
            version: 4 or 6.
            protocol: `TCP` or `UDP`.
            gso_size: payload bytes of a segment, for the guest to divide the frame into; 0 for a frame with one packet.
        """
        key = (mac, version, protocol, gso_size)
        found = self._prefixes.get(key)
        if found is None:
            if len(self._prefixes) >= _MAX_PREFIXES:
                self._prefixes.clear()
            found = self._prefixes[key] = self._make_prefix(*key)
        return found

    def _make_prefix(self, mac: bytes, version: int, protocol: int, gso_size: int) -> bytes:
        ethernet = mac + self._mac + (ETHERTYPE_IPV4 if version == 4 else ETHERTYPE_IPV6)
        if not self._vnet:
            return ethernet
        size = 34 if version == 4 else 54
        flags, start, offset = NEEDS_CSUM, size, 16 if protocol == TCP else 6
        if not self.checksum_offload:
            flags = start = offset = 0
        if not gso_size:
            return HEADER.pack(flags, GSO_NONE, 0, 0, start, offset, 0) + ethernet
        if protocol == TCP:
            gso_type, size = GSO_TCPV4 if version == 4 else GSO_TCPV6, size + 20
        else:
            gso_type, size = GSO_UDP_L4, size + 8
        return HEADER.pack(flags, gso_type, size, gso_size, start, offset, 0) + ethernet

    def frame(self, ethertype: bytes, payload: bytes, destination: bytes) -> None:
        """Send one Ethernet frame.

        Args:
            ethertype: 2 bytes in network order.
            payload: everything behind the Ethernet header.
            destination: Ethernet address.
        """
        frame = destination + self._mac + ethertype + payload
        self._out.frames.append(NO_OFFLOAD + frame if self._vnet else frame.ljust(MIN_SIZE, b"\0"))

    def put(self, head: bytes, payload: Buffer) -> None:
        """Send a frame whose headers are complete.

        Args:
            head: all headers, from `virtio_net_hdr` (if the link has it) to the transport header.
            payload: the rest of the frame; not copied if it is large.
        """
        frames = self._out.frames
        if len(payload) >= _COPY_BELOW:
            frames.append((head, payload))
            return
        frame = head + payload if payload else head
        frames.append(frame if self._vnet else frame.ljust(MIN_SIZE, b"\0"))

    def packet(
        self,
        source: bytes,
        destination: bytes,
        protocol: int,
        payload: Buffer,
        *,
        ttl: int = TTL,
        tos: int = 0,
        mac: bytes | None = None,
    ) -> None:
        """Send one IP packet, in fragments if it is larger than the link's MTU.

        Args:
            source: 4 or 16 bytes.
            destination: of the same family.
            protocol: IP protocol number.
            payload: transport header and data, checksummed.
            ttl: TTL or hop limit.
            tos: TOS or traffic class.
            mac: Ethernet destination; None for the station that has the IP destination.
        """
        mac = mac or self.station(destination)
        version4 = len(source) == 4
        header = 20 if version4 else 40
        if header + len(payload) > self.link.mtu:
            self._fragments(source, destination, protocol, payload, ttl, tos, mac)
        elif version4:
            head = ipv4.emit_header(source, destination, protocol, len(payload), ttl, tos, 0, DONT_FRAGMENT)
            self.frame(ETHERTYPE_IPV4, head + payload, mac)
        else:
            head = ipv6.emit_header(source, destination, protocol, len(payload), ttl, tos)
            self.frame(ETHERTYPE_IPV6, head + payload, mac)

    def _fragments(
        self, source: bytes, destination: bytes, protocol: int, payload: Buffer, ttl: int, tos: int, mac: bytes
    ) -> None:
        """Send a packet in fragments (RFC 791 3.2, RFC 8200 4.5)."""
        version4 = len(source) == 4
        if len(payload) > MAX_PACKET_SIZE - (20 if version4 else 0):
            raise UsageError(f"an IP packet cannot carry {len(payload)} bytes")
        size = (self.link.mtu - (20 if version4 else 48)) & ~7
        identification = self._entropy.next(16 if version4 else 32)
        for offset in range(0, len(payload), size):
            part = bytes(payload[offset : offset + size])
            more = offset + size < len(payload)
            if version4:
                field = (offset >> 3) | (ipv4.MORE_FRAGMENTS if more else 0)
                head = ipv4.emit_header(source, destination, protocol, len(part), ttl, tos, identification, field)
                self.frame(ETHERTYPE_IPV4, head + part, mac)
            else:
                head = ipv6.emit_header(source, destination, ipv6.FRAGMENT, 8 + len(part), ttl, tos)
                field = offset | (ipv6.MORE_FRAGMENTS if more else 0)
                head += ipv6.FRAGMENT_HEADER.pack(protocol, 0, field, identification)
                self.frame(ETHERTYPE_IPV6, head + part, mac)


@mypyc_attr(allow_interpreted_subclasses=True)
class FlowHeaders:
    """Sends the packets of one flow to the guest.

    Args:
        egress: of the network.
        source: the remote endpoint in the guest's packets.
        destination: the guest's endpoint.
        protocol: `TCP` or `UDP`.
        mac: the guest's Ethernet address while the table of stations does not have it; empty if none is known.
    """

    __slots__ = (
        "_egress",
        "_ends",
        "_generation",
        "_gso",
        "_gso_prefix",
        "_mac",
        "_prefix",
        "_pseudo",
    )

    def __init__(
        self, egress: Egress, source: Endpoint, destination: Endpoint, protocol: int, mac: bytes = b""
    ) -> None:
        self._egress = egress
        self._ends = source.address + destination.address + _PORTS.pack(source.port, destination.port)
        """Addresses and ports, as they follow each other in a packet."""
        self._pseudo = pseudo_sum(source.address, destination.address, protocol)
        self._mac: bytes | None = mac or None
        self._gso_prefix = b""
        self._refresh(protocol, 0)

    @property
    def mac(self) -> bytes | None:
        """The Ethernet address that the packets go to; None if the guest's is not known."""
        return self._mac

    def _refresh(self, protocol: int, gso_size: int) -> None:
        egress, ends = self._egress, self._ends
        version, guest = (4, ends[4:8]) if len(ends) == 12 else (6, ends[16:32])
        # Keep the address of a station that the table has dropped; look up one that was never in it for each packet
        self._mac = egress.stations.find(guest) or self._mac
        mac = self._mac or egress.station(guest)
        self._prefix = egress.prefix(mac, version, protocol, 0)
        if gso_size:
            self._gso_prefix = egress.prefix(mac, version, protocol, gso_size)
        self._generation, self._gso = egress.stations.generation if self._mac else -1, gso_size

    def tcp(
        self,
        sequence: int,
        acknowledgment: int,
        flags: int,
        window: int,
        options: bytes,
        payload: Buffer,
        gso_size: int,
    ) -> None:
        """Send one segment, or with `gso_size` segments of that many bytes: one frame, if the link has the offload.

        Args:
            sequence: modulo 2^32.
            acknowledgment: modulo 2^32.
            flags: the lowest 8 control bits.
            window: the field, already scaled.
            options: padded to a multiple of 4 bytes; empty with `gso_size`.
            payload: may be empty.
            gso_size: 0, or the payload bytes of a segment, fewer than there are.
        """
        egress = self._egress
        if gso_size and not (egress.link.tso4 if len(self._ends) == 12 else egress.link.tso6):
            self._segments(sequence, acknowledgment, flags, window, payload, gso_size)
            return
        if self._generation != egress.stations.generation or (gso_size and self._gso != gso_size):
            self._refresh(TCP, gso_size or self._gso)
        header_size = 20 + len(options)
        size = header_size + len(payload)
        offset = header_size << 2
        ends = self._ends
        pseudo = self._pseudo + size
        if egress.checksum_offload:
            checksum = pseudo % 65535 or 65535  # `partial` without its call, for each segment
        else:
            ports = int.from_bytes(ends[-4:], "big") % 65535
            header = ports + sequence + acknowledgment + (offset << 8 | flags) + window + ones_sum(options)
            checksum = finish(pseudo + header + ones_sum(payload))
        prefix = self._gso_prefix if gso_size else self._prefix
        if len(ends) == 12:
            head = prefix + _IPV4_TCP.pack(
                0x45,
                0,
                20 + size,
                0,
                DONT_FRAGMENT,
                TTL,
                TCP,
                65535 - (pseudo + _IPV4_SUM + (TTL << 8)) % 65535,  # `finish` without its call
                ends,
                sequence,
                acknowledgment,
                offset,
                flags,
                window,
                checksum,
                0,
            )
        else:
            head = prefix + _IPV6_TCP.pack(
                0x60000000,
                size,
                TCP,
                TTL,
                ends,
                sequence,
                acknowledgment,
                offset,
                flags,
                window,
                checksum,
                0,
            )
        egress.put(head + options if options else head, payload)

    def _segments(
        self, sequence: int, acknowledgment: int, flags: int, window: int, payload: Buffer, size: int
    ) -> None:
        """Send data in segments of `size` bytes. The last may be shorter; PSH and FIN are on that one alone."""
        egress, ends = self._egress, self._ends
        if self._generation != egress.stations.generation:
            self._refresh(TCP, self._gso)
        first, total = flags & ~(PSH | FIN), 20 + size
        pseudo = self._pseudo + total
        if len(ends) == 12:
            ip_sum = finish(pseudo + _IPV4_SUM + (TTL << 8))
            head = _IPV4_COMMON.pack(0x45, 0, 20 + total, 0, DONT_FRAGMENT, TTL, TCP, ip_sum, ends)
        else:
            head = _IPV6_COMMON.pack(0x60000000, total, TCP, TTL, ends)
        head = self._prefix + head
        ports = int.from_bytes(ends[-4:], "big") % 65535
        common = pseudo + ports + acknowledgment + (_NO_OPTIONS << 8 | first) + window
        checksum = partial(pseudo)
        data = memoryview(payload)
        start = 0
        while start + size < len(data):
            part = data[start : start + size]
            if not egress.checksum_offload:
                checksum = finish(common + sequence + ones_sum(part))
            egress.put(head + _TCP_REST.pack(sequence, acknowledgment, _NO_OPTIONS, first, window, checksum, 0), part)
            sequence = (sequence + size) & MASK
            start += size
        self.tcp(sequence, acknowledgment, flags, window, b"", data[start:], 0)

    def udp(self, payload: Buffer, segment_size: int, ttl: int, tos: int) -> None:
        """Send a datagram, or with `segment_size` a run of datagrams of that many bytes (the last may be shorter).

        Args:
            payload: the data of all datagrams.
            segment_size: 0 for one datagram.
            ttl: TTL or hop limit.
            tos: TOS or traffic class.
        """
        egress = self._egress
        ends = self._ends
        version4 = len(ends) == 12
        header = 28 if version4 else 48
        if segment_size and segment_size < len(payload):
            fits = egress.link.uso and header + segment_size <= egress.link.mtu
            step = self.largest_run(segment_size) if fits else segment_size
            if step < len(payload):
                for offset in range(0, len(payload), step):
                    self.udp(payload[offset : offset + step], segment_size, ttl, tos)
                return
        else:
            segment_size = 0
            if header + len(payload) > egress.link.mtu:
                self._large_datagram(payload, ttl, tos)
                return
        if self._generation != egress.stations.generation or (segment_size and self._gso != segment_size):
            self._refresh(UDP, segment_size or self._gso)
        prefix = self._gso_prefix if segment_size else self._prefix
        size = 8 + len(payload)
        checksum = partial(self._pseudo + size) if egress.checksum_offload else self._udp_checksum(payload)
        if version4:
            total = 20 + size
            ip_checksum = finish(self._pseudo + _IPV4_SUM + size + (ttl << 8) + tos)
            head = _IPV4_UDP.pack(
                0x45,
                tos,
                total,
                0,
                DONT_FRAGMENT,
                ttl,
                UDP,
                ip_checksum,
                ends,
                size,
                checksum,
            )
        else:
            head = _IPV6_UDP.pack(0x60000000 | tos << 20, size, UDP, ttl, ends, size, checksum)
        egress.put(prefix + head, payload)

    def holds(self, payload: Buffer, segment_size: int) -> bool:
        """Whether a datagram of this flow, or each one of a run, can carry its data."""
        size = min(segment_size or len(payload), len(payload))
        return size <= MAX_PACKET_SIZE - (28 if len(self._ends) == 12 else 8)

    def largest_run(self, segment_size: int) -> int:
        """Most payload bytes of one frame of datagrams, for a link with USO; a multiple of `segment_size`."""
        room = min(self._egress.link.max_frame_size - ETHERNET, MAX_PACKET_SIZE) - (28 if len(self._ends) == 12 else 48)
        return max(room // segment_size, 1) * segment_size

    def _udp_checksum(self, payload: Buffer) -> int:
        size = 8 + len(payload)
        ports = int.from_bytes(self._ends[-4:], "big") % 65535
        return finish(self._pseudo + 2 * size + ports + ones_sum(payload))

    def _large_datagram(self, payload: Buffer, ttl: int, tos: int) -> None:
        if len(payload) > MAX_PACKET_SIZE - 8:
            raise UsageError(f"a datagram cannot carry {len(payload)} bytes")
        ends = self._ends
        size = (len(ends) - 4) >> 1
        source, destination = ends[:size], ends[size:-4]
        header = ends[-4:] + _PORTS.pack(8 + len(payload), self._udp_checksum(payload))
        self._egress.packet(source, destination, UDP, header + payload, ttl=ttl, tos=tos)
