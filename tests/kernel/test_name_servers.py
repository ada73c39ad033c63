"""Which name servers a guest asks, and that it gets the host's view of names, whatever servers the host has."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Final

import pytest

from tests.lab import GATEWAY4, HOST4, SERVER4, USER, DnsServer, Lab, Namespace, eventually, laboratory

NAME: Final = "which.example"


def view(address: str) -> DnsServer:
    """A server that knows one name, for which it has an address of its own."""
    return DnsServer({(NAME, "A"): [address]})


@contextmanager
def answering(*servers: tuple[Namespace, str, str]) -> Iterator[None]:
    """Servers with views of their own: where each is, at which address, and what it says of the name."""
    with ExitStack() as stack:
        for namespace, address, answer in servers:
            stack.enter_context(view(answer).on(namespace, address))
        yield


def resolved(lab: Lab, *options: str, user: int | None = None) -> tuple[list[str], list[str]]:
    """The C library's answers for the name in a guest, and on the host."""
    command = ["getent", "ahostsv4", NAME]
    done = lab.sansnet(list(options), command, user=user)
    assert done.stderr == ""
    return words(done.stdout), words(lab.host.run(*command, check=False).stdout)


def words(output: str) -> list[str]:
    return sorted({line.split()[0] for line in output.splitlines()})


def told(lab: Lab, *options: str) -> list[str]:
    """The servers in a guest's file."""
    lines = lab.sansnet(list(options), ["cat", "/etc/resolv.conf"]).stdout.splitlines()
    return [line.split()[1] for line in lines if line.startswith("nameserver")]


@pytest.mark.parametrize("user", [None, USER], ids=["root", "user"])
@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([GATEWAY4, "127.0.0.1"], [GATEWAY4, "169.254.53.2"]),
        (["127.0.0.1", GATEWAY4], ["169.254.53.1", GATEWAY4]),
    ],
    ids=["gateway first", "loopback first"],
)
def test_a_loopback_server_that_is_down_does_not_hide_the_gateway(
    lines: list[str], expected: list[str], user: int | None
) -> None:
    with laboratory() as lab, answering((lab.upstream, GATEWAY4, "192.0.2.71")):
        lab.set_resolver(*(f"nameserver {server}" for server in lines))
        assert told(lab) == expected
        assert resolved(lab, user=user) == (["192.0.2.71"], ["192.0.2.71"])


@pytest.mark.parametrize("first", [GATEWAY4, "127.0.0.1", "127.0.0.53", HOST4, "::1", SERVER4])
def test_the_hosts_first_server_is_the_guests(first: str) -> None:
    """Each of them knows another address for the name."""
    with laboratory() as lab:
        places = {GATEWAY4: lab.upstream, SERVER4: lab.upstream}
        servers = [first, *(s for s in ("127.0.0.1", GATEWAY4, SERVER4, "127.0.0.53") if s != first)][:3]
        lab.set_resolver(*(f"nameserver {server}" for server in servers))
        with answering(*((places.get(s, lab.host), s, f"192.0.2.{n}") for n, s in enumerate(servers, 1))):
            assert resolved(lab) == (["192.0.2.1"], ["192.0.2.1"])


@pytest.mark.parametrize("by", ["notcp", "tcp"])
def test_each_stand_in_leads_to_a_server_of_its_own(by: str) -> None:
    servers = ["127.0.0.1", "127.0.0.2", HOST4]
    with laboratory() as lab, answering(*((lab.host, s, f"192.0.2.{n}") for n, s in enumerate(servers, 1))):
        lab.set_resolver(*(f"nameserver {server}" for server in servers))
        script = f"for n in 1 2 3; do dig +short +tries=1 +{by} @169.254.53.$n {NAME}; done"
        assert lab.sansnet([], ["sh", "-c", script]).stdout.split() == ["192.0.2.1", "192.0.2.2", "192.0.2.3"]


@pytest.mark.parametrize("lines", [[], ["search lab.example"], ["nameserver 127.1"], ["nameserver 0"]])
def test_without_a_server_the_host_itself_is_asked(lines: list[str]) -> None:
    with laboratory() as lab, answering((lab.host, "127.0.0.1", "192.0.2.72")):
        lab.set_resolver(*lines)
        assert told(lab) == ["169.254.53.1"]
        assert resolved(lab) == (["192.0.2.72"], ["192.0.2.72"])


def test_a_guest_without_a_default_route_reaches_a_stand_in() -> None:
    with laboratory() as lab, answering((lab.host, "127.0.0.1", "192.0.2.73")):
        lab.host.shell("ip route delete default; ip -6 route delete default")
        lab.set_resolver("nameserver 127.0.0.1")
        assert resolved(lab) == (["192.0.2.73"], ["192.0.2.73"])


def ifindex(namespace: Namespace, interface: str) -> int:
    """/sys is that of the tests' own namespace."""
    return int(namespace.shell(f"ip -o link show {interface}").stdout.partition(":")[0])


def test_link_local_servers_of_several_links_are_told_apart() -> None:
    """Routers like to be fe80::1, on each link."""
    with laboratory() as lab:
        line = f"ip link add eth1 netns {lab.host.pid} type veth peer name peer1 netns {lab.upstream.pid}"
        subprocess.run(line.split(), check=True)
        lab.upstream.shell(
            """
            ip address add fe80::1/64 dev downlink nodad
            ip address add fe80::1/64 dev peer1 nodad
            ip link set peer1 up
            """
        )
        lab.host.shell("echo 0 >/proc/sys/net/ipv6/conf/eth1/accept_dad; ip link set eth1 up")
        reached = " && ".join(f"ping -q -c1 -W1 fe80::1%{name}" for name in ("eth1", "uplink"))
        assert eventually(lambda: lab.host.shell(reached, check=False).returncode == 0)
        zones = [ifindex(lab.upstream, name) for name in ("downlink", "peer1")]
        servers = [(lab.upstream, f"fe80::1%{zone}", f"192.0.2.{n}") for n, zone in enumerate(zones, 1)]
        with answering(*servers):
            lab.set_resolver("nameserver fe80::1%eth1", "nameserver fe80::1%uplink")
            assert told(lab) == ["fe80::53:1%uplink", "fe80::1%uplink"]
            assert resolved(lab) == (["192.0.2.2"], ["192.0.2.2"])
            script = f"for s in fe80::53:1 fe80::1; do dig +short +tries=1 @$s%uplink {NAME}; done"
            for by in ("+notcp", "+tcp"):
                found = lab.sansnet([], ["sh", "-c", script.replace("+short", f"+short {by}")]).stdout.split()
                assert found == ["192.0.2.2", "192.0.2.1"]
            lab.set_resolver("nameserver fe80::1%uplink", "nameserver fe80::1%eth1")
            assert resolved(lab) == (["192.0.2.1"], ["192.0.2.1"])


def test_dns_forward_alone_leads_to_the_hosts_first_server() -> None:
    with laboratory() as lab, answering((lab.upstream, SERVER4, "192.0.2.1"), (lab.host, "127.0.0.1", "192.0.2.2")):
        lab.set_resolver(f"nameserver {SERVER4}", "nameserver 127.0.0.1")
        assert resolved(lab, "--dns-forward", "192.0.2.53") == (["192.0.2.1"], ["192.0.2.1"])
        assert told(lab, "--dns-forward", "192.0.2.53") == ["192.0.2.53", "169.254.53.2"]
