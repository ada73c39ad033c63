"""Command lines as glibc's getopt_long(3) parses them, with its messages for a wrong option.

Callers parse those messages. They name the word as it was typed, and the options that an abbreviation could mean, which
the standard library's `getopt` does not give. So this is a parser of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from sansnet_cli.compat.options import Option
from sansnet_core.errors import SansnetError

__all__ = ["BadOption", "CommandLine"]


class BadOption(SansnetError):
    """An option is unknown or lacks its argument. The message is that of glibc, without the program's name."""


class CommandLine:
    """A command line whose options come first.

    Iterate over it to get each option and its argument, in order. Afterwards `rest` has the words that follow.

    Args:
        options: all known options.
        words: the arguments, without the program's name.
    """

    def __init__(self, options: Iterable[Option], words: Sequence[str]) -> None:
        options = tuple(options)
        self._long = {name: option for option in options for name in (option.name, *option.aliases)}
        self._short = {option.short: option for option in options if option.short}
        self.rest = list(words)

    def __iter__(self) -> Iterator[tuple[Option, str]]:
        """Yield options and their arguments. Raises `BadOption` at a wrong one."""
        while self.rest and self.rest[0].startswith("-") and self.rest[0] != "-":
            word = self.rest.pop(0)
            if word == "--":
                return
            if word.startswith("--"):
                yield self._read_long(word)
            else:
                yield from self._read_letters(word[1:])

    def _read_long(self, word: str) -> tuple[Option, str]:
        typed, equals, value = word.removeprefix("--").partition("=")
        name = self._complete(typed, word)
        option = self._long[name]
        if option.argument:
            return option, value if equals else self._next(f"option '--{name}' requires an argument")
        if equals:
            raise BadOption(f"option '--{name}' doesn't allow an argument")
        return option, ""

    def _complete(self, typed: str, word: str) -> str:
        """The full name of an option. An abbreviation may match several names of the same option."""
        if typed in self._long:
            return typed
        possible = [name for name, option in self._long.items() if name.startswith(typed) and not option.added]
        if not possible:
            raise BadOption(f"unrecognized option '{word}'")
        if len({id(self._long[name]) for name in possible}) > 1:
            names = " ".join(f"'--{name}'" for name in possible)
            raise BadOption(f"option '{word}' is ambiguous; possibilities: {names}")
        return possible[0]

    def _read_letters(self, letters: str) -> Iterator[tuple[Option, str]]:
        while letters:
            letter, letters = letters[0], letters[1:]
            option = self._short.get(letter)
            if option is None:
                raise BadOption(f"invalid option -- '{letter}'")
            if option.argument:
                yield option, letters or self._next(f"option requires an argument -- '{letter}'")
                return
            yield option, ""

    def _next(self, complaint: str) -> str:
        if not self.rest:
            raise BadOption(complaint)
        return self.rest.pop(0)
