"""The stack. It does no I/O: the program carries its frames."""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

__all__ = ["Reply", "Stack"]

_ARP: Final = 0x0806
_IPV4: Final = 0x0800
_ICMP: Final = 1
_ECHO_REPLY: Final = 0
_ECHO_REQUEST: Final = 8
_ETHERNET_IPV4: Final = struct.pack("!HHBB", 1, _IPV4, 6, 4)


class Reply(NamedTuple):
    """The answer to a ping.

    Attributes:
        source: the node that answers, 4 bytes.
        sequence: the number of the ping.
        data: its data.
    """

    source: bytes
    sequence: int
    data: bytes


class Stack:
    """One interface with one IPv4 address.

    Args:
        mac: its Ethernet address.
        address: its IPv4 address, 4 bytes.
        gateway_mac: the Ethernet address to which its pings are sent.

    Attributes:
        replies: the answers to its pings.
    """

    def __init__(self, mac: bytes, address: bytes, gateway_mac: bytes) -> None:
        self.mac, self.address, self.gateway_mac = mac, address, gateway_mac
        self.replies: list[Reply] = []

    def ping(self, destination: bytes, sequence: int, data: bytes) -> bytes:
        """The frame of a ping."""
        message = _icmp(_ECHO_REQUEST, struct.pack("!HH", 1, sequence) + data)
        return _ethernet(self.gateway_mac, self.mac, _IPV4, _ipv4(self.address, destination, message))

    def receive(self, frame: bytes) -> list[bytes]:
        """Take a frame with any contents; the frames that answer it."""
        if len(frame) < 14 or frame[:6] not in (self.mac, b"\xff" * 6) or frame[6] & 1:
            return []
        kind, sender, payload = int.from_bytes(frame[12:14], "big"), frame[6:12], frame[14:]
        if kind == _ARP:
            return self._receive_arp(payload)
        return self._receive_ipv4(payload, sender) if kind == _IPV4 else []

    def _receive_arp(self, packet: bytes) -> list[bytes]:
        asked = packet[:8] == _ETHERNET_IPV4 + b"\0\1" and packet[24:28] == self.address
        if len(packet) < 28 or not asked or packet[8] & 1:
            return []
        answer = _ETHERNET_IPV4 + b"\0\2" + self.mac + self.address + packet[8:18]
        return [_ethernet(packet[8:14], self.mac, _ARP, answer)]

    def _receive_ipv4(self, packet: bytes, sender: bytes) -> list[bytes]:
        size = (packet[0] & 15) * 4 if packet else 0
        if not 20 <= size <= len(packet) or packet[0] >> 4 != 4 or _checksum(packet[:size]):
            return []
        total, _, fragment = struct.unpack_from("!HHH", packet, 2)
        message = packet[size:total]
        for_us = packet[16:20] == self.address and packet[9] == _ICMP and not fragment & 0x3FFF
        if not for_us or not size + 8 <= total <= len(packet) or _checksum(message):
            return []
        source = packet[12:16]
        if message[0] == _ECHO_REPLY:
            self.replies.append(Reply(source, int.from_bytes(message[6:8], "big"), message[8:]))
        elif message[0] == _ECHO_REQUEST and source[0] not in (0, 127) and source[0] < 224:  # not to a group
            answer = _ipv4(self.address, source, _icmp(_ECHO_REPLY, message[4:]))
            return [_ethernet(sender, self.mac, _IPV4, answer)]
        return []


def _checksum(data: bytes) -> int:
    """RFC 1071; 0 for data that holds its own right checksum."""
    data += bytes(len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _icmp(kind: int, body: bytes) -> bytes:
    value = _checksum(bytes((kind, 0, 0, 0)) + body)
    return struct.pack("!BBH", kind, 0, value) + body


def _ipv4(source: bytes, destination: bytes, payload: bytes) -> bytes:
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 0, 0x4000, 64, _ICMP, 0) + source + destination
    return head[:10] + struct.pack("!H", _checksum(head)) + head[12:] + payload


def _ethernet(destination: bytes, source: bytes, kind: int, payload: bytes) -> bytes:
    return (destination + source + struct.pack("!H", kind) + payload).ljust(60, b"\0")
