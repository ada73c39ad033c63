"""The answers that a guest's kernel gives by itself, and what becomes of packets for no TCP connection."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from sansnet_core import Endpoint
from sansnet_core.testing import packets, read_error
from sansnet_core.testing.packets import ACK, ARP, ICMP, ICMPV6, RST, SYN, TCP, UDP, Ip, Segment

if TYPE_CHECKING:
    from collections.abc import Callable

    from sansnet_core.testing import ErrorMessage, GuestStack
    from sansnet_core.testing.packets import ReadFrame
    from sansnet_trio.testing.datagrams import SimulatedDatagrams
    from sansnet_trio.testing.streams import SimulatedListener

__all__ = ["Answers"]

_ARP_REQUEST: Final = 1
_ECHO_REQUEST: Final = {4: 8, 6: 128}
_ECHO_REPLY: Final = {4: 0, 6: 129}
_ERRORS: Final = {4: (3, 11, 12), 6: (1, 2, 3, 4)}
_NEIGHBOR_SOLICITATION: Final = 135
_QUOTED: Final = 500
"""Bytes of the packet that an ICMP error of the guest quotes; a message of 576 bytes holds them (RFC 1812, 4.3.2.3)."""


class Answers:
    """Hands datagrams, replies and errors on, and answers the rest: ARP, neighbor discovery, ping, closed ports.

    Args:
        stack: the guest's stack.
        listeners: by port.
        sockets: UDP sockets by port.
        answered: called with the sequence number of a ping that was answered, and 0 or the errno of its failure.
    """

    def __init__(
        self,
        stack: GuestStack,
        listeners: dict[int, SimulatedListener],
        sockets: dict[int, SimulatedDatagrams],
        answered: Callable[[int, int], None],
    ) -> None:
        self._stack = stack
        self._listeners = listeners
        self._sockets = sockets
        self._answered = answered
        self._fragments: dict[tuple[bytes, bytes, int], list[Ip]] = {}

    def update(self, now: float) -> bool:
        """Look at all that came for no connection; see `Member`."""
        stack = self._stack
        strays, stack.strays = stack.strays, []
        for segment in strays:
            self._refuse(segment)
        others, stack.others = stack.others, []
        for frame in others:
            if frame.ethertype == ARP:
                self._answer_arp(frame)
            else:
                self._receive(packets.read_ip(frame))
        datagrams, stack.datagrams = stack.datagrams, []
        for ip, source_port, port, data in datagrams:
            self._deliver(ip, source_port, port, data)
        return True

    def end(self, errno: int) -> None:
        """Do nothing; see `Member`."""

    def _refuse(self, segment: Segment) -> None:
        """RFC 9293, 3.5.2: a reset answers a segment for no connection, unless it is one itself."""
        listener = self._listeners.get(segment.destination_port)
        if segment.flags & RST or (segment.flags & SYN and listener is not None and listener.full):
            return
        acknowledged = bool(segment.flags & ACK)
        self._stack.send_segment(
            Segment(
                segment.destination,
                segment.destination_port,
                segment.source,
                segment.source_port,
                sequence=segment.acknowledgment if acknowledged else 0,
                acknowledgment=0 if acknowledged else (segment.sequence + segment.size) % (1 << 32),
                flags=RST if acknowledged else RST | ACK,
                window=0,
            )
        )

    def _answer_arp(self, frame: ReadFrame) -> None:
        """RFC 826."""
        stack = self._stack
        operation, sender_mac, sender, target = struct.unpack_from("!6xH6s4s6x4s", frame.payload)
        if operation == _ARP_REQUEST and target == stack.ipv4:
            body = struct.pack("!HHBBH", 1, packets.IPV4, 6, 4, 2) + stack.mac + target + sender_mac + sender
            stack.send_frame(packets.ethernet(sender_mac, stack.mac, ARP, body))

    def _receive(self, ip: Ip) -> None:
        whole = self._assembled(ip)
        if whole is None:
            return
        if whole.protocol == UDP:
            source_port, port = struct.unpack_from("!HH", whole.payload)
            self._deliver(whole, source_port, port, whole.payload[8:])
        elif whole.protocol in (ICMP, ICMPV6):
            self._receive_icmp(whole)

    def _assembled(self, ip: Ip) -> Ip | None:
        """The packet, or the one that this fragment completes; fragments come in order."""
        if ip.version == 6 and ip.protocol == 44:
            protocol, _, field, identification = struct.unpack_from("!BBHI", ip.payload)
            offset, more, payload = field & ~7, field & 1, ip.payload[8:]
        elif ip.version == 4 and ip.fragment & 0x3FFF:
            protocol, identification, payload = ip.protocol, ip.identification, ip.payload
            offset, more = (ip.fragment & 0x1FFF) * 8, ip.fragment >> 13 & 1
        else:
            return ip
        key = (ip.source, ip.destination, identification)
        parts = self._fragments.setdefault(key, [])
        if offset != sum(len(part.payload) for part in parts):
            del self._fragments[key]  # one was lost
            return None
        parts.append(Ip(ip.source, ip.destination, protocol, payload))
        if more:
            return None
        del self._fragments[key]
        return Ip(ip.source, ip.destination, protocol, b"".join(part.payload for part in parts))

    def _receive_icmp(self, ip: Ip) -> None:
        kind = ip.payload[0]
        if kind in _ERRORS[ip.version]:
            self._fail(read_error(ip))
        elif kind == _ECHO_REPLY[ip.version]:
            self._answered(struct.unpack_from("!H", ip.payload, 6)[0], 0)
        elif kind == _ECHO_REQUEST[ip.version]:
            reply = packets.icmp(ip.destination, ip.source, _ECHO_REPLY[ip.version], 0, ip.payload[4:])
            self._stack.send(reply)
        elif ip.version == 6 and kind == _NEIGHBOR_SOLICITATION and ip.payload[8:24] == self._stack.ipv6:
            # RFC 4861, 4.4: solicited, override, with the link-layer address
            body = struct.pack("!I", 0x60000000) + self._stack.ipv6 + b"\2\1" + self._stack.mac
            self._stack.send(packets.icmp(self._stack.ipv6, ip.source, 136, 0, body, ttl=255))

    def _fail(self, message: ErrorMessage) -> None:
        quoted = message.quoted
        if quoted.protocol == TCP:
            port, peer_port = message.ports
            connection = self._stack.connections.get((quoted.source, port, quoted.destination, peer_port))
            if connection is not None:
                connection.fail(message.errno)
        elif quoted.protocol == UDP:
            socket = self._sockets.get(message.ports[0])
            if socket is not None:
                socket.fail(message.errno)
        elif quoted.protocol in (ICMP, ICMPV6):
            self._answered(struct.unpack_from("!H", quoted.payload, 6)[0], message.errno)

    def _deliver(self, ip: Ip, source_port: int, port: int, data: bytes) -> None:
        socket = self._sockets.get(port)
        if socket is not None:
            socket.deliver(data, Endpoint(ip.source, source_port))
            return
        kind, code = (3, 3) if ip.version == 4 else (1, 4)  # port unreachable
        body = bytes(4) + ip.emit()[:_QUOTED]
        self._stack.send(packets.icmp(ip.destination, ip.source, kind, code, body))
