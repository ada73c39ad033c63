"""Writes the diagrams of docs/tcp.md from the tables that the code uses: `python -m docs.diagrams`."""

from __future__ import annotations

import re
from pathlib import Path

from sansnet_core.proto.tcp.states import (
    EVENT_TRIGGERED,
    INBOUND,
    INITIAL,
    JOINT,
    PARTS,
    UNDECIDED_INBOUND,
    UNDECIDED_INITIAL,
)

__all__ = ["render"]


def render() -> str:
    """The four parts as Mermaid diagrams, and the joint rules as a table."""
    blocks = []
    for part, *initial in zip(PARTS, INITIAL, INBOUND, UNDECIDED_INITIAL, UNDECIDED_INBOUND, strict=True):
        labels: dict[tuple[str, str], list[str]] = {("[*]", state): [] for state in initial}
        for state, row in EVENT_TRIGGERED[part].items():
            for event, after in row.items():
                labels.setdefault((state, after), []).append(event)
        for rule in JOINT:
            if part in rule.then:
                others = ", ".join(f"{name} {state}" for name, state in rule.when.items() if name != part)
                for state in (rule.when[part],) if part in rule.when else EVENT_TRIGGERED[part]:
                    if state != rule.then[part]:
                        reasons = labels.setdefault((state, rule.then[part]), [])
                        if others:
                            reasons.append(f"[{others}]")
        lines = ["    direction LR"] * (len(labels) < 5)
        for (state, after), reasons in labels.items():
            lines.append(f"    {state} --> {after}" + (f": {'<br>'.join(dict.fromkeys(reasons))}" if reasons else ""))
        blocks.append(f"**{part}**\n\n```mermaid\nstateDiagram-v2\n" + "\n".join(lines) + "\n```\n")
    rows = ["| when | then | effects |", "|---|---|---|"]
    for rule in JOINT:
        when = ", ".join(f"{part} {state}" for part, state in rule.when.items())
        then = ", ".join(f"{part} {state}" for part, state in rule.then.items())
        effects = ", ".join(f"`{effect}`" for effect in rule.effects)
        rows.append(f"| {when} | {then} | {effects} |")
    blocks.append("\n".join(rows) + "\n")
    return "\n".join(blocks)


def main() -> None:
    """Replace what stands between the marks."""
    path = Path(__file__).with_name("tcp.md")
    text = path.read_text()
    path.write_text(
        re.sub(r"(<!-- states -->\n).*?(<!-- /states -->)", rf"\g<1>{render()}\g<2>", text, flags=re.DOTALL)
    )


if __name__ == "__main__":
    main()
