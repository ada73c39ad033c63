"""Explanations, and the cases of policy files."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sansnet_core import Action, ConfigError, Rule
from sansnet_core.policy import (
    PRESETS,
    Policy,
    PolicyFile,
    explain,
    explain_question,
    load_policy,
    parse_rule,
    run_cases,
)
from tests.core.policy.test_evaluator import NAMES, rules

FILE = load_policy(
    """
rules = [
    "refuse metadata",
    "refuse evil.org",
    "allow tcp a.org:22",
    "redirect tcp api.example.org:443 to 127.0.0.1:8443",
    "allow *.cdn.net port 443",
    "allow tcp 10.0.0.0/8 label=office",
    "allow in tcp 10.0.0.0/8 port 80",
]
[[case]]
to = "a.org:22"
expect = "allow"
[[case]]
to = "a.org:22"
at = "127.0.0.1"
expect = "refuse"
[[case]]
label = "no QUIC"
to = "x.cdn.net:443"
protocol = "udp"
expect = "allow"
[[case]]
to = "api.example.org:443"
expect = "redirect"
[[case]]
to = "api.example.org:443"
expect = "allow"
[[case]]
question = "secret.a.org"
expect = "refuse"
[[case]]
to = "10.0.0.1:80"
direction = "in"
expect = "allow"
[[case]]
to = "10.0.0.1"
protocol = "ping"
expect = "refuse"
"""
)


@pytest.mark.parametrize(
    ("destination", "protocol", "action", "sentences"),
    [
        (
            "a.org:22",
            "tcp",
            "allow",
            ["rule 3, line 5, decides: allow tcp a.org:22", "for a public address of the name"],
        ),
        ("A.ORG.:22", "tcp", "allow", ["tcp to a.org:22: allow"]),
        ("a.org:23", "tcp", "refuse", ["rule 3 (allow tcp a.org:22) does not match: it is about other ports"]),
        ("b.org:22", "tcp", "refuse", ["the name is not resolved", "no rule matches, so the default action decides"]),
        ("evil.org:22", "tcp", "refuse", ["the name is not resolved", "rule 2, line 4, decides"]),
        ("1.2.3.4:22", "tcp", "refuse", ["does not match: it is about names, and an address alone stands for none"]),
        ("169.254.169.254:80", "tcp", "refuse", ["rule 1, line 3, decides: refuse metadata", "the guest sees EACCES"]),
        ("x.cdn.net:443", "tcp", "allow", ["the TLS server name must be a name that the rules allow"]),
        (
            "x.cdn.net:443",
            "udp",
            "refuse",
            ["it checks first bytes, so it is about UDP only if its protocols name udp"],
        ),
        ("api.example.org:443", "tcp", "redirect", ["it goes to 127.0.0.1:8443"]),
        ("10.1.1.1:443", "tcp", "allow", ["a TLS server name that the rules refuse ends the connection"]),
        ("11.1.1.1:5", "tcp", "refuse", ["11.1.1.1 is in none of its networks and groups; it is in: public"]),
        ("10.1.1.1:5", "udp", "refuse", ["rule 6 (allow tcp 10.0.0.0/8 label=office) does not match: it is about tcp"]),
        ("10.1.1.1:853", "tcp", "refuse", ["closed: names are resolved by the resolver of the network alone"]),
        ("[64:ff9b::a9fe:a9fe]:80", "tcp", "refuse", ["it carries 169.254.169.254, which is judged as well"]),
        ("10.1.1.1", "ping", "refuse", ["ping to 10.1.1.1: refuse"]),
    ],
)
def test_a_flow_is_explained(destination: str, protocol: str, action: str, sentences: list[str]) -> None:
    found = explain(FILE, destination, protocol)
    assert found.action == action
    for sentence in sentences:
        assert sentence in str(found)


def test_a_ping_over_ipv6_and_a_proxy_are_explained() -> None:
    file = load_policy(
        """
