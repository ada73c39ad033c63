"""Virtual machines that run Linux, and are there in a fraction of a second: each is a copy of one that has booted."""

from __future__ import annotations

import itertools
import re
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from tests.lab.console import Console
from tests.lab.initramfs import DRIVER, Linux
from tests.lab.laboratory import Lab
from tests.lab.machines import INTERFACE, serving
from tests.lab.namespaces import eventually, running
from tests.lab.qemu import Qemu
from tests.lab.qmp import Qmp

__all__ = ["Stable", "VirtualMachine", "serve_options"]

READY_LINE: Final = re.compile("guest-is-ready\n")
_BOOT_SECONDS: Final = 60.0
_numbers: Final = itertools.count()


def serve_options(link: str) -> tuple[str, ...]:
    """What makes `sansnet serve` serve that link."""
    return ("--vhost-user",) if link == "vhost-user" else ()


class VirtualMachine:
    """A machine whose kernel runs, with a shell on its console.

    Attributes:
        process: QEMU.
        console: where scripts are run.
        monitor: of QEMU.
    """

    def __init__(self, process: subprocess.Popen[str], monitor: Qmp) -> None:
        self.process = process
        self.console = Console(process)
        self.monitor = monitor

    def shell(self, script: str, *, timeout: float = 60.0, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a shell script in the machine, by busybox.

        Raises:
            AssertionError: it failed, and `check` was not turned off, or took too long. The message has its output.
        """
        self.console.begin(script)
        done = self.console.end(timeout)
        assert not check or done.returncode == 0, f"{script}: status {done.returncode}\n{done.stdout[-4000:]}"
        return done

    def load_driver(self) -> None:
        """Load the network card's driver."""
        self.shell(f"insmod {DRIVER}")

    def configure(self) -> None:
        """Get addresses: by DHCP, and by the router advertisement that the kernel asks for."""
        self.shell(
            f"""
            cd /proc/sys/net/ipv6/conf/{INTERFACE}
            echo 0 >accept_dad
            echo 0 >router_solicitation_delay
            ip link set {INTERFACE} up
            udhcpc -i {INTERFACE} -n -q -f -t 5 -T 1 -O mtu -s /bin/dhcp_script
            for try in $(seq 50); do
                ip -6 route | grep -q ^default && exit
                usleep 100000
            done
            exit 1
            """
        )


class Stable:
    """Machines, each a copy of one that has booted for its kind of network card.

    Args:
        lab: where servers run.
        linux: what they boot.
    """

    def __init__(self, lab: Lab, linux: Linux) -> None:
        self._lab = lab
        self._linux = linux
        self._snapshots: dict[tuple[Qemu, str], Path] = {}

    @contextmanager
    def machine(self, qemu: Qemu, link: str, path: Path, *, reconnects: bool = False) -> Iterator[VirtualMachine]:
        """A machine that runs, on a link to whoever listens on a path; its network card has no driver yet."""
        snapshot = self._snapshots.get((qemu, link))
        if snapshot is None:
            snapshot = self._snapshots[qemu, link] = self._boot(qemu, link)
        network = qemu.network(link, path, reconnects=reconnects)
        with self._started(qemu, [*network, "-incoming", f"exec:cat {snapshot}"]) as machine:
            assert eventually(lambda: machine.monitor.status() != "inmigrate")
            machine.monitor("cont")
            yield machine

    def _boot(self, qemu: Qemu, link: str) -> Path:
        snapshot = self._lab.directory / f"snapshot-{next(_numbers)}"
        with serving(self._lab, *serve_options(link)) as server:
            arguments = [*qemu.network(link, server.path), *qemu.kernel(*self._linux)]
            with self._started(qemu, arguments) as machine:
                machine.console.wait_for(READY_LINE, _BOOT_SECONDS)
                machine.monitor("stop")
                machine.monitor.migrate(f"exec:cat >{snapshot}")
        return snapshot

    @contextmanager
    def _started(self, qemu: Qemu, arguments: Sequence[str]) -> Iterator[VirtualMachine]:
        monitor = self._lab.directory / f"monitor-{next(_numbers)}"
        command = ["setpriv", "--pdeathsig", "KILL", "--", *qemu.machine(monitor), *arguments]
        with (
            tempfile.TemporaryFile("w+") as errors,
            running(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors) as process,
        ):
            assert eventually(lambda: monitor.exists() or process.poll() is not None)
            if process.poll() is not None:
                errors.seek(0)
                raise AssertionError(f"QEMU ended with status {process.returncode}: {errors.read()}")
            with closing(Qmp(monitor)) as connection:
                yield VirtualMachine(process, connection)
