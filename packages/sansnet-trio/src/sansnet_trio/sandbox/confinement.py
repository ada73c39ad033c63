"""Confining a process: Landlock, seccomp and no privileges, as far as the kernel has them."""

from __future__ import annotations

import errno
import sys

from sansnet_trio.linux import privileges, syscalls
from sansnet_trio.sandbox import landlock, seccomp
from sansnet_trio.sandbox.level import Level
from sansnet_trio.sandbox.mode import Mode
from sansnet_trio.sandbox.profile import Profile

__all__ = ["confine"]


def confine(profile: Profile, mode: Mode = Mode.ENFORCE) -> Level:
    """Confine this process for good. It should have one thread only, since Landlock holds for the calling one.

    A kernel that lacks something, or refuses it, is no error: the level says what is missing.

    Args:
        profile: the system calls and files that it may use.
        mode: what happens with others. Landlock only refuses, so it is not used with `LOG`.

    Returns:
        How much of the sandbox the process has.
    """
    if mode is Mode.OFF:
        return Level()
    if (deactivate := getattr(sys, "deactivate_stack_trampoline", None)) is not None:  # Python 3.12 and newer
        deactivate()  # with PYTHONPERFSUPPORT, each function that runs the first time would get executable memory
    compiles = getattr(getattr(sys, "_jit", None), "is_enabled", bool)()  # Python 3.14 and newer
    missing: list[str] = []
    found = 0
    filtered = Mode.OFF
    try:
        privileges.forbid_new_privileges()
        syscalls.forbid_dump()
    except OSError as error:
        return Level(missing=(f"no_new_privs: {error.strerror}",))
    if mode is Mode.ENFORCE:
        try:
            found = landlock.restrict(profile)
        except OSError as error:
            missing.append(f"Landlock: {_LANDLOCK_REASONS.get(error.errno or 0, error.strerror)}")
    try:
        if compiles:
            raise OSError(errno.ENOTSUP, "this Python compiles code while it runs; set PYTHON_JIT=0")
        seccomp.install(profile, mode)
        filtered = mode
    except OSError as error:
        missing.append(f"seccomp: {_SECCOMP_REASONS.get(error.errno or 0, error.strerror)}")
    return Level(seccomp=filtered, landlock=found, files=profile.files != {}, missing=tuple(missing))


_LANDLOCK_REASONS = {
    errno.ENOSYS: "the kernel has none (Linux 5.13)",
    errno.EOPNOTSUPP: "the kernel was started without it (lsm=)",
    errno.EPERM: "something forbids it, such as a container",
}
_SECCOMP_REASONS = {
    errno.ENOSYS: "not for this kernel or processor",
    errno.EINVAL: "the kernel was built without filters",
    errno.EPERM: "something forbids it, such as a container",
}
