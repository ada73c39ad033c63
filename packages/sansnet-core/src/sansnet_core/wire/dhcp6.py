"""DHCPv6 messages between clients and servers, and their options (RFC 8415, 8 and 21)."""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct
from typing import Final, NamedTuple, TypeAlias

from sansnet_core.errors import Malformed, Reason
from sansnet_core.orders import Buffer

__all__ = [
    "SERVER_PORT",
    "CLIENT_PORT",
    "SERVERS",
    "SOLICIT",
    "ADVERTISE",
    "REQUEST",
    "CONFIRM",
    "RENEW",
    "REBIND",
    "REPLY",
    "RELEASE",
    "DECLINE",
    "INFORMATION_REQUEST",
    "CLIENT_ID",
    "SERVER_ID",
    "IA_NA",
    "IA_TA",
    "ADDRESS",
    "REQUESTED",
    "PREFERENCE",
    "STATUS",
    "RAPID_COMMIT",
    "DNS_SERVERS",
    "DOMAIN_SEARCH",
    "IA_PD",
    "CLIENT_FQDN",
    "SUCCESS",
    "NO_ADDRESSES",
    "NO_BINDING",
    "NOT_ON_LINK",
    "NO_PREFIXES",
    "USE_MULTICAST",
    "FOREVER",
    "Association",
    "Message",
    "Option",
    "duid",
    "emit",
    "emit_address",
    "emit_association",
    "emit_options",
    "emit_status",
    "parse",
    "parse_association",
    "summary",
]

SERVER_PORT: Final = 547
CLIENT_PORT: Final = 546
SERVERS: Final = bytes.fromhex("ff020000000000000000000000010002")
"""All_DHCP_Relay_Agents_and_Servers."""

# Message types
SOLICIT: Final = 1
ADVERTISE: Final = 2
REQUEST: Final = 3
CONFIRM: Final = 4
RENEW: Final = 5
REBIND: Final = 6
REPLY: Final = 7
RELEASE: Final = 8
DECLINE: Final = 9
INFORMATION_REQUEST: Final = 11

# https://www.iana.org/assignments/dhcpv6-parameters, option codes
CLIENT_ID: Final = 1
SERVER_ID: Final = 2
IA_NA: Final = 3
IA_TA: Final = 4
ADDRESS: Final = 5
REQUESTED: Final = 6
PREFERENCE: Final = 7
STATUS: Final = 13
RAPID_COMMIT: Final = 14
DNS_SERVERS: Final = 23
DOMAIN_SEARCH: Final = 24
IA_PD: Final = 25
CLIENT_FQDN: Final = 39

# Status codes
SUCCESS: Final = 0
NO_ADDRESSES: Final = 2
NO_BINDING: Final = 3
NOT_ON_LINK: Final = 4
USE_MULTICAST: Final = 5
NO_PREFIXES: Final = 6

FOREVER: Final = 0xFFFFFFFF

_MAX_SIZE: Final = 4096
_MAX_OPTIONS: Final = 128
"""Bytes of a message, and options in it or in one of its options. Clients send far less, and parsing 64 KiB of empty
options would take 20 ms."""

_HEADER: Final = Struct("!I")
_OPTION: Final = Struct("!HH")
_TIMES: Final = Struct("!II")
_DUID_LL: Final = bytes.fromhex("00030001")
_IA_SIZE: Final = {IA_NA: 12, IA_TA: 4, IA_PD: 12}
"""Bytes before the options of an association: the IAID, and T1 and T2, which temporary addresses do not have."""

Option: TypeAlias = tuple[int, bytes]
"""Code and value."""


class Message(NamedTuple):
    """A message.

    Attributes:
        type: `SOLICIT` and so on.
        transaction: 24 bits, echoed in a reply.
        options: in order; one code may occur several times.
    """

    type: int
    transaction: int
    options: tuple[Option, ...]

    def option(self, code: int) -> bytes | None:
        """The first option of this code."""
        return next((value for found, value in self.options if found == code), None)


