"""Checks of frames to the guest, by readers that are independent of the core."""

from __future__ import annotations

from sansnet_core.config import NetworkConfig
from sansnet_core.testing.packets import ARP, GSO_UDP_L4, IPV4, TCP, Ip, ReadFrame, read_frame, read_ip

__all__ = ["check_frame"]


def check_frame(config: NetworkConfig, frame: bytes) -> tuple[ReadFrame, Ip | None]:
    """Read a frame from the network.

    Returns:
        The frame, and its packet if it is one of IP.

    Raises:
        AssertionError: it is malformed, or too large for the link.
    """
    link = config.link
    read = read_frame(frame, vnet=link.vnet_header)
    assert read.size <= link.max_frame_size or read.size == 60, f"a frame of {read.size} bytes"
    assert read.source == config.mac, "a frame that is not from us"
    if read.ethertype == ARP:
        assert config.ipv4 is not None, "ARP without IPv4"
        return read, None
    ip = read_ip(read)
    assert (config.ipv4 if read.ethertype == IPV4 else config.ipv6) is not None, "a family that is off"
    size = len(ip.emit()) - len(ip.payload)
    if read.gso_type:
        transport = 8 if read.gso_type == GSO_UDP_L4 else (ip.payload[12] >> 4) * 4
        assert size + transport + read.gso_size <= link.mtu, f"segments above the MTU: {read.gso_size}"
        assert ip.protocol == TCP or read.gso_type == GSO_UDP_L4
    else:
        assert size + len(ip.payload) <= link.mtu, f"a packet of {size + len(ip.payload)} bytes"
    return read, ip
