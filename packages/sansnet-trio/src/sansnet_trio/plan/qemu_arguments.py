"""The arguments with which QEMU uses sansnet as a machine's network. Pure: text in, arguments out.

The user's arguments come first and stay unchanged. Ours follow, so that our devices get the free slots of the buses.
QEMU merges the properties of several `-machine` options. `Version` decides where its versions differ.
"""

from __future__ import annotations

import itertools
import platform
import re
from collections.abc import Iterator, Sequence
from typing import Final, TypeAlias

from sansnet_core.errors import UsageError
from sansnet_trio.plan.options import OptionsError
from sansnet_trio.words import word

__all__ = [
    "OLDEST",
    "Version",
    "changes_user",
    "check_arguments",
    "machine_arguments",
    "netdev",
    "program_for",
    "read_version",
]

Version: TypeAlias = tuple[int, int]
"""Major and minor number."""

OLDEST: Final = (7, 2)
"""The first version with `-netdev stream`."""

_STREAM_RECONNECTS: Final = (8, 0)
_RECONNECT_MS: Final = (9, 2)
"""From this version on, `reconnect` in seconds is deprecated."""
_MSIX_UNDER_TCG: Final = (10, 0)
"""QEMU 7.2 without KVM crashes when a driver starts on a vhost-user card with MSI-X; this version does not."""

_SECONDS: Final = 1
"""Seconds between two attempts to connect."""

_NAME: Final = "sansnet"
"""The name of our object, character device and network back-end, which are separate name spaces in QEMU."""

_DEFAULT_MEMORY: Final = 128 << 20
"""Bytes of memory of a machine without `-m` (DEFAULT_RAM_SIZE)."""
_MEMORY_UNIT: Final = 8192
"""Bytes. QEMU rounds memory sizes up to a multiple of it."""
_SUFFIXES: Final = "bkmgtpe"
"""Units of 1, 1024, ... bytes."""

_ETHERNET_MTU: Final = 1500

_ARCHITECTURES: Final = {
    "amd64": "x86_64",
    "armv6l": "arm",
    "armv7l": "arm",
    "armv8l": "arm",
    "i486": "i386",
    "i586": "i386",
    "i686": "i386",
    "ppc64le": "ppc64",
}
"""QEMU's names of architectures, by the name in uname(2), if the two differ."""


def program_for(machine: str | None = None) -> str:
    """The QEMU program for an architecture, named as in uname(2); None is that of this machine."""
    name = machine or platform.machine()
    return f"qemu-system-{_ARCHITECTURES.get(name, name)}"


