"""A program that gives a virtual machine a network by `open_machine`."""

from __future__ import annotations

import base64
import re
import subprocess
from pathlib import Path

import trio

from sansnet_trio import Machine, NetworkOptions, open_machine
from tests.lab import initramfs
from tests.lab.initramfs import DRIVER
from tests.lab.machines import INTERFACE
from tests.lab.qemu import MEMORY, VHOST_USER
from tests.lab.virtual_machines import Kind

CONFIGURE = f"""
insmod {DRIVER}
echo 0 >/proc/sys/net/ipv6/conf/{INTERFACE}/accept_dad
ip link set {INTERFACE} up
udhcpc -i {INTERFACE} -n -q -f -t 5 -T 1 -O mtu -s /bin/dhcp_script
ip addr show {INTERFACE}
ping -c 1 -W 5 10.0.2.2
"""


class Console:
    """The serial console of a machine, whose first process runs lines of base64."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._heard = ""

    async def wait_for(self, words: str) -> str:
        """All output up to some words."""
        assert self._machine.stdout is not None
        while (found := re.search(words, self._heard)) is None:
            data = await self._machine.stdout.receive_some()
            assert data, self._heard
            self._heard += bytes(data).decode(errors="replace")
        before, self._heard = self._heard[: found.end()], self._heard[found.end() :]
        return before

    async def run(self, script: str) -> str:
        """The output of a script, with its status at the end."""
        assert self._machine.stdin is not None
        await self._machine.stdin.send_all(base64.b64encode(script.encode()) + b"\n")
        return await self.wait_for(r"@@\d+\r?\n")


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
                console = Console(machine)
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
