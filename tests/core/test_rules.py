"""The rules about new flows, the services of the program, and the prefixes of both, against plain models."""

from __future__ import annotations

from errno import EPERM
from itertools import pairwise
from time import process_time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sansnet_core import Action, Allow, ConfigError, Drop, Endpoint, Prefix, Refuse, Rule, UsageError
from sansnet_core.orders import SocketId
from sansnet_core.policy.evaluator import Evaluator
from sansnet_core.prefixes import PrefixTable
from sansnet_core.services import ProgramService, ServiceTable
from sansnet_core.token_bucket import TokenBucket
from sansnet_core.wire.ip import ICMP, ICMPV6, TCP, UDP

ADDRESSES = st.one_of(
    st.sampled_from([bytes(4), bytes(16), b"\xff" * 4, b"\xff" * 16]),
    st.binary(min_size=4, max_size=4).map(lambda value: b"\x0a\0\0" + value[3:]),
    st.binary(min_size=16, max_size=16).map(lambda value: b"\x2a\x01" + bytes(13) + value[15:]),
)


@st.composite
def prefixes(draw: st.DrawFn) -> Prefix:
    address = draw(ADDRESSES)
    bits = 8 * len(address)
    length = draw(st.sampled_from([0, 1, 7, 8, bits - 2, bits - 1, bits]))
    number = int.from_bytes(address, "big") >> (bits - length) << (bits - length)
    return Prefix.of(f"{Prefix(number.to_bytes(len(address), 'big'), bits)}".split("/")[0] + f"/{length}")


PORTS = st.one_of(st.integers(1, 65535), st.sampled_from([1, 2, 79, 80, 81, 443, 65534, 65535]))
RANGES = st.tuples(PORTS, PORTS).map(lambda pair: (min(pair), max(pair)))
PROTOCOLS = st.lists(st.sampled_from(["tcp", "udp", "ping"]), max_size=2).map(tuple)


@st.composite
def rules(draw: st.DrawFn) -> Rule:
    protocols = draw(PROTOCOLS)
    return Rule(
        action=draw(st.sampled_from([Action.ALLOW, Action.REFUSE, Action.DROP, Action.ASK])),
        protocols=protocols,
        destinations=draw(st.lists(prefixes(), max_size=3)),
        ports=() if set(protocols) == {"ping"} else draw(st.lists(st.one_of(PORTS, RANGES), max_size=3)),
        inbound=draw(st.sampled_from([None, True, False])),
    )


RULES = rules()
NAMES = {"tcp": (TCP,), "udp": (UDP,), "ping": (ICMP, ICMPV6)}


def matches(rule: Rule, protocol: int, address: bytes, port: int, *, inbound: bool) -> bool:
    """Whether a rule matches, as its documentation says."""
    if rule.protocols and all(protocol not in NAMES[name] for name in rule.protocols):
        return False
    if rule.destinations and not any(prefix.contains(address) for prefix in rule.destinations):
        return False
    if rule.ports and (protocol not in (TCP, UDP) or not any(first <= port <= last for first, last in rule.ports)):
        return False
    return rule.inbound is None or rule.inbound == inbound


@settings(max_examples=300)
@given(
    rules=st.lists(RULES, max_size=12),
    flows=st.lists(
        st.tuples(st.sampled_from([TCP, UDP, ICMP, ICMPV6]), ADDRESSES, st.integers(0, 65535) | PORTS, st.booleans()),
        min_size=1,
        max_size=20,
    ),
    default=st.sampled_from(list(Action)),
)
def test_the_first_rule_that_matches_decides(
    rules: list[Rule], flows: list[tuple[int, bytes, int, bool]], default: Action
) -> None:
    policy = Evaluator(rules, default)
    for protocol, address, port, inbound in flows:
        expected = next((rule for rule in rules if matches(rule, protocol, address, port, inbound=inbound)), None)
        found = policy.judge(protocol, address, port, inbound=inbound)
        assert found.rule is expected
        assert found.action is (default if expected is None else expected.action)


def test_the_bounds_of_ranges_of_ports_belong_to_them() -> None:
    rules = [Rule(action=Action.REFUSE, ports=((10, 20), (22, 65535))), Rule(action=Action.DROP, ports=(1, 21))]
    policy = Evaluator(rules, Action.ALLOW)

    def action(port: int) -> Action:
        return policy.judge(TCP, bytes(4), port).action

    assert [action(port) for port in (1, 2, 9, 10, 20, 21, 22, 65535)] == [
        *(Action.DROP, Action.ALLOW, Action.ALLOW, Action.REFUSE, Action.REFUSE, Action.DROP),
        *(Action.REFUSE, Action.REFUSE),
    ]


