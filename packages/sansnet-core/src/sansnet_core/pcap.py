"""Captures in the classic pcap format: microseconds, Ethernet, little-endian (draft-ietf-opsawg-pcap).

The caller provides the time of each frame and writes the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from typing import Final

from sansnet_core.orders import Frame
from sansnet_core.wire import virtio_net

__all__ = ["pcap_header", "pcap_record", "read"]

# magic, version (2 parts), two unused fields, snaplen, link type
_FILE: Final = Struct("<IHHIIII")
# seconds, microseconds, bytes captured, bytes of the frame
_RECORD: Final = Struct("<IIII")
_MAGIC: Final = 0xA1B2C3D4
_ETHERNET: Final = 1


def pcap_header(snaplen: int) -> bytes:
    """The beginning of a capture whose records hold at most `snaplen` bytes of a frame."""
    return _FILE.pack(_MAGIC, 2, 4, 0, 0, snaplen, _ETHERNET)


def pcap_record(frame: Frame, seconds: float, snaplen: int, vnet: bool) -> bytes:
    """The record of one frame.

    Args:
        frame: as on the link.
        seconds: since 1970.
        snaplen: the most bytes of the frame to keep.
        vnet: whether the frame begins with `virtio_net_hdr`, which is removed. A partial checksum is completed, so that
            readers of the capture do not report it as wrong.
    """
    data = b"".join(frame) if isinstance(frame, tuple) else frame
    if vnet:
        data = virtio_net.complete(data)
    whole, fraction = divmod(round(seconds * 1_000_000), 1_000_000)
    return _RECORD.pack(whole, fraction, min(len(data), snaplen), len(data)) + data[:snaplen]


def read(data: bytes) -> Iterator[tuple[float, bytes]]:
    """Read a capture: time in seconds and bytes of each frame, without a record that is truncated at the end.

    Raises:
        ValueError: the data is not a capture in this format.
    """
    if len(data) < _FILE.size or _FILE.unpack_from(data)[::6] != (_MAGIC, _ETHERNET):
        raise ValueError("not a little-endian pcap capture of Ethernet frames with microseconds")
    offset = _FILE.size
    while offset + _RECORD.size <= len(data):
        whole, fraction, size, _ = _RECORD.unpack_from(data, offset)
        offset += _RECORD.size
        if offset + size <= len(data):
            yield whole + fraction / 1_000_000, data[offset : offset + size]
        offset += size
