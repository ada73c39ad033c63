"""Frames with offloads, as a cable carries them: split into segments, and with a wrong bit.

Each segment has a partial checksum and a `virtio_net_hdr` of its own, which the receiver accepts since it takes the
frame as a whole, too. Nothing here raises: what cannot be split stays as it is, and the receiver judges it.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

from sansnet_core.errors import Malformed
from sansnet_core.wire import ethernet, tcp, virtio_net
from sansnet_core.wire.checksum import finish, ones_sum, partial, pseudo_sum
from sansnet_core.wire.ip import TCP, UDP

__all__ = ["corrupted", "split"]

_SHORT: Final = Struct("!H")
_LONG: Final = Struct("!I")
_UDP_HEADER: Final = 8
_IPV4_HEADER: Final = 20
_IPV6_HEADER: Final = 40

_MAX_PACKET: Final = 65535
"""Bytes of an IP packet."""
_LEAST_SEGMENT: Final = 48
"""Bytes, as Linux's TCP_MIN_SND_MSS. A guest that asks for smaller ones would cause work without bound."""


def split(frame: bytes) -> list[bytes]:
    """The segments or datagrams that a frame with segmentation offload stands for (virtio 1.2, 5.1.6.2).

    Args:
        frame: an Ethernet frame behind a `virtio_net_hdr`.

    Returns:
        The pieces in sequence; the frame itself if it is no such frame, or is malformed.
    """
    try:
        header = virtio_net.parse(frame)
    except Malformed:
        return [frame]
    if not header.gso_size or header.gso_size < _LEAST_SEGMENT or not header.flags & virtio_net.NEEDS_CSUM:
        return [frame]
    network = virtio_net.HEADER_SIZE + ethernet.HEADER_SIZE
    ethertype = frame[network - 2 : network]
    if ethertype == ethernet.ETHERTYPE_VLAN:
        network += ethernet.TAG_SIZE
        ethertype = frame[network - 2 : network]
    transport = virtio_net.HEADER_SIZE + header.checksum_start
    is_tcp = header.gso_type != virtio_net.GSO_UDP_L4
    least = tcp.HEADER_SIZE if is_tcp else _UDP_HEADER
    version4 = ethertype == ethernet.ETHERTYPE_IPV4
    if not (version4 or ethertype == ethernet.ETHERTYPE_IPV6):
        return [frame]
    if transport < network + (_IPV4_HEADER if version4 else _IPV6_HEADER) or transport + least > len(frame):
        return [frame]
    start = transport + (frame[transport + 12] >> 4 << 2 if is_tcp else _UDP_HEADER)
    if start < transport + least or start + header.gso_size >= len(frame):
        return [frame]
    if start - network + header.gso_size > _MAX_PACKET:
        return [frame]
    return _pieces(frame, header, network, transport, start, version4=version4)


def _pieces(
    frame: bytes, header: virtio_net.VnetHeader, network: int, transport: int, start: int, *, version4: bool
) -> list[bytes]:
    """The pieces of a frame whose headers begin at `network` and `transport`, and whose data begins at `start`."""
    is_tcp = header.gso_type != virtio_net.GSO_UDP_L4
    field = transport + (16 if is_tcp else 6)
    source, size = (network + 12, 4) if version4 else (network + 8, 16)
    pseudo = pseudo_sum(frame[source : source + size], frame[source + size : source + 2 * size], TCP if is_tcp else UDP)
    head = bytearray(frame[:start])
    head[1] = virtio_net.GSO_NONE
    head[4:6] = b"\0\0"  # gso_size
    sequence = _LONG.unpack_from(frame, transport + 4)[0]
    identification = _SHORT.unpack_from(frame, network + 4)[0]
    flags = frame[transport + 13] if is_tcp else 0
    pieces = []
    for number, offset in enumerate(range(start, len(frame), header.gso_size)):
        data = frame[offset : offset + header.gso_size]
        length = start - transport + len(data)
        if version4:
            _SHORT.pack_into(head, network + 2, transport - network + length)
            _SHORT.pack_into(head, network + 4, identification + number & 0xFFFF)
            _SHORT.pack_into(head, network + 10, 0)
            _SHORT.pack_into(head, network + 10, finish(ones_sum(bytes(head[network:transport]))))
        else:
            _SHORT.pack_into(head, network + 4, transport - network - _IPV6_HEADER + length)
        if is_tcp:
            last = offset + header.gso_size >= len(frame)
            kept = flags if last else flags & ~(tcp.FIN | tcp.PSH)
            head[transport + 13] = kept if number == 0 else kept & ~tcp.CWR
            _LONG.pack_into(head, transport + 4, tcp.add(sequence, offset - start))
        else:
            _SHORT.pack_into(head, transport + 4, length)
        _SHORT.pack_into(head, field, partial(pseudo + length))
        pieces.append(bytes(head) + data)
    return pieces


def corrupted(frame: bytes, place: float, header: int) -> bytes:
    """A frame in which one bit behind the Ethernet header is wrong.

    Args:
        frame: the frame.
        place: where the bit is, from 0 to 1.
        header: bytes of the `virtio_net_hdr`. A partial checksum is completed before, or no one could notice.

    Returns:
        The frame. One without a bit behind that header stays as it is.
    """
    if header and frame[1:2] == b"\0":
        frame = virtio_net.NO_OFFLOAD + virtio_net.complete(frame)
    first = header + ethernet.HEADER_SIZE
    bits = 8 * (len(frame) - first)
    if bits <= 0:
        return frame
    number = min(int(place * bits), bits - 1)
    at = first + (number >> 3)
    return frame[:at] + bytes((frame[at] ^ 1 << (number & 7),)) + frame[at + 1 :]