rules = ["allow ping 2001:db8::/32", "allow tcp a.org:22 via=office"]
[[proxy]]
name = "office"
kind = "http"
server = "10.0.0.1:3128"
"""
    )
    assert explain(file, "2001:db8::7", "ping").action == "allow"
    assert explain(file, "2001:db9::7", "ping").action == "refuse"
    assert "it goes through the proxy office" in explain(file, "a.org:22").reasons


def test_each_address_of_a_name_is_explained() -> None:
    found = explain(FILE, "a.org:22", addresses=["127.0.0.1", "10.0.0.1", "1.2.3.4"])
    assert found.action == "allow"
    assert "127.0.0.1: refuse; closed: an address of a name must be public, or allowed by a rule" in found.reasons
    assert "10.0.0.1: allow; rule 3, line 5, decides: allow tcp a.org:22" in found.reasons
    assert explain(FILE, "a.org:22", addresses=["127.0.0.1"]).action == "refuse"
    assert explain(FILE, "a.org:22", addresses=["1.2.3.4"], host_addresses=["1.2.3.4"]).action == "refuse"


def test_it_is_explained_why_the_preset_dns_adds_no_names() -> None:
    file = load_policy('preset = "dns"\nrules = ["allow tcp a.org:443"]')
    why = "rule 2 (allow udp,tcp resolver port 53 label=questions) allows no questions: other rules open names"
    for found in (explain_question(file, "b.org"), explain(file, "b.org:443")):
        assert (found.action, any(reason.startswith(why) for reason in found.reasons)) == ("refuse", True)
    assert explain_question(file, "a.org").action == "allow"
    assert explain_question(PRESETS["dns"], "b.org").action == "allow"


def test_a_question_is_explained() -> None:
    assert explain_question(FILE, "A.org").action == "allow"
    refused = explain_question(FILE, "a.org", "CAA")
    assert refused.action == "refuse"
    assert 'a rule with records = ["CAA"] would allow records of this type' in refused.reasons
    web = PRESETS["web"]
    assert explain_question(web, "a.org").action == "allow"
    assert explain(web, "a.org:443").action == "allow"
    assert explain(web, "a.org:22").action == "refuse"
    with pytest.raises(ConfigError, match=r"^question: 'a b' has ' '"):
        explain_question(FILE, "a b")
    with pytest.raises(ConfigError, match=r"^type: 'XYZ' is not a type of records"):
        explain_question(FILE, "a", "XYZ")


@pytest.mark.parametrize(
    ("destination", "protocol", "problem"),
    [
        ("a.org", "tcp", "to: 'a.org' has no port; write 'HOST:PORT', or 'HOST' for ping"),
        ("a.org:80", "ping", "to: 'a.org:80' has a port"),
        ("a.org:0", "tcp", "to: '0' is not a port"),
        ("10.0.0.0/8:80", "tcp", "to: .* is a network; give one of its addresses"),
        ("*.a.org:80", "tcp", "to: .* is a pattern; give one host name"),
        ("a.org:80", "sctp", "protocol: 'sctp' is not one of tcp, udp, ping"),
    ],
)
def test_a_wrong_destination_is_an_error(destination: str, protocol: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        explain(FILE, destination, protocol)


def test_the_cases_of_a_file_are_run() -> None:
    results = run_cases(FILE)
    assert [result.passed for result in results] == [True, True, False, True, True, True, True, True]
    assert str(results[0]) == "line 11: tcp to a.org:22: passed: allow"
    assert str(results[2]).startswith("line 18: no QUIC: udp to x.cdn.net:443: FAILED: allow, not refuse; ")


@given(
    given_rules=st.lists(rules(), max_size=5),
    default=st.sampled_from(Action),
    place=st.sampled_from(["1.2.3.4", "[fe80::1]", "[64:ff9b::1]", "127.0.0.1"]) | NAMES,
    port=st.sampled_from([53, 80, 443]),
    protocol=st.sampled_from(["tcp", "udp"]),
)
def test_every_flow_has_an_explanation(
    given_rules: list[Rule], default: Action, place: str, port: int, protocol: str
) -> None:
    file = PolicyFile(policy=Policy(rules=given_rules, default_action=default), lines=tuple(range(1, 6)))
    found = explain(file, f"{place}:{port}", protocol)
    assert found.reasons
    if found.number is not None:
        assert found.line == found.number
        assert given_rules[found.number - 1] is found.judgement.rule
    assert all(miss.why for miss in found.misses)
    assert str(found).startswith(f"{protocol} to {place}:{port}: {found.action}\n")


def test_a_policy_without_a_file_has_no_lines() -> None:
    found = explain(Policy(rules=[parse_rule("allow public")], default_action=Action.REFUSE), "1.2.3.4:80")
    assert (found.number, found.line, found.reasons) == (1, None, ("rule 1 decides: allow public",))


def test_no_address_is_shown_that_only_stands_for_any_public_one() -> None:
    found = str(explain(load_policy('rules = ["allow a.org at private"]'), "a.org:443"))
    assert "the public address that the name is assumed to have is in none of its networks and groups" in found
    assert ".1.1.1" not in found
    found = str(explain(load_policy('rules = ["allow a.org at private"]'), "a.org:443", addresses=["1.1.1.1"]))
    assert "1.1.1.1 is in none of its networks and groups" in found
