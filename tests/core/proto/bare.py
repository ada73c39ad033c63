"""A context without a network around it, for tests of one protocol module."""

from __future__ import annotations

from typing import Final

from sansnet_core.addresses import Endpoint, parse
from sansnet_core.config import Ipv4Config, Ipv6Config, Limits, LinkConfig, NetworkConfig, UdpFiltering
from sansnet_core.context import Context
from sansnet_core.errors import Reason
from sansnet_core.notices import Notice
from sansnet_core.orders import Order
from sansnet_core.proto.icmp_errors import IcmpErrors
from sansnet_core.testing.packets import Ip, read_frame, read_ip
from sansnet_core.wire import ipv4, ipv6
from sansnet_core.wire.ip import IpHeader

__all__ = ["GATEWAY4", "GATEWAY6", "GUEST4", "GUEST6", "GUEST_MAC", "REMOTE4", "REMOTE6", "Bare", "config", "header"]

GUEST_MAC: Final = bytes.fromhex("020000000001")
GUEST4: Final = parse("10.0.2.15")
GUEST6: Final = parse("2001:db8:2::15")
GATEWAY4: Final = parse("10.0.2.2")
GATEWAY6: Final = parse("fe80::2")
REMOTE4: Final = parse("192.0.2.7")
REMOTE6: Final = parse("2001:db8::7")


def config(
    *,
    link: LinkConfig | None = None,
    limits: Limits | None = None,
    gateway4: bytes | None = GATEWAY4,
    map_host_loopback: tuple[bytes, ...] = (),
    map_guest_address: tuple[bytes, ...] = (),
    own_addresses: tuple[bytes, ...] | None = None,
    learn_addresses: bool = True,
    dns_forward: tuple[tuple[bytes, Endpoint], ...] = (),
    dns_servers: tuple[bytes, ...] = (),
    hosts: tuple[tuple[str, tuple[bytes, ...]], ...] = (),
    outbound4: bytes | None = None,
    outbound6: bytes | None = None,
    prefix_length: int = 24,
    udp: bool = True,
    udp_filtering: UdpFiltering = UdpFiltering.ENDPOINT_INDEPENDENT,
    icmp: bool = True,
) -> NetworkConfig:
    """The configuration of a network with both families."""
    return NetworkConfig(
        link=link or LinkConfig(),
        guest_mac=GUEST_MAC,
        ipv4=Ipv4Config(address=GUEST4, prefix_length=prefix_length, gateway=gateway4),
        ipv6=Ipv6Config(address=GUEST6, gateway=GATEWAY6),
        map_host_loopback=map_host_loopback,
        map_guest_address=map_guest_address,
        own_addresses=own_addresses,
        learn_addresses=learn_addresses,
        dns_forward=dns_forward,
        dns_servers=dns_servers,
        hosts=hosts,
        outbound4=outbound4,
        outbound6=outbound6,
        udp=udp,
        udp_filtering=udp_filtering,
        icmp=icmp,
        notices=True,
        limits=limits or Limits(),
    )


def header(packet: Ip) -> tuple[IpHeader, bytes]:
    """The header of a packet as the network sees it, and the buffer that it describes."""
    buf = bytes(14) + packet.emit()
    parse_ip = ipv4.parse if packet.version == 4 else ipv6.parse
    return parse_ip(buf, 14, len(buf))[0], buf


class Bare:
    """A context, with control over its time and its outputs."""

    def __init__(self, configuration: NetworkConfig) -> None:
        self.context = Context(configuration, now=100.0, secret=bytes(32))
        self.icmp_errors = IcmpErrors(self.context)
        self.sought: list[bytes] = []
        """Addresses of the guest whose Ethernet address was requested; its `append` is the `find_station` of `Udp`."""

    def wait(self, seconds: float) -> None:
        """Let time pass, and call the timers that expire."""
        end = self.context.now + seconds
        timers = self.context.timers
        while (deadline := timers.next_deadline()) is not None and deadline <= end:
            self.context.now = max(deadline, self.context.now)
            timers.expire(self.context.now)
        self.context.now = end

    def orders(self) -> list[Order]:
        """Take the orders."""
        taken, self.context.out.orders = self.context.out.orders, []
        return taken

    def notices(self) -> list[Notice]:
        """Take the notices."""
        taken, self.context.out.notices = self.context.out.notices, []
        return taken

    def packets(self) -> list[Ip]:
        """Take the frames, all of which must be IP packets to the guest."""
        taken, self.context.out.frames = self.context.out.frames, []
        frames = [read_frame(frame, vnet=self.context.config.link.vnet_header) for frame in taken]
        assert {frame.destination for frame in frames} <= {GUEST_MAC}
        return [read_ip(frame) for frame in frames]

    def drops(self) -> dict[Reason, int]:
        """Drops since the beginning, by reason."""
        return dict(self.context.drops)
