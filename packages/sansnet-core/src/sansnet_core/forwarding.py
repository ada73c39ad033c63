"""Which host address a guest's destination means.

The rules are data, asked once per flow and in this order: a forwarded DNS server, the alias of the host's loopback,
closed destinations, and otherwise the address itself. Closed is what would reach the host's own loopback without
having been configured, and what is no destination at all. Ports pass unchanged, so two destinations of the guest
become one on the host only if one of them was translated.
"""

from __future__ import annotations

from typing import Final

from sansnet_core.actions import Endpoint
from sansnet_core.addresses import is_loopback, is_multicast
from sansnet_core.config import NetworkConfig

__all__ = ["Forwarding"]

DNS_PORTS: Final = (53, 853)
"""DNS (RFC 1035) and DNS over TLS (RFC 7858)."""

LOOPBACK: Final = {4: bytes([127, 0, 0, 1]), 16: bytes(15) + b"\x01"}
"""By size of address."""

_BROADCAST: Final = b"\xff" * 4
_V4_IN_V6: Final = (bytes(12), bytes(10) + b"\xff\xff")
"""IPv4-compatible (with :: and ::1 among them) and IPv4-mapped addresses (RFC 4291, 2.5.5)."""


class Forwarding:
    """The rules of one network; no state."""

    __slots__ = ("_broadcasts", "_dns", "_loopback", "_outbound")

    def __init__(self, config: NetworkConfig) -> None:
        self._dns = dict(reversed(config.dns_forward))  # of equals the first counts
        self._loopback = {address: LOOPBACK[len(address)] for address in config.map_host_loopback}
        self._outbound = {4: config.outbound4, 16: config.outbound6}
        self._broadcasts = {_BROADCAST}
        if config.ipv4 and config.ipv4.prefix_length < 31:  # RFC 3021: shorter networks have none
            host_bits = (1 << (32 - config.ipv4.prefix_length)) - 1
            directed = int.from_bytes(config.ipv4.address, "big") | host_bits
            self._broadcasts.add(directed.to_bytes(4, "big"))

    def to_host(self, destination: bytes, port: int, *, groups: bool = False) -> Endpoint | None:
        """Where a packet of the guest goes.

        Args:
            destination: as the guest addressed it, 4 or 16 bytes.
            port: likewise; 0 for a protocol without ports.
            groups: whether multicast and broadcast destinations are open.

        Returns:
            None if the destination is closed.
        """
        host = self._dns.get(destination) if port in DNS_PORTS else None
        host = host or self._loopback.get(destination)
        if host is None:
            if not (groups if self.is_group(destination) else _is_destination(destination)):
                return None
            host = destination
        return Endpoint(host, port)

    def to_guest(self, host: bytes) -> bytes | None:
        """By which address the guest knows a host's unicast address; None if by none."""
        if is_loopback(host):
            return next((alias for alias in self._loopback if len(alias) == len(host)), None)
        return host if _is_destination(host) else None

    def outbound(self, host: bytes) -> bytes | None:
        """Source address for a socket that talks to `host`; None leaves it to the kernel.

        Loopback is always left to the kernel: resolvers that listen there answer nobody else.
        """
        return None if is_loopback(host) else self._outbound[len(host)]

    def is_group(self, destination: bytes) -> bool:
        """Whether more than one node may answer: multicast that leaves the node, and broadcast.

        Multicast of scope 0 and 1 never leaves the host (RFC 4291, 2.7), so it is no destination for a guest.
        """
        if is_multicast(destination):
            return len(destination) == 4 or destination[1] & 15 > 1
        return destination in self._broadcasts


def _is_destination(address: bytes) -> bool:
    """Whether a unicast packet to the address can leave the host (RFC 6890, RFC 4291)."""
    if len(address) == 4:
        return address[0] not in (0, 127) and address[0] < 224
    return address[:12] not in _V4_IN_V6 and not is_multicast(address)
