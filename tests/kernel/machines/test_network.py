"""The network of a machine that runs Linux in QEMU."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import pytest

from tests.lab import GATEWAY4, HOST4, SERVER4, SERVER6, DnsServer, Echo, Lab, served
from tests.lab.machines import INTERFACE
from tests.lab.noise import Noise
from tests.lab.virtual_machines import Kind, Stable, VirtualMachine

DO: Final = "2"
PROBE: Final = "3"
"""Values of IP_MTU_DISCOVER (linux/in.h); `-` is the default."""


@pytest.fixture(scope="module", params=[1500, 65520], ids="mtu-{}".format)
def mtu(request: pytest.FixtureRequest) -> int:
    number: int = request.param
    return number


@pytest.fixture(scope="module")
def machine(stable: Stable, kind: Kind, mtu: int) -> Iterator[VirtualMachine]:
    with stable.served(kind, "--mtu", str(mtu)) as made:
        yield made


any_mtu = pytest.mark.parametrize("mtu", [65520], ids="mtu-{}".format, indirect=True)
"""For tests whose result does not depend on the MTU."""


def test_it_configures_itself(machine: VirtualMachine, mtu: int) -> None:
    shown = machine.shell(f"ip address show dev {INTERFACE}; ip route; cat /etc/resolv.conf").stdout
    assert f"inet {HOST4}/24" in shown
    assert "inet6 2001:db8:1:0:5054:ff:fe12:3456/64" in shown
    assert f"mtu {mtu} " in shown
    assert f"default via {GATEWAY4}" in shown
    assert f"nameserver {SERVER4}" in shown


@any_mtu
def test_ping_works(machine: VirtualMachine, server: str) -> None:
    shown = machine.shell(f"ping -c 3 -i 0.1 -W 5 {server}").stdout
    assert "3 packets received" in shown


def test_a_file_comes_down_and_goes_up_whole(machine: VirtualMachine, server: str, noise: Noise) -> None:
    url = noise.url(server)
    down = machine.shell(f"wget -q -O /tmp/noise {url}; sha256sum </tmp/noise")
    assert down.stdout.split()[0] == noise.digest
    up = machine.shell(f"wget -q -O - --post-file /tmp/noise {url}; rm /tmp/noise")
    assert up.stdout == noise.digest


@any_mtu
def test_hundreds_of_connections_at_once(lab: Lab, machine: VirtualMachine, server: str) -> None:
    with served(lab.upstream.listen(server), Echo.stream) as port:
        shown = machine.shell(
            f"""
            for number in $(seq 300); do echo "<$number>" | nc {server} {port} & done
            wait
            """
        )
    assert sorted(shown.stdout.split()) == sorted(f"<{number}>" for number in range(1, 301))


@any_mtu
def test_names_are_found(lab: Lab, machine: VirtualMachine, dns: DnsServer) -> None:
    with dns.on(lab.upstream, SERVER4):
        shown = machine.shell("nslookup www.lab.example").stdout
    assert SERVER4 in shown
    assert SERVER6 in shown


def test_the_host_is_found_by_name(lab: Lab, stable: Stable, kind: Kind) -> None:
    options = ("--map-host-loopback", "169.254.1.2", "--host", "db.example=192.0.2.7")
    with stable.served(kind, *options) as machine, served(lab.host.listen("127.0.0.1"), Echo.stream) as port:
        shown = machine.shell(
            f"""
            nslookup host.docker.internal
            nslookup db.example
            echo hello | nc -w 20 host.sansnet.internal {port}
            """
        ).stdout
    assert "169.254.1.2" in shown
    assert "192.0.2.7" in shown
    assert shown.splitlines()[-1] == "hello"


@any_mtu
def test_a_refused_connection_is_refused(lab: Lab, machine: VirtualMachine, server: str) -> None:
    with lab.upstream.listen(server) as listener:
        port = listener.getsockname()[1]
    refused = machine.shell(f"nc -w 20 {server} {port}", check=False)
    assert "Connection refused" in refused.stdout


@any_mtu
def test_datagrams_above_the_hosts_mtu_are_as_on_the_host(lab: Lab, machine: VirtualMachine, server: str) -> None:
    """The rows of the table in docs/errors.md for programs, from the first datagram on."""
    with Echo.datagrams(lab.upstream.datagram(server)) as port:

        def ask(discover: str, *words: str | int) -> str:
            return machine.shell(f"ask {server} {port} '{discover}' {' '.join(map(repr, map(str, words)))}").stdout

        assert ask("-", 8000, "mtu<65520", 60000, 100, 8000).split() == ["8000", "1500", "60000", "100", "8000"]
        largest = 1472 if server == SERVER4 else 1452
        assert ask(DO, 8000, largest, largest + 1).split() == ["EMSGSIZE", str(largest), "EMSGSIZE"]
        machine.shell("usleep 1200000")  # for about a second they would arrive
        assert ask(PROBE, 8000, 8000, 1000).split() == ["EMSGSIZE", "EMSGSIZE", "1000"]
    # So that other tests have the MTU of the link again
    machine.shell("echo 1 >/proc/sys/net/ipv4/route/flush; echo 1 >/proc/sys/net/ipv6/route/flush")
