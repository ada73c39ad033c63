"""Netlink: what is listed, added and deleted is what iproute2 shows."""

from __future__ import annotations

import errno
import socket
import subprocess

import pytest

from sansnet_core import addresses
from sansnet_trio.linux.rtnetlink import AddressMessage, Netlink, Path, RouteMessage
from tests.lab.namespaces import held_namespace

LOOPBACK = 1
ONLINK = 4
"""RTNH_F_ONLINK."""
LOOPBACK4 = bytes([127, 0, 0, 1])


def test_addresses_and_routes_are_listed() -> None:
    with Netlink() as netlink:
        found = [message.local for message in netlink.addresses(socket.AF_INET)]
        routes = [message.destination for message in netlink.routes(socket.AF_INET)]
    assert LOOPBACK4 in found
    assert LOOPBACK4 in routes


@pytest.mark.kernel
def test_more_than_one_answers_hold() -> None:
    count = 1000
    with held_namespace() as namespace:
        script = "".join(f"route add 10.{n >> 8}.{n & 255}.0/24 dev lo\n" for n in range(count))
        subprocess.run(namespace.command("ip", "-batch", "-"), input=script, text=True, check=True)

        def destinations() -> list[bytes]:
            with Netlink() as netlink:
                return [message.destination for message in netlink.routes(socket.AF_INET)]

        assert len({each for each in namespace.call(destinations) if each[0] == 10}) == count


@pytest.mark.kernel
def test_what_is_added_is_there_and_what_is_refused_is_an_error() -> None:
    with held_namespace() as namespace:

        def add() -> int | None:
            with Netlink() as netlink:
                netlink.add_address(LOOPBACK, bytes([10, 7, 0, 2]), 32)
                with pytest.raises(OSError, match="exists") as caught:
                    netlink.add_address(LOOPBACK, bytes([10, 7, 0, 2]), 32)
                return caught.value.errno

        assert namespace.call(add) == errno.EEXIST
        assert "10.7.0.2/32" in namespace.shell("ip address show dev lo").stdout


SCRIPT = """
link set lo up
link add d0 type veth peer name d1
link set d0 up
link set d1 up
address add 10.1.0.2/24 dev d0
address add 10.9.0.1 peer 10.9.0.2/30 dev d0
route add default via 10.1.0.1 metric 70000 src 10.1.0.2
route add 10.5.0.0/16 via 192.0.2.9 dev d0 onlink table 3000
route add 10.6.0.0/16 nexthop via 10.1.0.3 weight 1 nexthop via 10.1.0.4 weight 9
route add 10.8.0.0/16 via inet6 fe80::9 dev d0
route add 10.4.0.0/16 tos 0x10 dev d0
address add 2001:db8::2/64 dev d0 nodad
route add 2001:db8:5::/48 via fe80::1 dev d0 metric 5
"""


@pytest.mark.kernel
def test_routes_and_addresses_of_every_kind_are_read() -> None:
    def read() -> tuple[dict[str, RouteMessage], dict[str, AddressMessage]]:
        with Netlink() as netlink:
            routes = [route for family in (socket.AF_INET, socket.AF_INET6) for route in netlink.routes(family)]
            found = [each for family in (socket.AF_INET, socket.AF_INET6) for each in netlink.addresses(family)]
        return (
            {f"{addresses.format(route.destination)}/{route.prefix_length}": route for route in reversed(routes)},
            {addresses.format(each.local): each for each in found},
        )

    with held_namespace() as namespace:
        subprocess.run(namespace.command("ip", "-batch", "-"), input=SCRIPT.lstrip(), text=True, check=True)
        routes, own = namespace.call(read)
    index = own["10.1.0.2"].interface
    default = routes["0.0.0.0/0"]
    assert (default.metric, default.source) == (70000, addresses.parse("10.1.0.2"))
    assert default.paths == (Path(index, addresses.parse("10.1.0.1"), 0, 0),)
    assert (routes["10.5.0.0/16"].table, routes["10.5.0.0/16"].paths[0].flags & ONLINK) == (3000, ONLINK)
    hops = [(path.gateway, path.hops) for path in routes["10.6.0.0/16"].paths]
    assert hops == [(addresses.parse("10.1.0.3"), 0), (addresses.parse("10.1.0.4"), 8)]
    assert [path.gateway for path in routes["10.8.0.0/16"].paths] == [None]
    assert routes["10.4.0.0/16"].tos == 0x10
    assert routes["2001:db8:5::/48"].paths == (Path(index, addresses.parse("fe80::1"), 0, 0),)
    peer = own["10.9.0.1"]
    assert (peer.address, peer.prefix_length) == (addresses.parse("10.9.0.2"), 30)
    assert (own["2001:db8::2"].interface, own["2001:db8::2"].prefix_length) == (index, 64)


@pytest.mark.kernel
def test_routes_and_addresses_are_added_and_deleted() -> None:
    """With the words that iproute2 has for them."""

    def change(name: str) -> None:
        index = socket.if_nametoindex("d0")
        own, own6 = addresses.parse("10.1.0.2"), addresses.parse("2001:db8::2")
        route = (index, addresses.parse("10.5.0.0"), 16, addresses.parse("192.0.2.9"), 70)
        route6 = (index, bytes(16), 0, addresses.parse("fe80::1"), 0)
        with Netlink() as netlink:
            if name == "add":
                netlink.add_address(index, own, 24)
                netlink.add_address(index, own6, 64, preferred=False)
                netlink.add_route(*route, on_link=True)
                netlink.add_route(*route6, on_link=False)
                netlink.add_route(index, addresses.parse("10.6.0.0"), 16, None, 0, on_link=False)
            else:
                netlink.delete_route(*route, on_link=True)
                netlink.delete_route(*route6, on_link=False)
                netlink.delete_address(index, own, 24)
                netlink.delete_address(index, own6, 64)

    with held_namespace() as namespace:
        namespace.shell("ip link add d0 type veth peer name d1; ip link set d0 up; ip link set d1 up")
        namespace.call(lambda: change("add"))
        routes = namespace.shell("ip route; ip -6 route").stdout
        assert "10.5.0.0/16 via 192.0.2.9 dev d0 metric 70 onlink" in routes
        assert "10.6.0.0/16 dev d0" in routes
        assert "default via fe80::1 dev d0" in routes
        shown = namespace.shell("ip address show dev d0").stdout
        assert "10.1.0.2/24" in shown
        [line] = [line for line in shown.splitlines() if "2001:db8::2/64" in line]
        assert {"deprecated", "nodad"} < set(line.split())
        namespace.call(lambda: change("delete"))
        left = namespace.shell("ip address show dev d0; ip route; ip -6 route").stdout
        assert [text for text in ("10.1.0.2", "2001:db8::2", "10.5.0.0", "default via") if text in left] == []
