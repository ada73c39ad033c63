"""A program that gives a virtual machine a network by `open_machine`."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import trio

from sansnet_trio import NetworkOptions, open_machine
from tests.lab import initramfs
from tests.lab.initramfs import DRIVER
from tests.lab.machine_console import MachineConsole
from tests.lab.machines import INTERFACE
from tests.lab.qemu import EACH_ONCE, MEMORY, VHOST_USER
from tests.lab.virtual_machines import Kind

CONFIGURE = f"""
insmod {DRIVER}
echo 0 >/proc/sys/net/ipv6/conf/{INTERFACE}/accept_dad
ip link set {INTERFACE} up
udhcpc -i {INTERFACE} -n -q -f -t 5 -T 1 -O mtu -s /bin/dhcp_script
ip addr show {INTERFACE}
ping -c 1 -W 5 10.0.2.2
"""


@pytest.mark.parametrize("kind", EACH_ONCE, indirect=True, ids="-".join)
def test_a_machine_configures_itself_and_ends_with_the_block(
    kind: Kind, linux: initramfs.Linux, tmp_path: Path
) -> None:
    qemu = kind.qemu
    command = [*qemu.machine(tmp_path / "monitor", MEMORY), *qemu.kernel(linux.kernel, linux.initramfs)]

    async def main() -> None:
        with trio.fail_after(120):
            async with open_machine(
                command,
                NetworkOptions.made_up(),
                use_vhost_user=kind.link == VHOST_USER,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            ) as machine:
                console = MachineConsole(machine)
                await console.wait_for("guest-is-ready\r?\n")
                output = await console.run(CONFIGURE)
                network = await machine.wait_network()
                assert "inet 10.0.2.15/24" in output, output
                assert "1 packets received" in output, output
                assert network.driver_statistics().frames_received
                assert machine.returncode is None
            ended: int | None = machine.returncode
            assert ended is not None
            assert machine.network is None

    trio.run(main)
