"""ICMP and ICMPv6 errors to the guest; its kernel turns them into the errno that a program on the host would get.

Theory of operation. A failure outside arrives as an `ExtendedError`. If a router or the remote host sent it, the guest
gets the same type and code, and the address of the sender if the guest can reach it. If the host's own kernel refused,
the guest gets what a router in its place would send (`_ERRNOS`), in a form that a UDP socket without IP_RECVERR also
reports (`_FINAL`). Packets that the configuration closes are answered as by a router with that policy (`_REFUSALS`).

Every message quotes the guest's packet with its original addresses, ports and numbers, by which the guest's kernel
finds the socket to report to. A token bucket bounds all messages (RFC 1812 4.3.2.8, RFC 4443 2.4 f). There are no
messages about ICMP errors, about packets to or from a group, or about fragments other than the first (RFC 1812 4.3.2.7,
RFC 4443 2.4 e).
"""

from __future__ import annotations

from errno import (
    EACCES,
    EAFNOSUPPORT,
    EAGAIN,
    ECONNREFUSED,
    EHOSTDOWN,
    EMFILE,
    EMSGSIZE,
    ENETDOWN,
    ENETUNREACH,
    ENFILE,
    ENOBUFS,
    ENOMEM,
    ENONET,
    ENOPROTOOPT,
    ENOSPC,
    EOPNOTSUPP,
    EPERM,
    EPROTO,
    ETIMEDOUT,
)
from typing import Final, NamedTuple

from sansnet_core.addresses import is_multicast, is_unspecified
from sansnet_core.context import Context
from sansnet_core.egress import TTL
from sansnet_core.errors import HeaderProblem, Reason
from sansnet_core.mypyc import mypyc_attr
from sansnet_core.orders import ORIGIN_ICMP, ORIGIN_ICMPV6, ORIGIN_LOCAL, Buffer, Endpoint, ExtendedError
from sansnet_core.token_bucket import TokenBucket
from sansnet_core.wire import icmp4, icmp6, ipv4, ipv6
from sansnet_core.wire.ip import ICMP, ICMPV6, UDP, IpHeader

__all__ = ["MAX_SIZE4", "MAX_SIZE6", "IcmpError", "IcmpErrors", "for_extended_error"]

MAX_SIZE4: Final = 576
"""Bytes of a whole packet with an ICMP error (RFC 1812, 4.3.2.3)."""
MAX_SIZE6: Final = 1280
"""The same for ICMPv6 (RFC 4443, 2.4 c)."""
_QUOTE4: Final = MAX_SIZE4 - ipv4.HEADER_SIZE - icmp4.HEADER_SIZE
_QUOTE6: Final = MAX_SIZE6 - ipv6.HEADER_SIZE - icmp6.HEADER_SIZE

_QUOTED_TTL: Final = 1
"""The TTL that the packet had where it failed; known only for "TTL exceeded"."""
_INTERNETWORK_CONTROL: Final = 0xC0
"""TOS of ICMP errors (RFC 1812, 4.3.2.5)."""
_NO_NEXT_HEADER: Final = 59
"""RFC 8200, 4.7: nothing follows, so there is no protocol that could be unknown."""

_ERRORS: Final = {
    4: frozenset((icmp4.DESTINATION_UNREACHABLE, icmp4.TIME_EXCEEDED, icmp4.PARAMETER_PROBLEM)),
    6: frozenset((icmp6.DESTINATION_UNREACHABLE, icmp6.PACKET_TOO_BIG, icmp6.TIME_EXCEEDED, icmp6.PARAMETER_PROBLEM)),
}
"""IP version -> types that are passed on to the guest."""
_ORIGINS: Final = {4: ORIGIN_ICMP, 6: ORIGIN_ICMPV6}

_NO_QUERIES4: Final = _ERRORS[4] | {4, 5}
"""ICMP types that are not queries: errors, source quench (RFC 6633) and redirect."""
_FIRST_QUERY6: Final = 128
"""ICMPv6 types below this one are errors (RFC 4443, 2.1)."""


