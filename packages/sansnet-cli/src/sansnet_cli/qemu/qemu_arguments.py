"""What QEMU has to be told so that a machine's network is sansnet. Pure: text in, arguments out.

The user's arguments come first and stay as they are; ours are added behind them, so that ours get the places that are
left on the machine's buses. QEMU itself joins what two `-machine` say. Where its versions differ, `Version` decides.
"""

from __future__ import annotations

import itertools
import platform
import re
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Final, TypeAlias

from sansnet_cli.options.records import CommandLineError

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
"""Since then there is `-netdev stream`."""

_STREAM_RECONNECTS: Final = (8, 0)
_RECONNECT_MS: Final = (9, 2)
"""Since then seconds are deprecated."""
_MSIX_UNDER_TCG: Final = (10, 0)
"""7.2 crashes when a driver starts on a vhost-user card with MSI-X and without KVM; this version does not."""

_SECONDS: Final = 1
"""Between two tries to connect."""

_NAME: Final = "sansnet"
"""Of what we add. Objects, character devices and network back-ends have names of their own kind each."""

_DEFAULT_MEMORY: Final = 128 << 20
"""Of a machine without `-m` (DEFAULT_RAM_SIZE)."""
_MEMORY_UNIT: Final = 8192
"""QEMU rounds up to it."""
_SUFFIXES: Final = "bkmgtpe"
"""1, 1024, ... bytes."""

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
"""QEMU's names for what uname(2) calls otherwise."""


def program_for(machine: str | None = None) -> str:
    """The QEMU for machines like this one, or like another one that uname(2) names."""
    name = machine or platform.machine()
    return f"qemu-system-{_ARCHITECTURES.get(name, name)}"


def read_version(text: str) -> Version | None:
    """The version in what `--version` prints; None if that is not QEMU's."""
    found = re.match(r"QEMU emulator version (\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2])) if found else None


def check_arguments(arguments: Sequence[str], *, vhost_user: bool) -> None:
    """Look for arguments of the user's that cannot work.

    Raises:
        CommandLineError: there is one.
    """
    options = {_option(word) for word in arguments}
    if "daemonize" in options:
        raise CommandLineError(
            "-daemonize would leave the machine without its network; leave it out, or use `sansnet serve` for the "
            "network and start QEMU yourself"
        )
    if vhost_user and "mem-path" in options:
        raise CommandLineError(
            "-mem-path gives the machine memory that is not shared; make it -object memory-backend-file,id=m,share=on,"
            "mem-path=PATH,size=SIZE -machine memory-backend=m, or use --link stream"
        )


def changes_user(arguments: Sequence[str]) -> bool:
    """Whether the user's arguments have QEMU become another user, when it has begun."""
    return any(_option(word) in ("runas", "run-with") for word in arguments)


def machine_arguments(
    arguments: Sequence[str], version: Version, path: str, *, vhost_user: bool, mtu: int | None, has_kvm: bool
) -> list[str]:
    """All arguments for QEMU.

    Args:
        arguments: the user's.
        version: of QEMU.
        path: of the socket.
        vhost_user: which link it is.
        mtu: that the card is to have; None leaves it to the guest.
        has_kvm: whether the host lets QEMU use that, if the user wants it.

    Raises:
        CommandLineError: the size of the machine's memory is not to be understood.
    """
    # Nothing can be booted over this network, so the card has no ROM that would try.
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
    """The arguments for a network back-end that connects to a socket, and again when the connection has gone."""
    again = f",reconnect-ms={1000 * _SECONDS}" if version >= _RECONNECT_MS else f",reconnect={_SECONDS}"
    where = path.replace(",", ",,")
    if vhost_user:
        return ["-chardev", f"socket,id={name},path={where}{again}", "-netdev", f"vhost-user,id={name},chardev={name}"]
    if version < _STREAM_RECONNECTS:
        again = ""
    return ["-netdev", f"stream,id={name},server=off,addr.type=unix,addr.path={where}{again}"]


def _option(word: str) -> str:
    """The option that a word is, if it is one: QEMU takes one hyphen or two."""
    return word.removeprefix("-").removeprefix("-") if word.startswith("-") else ""


def _values(arguments: Sequence[str], *options: str) -> Iterator[str]:
    """What stands behind some options."""
    for word, value in itertools.pairwise(arguments):
        if _option(word) in options:
            yield value


def _wants_kvm(arguments: Sequence[str]) -> bool:
    """Whether KVM is the first accelerator to be tried; TCG is, if none is named."""
    named = [*_values(arguments, "accel"), *re.findall(r"\baccel=([^,]*)", ",".join(_machines(arguments)))]
    return "enable-kvm" in map(_option, arguments) or (bool(named) and re.match(r"kvm\b", named[0]) is not None)


def _machines(arguments: Sequence[str]) -> list[str]:
    return [*_values(arguments, "machine", "M")]


def _has_memory(arguments: Sequence[str]) -> bool:
    """Whether the user says what the machine's memory is, and so has to see to it that it is shared."""
    return any("memory-backend=" in text for text in _machines(arguments)) or any(
        "memdev=" in text for text in _values(arguments, "numa")
    )


def _memory_size(arguments: Sequence[str]) -> int:
    """Bytes of the machine's memory: a back-end must have exactly as many as `-m` says."""
    size = 0
    for text in _values(arguments, "m"):
        first = text.split(",")[0]
        given = [first] if "=" not in first else re.findall(r"(?:^|,)size=([^,]*)", text)
        for number in given:
            size = _bytes(number)
    return -(-(size or _DEFAULT_MEMORY) // _MEMORY_UNIT) * _MEMORY_UNIT


def _bytes(text: str) -> int:
    found = re.fullmatch(rf"(\d+(?:\.\d+)?)([{_SUFFIXES}]?)", text, re.ASCII | re.IGNORECASE)
    if found is None:
        raise CommandLineError(f"-m {text} for QEMU is no size that is understood here; give one like 1G, or 1024")
    return int(Fraction(found[1]) * 1024 ** _SUFFIXES.index(found[2].lower() or "m"))
