"""The options on a command line of pasta or passt, with their arguments, in order."""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Final

from sansnet_cli.compat.command_line import CommandLine
from sansnet_cli.compat.options import OPTIONS
from sansnet_core.errors import SansnetError

__all__ = ["ParsedOptions", "Information", "Misuse"]

_INFORMATION: Final = ("help", "version", "print-capabilities")


class Misuse(SansnetError):
    """The command line is wrong; the message is a sentence."""


class Information(SansnetError):
    """Only the help, the version or capabilities are asked for; the message is the name of that option."""


class ParsedOptions:
    """The options of one command line.

    Args:
        program: `pasta` or `passt`.
        words: its arguments.

    Attributes:
        program: see above.
        rest: the words after the options.

    Raises:
        BadOption: an option is unknown or lacks its argument.
        Misuse: an option belongs to the other program, or comes too early.
        Information: the help or something similar is asked for; later words are not checked.
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
            raise Misuse(f"{self.rest[0]!r} is not an option, and passt takes no other arguments; leave it out")

    def arguments(self, name: str) -> list[str]:
        """The argument of each use of an option; an empty text if the option takes none."""
        return [argument for option, argument in self._options if option == name]

    def last_of(self, names: Container[str]) -> str | None:
        """The last of these options on the command line, if there is one."""
        return next((name for name, _ in reversed(self._options) if name in names), None)
