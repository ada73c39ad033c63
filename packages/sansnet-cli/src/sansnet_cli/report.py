"""What the command says to people, all of it on stderr and each line with the program's name."""

from __future__ import annotations

import sys
from dataclasses import fields

from sansnet_core import LinkConfig, NetworkConfig, NetworkStatistics, addresses
from sansnet_trio.driver import DriverStatistics

__all__ = ["configuration", "statistics", "warn"]


def warn(sentence: str) -> None:
    """Say one sentence."""
    print(f"sansnet: {sentence}", file=sys.stderr, flush=True)


def configuration(config: NetworkConfig, link: LinkConfig) -> None:
    """Say what a guest's network is like."""
    offloads = [name for name in ("checksum_offload", "tso4", "tso6", "uso") if getattr(link, name)]
    warn(f"link: MTU {link.mtu}, frames of up to {link.largest_frame} bytes, offloads: {', '.join(offloads) or 'none'}")
    if config.ipv4:
        gateway = f", gateway {addresses.format(config.ipv4.gateway)}" if config.ipv4.gateway else ""
        warn(f"IPv4: {addresses.format(config.ipv4.address)}/{config.ipv4.prefix_length}{gateway}")
    if config.ipv6:
        own = addresses.format(config.ipv6.address) if config.ipv6.address else "link-local address only"
        warn(f"IPv6: {own}, router {addresses.format(config.ipv6.gateway)}")
    warn(f"name servers: {', '.join(map(addresses.format, config.dns_servers)) or 'none'}")
    for match, host in config.dns_forward:
        warn(f"DNS queries to {addresses.format(match)} go to {addresses.format(host)}")
    for address in config.map_host_loopback:
        warn(f"the host's loopback is {addresses.format(address)}")


def statistics(network: NetworkStatistics, driver: DriverStatistics) -> None:
    """Say what happened, in counters that are not zero."""
    for field in fields(driver):
        if value := getattr(driver, field.name):
            warn(f"{field.name.replace('_', ' ')}: {value}")
    for reason, count in sorted(network.drops.items(), key=lambda item: -item[1]):
        warn(f"dropped: {count}: {reason.value}")
