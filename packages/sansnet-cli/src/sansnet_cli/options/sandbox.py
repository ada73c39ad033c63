"""The options of the sandbox."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sansnet_cli.options.records import DEFAULT_SANDBOX
from sansnet_cli.options.values import BadValue, typed
from sansnet_trio.sandbox.mode import Mode

if TYPE_CHECKING:
    import argparse

__all__ = ["add_sandbox_options", "mode", "sandbox_options"]


def add_sandbox_options(group: argparse._ArgumentGroup) -> None:
    """Add these options to a command with a guest."""
    group.add_argument(
        "--sandbox",
        type=typed(mode),
        default=DEFAULT_SANDBOX,
        metavar="MODE",
        help="what happens if sansnet itself makes a system call that it does not need: `enforce`, the kernel ends it; "
        f"`log`, the kernel logs the call; `off`, nothing; default: {DEFAULT_SANDBOX.value}",
    )
    group.add_argument(
        "--no-sandbox", dest="sandbox", action="store_const", const=Mode.OFF, help="the same as --sandbox off"
    )


def sandbox_options(parsed: argparse.Namespace) -> dict[str, Any]:
    """The fields of `CommandOptions` for these options."""
    return {"sandbox": parsed.sandbox}


def mode(text: str) -> Mode:
    """A mode of the sandbox.

    Raises:
        BadValue: the text is something else.
    """
    try:
        return Mode(text)
    except ValueError:
        raise BadValue(f"{text!r} is none of {', '.join(each.value for each in Mode)}") from None
