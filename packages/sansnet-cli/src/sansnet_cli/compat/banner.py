"""Messages about the guest's network at the start: headings and values, in the form that other programs parse."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Network

from sansnet_core import NetworkConfig, addresses

__all__ = ["describe"]


def describe(config: NetworkConfig) -> Iterator[str]:
    """Lines about the addresses and name servers that the guest gets by DHCP, NDP and DHCPv6."""
    yield "MAC:"
    yield f"    host: {config.mac.hex(':')}"
    four, six = config.ipv4, config.ipv6
    if four and config.dhcp:
        yield "DHCP:"
        yield f"    assign: {addresses.format(four.address)}"
        yield f"    mask: {IPv4Network((0, four.prefix_length)).netmask}"
        if four.gateway:
            yield f"    router: {addresses.format(four.gateway)}"
    if six and (config.dhcp6 or config.ndp):
        yield "NDP/DHCPv6:"
        if six.address:
            yield f"    assign: {addresses.format(six.address)}"
        yield f"    router: {addresses.format(six.gateway)}"
    if config.dns_servers:
        yield "DNS:"
        yield from (f"    {addresses.format(server)}" for server in config.dns_servers)
    if config.dns_search:
        yield "DNS search list:"
        yield from (f"    {domain}" for domain in config.dns_search)
