"""`sansnet qemu`: a machine and its network from one line."""

from __future__ import annotations

import re
import subprocess

from tests.lab import HOST4, RUN_SANSNET, SERVER4, Lab
from tests.lab.console import BOOT_SECONDS, Console
from tests.lab.initramfs import DRIVER, Linux
from tests.lab.machines import INTERFACE
from tests.lab.namespaces import running
from tests.lab.qemu import MEMORY
from tests.lab.virtual_machines import Kind


def test_one_line_boots_a_machine_with_a_network(lab: Lab, kind: Kind, linux: Linux) -> None:
    program, *more = kind.qemu.program
    options = ["--qemu", program, "--link", kind.link, "--mtu", "9000", "--hostname", "visitor"]
    arguments = [*more, "-m", str(MEMORY), "-nographic", "-no-reboot", *kind.qemu.kernel(*linux)]
    command = lab.host.command(*RUN_SANSNET[:-1], "qemu", *options, "--", *arguments)
    pipe = subprocess.PIPE
    with running(command, stdin=pipe, stdout=pipe, stderr=pipe) as process:
        console = Console(process)
        console.wait_for(re.compile("guest-is-ready\n"), BOOT_SECONDS)
        console.begin(f"insmod {DRIVER}; ip link set {INTERFACE} up; cat /sys/class/net/{INTERFACE}/mtu")
        assert console.end().stdout.strip() == "9000"
        console.begin(
            f"udhcpc -i {INTERFACE} -n -q -f -t 5 -T 1 -O mtu -s /bin/dhcp_script;"
            f"ip address show dev {INTERFACE}; ping -c 1 -W 5 {SERVER4}"
        )
        done = console.end()
        assert f"inet {HOST4}/24" in done.stdout
        assert "1 packets received" in done.stdout, done.stdout
        console.begin("poweroff -f")
        assert process.wait(20) == 0
        assert process.stderr is not None
        assert "sansnet" not in process.stderr.read()
