"""Reading the host's network as a model for guests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest

from sansnet_core import addresses
from sansnet_trio.hostinfo import (
    HostError,
    HostInfo,
    InterfaceAddress,
    Resolvers,
    Route,
    parse_resolv_conf,
    read_host,
    read_resolvers,
)
from tests.lab.namespaces import Namespace, held_namespace


def packed(text: str) -> bytes:
    return addresses.parse(text)


LOCAL = (packed("127.0.0.1"),)
"""The server that the C library uses without a `nameserver` line."""


def own(text: str) -> InterfaceAddress:
    address, _, length = text.partition("/")
    return InterfaceAddress(packed(address), int(length))


def route(destination: str, gateway: str | None = None, *, metric: int = 0, on_link: bool = False) -> Route:
    address, _, length = destination.partition("/")
    return Route(
        destination=packed(address),
        prefix_length=int(length),
        gateway=packed(gateway) if gateway else None,
        metric=metric,
        on_link=on_link,
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ("127.0.0.1",)),
        ("# nameserver 192.0.2.1\n; search x\n nameserver 192.0.2.1\n", ("127.0.0.1",)),
        ("search a.example\n", Resolvers(nameservers=LOCAL, search=("a.example",))),
        ("nameserver 0.0.0.0\nnameserver ::\nnameserver 127.1\n", ("127.0.0.1", "::1", "127.0.0.1")),
        ("nameserver 0x0a.2\nnameserver 010.0.0.1\nnameserver 3221225985\n", ("10.0.0.2", "8.0.0.1", "192.0.2.1")),
        ("nameserver ::ffff:192.0.2.1\nnameserver 192.0.2.2%lo\n", ("192.0.2.1",)),
        ("nameserver fe80::1%lo\nnameserver fe80::1%1\nnameserver fe80::1", ("fe80:0:0:1::1",) * 2 + ("fe80::1",)),
        ("nameserver fe80::1%99999999999\nnameserver 2001:db8::1%lo", ("2001:db8::1",)),
        ("nameserver 192.0.2.1\nnameserver\t2001:db8::1  # no\n", ("192.0.2.1", "2001:db8::1")),
        ("nameserver fe80::1%missing\n", ("127.0.0.1",)),
        ("nameserver 192.0.2.1\0\nnameserver ::1\0\nnameserver fe80::1%l\0o\n", ("127.0.0.1",)),
        ("nameserver fe80::1%" + 5000 * "9" + "\nnameserver \udcff\nnameserver 192.0.2.1", ("192.0.2.1",)),
        ("nameserver nonsense\nnameserver\nnameserver 192.0.2.1", ("192.0.2.1",)),
        ("domain a.example b.example\n", Resolvers(nameservers=LOCAL, search=("a.example",))),
        (
            "domain a.example\nsearch b.example c.example\n",
            Resolvers(nameservers=LOCAL, search=("b.example", "c.example")),
        ),
        (
            "options ndots:2 edns0\noptions rotate\n",
            Resolvers(nameservers=LOCAL, options=("ndots:2", "edns0", "rotate")),
        ),
    ],
)
def test_resolv_conf_is_parsed(text: str, expected: Resolvers | tuple[str, ...]) -> None:
    if isinstance(expected, tuple):
        expected = Resolvers(nameservers=tuple(map(packed, expected)))
    assert parse_resolv_conf(text) == expected


def test_a_resolv_conf_that_is_no_regular_file_is_an_empty_one(tmp_path: Path) -> None:
    fifo = tmp_path / "resolv.conf"
    os.mkfifo(fifo)
    found: list[Resolvers] = []
    reader = Thread(target=lambda: found.append(read_resolvers(str(fifo))), daemon=True)
    reader.start()
    reader.join(10)
    assert found == [parse_resolv_conf("")]
    assert read_resolvers(str(tmp_path)) == read_resolvers("/dev/zero") == parse_resolv_conf("")


def test_a_missing_resolv_conf_is_an_empty_one(tmp_path: Path) -> None:
    assert read_resolvers(str(tmp_path / "missing")) == parse_resolv_conf("") == Resolvers(nameservers=LOCAL)


@pytest.fixture
def host() -> Iterator[Namespace]:
    with held_namespace() as namespace:
        namespace.shell(
            """
            sysctl -qw net.ipv6.conf.default.accept_dad=0
            ip link set lo up
            ip link add one type veth peer name one-peer
            ip link add two type veth peer name two-peer
            ip link set one-peer up
            ip link set two-peer up
            """
        )
        yield namespace


def read(host: Namespace, interface: str | None = None) -> HostInfo:
    return host.call(lambda: read_host(interface))


@pytest.mark.kernel
def test_a_host_without_a_network_has_no_uplinks(host: Namespace) -> None:
    info = read(host)
    assert (info.ipv4, info.ipv6) == (None, None)


@pytest.mark.kernel
def test_the_interface_of_the_default_route_is_the_uplink(host: Namespace) -> None:
    host.shell(
        """
        ip address add 10.1.0.2/24 dev one
        ip address add 10.2.0.2/24 dev two
        ip address add 10.2.0.3/24 dev two
        ip link set one up
        ip link set two up
        ip route add default via 10.2.0.1 metric 50
        ip route add 10.9.0.0/16 via 10.2.0.1
        """
    )
    uplink = read(host).ipv4
    assert uplink is not None
    assert uplink.interface == "two"
    assert uplink.addresses == (own("10.2.0.2/24"), own("10.2.0.3/24"))
    assert set(uplink.routes) == {
        route("0.0.0.0/0", "10.2.0.1", metric=50),
        route("10.9.0.0/16", "10.2.0.1"),
        route("10.2.0.0/24"),
    }
    assert uplink.gateway == packed("10.2.0.1")


@pytest.mark.kernel
def test_each_family_has_its_own_uplink(host: Namespace) -> None:
    host.shell(
        """
        ip address add 10.1.0.2/24 dev one
        ip address add 2001:db8::2/64 dev two
        ip address add fd00::3/64 dev two preferred_lft 0
        ip link set one up
        ip link set two up
        ip route add default via 10.1.0.1
        ip -6 route add default via fe80::1 dev two
        """
    )
    info = read(host)
    assert info.ipv4 is not None
    assert info.ipv6 is not None
    assert (info.ipv4.interface, info.ipv6.interface) == ("one", "two")
    assert info.ipv6.addresses == (own("2001:db8::2/64"),)
    assert info.ipv6.gateway == packed("fe80::1")
    assert packed("fe80::") not in {route.destination for route in info.ipv6.routes}


@pytest.mark.kernel
def test_all_addresses_and_networks_of_the_host_are_known(host: Namespace) -> None:
    host.shell(
        """
        ip address add 198.18.0.7/32 dev lo
        ip link set lo up
        ip address add 10.1.0.2/24 dev one
        ip address add 2001:db8::2/64 dev one nodad
        ip address add 10.2.0.2 peer 10.2.0.1/32 dev two
        ip link set one up
        ip link set two up
        ip route add default via 10.1.0.1
        ip route add 0.0.0.0/1 via 10.1.0.1
        ip route add 172.16.0.0/12 via 10.1.0.1
        ip route add 100.64.0.0/10 dev two table 52
        ip -6 route add fd00:7::/48 via 2001:db8::1
        """
    )
    info = read(host)
    text = [addresses.format(address) for address in info.addresses]
    assert {"127.0.0.1", "198.18.0.7", "10.1.0.2", "10.2.0.2", "2001:db8::2"} < set(text)
    assert len(text) == len(set(text))
    assert {"10.1.0.0/24", "10.2.0.1/32", "172.16.0.0/12", "100.64.0.0/10", "2001:db8::/64", "fd00:7::/48"} <= {
        str(network) for network in info.networks
    }
    assert min(network.length for network in info.networks) >= 10


@pytest.mark.kernel
def test_all_that_the_host_delivers_to_itself_is_known(host: Namespace) -> None:
    """But not what only marked packets get, as for a transparent proxy."""
    host.shell(
        """
        sysctl -qw net.ipv6.conf.all.forwarding=1
        ip link set lo up
        ip link set one up
        ip address add 10.1.0.2/24 dev one
        ip address add 2001:db8::2/64 dev one nodad
        ip route add local 198.18.0.0/24 dev lo
        ip -6 route add local fd00:7::/48 dev lo
        ip route add local 0.0.0.0/0 dev lo table 100
        ip route add local 172.16.0.0/12 dev lo table 100
        """
    )
    found = {str(prefix) for prefix in read(host).local if not prefix.address.startswith(b"\xfe\x80")}
    assert found == {
        *("10.1.0.2/32", "198.18.0.0/24"),
        *("2001:db8::/128", "2001:db8::2/128", "fd00:7::/48"),
    }


@pytest.mark.kernel
def test_without_a_default_route_any_route_will_do(host: Namespace) -> None:
    host.shell("ip address add 10.1.0.2/24 dev one; ip link set one up")
    uplink = read(host).ipv4
    assert uplink is not None
    assert (uplink.interface, uplink.gateway) == ("one", None)


@pytest.mark.kernel
def test_link_local_addresses_alone_are_no_network(host: Namespace) -> None:
    host.shell("ip link set one up; ip route add default dev one; ip -6 route add default via fe80::1 dev one")
    info = read(host)
    assert (info.ipv4, info.ipv6) == (None, None)


@pytest.mark.kernel
def test_a_point_to_point_interface_has_one_address_and_no_gateway(host: Namespace) -> None:
    host.shell("ip address add 10.1.0.2 peer 10.1.0.1/24 dev one; ip link set one up; ip route add default dev one")
    uplink = read(host).ipv4
    assert uplink is not None
    assert uplink.addresses == (own("10.1.0.2/32"),)
    assert uplink.gateway is None
    assert route("0.0.0.0/0") in uplink.routes


@pytest.mark.kernel
def test_a_gateway_may_be_on_link_although_no_route_says_so(host: Namespace) -> None:
    host.shell(
        "ip address add 10.1.0.2/32 dev one; ip link set one up; ip route add default via 172.16.0.1 dev one onlink"
    )
    uplink = read(host).ipv4
    assert uplink is not None
    assert uplink.routes == (route("0.0.0.0/0", "172.16.0.1", on_link=True),)


@pytest.mark.kernel
def test_the_heaviest_path_of_a_multipath_route_counts(host: Namespace) -> None:
    host.shell(
        """
        ip address add 10.1.0.2/24 dev one
        ip address add 10.2.0.2/24 dev two
        ip link set one up
        ip link set two up
        ip route add default nexthop via 10.1.0.1 weight 1 nexthop via 10.2.0.1 weight 5
        """
    )
    uplink = read(host).ipv4
    assert uplink is not None
    assert (uplink.interface, uplink.gateway) == ("two", packed("10.2.0.1"))


@pytest.mark.kernel
def test_routes_that_a_guest_cannot_have_are_left_out(host: Namespace) -> None:
    host.shell(
        """
        ip address add 10.1.0.2/24 dev one
        ip link set one up
        ip route add default via 10.1.0.1
        ip route add unreachable 10.5.0.0/16
        ip route add 10.6.0.0/16 via 10.1.0.1 tos 0x10
        ip route add 10.7.0.0/16 via 10.1.0.1 table 100
        """
    )
    uplink = read(host).ipv4
    assert uplink is not None
    assert set(uplink.routes) == {route("0.0.0.0/0", "10.1.0.1"), route("10.1.0.0/24")}


@pytest.mark.kernel
def test_an_interface_may_be_named(host: Namespace) -> None:
    host.shell(
        """
        ip address add 10.1.0.2/24 dev one
        ip address add 10.2.0.2/24 dev two
        ip link set one up
        ip link set two up
        ip route add default via 10.2.0.1
        """
    )
    info = read(host, "one")
    assert info.ipv4 is not None
    assert (info.ipv4.interface, info.ipv4.addresses, info.ipv6) == ("one", (own("10.1.0.2/24"),), None)


@pytest.mark.kernel
def test_an_unknown_interface_is_an_error_that_lists_the_others(host: Namespace) -> None:
    with pytest.raises(HostError, match=r"no interface 'three'.*one-peer, one, two-peer, two"):
        read(host, "three")


BGP = """
    sysctl -qw net.ipv6.conf.one.accept_dad=0
    ip address add 192.0.2.7/32 dev lo
    ip address add 2001:db8:7::7/128 dev lo
    ip address add 10.0.0.2/31 dev one scope link
    ip link set one up
    until ip -6 route show table local | grep -q 2001:db8:7::7; do sleep 0.01; done
