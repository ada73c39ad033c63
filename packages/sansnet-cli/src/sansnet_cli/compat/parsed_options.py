"""What was given on a command line of pasta or passt: which options, with which arguments, in which order."""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Final

from sansnet_cli.compat.command_line import CommandLine
from sansnet_cli.compat.options import OPTIONS

__all__ = ["ParsedOptions", "Information", "Misuse"]

_INFORMATION: Final = ("help", "version", "print-capabilities")


class Misuse(Exception):
    """The command line is wrong; the message is a sentence."""


class Information(Exception):
    """Nothing but help, the version or the like is asked for; the message is that option's name."""


class ParsedOptions:
    """The options of one command line.

    Args:
        program: `pasta` or `passt`.
        words: without the program's name.

    Attributes:
        program: see above.
        rest: what follows the options.

    Raises:
        BadOption: a word is no option.
        Misuse: an option is the other program's, or comes too early.
        Information: help or the like is asked for; what follows that is not looked at.
    """

    def __init__(self, program: str, words: Sequence[str]) -> None:
        self.program = program
        self._options: list[tuple[str, str]] = []
        line = CommandLine(OPTIONS, words)
        for option, argument in line:
            if option.name in _INFORMATION:
                raise Information(option.name)
            if option.only not in ("", program):
                raise Misuse(f"--{option.name} is an option of {option.only}; leave it out")
            if option.name == "stats" and not self.arguments("foreground"):
                raise Misuse("--stats needs --foreground before it")
            self._options.append((option.name, argument))
        self.rest = line.rest
        if program == "passt" and self.rest:
            raise Misuse(f"{self.rest[0]!r} is no option, and passt takes nothing else; leave it out")

    def arguments(self, name: str) -> list[str]:
        """What each use of an option had as its argument; an empty text for one that takes none."""
        return [argument for given, argument in self._options if given == name]

    def last_of(self, names: Container[str]) -> str | None:
        """Which of some options came last, if any."""
        return next((name for name, _ in reversed(self._options) if name in names), None)
