"""UDP ports of services that a host may run, which the sockets for a guest's datagrams do not take.

A guest chooses its source ports freely. If the host's socket had the same port, a service of the host that starts later
could not bind it, and until then its peers' datagrams would reach the guest.

Ports below 1024 are not listed: they are never taken. The others are from IANA's registry of service names and port
numbers, unless a comment says otherwise.
"""

from __future__ import annotations

from typing import Final

__all__ = ["KNOWN_UDP_PORTS"]

_TUNNELS: Final = (
    1194,  # OpenVPN
    1701,  # L2TP
    3544,  # Teredo
    4341,  # LISP
    4342,
    4500,  # IPsec through NAT (RFC 3948)
    4789,  # VXLAN
    4790,  # VXLAN-GPE
    6081,  # Geneve
    6635,  # MPLS in UDP
    8472,  # VXLAN of Linux before its port was assigned, and of flannel and Cilium
    9993,  # ZeroTier
    41641,  # Tailscale, by default
    51820,  # WireGuard, by convention
    51821,  # WireGuard of flannel over IPv6
    51871,  # WireGuard of Cilium
)
_DISCOVERY: Final = (
    1900,  # SSDP
    3702,  # WS-Discovery
    5350,  # NAT-PMP and PCP, announcements
    5351,  # NAT-PMP and PCP
    5353,  # multicast DNS
    5355,  # LLMNR
    21027,  # Syncthing
)
_CALLS: Final = (
    1719,  # H.323 RAS
    2427,  # MGCP
    2727,
    3478,  # STUN and TURN
    3479,
    5004,  # RTP and RTCP
    5005,
    5060,  # SIP
    5061,
    5349,  # STUN and TURN over DTLS
)
_MOBILE: Final = (
    2123,  # GTP
    2152,
    5246,  # CAPWAP
    5247,
    8805,  # PFCP
)
_ROUTERS: Final = (
    1985,  # HSRP
    2029,
    3222,  # GLBP
    3784,  # BFD
    3785,
    4784,
    7784,
)
_MEASUREMENT: Final = (
    2055,  # NetFlow, by convention
    4739,  # IPFIX
    6343,  # sFlow
    8125,  # statsd, by convention
)
_SERVERS: Final = (
    1434,  # Microsoft SQL Server, resolution
    1645,  # RADIUS, by convention
    1646,
    1812,  # RADIUS
    1813,
    2049,  # NFS
    3389,  # remote desktop
    3391,
    5405,  # corosync
    5683,  # CoAP
    5684,
    7946,  # Docker swarm
    8301,  # Consul
    8302,
    8600,
    22000,  # Syncthing
    27015,  # game servers
)

KNOWN_UDP_PORTS: Final = tuple(sorted((*_TUNNELS, *_DISCOVERY, *_CALLS, *_MOBILE, *_ROUTERS, *_MEASUREMENT, *_SERVERS)))
"""In order. The ephemeral ports among them (32768 to 60999) are also not taken, since a guest has many others."""
