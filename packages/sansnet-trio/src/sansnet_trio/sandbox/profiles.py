"""The profiles of sansnet's processes."""

from __future__ import annotations

from collections.abc import Collection
from enum import Enum
from typing import Final

from sansnet_trio.sandbox.profile import Profile

__all__ = ["BROKER", "REAPER", "RESIDENT", "SOCKET_AGENT", "Feature", "main"]


class Feature(Enum):
    """A feature for which the process that serves a guest needs further system calls."""

    FORWARDS = "forwards"
    """Ports are forwarded, or may be by the control socket."""
    AUTO = "auto"
    """Forwarded ports follow the programs that listen."""
    CONTROL = "control"
    """There is a control socket."""
    SYSLOG = "syslog"
    """Messages go to the system's log."""
    CHILD = "child"
    """A child is waited for and gets signals: a command, or QEMU."""
    MACHINES = "machines"
    """Virtual machines connect to a socket."""
    VHOST_USER = "vhost-user"
    """Virtual machines share their memory."""
    DIRECTORY = "directory"
    """A namespace ends when its file is removed."""


def main(features: Collection[Feature]) -> Profile:
    """The profile of the process that serves a guest."""
    return Profile(name="sansnet")


BROKER: Final = Profile(name="broker")
"""The process that opens files, and watches the host's network."""
SOCKET_AGENT: Final = Profile(name="socket agent")
"""The process that makes sockets in the guest's network."""
RESIDENT: Final = Profile(name="resident")
"""The process that changes addresses and routes of the guest's interface."""
REAPER: Final = Profile(name="reaper")
"""Process 1 of the guest's PID namespace."""
