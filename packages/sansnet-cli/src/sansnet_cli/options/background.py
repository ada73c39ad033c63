"""The options of commands that can run in the background."""

from __future__ import annotations

import argparse
from typing import Any

from sansnet_cli.options import values
from sansnet_cli.options.values import typed

__all__ = ["add_background_options", "background_options"]


def add_background_options(group: argparse._ArgumentGroup, *, returns_when: str) -> None:
    """Add these options to a group; `returns_when` ends a sentence of the help."""
    group.add_argument(
        "--background", action="store_true", help=f"return when {returns_when}, and continue in the background"
    )
    group.add_argument(
        "-P",
        "--pid",
        dest="pid_file",
        type=typed(values.path),
        metavar="FILE",
        help="write the process id to FILE, and remove FILE at the end",
    )


def background_options(parsed: argparse.Namespace) -> dict[str, Any]:
    """The fields of `AttachOptions` and `ServeOptions` for these options."""
    return {"background": parsed.background, "pid_file": parsed.pid_file}
