"""Captures in the pcapng format: nanoseconds, Ethernet, one interface, comments (draft-ietf-opsawg-pcapng).

The caller provides the time of each frame and writes the file. Numbers are little-endian.
"""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct
from typing import Final

from sansnet_core.orders import Frame
from sansnet_core.wire import virtio_net

__all__ = ["pcapng_header", "pcapng_packet"]

# byte-order magic, version (2 parts), length of the section
_SECTION: Final = Struct("<IHHq")
# link type, reserved, snaplen
_INTERFACE: Final = Struct("<HHI")
# interface, time (upper and lower half), bytes captured, bytes of the frame
_PACKET: Final = Struct("<IIIII")
_BLOCK: Final = Struct("<II")
_LENGTH: Final = Struct("<I")
_OPTION: Final = Struct("<HH")
_SECTION_TYPE, _INTERFACE_TYPE, _PACKET_TYPE = 0x0A0D0D0A, 1, 6
_MAGIC: Final = 0x1A2B3C4D
_ETHERNET: Final = 1
_END, _COMMENT, _FLAGS, _RESOLUTION = 0, 1, 2, 9
_NANOSECONDS: Final = 9
_MAX_COMMENT: Final = 65535
"""Bytes."""


def pcapng_header(snaplen: int) -> bytes:
    """The beginning of a capture whose packets hold at most `snaplen` bytes of a frame."""
    interface = _INTERFACE.pack(_ETHERNET, 0, snaplen) + _options([(_RESOLUTION, bytes([_NANOSECONDS]))])
    return _block(_SECTION_TYPE, _SECTION.pack(_MAGIC, 1, 0, -1)) + _block(_INTERFACE_TYPE, interface)


def pcapng_packet(
    frame: Frame,
    seconds: float,
    snaplen: int,
    vnet: bool,
    *,
    comments: Iterable[str] = (),
    from_guest: bool | None = None,
) -> bytes:
    """The block of one frame.

    Args:
        frame: as on the link.
        seconds: since 1970.
        snaplen: the most bytes of the frame to keep.
        vnet: as for `pcap.pcap_record`.
        comments: texts for people, which Wireshark shows with the packet; up to 65535 bytes of each are kept.
        from_guest: whether the guest sent it (inbound), or gets it (outbound); None if this is not known.
    """
    data = b"".join(frame) if isinstance(frame, tuple) else bytes(frame)
    if vnet:
        data = virtio_net.complete(data)
    time = round(seconds * 1e9)
    kept = data[:snaplen]
    options = [(_COMMENT, _shortened(text)) for text in comments]
    if from_guest is not None:
        options.append((_FLAGS, _LENGTH.pack(1 if from_guest else 2)))
    body = _PACKET.pack(0, time >> 32 & 0xFFFFFFFF, time & 0xFFFFFFFF, len(kept), len(data)) + _padded(kept)
    return _block(_PACKET_TYPE, body + (_options(options) if options else b""))


def _shortened(text: str) -> bytes:
    """A text in UTF-8, cut off between two characters."""
    return text.encode(errors="replace")[:_MAX_COMMENT].decode(errors="ignore").encode()


def _options(options: Iterable[tuple[int, bytes]]) -> bytes:
    return b"".join(_OPTION.pack(code, len(value)) + _padded(value) for code, value in [*options, (_END, b"")])


def _block(kind: int, body: bytes) -> bytes:
    size = len(body) + _BLOCK.size + _LENGTH.size
    return _BLOCK.pack(kind, size) + body + _LENGTH.pack(size)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
