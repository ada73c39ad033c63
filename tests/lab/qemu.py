"""The QEMUs that tests use, and their arguments for a machine on a link of sansnet."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from tests.lab.debian import archive, codename

__all__ = ["EACH_ONCE", "MEMORY", "NEW", "OLD", "STREAM", "VHOST_USER", "Qemu", "find_qemu"]

OLD: Final = "7.2"
"""The oldest version that is supported."""
NEW: Final = "10"
"""This one or a newer one."""

STREAM: Final = "stream"
VHOST_USER: Final = "vhost-user"

EACH_ONCE: Final = ((OLD, STREAM), (NEW, VHOST_USER))
"""Each version and each link once, for tests of something that does not depend on both together."""

MAC: Final = "52:54:00:12:34:56"
MEMORY: Final = 128
"""MiB of a machine that tests boot."""

_KERNEL_LINE: Final = (
    "console=ttyS0 panic=-1 reboot=t tsc=reliable no_timer_check mitigations=off nokaslr cryptomgr.notests quiet"
)
"""The parts that are left out halve the time that it takes to boot."""


@dataclass(frozen=True)
class Qemu:
    """An executable.

    Attributes:
        program: the executable, with the arguments for the paths of its files.
        version: of it.
    """

    program: tuple[str, ...]
    version: tuple[int, ...]

    def machine(self, monitor: Path, memory: int) -> list[str]:
        """A machine without a network, but some MiB of memory; its serial console is the terminal."""
        accelerator = ["-accel", "kvm", "-cpu", "host"] if _has_kvm() else ["-accel", "tcg", "-cpu", "qemu64"]
        shared = f"memory-backend-memfd,id=memory,size={memory}M,share=on"
        return [
            *self.program,
            *accelerator,
            *("-object", shared, "-machine", "pc,memory-backend=memory", "-m", str(memory), "-smp", "1"),
            *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", "stdio"),
            *("-qmp", f"unix:{monitor},server=on,wait=off"),
        ]

    def kernel(self, kernel: Path, initramfs: Path) -> list[str]:
        """The files that it boots."""
        return ["-kernel", str(kernel), "-initrd", str(initramfs), "-append", _KERNEL_LINE]

    def network(self, link: str, path: Path, *, reconnects: bool = False, properties: str = "") -> list[str]:
        """A network card whose other end is a socket.

        Args:
            link: `STREAM` or `VHOST_USER`.
            path: of the socket.
            reconnects: whether it tries again when the other end has gone.
            properties: of the card, if others than QEMU's own, with commas in between.
        """
        # Version 7.2 crashes when a driver starts on vhost-user with MSI-X, under TCG.
        vectors = ",vectors=0" if link == VHOST_USER and self.version < (8,) else ""
        again = "" if not reconnects else ",reconnect-ms=100" if self.version >= (9, 2) else ",reconnect=1"
        if link == VHOST_USER:
            netdev = ["-chardev", f"socket,id=back,path={path}{again}", "-netdev", "vhost-user,id=net0,chardev=back"]
        else:
            netdev = ["-netdev", f"stream,id=net0,server=off,addr.type=unix,addr.path={path}{again}"]
        more = f",{properties}" if properties else ""
        return [*netdev, "-device", f"virtio-net-pci,netdev=net0,mac={MAC},romfile={vectors}{more}"]


@cache
def find_qemu(version: str) -> Qemu | None:
    """A QEMU of a version, `OLD` or `NEW`; None if there is none for this system.

    On Debian 12 there are both: its own, and the one of its backports, which runs from the cache.
    """
    if codename() is None:
        return None
    if (installed := shutil.which("qemu-system-x86_64")) and _is(version, found := _qemu(installed)):
        return found
    if version == NEW and codename() == "bookworm":
        root = archive("bookworm-backports").files("qemu", ["qemu-system-x86", "qemu-system-data", "seabios"])
        firmware = [word for name in ("qemu", "seabios") for word in ("-L", str(root / "usr/share" / name))]
        return _qemu(str(root / "usr/bin/qemu-system-x86_64"), *firmware)
    return None


def _qemu(*program: str) -> Qemu:
    said = subprocess.run([*program, "--version"], check=True, capture_output=True, text=True).stdout
    numbers = re.search(r"version ([\d.]+)", said)
    assert numbers is not None, said
    return Qemu(program, tuple(int(number) for number in numbers[1].split(".")))


def _is(version: str, found: Qemu) -> bool:
    return found.version[:2] == (7, 2) if version == OLD else found.version >= (10,)


def _has_kvm() -> bool:
    """Whether the processor itself runs guests; a /dev/kvm that emulates one is slower than none."""
    flags = set(Path("/proc/cpuinfo").read_text().split())
    return bool(flags & {"svm", "vmx"}) and os.access("/dev/kvm", os.R_OK | os.W_OK)
