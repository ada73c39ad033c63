"""Writes the diagrams of docs/tcp.md from the tables that the code uses: `python -m docs.diagrams`."""

from __future__ import annotations

import re
from pathlib import Path

from sansnet_core.proto.tcp.states import EVENT_TRIGGERED, INBOUND, INITIAL, JOINT, MACHINES

__all__ = ["render"]


def render() -> str:
    """The four machines as Mermaid diagrams, and the joint rules as a table."""
    parts = []
    for machine, *initial in zip(MACHINES, INITIAL, INBOUND, strict=True):
        labels: dict[tuple[str, str], list[str]] = {("[*]", state): [] for state in initial}
        for state, row in EVENT_TRIGGERED[machine].items():
            for event, after in row.items():
                labels.setdefault((state, after), []).append(event)
        for rule in JOINT:
            if machine in rule.then:
                others = ", ".join(f"{name} {state}" for name, state in rule.when.items() if name != machine)
                for state in (rule.when[machine],) if machine in rule.when else EVENT_TRIGGERED[machine]:
                    if state != rule.then[machine]:
                        reasons = labels.setdefault((state, rule.then[machine]), [])
                        if others:
                            reasons.append(f"[{others}]")
        lines = ["    direction LR"] * (len(labels) < 5)
        for (state, after), reasons in labels.items():
            lines.append(f"    {state} --> {after}" + (f": {'<br>'.join(dict.fromkeys(reasons))}" if reasons else ""))
        parts.append(f"**{machine}**\n\n```mermaid\nstateDiagram-v2\n" + "\n".join(lines) + "\n```\n")
    rows = ["| when | then | effects |", "|---|---|---|"]
    for rule in JOINT:
        when = ", ".join(f"{machine} {state}" for machine, state in rule.when.items())
        then = ", ".join(f"{machine} {state}" for machine, state in rule.then.items())
        effects = ", ".join(f"`{effect}`" for effect in rule.effects)
        rows.append(f"| {when} | {then} | {effects} |")
    parts.append("\n".join(rows) + "\n")
    return "\n".join(parts)


def main() -> None:
    """Replace what stands between the marks."""
    path = Path(__file__).with_name("tcp.md")
    text = path.read_text()
    path.write_text(
        re.sub(r"(<!-- states -->\n).*?(<!-- /states -->)", rf"\g<1>{render()}\g<2>", text, flags=re.DOTALL)
    )


if __name__ == "__main__":
    main()
