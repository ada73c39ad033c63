"""Checks frames to the guest by scapy, which shares no line with this project."""

from __future__ import annotations

from typing import Any

from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6Unknown, IPv6, IPv6ExtHdrFragment
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Raw

__all__ = ["check_by_scapy"]

_COMPUTED = {IP: ("len", "ihl", "chksum"), IPv6: ("plen",), TCP: ("dataofs", "chksum"), UDP: ("len", "chksum"),
             ICMP: ("chksum",)}  # fmt: skip
"""Fields that scapy computes when they are not given."""


def check_by_scapy(frame: bytes, *, partial: bool = False) -> None:
    """Check a frame without `virtio_net_hdr`; with `partial`, the checksum of its transport is not complete."""
    read = Ether(frame)
    if read.type == 0x0806:
        assert read[ARP].op in (1, 2)
        return
    assert read.type in (0x0800, 0x86DD), "neither IP nor ARP"
    family = IP if read.type == 0x0800 else IPv6
    packet = read[family]
    whole = bytes(packet)[: packet.len if family is IP else 40 + packet.plen]
    again = _without_computed(family(whole), partial=partial)
    made = bytes(again)
    assert len(made) == len(whole), f"scapy makes other bytes of it: {again.summary()}"
    wrong = [(made[at : at + 2], whole[at : at + 2]) for at in range(0, len(whole), 2)]
    # A checksum of 0xffff is that of 0x0000, which scapy writes
    wrong = [(one, two) for one, two in wrong if one != two and {one, two} != {b"\0\0", b"\xff\xff"}]
    assert not wrong, f"scapy makes other bytes of it: {again.summary()}: {wrong[:3]}"
    transport = again.payload
    if _is_fragment(again) or _is_fragment(transport):
        return
    assert not isinstance(transport, Raw | ICMPv6Unknown), f"scapy does not know this: {again.summary()}"


def _without_computed(packet: Any, *, partial: bool) -> Any:
    """The packet, with all lengths and checksums to be computed."""
    layer = packet
    while layer:
        kind = layer.__class__
        if kind in (TCP, UDP):
            layer.payload = Raw(bytes(layer.payload))  # scapy writes some messages of applications in another way
        for name in _COMPUTED.get(kind, ("cksum",) if kind.__name__.startswith("ICMPv6") else ()):
            checksum = "sum" in name and kind is not IP
            if name in layer.fields and not (checksum and partial):
                delattr(layer, name)
        if _is_fragment(layer) or "error" in kind.__name__:
            break  # the rest is cut, or quoted and not ours
        layer = layer.payload
    return packet


def _is_fragment(layer: Any) -> bool:
    return isinstance(layer, IPv6ExtHdrFragment) or (isinstance(layer, IP) and bool(layer.flags.MF or layer.frag))
