"""TCP (RFC 9293), its options (RFC 7323, RFC 2018) and its sequence numbers."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from struct import Struct
from typing import Final, NamedTuple

from sansnet_core.errors import Malformed, Reason
from sansnet_core.orders import Buffer
from sansnet_core.wire.checksum import finish, ones_sum, pseudo_sum
from sansnet_core.wire.ip import TCP, IpHeader

__all__ = [
    "ACK",
    "CWR",
    "ECE",
    "FIN",
    "HALF",
    "HEADER_SIZE",
    "MASK",
    "MAX_WINDOW_SCALE",
    "PSH",
    "RST",
    "SYN",
    "URG",
    "TcpHeader",
    "TcpOptions",
    "add",
    "diff",
    "emit",
    "mss_option",
    "parse",
    "parse_options",
    "parse_syn_options",
    "sack_option",
    "sack_permitted_option",
    "summary",
    "window_scale_option",
]

# ports, sequence, acknowledgment, data offset, flags, window, checksum, urgent pointer
_HEADER: Final = Struct("!HHIIBBHHH")
HEADER_SIZE: Final = 20

FIN: Final = 0x01
SYN: Final = 0x02
RST: Final = 0x04
PSH: Final = 0x08
ACK: Final = 0x10
URG: Final = 0x20
ECE: Final = 0x40
CWR: Final = 0x80
_FLAG_LETTERS: Final = "FSRP.UEW"
"""As in tcpdump, lowest bit first."""

_END: Final = 0
_NO_OPERATION: Final = 1
_MSS: Final = 2
_WINDOW_SCALE: Final = 3
_SACK_PERMITTED: Final = 4
_SACK: Final = 5
MAX_WINDOW_SCALE: Final = 14
"""A larger shift counts as this one (RFC 7323, 2.3)."""
_SACK_BLOCK: Final = Struct("!II")
_MSS_HEAD: Final = bytes((_MSS, 4))
_BEFORE_TIMESTAMPS: Final = bytes((_SACK_PERMITTED, 2, 8, 10))
"""SACK permitted, and the kind and length of timestamps (RFC 7323, 3.2), as in Linux's SYNs."""

MASK: Final = 0xFFFFFFFF
"""`(a - b) & MASK` is how many bytes the sequence number `a` is after `b`, if that is less than `HALF`."""
HALF: Final = 0x80000000


class TcpHeader(NamedTuple):
    """A valid TCP header.

    Attributes:
        source_port, destination_port: 1 to 65535.
        sequence, acknowledgment: modulo 2^32.
        flags: the lowest 8 control bits.
        window: the field, not scaled.
        start: index in the buffer of the data, and behind the options.
        end: index behind the data.
        options_start: index of the options.
    """

    source_port: int
    destination_port: int
    sequence: int
    acknowledgment: int
    flags: int
    window: int
    start: int
    end: int
    options_start: int


class TcpOptions(NamedTuple):
    """The options that are supported.

    Attributes:
        mss: 1 to 65535, or None.
        window_scale: 0 to 14, or None.
        sack_permitted: whether the option is present.
        sack: blocks as (left edge, right edge): first sequence number, and the one behind the last (RFC 2018, 3).
    """

    mss: int | None
    window_scale: int | None
    sack_permitted: bool
    sack: tuple[tuple[int, int], ...]


_NO_OPTIONS: Final = TcpOptions(None, None, False, ())


def parse(buf: Buffer, ip: IpHeader, verify: bool) -> TcpHeader:
    """Read a header; `parse_options` reads the options.

    Args:
        buf: holds the packet.
        ip: its IP header.
        verify: check the checksum.

    Raises:
        Malformed: with TCP_MALFORMED, TCP_PORT or TCP_CHECKSUM.
    """
    start = ip.start
    end = ip.end
    size = end - start
    if size < 20:
        raise Malformed(Reason.TCP_MALFORMED)
    source_port, destination_port, sequence, acknowledgment, offset, flags, window, _, _ = _HEADER.unpack_from(
        buf, start
    )
    header = (offset >> 4) << 2
    if not 20 <= header <= size:
        raise Malformed(Reason.TCP_MALFORMED)
    if not (source_port and destination_port):
        raise Malformed(Reason.TCP_PORT)
    if verify and (pseudo_sum(ip.source, ip.destination, TCP) + size + ones_sum(buf[start:end])) % 65535:
        raise Malformed(Reason.TCP_CHECKSUM)
    fields = (
        source_port,
        destination_port,
        sequence,
        acknowledgment,
        flags,
        window,
        start + header,
        end,
        start + 20,
    )
    return tuple.__new__(TcpHeader, fields)


def parse_options(buf: Buffer, start: int, end: int) -> TcpOptions:
    """Read the options between two bounds; never raises.

    Options that are unknown, or have an invalid length or value, are skipped (RFC 9293, 3.1). After one whose length
    reaches past the end, or is below 2, no more are read.
    """
    if start == end:
        return _NO_OPTIONS
    mss = window_scale = None
    sack_permitted = False
    sack: tuple[tuple[int, int], ...] = ()
    while start < end:
        kind = buf[start]
        if kind == _NO_OPERATION:
            start += 1
            continue
        if kind == _END or start + 1 == end:
            break
        size = buf[start + 1]
        following = start + size
        if size < 2 or following > end:
            break
        if kind == _SACK:
            if size & 7 == 2 and size > 2:
                sack = tuple(_SACK_BLOCK.iter_unpack(buf[start + 2 : following]))
        elif kind == _MSS:
            if size == 4:
                mss = (buf[start + 2] << 8 | buf[start + 3]) or None
        elif kind == _WINDOW_SCALE:
            if size == 3:
                window_scale = buf[start + 2]
                if window_scale > MAX_WINDOW_SCALE:
                    window_scale = MAX_WINDOW_SCALE
        elif kind == _SACK_PERMITTED and size == 2:
            sack_permitted = True
        start = following
    return tuple.__new__(TcpOptions, (mss, window_scale, sack_permitted, sack))


