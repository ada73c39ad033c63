"""The README's command lines for QEMU, run as they stand there."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import pytest

from tests.examples.test_readme import block
from tests.lab import SERVER4, SERVER6, Lab, initramfs
from tests.lab.namespaces import eventually, running
from tests.lab.qemu import NEW, OLD, STREAM, VHOST_USER, find_qemu
from tests.lab.qmp import Qmp
from tests.lab.virtual_machines import VirtualMachine

SANSNET = Path(sys.executable).parent / "sansnet"


@pytest.mark.parametrize("link", [STREAM, VHOST_USER])
def test_a_machine_has_its_network_from_the_first_line_on(
    lab: Lab, linux: initramfs.Linux, link: str, tmp_path: Path
) -> None:
    qemu = find_qemu(OLD) or find_qemu(NEW)
    assert qemu is not None
    socket, monitor, pid_file = tmp_path / "guest.socket", tmp_path / "monitor", tmp_path / "pid"
    disk = [*qemu.kernel(*linux), "-nodefaults", "-display", "none", "-serial", "stdio", "-no-reboot"]
    disk += ["-accel", "tcg", "-cpu", "qemu64", "-qmp", f"unix:{monitor},server=on,wait=off"]
    recipe = block("sh", "-netdev stream" if link == STREAM else "-netdev vhost-user")
    for shown, here in {
        "/tmp/guest.socket": str(socket),
        "sansnet serve": f"{SANSNET} serve --pid {pid_file}",
        "qemu-system-x86_64": shlex.join(["exec", *qemu.program]),
        "-drive file=disk.qcow2": shlex.join(disk),
    }.items():
        assert shown in recipe
        recipe = recipe.replace(shown, here)
    command = lab.host.command("setpriv", "--pdeathsig", "KILL", "--", "sh", "-ec", recipe)
    with ExitStack() as stack, running(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert eventually(lambda: monitor.exists() or process.poll() is not None)
        stack.callback(end, int(pid_file.read_text()))
        assert process.poll() is None
        with closing(Qmp(monitor)) as connection:
            machine = VirtualMachine(process, connection)
            machine.wait_until_ready()
            machine.load_driver()
            machine.configure()
            machine.shell(f"ping -c1 -W5 {SERVER4} && ping -c1 -W5 {SERVER6}")
        process.kill()
        # sansnet ends with the machine, so the same lines may follow
        assert eventually(lambda: not socket.exists() and not pid_file.exists())


def end(process: int) -> None:
    """End a process if it runs; of ours, only one that has failed does."""
    with suppress(ProcessLookupError):
        os.kill(process, signal.SIGTERM)
