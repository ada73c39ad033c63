"""A confined `sansnet qemu` imports nothing, opens no file by its name and starts no process; see `test_sealed`."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.kernel.test_sealed import line, place
from tests.lab import SERVER4, Lab
from tests.lab.console import BOOT_SECONDS, Console
from tests.lab.initramfs import DRIVER, Linux
from tests.lab.machines import INTERFACE
from tests.lab.namespaces import running
from tests.lab.qemu import EACH_ONCE, MEMORY
from tests.lab.virtual_machines import Kind

__all__ = ["line", "place"]


@pytest.mark.parametrize("kind", EACH_ONCE, indirect=True, ids="-".join)
def test_qemu(lab: Lab, kind: Kind, line: list[str], place: Path, linux: Linux) -> None:
    program, *more = kind.qemu.program
    options = ["--qemu", program, "--link", kind.link, "-p", str(place / "capture"), "-c", str(place / "control")]
    arguments = [*more, "-m", str(MEMORY), "-nographic", "-no-reboot", *kind.qemu.kernel(*linux)]
    command = lab.host.command(*line, "sansnet", "qemu", *options, "--", *arguments)
    pipe = subprocess.PIPE
    with running(command, stdin=pipe, stdout=pipe, stderr=pipe) as process:
        console = Console(process)
        console.wait_for(re.compile("guest-is-ready\n"), BOOT_SECONDS)
        console.begin(
            f"insmod {DRIVER}; ip link set {INTERFACE} up; "
            f"udhcpc -i {INTERFACE} -n -q -f -t 5 -T 1 -s /bin/dhcp_script; ping -c 1 -W 5 {SERVER4}"
        )
        assert "1 packets received" in console.end().stdout
        console.begin("poweroff -f")
        assert process.wait(20) == 0
