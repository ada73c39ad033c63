"""Hosts whose network is not one Ethernet with a gateway: what their guests have, and that it works."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final

import pytest

from tests.lab import GATEWAY4, GATEWAY6, HOST4, HOST6, SERVER4, SERVER6, Lab, Namespace, laboratory
from tests.lab.tunnels import tunnel

LOCAL4: Final = "169.254.2.1"
"""A guest's address where the host has none."""
ONLINK: Final = "172.16.0.1"
"""A gateway that is in no network of the host's."""


@pytest.fixture
def odd() -> Iterator[Lab]:
    """A host without an uplink, and an upstream that forwards and has servers."""
    with laboratory(uplink=False) as lab:
        lab.upstream.shell(
            f"""
            echo 1 >/proc/sys/net/ipv4/ip_forward
            echo 1 >/proc/sys/net/ipv6/conf/all/forwarding
            ip address add {SERVER4}/32 dev lo
            ip address add {SERVER6}/128 dev lo nodad
            """
        )
        yield lab


@contextmanager
def link(lab: Lab, name: str, host: str, upstream: str) -> Iterator[None]:
    """An Ethernet between the two, and what each end does with its interface of this name."""
    line = f"ip link add {name} netns {lab.host.pid} type veth peer name {name} netns {lab.upstream.pid}"
    subprocess.run(line.split(), check=True)
    for namespace, script in ((lab.upstream, upstream), (lab.host, host)):
        namespace.shell(
            f"""
            echo 0 >/proc/sys/net/ipv6/conf/{name}/accept_ra
            echo 0 >/proc/sys/net/ipv6/conf/{name}/accept_dad
            ip link set {name} up
            {script}
            """
        )
    yield


def pings(namespace: Namespace, *addresses: str) -> list[str]:
    """Which of some addresses answer."""
    return [a for a in addresses if namespace.run("ping", "-q", "-c1", "-W5", a, check=False).returncode == 0]


def routes(namespace: Namespace, family: int) -> list[tuple[str, str | None]]:
    """Destination and gateway of each route, but those of link-local networks."""
    found: list[dict[str, Any]] = json.loads(namespace.shell(f"ip -json -{family} route").stdout or "[]")
    return [(route["dst"], route.get("gateway")) for route in found if not route["dst"].startswith("fe80")]


def own(namespace: Namespace, interface: str) -> list[str]:
    """Global addresses."""
    [shown] = json.loads(namespace.shell(f"ip -json address show dev {interface}").stdout)
    return [f"{info['local']}/{info['prefixlen']}" for info in shown["addr_info"] if info["local"][:4] != "fe80"]


def test_a_point_to_point_link_without_a_gateway(odd: Lab) -> None:
    with (
        link(
            odd,
            "ppp0",
            f"""
        ip address add {HOST4} peer {GATEWAY4} dev ppp0
        ip route add default dev ppp0
        ip -6 address add {HOST6} peer {GATEWAY6} dev ppp0 nodad
        ip -6 route add default dev ppp0
        """,
            f"""
        ip address add {GATEWAY4} peer {HOST4} dev ppp0
        ip -6 address add {GATEWAY6} peer {HOST6} dev ppp0 nodad
        echo 1 >/proc/sys/net/ipv6/conf/ppp0/proxy_ndp
        ip -6 neighbour add proxy {SERVER6} dev ppp0
        """,
        ),
        odd.guest() as guest,
    ):
        assert own(guest, "ppp0") == [f"{HOST4}/32", f"{HOST6}/128"]
        assert set(routes(guest, 4)) == {("default", None), (GATEWAY4, None)}
        assert ("default", None) in routes(guest, 6)
        assert pings(guest, SERVER4, SERVER6, GATEWAY4) == [SERVER4, SERVER6, GATEWAY4]


@pytest.mark.parametrize("src", [False, True], ids=["kernel's choice", "src"])
def test_a_host_whose_addresses_are_on_its_loopback_interface(odd: Lab, *, src: bool) -> None:
    """As where each host speaks BGP."""
    four, six = (f"src {HOST4}", f"src {HOST6}") if src else ("", "")
    with (
        link(
            odd,
            "bgp0",
            f"""
        ip link set lo up
        ip address add {HOST4}/32 dev lo
        ip address add {HOST6}/128 dev lo
        ip address add fe80::2/64 dev bgp0 nodad
        ip route add default via {ONLINK} dev bgp0 onlink {four}
        ip -6 route add default via fe80::1 dev bgp0 {six}
        """,
            f"""
        ip address add {ONLINK}/32 dev bgp0
        ip address add fe80::1/64 dev bgp0 nodad
        ip route add {HOST4} dev bgp0
        ip -6 route add {HOST6} via fe80::2 dev bgp0
        """,
        ),
        odd.guest() as guest,
    ):
        assert own(guest, "bgp0") == [f"{HOST4}/32", f"{HOST6}/128"]
        assert pings(guest, SERVER4, SERVER6) == [SERVER4, SERVER6]


