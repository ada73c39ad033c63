"""Policies that are known by a word.

They are made of groups of addresses, so they need no resolver of our own.
"""

from __future__ import annotations

from typing import Final

from sansnet_core.policy.policy import Policy, PolicyError
from sansnet_core.policy.rule import Action, Group, Rule

__all__ = ["DNS", "NONE", "OPEN", "PRESETS", "PUBLIC", "WEB", "preset"]

_DNS_RULE: Final = Rule(
    action=Action.ALLOW, protocols=("udp", "tcp"), groups=(Group.RESOLVER,), ports=(53,), label="questions"
)

NONE: Final = Policy(default_action=Action.REFUSE)
"""Nothing."""
DNS: Final = Policy(rules=(_DNS_RULE,), default_action=Action.REFUSE)
"""Questions to the guest's name servers; with rules that open names, for these alone (`sets_aside_questions`)."""
WEB: Final = Policy(
    rules=(_DNS_RULE, Rule(action=Action.ALLOW, groups=(Group.PUBLIC,), ports=(80, 443), label="web")),
    default_action=Action.REFUSE,
)
"""Ports 80 and 443 of public addresses, and questions."""
PUBLIC: Final = Policy(
    rules=(_DNS_RULE, Rule(action=Action.ALLOW, groups=(Group.PUBLIC,), label="public")), default_action=Action.REFUSE
)
"""All ports of public addresses, and questions: no private, link-local or metadata addresses, and not the host."""
OPEN: Final = Policy(default_action=Action.ALLOW)
"""Everything."""

PRESETS: Final = {"none": NONE, "dns": DNS, "web": WEB, "public": PUBLIC, "open": OPEN}
"""Word -> policy."""


def preset(name: str) -> Policy:
    """The preset of a name.

    Raises:
        PolicyError: there is none.
    """
    if name not in PRESETS:
        raise PolicyError(f"{name!r:.100} is not one of {', '.join(PRESETS)}", field="preset")
    return PRESETS[name]
