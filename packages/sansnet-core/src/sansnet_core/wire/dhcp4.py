"""DHCP and BOOTP messages (RFC 2131, RFC 951) and the encoding of their options (RFC 2132, RFC 3396)."""

from __future__ import annotations

from collections.abc import Mapping
from struct import Struct
from typing import Final, NamedTuple

from sansnet_core import addresses
from sansnet_core.errors import Malformed, Reason
from sansnet_core.orders import Buffer
from sansnet_core.wire.ethernet import format_mac

__all__ = [
    "SERVER_PORT",
    "CLIENT_PORT",
    "BOOTREQUEST",
    "BOOTREPLY",
    "BROADCAST_FLAG",
    "DISCOVER",
    "OFFER",
    "REQUEST",
    "DECLINE",
    "ACK",
    "NAK",
    "RELEASE",
    "INFORM",
    "SUBNET_MASK",
    "ROUTER",
    "DNS_SERVERS",
    "HOST_NAME",
    "DOMAIN_NAME",
    "INTERFACE_MTU",
    "REQUESTED_ADDRESS",
    "LEASE_TIME",
    "MESSAGE_TYPE",
    "SERVER_ID",
    "PARAMETER_LIST",
    "ERROR_TEXT",
    "MAX_SIZE",
    "CLIENT_ID",
    "RAPID_COMMIT",
    "CLIENT_FQDN",
    "DOMAIN_SEARCH",
    "CLASSLESS_ROUTES",
    "OPTIONS",
    "MIN_SIZE",
    "Message",
    "emit",
    "option_size",
    "parse",
    "summary",
]

SERVER_PORT: Final = 67
CLIENT_PORT: Final = 68

BOOTREQUEST: Final = 1
BOOTREPLY: Final = 2
BROADCAST_FLAG: Final = 0x8000

# Message types, option 53
DISCOVER: Final = 1
OFFER: Final = 2
REQUEST: Final = 3
DECLINE: Final = 4
ACK: Final = 5
NAK: Final = 6
RELEASE: Final = 7
INFORM: Final = 8

# https://www.iana.org/assignments/bootp-dhcp-parameters
PAD: Final = 0
SUBNET_MASK: Final = 1
ROUTER: Final = 3
DNS_SERVERS: Final = 6
HOST_NAME: Final = 12
DOMAIN_NAME: Final = 15
INTERFACE_MTU: Final = 26
REQUESTED_ADDRESS: Final = 50
LEASE_TIME: Final = 51
OVERLOAD: Final = 52
MESSAGE_TYPE: Final = 53
SERVER_ID: Final = 54
PARAMETER_LIST: Final = 55
ERROR_TEXT: Final = 56
MAX_SIZE: Final = 57
CLIENT_ID: Final = 61
RAPID_COMMIT: Final = 80
CLIENT_FQDN: Final = 81
DOMAIN_SEARCH: Final = 119
CLASSLESS_ROUTES: Final = 121
END: Final = 255

# op, htype, hlen, xid, flags, ciaddr, yiaddr, giaddr, chaddr; hops, secs and siaddr are skipped, and written as 0;
# sname and file are elsewhere
_HEADER: Final = Struct("!BBBxI2xH4s4s4x4s16s")
_SNAME: Final = 44
_FILE: Final = 108
_FILE_END: Final = 236
_COOKIE: Final = bytes.fromhex("63825363")
OPTIONS: Final = 240
"""Offset of the options."""
MIN_SIZE: Final = 300
"""Bytes of a BOOTP message; some relays and clients drop shorter ones (RFC 1542, 2.1)."""

_MAX_SIZE: Final = 4096
_MAX_OPTIONS: Final = 256
"""Bytes of a message, and options in one of its fields. Clients send far less, and parsing 64 KiB of empty options
takes milliseconds."""