def parse_syn_options(buf: Buffer, start: int, end: int) -> TcpOptions:
    """Read the options of a SYN, as `parse_options`.

    A guest's SYNs have the same options but for their timestamps, which say nothing here. So the results for those
    without timestamps are kept.
    """
    options = bytes(buf[start:end])
    if options[:2] == _MSS_HEAD and options[4:8] == _BEFORE_TIMESTAMPS:
        options = options[:6] + options[16:]
    return _kept_options(options)


@lru_cache(64)
def _kept_options(options: bytes) -> TcpOptions:
    return parse_options(options, 0, len(options))


def emit(
    source: bytes,
    destination: bytes,
    source_port: int,
    destination_port: int,
    sequence: int,
    acknowledgment: int,
    flags: int,
    window: int,
    options: bytes = b"",
    payload: Buffer = b"",
) -> bytes:
    """Build a segment with its checksum, for slow paths.

    Args:
        source: 4 or 16 bytes.
        destination: of the same family.
        source_port: 1 to 65535.
        destination_port: 1 to 65535.
        sequence: modulo 2^32.
        acknowledgment: modulo 2^32.
        flags: the lowest 8 control bits.
        window: the field, already scaled.
        options: padded to a multiple of 4 bytes.
        payload: the data.
    """
    header_size = 20 + len(options)
    offset = header_size << 2
    fields = (source_port, destination_port, sequence, acknowledgment, offset, flags, window)
    body = options + payload
    total = pseudo_sum(source, destination, TCP) + header_size + len(payload)
    total += ones_sum(_HEADER.pack(*fields, 0, 0)) + ones_sum(body)
    return _HEADER.pack(*fields, finish(total), 0) + body


def mss_option(mss: int) -> bytes:
    """Maximum segment size in bytes (RFC 9293, 3.7.1); 4 bytes."""
    return bytes((_MSS, 4, mss >> 8, mss & 0xFF))


def window_scale_option(shift: int) -> bytes:
    """Window scale (RFC 7323, 2.2); padded to 4 bytes."""
    return bytes((_NO_OPERATION, _WINDOW_SCALE, 3, shift))


def sack_permitted_option() -> bytes:
    """SACK permitted (RFC 2018, 2); padded to 4 bytes."""
    return bytes((_NO_OPERATION, _NO_OPERATION, _SACK_PERMITTED, 2))


def sack_option(blocks: Iterable[tuple[int, int]]) -> bytes:
    """SACK blocks (RFC 2018, 3), the most important first, at most 4; padded to a multiple of 4 bytes."""
    data = b"".join(_SACK_BLOCK.pack(left, right) for left, right in blocks)
    return bytes((_NO_OPERATION, _NO_OPERATION, _SACK, 2 + len(data))) + data


def add(a: int, n: int) -> int:
    """Sequence number `n` bytes after `a` (before it, if negative)."""
    return (a + n) & MASK


def diff(a: int, b: int) -> int:
    """How many bytes `a` is after `b`; negative if before: -2^31 to 2^31 - 1."""
    return ((a - b + HALF) & MASK) - HALF


def summary(buf: Buffer, ip: IpHeader, source: str, destination: str) -> str:
    """Describe a segment in one line.

    Args:
        buf: holds the packet.
        ip: its IP header.
        source: its source address as text.
        destination: its destination address as text.
    """
    try:
        tcp = parse(buf, ip, verify=False)
    except Malformed as error:
        return f"{source} > {destination}: TCP, {error}"
    flags = "".join(letter for bit, letter in enumerate(_FLAG_LETTERS) if tcp.flags >> bit & 1) or "none"
    length = tcp.end - tcp.start
    parts = [f"Flags [{flags}]"]
    if length or tcp.flags & (SYN | FIN | RST):
        parts.append(f"seq {tcp.sequence}" + (f":{add(tcp.sequence, length)}" if length else ""))
    if tcp.flags & ACK:
        parts.append(f"ack {tcp.acknowledgment}")
    parts.append(f"win {tcp.window}")
    if options := _options_text(parse_options(buf, tcp.options_start, tcp.start)):
        parts.append(f"options [{options}]")
    parts.append(f"length {length}")
    return f"{source}.{tcp.source_port} > {destination}.{tcp.destination_port}: {', '.join(parts)}"


def _options_text(options: TcpOptions) -> str:
    parts = []
    if options.mss is not None:
        parts.append(f"mss {options.mss}")
    if options.window_scale is not None:
        parts.append(f"wscale {options.window_scale}")
    if options.sack_permitted:
        parts.append("sackOK")
    if options.sack:
        parts.append("sack " + " ".join(f"{{{left}:{right}}}" for left, right in options.sack))
    return ",".join(parts)