class IcmpError(NamedTuple):
    """Type, code and parameter of an ICMP error message.

    Attributes:
        type, code: of ICMP, or of ICMPv6 for an IPv6 packet.
        rest: the 32 bits behind the checksum: an MTU, a pointer, or 0.
    """

    type: int
    code: int
    rest: int = 0


_PROHIBITED4: Final = IcmpError(icmp4.DESTINATION_UNREACHABLE, icmp4.ADMINISTRATIVELY_PROHIBITED)
_PROHIBITED6: Final = IcmpError(icmp6.DESTINATION_UNREACHABLE, icmp6.ADMINISTRATIVELY_PROHIBITED)
_HOST_UNREACHABLE: Final = {
    4: IcmpError(icmp4.DESTINATION_UNREACHABLE, icmp4.HOST_UNREACHABLE),
    6: IcmpError(icmp6.DESTINATION_UNREACHABLE, icmp6.ADDRESS_UNREACHABLE),
}
_NETWORK_UNREACHABLE4: Final = IcmpError(icmp4.DESTINATION_UNREACHABLE, icmp4.NETWORK_UNREACHABLE)
_NETWORK_UNREACHABLE6: Final = IcmpError(icmp6.DESTINATION_UNREACHABLE, icmp6.NO_ROUTE)

_ERRNOS: Final[dict[int, dict[int, IcmpError]]] = {
    4: {
        ENETUNREACH: _NETWORK_UNREACHABLE4,
        ENETDOWN: _NETWORK_UNREACHABLE4,
        EAFNOSUPPORT: _NETWORK_UNREACHABLE4,
        EHOSTDOWN: IcmpError(icmp4.DESTINATION_UNREACHABLE, icmp4.HOST_UNKNOWN),
        ENONET: IcmpError(icmp4.DESTINATION_UNREACHABLE, icmp4.HOST_ISOLATED),
        ENOPROTOOPT: IcmpError(icmp4.DESTINATION_UNREACHABLE, icmp4.PROTOCOL_UNREACHABLE),
        EOPNOTSUPP: IcmpError(icmp4.DESTINATION_UNREACHABLE, icmp4.SOURCE_ROUTE_FAILED),
        EPROTO: IcmpError(icmp4.PARAMETER_PROBLEM, 0),
        ECONNREFUSED: IcmpError(icmp4.DESTINATION_UNREACHABLE, icmp4.PORT_UNREACHABLE),
        EMSGSIZE: IcmpError(icmp4.DESTINATION_UNREACHABLE, icmp4.FRAGMENTATION_NEEDED),
        EACCES: _PROHIBITED4,
        EPERM: _PROHIBITED4,
    },
    6: {
        ENETUNREACH: _NETWORK_UNREACHABLE6,
        ENETDOWN: _NETWORK_UNREACHABLE6,
        EAFNOSUPPORT: _NETWORK_UNREACHABLE6,
        ECONNREFUSED: IcmpError(icmp6.DESTINATION_UNREACHABLE, icmp6.PORT_UNREACHABLE),
        EMSGSIZE: IcmpError(icmp6.PACKET_TOO_BIG, 0),
        EPROTO: IcmpError(icmp6.PARAMETER_PROBLEM, icmp6.ERRONEOUS_HEADER_FIELD),
        EACCES: _PROHIBITED6,
        EPERM: _PROHIBITED6,
    },
}
"""IP version -> errno of the host's kernel -> what a router would send; "host unreachable" for all others."""

_SILENT: Final = frozenset((EAGAIN, EMFILE, ENFILE, ENOBUFS, ENOMEM, ENOSPC, ETIMEDOUT))
"""Not reported. Either the host lacked a resource: the packet is lost as in a full queue, and may be sent again. Or
there was no answer (ETIMEDOUT): no ICMP error means this, and the guest's own timeout ends at about the same time."""

_PORT_UNREACHABLE: Final = {
    4: IcmpError(icmp4.DESTINATION_UNREACHABLE, icmp4.PORT_UNREACHABLE),
    6: IcmpError(icmp6.DESTINATION_UNREACHABLE, icmp6.PORT_UNREACHABLE),
}

