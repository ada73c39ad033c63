"""Command lines as glibc's getopt_long(3) reads them, with its words for what is wrong with one.

Callers search those words, and they name what the standard library's `getopt` no longer knows when it complains: the
word as it was typed, and which options an abbreviation could mean. So this is a parser of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from sansnet_cli.compat.options import Option

__all__ = ["BadOption", "CommandLine"]


class BadOption(Exception):
    """A word is no option, or lacks its argument; the message is glibc's, without the program's name."""


class CommandLine:
    """Words, of which options come first.

    Iterating over it gives each option and its argument, in order; what follows the last one is in `rest` then.

    Args:
        options: all there are.
        words: without the program's name.
    """

    def __init__(self, options: Iterable[Option], words: Sequence[str]) -> None:
        options = tuple(options)
        self._long = {name: option for option in options for name in (option.name, *option.aliases)}
        self._short = {option.short: option for option in options if option.short}
        self.rest = list(words)

    def __iter__(self) -> Iterator[tuple[Option, str]]:
        """Raises `BadOption` where it comes to one."""
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
        """The full name of an option; abbreviations of one option's several names are no matter."""
        if typed in self._long:
            return typed
        possible = [name for name in self._long if name.startswith(typed)]
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
