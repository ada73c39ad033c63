"""A reader of ICMP and ICMPv6 errors, independent of the core."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from errno import (
    EACCES,
    ECONNREFUSED,
    EHOSTDOWN,
    EHOSTUNREACH,
    EMSGSIZE,
    ENETUNREACH,
    ENONET,
    ENOPROTOOPT,
    EOPNOTSUPP,
    EPROTO,
)
from typing import Final

from sansnet_core.testing.packets import ICMP, ICMPV6, Ip, checksum

__all__ = ["ErrorMessage", "read_error"]

_LARGEST: Final = {4: 576, 6: 1280}
_ERROR_TYPES: Final = {4: (3, 11, 12), 6: (1, 2, 3, 4)}
_UNREACHABLE: Final = {
    4: (
        *(ENETUNREACH, EHOSTUNREACH, ENOPROTOOPT, ECONNREFUSED, EMSGSIZE, EOPNOTSUPP, ENETUNREACH, EHOSTDOWN),
        *(ENONET, ENETUNREACH, EHOSTUNREACH, ENETUNREACH, EHOSTUNREACH, EHOSTUNREACH, EHOSTUNREACH, EHOSTUNREACH),
    ),
    6: (ENETUNREACH, EACCES, EHOSTUNREACH, EHOSTUNREACH, ECONNREFUSED, EACCES, EACCES),
}
"""By code: `icmp_err_convert` (linux/net/ipv4/icmp.c) and `tab_unreach` (linux/net/ipv6/icmp.c)."""


@dataclass(frozen=True, slots=True)
class ErrorMessage:
    """An ICMP error that a guest got.

    Attributes:
        sender: its source address.
        receiver: its destination address.
        type, code: of the family's ICMP.
        rest: the 32 bits behind the checksum.
        quoted: the packet that failed; its payload may be cut.
        missing: how many bytes of that payload are not there.
    """

    sender: bytes
    receiver: bytes
    type: int
    code: int
    rest: int
    quoted: Ip
    missing: int

    @property
    def kind(self) -> tuple[int, int, int]:
        """Type, code, and the 32 bits behind the checksum."""
        return self.type, self.code, self.rest

    @property
    def errno(self) -> int:
        """The errno that Linux reports to the guest's program (`icmp_unreach`, `icmpv6_err_convert`)."""
        version = self.quoted.version
        unreachable, too_big, expired = (3, None, 11) if version == 4 else (1, 2, 3)
        if self.type == unreachable:
            codes = _UNREACHABLE[version]
            return codes[self.code] if self.code < len(codes) else EPROTO
        return {too_big: EMSGSIZE, expired: EHOSTUNREACH}.get(self.type, EPROTO)

    @property
    def ports(self) -> tuple[int, int]:
        """The first two fields of the quoted transport header."""
        first, second = struct.unpack_from("!HH", self.quoted.payload)
        return first, second


def read_error(ip: Ip) -> ErrorMessage:
    """Take an error message apart; its own checksums were verified where the packet was read.

    Raises:
        AssertionError: it is no error message, or a wrong one (RFC 792, RFC 1812, 4.3.2; RFC 4443, 2.4).
    """
    assert ip.protocol == (ICMP if ip.version == 4 else ICMPV6)
    assert len(ip.emit()) <= _LARGEST[ip.version]
    kind, code, _, rest = struct.unpack_from("!BBHI", ip.payload)
    assert kind in _ERROR_TYPES[ip.version]
    data = ip.payload[8:]
    assert data[0] >> 4 == ip.version, "quoted version"
    if ip.version == 4:
        size = (data[0] & 15) * 4
        assert len(data) >= size + 8, "less than the header and 8 bytes (RFC 792)"
        assert checksum(data[:size]) == 0, "quoted header checksum"
        total, identification, fragment = struct.unpack_from("!HHH", data, 2)
        missing = total - len(data)
        quoted = Ip(
            data[12:16],
            data[16:20],
            data[9],
            data[size:],
            data[8],
            data[1],
            data[20:size],
            identification,
            fragment,
        )
    else:
        first, size, protocol, ttl = struct.unpack_from("!IHBB", data)
        missing = 40 + size - len(data)
        quoted = Ip(data[8:24], data[24:40], protocol, data[40:], ttl, first >> 20 & 0xFF)
    assert missing >= 0, "more than the packet"
    assert missing == 0 or len(ip.emit()) == _LARGEST[ip.version], "less than there was room for"
    assert quoted.source == ip.destination, "about a packet of another sender"
    return ErrorMessage(ip.source, ip.destination, kind, code, rest, quoted, missing)
