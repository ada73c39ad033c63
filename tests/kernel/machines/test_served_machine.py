"""A virtual machine whose whole world is the program: curl over HTTP and TLS, names, and verdicts."""

from __future__ import annotations

import errno
import subprocess
from functools import partial
from pathlib import Path
from typing import Final

import pytest
import trio

from sansnet_core import Refuse
from sansnet_trio import NetworkOptions, NewFlow, Serve, Verdict, open_machine
from sansnet_trio.dns import DnsServer
from tests.lab import initramfs
from tests.lab.initramfs import DRIVER
from tests.lab.machine_console import MachineConsole
from tests.lab.machines import INTERFACE
from tests.lab.qemu import EACH_ONCE, MEMORY, VHOST_USER
from tests.lab.serving import ECHO, GREETING, NAME, SERVICE, answer_http, guarded, world
from tests.lab.virtual_machines import Kind

LIMIT: Final = 240
"""Seconds. TLS by an emulated processor takes long on a busy machine."""

CONFIGURE: Final = f"""
insmod {DRIVER}
cd /proc/sys/net/ipv6/conf/{INTERFACE}
echo 0 >accept_dad
echo 0 >router_solicitation_delay
ip link set {INTERFACE} up
udhcpc -i {INTERFACE} -n -q -f -t 5 -T 1 -O mtu -s /bin/dhcp_script
until ip -6 route show dev {INTERFACE} | grep -q ^default; do usleep 10000; done
"""

SERVED: Final = f"""
echo plain; curl -sS http://{NAME}/ http://[fd00::2]/
echo secure; curl -sS --cacert /tmp/ca.pem https://{NAME}/ https://{NAME}/
head -c 300000 /dev/urandom >/tmp/body
curl -sS --cacert /tmp/ca.pem --data-binary @/tmp/body -o /tmp/answer https://{NAME}/
cmp /tmp/body /tmp/answer && echo equal
echo hello | nc -w 20 {NAME} {ECHO}
"""

DECIDED: Final = """
echo decided; curl -sS http://192.0.2.7/
curl -s http://192.0.2.8/; echo "status $?"
nslookup unknown.example
"""


async def decide(flow: NewFlow) -> Verdict:
    """Serve one address of the world outside, and refuse all others."""
    if str(flow.destination) == "192.0.2.7:80":
        return Serve(guarded(answer_http))
    return Refuse(errno.ECONNREFUSED)


@pytest.mark.timeout(LIMIT + 10)
@pytest.mark.parametrize("kind", EACH_ONCE, indirect=True, ids="-".join)
def test_a_machine_is_served_by_the_program_alone(kind: Kind, tmp_path: Path) -> None:
    linux = initramfs.linux(initramfs.installed("curl"), name="initramfs-curl")
    qemu = kind.qemu
    command = [*qemu.machine(tmp_path / "monitor", MEMORY), *qemu.kernel(linux.kernel, linux.initramfs)]
    names: list[str] = []
    server = DnsServer({NAME: SERVICE}, on_query=lambda question, rcode: names.append(f"{question.name} {rcode}"))

    async def main() -> None:
        async with world(tmp_path / "ca.pem") as services, trio.open_nursery() as nursery:
            await nursery.start(partial(server.serve, services))
            async with open_machine(
                command,
                NetworkOptions.made_up(),
                use_vhost_user=kind.link == VHOST_USER,
                services=services,
                decide=decide,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            ) as machine:
                console = MachineConsole(machine)
                await console.wait_for("guest-is-ready\r?\n")
                await console.run(CONFIGURE)
                authority = (tmp_path / "ca.pem").read_text()
                await console.run(f"cat >/tmp/ca.pem <<END\n{authority}\nEND")
                served = await console.run(SERVED)
                greeting = GREETING.decode()
                assert f"plain\n{greeting * 2}secure\n{greeting * 2}equal\nhello\n" in served, served
                decided = await console.run(DECIDED)
                assert f"decided\n{greeting}status 7\n" in decided, decided
                assert "NXDOMAIN" in decided, decided
                network = await machine.wait_network()
                assert network.driver_statistics().sockets == 0
            nursery.cancel_scope.cancel()
        assert f"{NAME} NOERROR" in names
        assert "unknown.example NXDOMAIN" in names

    async def bounded() -> None:
        with trio.fail_after(LIMIT):
            await main()

    trio.run(bounded)
