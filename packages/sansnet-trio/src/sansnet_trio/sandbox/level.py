"""The level: how much of the sandbox a process has."""

from __future__ import annotations

from sansnet_core.records import Record

__all__ = ["Level"]


class Level(Record):
    """How much of the sandbox a process has. As text, it is one line.

    Attributes:
        seccomp: `enforce`, `log` or `off`.
        landlock: the version of Landlock's interface; 0 if it is not used.
        missing: the reasons why there is not more.
    """

    seccomp: str = "off"
    landlock: int = 0
    missing: tuple[str, ...] = ()

    def __str__(self) -> str:
        parts = [
            {"enforce": "system calls filtered", "log": "other system calls logged", "off": "no filter"}[self.seccomp],
            f"no files (Landlock {self.landlock})" if self.landlock else "files not restricted",
        ]
        return "; ".join([", ".join(parts), *self.missing])
