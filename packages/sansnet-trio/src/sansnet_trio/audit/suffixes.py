"""Suffixes of host names."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Final

__all__ = ["common_suffixes", "is_of_search"]

_LEAST: Final = 3
"""Names that a pattern must stand for to be worth it."""
_REGISTRIES: Final = frozenset(
    ("ac", "co", "com", "edu", "gob", "gouv", "gov", "ltd", "me", "mil", "ne", "net", "nom", "or", "org", "plc", "sch")
)
"""Labels below a country's, as in co.uk, under which anybody can have a name."""


def common_suffixes(names: Iterable[str]) -> Iterator[tuple[str, list[str]]]:
    """The suffixes under which there are at least three of the names, directly or deeper.

    Each name belongs to the narrowest of them. None is a single label, or a country's registry such as co.uk.

    Args:
        names: host names in canonical form.

    Yields:
        The pattern, such as "*.example.org", and the names that it matches, both in order.
    """
    below: dict[str, list[str]] = {}
    for name in sorted(set(names)):
        suffix = name.partition(".")[2]
        while _may_have_pattern(suffix):
            below.setdefault(suffix, []).append(name)
            suffix = suffix.partition(".")[2]
    done: set[str] = set()
    for suffix in sorted(below, key=lambda one: (-one.count("."), one)):  # the narrowest first
        new = [name for name in below[suffix] if name not in done]
        if len(new) >= _LEAST:
            done.update(new)
            yield f"*.{suffix}", new


def is_of_search(name: str, search: Iterable[str], asked: Collection[str]) -> bool:
    """Whether a name was only asked for because a resolver puts search domains behind another name.

    Args:
        name: in canonical form.
        search: the search domains of the guest.
        asked: all names that were asked for.
    """
    suffixes = (f".{domain.strip('.').lower()}" for domain in search)
    return any(name.endswith(suffix) and name.removesuffix(suffix) in asked for suffix in suffixes)


def _may_have_pattern(suffix: str) -> bool:
    labels = suffix.split(".")
    if labels[-1] == "arpa" or len(labels) < 2:
        return False
    return len(labels) > 2 or not (labels[0] in _REGISTRIES or len(labels[0]) == 1)
