"""What works in a machine that runs Linux in QEMU."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final

import pytest

from tests.lab import GATEWAY4, HOST4, SERVER4, SERVER6, DnsServer, Echo, Lab, served, usage
from tests.lab.machines import INTERFACE, serving
from tests.lab.noise import Noise
from tests.lab.qemu import NEW, OLD, VHOST_USER
from tests.lab.virtual_machines import Kind, Stable, VirtualMachine

OFFLOADS: Final = {
    "CSUM": 0,
    "GUEST_CSUM": 1,
    "GUEST_TSO4": 7,
    "GUEST_TSO6": 8,
    "HOST_TSO4": 11,
    "HOST_TSO6": 12,
    "MRG_RXBUF": 15,
    "INDIRECT_DESC": 28,
    "EVENT_IDX": 29,
}
"""Bits of virtio's features."""


@pytest.fixture(scope="module", params=[1500, 65520], ids="mtu-{}".format)
def mtu(request: pytest.FixtureRequest) -> int:
    number: int = request.param
    return number


@pytest.fixture(scope="module")
def machine(stable: Stable, kind: Kind, mtu: int) -> Iterator[VirtualMachine]:
    with stable.served(kind, "--mtu", str(mtu)) as made:
        yield made


any_mtu = pytest.mark.parametrize("mtu", [65520], ids="mtu-{}".format, indirect=True)
"""Of a test where it makes no difference."""


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


@any_mtu
def test_a_refused_connection_is_refused(lab: Lab, machine: VirtualMachine, server: str) -> None:
    with lab.upstream.listen(server) as listener:
        port = listener.getsockname()[1]
    refused = machine.shell(f"nc -w 20 {server} {port}", check=False)
    assert "Connection refused" in refused.stdout


@pytest.mark.parametrize("kind", [(OLD, VHOST_USER), (NEW, VHOST_USER)], ids="-".join, indirect=True)
def test_segments_are_large_at_the_mtu_of_ethernet(stable: Stable, kind: Kind, noise: Noise) -> None:
    """The offloads are agreed on, and used both ways."""
    with stable.served(kind, "--mtu", "1500") as machine:
        features = machine.shell("cat /sys/bus/virtio/devices/virtio0/features").stdout
        assert {name for name, bit in OFFLOADS.items() if features[bit] == "1"} == set(OFFLOADS)
        url = noise.url(SERVER4)
        machine.shell(f"wget -q -O /tmp/noise {url}; wget -q -O /dev/null --post-file /tmp/noise {url}")
        counted = machine.shell(
            f"cd /sys/class/net/{INTERFACE}/statistics; cat rx_bytes rx_packets tx_bytes tx_packets"
        )
    received, frames_in, sent, frames_out = (int(number) for number in counted.stdout.split())
    assert received > noise.size
    assert sent > noise.size
    # One way each frame is of data, or acknowledges some; so these are bounds for both together.
    assert frames_in + frames_out < (received + sent) / 8192


def test_a_machine_that_stands_still_loses_nothing(lab: Lab, stable: Stable, kind: Kind, noise: Noise) -> None:
    """Neither does sansnet grow meanwhile, nor does it spin."""
    with serving(lab, *kind.serve_options) as server, stable.machine(kind, server.path) as machine:
        machine.load_driver()
        machine.configure()
        url = noise.url(SERVER4)
        begun = f"for each in 1 2 3 4; do wget -q -O - {url} | sha256sum >/tmp/sum$each & done; usleep 200000"
        assert machine.shell(f"{begun}; cat /tmp/sum*").stdout == ""
        machine.monitor("stop")
        sansnet = server.process.pid
        before = usage.own_memory(sansnet)
        time.sleep(1)
        used = usage.processor_time(sansnet)
        time.sleep(0.5)
        assert usage.processor_time(sansnet) - used < 0.1
        assert usage.own_memory(sansnet) - before < 32 << 20
        machine.monitor("cont")
        sums = machine.shell("until [ $(cat /tmp/sum* | wc -l) = 4 ]; do usleep 10000; done; cat /tmp/sum*").stdout
    assert {line.split()[0] for line in sums.splitlines()} == {noise.digest}


def test_a_driver_that_is_loaded_again_goes_on(stable: Stable, kind: Kind, noise: Noise) -> None:
    with stable.served(kind) as machine:
        machine.shell("rmmod virtio_net")
        machine.load_driver()
        machine.configure()
        down = machine.shell(f"wget -q -O - {noise.url(SERVER6)} | sha256sum")
        assert down.stdout.split()[0] == noise.digest
