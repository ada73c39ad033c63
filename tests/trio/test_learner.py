"""The learnt policy: exactly what was used, in a file to be reviewed."""

from __future__ import annotations

import errno
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sansnet_core import Endpoint, FlowClosed, FlowOpened, FlowRefused, NameAsked, Reason, addresses
from sansnet_core.config import ResolverConfig
from sansnet_core.orders import SocketId
from sansnet_core.policy import Action, Evaluator, NameMode, load_policy
from sansnet_core.records import replace
from sansnet_core.testing import make_config
from sansnet_trio import Event
from sansnet_trio.audit.learner import Learner

ID: Final = SocketId(7)
HOST: Final = addresses.parse("10.1.2.3")
RESOLVER: Final = addresses.parse("10.0.2.3")
CONFIG: Final = replace(make_config(), host_addresses=(HOST,), dns_servers=(RESOLVER,), resolver=ResolverConfig())
NUMBERS: Final = {"tcp": (6, 6), "udp": (17, 17), "ping": (1, 58)}


def opened(
    host: str | bytes, port: int = 443, name: str | None = None, *, protocol: str = "tcp", inbound: bool = False
) -> FlowOpened:
    """A flow. One with a name goes to an address of its own, as with a resolver of ours."""
    address = addresses.packed(host)
    v6 = len(address) == 16
    guest = Endpoint("fd00::15" if v6 else "10.0.2.15", port if inbound else 40000)
    leased = ("fd73:616e:736e:6574::1" if v6 else "198.18.0.1") if name is not None else address
    remote = Endpoint(leased, 50000 if inbound else port)
    return FlowOpened(ID, NUMBERS[protocol][v6], guest, remote, Endpoint(address, remote.port), inbound, 0.0, name)


def closed(flow: FlowOpened, *, sent: int = 10, received: int = 20, reason: Reason | None = None) -> FlowClosed:
    ends = (flow.socket, flow.protocol, flow.guest, flow.remote, flow.host, flow.inbound)
    return FlowClosed(*ends, sent, received, 0, 0.0, flow.name, reason)


def failed(flow: FlowOpened, why: int = errno.ECONNREFUSED, reason: Reason | None = None) -> FlowRefused:
    return FlowRefused(flow.protocol, flow.guest, flow.remote, flow.host, why, reason, flow.inbound, 0.0, flow.name)


def asked(name: str, type_: int = 1, *, refused: bool = False) -> NameAsked:
    return NameAsked(name, False, 0.0, type_, refused)


def learnt(*events: Event) -> Learner:
    learner = Learner(CONFIG, wall=lambda: 0.0)
    learner.add(events)
    return learner


def rules(*events: Event) -> list[str]:
    """The rules of the learnt file, in the text form."""
    learner = learnt(*events)
    loaded = load_policy(learner.text()).policy
    assert loaded == learner.policy
    assert loaded.default_action is Action.REFUSE
    return list(map(str, loaded.rules))


def test_a_policy_that_was_learnt_with_real_addresses_has_them() -> None:
    learner = Learner(replace(CONFIG, resolver=ResolverConfig(names=NameMode.REAL)))
    assert load_policy(learner.text()).policy.names is NameMode.REAL
    assert learnt().policy.names is None


def test_the_ports_of_a_name_are_one_rule() -> None:
    flows = [opened("93.184.216.34", port, "www.example.org") for port in (443, 80, 443)]
    assert rules(*flows) == ["allow tcp www.example.org port 80,443"]


def test_protocols_with_the_same_ports_are_one_rule_and_others_are_not() -> None:
    name, host = "www.example.org", "93.184.216.34"
    both = [opened(host, 443, name), opened(host, 443, name, protocol="udp")]
    assert rules(*both) == ["allow tcp,udp www.example.org:443"]
    assert rules(*both, opened(host, 80, name)) == [
        "allow tcp www.example.org port 80,443",
        "allow udp www.example.org:443",
    ]


def test_names_are_sorted_by_suffix_and_before_addresses() -> None:
    names = ["b.example.org", "a.example.org", "c.example.com"]
    flows = [opened("93.184.216.34", 443, name) for name in names]
    assert rules(opened("8.8.8.8"), *flows) == [
        "allow tcp c.example.com:443",
        "allow tcp a.example.org:443",
        "allow tcp b.example.org:443",
        "allow out tcp 8.8.8.8:443",
    ]


def test_an_address_without_a_name_is_a_rule_with_a_warning() -> None:
    text = learnt(opened("8.8.8.8"), opened("169.254.169.254", 80)).text()
    assert "No name was looked up for this address (public)." in text
    assert "(link-local, metadata)" in text


