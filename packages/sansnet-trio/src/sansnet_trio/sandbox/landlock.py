"""Landlock: no files, no TCP, and nothing of processes outside of the sandbox (landlock(7)).

Open files stay usable. Each version of the interface (ABI) adds kinds of access that can be forbidden; all kinds
that the kernel knows are.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Mapping
from contextlib import closing
from struct import Struct
from typing import Final

from sansnet_trio.sandbox.profile import Profile
from sansnet_trio.sandbox.system_calls import NUMBERS

__all__ = ["READ", "WRITE", "restrict", "version"]

# linux/landlock.h
_GET_VERSION: Final = 1
_PATH_BENEATH: Final = 1
_ATTRIBUTES: Final = Struct("=QQQ")  # struct landlock_ruleset_attr: files, network, scopes
_PATH_ATTRIBUTES: Final = Struct("=Qi")  # struct landlock_path_beneath_attr: access, descriptor
_SCOPE_ABSTRACT_UNIX_SOCKETS: Final = 1
_SCOPE_SIGNALS: Final = 2

_FILE_ACCESS: Final = {1: 1 << 13, 2: 1 << 14, 3: 1 << 15, 5: 1 << 16}
"""Version -> the first bit that it does not know of LANDLOCK_ACCESS_FS_*."""
_NETWORK_VERSION: Final = 4
_TCP_BIND_AND_CONNECT: Final = 3
_SCOPES_VERSION: Final = 6

READ: Final = 1 << 2 | 1 << 3
"""Reading files and directories, for `Profile.files`."""
WRITE: Final = 1 << 1 | 1 << 5 | 1 << 8 | 1 << 13 | 1 << 14
"""Writing, removing, making, renaming and truncating files, for `Profile.files`."""

_libc: Final = ctypes.CDLL(None, use_errno=True)


def version() -> int:
    """The version of Landlock's interface.

    Raises:
        OSError: ENOSYS if the kernel has no Landlock, EOPNOTSUPP if it was turned off; others if something forbids it.
    """
    return _call("landlock_create_ruleset", None, 0, _GET_VERSION)


def restrict(profile: Profile) -> int:
    """Restrict the calling thread for good. It must have no_new_privs.

    Returns:
        The version of Landlock's interface; 0 if the profile does not use it.

    Raises:
        OSError: see `version`.
    """
    if profile.files is None:
        return 0
    known = version()
    files = max(bits for since, bits in _FILE_ACCESS.items() if since <= known) - 1
    network = 0 if profile.connects or known < _NETWORK_VERSION else _TCP_BIND_AND_CONNECT
    scopes = _SCOPE_ABSTRACT_UNIX_SOCKETS | (0 if profile.signals else _SCOPE_SIGNALS)
    attributes = _ATTRIBUTES.pack(files, network, scopes if known >= _SCOPES_VERSION else 0)
    with closing(open(_call("landlock_create_ruleset", attributes, len(attributes), 0), "rb", buffering=0)) as rules:
        _allow(rules.fileno(), profile.files, files)
        _call("landlock_restrict_self", rules.fileno(), 0)
    return known


def _allow(rules: int, paths: Mapping[str, int], known: int) -> None:
    """Add rules for paths; those that do not exist are left out."""
    for path, access in paths.items():
        try:
            descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            _call("landlock_add_rule", rules, _PATH_BENEATH, _PATH_ATTRIBUTES.pack(access & known, descriptor), 0)
        finally:
            os.close(descriptor)


def _call(name: str, *arguments: int | bytes | None) -> int:
    words = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    number = NUMBERS[name][0]  # the same for all processors
    result: int = _libc.syscall(ctypes.c_long(number or 0), *words)
    if result == -1:
        code = ctypes.get_errno() or errno.ENOSYS
        raise OSError(code, os.strerror(code))
    return result
