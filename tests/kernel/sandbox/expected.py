"""The attacks that succeed, by process, and the table of docs/security.md that is made of them."""

from __future__ import annotations

from typing import Final

from tests.kernel.sandbox.attacks import ATTACKS, READING, STAT_OF_A_PATH, WRITING, named

__all__ = ["AGENT", "ALLOWED", "BROKER", "MAIN", "REAPER", "RESIDENT", "table"]

MAIN: Final = "sansnet"
AGENT: Final = "socket agent"
RESIDENT: Final = "resident"
BROKER: Final = "broker"
REAPER: Final = "reaper"


_RTNETLINK: Final = {"AF_NETLINK", "AF_NETLINK, non-blocking", "AF_NETLINK, with bits in the upper halves"}
_BROKERED: Final = {
    *named(READING, WRITING),
    *_RTNETLINK,
    *(
        "fork",
        "clone",
        "setns of a user namespace",
        "kill",
        "kill of its group",
        "kill of its parent",
        "pidfd_open",
        "pidfd_send_signal",
        "socketpair",
        "memfd_create",
    ),
    *("landlock_create_ruleset", "seccomp: a filter", "capset", "setsid", "umask", "NS_GET_USERNS"),
    *(
        f"{name}{half}"
        for name in ("PR_SET_PDEATHSIG", "PR_CAP_AMBIENT")
        for half in ("", " with a bit in the upper half")
    ),
}
ALLOWED: Final[dict[str, set[str]]] = {
    MAIN: {STAT_OF_A_PATH, "pidfd_send_signal"},
    AGENT: {STAT_OF_A_PATH},
    RESIDENT: {STAT_OF_A_PATH, *_RTNETLINK},
    BROKER: _BROKERED,
    REAPER: {STAT_OF_A_PATH, "kill", "kill of its group", "kill of its parent"},
}
"""The attacks that succeed, by the name of the process's profile; docs/security.md has the reasons. Those of the broker
may succeed, as far as its user has the right."""


_MOST: Final = 4
"""Attacks whose names a cell of the table has."""


def table() -> str:
    """The table of docs/security.md, in Markdown."""
    lines = [f"| attempt to | attacks | main | {' | '.join(list(ALLOWED)[1:])} |", f"|---|---|{'---|' * len(ALLOWED)}"]
    for aim in dict.fromkeys(attack.aim for attack in ATTACKS):
        names = [attack.name for attack in ATTACKS if attack.aim == aim]
        cells = [_cell(names, allowed) for allowed in ALLOWED.values()]
        lines.append(f"| {aim} | {len(names)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(names: list[str], allowed: set[str]) -> str:
    possible = [name for name in names if name in allowed and "upper hal" not in name]
    if not possible:
        return "stopped"
    return ", ".join(f"`{name}`" for name in possible) if len(possible) <= _MOST else "**possible**"
