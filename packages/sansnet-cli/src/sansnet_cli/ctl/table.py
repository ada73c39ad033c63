"""Tables and endpoints in the output for people."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sansnet_cli.ctl.client import Answer

__all__ = ["columns", "endpoint"]


def columns(rows: Sequence[Iterable[str]]) -> list[str]:
    """The lines of a table whose columns are aligned."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def endpoint(value: Answer) -> str:
    """An endpoint of an answer."""
    address = value["address"]
    return f"[{address}]:{value['port']}" if ":" in address else f"{address}:{value['port']}"
