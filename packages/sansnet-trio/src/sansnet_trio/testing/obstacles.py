"""Why a machine cannot make real guests, found by an attempt in a child process."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from functools import cache
from typing import Final

from sansnet_trio.guest.errors import GuestError
from sansnet_trio.guest.user_namespace import unshare_user
from sansnet_trio.links.tap import open_tap
from sansnet_trio.linux import syscalls

__all__ = ["attempt", "guest_obstacle"]

_SCRIPT: Final = "from sansnet_trio.testing.obstacles import attempt; print(attempt() or '', end='')"
_LIMIT: Final = 60.0
"""Seconds that the attempt may take on a busy machine."""


@cache
def guest_obstacle() -> str | None:
    """Why this machine cannot give a command a network of its own; None if it can.

    It tries once: in a child process it makes a user and a network namespace, and a tap in it. That takes some 100 ms.

    Returns:
        A sentence for people, such as the reason of a skipped test.
    """
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", _SCRIPT]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=_LIMIT, check=False)
    if done.returncode:
        return f"the attempt to make a guest failed: {done.stderr.strip().rpartition(chr(10))[2]}"
    return done.stdout or None


def attempt() -> str | None:
    """Move this process to new namespaces and make a tap there; the reason if that is not possible."""
    try:
        unshare_user()
        syscalls.unshare(syscalls.CLONE_NEWNET)
        fd, _ = open_tap("sansnet0", mtu=1500)
        os.close(fd)
    except GuestError as error:
        return str(error)
    except FileNotFoundError:
        return "there is no /dev/net/tun; load the module: modprobe tun (in a container: --device /dev/net/tun)"
    except OSError as error:
        if error.filename == "/dev/net/tun":
            return f"/dev/net/tun cannot be opened: {error.strerror}; allow this user to read and write it"
        if error.errno == errno.ENOSPC:
            return "no more network namespaces are allowed here; raise user.max_net_namespaces"
        return f"a network namespace with a tap cannot be made: {error.strerror}"
    return None
