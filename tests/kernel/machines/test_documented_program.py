"""The program of docs/how-to/put-a-machine-on-a-test-network.md, with a machine."""

from __future__ import annotations

import base64
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lab import Lab, initramfs
from tests.lab.initramfs import DRIVER
from tests.lab.machines import INTERFACE
from tests.lab.namespaces import running
from tests.lab.qemu import MEMORY, NEW, OLD, VHOST_USER
from tests.lab.virtual_machines import Kind

PAGE = Path("docs/how-to/put-a-machine-on-a-test-network.md")

SCRIPT = f"""
insmod {DRIVER}
ip link set {INTERFACE} up
udhcpc -i {INTERFACE} -n -q -f -t 5 -T 1 -s /bin/dhcp_script
wget -O - http://updates.example/new
ping -c 1 -W 5 192.0.2.77
wget -O - http://203.0.113.10/
poweroff -f
"""


@pytest.mark.parametrize("kind", [(OLD, VHOST_USER), (NEW, VHOST_USER)], indirect=True, ids="-".join)
def test_the_machine_reaches_the_program_and_nothing_else(
    lab: Lab, kind: Kind, linux: initramfs.Linux, tmp_path: Path
) -> None:
    [program] = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    path = lab.directory / "machine.py"
    path.write_text(program)
    qemu = [*kind.qemu.machine(lab.directory / "monitor", MEMORY), *kind.qemu.kernel(linux.kernel, linux.initramfs)]
    command = lab.host.command(sys.executable, "-W", "error", str(path), *qemu)
    heard = ""
    with running(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for line in process.stdout:
            heard += line
            if "guest-is-ready" in line:
                process.stdin.write(base64.b64encode(SCRIPT.encode()).decode() + "\n")
                process.stdin.flush()
        assert process.wait(60) == 0, heard
    assert "the machine asks: b'GET /new HTTP/1.1'" in heard, heard
    assert "503 Service Unavailable" in heard
    assert "1 packets received" in heard
    assert "203.0.113.10): Connection refused" in heard
