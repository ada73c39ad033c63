"""Rules are applied as a second, slow evaluator applies them, which was written from the documentation alone."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address
from typing import Final

from fuzz.choices import Choices
from fuzz.registry import target
from sansnet_core.addresses import Endpoint, Prefix
from sansnet_core.errors import ConfigError
from sansnet_core.policy import Action, Check, Evaluator, Group, Rule
from sansnet_core.policy.evaluator import ADDRESS_OF_NAME, OTHER_RESOLVER, QUIC
from sansnet_core.wire.ip import ICMP, ICMPV6, TCP, UDP
from tests.core.policy.slow import METADATA, SPECIAL, SlowEvaluator

__all__ = ["judgements"]

_HOST: Final = [ip_address(text).packed for text in ("8.8.4.4", "192.168.7.7", "2a00::77", "fe80::7")]
_RESOLVERS: Final = [ip_address(text).packed for text in ("10.0.2.3", "1.1.1.1", "fd00::3")]
_TEXTS: Final = (
    *("8.8.8.8", "1.2.3.4", "10.0.0.1", "127.0.0.1", "0.0.0.0", "169.254.1.1", "224.0.0.251", "255.255.255.255"),
    *("2a00::1", "::1", "::", "fe80::1", "ff02::fb", "fd00::1", "100.64.0.1", "198.18.0.1", "64:ff9b::a00:1"),
    *("2002:7f00:1::1", "::ffff:10.0.0.1", "2001:0:102:304::f5ff:fffe", "64:ff9b:1::a00:1"),
    *METADATA,
    *(text.partition("/")[0] for text in SPECIAL),
)
_ADDRESSES: Final = (*(ip_address(text).packed for text in _TEXTS), *_HOST, *_RESOLVERS)
_NAMES: Final = ("example.org", "a.example.org", "b.a.example.org", "badexample.org", "evil.net", "org")
_PATTERNS: Final = (*_NAMES, "*", "*.example.org", "*.a.example.org", "*.org")
_PORTS: Final = (80, 443, 53, 853, 22, 137, 444, 5353, 5355)
_CLOSED: Final = {"resolver": OTHER_RESOLVER, "quic": QUIC, "address": ADDRESS_OF_NAME}


def _address(choices: Choices) -> bytes:
    """A known address, or one near it."""
    known = choices.pick(_ADDRESSES)
    change = choices.number(256)
    if change >= 16:
        return known
    place = change % len(known)
    return known[:place] + bytes([choices.number(256)]) + known[place + 1 :]


def _prefix(choices: Choices) -> Prefix:
    address = _address(choices)
    bits = 8 * len(address)
    length = choices.number(bits + 1)
    first = int.from_bytes(address, "big") >> (bits - length) << (bits - length)
    return Prefix(first.to_bytes(len(address), "big"), length)


def _rule(choices: Choices) -> Rule:
    """A rule; of fields that do not go together, `Rule` refuses some."""
    fields = choices.number(256)
    action = choices.pick(list(Action))
    return Rule(
        action=action,
        protocols=choices.pick((("tcp",), ("udp",), ("ping",), ("tcp", "udp"))) if fields & 1 else (),
        destinations=[_prefix(choices) for _ in range(1 + choices.number(2))] if fields & 2 else (),
        groups=[choices.pick(list(Group)) for _ in range(1 + choices.number(2))] if fields & 4 else (),
        names=[choices.pick(_PATTERNS) for _ in range(1 + choices.number(2))] if fields & 8 else (),
        ports=[choices.pick(_PORTS)] if fields & 16 else (),
        inbound=choices.flag() if fields & 32 else None,
        check=choices.pick(list(Check)) if fields & 64 else None,
        record_types=(257,) if fields & 128 and action in (Action.ALLOW, Action.ASK) else (),
        to=Endpoint("127.0.0.1", 1) if action is Action.ALLOW and fields & 192 == 192 else None,
    )


def _seeds() -> Iterable[bytes]:
    return [bytes(40), bytes(range(1, 120)), b"\3\1\x09\0\0\1\3\0\x02\2\x55\x20\4\x10\x14" + bytes(range(60))]


@target(max_size=300, seeds=_seeds)
def judgements(data: bytes) -> None:
    """Flows and questions under some rules."""
    choices = Choices(data)
    try:
        rules = [_rule(choices) for _ in range(choices.number(6))]
    except ConfigError:
        return
    default = choices.pick([None, *Action])
    fast = Evaluator(rules, default, host=_HOST, resolvers=_RESOLVERS)
    slow = SlowEvaluator(rules, default, _HOST, _RESOLVERS)
    for _ in range(4):
        protocol = choices.pick((TCP, UDP, ICMP, ICMPV6))
        address, port, inbound = _address(choices), choices.pick(_PORTS), choices.number(4) == 3
        name = choices.pick((None, *_NAMES))
        host = _address(choices) if choices.flag() else None
        action, by, check, strict = slow.judge(protocol, address, port, inbound, name, host)
        found = fast.judge(protocol, address, port, inbound=inbound, name=name, host=host)
        assert (found.action, found.check, found.strict) == (action, check, strict)
        assert found.rule == (_CLOSED[by] if isinstance(by, str) else by)
    for _ in range(2):
        name, kind = choices.pick(_NAMES), choices.pick((1, 28, 16, 255, 257))
        judged = fast.question(name, kind)
        assert (judged.action, judged.rule) == slow.question(name, kind)