_REFUSALS: Final = {
    Reason.IP_DESTINATION: (_PROHIBITED4, _PROHIBITED6),
    Reason.OWN_ADDRESS: (_PORT_UNREACHABLE[4], _PORT_UNREACHABLE[6]),
    Reason.PROTOCOL_CLOSED: (_PROHIBITED4, _PROHIBITED6),
    Reason.IP_PROTOCOL: (
        IcmpError(icmp4.DESTINATION_UNREACHABLE, icmp4.PROTOCOL_UNREACHABLE),
        IcmpError(icmp6.PARAMETER_PROBLEM, icmp6.UNRECOGNIZED_NEXT_HEADER),
    ),
    Reason.IP_TTL: (
        IcmpError(icmp4.TIME_EXCEEDED, icmp4.TTL_EXCEEDED),
        IcmpError(icmp6.TIME_EXCEEDED, icmp6.HOP_LIMIT_EXCEEDED),
    ),
}
"""Reason of a drop here -> the error for each family."""

_REASSEMBLY_TIMEOUT: Final = {
    4: IcmpError(icmp4.TIME_EXCEEDED, icmp4.REASSEMBLY_TIME_EXCEEDED),
    6: IcmpError(icmp6.TIME_EXCEEDED, icmp6.REASSEMBLY_TIME_EXCEEDED),
}


_FINAL: Final = {
    _NETWORK_UNREACHABLE4: IcmpError(icmp4.DESTINATION_UNREACHABLE, icmp4.NETWORK_UNKNOWN),
    _HOST_UNREACHABLE[4]: IcmpError(icmp4.DESTINATION_UNREACHABLE, icmp4.HOST_PROHIBITED),
}
"""Errors that Linux does not report to a UDP socket without IP_RECVERR, since they may be temporary -> errors with the
same errno that it reports (`icmp_err_convert` in its net/ipv4/icmp.c). There are none for IPv6."""


def for_extended_error(error: ExtendedError, version: int, protocol: int = UDP) -> IcmpError | None:
    """The ICMP error for a failure of the guest's packet; None if the failure is not reported to the guest.

    Args:
        error: of the host's socket.
        version: of the packet, 4 or 6.
        protocol: its IP protocol number.
    """
    if error.origin > ORIGIN_ICMPV6:
        return None  # a time stamp or another report, not a failure
    if error.origin == _ORIGINS[version] and error.type in _ERRORS[version]:
        return _with_info(IcmpError(error.type, error.code & 0xFF), version, error.info)
    if error.errno in _SILENT:
        return None
    found = _ERRNOS[version].get(error.errno, _HOST_UNREACHABLE[version])
    if protocol == UDP and error.origin < ORIGIN_ICMP:  # the host's own kernel reported it at once
        found = _FINAL.get(found, found)
    return _with_info(found, version, error.info)


def _with_info(icmp: IcmpError, version: int, info: int) -> IcmpError:
    """Put the MTU or pointer into the message."""
    if version == 4:
        if icmp[:2] == (icmp4.DESTINATION_UNREACHABLE, icmp4.FRAGMENTATION_NEEDED):
            return icmp._replace(rest=min(info, 0xFFFF))  # RFC 1191, 4
        if icmp.type == icmp4.PARAMETER_PROBLEM:
            return icmp._replace(rest=(info & 0xFF) << 24)
    elif icmp.type == icmp6.PACKET_TOO_BIG:
        return icmp._replace(rest=max(info, 1280))  # RFC 8201, 4: a smaller one would be ignored
    elif icmp.type == icmp6.PARAMETER_PROBLEM:
        return icmp._replace(rest=info)
    return icmp


