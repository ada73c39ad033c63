"""The encoding of arguments and outputs in a recording: each value begins with a tag of one byte.

docs/recording.md describes the format. Values that are none of its types are written as text (`Unknown`): they are
mistakes of the driver, for which a replayed network raises the same error.

Decoding makes nothing but the types that are listed here. It raises ValueError for whatever is wrong, and uses memory
in proportion to the bytes that it is given.
"""

from __future__ import annotations

from binascii import crc32
from collections.abc import Callable, Collection
from dataclasses import fields
from enum import Enum
from struct import Struct, error
from typing import Any, Final, NamedTuple, TypeAlias

from sansnet_core import config, notices, orders, policy
from sansnet_core.addresses import Endpoint, Prefix
from sansnet_core.errors import Reason
from sansnet_core.records import Record

__all__ = [
    "HEAD",
    "RECORDS",
    "VALUES",
    "Digest",
    "Reader",
    "Unknown",
    "printable",
    "put",
    "put_frames",
    "put_integer",
    "put_orders",
]

HEAD: Final = 96
"""Bytes at the beginning of a payload or a frame that are kept, beside its size and its checksum: all headers of most
frames. Shorter ones are kept whole."""

_MAX_DEPTH: Final = 16
_MAX_INTEGER: Final = 64
"""Bytes of the encoding of an integer."""

_NONE, _TRUE, _FALSE, _INTEGER, _FLOAT, _BYTES, _TEXT, _TUPLE, _RECORD, _VALUE, _ENUM, _ENDPOINT, _PREFIX = range(13)
_DIGEST, _UNKNOWN = 13, 14
_SMALL: Final = 32
"""Tags from here on are the integers 0 to 223 themselves."""

RECORDS: Final = {
    cls.__name__: cls
    for cls in (
        config.Ipv4Config,
        config.Ipv6Config,
        config.Limits,
        config.LinkConfig,
        config.NetworkConfig,
        config.ResolverConfig,
        policy.Allow,
        policy.Drop,
        policy.ProxyConfig,
        policy.Refuse,
        policy.Rule,
        policy.Serve,
    )
}
"""Written by the names of their fields, without those that have their default."""

VALUES: Final[tuple[type, ...]] = (
    orders.ExtendedError,
    orders.OpenStream,
    orders.ServeStream,
    orders.SendStream,
    orders.ShutdownStream,
    orders.ResumeStream,
    orders.KeepAlive,
    orders.CloseSocket,
    orders.OpenDatagram,
    orders.SendDatagram,
    orders.DeliverDatagram,
    orders.FailDatagram,
    orders.DecideFlow,
    orders.OpenEcho,
    orders.SendEcho,
    notices.FlowOpened,
    notices.FlowClosed,
    notices.FlowRefused,
    notices.LeaseGiven,
    notices.NameAsked,
)
"""Written by their place in this list, and all fields in order. New ones are added at the end."""

_ENUMS: Final = {
    cls.__name__: cls
    for cls in (
        config.UdpFiltering,
        policy.Action,
        policy.Check,
        policy.Group,
        policy.NameMode,
        policy.ProxyKind,
        Reason,
    )
}
_FLOATS: Final = Struct("<d")
_SUMS: Final = Struct("<I")
_FIELDS: Final = {cls: tuple(field.name for field in fields(cls)) for cls in VALUES}
_NUMBERS: Final = {cls: number for number, cls in enumerate(VALUES)}
_PAYLOADS: Final = frozenset(("data",))
"""Fields of orders whose bytes are written as a digest."""


class Digest(NamedTuple):
    """Bytes of an output, of which only the beginning is in the recording.

    Attributes:
        size: of all, in bytes.
        head: the first ones, at most `HEAD`; for a frame in two parts, at least the first part.
        sum: CRC-32 of the others.
    """

    size: int
    head: bytes
    sum: int

    def __repr__(self) -> str:
        return f"<{self.size} bytes {self.head[:16].hex()}{'...' * (self.size > 16)} sum {self.sum:08x}>"


class Unknown(NamedTuple):
    """An argument of a type that no method takes."""

    text: str

    def __repr__(self) -> str:
        return printable(self.text)


def printable(text: str) -> str:
    """A text of a stranger, without what a terminal would take as a command."""
    return text if text.isprintable() else "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


# encoding


def put_integer(out: bytearray, value: int) -> None:
    """Write an integer from 0 on, 7 bits in each byte, the lowest first."""
    if value < 128:
        out.append(value)
        return
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)


def put(out: bytearray, value: object) -> None:
    """Write a value of any type."""
    encode = _ENCODERS.get(type(value))
    if encode is not None:
        encode(out, value)
    else:
        _put_other(out, value)


def _put_int(out: bytearray, value: int) -> None:
    if 0 <= value < 256 - _SMALL:
        out.append(_SMALL + value)
    elif value.bit_length() < 7 * _MAX_INTEGER - 1:
        out.append(_INTEGER)
        put_integer(out, value << 1 if value >= 0 else (~value << 1) + 1)
    else:
        _put_unknown(out, value)


