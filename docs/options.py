"""Writes the table of docs/compat.md from the table that command lines are read by: `python -m docs.options`."""

from __future__ import annotations

import re
from pathlib import Path

from sansnet_cli.compat.options import GROUPS, Option

__all__ = ["render"]


def render() -> str:
    """The options as a table."""
    rows = ["| option | of | |", "|---|---|---|"]
    for heading, group in GROUPS.items():
        rows.append(f"| **{heading}** | | |")
        rows += [f"| {_names(option)} | {option.only or 'both'} | {_meaning(option)} |" for option in group]
    return "\n".join(rows) + "\n"


def _names(option: Option) -> str:
    names = [f"-{option.short}"] * bool(option.short) + [f"--{name}" for name in (option.name, *option.aliases)]
    argument = option.argument.replace("|", "\\|")
    return f"`{', '.join(names)}{' ' + argument if argument else ''}`"


def _meaning(option: Option) -> str:
    return option.text or f"no effect: {option.ignored}"


def main() -> None:
    """Put the table between its marks."""
    path = Path(__file__).with_name("compat.md")
    text = path.read_text()
    path.write_text(
        re.sub(
            r"(<!-- options -->\n).*?(<!-- /options -->)",
            lambda match: f"{match[1]}{render()}{match[2]}",
            text,
            flags=re.DOTALL,
        )
    )


if __name__ == "__main__":
    main()