def test_a_gateway_outside_of_the_hosts_network(odd: Lab) -> None:
    with (
        link(
            odd,
            "cloud0",
            f"""
        ip address add {HOST4}/32 dev cloud0
        ip route add default via {ONLINK} dev cloud0 onlink
        """,
            f"ip address add {ONLINK}/32 dev cloud0; ip route add {HOST4} dev cloud0",
        ),
        odd.guest() as guest,
    ):
        assert own(guest, "cloud0") == [f"{HOST4}/32"]
        assert routes(guest, 4) == [("default", ONLINK)]
        assert pings(guest, SERVER4) == [SERVER4]


def test_a_gateway_that_another_route_leads_to(odd: Lab) -> None:
    with (
        link(
            odd,
            "cloud0",
            f"""
        ip address add {HOST4}/32 dev cloud0
        ip route add {ONLINK} dev cloud0
        ip route add 192.0.2.0/24 via {ONLINK}
        ip route add default via {ONLINK} metric 7
        """,
            f"ip address add {ONLINK}/32 dev cloud0; ip route add {HOST4} dev cloud0",
        ),
        odd.guest() as guest,
    ):
        assert set(routes(guest, 4)) == {("default", ONLINK), ("192.0.2.0/24", ONLINK), (ONLINK, None)}
        assert "metric 7" in guest.shell("ip route show default").stdout
        assert pings(guest, SERVER4) == [SERVER4]


def test_a_tunnel_is_an_ethernet_to_the_guest(odd: Lab) -> None:
    with tunnel("vpn0", odd.host, odd.upstream):
        odd.upstream.shell(f"ip link set vpn0 up; ip route add 10.8.0.2 dev vpn0; ip -6 route add {HOST6} dev vpn0")
        odd.host.shell(
            f"""
            ip link set vpn0 up
            ip address add 10.8.0.2/32 dev vpn0
            ip -6 address add {HOST6}/128 dev vpn0
            ip route add default dev vpn0
            ip -6 route add default dev vpn0
            """
        )
        with odd.guest() as guest:
            assert own(guest, "vpn0") == ["10.8.0.2/32", f"{HOST6}/128"]
            assert routes(guest, 4) == [("default", None)]
            assert pings(guest, SERVER4, SERVER6) == [SERVER4, SERVER6]


def test_a_tunnel_beside_the_network_carries_what_the_host_sends_through_it(odd: Lab) -> None:
    with (
        tunnel("vpn0", odd.host, odd.upstream),
        link(
            odd,
            "uplink",
            f"ip address add {HOST4}/24 dev uplink; ip route add default via {GATEWAY4}",
            f"ip address add {GATEWAY4}/24 dev uplink",
        ),
    ):
        odd.upstream.shell("ip link set vpn0 up; ip route add 10.8.0.2 dev vpn0; ip address add 10.8.0.1/32 dev lo")
        odd.host.shell(
            """
            ip link set vpn0 up
            ip address add 10.8.0.2/32 dev vpn0
            ip route add 0.0.0.0/1 dev vpn0
            ip route add 128.0.0.0/1 dev vpn0
            """
        )
        with odd.guest() as guest:
            assert routes(guest, 4)[0] == ("default", GATEWAY4)
            assert pings(guest, "10.8.0.1", SERVER4, GATEWAY4) == ["10.8.0.1", SERVER4, GATEWAY4]


@contextmanager
def two_links(lab: Lab) -> Iterator[None]:
    """Links `one` and `two`, and the better default route leads over the former."""
    with ExitStack() as stack:
        for number, name, metric in ((2, "two", 200), (1, "one", 100)):
            network = f"10.{number}.0"
            stack.enter_context(
                link(
                    lab,
                    name,
                    f"ip address add {network}.2/24 dev {name}; ip route add default via {network}.1 metric {metric}",
                    f"ip address add {network}.1/24 dev {name}",
                )
            )
        yield