def _put_float(out: bytearray, value: float) -> None:
    out.append(_FLOAT)
    out += _FLOATS.pack(value)


def _put_bytes(out: bytearray, value: bytes) -> None:
    out.append(_BYTES)
    put_integer(out, len(value))
    out += value


def _put_text(out: bytearray, value: str) -> None:
    data = value.encode(errors="surrogatepass")
    out.append(_TEXT)
    put_integer(out, len(data))
    out += data


def _put_tuple(out: bytearray, value: Collection[object]) -> None:
    out.append(_TUPLE)
    put_integer(out, len(value))
    for each in value:
        put(out, each)


def _put_record(out: bytearray, value: Record) -> None:
    name, cls = type(value).__name__, type(value)
    if RECORDS.get(name) is not cls:
        _put_unknown(out, value)
        return
    given = {
        name: each
        for name, each in vars(value).items()
        if name not in cls._defaults or type(each) is not type(cls._defaults[name]) or each != cls._defaults[name]
    }
    out.append(_RECORD)
    _put_text(out, name)
    put_integer(out, len(given))
    for name, each in given.items():
        _put_text(out, name)
        put(out, each)


def _put_value(out: bytearray, value: object) -> None:
    cls = type(value)
    out.append(_VALUE)
    out.append(_NUMBERS[cls])
    for name in _FIELDS[cls]:
        field = getattr(value, name)
        if name in _PAYLOADS and isinstance(field, bytes | memoryview):
            _put_digest(out, field)
        else:
            put(out, field)


def _put_enum(out: bytearray, value: Enum) -> None:
    out.append(_ENUM)
    _put_text(out, type(value).__name__)
    _put_text(out, value.name)


def _put_pair(out: bytearray, tag: int, address: object, number: object) -> None:
    if isinstance(address, bytes) and type(number) is int and len(address) in (4, 16) and 0 <= number < 65536:
        out.append(tag)
        out.append(len(address))
        out += address
        put_integer(out, number)
    else:
        _put_tuple(out, (address, number))


def _put_endpoint(out: bytearray, value: Endpoint) -> None:
    _put_pair(out, _ENDPOINT, *value)


def _put_prefix(out: bytearray, value: Prefix) -> None:
    _put_pair(out, _PREFIX, *value)


def _put_digest(out: bytearray, data: bytes | memoryview) -> None:
    size = len(data)
    if size <= HEAD:
        out += bytes((_DIGEST, size, size))
        out += data
        return
    out.append(_DIGEST)
    put_integer(out, size)
    out.append(HEAD)
    out += data[:HEAD]
    out += _SUMS.pack(crc32(memoryview(data)[HEAD:]))


def _put_frame(out: bytearray, frame: orders.Frame) -> None:
    if not isinstance(frame, tuple):
        _put_digest(out, frame)
        return
    headers, payload = frame
    out.append(_DIGEST)
    put_integer(out, len(headers) + len(payload))
    put_integer(out, len(headers))
    out += headers
    if payload:
        out += _SUMS.pack(crc32(payload))


def put_frames(out: bytearray, frames: list[orders.Frame]) -> None:
    """Write the digests of frames to the guest."""
    out.append(_TUPLE)
    put_integer(out, len(frames))
    for frame in frames:
        _put_frame(out, frame)


def put_orders(out: bytearray, given: list[orders.Order]) -> None:
    """Write orders, with digests of their payload."""
    out.append(_TUPLE)
    put_integer(out, len(given))
    for order in given:
        if type(order) is orders.SendStream:  # by far the most frequent one
            out.append(_VALUE)
            out.append(_SEND_STREAM)
            _put_int(out, order.socket)
            _put_digest(out, order.data)
        else:
            _put_value(out, order)


_SEND_STREAM: Final = _NUMBERS[orders.SendStream]


def _put_unknown(out: bytearray, value: object) -> None:
    text = f"{value!r:.100}".encode(errors="replace")
    out.append(_UNKNOWN)
    put_integer(out, len(text))
    out += text


def _put_other(out: bytearray, value: object) -> None:
    """Write a value of a type that is not in the table, as one that is and that has the same meaning."""
    if isinstance(value, bool | int):
        _put_int(out, int(value))
    elif isinstance(value, Record):
        _put_record(out, value)
    elif type(value).__module__ == "ipaddress":
        _put_text(out, str(value))
    elif (isinstance(value, memoryview) and value.readonly) or isinstance(value, bytes):
        _put_bytes(out, bytes(value))
    elif isinstance(value, str):
        _put_text(out, str(value))
    elif isinstance(value, float):
        _put_float(out, float(value))
    elif isinstance(value, tuple | list | set | frozenset):
        _put_tuple(out, value)
    else:
        _put_unknown(out, value)


