"""A guest that routes for a namespace of its own, over a link with a smaller MTU than its peers know of."""

from __future__ import annotations

import socket

from tests.lab import Guest, Lab, served
from tests.lab.namespaces import held_namespace

DATA = bytes(range(256)) * 8192
NARROW = {4: ("10.77.0.1/24", "10.77.0.2/24", 1000), 6: ("fd77::1/64", "fd77::2/64", 1300)}
"""The two ends of the link, and the MTU of the guest's end; the other end has 1500, and so has the MSS of its SYN."""


def test_a_download_fits_through_the_smaller_link(lab: Lab, guest: Guest, server: str) -> None:
    version = 6 if ":" in server else 4
    near, far, mtu = NARROW[version]
    family = "ip6" if version == 6 else "ip"
    with held_namespace() as inner, served(lab.upstream.listen(server), lambda stream: stream.sendall(DATA)) as port:
        guest.shell(f"""
        ip link add narrow{version} mtu {mtu} type veth peer name wide mtu 1500 netns {inner.pid}
        ip address add {near} dev narrow{version} {"nodad" if version == 6 else ""}
        ip link set narrow{version} up
        nft add table {family} shared
        nft add chain {family} shared leaving '{{ type nat hook postrouting priority srcnat; }}'
        nft add rule {family} shared leaving oif {guest.interface} masquerade
        echo 1 >/proc/sys/net/{"ipv6/conf/all/forwarding" if version == 6 else "ipv4/ip_forward"}
        """)
        inner.shell(f"""
        ip address add {far} dev wide {"nodad" if version == 6 else ""}
        ip link set wide up
        ip route add default via {near.split("/")[0]}
        """)
        with inner.open_socket(socket.AF_INET6 if version == 6 else socket.AF_INET, socket.SOCK_STREAM) as near_end:
            near_end.connect((server, port))
            received = bytearray()
            while data := near_end.recv(1 << 16):
                received += data
    assert bytes(received) == DATA
