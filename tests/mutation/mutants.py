"""Mutants that survived, as mutmut tells of them and as `survivors.toml` lists them."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

__all__ = ["SURVIVORS", "Mutant", "as_toml", "is_default", "is_explained", "known", "parse"]

SURVIVORS: Final = Path(__file__).with_name("survivors.toml")


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change. Numbers of lines and mutants are no part of it, so that it stays the same when other code changes.

    Attributes:
        module: file below `sansnet_core`.
        function: with its class, such as `Receiver.accept`.
        before, after: the lines that differ, without indentation.
    """

    module: str
    function: str
    before: str
    after: str


def parse(name: str, diff: str) -> Mutant:
    """A mutant from mutmut's name of it, such as `sansnet_core.wire.arp.x_parse__mutmut_3`, and a unified diff."""
    place, _, _ = name.rpartition("__mutmut_")
    module, _, function = place.rpartition(".")
    return Mutant(
        f"{module.removeprefix('sansnet_core.').replace('.', '/')}.py",
        ".".join(
            part for part in re.split("\N{LATIN LETTER LATERAL CLICK}", function.removeprefix("x_")) if part != "x"
        ),
        _lines(diff, "-"),
        _lines(diff, "+"),
    )


def _lines(diff: str, sign: str) -> str:
    changed = [line[1:].strip() for line in diff.splitlines() if line.startswith(sign) and line[:3] != 3 * sign]
    return " ".join(changed)


@cache
def known() -> dict[Mutant, str]:
    """The mutants that no test can notice, and why."""
    entries = tomllib.loads(SURVIVORS.read_text()).get("mutant", [])
    return {
        Mutant(entry["module"], entry["function"], entry["before"], entry["after"]): entry["reason"]
        for entry in entries
    }


def is_explained(mutant: Mutant) -> bool:
    """Whether it is known that no test can notice a mutant."""
    return mutant in known() or is_default(mutant)


def is_default(mutant: Mutant) -> bool:
    """Whether a change leaves out the byte order "big", which is the default of `int.to_bytes` and `int.from_bytes`."""
    before = mutant.before
    orders = (place.span() for place in re.finditer('"big"', before))
    return any(before[:start] + before[end:] == mutant.after for start, end in orders)


def as_toml(mutants: Iterable[Mutant]) -> str:
    """Entries for the list, each with an empty reason to fill in."""
    return "\n".join(
        f"[[mutant]]\nmodule = {_quoted(one.module)}\nfunction = {_quoted(one.function)}\n"
        f'before = {_quoted(one.before)}\nafter = {_quoted(one.after)}\nreason = ""\n'
        for one in mutants
    )


def _quoted(text: str) -> str:
    return f"'{text}'" if "'" not in text else '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
