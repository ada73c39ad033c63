"""The level: how much of the sandbox a process has."""

from __future__ import annotations

from typing import Final

from sansnet_core.records import Record
from sansnet_trio.sandbox.mode import Mode

__all__ = ["Level"]

_FILTERS: Final = {
    Mode.ENFORCE: "only the system calls it needs",
    Mode.LOG: "other system calls than it needs are logged",
    Mode.OFF: "any system call",
}


class Level(Record):
    """How much of the sandbox a process has. As text, it is one line.

    Attributes:
        seccomp: what happens with system calls that the profile does not have.
        landlock: the version of Landlock's interface; 0 if it is not used.
        files: whether some files can be used.
        missing: the reasons why there is not more.
    """

    seccomp: Mode = Mode.OFF
    landlock: int = 0
    files: bool = True
    missing: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self == Level():
            return "off"
        files = f"{'some' if self.files else 'no'} files (Landlock {self.landlock})" if self.landlock else "any file"
        return "; ".join([f"{_FILTERS[self.seccomp]}, {files}", *self.missing])
