"""The mounts that this process sees (/proc/PID/mountinfo in proc(5))."""

from __future__ import annotations

import re
from typing import Final

from sansnet_core.records import Record

__all__ = ["Mount", "read_mounts"]

_ESCAPED: Final = r"\\([0-7]{3})"


class Mount(Record, kw_only=False):
    """A mount.

    Attributes:
        device: MAJOR:MINOR of its file system.
        root: the directory of the file system that is mounted.
        point: the path where it is mounted.
        options: its options.
        kind: the type of its file system, such as proc.
        own_options: the options of the file system, not of the mount.
    """

    device: str
    root: str
    point: str
    options: list[str]
    kind: str
    own_options: list[str]


def read_mounts(path: str = "/proc/self/mountinfo") -> list[Mount]:
    """The mounts, in the order of the file.

    Any user may mount something with FUSE, and choose its path and source. The kernel escapes spaces, tabs, newlines
    and backslashes in them, and no other character; a source may be empty.

    Raises:
        OSError: the file cannot be read.
    """
    with open(path, encoding="utf-8", errors="surrogateescape", newline="\n") as file:
        return [_parse(line) for line in file.read().split("\n") if line]


def _parse(line: str) -> Mount:
    before, _, after = line.partition(" - ")  # in a path, these spaces would be escaped
    _, _, device, root, point, options, *_ = before.split(" ")
    kind, _, own_options = after.split(" ", 2)
    return Mount(device, _unescaped(root), _unescaped(point), options.split(","), kind, own_options.split(","))


def _unescaped(text: str) -> str:
    return re.sub(_ESCAPED, lambda match: chr(int(match[1], 8)), text) if "\\" in text else text