def read_version(text: str) -> Version | None:
    """Read the output of `--version`; None if it is not QEMU's."""
    found = re.match(r"QEMU emulator version (\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2])) if found else None


def check_arguments(arguments: Sequence[str], *, vhost_user: bool) -> None:
    """Check the user's arguments.

    Raises:
        OptionsError: one of them cannot work with sansnet.
    """
    options = {_option(word) for word in arguments}
    if "daemonize" in options:
        raise OptionsError(
            "-daemonize would leave the machine without its network; leave it out, or use `sansnet serve` for the "
            "network and start QEMU yourself"
        )
    if vhost_user and "mem-path" in options:
        raise OptionsError(
            "-mem-path gives the machine memory that is not shared; leave it out, or make it -object "
            "memory-backend-file,id=m,share=on,mem-path=PATH,size=SIZE -machine memory-backend=m with "
            f"{word('allow_unsealed=True')}, or give {word('use_vhost_user=False')}"
        )


def changes_user(arguments: Sequence[str]) -> bool:
    """Whether the user's arguments make QEMU change to another user after its start."""
    return any(_option(word) in ("runas", "run-with") for word in arguments)


def machine_arguments(
    arguments: Sequence[str], version: Version, path: str, *, vhost_user: bool, mtu: int | None, has_kvm: bool
) -> list[str]:
    """Add our arguments to those of the user.

    Args:
        arguments: the user's arguments for QEMU.
        version: QEMU's version.
        path: path of our socket.
        vhost_user: whether the link is vhost-user, and not a stream socket.
        mtu: MTU of the card, in bytes; None leaves it to the guest.
        has_kvm: whether the host allows QEMU to use KVM.

    Raises:
        OptionsError: the size of the machine's memory cannot be parsed.
    """
    if isinstance(arguments, str):
        raise UsageError(f"arguments: {arguments!r:.100} is one string; give a sequence, such as ['-m', '512']")
    # The card has no boot ROM: nothing can be booted over this network
    card = f"virtio-net-pci,netdev={_NAME},romfile="
    if mtu not in (None, _ETHERNET_MTU):
        card += f",host_mtu={mtu}"
    if vhost_user and version < _MSIX_UNDER_TCG and not (has_kvm and _wants_kvm(arguments)):
        card += ",vectors=0"
    made = [*arguments]
    if vhost_user and not _has_memory(arguments):
        memory = f"memory-backend-memfd,id={_NAME},size={_memory_size(arguments)},share=on"
        made += ["-object", memory, "-machine", f"memory-backend={_NAME}"]
    return [*made, *netdev(path, version, vhost_user=vhost_user, name=_NAME), "-device", card]


def netdev(path: str, version: Version, *, vhost_user: bool, name: str) -> list[str]:
    """The arguments for a network back-end that connects to a socket, and reconnects if the connection is lost."""
    again = f",reconnect-ms={1000 * _SECONDS}" if version >= _RECONNECT_MS else f",reconnect={_SECONDS}"
    where = path.replace(",", ",,")
    if vhost_user:
        return ["-chardev", f"socket,id={name},path={where}{again}", "-netdev", f"vhost-user,id={name},chardev={name}"]
    if version < _STREAM_RECONNECTS:
        again = ""
    return ["-netdev", f"stream,id={name},server=off,addr.type=unix,addr.path={where}{again}"]


def _option(word: str) -> str:
    """The name of the option, if the word is one. QEMU accepts one hyphen or two."""
    return word.removeprefix("-").removeprefix("-") if word.startswith("-") else ""


def _values(arguments: Sequence[str], *options: str) -> Iterator[str]:
    """The values of some options."""
    for option, value in itertools.pairwise(arguments):
        if _option(option) in options:
            yield value


def _wants_kvm(arguments: Sequence[str]) -> bool:
    """Whether KVM is the first accelerator that QEMU tries; without an option, TCG is."""
    named = [*_values(arguments, "accel"), *re.findall(r"\baccel=([^,]*)", ",".join(_machines(arguments)))]
    return "enable-kvm" in map(_option, arguments) or (bool(named) and re.match(r"kvm\b", named[0]) is not None)


def _machines(arguments: Sequence[str]) -> list[str]:
    return [*_values(arguments, "machine", "M")]


def _has_memory(arguments: Sequence[str]) -> bool:
    """Whether the user's arguments define the machine's memory. Then the user must make it shared."""
    return any("memory-backend=" in text for text in _machines(arguments)) or any(
        "memdev=" in text for text in _values(arguments, "numa")
    )


def _memory_size(arguments: Sequence[str]) -> int:
    """Bytes of the machine's memory. A memory back-end must have exactly the size that `-m` gives."""
    size = 0
    for text in _values(arguments, "m"):
        first = text.split(",")[0]
        numbers = [first] if "=" not in first else re.findall(r"(?:^|,)size=([^,]*)", text)
        for number in numbers:
            size = _bytes(number)
    return -(-(size or _DEFAULT_MEMORY) // _MEMORY_UNIT) * _MEMORY_UNIT


def _bytes(text: str) -> int:
    found = re.fullmatch(rf"(\d+(?:\.\d+)?)([{_SUFFIXES}]?)", text, re.ASCII | re.IGNORECASE)
    if found is None:
        raise OptionsError(f"-m {text} for QEMU is not a size; give one like 1G, or 1024")
    from fractions import Fraction

    return int(Fraction(found[1]) * 1024 ** _SUFFIXES.index(found[2].lower() or "m"))