def test_a_rule_gives_a_verdict() -> None:
    elsewhere = Endpoint("127.0.0.1", 80)
    assert Rule(action=Action.ALLOW, to=elsewhere).verdict == Allow(elsewhere)
    assert Rule(action=Action.REFUSE, errno=EPERM).verdict == Refuse(EPERM)
    assert Rule(action=Action.DROP).verdict == Drop()
    assert Rule(action=Action.ASK).verdict is None


@given(items=st.lists(st.tuples(prefixes(), st.integers(1, 100)), max_size=20), address=ADDRESSES)
def test_the_longest_prefix_is_found(items: list[tuple[Prefix, int]], address: bytes) -> None:
    table = PrefixTable(items)
    found = {prefix: value for prefix, value in items if prefix.contains(address)}
    expected = [found[prefix] for prefix in sorted(found, key=lambda prefix: -prefix.length)]

    assert list(table.matches(address)) == expected
    assert table.find(address) == next(iter(expected), None)


PLACES = st.tuples(st.sampled_from([TCP, UDP]), st.none() | prefixes(), st.none() | st.sampled_from([80, 81]))


@given(
    places=st.lists(PLACES, unique=True, max_size=12),
    removed=st.sets(st.integers(0, 11)),
    flow=st.tuples(st.sampled_from([TCP, UDP]), ADDRESSES, st.sampled_from([80, 81, 82])),
    own=st.booleans(),
)
def test_the_longest_prefix_and_then_a_service_for_one_port_decides(
    places: list[tuple[int, Prefix | None, int | None]],
    removed: set[int],
    flow: tuple[int, bytes, int],
    own: bool,
) -> None:
    table = ServiceTable()
    for number, place in enumerate(places):
        table.add(ProgramService(SocketId(number + 1), *place))
    for number in removed:
        table.remove(SocketId(number + 1))
    protocol, address, port = flow
    fitting = [
        (-1 if prefix is None else prefix.length, only is not None, number + 1)
        for number, (wanted, prefix, only) in enumerate(places)
        if number not in removed and wanted == protocol and only in (None, port)
        if (own if prefix is None else prefix.contains(address))
    ]

    assert table.find(protocol, address, port, own=own) == (max(fitting)[2] if fitting else None)
    assert len(list(table)) == len(set(range(len(places))) - removed)


def test_a_longer_prefix_for_all_ports_decides_before_a_shorter_one_for_one_port() -> None:
    table = ServiceTable()
    table.add(ProgramService(SocketId(1), TCP, Prefix.of("10.0.0.0/8"), 80))
    table.add(ProgramService(SocketId(2), TCP, Prefix.of("10.0.0.0/16"), None))
    table.add(ProgramService(SocketId(3), TCP, None, 80))
    addresses = (Endpoint("10.0.0.1", 0).address, Endpoint("10.1.0.1", 0).address, bytes(4))
    assert [table.find(TCP, address, 80, own=True) for address in addresses] == [2, 1, 3]


def test_two_services_at_one_place_are_an_error() -> None:
    table = ServiceTable()
    table.add(ProgramService(SocketId(1), TCP, None, 80))
    table.add(ProgramService(SocketId(2), UDP, None, 80))
    with pytest.raises(UsageError, match="service_removed"):
        table.check_free(TCP, None, 80)
    table.remove(SocketId(1))
    table.check_free(TCP, None, 80)
    table.add(ProgramService(SocketId(3), TCP, None, 80))


def test_a_rule_that_only_allows_may_lead_elsewhere() -> None:
    with pytest.raises(ConfigError, match="to: it has no effect with refuse; leave it out, or use allow"):
        Rule(action=Action.REFUSE, to=Endpoint("127.0.0.1", 80))


def test_a_bucket_allows_a_burst_and_then_a_rate() -> None:
    bucket = TokenBucket(10.0, 3, 100.0)
    assert [bucket.take(100.0) for _ in range(5)] == [True] * 3 + [False] * 2
    times = [time for time in (100.0 + number / 100 for number in range(101)) if bucket.take(time)]
    assert len(times) == 10
    assert all(later - earlier > 0.09 for earlier, later in pairwise(times))
    assert bucket.allows(1000.0)
    assert [bucket.take(1000.0) for _ in range(5)] == [True] * 3 + [False] * 2


def test_thousands_of_rules_are_tables_at_once() -> None:
    """They are built while a network runs, and its guest waits."""
    rules = [
        Rule(
            action=Action.DROP, destinations=(f"10.{number // 250}.{number % 250}.0/24",), ports=((number + 1, 60000),)
        )
        for number in range(4000)
    ]
    before = process_time()
    policy = Evaluator(rules, None)
    assert process_time() - before < 5
    assert policy.judge(TCP, b"\x0a\3\5\1", 756).rule is rules[755]
    assert policy.judge(TCP, b"\x0a\3\5\1", 755).action is Action.ALLOW
