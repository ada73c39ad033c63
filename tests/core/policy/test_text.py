"""The text form of rules."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sansnet_core import Action, ConfigError, Endpoint, Prefix, Rule
from sansnet_core.policy import Check, Group, PolicyError, parse_destination, parse_rule, parse_rules
from sansnet_core.policy.rule import PROTOCOLS, WORDS
from sansnet_core.records import replace
from tests.core.policy.test_evaluator import rules

ANY_RULE: Any = Rule

LABELS = st.text(st.characters(exclude_categories=["Cc", "Cs", "Cn"]), min_size=1, max_size=20).filter(
    lambda text: text.isprintable() and bool(text.strip())
)


@st.composite
def labelled(draw: st.DrawFn) -> Rule:
    """Rules with the fields that have no effect on the evaluation."""
    rule = draw(rules())
    changes: dict[str, object] = {"label": draw(st.none() | LABELS)}
    if rule.action is Action.REFUSE:
        changes["errno"] = draw(st.sampled_from([13, 111, 113, 4000]))
    elif rule.action is not Action.DROP and rule.to is None:
        changes["via"] = draw(st.none() | LABELS)
    words = sorted(WORDS)
    changes["names"] = (*rule.names, *draw(st.lists(st.sampled_from(words), max_size=2)))
    if rule.to is not None:
        changes["to"] = draw(st.sampled_from([Endpoint("::1", 5), Endpoint("fe80::1%3", 6), Endpoint("1.2.3.4", 7)]))
    return replace(rule, **changes)


@settings(max_examples=300)
@given(labelled())
def test_a_rule_is_read_from_its_text(rule: Rule) -> None:
    assert parse_rule(str(rule)) == rule
    assert "\n" not in str(rule)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("allow", Rule(action=Action.ALLOW)),
        ("allow any", Rule(action=Action.ALLOW)),
        ("ask", Rule(action=Action.ASK)),
        (
            "allow tcp packages.example.org:443",
            Rule(action=Action.ALLOW, protocols=("tcp",), names=("packages.example.org",), ports=(443,)),
        ),
        (
            "allow *.cdn.example.net port 443,8000-8100",
            Rule(action=Action.ALLOW, names=("*.cdn.example.net",), ports=(443, (8000, 8100))),
        ),
        ("refuse private", Rule(action=Action.REFUSE, groups=(Group.PRIVATE,))),
        (
            "drop udp public port 53",
            Rule(action=Action.DROP, protocols=("udp",), groups=(Group.PUBLIC,), ports=(53,)),
        ),
        (
            "redirect tcp api.example.org:443 to 127.0.0.1:8443",
            Rule(
                action=Action.ALLOW,
                protocols=("tcp",),
                names=("api.example.org",),
                ports=(443,),
                to=Endpoint("127.0.0.1", 8443),
            ),
        ),
        ("redirect ping 10.0.0.1 to ::1", None),
        (
            'allow out tcp db.example.org:5432 check=none label="the database" via=office',
            Rule(
                action=Action.ALLOW,
                protocols=("tcp",),
                names=("db.example.org",),
                ports=(5432,),
                inbound=False,
                check=Check.NONE,
                label="the database",
                via="office",
            ),
        ),
        ("refuse(ECONNREFUSED) 10.0.0.0/8", Rule(action=Action.REFUSE, errno=111, destinations=("10.0.0.0/8",))),
        ("refuse(113) in", Rule(action=Action.REFUSE, errno=113, inbound=True)),
        ("allow [2001:db8::1]:443", Rule(action=Action.ALLOW, destinations=("2001:db8::1",), ports=(443,))),
        ("allow [2001:db8::/32]:443", Rule(action=Action.ALLOW, destinations=("2001:db8::/32",), ports=(443,))),
        ("allow 2001:db8::/32", Rule(action=Action.ALLOW, destinations=("2001:db8::/32",))),
        ("allow 10.0.0.0/8:443", Rule(action=Action.ALLOW, destinations=("10.0.0.0/8",), ports=(443,))),
        ("allow private:80-81", Rule(action=Action.ALLOW, groups=(Group.PRIVATE,), ports=((80, 81),))),
        (
            "allow a.org,b.org at 10.0.0.0/8,private port 5",
            Rule(
                action=Action.ALLOW,
                names=("a.org", "b.org"),
                destinations=("10.0.0.0/8",),
                groups=(Group.PRIVATE,),
                ports=(5,),
            ),
        ),
        (
            "allow  tcp , udp  a.org ,b.org",
            Rule(action=Action.ALLOW, protocols=("tcp", "udp"), names=("a.org", "b.org")),
        ),
        ("allow host.", Rule(action=Action.ALLOW, names=("host",))),
        ("allow a.org records=CAA,type300", Rule(action=Action.ALLOW, names=("a.org",), record_types=(257, 300))),
        ('allow label="a, \\"b\\"" check=tls', Rule(action=Action.ALLOW, label='a, "b"', check=Check.TLS)),
    ],
)
def test_examples(text: str, rule: Rule | None) -> None:
    found = parse_rule(text)
    assert found == (rule or found)
    assert parse_rule(str(found)) == found


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "the rule is empty"),
        ("alow a.org", "action: 'alow' is not one of allow, refuse, drop, ask, redirect"),
        ("refuse(EFOO) a.org", "action: 'EFOO' is not an errno"),
        ("refuse(1 a.org", "action: .* write 'refuse"),
        ("allow(EPERM) a.org", "errno: it has no effect with allow"),
        ("allow tcp,foo", "protocol: 'foo' is not one of tcp, udp, ping"),
        ("allow 8443", "destination: '8443' is not a destination; write 'port 8443'"),
        ("allow a.org:443,8443", "write 'port 8443'"),
        ("allow a.org:443,b.org:80", "destination: the destinations have different ports"),
        ("allow a.org:443,b.org", "destination: the destinations have different ports"),
        ("allow a.org:443 port 80", "port: it is given twice"),
        ("allow any,a.org", "destination: 'any' stands for all"),
        ("allow 10.0.0.1/8", "destination: .* has bits beyond its length; give '10.0.0.0/8'"),
        ("allow 10.0.0/8", "destination: '10.0.0/8' is not a network"),
        ("allow 300.1.1.1", "destination: '300.1.1.1' is not a network"),
        ("allow 127.1", "destination: .* give all four parts"),
        ("allow a.org: port 80", "destination: 'a.org:' is not a destination with a port"),
        ("allow [::1", "destination: .* write '\\[2001:db8::1\\]:443'"),
        ("allow [::1]x", "destination: .* write '\\[2001:db8::1\\]:443'"),
        ("allow a.org,,b.org", "destination: '' has an empty label"),
        ("allow port", "it ends before the ports"),
        ("allow port 0", "port: '0' is not a port from 1 to 65535"),
        ("allow port 70000", "port: '70000' is not a port from 1 to 65535"),
        ("allow port 5-4", "port: '5-4' is not a range"),
        ("allow port 5-", "port: '5-' is not a port"),
        ("allow a.org extra", "'extra' is not expected there"),
        ("allow tpc a.org:443", "'a.org:443' is not expected there, since 'tpc' was read as a destination"),
        ("refuse privat", "'privat' is not a group; write 'private', or 'privat.' for a host of that name"),
        ("refuse Private", "'Private' is not a group; write 'private'"),
        ("refuse link_local", "write 'link-local'"),
        ("refuse metdata:80", "write 'metadata'"),
        ("refuse pubilc", "write 'public'"),
        ("allow a.org chek=tls", "'chek=tls' is not expected there"),
        ("allow a.org check=tsl", "check: 'tsl' is not one of none, tls, http"),
        ("allow check=tls check=tls", "check: it is given twice"),
        ("redirect a.org", "to: redirect needs"),
        ("allow a.org to 1.1.1.1:1", "to: redirect needs"),
        ("redirect a.org to b.org:1", "to: 'b.org' is not an IP address"),
        ("redirect a.org to 1.1.1.1", "to: .* has port 0"),
        ("redirect a.org to 1.1.1.1:1 via=x", "via: a flow that is redirected goes to no proxy"),
        ("refuse a.org via=x", "via: it has no effect with refuse"),
        ("refuse a.org records=CAA", "record_types: it has no effect with refuse"),
        ("allow a.org records=XYZ", "record_types: 'XYZ' is not a type of records"),
        ("allow 10.0.0.1 at private", "at: only names can be restricted"),
        ("allow a.org at b.org", "at: give networks and groups alone"),
        ("allow a.org at any", "at: give networks and groups alone"),
        ("allow a.org at", "it ends before the addresses"),
        ("allow a.org,10.0.0.0/8", "has names and addresses; write two rules, or 'NAME at ADDRESS'"),
        ('allow label="x', "a quote is not closed"),
        ('allow "a.org"', "a quote is only possible behind a key"),
        ('allow label="x"y', "a blank is missing behind the quote"),
        ('allow label=""', "label: '' is not a text of 1 to 200 printable characters"),
        ("allow label=\x1b", "label: .* is not a text of 1 to 200 printable characters"),
        (5, "5 is not the text of a rule"),
    ],
)
def test_an_error_names_the_field_and_the_remedy(text: str, problem: str) -> None:
    with pytest.raises(PolicyError, match=problem):
        parse_rule(text)


@pytest.mark.parametrize("name", ["privat", "link_local", "metdata"])
def test_a_host_name_like_a_group_is_written_with_a_dot(name: str) -> None:
    rule = parse_rule(f"allow {name}.")
    assert rule.names == (name,)
    assert parse_rule(str(rule)) == rule


@pytest.mark.parametrize("name", ["hosts", "db", "public.example.org", "public2", "publishing", "x-private-y"])
def test_other_host_names_are_no_mistakes(name: str) -> None:
    assert parse_rule(f"allow {name}").names == (name,)


def test_names_and_addresses_as_alternatives_are_two_rules() -> None:
    assert parse_rules("refuse udp evil.org,10.0.0.0/8,private port 5 label=x") == (
        parse_rule("refuse udp evil.org port 5 label=x"),
        parse_rule("refuse udp 10.0.0.0/8,private port 5 label=x"),
    )


@pytest.mark.parametrize(
    ("text", "action", "expected"),
    [
        ("a.org:443", Action.ALLOW, ["allow tcp a.org:443"]),
        ("a.org", Action.ALLOW, ["allow a.org"]),
        ("udp a.org:443", Action.ALLOW, ["allow udp a.org:443"]),
        ("a.org port 80,443 check=none", Action.ALLOW, ["allow tcp a.org port 80,443 check=none"]),
        ("a.org:443,10.0.0.1:443", Action.ALLOW, ["allow tcp a.org:443", "allow tcp 10.0.0.1:443"]),
        ("a.org:443", Action.REFUSE, ["refuse a.org:443"]),
        ("private", Action.REFUSE, ["refuse private"]),
    ],
)
def test_arguments_of_options_are_rules_without_the_action(text: str, action: Action, expected: list[str]) -> None:
    assert [str(rule) for rule in parse_destination(text, action)] == expected


PARTS = (
    *("allow", "refuse", "in", "tcp", "a.org:1", "10.0.0.0/8", "port", "1", "to", "at", "any", "[::1]:1", "private"),
    *("check=tls", "label=x", 'label="x y"', "records=CAA", ",", ":", "=", '"'),
)


@given(st.text(max_size=60) | st.lists(st.sampled_from(PARTS), max_size=8).map(" ".join))
def test_any_text_is_rules_or_an_error(text: str) -> None:
    try:
        found = parse_rules(text)
    except PolicyError:
        return
    for rule in found:
        assert parse_rule(str(rule)) == rule


def test_words_of_the_text_form_are_known() -> None:
    assert {group.value for group in Group} | set(PROTOCOLS) <= WORDS


@pytest.mark.parametrize(
    "wrong",
    [
        {"names": ("a b",)},
        {"names": "a.org"},
        {"groups": ("private",)},
        {"label": ""},
        {"label": "a\nb"},
        {"via": "\x1b"},
        {"record_types": ("XYZ",)},
        {"record_types": (0,)},
        {"check": "tls"},
    ],
)
def test_fields_of_rules_are_checked(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=f"^{next(iter(wrong))}: "):
        ANY_RULE(action=Action.ALLOW, **wrong)


def test_a_rule_keeps_names_in_canonical_form() -> None:
    rule = Rule(action=Action.ALLOW, names=("*.BÜCHER.example.", "A.org"), destinations=(Prefix("10.0.0.0/8"),))
    assert rule.names == ("*.xn--bcher-kva.example", "a.org")