class Message(NamedTuple):
    """A message, without the fields that RFC 2131 leaves unused.

    Attributes:
        operation: `BOOTREQUEST` or `BOOTREPLY`.
        hardware_type: 1 is Ethernet.
        transaction: 32 bits, echoed in a reply.
        flags: `BROADCAST_FLAG`.
        client: ciaddr, the address that the client has and answers ARP for; 4 bytes.
        yours: yiaddr, the address given to the client.
        relay: giaddr, the relay agent's.
        hardware: chaddr, of the length given in the message, at most 16 bytes.
        options: code -> value; options of one code are joined (RFC 3396). Empty for a BOOTP message without options.
    """

    operation: int
    hardware_type: int
    transaction: int
    flags: int
    client: bytes
    yours: bytes
    relay: bytes
    hardware: bytes
    options: Mapping[int, bytes]

    @property
    def type(self) -> int | None:
        """Option 53; None in a BOOTP message, 0 if it is not one byte."""
        value = self.options.get(MESSAGE_TYPE)
        if value is None:
            return None
        return value[0] if len(value) == 1 else 0


def parse(buf: Buffer, start: int, end: int) -> Message:
    """Read a message.

    Args:
        buf: holds the datagram.
        start: offset of its data.
        end: end of its data.

    Raises:
        Malformed: with DHCP_MALFORMED.
    """
    if not OPTIONS <= end - start <= _MAX_SIZE:
        raise Malformed(Reason.DHCP_MALFORMED)
    data = bytes(buf[start:end])
    operation, hardware_type, size, transaction, flags, client, yours, relay, hardware = _HEADER.unpack_from(data)
    cookie = data[236:OPTIONS]
    if size > 16 or cookie not in (_COOKIE, bytes(4)):
        raise Malformed(Reason.DHCP_MALFORMED)
    options = _parse_options(data) if cookie == _COOKIE else {}
    return Message(operation, hardware_type, transaction, flags, client, yours, relay, hardware[:size], options)


def _parse_options(data: bytes) -> dict[int, bytes]:
    found: dict[int, bytearray] = {}
    _collect(data[OPTIONS:], found)
    overload = found.pop(OVERLOAD, b"\0")
    if len(overload) != 1 or overload[0] > 3:
        raise Malformed(Reason.DHCP_MALFORMED)
    # RFC 3396, 5: options, then file, then sname
    if overload[0] & 1:
        _collect(data[_FILE:_FILE_END], found)
    if overload[0] & 2:
        _collect(data[_SNAME:_FILE], found)
    found.pop(OVERLOAD, None)  # within the fields that it makes options of, it has no meaning (RFC 2131, 4.1)
    return {code: bytes(value) for code, value in found.items()}


def _collect(data: bytes, found: dict[int, bytearray]) -> None:
    # A missing end mark is accepted: the datagram ends here anyway
    position = count = 0
    while position < len(data) and data[position] != END:
        code = data[position]
        position += 1
        if code == PAD:
            continue
        size = data[position] if position < len(data) else len(data)
        position += 1 + size
        count += 1
        if position > len(data) or count > _MAX_OPTIONS:
            raise Malformed(Reason.DHCP_MALFORMED)
        found.setdefault(code, bytearray()).extend(data[position - size : position])


def option_size(value: bytes) -> int:
    """Bytes of an option with this value: 2 for code and length before each 255."""
    return len(value) + 2 * max(1, -(-len(value) // 255))


def emit(message: Message) -> bytes:
    """The bytes of a message, its options in the mapping's order."""
    parts = [
        _HEADER.pack(
            message.operation,
            message.hardware_type,
            len(message.hardware),
            message.transaction,
            message.flags,
            message.client,
            message.yours,
            message.relay,
            message.hardware,
        ),
        bytes(64 + 128),
        _COOKIE,
    ]
    for code, value in message.options.items():
        for offset in range(0, len(value) or 1, 255):
            part = value[offset : offset + 255]
            parts.append(bytes([code, len(part)]) + part)
    parts.append(bytes([END]))
    return b"".join(parts).ljust(MIN_SIZE, b"\0")


_NAMES: Final = {
    DISCOVER: "discover",
    OFFER: "offer",
    REQUEST: "request",
    DECLINE: "decline",
    ACK: "ack",
    NAK: "nak",
    RELEASE: "release",
    INFORM: "inform",
}


def summary(buf: Buffer, start: int, end: int) -> str:
    """One line of text."""
    try:
        message = parse(buf, start, end)
    except Malformed as error:
        return f"DHCP, {error}"
    kind = message.type
    name = "bootp" if kind is None else _NAMES.get(kind, f"type {kind}")
    client, yours = addresses.format(message.client), addresses.format(message.yours)
    return f"DHCP {name}, from {format_mac(message.hardware)}, client {client}, yours {yours}"
