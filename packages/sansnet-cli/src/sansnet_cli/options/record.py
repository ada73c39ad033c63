"""The options of a recording, which `sansnet replay` runs again."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from sansnet_cli.options import values
from sansnet_cli.options.records import CommandLineError

if TYPE_CHECKING:
    import argparse

__all__ = ["MIN_SIZE", "add_record_options", "check_record", "record_options", "size"]

MIN_SIZE: Final = 1 << 20
"""Bytes of the smallest `--record-size`; see `RecordingFile`."""

_UNITS: Final = {"": 0, "K": 10, "M": 20, "G": 30}


def add_record_options(group: argparse._ArgumentGroup) -> None:
    """Add these options to a command with a guest."""
    group.add_argument(
        "--record",
        metavar="FILE",
        help="record all inputs of the guest's network to FILE, or to a new file if FILE is a directory, for `sansnet "
        "replay`; it has all data of the guest but that of connections between two loopbacks (-T, -U), and earlier "
        "parts are in FILE.1",
    )
    group.add_argument(
        "--record-size",
        type=values.typed(size),
        metavar="SIZE",
        help="let FILE and FILE.1 together have about SIZE, in bytes or with K, M or G; the state of a busy network "
        "may need some MiB more; default: 256M",
    )


def record_options(parsed: argparse.Namespace) -> dict[str, Any]:
    """The fields of `CommandOptions` for these options; none for options that were not given.

    Raises:
        CommandLineError: an option is wrong, or another one names the same file.
    """
    if parsed.record is None:
        if parsed.record_size is not None:
            raise CommandLineError("--record-size needs --record FILE; give both, or leave it out")
        return {}
    others = {"-p": parsed.pcap, **{f"--{name}": getattr(parsed, name) for name in ("policy", "audit", "learn")}}
    check_record(parsed.record, others)
    found: dict[str, Any] = {"record": parsed.record}
    if parsed.record_size is not None:
        found["record_size"] = parsed.record_size
    return found


def check_record(path: str, others: Mapping[str, str | None]) -> None:
    """Check the name of the file of `--record`.

    Args:
        path: the name.
        others: the names of other files by their options; None for no file.

    Raises:
        CommandLineError: it is no name of a file, or that of another file.
    """
    if not path:
        raise CommandLineError("--record names no file; give a path")
    if path == "-":
        raise CommandLineError("--record - cannot write to stdout, which is the command's; give a file or a FIFO")
    for option, other in others.items():
        if other is not None and os.path.realpath(other) == os.path.realpath(path):
            raise CommandLineError(f"--record would overwrite the file of {option}, {path}; give another one")


def size(text: str) -> int:
    """A number of bytes, from 300000000, 256M or 1G; the units are powers of 1024.

    Raises:
        BadValue: the text is something else, or too small.
    """
    found = re.fullmatch(r"(\d{1,12})([KMG]?)(?:i?B)?", text, re.ASCII | re.IGNORECASE)
    if found is None:
        raise values.BadValue(f"{text!r} is not a number of bytes like 300000000 or 256M")
    number = int(found[1]) << _UNITS[found[2].upper()]
    if number < MIN_SIZE:
        raise values.BadValue(f"{text!r} is too small; give 1M or more")
    return number
