"""The evaluator, against a slow second one."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from sansnet_core import Action, Endpoint, Prefix, Rule
from sansnet_core.policy import Check, Evaluator, Group
from sansnet_core.policy.evaluator import ADDRESS_OF_NAME, OTHER_RESOLVER, QUIC
from sansnet_core.wire.ip import ICMP, ICMPV6, TCP, UDP
from tests.core.policy.slow import METADATA, SPECIAL, SlowEvaluator

HOST = [ip_address(text).packed for text in ("8.8.4.4", "192.168.7.7", "2a00::77", "fe80::7")]
RESOLVERS = [ip_address(text).packed for text in ("10.0.2.3", "1.1.1.1", "fd00::3")]
PLAIN = [
    *("8.8.8.8", "1.2.3.4", "10.0.0.1", "127.0.0.1", "0.0.0.0", "169.254.1.1", "224.0.0.251", "255.255.255.255"),
    *("2a00::1", "::1", "::", "fe80::1", "ff02::fb", "fd00::1", "2001:db8::1", "100.64.0.1", "198.18.0.1"),
    *METADATA,
    *(text.partition("/")[0] for text in SPECIAL),
]
FOUR = st.sampled_from([*(ip_address(text).packed for text in PLAIN if ":" not in text), *HOST[:2], *RESOLVERS[:2]])
WRAPPED = st.builds(
    lambda form, four, other: form(four, other),
    st.sampled_from(
        [
            lambda four, other: bytes(10) + b"\xff\xff" + four,
            lambda four, other: bytes(12) + four,
            lambda four, other: bytes(8) + b"\xff\xff\0\0" + four,
            lambda four, other: bytes.fromhex("0064ff9b") + bytes(8) + four,
            lambda four, other: bytes.fromhex("0064ff9b0001") + four[:2] + b"\0" + four[2:] + bytes(5),
            lambda four, other: bytes.fromhex("0064ff9b000100") + four[:1] + b"\0" + four[1:] + other,
            lambda four, other: bytes.fromhex("0064ff9b00010000") + b"\0" + four + bytes(3),
            lambda four, other: bytes.fromhex("0064ff9b00010000") + bytes(4) + four,
            lambda four, other: b"\x20\x02" + four + bytes(6) + other,
            lambda four, other: bytes.fromhex("20010000") + four + bytes(4) + bytes(0xFF ^ each for each in other),
            lambda four, other: bytes.fromhex("2a00000000000000") + b"\0\0\x5e\xfe" + four,
            lambda four, other: bytes.fromhex("2a00000000000000") + b"\2\0\x5e\xfe" + four,
        ]
    ),
    FOUR,
    FOUR,
)
ADDRESSES = st.one_of(FOUR, st.sampled_from([ip_address(text).packed for text in PLAIN] + HOST + RESOLVERS), WRAPPED)
NAMES = st.sampled_from(["example.org", "a.example.org", "b.a.example.org", "badexample.org", "evil.net", "org"])
PATTERNS = st.one_of(NAMES, st.sampled_from(["*", "*.example.org", "*.a.example.org", "*.org"]))
PORTS = st.sampled_from([22, 53, 80, 137, 443, 444, 853, 5353, 5355])


@st.composite
def prefixes(draw: st.DrawFn) -> Prefix:
    address = draw(ADDRESSES)
    bits = 8 * len(address)
    length = draw(st.sampled_from([0, 8, 32, bits]))
    number = int.from_bytes(address, "big") >> (bits - length) << (bits - length)
    return Prefix((number.to_bytes(len(address), "big"), length))


@st.composite
def rules(draw: st.DrawFn) -> Rule:
    action = draw(st.sampled_from(list(Action)))
    allows = action in (Action.ALLOW, Action.ASK)
    few = draw(st.integers(0, 3))
    protocols = draw(st.lists(st.sampled_from(["tcp", "udp", "ping"]), max_size=2))
    return Rule(
        action=action,
        protocols=protocols,
        destinations=draw(st.lists(prefixes(), max_size=2)) if few & 1 else (),
        groups=draw(st.lists(st.sampled_from(Group), max_size=2)) if few & 2 else (),
        names=draw(st.lists(PATTERNS, max_size=2)),
        ports=() if set(protocols) == {"ping"} else draw(st.lists(PORTS, max_size=2)),
        inbound=draw(st.sampled_from([None, None, None, True, False])),
        check=draw(st.sampled_from([None, None, None, *Check])),
        record_types=draw(st.sampled_from([(), (257,)])) if allows else (),
        to=draw(st.sampled_from([None, None, None, Endpoint("127.0.0.1", 1)])) if action is Action.ALLOW else None,
    )


FLOWS = st.fixed_dictionaries(
    {
        "protocol": st.sampled_from([TCP, UDP, ICMP, ICMPV6]),
        "address": ADDRESSES,
        "port": PORTS,
        "inbound": st.sampled_from([False, False, False, True]),
        "name": st.none() | NAMES,
        "host": st.none() | ADDRESSES,
    }
)
CLOSED = {"resolver": OTHER_RESOLVER, "quic": QUIC, "address": ADDRESS_OF_NAME}


@settings(max_examples=400)
@given(
    given_rules=st.lists(rules(), max_size=8),
    default=st.sampled_from([None, *Action]),
    flows=st.lists(FLOWS, min_size=1, max_size=10),
    questions=st.lists(st.tuples(NAMES, st.sampled_from([1, 28, 16, 255, 257])), max_size=5),
)
def test_flows_and_questions_are_judged_as_by_a_slow_evaluator(
    given_rules: list[Rule],
    default: Action | None,
    flows: list[dict[str, Any]],
    questions: list[tuple[str, int]],
) -> None:
    fast = Evaluator(given_rules, default, host=HOST, resolvers=RESOLVERS)
    slow = SlowEvaluator(given_rules, default, HOST, RESOLVERS)
    for flow in flows:
        action, rule, check, strict = slow.judge(**flow)
        found = fast.judge(
            flow["protocol"],
            flow["address"],
            flow["port"],
            inbound=flow["inbound"],
            name=flow["name"],
            host=flow["host"],
        )
        expected = CLOSED[rule] if isinstance(rule, str) else rule
        assert (found.action, found.check, found.strict) == (action, check, strict)
        assert found.rule == expected
    for name, type_ in questions:
        judged = fast.question(name, type_)
        assert (judged.action, judged.rule) == slow.question(name, type_)
