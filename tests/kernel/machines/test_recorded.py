"""Recordings of virtual machines, on both links: a replay makes the same outputs."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

import pytest

from sansnet_core.recording import Replay
from tests.lab import RUN_SANSNET, SERVER4, Echo, Lab, initramfs, served
from tests.lab.console import BOOT_SECONDS, Console
from tests.lab.initramfs import DRIVER
from tests.lab.machines import INTERFACE
from tests.lab.namespaces import running
from tests.lab.qemu import EACH_ONCE, MEMORY
from tests.lab.virtual_machines import Kind

PORT: Final = 8126


@pytest.mark.parametrize("kind", EACH_ONCE, indirect=True, ids="-".join)
def test_a_session_of_qemu(lab: Lab, kind: Kind, linux: initramfs.Linux) -> None:
    with (
        tempfile.TemporaryDirectory(dir=lab.directory) as place,
        served(lab.upstream.listen(SERVER4, PORT), Echo.stream),
    ):
        path = Path(place, "net.rec")
        program, *more = kind.qemu.program
        options = ["--qemu", program, "--link", kind.link, "--record", str(path)]
        arguments = [*more, "-m", str(MEMORY), "-nographic", "-no-reboot"]
        arguments += kind.qemu.kernel(linux.kernel, linux.initramfs)
        command = lab.host.command(*RUN_SANSNET[:-1], "qemu", *options, "--", *arguments)
        pipe = subprocess.PIPE
        with running(command, stdin=pipe, stdout=pipe, stderr=pipe) as process:
            console = Console(process)
            console.wait_for(re.compile("guest-is-ready\n"), BOOT_SECONDS)
            console.begin(
                f"insmod {DRIVER}; ip link set {INTERFACE} up;"
                f"udhcpc -i {INTERFACE} -n -q -f -t 5 -T 1 -O mtu -s /bin/dhcp_script;"
                f"ping -c 2 -W 5 {SERVER4}; head -c 300000 /dev/zero | nc {SERVER4} {PORT} | wc -c"
            )
            assert "300000" in console.end().stdout
            console.begin("poweroff -f")
            assert process.wait(20) == 0
        assert Replay(path.read_bytes()).run() > 50
        done = subprocess.run(
            [sys.executable, "-m", "sansnet_cli", "replay", str(path), "--show"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert f"{SERVER4}.{PORT}: Flags [S]" in done.stdout
