"""A Linux that boots in seconds: Debian's kernel for clouds, and an initial file system of busybox and a script.

The network card's driver is not loaded: tests load it, so that no state of the card is in a snapshot of the machine.
"""

from __future__ import annotations

import gzip
import re
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

from tests.lab.debian import CACHE, archive, codename

__all__ = ["DRIVER", "Linux", "compiled", "installed", "linux", "pack"]

DRIVER: Final = "/modules/virtio_net.ko"
"""In the guest: the driver to load."""

_HERE: Final = Path(__file__).parent
_TRAILER: Final = "TRAILER!!!"

_EARLY_MODULES: Final = (
    "virtio_ring",
    "virtio",
    "virtio_pci_legacy_dev",
    "virtio_pci_modern_dev",
    "virtio_pci",
    "failover",
    "net_failover",
)
"""Loaded at boot, in this order."""


class Linux(NamedTuple):
    """The files that QEMU boots."""

    kernel: Path
    initramfs: Path


def linux(extra: Mapping[str, bytes] | None = None, *, name: str = "initramfs") -> Linux:
    """A kernel and a file system, on a Debian.

    Args:
        extra: programs for the guest's /bin.
        name: of the file system in the cache, where it is made anew.
    """
    release = codename()
    assert release is not None
    files = archive(release).files("guest", ["busybox-static", ("linux-image-cloud-amd64", "linux-image-")])
    [kernel] = files.glob("boot/vmlinuz-*")
    made = CACHE / f"{name}.gz"
    made.write_bytes(gzip.compress(pack(_tree(files, extra or {})), 1))
    return Linux(kernel, made)


def installed(program: str) -> dict[str, bytes]:
    """A program of this system with its shared libraries, for the guest's /bin."""
    path = shutil.which(program)
    assert path is not None
    listed = subprocess.run(["ldd", path], check=True, capture_output=True, text=True).stdout
    libraries = [Path(found) for found in re.findall(r"(/\S+) \(0x", listed)]
    [loader] = [library.name for library in libraries if library.name.startswith("ld-linux")]
    # The libraries are in no directory in which the loader looks by itself
    start = f'#!/bin/sh\nexec /bin/{loader} --library-path /bin /bin/{program}.elf "$@"\n'
    return {
        program: start.encode(),
        f"{program}.elf": Path(path).read_bytes(),
        **{library.name: library.read_bytes() for library in libraries},
    }


@cache
def compiled(program: str) -> dict[str, bytes]:
    """A program of this folder in C, without shared libraries, for the guest's /bin."""
    with tempfile.TemporaryDirectory() as directory:
        made = Path(directory, program)
        options = ["-O1", "-Wall", "-Wextra", "-Werror", "-D_GNU_SOURCE", "-static"]
        subprocess.run(["gcc", *options, "-o", made, _HERE / f"{program}.c"], check=True)
        return {program: made.read_bytes()}


def _tree(files: Path, extra: Mapping[str, bytes]) -> Iterator[tuple[str, int, bytes]]:
    """Everything in the file system: path, mode and content. Of a device, the content is its numbers."""
    for directory in ("bin", "dev", "etc", "modules", "proc", "sys", "tmp"):
        yield directory, stat.S_IFDIR | 0o755, b""
    yield "dev/console", stat.S_IFCHR | 0o600, bytes([5, 1])
    yield "dev/null", stat.S_IFCHR | 0o666, bytes([1, 3])
    yield "init", stat.S_IFREG | 0o755, (_HERE / "guest_init.sh").read_bytes()
    yield "bin/dhcp_script", stat.S_IFREG | 0o755, (_HERE / "dhcp_script.sh").read_bytes()
    yield "bin/busybox", stat.S_IFREG | 0o755, next(files.glob("**/bin/busybox")).read_bytes()
    for module in (*_EARLY_MODULES, Path(DRIVER).stem):
        [found] = files.glob(f"**/{module}.ko")
        yield f"modules/{module}.ko", stat.S_IFREG | 0o644, found.read_bytes()
    yield "modules/early", stat.S_IFREG | 0o644, "\n".join((*_EARLY_MODULES, "")).encode()
    for program, content in extra.items():
        yield f"bin/{program}", stat.S_IFREG | 0o755, content


def pack(tree: Iterator[tuple[str, int, bytes]]) -> bytes:
    """Pack a file system for Linux to unpack, in the format `newc` of cpio(5). Devices in it need no privileges."""
    pieces = []
    for number, (path, mode, content) in enumerate((*tree, (_TRAILER, 0, b"")), 1):
        device = tuple(content) if stat.S_ISCHR(mode) else (0, 0)
        data = b"" if stat.S_ISCHR(mode) else content
        name = path.encode() + b"\0"
        fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(name), 0)
        header = b"070701" + b"".join(b"%08X" % field for field in fields)
        pieces += [_padded(header + name), _padded(data)]
    return b"".join(pieces)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
