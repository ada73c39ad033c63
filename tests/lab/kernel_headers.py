"""The numbers of system calls, read from the kernel's headers (Debian's package linux-libc-dev)."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Final

__all__ = ["is_installed", "system_calls"]

_INCLUDE: Final = Path("/usr/include")
_FILES: Final = {
    "x86_64": _INCLUDE / "x86_64-linux-gnu/asm/unistd_64.h",
    "aarch64": _INCLUDE / "asm-generic/unistd.h",  # asm/unistd.h of aarch64 takes all of it but for 32 bits
}
_NEWER: Final = {
    "cachestat": 451,
    "map_shadow_stack": 453,
    "statmount": 457,
    "listmount": 458,
    "lsm_get_self_attr": 459,
    "lsm_set_self_attr": 460,
    "lsm_list_modules": 461,
    "mseal": 462,
    "setxattrat": 463,
    "open_tree_attr": 467,
}
"""Younger than the headers of some systems; the same on all architectures."""


def is_installed() -> bool:
    """Whether the headers are there."""
    return all(path.exists() for path in _FILES.values())


@cache
def system_calls(architecture: str) -> dict[str, int]:
    """The number of each system call by its name.

    Args:
        architecture: `x86_64` or `aarch64`.
    """
    text = _FILES[architecture].read_text()
    # At the end there are the names that 32-bit machines give to the calls with 64-bit offsets
    text = text.partition("#define __NR_fcntl64")[0]
    text = re.sub(r"#if defined\(__SYSCALL_COMPAT\) \|\| __BITS_PER_LONG == 32\n.*?#endif", "", text, flags=re.DOTALL)
    found = {name: int(number) for name, number in re.findall(r"#define __NR_?(\w+)\s+(\d+)\s*$", text, re.MULTILINE)}
    for name, other in re.findall(r"#define __NR_(\w+)\s+__NR(3264_\w+)", text):
        if other in found:
            found[name] = found[other]
    no_calls = {"syscalls", "arch_specific_syscall", *(name for name in found if name.startswith("3264_"))}
    return _NEWER | {name: number for name, number in found.items() if name not in no_calls}