class Association(NamedTuple):
    """An identity association: the addresses that one interface of the client requests or has.

    Attributes:
        kind: `IA_NA`, `IA_TA` or `IA_PD`.
        id: 4 bytes, chosen by the client.
        addresses: 16 bytes each; empty for `IA_PD`.
    """

    kind: int
    id: bytes
    addresses: tuple[bytes, ...]


def parse(buf: Buffer, start: int, end: int) -> Message:
    """Read a message.

    Args:
        buf: holds the datagram.
        start: offset of its data.
        end: end of its data.

    Raises:
        Malformed: with DHCP_MALFORMED.
    """
    if not 4 <= end - start <= _MAX_SIZE:
        raise Malformed(Reason.DHCP_MALFORMED)
    (first,) = _HEADER.unpack_from(buf, start)
    return Message(first >> 24, first & 0xFFFFFF, _parse_options(bytes(buf[start + 4 : end])))


def _parse_options(data: bytes) -> tuple[Option, ...]:
    found: list[Option] = []
    position = 0
    while position < len(data):
        if len(data) - position < 4:
            raise Malformed(Reason.DHCP_MALFORMED)
        code, size = _OPTION.unpack_from(data, position)
        position += 4 + size
        if position > len(data) or len(found) == _MAX_OPTIONS:
            raise Malformed(Reason.DHCP_MALFORMED)
        found.append((code, data[position - size : position]))
    return tuple(found)


def parse_association(option: Option) -> Association:
    """Read an option of one of the three kinds.

    Raises:
        Malformed: with DHCP_MALFORMED.
    """
    kind, value = option
    size = _IA_SIZE[kind]
    if len(value) < size:
        raise Malformed(Reason.DHCP_MALFORMED)
    addresses = [inner for code, inner in _parse_options(value[size:]) if code == ADDRESS]
    if any(len(inner) < 24 for inner in addresses):
        raise Malformed(Reason.DHCP_MALFORMED)
    return Association(kind, value[:4], tuple(inner[:16] for inner in addresses))


def emit(message: Message) -> bytes:
    """The bytes of a message."""
    return _HEADER.pack(message.type << 24 | message.transaction) + emit_options(message.options)


def emit_options(options: Iterable[Option]) -> bytes:
    """The bytes of options, of a message or of another option."""
    return b"".join(_OPTION.pack(code, len(value)) + value for code, value in options)


def emit_association(kind: int, id: bytes, options: Iterable[Option], *, times: tuple[int, int] = (0, 0)) -> Option:
    """An association with its options; `times` are T1 and T2 in seconds, where 0 lets the client choose."""
    fixed = b"" if kind == IA_TA else _TIMES.pack(*times)
    return kind, id + fixed + emit_options(options)


def emit_address(address: bytes, lifetime: int) -> Option:
    """An address in an association, preferred and valid for `lifetime` seconds."""
    return ADDRESS, address + 2 * lifetime.to_bytes(4, "big")


def emit_status(code: int, text: str = "") -> Option:
    """The status of a request, or of one of its associations."""
    return STATUS, code.to_bytes(2, "big") + text.encode()


def duid(mac: bytes) -> bytes:
    """A DHCP unique identifier from an Ethernet address (RFC 8415, 11.4)."""
    return _DUID_LL + mac


_NAMES: Final = {
    SOLICIT: "solicit",
    ADVERTISE: "advertise",
    REQUEST: "request",
    CONFIRM: "confirm",
    RENEW: "renew",
    REBIND: "rebind",
    REPLY: "reply",
    RELEASE: "release",
    DECLINE: "decline",
    INFORMATION_REQUEST: "information-request",
}


def summary(buf: Buffer, start: int, end: int) -> str:
    """One line of text."""
    try:
        message = parse(buf, start, end)
    except Malformed as error:
        return f"DHCPv6, {error}"
    name = _NAMES.get(message.type, f"type {message.type}")
    codes = ", ".join(str(code) for code, _ in message.options)
    return f"DHCPv6 {name}, transaction {message.transaction:06x}, options {codes or 'none'}"
