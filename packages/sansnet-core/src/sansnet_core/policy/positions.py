"""The line of each value in a TOML document, which `tomllib` does not tell."""

from __future__ import annotations

from bisect import bisect_right
from typing import Final, TypeAlias

__all__ = ["Path", "lines"]

Path: TypeAlias = tuple[str | int, ...]
"""Keys and indexes that lead to a value, such as ("rule", 2, "port")."""

_ESCAPES: Final = {"b": "\b", "t": "\t", "n": "\n", "f": "\f", "r": "\r", '"': '"', "\\": "\\", "e": "\x1b"}


def lines(text: str) -> dict[Path, int]:
    """Place of each value and table -> its line, from 1; for a value with a key, the line of the key.

    Args:
        text: a document that `tomllib` has read.
    """
    scanner = _Scanner(text)
    scanner.document()
    return scanner.found


class _Scanner:
    """Walks through a document that is known to be right."""

    def __init__(self, text: str) -> None:
        self.found: dict[Path, int] = {}
        self._text = text
        self._at = 0
        self._ends = [position for position, each in enumerate(text) if each == "\n"]
        self._last: dict[Path, int] = {}
        """Array of tables -> the index of its last table."""

    def document(self) -> None:
        table: Path = ()
        while self._skip():
            start = self._at
            if self._text.startswith("[[", start):
                self._at += 2
                array = self._inside(self._key(), start)
                self._last[array] = self._last.get(array, -1) + 1
                table = (*array, self._last[array])
                self._note(table, start)
                self._skip()
                self._at += 2
            elif self._text[start] == "[":
                self._at += 1
                table = self._inside(self._key(), start)
                table = (*table, self._last[table]) if table in self._last else table
                self._note(table, start)
                self._skip()
                self._at += 1
            else:
                self._pair(table)

    def _inside(self, key: Path, start: int) -> Path:
        """A key of a header, with the index of the last table where a part of it is an array of tables."""
        path: Path = ()
        for number, part in enumerate(key, 1):
            path = (*path, part)
            self._note(path, start)
            if path in self._last and number < len(key):
                path = (*path, self._last[path])
        return path

    def _pair(self, table: Path) -> None:
        start = self._at
        path = table
        for part in self._key():
            path = (*path, part)
            self._note(path, start)
        self._skip()
        self._at += 1  # the =
        self._value(path)

    def _value(self, path: Path) -> None:
        self._skip()
        self._note(path, self._at)
        first = self._text[self._at]
        if first in "\"'":
            self._string()
        elif first == "[":
            self._at += 1
            number = 0
            while self._more("]"):
                self._value((*path, number))
                number += 1
        elif first == "{":
            self._at += 1
            while self._more("}"):
                self._pair(path)
        else:
            while self._at < len(self._text) and self._text[self._at] not in ",]}#\n":
                self._at += 1

    def _more(self, end: str) -> bool:
        """Whether another item follows; steps over a comma, or over the end."""
        self._skip()
        if self._text[self._at] == ",":
            self._at += 1
            self._skip()
        if self._text[self._at] == end:
            self._at += 1
            return False
        return True

    def _key(self) -> Path:
        parts: list[str] = []
        while True:
            self._skip()
            if self._text[self._at] in "\"'":
                parts.append(self._string())
            else:
                start = self._at
                while self._text[self._at] not in " \t.=]":
                    self._at += 1
                parts.append(self._text[start : self._at])
            self._skip()
            if self._text[self._at] != ".":
                return tuple(parts)
            self._at += 1

    def _string(self) -> str:
        """Step over a string; returns its value if it has one line, as keys have."""
        quote = self._text[self._at]
        if self._text.startswith(quote * 3, self._at):
            self._at += 3
            while not self._text.startswith(quote * 3, self._at):
                self._at += 2 if quote == '"' and self._text[self._at] == "\\" else 1
            while self._text.startswith(quote, self._at):  # two more quotes may belong to the string
                self._at += 1
            return ""
        self._at += 1
        found = ""
        while (each := self._text[self._at]) != quote:
            self._at += 1
            if quote == '"' and each == "\\":
                each = self._escaped()
            found += each
        self._at += 1
        return found

    def _escaped(self) -> str:
        kind = self._text[self._at]
        self._at += 1
        size = {"x": 2, "u": 4, "U": 8}.get(kind, 0)
        if not size:
            return _ESCAPES[kind]
        self._at += size
        return chr(int(self._text[self._at - size : self._at], 16))

    def _skip(self) -> bool:
        """Step over blanks and comments; whether anything is left."""
        while self._at < len(self._text):
            each = self._text[self._at]
            if each == "#":
                end = self._text.find("\n", self._at)
                self._at = len(self._text) if end < 0 else end
            elif each in " \t\r\n":
                self._at += 1
            else:
                return True
        return False

    def _note(self, path: Path, position: int) -> None:
        self.found.setdefault(path, bisect_right(self._ends, position - 1) + 1)
