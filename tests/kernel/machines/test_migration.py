"""A machine moves from one QEMU to another while it runs and its network is in use, to another back-end.

That every page a back-end writes is marked in the log is checked exactly in tests/core/vhost/test_dirty_log.py. A page
that is not would seldom be noticed here.
"""

from __future__ import annotations

import mmap
import os
import socket
import time
from pathlib import Path

import pytest

from tests.lab import SERVER4, SERVER6, Lab, served
from tests.lab.machines import INTERFACE, serving
from tests.lab.namespaces import eventually
from tests.lab.noise import Noise
from tests.lab.qemu import NEW, STREAM, VHOST_USER
from tests.lab.virtual_machines import Kind, Stable, VirtualMachine


def trickle(stream: socket.socket) -> None:
    """Send for ever, 5 MB a second."""
    while True:
        stream.sendall(bytes(50_000))
        time.sleep(0.01)


def memory(machine: VirtualMachine) -> mmap.mmap:
    """All memory of a machine."""
    for link in Path(f"/proc/{machine.process.pid}/fd").iterdir():
        if "memory-backend-memfd" in os.readlink(link):
            with link.open("rb") as file:
                return mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    raise AssertionError("QEMU has no memory that is shared")


# QEMU 7.2 loses pages by itself when a machine runs under TCG meanwhile.
@pytest.mark.parametrize("kind", [(NEW, STREAM), (NEW, VHOST_USER)], ids="-".join, indirect=True)
def test_a_machine_migrates_while_its_network_is_in_use(
    lab: Lab, stable: Stable, kind: Kind, noise: Noise, tmp_path: Path
) -> None:
    """Its connections are reset, and new ones work at once."""
    meeting = f"unix:{tmp_path / 'migration'}"
    with (
        served(lab.upstream.listen(SERVER4), trickle) as port,
        serving(lab, *kind.serve_options) as here,
        serving(lab, *kind.serve_options) as there,
        stable.machine(kind, here.path) as source,
        stable.machine(kind, there.path, incoming=meeting) as destination,
    ):
        source.load_driver()
        source.configure()
        received = f"cat /sys/class/net/{INTERFACE}/statistics/rx_bytes"
        source.shell(
            f"""
            (while echo hello; do usleep 20000; done | nc {SERVER4} {port}; touch /tmp/ended) >/dev/null 2>&1 &
            until [ $({received}) -gt 1000000 ]; do usleep 1000; done
            """
        )
        source.monitor.migrate(meeting)
        assert eventually(lambda: destination.monitor.status() == "paused")
        assert source.monitor.status() == "postmigrate"
        assert bytes(memory(source)) == bytes(memory(destination))
        destination.resume()
        destination.shell("until [ -e /tmp/ended ]; do usleep 10000; done")
        for server in (SERVER4, SERVER6):
            down = destination.shell(f"wget -q -O - {noise.url(server)} | sha256sum")
            assert down.stdout.split()[0] == noise.digest
        assert "disconnected" not in here.said() + there.said()
        assert here.end() == there.end() == 0


@pytest.mark.parametrize("kind", [(NEW, VHOST_USER)], ids="-".join, indirect=True)
def test_a_driver_starts_while_its_machine_migrates(
    lab: Lab, stable: Stable, kind: Kind, noise: Noise, tmp_path: Path
) -> None:
    """QEMU sets up the rings first and the log afterwards; the driver is loaded twice, so there are two logs."""
    meeting = f"unix:{tmp_path / 'migration'}"
    with (
        serving(lab, *kind.serve_options) as here,
        serving(lab, *kind.serve_options) as there,
        stable.machine(kind, here.path) as source,
        stable.machine(kind, there.path, incoming=meeting) as destination,
    ):
        source.monitor("migrate-set-parameters", max_bandwidth=1 << 20)
        source.monitor("migrate", uri=meeting)
        for again in (False, True):
            if again:
                source.shell("rmmod virtio_net")
            source.load_driver()
            source.configure()
            assert source.shell(f"wget -q -O - {noise.url(SERVER4)} | sha256sum").stdout.split()[0] == noise.digest
        assert source.monitor("query-migrate")["status"] == "active"
        source.monitor("migrate-set-parameters", max_bandwidth=1 << 34)
        assert eventually(lambda: destination.monitor.status() == "paused")
        assert bytes(memory(source)) == bytes(memory(destination))
        destination.resume()
        assert destination.shell(f"wget -q -O - {noise.url(SERVER4)} | sha256sum").stdout.split()[0] == noise.digest
        assert "disconnected" not in here.said() + there.said()
        assert here.end() == there.end() == 0
