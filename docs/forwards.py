"""Writes the table of docs/forwarding.md as the parser understands it: `python -m docs.forwards`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from sansnet_core import addresses
from sansnet_core.ports import ALL_PORTS, TCP, ForwardRule, parse_all

__all__ = ["SPECS", "render"]

SPECS: Final = (
    "80",
    "8080:80",
    "8000-8010",
    "8000-8010:9000-9010",
    "22,80,8000-8010:80-90",
    "127.0.0.1/8080:80",
    "::1/8080:80",
    "[2001:db8::1]/8080:80",
    "%eth0/80",
    "192.0.2.1%eth0/80",
    "fe80::1%eth0/80",
    "*/80",
    "80:10.0.2.15/8080",
    "80:[2001:db8::2]/8080",
    "all",
    "~22",
    "8000-8010,~8005",
    "auto",
    "auto,~1-1023",
    "127.0.0.1/auto",
    "auto,8000-8010",
    "none",
)
"""Each kind once."""


def render() -> str:
    """What each of them means for `-t`."""
    rows = ["| PORTS | the host listens on | which leads to the guest's |", "|---|---|---|"]
    for spec in SPECS:
        forwards = parse_all([spec], TCP)
        listening = "; ".join(map(_listening, forwards)) or "nothing"
        leading = "; ".join(map(_leading, forwards)) or "-"
        rows.append(f"| `{spec}` | {listening} | {leading} |")
    return "\n".join(rows) + "\n"


def _listening(forward: ForwardRule) -> str:
    where = "" if forward.address is None else f" at {addresses.format(forward.address)}"
    where += "" if forward.interface is None else f" on {forward.interface}"
    weak = ", as far as they are free and not ephemeral" if forward.weak and not forward.auto else ""
    auto = ", while the guest listens there" if forward.auto else ""
    auto += ", but not ephemeral ones" if forward.auto and forward.weak else ""
    return f"{_ports(forward.first, forward.last)}{where}{weak}{auto}"


def _leading(forward: ForwardRule) -> str:
    ports = _ports(forward.to, forward.leads_to(forward.last))
    return ports if forward.target is None else f"{ports} at {addresses.format(forward.target)}"


def _ports(first: int, last: int) -> str:
    if (first, last) == (ALL_PORTS[0], ALL_PORTS[-1]):
        return "all ports"
    return str(first) if first == last else f"{first} to {last}"


def main() -> None:
    """Put the table between its marks."""
    path = Path(__file__).with_name("forwarding.md")
    text = path.read_text()
    path.write_text(re.sub(r"(<!-- ports -->\n).*?(<!-- /ports -->)", rf"\g<1>{render()}\g<2>", text, flags=re.DOTALL))


if __name__ == "__main__":
    main()