def test_a_name_at_an_address_that_is_not_public_is_a_rule_about_both() -> None:
    found = rules(opened("10.9.9.9", 5432, "db.example.org"), opened("93.184.216.34", 5432, "db.example.org"))
    assert found == ["allow tcp db.example.org:5432", "allow tcp db.example.org at 10.9.9.9 port 5432"]
    assert rules(opened("10.9.9.9", 5432, "db.example.org")) == ["allow tcp db.example.org at 10.9.9.9 port 5432"]
    assert "not public (host, private)" in learnt(opened(HOST, 80, "self.example.org")).text()


def test_a_name_of_an_alias_of_the_loopback_is_a_rule_about_the_alias() -> None:
    """Rules see the destination in the guest's packets, unless it exists for a name only."""
    alias, loopback = Endpoint("10.9.9.9", 5432), Endpoint("127.0.0.1", 5432)
    flow = FlowOpened(ID, 6, Endpoint("10.0.2.15", 40000), alias, loopback, False, 0.0, "host.sansnet.internal")
    found = rules(flow)
    assert found == ["allow tcp host.sansnet.internal at 10.9.9.9 port 5432"]
    evaluator = Evaluator(learnt(flow).policy.rules, Action.REFUSE)
    named = evaluator.judge(6, alias.address, 5432, name="host.sansnet.internal", host=loopback.address)
    assert named.allowed


def test_a_ping_is_a_rule_without_ports() -> None:
    assert rules(opened("93.184.216.34", 9, "www.example.org", protocol="ping")) == ["allow ping www.example.org"]


def test_questions_to_the_name_server_are_a_rule_unless_names_are() -> None:
    questions = [opened(RESOLVER, 53, protocol=protocol) for protocol in ("udp", "tcp")]
    assert rules(*questions) == ["allow tcp,udp resolver port 53"]
    # With names, our own resolver answers; the rule would allow the questions for all other names
    assert rules(*questions, opened("8.8.8.8", 443, "a.test")) == ["allow tcp a.test:443"]
    other = opened(RESOLVER, 80)
    assert rules(other, opened("8.8.8.8", 443, "a.test")) == ["allow tcp a.test:443", "allow out tcp 10.0.2.3:80"]


def test_flows_from_outside_are_one_rule_for_each_port() -> None:
    found = rules(*(opened(host, 8080, inbound=True) for host in ("8.8.8.8", "9.9.9.9", "8.8.8.8")))
    assert found == ["allow in tcp 8.8.8.8,9.9.9.9 port 8080"]


def test_a_flow_that_failed_is_a_comment() -> None:
    flow = opened("93.184.216.34", 80, "www.example.org")
    learner = learnt(flow, failed(flow), closed(flow))
    assert learner.policy.rules == ()
    assert "#     tcp www.example.org:80 (ECONNREFUSED)\n" in learner.text()
    assert rules(flow, failed(flow), opened("93.184.216.34", 80, "www.example.org")) == ["allow tcp www.example.org:80"]


def test_what_was_refused_is_a_comment() -> None:
    flow = opened("93.184.216.34", 80, "www.example.org")
    learner = learnt(failed(flow, errno.EACCES, Reason.REFUSED), asked("evil\x1b.test", refused=True))
    assert learner.policy.rules == ()
    assert "#     tcp www.example.org:80\n#     the question for evil\\x1b.test\n" in learner.text()


def test_a_connection_that_named_another_host_is_no_use_of_the_name() -> None:
    flow = opened("93.184.216.34", 443, "www.example.org")
    assert rules(flow, closed(flow, sent=0, received=0, reason=Reason.NAME_REFUSED)) == []


def test_a_name_that_was_looked_up_and_not_used_is_a_comment() -> None:
    learner = learnt(asked("www.example.org"), asked("www.example.org", 28), asked("used.example.org"))
    learner.add([opened("93.184.216.34", 443, "used.example.org")])
    assert [str(rule) for rule in learner.policy.rules] == ["allow tcp used.example.org:443"]
    assert "no rule" in learner.text()
    assert "#     www.example.org\n" in learner.text()


def test_questions_that_are_no_beginning_of_a_flow_are_rules_about_questions_alone() -> None:
    found = rules(asked("_ldap._tcp.example.org", 33), asked("example.org", 257))
    assert found == [
        "allow ping _ldap._tcp.example.org at 255.255.255.255",
        "allow ping example.org at 255.255.255.255 records=CAA",
    ]
    policy = learnt(asked("_ldap._tcp.example.org", 33), asked("example.org", 257)).policy
    evaluator = Evaluator(policy.rules, policy.default_action)
    assert evaluator.question("_ldap._tcp.example.org", 33).allowed
    assert evaluator.question("example.org", 257).allowed
    assert not evaluator.question("example.org", 258).allowed
    assert not evaluator.judge(6, addresses.parse("93.184.216.34"), 443, name="example.org").allowed
    assert not evaluator.judge(1, addresses.parse("93.184.216.34"), 0, name="example.org").allowed