@pytest.mark.parametrize(
    ("options", "address", "source"),
    [
        ([], "10.1.0.2", "10.1.0.2"),
        (["-i", "two"], "10.2.0.2", "10.1.0.2"),
        (["-o", "10.2.0.2"], "10.1.0.2", "10.2.0.2"),
        (["--outbound-if4", "two"], "10.2.0.2", "10.2.0.2"),
        (["-i", "one", "--outbound-if4", "two"], "10.1.0.2", "10.2.0.2"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_of_two_default_routes_the_better_one_counts_unless_told_otherwise(
    odd: Lab, options: list[str], address: str, source: str
) -> None:
    with two_links(odd), odd.guest(*options) as guest:
        assert own(guest, guest.interface) == [f"{address}/24"]
        assert pings(guest, SERVER4) == [SERVER4]
        with odd.upstream.listen(SERVER4) as listener, odd.upstream.datagram(SERVER4) as datagram:
            with guest.connect(*listener.getsockname()):
                stream, peer = listener.accept()
                stream.close()
                assert peer[0] == source
            with guest.open_socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                sender.sendto(b"x", datagram.getsockname())
                assert datagram.recvfrom(1)[1][0] == source


def test_loopback_is_reached_whatever_interface_the_rest_uses(odd: Lab) -> None:
    with (
        two_links(odd),
        odd.guest("--outbound-if4", "two", "--map-host-loopback", "10.2.0.1") as guest,
        odd.host.listen("127.0.0.1") as listener,
        odd.host.datagram("127.0.0.1") as datagram,
    ):
        guest.connect("10.2.0.1", listener.getsockname()[1]).close()
        listener.accept()[0].close()
        with guest.open_socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"ask", ("10.2.0.1", datagram.getsockname()[1]))
            question, asker = datagram.recvfrom(9)
            datagram.sendto(b"answer", asker)
            assert (question, sender.recv(9)) == (b"ask", b"answer")
        assert pings(guest, "10.2.0.1", SERVER4) == ["10.2.0.1", SERVER4]


def test_a_host_with_ipv6_alone_has_guests_with_it(odd: Lab) -> None:
    with (
        link(
            odd,
            "uplink",
            f"ip address add {HOST6}/64 dev uplink nodad; ip -6 route add default via {GATEWAY6}",
            f"ip address add {GATEWAY6}/64 dev uplink nodad",
        ),
        odd.guest() as guest,
    ):
        assert own(guest, "uplink") == [f"{LOCAL4}/16", f"{HOST6}/64"]
        assert routes(guest, 4)[0] == ("default", "169.254.2.2")
        assert pings(guest, SERVER6) == [SERVER6]


def test_a_host_with_ipv4_alone_has_guests_with_it(odd: Lab) -> None:
    with (
        link(
            odd,
            "uplink",
            f"ip address add {HOST4}/24 dev uplink; ip route add default via {GATEWAY4}",
            f"ip address add {GATEWAY4}/24 dev uplink",
        ),
        odd.guest() as guest,
    ):
        assert own(guest, "uplink") == [f"{HOST4}/24"]
        assert routes(guest, 6) == [("default", "fe80::1")]
        assert pings(guest, SERVER4) == [SERVER4]


def test_an_interface_to_send_from_must_be_usable(odd: Lab) -> None:
    with link(odd, "bare", "true", "true"):
        for options, words in (
            (["--outbound-if4", "none0"], "the host has no interface 'none0'; it has these: bare"),
            (["--outbound-if4", "bare"], "--outbound-if4 bare has no IPv4 address"),
            (["--outbound-if6", "bare"], "--outbound-if6 bare has no IPv6 address"),
            (["-i", "bare", "--outbound-if6", "none0"], "--outbound-if6 none0 cannot be used (No such device)"),
        ):
            done = odd.sansnet(options, ["true"])
            assert (done.returncode, words in done.stderr) == (1, True), done.stderr


@pytest.mark.parametrize(("alias", "address"), [("192.0.2.77", HOST4), ("2001:db8:77::1", HOST6)], ids=["ipv4", "ipv6"])
def test_the_hosts_own_address_is_reached_by_an_alias(lab: Lab, alias: str, address: str) -> None:
    with (
        lab.guest("--map-guest-addr", alias) as guest,
        lab.host.listen(address) as listener,
        lab.host.datagram(address) as datagram,
    ):
        guest.connect(alias, listener.getsockname()[1]).close()
        stream, peer = listener.accept()
        stream.close()
        assert peer[0] == address
        with guest.open_socket(datagram.family, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"ask", (alias, datagram.getsockname()[1]))
            question, asker = datagram.recvfrom(9)
            datagram.sendto(b"answer", asker)
            answer, answerer = sender.recvfrom(9)
            assert (question, answer, answerer[0]) == (b"ask", b"answer", alias)
        assert pings(guest, alias) == [alias]
