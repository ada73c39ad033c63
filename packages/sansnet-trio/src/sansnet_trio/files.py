"""Whole files of a few lines, as /proc has them. `pathlib` does the same, but takes longer to load."""

from __future__ import annotations

__all__ = ["read", "write"]


def read(path: str) -> str:
    """The text of a file, whatever its bytes are.

    Raises:
        OSError: it cannot be read.
    """
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


def write(path: str, text: str) -> None:
    """Make a text all that a file has; in /proc, in one system call.

    Raises:
        OSError: it cannot be written.
    """
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