"""
"""Addresses on the loopback interface, and a link to the router. The kernel makes the route to an address later."""


@pytest.mark.kernel
@pytest.mark.parametrize(
    "routes",
    [
        "ip route add default via 10.0.0.3 src 192.0.2.7; ip route add default via fe80::1 dev one src 2001:db8:7::7",
        "ip route add default via 10.0.0.3; ip -6 route add default via fe80::1 dev one",
        "ip -4 route add default via inet6 fe80::1 dev one; ip -6 route add default via fe80::1 dev one",
        "ip route add default nexthop via 10.0.0.3; ip -6 route add default nexthop via fe80::1 dev one",
    ],
    ids=["src", "kernel", "unnumbered", "nexthop"],
)
def test_an_address_on_the_loopback_interface_is_the_source_of_the_default_route(host: Namespace, routes: str) -> None:
    host.shell(BGP + routes)
    info = read(host)
    assert info.ipv4 is not None
    assert info.ipv6 is not None
    assert (info.ipv4.interface, info.ipv4.addresses[0]) == ("one", own("192.0.2.7/32"))
    assert (info.ipv6.interface, info.ipv6.addresses[0]) == ("one", own("2001:db8:7::7/128"))


@pytest.mark.kernel
@pytest.mark.parametrize("src", ["", "src 10.0.0.2"])
def test_a_source_of_scope_link_is_one(host: Namespace, src: str) -> None:
    host.shell(
        f"""
        ip address add 10.0.0.2/24 dev one scope link
        ip link set one up
        ip route add default via 10.0.0.1 {src}
        """
    )
    uplink = read(host).ipv4
    assert uplink is not None or not src
    if uplink is not None:
        assert uplink.addresses == (own("10.0.0.2/24"),)


@pytest.mark.kernel
def test_the_source_of_the_default_route_is_the_first_address(host: Namespace) -> None:
    host.shell(
        """
        ip address add 10.0.0.2/24 dev one
        ip address add 10.1.0.2/24 dev one
        ip address add 10.2.0.2/24 dev one
        ip address add 2001:db8::2/64 dev one
        ip address add 2001:db8:1::2/64 dev one
        ip link set one up
        ip route add default via 10.1.0.1
        ip -6 route add default via fe80::1 dev one src 2001:db8::2
        """
    )
    info = read(host)
    assert info.ipv4 is not None
    assert info.ipv6 is not None
    assert info.ipv4.addresses == (own("10.1.0.2/24"), own("10.0.0.2/24"), own("10.2.0.2/24"))
    assert info.ipv6.addresses[0] == own("2001:db8::2/64")
    host.shell("ip route replace default via 10.1.0.1 src 10.2.0.2")
    changed = read(host).ipv4
    assert changed is not None
    assert changed.addresses[0] == own("10.2.0.2/24")