@mypyc_attr(allow_interpreted_subclasses=True)
class IcmpErrors:
    """Reports failures of the guest's packets to the guest.

    Args:
        context: of the network.
    """

    __slots__ = ("_bucket", "_context")

    def __init__(self, context: Context) -> None:
        self._context = context
        limits = context.config.limits
        self._bucket = TokenBucket(limits.icmp_error_rate, limits.icmp_error_burst, context.now)

    def would_report(self, error: ExtendedError, protocol: int, source: Endpoint, destination: Endpoint) -> bool:
        """Whether `host_failed` would now report an error about the guest's packet between these endpoints.

        Call it before rebuilding the packet, since a guest can cause failures faster than the rate limit allows
        reports. An error beyond the rate limit is counted here.
        """
        if for_extended_error(error, 4 if len(source.address) == 4 else 6) is None:
            return False
        if not self._bucket.allows(self._context.now):
            self._context.drop_packet(Reason.ICMP_LIMIT, protocol, source, destination)
            return False
        return True

    def host_failed(
        self, error: ExtendedError, host: bytes, source: bytes, destination: bytes, protocol: int, payload: Buffer
    ) -> None:
        """Report that a packet of the guest failed on the host or beyond.

        Args:
            error: why.
            host: the address that the packet was sent to on the host's side.
            source: of the guest's packet.
            destination: of the guest's packet.
            protocol: of the guest's packet.
            payload: its transport header and data, or the part that is known; at least the first 8 bytes.
        """
        icmp = for_extended_error(error, 4 if len(source) == 4 else 6, protocol)
        if icmp is not None and self._may_answer(source, destination, protocol, payload):
            sender = destination if error.offender == host else self._sender(error.offender, source, destination)
            self._send(icmp, sender, source, _quote(source, destination, protocol, payload), error.ttl)

    def tell_mtu(self, guest: Endpoint, remote: Endpoint, mtu: int) -> bool:
        """Tell the guest's kernel the MTU of a path, and none of its sockets.

        The message quotes an echo reply of the guest. Linux sends these itself, so it takes the MTU and reports no
        error to a program (`icmp_err` in its net/ipv4/icmp.c, `icmpv6_err` in its net/ipv6/icmp.c).

        Args:
            guest: one end of the path.
            remote: its other end, as in the guest's packets.
            mtu: bytes.

        Returns:
            Whether a message about this path may be sent.
        """
        source, destination = guest.address, remote.address
        if len(source) == 4:
            protocol, reply = ICMP, icmp4.emit(icmp4.ECHO_REPLY, 0, 0, b"")
        else:
            protocol, reply = ICMPV6, icmp6.emit(icmp6.ECHO_REPLY, 0, 0, b"", source, destination)
        if not self._may_answer(source, destination, protocol, reply):
            return False
        error = ExtendedError(EMSGSIZE, ORIGIN_LOCAL, 0, 0, mtu, None)
        self.host_failed(error, b"", source, destination, protocol, reply)
        return True

    def refuse(self, reason: Reason, ip: IpHeader, buf: Buffer) -> None:
        """Report that a packet of the guest was dropped here; most reasons are not reported.

        Args:
            reason: why.
            ip: its header.
            buf: the buffer that the header refers to; an Ethernet header precedes the packet.
        """
        refusal = _REFUSALS.get(reason)
        if refusal is None or not self._may_answer(ip.source, ip.destination, ip.protocol, buf[ip.start : ip.end]):
            return
        if buf[ip.header - 14] & 1:
            return  # a frame to a group
        icmp = refusal[ip.version == 6]
        if icmp.type == icmp6.PARAMETER_PROBLEM and ip.version == 6:
            if ip.protocol == _NO_NEXT_HEADER:
                return
            icmp = icmp._replace(rest=ipv6.last_header(buf, ip.header, ip.end)[2])  # RFC 4443, 3.4
        limit = _QUOTE4 if ip.version == 4 else _QUOTE6
        quoted = bytes(buf[ip.header : min(ip.end, ip.header + limit)])
        here = reason is Reason.OWN_ADDRESS  # the destination is our own address, so the error comes from it
        sender = ip.destination if here else self._sender(None, ip.source, ip.destination)
        self._send(icmp, sender, ip.source, quoted)

    def header_problem(self, problem: HeaderProblem, buf: Buffer, start: int) -> None:
        """Report a header error of a packet of the guest.

        Args:
            problem: the error.
            buf: holds the packet behind an Ethernet header.
            start: offset of the IPv6 header, which is complete.
        """
        source, destination = bytes(buf[start + 8 : start + 24]), bytes(buf[start + 24 : start + 40])
        end = start + ipv6.HEADER_SIZE + int.from_bytes(buf[start + 4 : start + 6], "big")
        context = self._context
        if not context.address_map.is_node(source) or context.guest.is_spoofed(source):
            return
        if (is_multicast(destination) or buf[start - 14] & 1) and not problem.to_groups:
            return
        protocol, upper, _ = ipv6.last_header(buf, start, end)
        if protocol == ICMPV6 and not _is_query6(buf[upper:end]):
            return
        icmp = IcmpError(icmp6.PARAMETER_PROBLEM, problem.code, problem.pointer)
        quoted = bytes(buf[start : min(end, start + _QUOTE6)])
        self._send(icmp, self._sender(None, source, destination), source, quoted)

    def reassembly_timed_out(self, first: IpHeader, payload: bytes) -> None:
        """Report that not all fragments of a datagram came in time.

        Args:
            first: header of its first fragment.
            payload: of the first fragment.
        """
        source, destination = first.source, first.destination
        quoted = _quote(source, destination, first.protocol, payload)
        protocol, start = first.protocol, len(quoted) - len(payload)
        if first.version == 6:
            protocol, start, _ = ipv6.last_header(quoted, 0, len(quoted))
        if self._may_answer(source, destination, protocol, quoted[start:]):
            self._send(_REASSEMBLY_TIMEOUT[first.version], self._sender(None, source, destination), source, quoted)

    def _may_answer(self, source: bytes, destination: bytes, protocol: int, payload: Buffer) -> bool:
        """Whether an error may be sent about a packet."""
        if is_unspecified(source) or self._is_group(source) or self._is_group(destination):
            return False
        if protocol == ICMP:
            return len(payload) > 0 and payload[0] not in _NO_QUERIES4
        if protocol == ICMPV6:
            return _is_query6(payload)
        return True

    def _is_group(self, address: bytes) -> bool:
        return is_multicast(address) or self._context.address_map.is_group(address)

    def _sender(self, offender: bytes | None, source: bytes, destination: bytes) -> bytes | None:
        """Source address of an error: that of the node that reported it, or else our own; None if neither is valid.

        Our own address stands for the host itself, and for nodes that the guest cannot reach.
        """
        config = self._context.config
        guest = self._context.guest
        if offender is not None and len(offender) == len(source):
            node = self._context.address_map.to_guest(offender)
            if node is not None and node not in (source, guest.ipv4, guest.ipv6, guest.link_local):
                return node
        if len(source) == 16 and config.ipv6:
            return config.ipv6.gateway
        if config.ipv4 and config.ipv4.gateway:
            return config.ipv4.gateway
        return destination if self._context.address_map.is_node(destination) else None

    def _send(self, icmp: IcmpError, sender: bytes | None, guest: bytes, quoted: bytes, ttl: int = TTL) -> None:
        context = self._context
        if sender is None:
            return
        if not self._bucket.take(context.now):
            protocol = ICMP if len(guest) == 4 else ICMPV6
            context.drop_packet(Reason.ICMP_LIMIT, protocol, Endpoint._make((sender, 0)), Endpoint._make((guest, 0)))
            return
        if len(guest) == 4:
            message = icmp4.emit(*icmp, quoted[:_QUOTE4])
            context.egress.packet(sender, guest, ICMP, message, ttl=ttl, tos=_INTERNETWORK_CONTROL)
        else:
            message = icmp6.emit(*icmp, quoted[:_QUOTE6], sender, guest)
            context.egress.packet(sender, guest, ICMPV6, message, ttl=ttl)


def _is_query6(message: Buffer) -> bool:
    """Whether an ICMPv6 message is a query, so that an error may be sent about it (RFC 4443, 2.4 e)."""
    return len(message) > 0 and message[0] >= _FIRST_QUERY6 and message[0] != icmp6.REDIRECT


def _quote(source: bytes, destination: bytes, protocol: int, payload: Buffer) -> bytes:
    """The guest's packet, rebuilt from its parts."""
    size = len(payload)
    if len(source) == 4:
        head = ipv4.emit_header(source, destination, protocol, size, _QUOTED_TTL, 0, 0, ipv4.DONT_FRAGMENT)
    else:
        head = ipv6.emit_header(source, destination, protocol, size, _QUOTED_TTL, 0)
    return head + payload
