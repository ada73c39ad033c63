"""Whether an address may appear in an answer: whether the rules let the guest reach it by a name at all."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from sansnet_core.context import Context
from sansnet_core.policy import Action, Rule
from sansnet_core.policy.evaluator import Judgement
from sansnet_core.wire.ip import ICMP, ICMPV6, TCP, UDP

__all__ = ["is_reachable", "judgement_at"]

_OPEN: Final = (Action.ALLOW, Action.ASK)


def is_reachable(context: Context, name: str, address: bytes, host: bytes | None = None) -> bool:
    """Whether a rule allows a flow to an address of a name, at any port and by any protocol.

    Args:
        context: of the network.
        name: in canonical form.
        address: that the name has, 4 or 16 bytes.
        host: the address of the host's side that it leads to, if that is another one.
    """
    judge = context.policy.judge
    ports = list(_ports(context.config.rules, name))
    for protocol in (TCP, UDP):
        if any(judge(protocol, address, port, name=name, host=host).action in _OPEN for port in ports):
            return True
    return judge(ICMP if len(address) == 4 else ICMPV6, address, 0, name=name, host=host).action in _OPEN


def judgement_at(context: Context, name: str, address: bytes, host: bytes | None = None) -> Judgement:
    """The judgement about TCP to an address of a name, at a port where the rules allow the name itself.

    Args:
        context: of the network.
        name: in canonical form.
        address: that the name has, 4 or 16 bytes.
        host: the address of the host's side that it leads to, if that is another one.
    """
    judge = context.policy.judge
    ports = list(_ports(context.config.rules, name))
    port = next((port for port in ports if judge(TCP, None, port, name=name).action in _OPEN), ports[0])
    return judge(TCP, address, port, name=name, host=host)


def _ports(rules: tuple[Rule, ...], name: str) -> Iterator[int]:
    """Ports, at least one of each range in which the same rules match; the usual ones first."""
    yield from (443, 80, 1)
    for rule in rules:
        if rule.ports and (not rule.names or any(_may_match(pattern, name) for pattern in rule.names)):
            for first, last in rule.ports:
                yield first
                yield min(last + 1, 65535)
    yield from (54, 138, 854, 5354, 5356)  # the first ones behind ports of name servers, which have a rule of their own


def _may_match(pattern: str, name: str) -> bool:
    return name.endswith(pattern.lstrip("*"))
