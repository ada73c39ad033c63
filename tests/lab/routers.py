"""Routers behind the laboratory's upstream, with every kind of error for a packet.

    host -- upstream -- second -- third == far        (== has an MTU of 1300)

Each of `FAULTS` is an address of either family whose packets the third router rejects in its own way; the host itself
makes `HOST_FAULTS`.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Final, NamedTuple

from tests.lab.laboratory import Lab
from tests.lab.namespaces import Namespace, eventually, held_namespace

__all__ = ["FAR4", "FAR6", "FAULTS", "HOPS4", "HOPS6", "HOST_FAULTS", "SMALL_MTU", "Fault", "routers"]

FAR4: Final = "192.0.2.200"
FAR6: Final = "2001:db8:f::200"
SMALL_MTU: Final = 1300
HOPS4: Final = ["198.51.100.1", "192.0.2.18", "192.0.2.22", FAR4]
"""The hops in a trace of the route to `FAR4`."""
HOPS6: Final = ["2001:db8:1::1", "2001:db8:12::2", "2001:db8:23::2", FAR6]


class Fault(NamedTuple):
    """The failure of packets to an address.

    Attributes:
        name: for people.
        number: makes the addresses.
        rule4, rule6: the type of route or the verdict of nftables that does it, for each family; empty for none.
        attempts: how often a packet is worth sending: a router says only once a second that it has no route
            (net.ipv4.route.error_cost).
        tcp: it is for TCP alone.
    """

    name: str
    number: int
    rule4: str
    rule6: str
    attempts: int = 1
    tcp: bool = False

    @property
    def ipv4(self) -> str:
        return f"192.0.2.{self.number}"

    @property
    def ipv6(self) -> str:
        return f"2001:db8:f::{self.number}"


def _rejects(number: int, kind4: str, kind6: str) -> Fault:
    rule4 = f"reject with icmp type {kind4}" if kind4 else ""
    rule6 = f"reject with icmpv6 type {kind6}" if kind6 else ""
    return Fault("reject, " + " / ".join(filter(None, (kind4, kind6))), number, rule4, rule6)


_RESET: Final = "meta l4proto tcp reject with tcp reset"

FAULTS: Final = [
    Fault("route unreachable", 101, "unreachable", "unreachable", 6),
    Fault("route prohibit", 102, "prohibit", "prohibit", 6),
    Fault("no route", 103, "throw", "throw", 6),
    Fault("route blackhole", 104, "blackhole", "blackhole"),
    _rejects(110, "net-unreachable", "no-route"),
    _rejects(111, "host-unreachable", "addr-unreachable"),
    _rejects(112, "prot-unreachable", ""),
    _rejects(113, "port-unreachable", "port-unreachable"),
    _rejects(114, "net-prohibited", "policy-fail"),
    _rejects(115, "host-prohibited", "reject-route"),
    _rejects(116, "admin-prohibited", "admin-prohibited"),
    Fault("reject, tcp reset", 117, _RESET, _RESET, tcp=True),
    Fault("drop", 118, "drop", "drop"),
]

HOST_FAULTS: Final = [
    Fault("route unreachable", 131, "unreachable", "unreachable"),
    Fault("route prohibit", 132, "prohibit", "prohibit"),
    Fault("no route", 133, "throw", "throw"),
    Fault("route blackhole", 134, "blackhole", "blackhole"),
    Fault("drop", 135, "drop", "drop"),
    Fault("reject", 136, "reject", "reject"),
]


@contextmanager
def routers(lab: Lab) -> Iterator[Namespace]:
    """The routers, joined to a laboratory for the length of the block; yields the last namespace."""
    with held_namespace() as second, held_namespace() as third, held_namespace() as far:
        chain = [lab.upstream, second, third, far]
        for number, (near, beyond) in enumerate(pairwise(chain), 1):
            link = f"ip link add ahead netns {near.pid} type veth peer name back netns {beyond.pid}"
            subprocess.run(link.split(), check=True)
            net6 = f"2001:db8:{number}{number + 1}::"
            near4, beyond4 = f"192.0.2.{13 + 4 * number}", f"192.0.2.{14 + 4 * number}"
            near.shell(_address("ahead", f"{near4}/30", f"{net6}1/64"))
            beyond.shell(_address("back", f"{beyond4}/30", f"{net6}2/64"))
            near.shell(f"ip route add 192.0.2.0/24 via {beyond4}; ip route add 2001:db8:f::/64 via {net6}2")
            beyond.shell(f"{_FORWARDS}\nip route add {_BACK4} via {near4}; ip route add {_BACK6} via {net6}1")
        far.shell(f"ip address add {FAR4}/32 dev lo; ip address add {FAR6}/128 dev lo nodad")
        far.shell(f"ip link set back mtu {SMALL_MTU}")
        third.shell(f"ip link set ahead mtu {SMALL_MTU}")
        _install(third, FAULTS, "forward")
        _install(lab.host, HOST_FAULTS, "output")
        reach = f"ping -q -c1 -W1 {FAR4} && ping -q -c1 -W1 {FAR6}"
        assert eventually(lambda: lab.host.shell(reach, check=False).returncode == 0)
        yield far


_BACK4: Final = "198.51.100.0/24"
_BACK6: Final = "2001:db8:1::/64"
"""Where the host is."""
_FORWARDS: Final = """
    echo 1 >/proc/sys/net/ipv4/ip_forward
    echo 1 >/proc/sys/net/ipv6/conf/all/forwarding
    echo 0 >/proc/sys/net/ipv4/icmp_ratelimit
    echo 0 >/proc/sys/net/ipv6/icmp/ratelimit
"""


def _address(interface: str, ipv4: str, ipv6: str) -> str:
    return f"""
        ip address add {ipv4} dev {interface}
        ip address add {ipv6} dev {interface} nodad
        ip link set {interface} up
    """


_ROUTES: Final = ("unreachable", "prohibit", "throw", "blackhole")


def _install(namespace: Namespace, faults: list[Fault], hook: str) -> None:
    filters = []
    for fault in faults:
        for family, address, rule in (("ip", fault.ipv4, fault.rule4), ("ip6", fault.ipv6, fault.rule6)):
            if rule in _ROUTES:
                namespace.run("ip", "route", "add", rule, address)
            elif rule:
                filters.append(f"{family} daddr {address} {rule}")
    lines = ["table inet faults {", "chain faults {", f"type filter hook {hook} priority 0;", *filters, "}", "}", ""]
    namespace.run("nft", "-f", "-", input="\n".join(lines))
