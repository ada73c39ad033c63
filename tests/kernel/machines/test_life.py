"""Events in the life of a machine: it is paused, its driver is loaded again, it reboots, its address changes."""

from __future__ import annotations

import time

import pytest

from tests.lab import GATEWAY4, SERVER4, SERVER6, Lab, usage
from tests.lab.initramfs import Linux
from tests.lab.machines import INTERFACE, serving
from tests.lab.noise import Noise
from tests.lab.qemu import NEW, OLD, VHOST_USER
from tests.lab.virtual_machines import Kind, Stable


def test_a_machine_that_stands_still_loses_nothing(lab: Lab, stable: Stable, kind: Kind, large_noise: Noise) -> None:
    """Neither does sansnet grow meanwhile, nor does it spin."""
    with serving(lab, *kind.serve_options) as server, stable.machine(kind, server.path) as machine:
        machine.load_driver()
        machine.configure()
        url = large_noise.url(SERVER4)
        begun = f"for each in 1 2; do wget -q -O - {url} | sha256sum >/tmp/sum$each & done; usleep 200000"
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
        sums = machine.shell("until [ $(cat /tmp/sum* | wc -l) = 2 ]; do usleep 10000; done; cat /tmp/sum*").stdout
    assert {line.split()[0] for line in sums.splitlines()} == {large_noise.digest}


def test_a_driver_that_is_loaded_again_goes_on(stable: Stable, kind: Kind, noise: Noise) -> None:
    with stable.served(kind) as machine:
        machine.shell("rmmod virtio_net")
        machine.load_driver()
        machine.configure()
        down = machine.shell(f"wget -q -O - {noise.url(SERVER6)} | sha256sum")
        assert down.stdout.split()[0] == noise.digest


@pytest.mark.parametrize("kind", [(OLD, VHOST_USER), (NEW, VHOST_USER)], ids="-".join, indirect=True)
def test_a_machine_with_memory_in_two_pieces_reboots(lab: Lab, linux: Linux, kind: Kind, noise: Noise) -> None:
    """Memory above 4 GiB is a region of its own."""
    large = Stable(lab, linux, memory=5000)
    with serving(lab, *kind.serve_options) as server, large.booted(kind, server.path) as machine:
        machine.monitor("set-action", reboot="reset")
        for boot in range(2):
            if boot:
                machine.monitor("system_reset")
                machine.wait_until_ready()
            machine.load_driver()
            machine.configure()
            down = machine.shell(f"wget -q -O - {noise.url(SERVER6)} | sha256sum")
            assert down.stdout.split()[0] == noise.digest
        assert "disconnected" not in server.said()


def test_a_machine_may_change_its_address(stable: Stable, kind: Kind) -> None:
    with stable.served(kind) as machine:
        machine.shell(
            f"""
            ip address flush dev {INTERFACE}
            ip address add 198.51.100.77/24 dev {INTERFACE}
            ip address add 2001:db8:1::77/64 dev {INTERFACE}
            ip route add default via {GATEWAY4}
            """
        )
        for server in (SERVER4, SERVER6):
            assert "1 packets received" in machine.shell(f"ping -c 1 -W 5 {server}").stdout
