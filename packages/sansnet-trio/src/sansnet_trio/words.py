"""The words of messages for the arguments of this library: `root=True`, or the option `--root` of a command.

A message is read by the user of the program. A command whose users know its options alone calls `use_words` once, at
its start; child processes that it forks inherit that.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["use_words", "word"]

_words: dict[str, str] = {}


def word(argument: str) -> str:
    """The user's word for an argument.

    Args:
        argument: the argument as a program writes it, such as `root=True`.
    """
    return _words.get(argument, argument)


def use_words(words: Mapping[str, str]) -> None:
    """Use a command's words from now on, in this process.

    Args:
        words: by the argument as a program writes it; the others stay.
    """
    _words.update(words)