def test_names_under_one_suffix_are_proposed_and_not_widened() -> None:
    flows = [opened("93.184.216.34", 443, f"{number}.cdn.example.net") for number in range(3)]
    learner = learnt(*flows, *(opened("8.8.8.8", 443, f"{letter}.co.uk") for letter in "abc"))
    assert "#     *.cdn.example.net: 0.cdn.example.net, 1.cdn.example.net, 2.cdn.example.net\n" in learner.text()
    assert "*.co.uk" not in learner.text()
    assert not any("*" in name for rule in learner.policy.rules for name in rule.names)


@pytest.mark.parametrize("name", ["*", "*.example.org", "a b.test", "127.1", "x..y", "line\nbreak.test", "A.test"])
def test_a_name_that_no_rule_can_have_is_a_comment(name: str) -> None:
    learner = learnt(asked(name), asked(name, 16), opened("93.184.216.34", 443, name))
    assert learner.policy.rules == ()
    assert load_policy(learner.text()).policy.rules == ()
    assert "because they are no host names" in learner.text()


def test_its_memory_is_bounded_and_the_file_says_what_is_missing() -> None:
    learner = Learner(CONFIG)
    for number in range(10_500):
        learner.add([opened("93.184.216.34", 1 + number % 60000), asked(f"{number}.test")])
    assert len(learner.policy.rules) == 1
    assert "incomplete: 1000 flows or questions" in learner.text()


def test_the_head_says_when_and_how_to_use_it() -> None:
    text = learnt().text()
    assert text.startswith("# Learnt by sansnet ")
    assert " on 1970-01-01." in text.splitlines()[0]
    assert 'default = "refuse"' in text


LABELS = st.sampled_from(["a", "b", "cdn", "example", "org", "net", "x-y", "_srv", "in", "any", "port"])
NAMES = st.lists(LABELS, min_size=1, max_size=4).map(".".join)
ADDRESSES = st.one_of(
    st.sampled_from(
        [
            *("8.8.8.8", "10.1.2.3", "10.9.9.9", "127.0.0.1", "169.254.169.254", "192.0.2.1", "203.0.113.5"),
            *("2001:4860::1", "fd00::9", "fe80::1", "::1", "64:ff9b::808:808", "64:ff9b::a00:1", "2002:a00:1::"),
            "::ffff:1.1.1.1",
        ]
    ).map(addresses.parse),
    st.binary(min_size=4, max_size=4).filter(lambda one: 0 < one[0] < 224),
    st.binary(min_size=15, max_size=15).map(lambda rest: b"\x20" + rest),
)
PORTS = st.sampled_from([1, 22, 53, 80, 443, 853, 5353, 65535])
FLOWS = st.builds(
    opened,
    ADDRESSES,
    PORTS,
    st.one_of(st.none(), NAMES),
    protocol=st.sampled_from(sorted(NUMBERS)),
    inbound=st.booleans(),
).filter(lambda flow: not (flow.inbound and (flow.name is not None or flow.protocol in (1, 58))))


def is_allowed(evaluator: Evaluator, flow: FlowOpened) -> bool:
    """Whether a network with these rules would open a flow; its name server is ours."""
    if flow.name is None:
        port = flow.guest.port if flow.inbound else flow.remote.port
        host = None if flow.inbound else flow.host.address
        return evaluator.judge(flow.protocol, flow.remote.address, port, inbound=flow.inbound, host=host).allowed
    judged = evaluator.judge(flow.protocol, flow.host.address, flow.remote.port, name=flow.name)
    return judged.allowed and evaluator.question(flow.name, 1).allowed


def key(flow: FlowOpened) -> tuple[Any, ...]:
    """The use that a rule is about."""
    port = None if flow.protocol in (1, 58) else flow.guest.port if flow.inbound else flow.remote.port
    word = {1: "ping", 58: "ping", 6: "tcp", 17: "udp"}[flow.protocol]
    return word, flow.inbound, port, flow.name if flow.name is not None else flow.remote.address


@given(st.lists(FLOWS, max_size=8), st.lists(FLOWS, max_size=8))
def test_the_file_allows_what_was_used_and_nothing_else(used: list[FlowOpened], others: list[FlowOpened]) -> None:
    learner = Learner(CONFIG)
    learner.add(used)
    policy = load_policy(learner.text()).policy
    evaluator = Evaluator(policy.rules, policy.default_action, host=(HOST,), resolvers=(RESOLVER,))
    assert [flow for flow in used if not is_allowed(evaluator, flow)] == []
    keys = set(map(key, used))
    assert [flow for flow in others if key(flow) not in keys and is_allowed(evaluator, flow)] == []
    not_used = {flow.name for flow in others if flow.name is not None} - {flow.name for flow in used}
    assert not any(evaluator.question(name, 1).allowed for name in not_used)


def test_it_needs_no_configuration() -> None:
    learner = Learner()
    learner.add([opened("8.8.8.8")])
    assert list(map(str, learner.policy.rules)) == ["allow out tcp 8.8.8.8:443"]
