"""The modes of the sandbox, and the mode that the processes of this program use."""

from __future__ import annotations

from enum import Enum

__all__ = ["Mode", "choose", "chosen"]


class Mode(Enum):
    """The treatment of a system call that the profile does not have."""

    ENFORCE = "enforce"
    """The kernel ends the process, or refuses the call if the profile says so."""
    LOG = "log"
    """The kernel carries it out, and writes its number to the audit log (SECCOMP_RET_LOG)."""
    OFF = "off"
    """There is no sandbox."""


_chosen = Mode.OFF


def choose(mode: Mode) -> None:
    """Set the mode of this process, and of the processes that it starts from now on."""
    global _chosen
    _chosen = mode


def chosen() -> Mode:
    """The mode that was set by `choose`."""
    return _chosen
