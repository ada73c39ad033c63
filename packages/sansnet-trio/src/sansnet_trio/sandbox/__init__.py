"""The sandbox: Landlock, seccomp and no privileges, which confine a process for good.

`confine` is the last step before a process reads bytes of a guest. See docs/security.md.

Names are loaded when they are first used, because a guest can be forked before most of them are needed.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sansnet_trio.sandbox.confinement import confine
    from sansnet_trio.sandbox.level import Level
    from sansnet_trio.sandbox.mode import Mode, choose, chosen
    from sansnet_trio.sandbox.profile import Profile

__all__ = ["Level", "Mode", "Profile", "choose", "chosen", "confine"]

_HOMES = {
    "confinement": ("confine",),
    "level": ("Level",),
    "mode": ("Mode", "choose", "chosen"),
    "profile": ("Profile",),
}


if not TYPE_CHECKING:  # otherwise type checkers would accept any name

    def __getattr__(name: str) -> object:
        """Import a name when it is first used (PEP 562)."""
        for home, names in _HOMES.items():
            if name in names:
                value = globals()[name] = getattr(import_module(f"{__name__}.{home}"), name)
                return value
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