_ENCODERS: Final[dict[type, Callable[[bytearray, Any], None]]] = {
    type(None): lambda out, _: out.append(_NONE),
    bool: lambda out, value: out.append(_TRUE if value else _FALSE),
    int: _put_int,
    float: _put_float,
    bytes: _put_bytes,
    str: _put_text,
    tuple: _put_tuple,
    Endpoint: _put_endpoint,
    Prefix: _put_prefix,
    **dict.fromkeys(RECORDS.values(), _put_record),
    **dict.fromkeys(VALUES, _put_value),
    **dict.fromkeys(_ENUMS.values(), _put_enum),
}


# decoding

Value: TypeAlias = Any


class Reader:
    """Reads values.

    Args:
        data: the bytes.
        position: where to begin.

    Attributes:
        data, position: the bytes, and where the next value begins.
    """

    __slots__ = ("data", "position")

    def __init__(self, data: bytes, position: int = 0) -> None:
        self.data = data
        self.position = position

    def byte(self) -> int:
        """One byte."""
        if self.position >= len(self.data):
            raise ValueError("it ends within a value")
        value = self.data[self.position]
        self.position += 1
        return value

    def integer(self) -> int:
        """An integer of `put_integer`."""
        value = shift = 0
        for _ in range(_MAX_INTEGER):
            byte = self.byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7
        raise ValueError("a number is too long")

    def bytes(self, size: int) -> bytes:
        """Some bytes."""
        end = self.position + size
        if end > len(self.data):
            raise ValueError("it ends within a value")
        value = self.data[self.position : end]
        self.position = end
        return value

    def value(self, depth: int = 0) -> Value:
        """A value.

        Raises:
            ValueError: it is wrong, or not complete.
        """
        tag = self.byte()
        if tag >= _SMALL:
            return tag - _SMALL
        if depth > _MAX_DEPTH or tag not in _DECODERS:
            raise ValueError(f"a value has the tag {tag}, which does not exist" if depth <= _MAX_DEPTH else "too deep")
        try:
            return _DECODERS[tag](self, depth + 1)
        except (TypeError, error) as wrong:
            raise ValueError(str(wrong)) from None

    def text(self) -> str:
        """A text, without a tag."""
        return self.bytes(self.integer()).decode(errors="surrogatepass")

    def name(self) -> str:
        """A text with its tag."""
        if self.byte() != _TEXT:
            raise ValueError("a name is missing")
        return self.text()


def _get_int(reader: Reader, _: int) -> int:
    value = reader.integer()
    return ~(value >> 1) if value & 1 else value >> 1


def _get_tuple(reader: Reader, depth: int) -> tuple[Value, ...]:
    count = reader.integer()
    if count > len(reader.data) - reader.position:
        raise ValueError("it ends within a value")
    return tuple(reader.value(depth) for _ in range(count))


def _get_record(reader: Reader, depth: int) -> Record:
    name = reader.name()
    if name not in RECORDS:
        raise ValueError(f"{name!r:.100} is no record of a recording")
    given = {reader.name(): reader.value(depth) for _ in range(min(reader.integer(), 1000))}
    return RECORDS[name](**given)


def _get_value(reader: Reader, depth: int) -> object:
    number = reader.byte()
    if number >= len(VALUES):
        raise ValueError(f"value number {number} does not exist")
    cls = VALUES[number]
    made: object = cls(*[reader.value(depth) for _ in _FIELDS[cls]])
    return made


def _get_enum(reader: Reader, _: int) -> Enum:
    name, member = reader.name(), reader.name()
    if name not in _ENUMS or member not in _ENUMS[name].__members__:
        raise ValueError(f"{name:.100}.{member:.100} does not exist")
    found: Enum = _ENUMS[name][member]
    return found


def _get_endpoint(reader: Reader, _: int) -> Endpoint:
    return Endpoint(reader.bytes(reader.byte()), reader.integer())


def _get_prefix(reader: Reader, _: int) -> Prefix:
    return Prefix(reader.bytes(reader.byte()), reader.integer())


def _get_digest(reader: Reader, _: int) -> Digest:
    size, length = reader.integer(), reader.integer()
    head = reader.bytes(length)
    if length > size:
        raise ValueError("a head is longer than what it is of")
    return Digest(size, head, _SUMS.unpack(reader.bytes(4))[0] if size > length else 0)


_DECODERS: Final[dict[int, Callable[[Reader, int], Value]]] = {
    _NONE: lambda reader, _: None,
    _TRUE: lambda reader, _: True,
    _FALSE: lambda reader, _: False,
    _INTEGER: _get_int,
    _FLOAT: lambda reader, _: _FLOATS.unpack(reader.bytes(8))[0],
    _BYTES: lambda reader, _: reader.bytes(reader.integer()),
    _TEXT: lambda reader, _: reader.text(),
    _TUPLE: _get_tuple,
    _RECORD: _get_record,
    _VALUE: _get_value,
    _ENUM: _get_enum,
    _ENDPOINT: _get_endpoint,
    _PREFIX: _get_prefix,
    _DIGEST: _get_digest,
    _UNKNOWN: lambda reader, _: Unknown(reader.text()),
}
