"""Virtual machines with Linux that start in a fraction of a second: each is a copy of one that has booted."""

from __future__ import annotations

import itertools
import re
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from tests.lab.console import BOOT_SECONDS, Console
from tests.lab.initramfs import DRIVER, Linux
from tests.lab.laboratory import Lab
from tests.lab.machines import INTERFACE, serving
from tests.lab.namespaces import eventually, running
from tests.lab.qemu import MEMORY, VHOST_USER, Qemu
from tests.lab.qmp import Qmp

__all__ = ["Kind", "Stable", "VirtualMachine"]

_READY: Final = re.compile("guest-is-ready\n")
_numbers: Final = itertools.count()


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

    def wait_until_ready(self) -> None:
        """Wait until it has booted."""
        self.console.wait_for(_READY, BOOT_SECONDS)

    def resume(self) -> None:
        """Run, after the whole state of another machine has arrived."""
        assert eventually(lambda: self.monitor.status() != "inmigrate")
        self.monitor("cont")

    def load_driver(self) -> None:
        """Load the network card's driver."""
        self.shell(f"insmod {DRIVER}")

    def configure(self, *, ipv6: bool = True) -> None:
        """Get addresses: by DHCP, and by the router advertisement that the kernel asks for."""
        self.shell(
            f"""
            cd /proc/sys/net/ipv6/conf/{INTERFACE}
            echo 0 >accept_dad
            echo 0 >router_solicitation_delay
            ip link set {INTERFACE} up
            udhcpc -i {INTERFACE} -n -q -f -t 5 -T 1 -O mtu -s /bin/dhcp_script
            """
        )
        has_route = f"ip -6 route show dev {INTERFACE} | grep -q ^default"
        assert not ipv6 or eventually(lambda: self.shell(has_route, check=False).returncode == 0)


class Kind(NamedTuple):
    """A kind of machine: an executable, and the link of its network card."""

    qemu: Qemu
    link: str

    @property
    def serve_options(self) -> tuple[str, ...]:
        """The options of `sansnet serve` for that link."""
        return ("--vhost-user",) if self.link == VHOST_USER else ()


class Stable:
    """Machines, each a copy of one of its kind that has booted.

    Args:
        lab: where servers run.
        linux: what they boot.
        memory: of each, in MiB.
    """

    def __init__(self, lab: Lab, linux: Linux, *, memory: int = MEMORY) -> None:
        self._lab = lab
        self._linux = linux
        self._memory = memory
        self._snapshots: dict[Kind, Path] = {}

    @contextmanager
    def served(self, kind: Kind, *options: str, properties: str = "") -> Iterator[VirtualMachine]:
        """A machine on a `sansnet serve` of its own, with addresses of both families."""
        with (
            serving(self._lab, *kind.serve_options, *options) as server,
            self.machine(kind, server.path, properties=properties) as machine,
        ):
            machine.load_driver()
            machine.configure()
            yield machine

    @contextmanager
    def machine(
        self, kind: Kind, path: Path, *, reconnects: bool = False, properties: str = "", incoming: str = ""
    ) -> Iterator[VirtualMachine]:
        """A running machine on a link to the listener at a path; its network card has no driver yet.

        Args:
            kind: of it.
            path: of the socket.
            reconnects: whether it connects again when the other end has gone.
            properties: of the network card, if others than QEMU's own.
            incoming: where the state of another machine comes from, which it waits for.
        """
        network = kind.qemu.network(kind.link, path, reconnects=reconnects, properties=properties)
        source = incoming or f"exec:cat {self._snapshot(kind)}"
        with self._started(kind.qemu, [*network, "-incoming", source, "-S"]) as machine:
            if not incoming:
                machine.resume()
            yield machine

    @contextmanager
    def booted(self, kind: Kind, path: Path) -> Iterator[VirtualMachine]:
        """A machine that boots now, instead of a copy."""
        with self._started(
            kind.qemu, [*kind.qemu.network(kind.link, path), *kind.qemu.kernel(*self._linux)]
        ) as machine:
            machine.wait_until_ready()
            yield machine

    def _snapshot(self, kind: Kind) -> Path:
        """A file with the state of a machine that has booted."""
        if kind not in self._snapshots:
            made = self._lab.directory / f"snapshot-{next(_numbers)}"
            with serving(self._lab, *kind.serve_options) as server, self.booted(kind, server.path) as machine:
                machine.monitor("stop")
                machine.monitor.migrate(f"exec:cat >{made}")
            self._snapshots[kind] = made
        return self._snapshots[kind]

    @contextmanager
    def _started(self, qemu: Qemu, arguments: Sequence[str]) -> Iterator[VirtualMachine]:
        monitor = self._lab.directory / f"monitor-{next(_numbers)}"
        command = ["setpriv", "--pdeathsig", "KILL", "--", *qemu.machine(monitor, self._memory), *arguments]
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
