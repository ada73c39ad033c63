"""The commands of the control socket about the policy and the flows that wait."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from sansnet_core import Action, Allow, ConfigError, Endpoint, Refuse, Rule
from sansnet_core.policy import NameMode, Policy, PolicyError, ProxyConfig, ProxyKind, parse_rule
from sansnet_core.records import replace
from sansnet_trio import ControlCommands, NewFlow, NoSuchFlow, PendingFlow, Verdict
from sansnet_trio.control.commands import RequestError
from tests.trio.test_control_commands import answer_or_error, ask, documented

GUEST = Endpoint("10.0.2.15", 40000)
NAMED = NewFlow("tcp", GUEST, Endpoint("198.18.0.5", 443), False, "example.org")
PING = NewFlow("ping", GUEST, Endpoint("2001:db8::1", 40000))


class Policed:
    """A policy, and flows that wait."""

    def __init__(self, *rules: str, flows: tuple[NewFlow, ...] = ()) -> None:
        self.policy = Policy(rules=map(parse_rule, rules), default_action=Action.REFUSE)
        self.flows = [PendingFlow(7 + number, flow, 0.0, 30.0) for number, flow in enumerate(flows)]
        self.changes: list[bool] = []
        self.answers: list[tuple[int, Verdict, Rule | None]] = []

    def set_policy(self, policy: Policy, *, keep_flows: bool = False) -> None:
        if policy.names is NameMode.OWN:
            raise ConfigError("rules: they have names, but the guest has no name server; start it with one")
        self.policy = policy
        self.changes.append(keep_flows)

    def pending(self) -> list[PendingFlow]:
        return self.flows

    def answer(self, id: int, verdict: Verdict, rule: Rule | None = None) -> None:
        if id not in [flow.id for flow in self.flows]:
            raise NoSuchFlow(f"no flow {id} waits for a verdict; it was decided")
        self.flows = [flow for flow in self.flows if flow.id != id]
        self.answers.append((id, verdict, rule))
        if rule is not None:
            self.policy = replace(self.policy, rules=(rule, *self.policy.rules))


def make(*rules: str, flows: tuple[NewFlow, ...] = ()) -> tuple[ControlCommands, Policed]:
    commands, policed = ControlCommands(), Policed(*rules, flows=flows)
    commands.policies.set_policed(policed)
    return commands, policed


@pytest.mark.parametrize("command", ["policy", "pending", "allow", "refuse"])
def test_a_policy_needs_a_ready_guest(command: str) -> None:
    with pytest.raises(RequestError, match="the guest is not ready yet; try again"):
        ask(ControlCommands(), command, id=1)


def test_the_policy_is_shown() -> None:
    commands, policed = make("allow tcp example.org:443", "refuse private label=inside")
    shown = {
        "rules": ["allow tcp example.org:443", "refuse private label=inside"],
        "total": 2,
        "default": "refuse",
        "names": None,
        "proxies": [],
    }
    assert ask(commands, "policy") == shown
    assert ask(commands, "policy", most=1) == {**shown, "rules": ["allow tcp example.org:443"]}
    assert policed.changes == []


def test_the_secrets_of_proxies_are_not_shown() -> None:
    commands, policed = make()
    proxy = ProxyConfig(name="office", kind=ProxyKind.SOCKS5, server=("10.0.0.1", 1080), user="me", password="secret")
    policed.policy = replace(policed.policy, proxies=[proxy])
    assert ask(commands, "policy")["proxies"] == ["office"]
    assert "secret" not in str(ask(commands, "policy"))


def test_new_rules_come_first_in_their_order() -> None:
    commands, policed = make("allow udp")
    answer = ask(commands, "policy", add=["allow tcp 192.0.2.1:80", "refuse tcp"])
    assert answer["rules"] == ["allow tcp 192.0.2.1:80", "refuse tcp", "allow udp"]
    assert [str(rule) for rule in policed.policy.rules] == answer["rules"]
    assert policed.changes == [False]


def test_a_line_with_names_and_addresses_is_two_rules() -> None:
    commands, _ = make()
    text = "allow tcp example.org,192.0.2.1 port 443"
    assert len(ask(commands, "policy", add=[text])["rules"]) == 2
    assert ask(commands, "policy", remove=[text])["rules"] == []


@pytest.mark.parametrize(
    "asked", ["inside", "refuse private", "refuse private label=inside", "refuse  private label=other"]
)
def test_rules_are_removed_by_label_or_text(asked: str) -> None:
    commands, _ = make("allow udp", "refuse private label=inside", "allow tcp", "refuse private")
    left = ask(commands, "policy", remove=[asked])["rules"]
    assert left == (["allow udp", "allow tcp", "refuse private"] if asked == "inside" else ["allow udp", "allow tcp"])


def test_open_flows_stay_on_request() -> None:
    commands, policed = make("allow tcp")
    ask(commands, "policy", remove=["allow tcp"], keep_flows=True)
    assert policed.changes == [True]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"add": []}, "add must be a non-empty list of rules"),
        ({"add": "allow tcp"}, "add must be a non-empty list"),
        ({"remove": [1]}, "remove must be a non-empty list"),
        ({"replace": ["default"]}, "replace must be the text of a policy file"),
        ({"replace": "", "credentials": 1}, "credentials must be an object"),
        ({"add": ["allow tcp"], "remove": ["allow udp"]}, "add and remove exclude each other"),
        ({"remove": ["allow ping"]}, "there is no rule 'allow ping'; `policy` lists the rules"),
        ({"remove": ["packages"]}, "there is no rule 'packages'; `policy` lists the rules"),
        ({"remove": ["allow udp", "allow ping"]}, "there is no rule 'allow ping'"),
        ({"add": ["allow ping", "alow tcp"]}, "alow"),
        ({"add": ["allow tcp"], "keep_flows": 1}, "keep_flows must be true or false"),
        ({"replace": 'default = "refuse"\n[[rule]]\naction = "alow"\n'}, "line 3: .*action.*alow"),
        ({"replace": 'names = "own"'}, "no name server"),
        ({"most": 0}, "most must be a number between 1 and 10000"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_a_change_that_is_not_possible_changes_nothing(fields: dict[str, Any], words: str) -> None:
    commands, policed = make("allow udp")
    before = policed.policy
    with pytest.raises((RequestError, ConfigError), match=words):
        ask(commands, "policy", **fields)
    assert policed.policy == before


def test_the_whole_policy_is_replaced() -> None:
    commands, policed = make("allow udp")
    text = 'default = "ask"\nnames = "real"\nrules = ["allow tcp example.org:443"]\n'
    answer = ask(commands, "policy", replace=text)
    assert (answer["rules"], answer["default"], answer["names"]) == (["allow tcp example.org:443"], "ask", "real")
    assert policed.policy.default_action is Action.ASK


def test_the_credentials_of_proxies_come_with_the_request() -> None:
    commands, policed = make()
    text = '[[proxy]]\nname = "office"\nkind = "socks5"\nserver = "10.0.0.1:1080"\ncredentials = "secret.txt"\n'
    with pytest.raises(PolicyError, match=r"secret\.txt"):
        ask(commands, "policy", replace=text)
    ask(commands, "policy", replace=text, credentials={"secret.txt": "me:pass\n"})
    assert policed.policy.proxies[0].password == "pass"


def test_flows_that_wait_are_listed_with_the_rule_that_would_allow_them() -> None:
    commands, _ = make(flows=(NAMED, PING))

    async def main() -> None:
        await trio.sleep(12.34)
        answer = ask(commands, "pending")
        assert answer["total"] == 2
        assert answer["flows"] == [
            {
                "id": 7,
                "protocol": "tcp",
                "inbound": False,
                "guest": {"address": "10.0.2.15", "port": 40000},
                "destination": {"address": "198.18.0.5", "port": 443},
                "name": "example.org",
                "waited": 12.3,
                "left": 17.7,
                "rule": "allow out tcp example.org:443",
            },
            {
                "id": 8,
                "protocol": "ping",
                "inbound": False,
                "guest": {"address": "10.0.2.15", "port": 40000},
                "destination": {"address": "2001:db8::1", "port": 40000},
                "name": None,
                "waited": 12.3,
                "left": 17.7,
                "rule": "allow out ping 2001:db8::1",
            },
        ]
        few = ask(commands, "pending", most=1)
        assert (len(few["flows"]), few["total"]) == (1, 2)

    trio.run(main, clock=MockClock(autojump_threshold=0))


@pytest.mark.parametrize(("command", "verdict"), [("allow", Allow()), ("refuse", Refuse())])
def test_a_flow_is_decided_once_or_by_a_rule(command: str, verdict: Verdict) -> None:
    commands, policed = make("allow udp", flows=(NAMED, PING))
    assert ask(commands, command, id=8) == {"id": 8, "rule": None}
    text = f"{command} out tcp example.org:443"
    assert ask(commands, command, id=7, always=True) == {"id": 7, "rule": text}
    assert policed.answers == [(8, verdict, None), (7, verdict, parse_rule(text))]
    assert ask(commands, "policy")["rules"] == [text, "allow udp"]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "id must be the number of a flow that waits"),
        ({"id": "7"}, "id must be the number"),
        ({"id": True}, "id must be the number"),
        ({"id": 7, "always": "yes"}, "always must be true or false"),
        ({"id": 99}, "no flow 99 waits"),
        ({"id": 99, "always": True}, "no flow 99 waits"),
    ],
    ids=str,
)
def test_a_wrong_answer_decides_nothing(fields: dict[str, Any], words: str) -> None:
    commands, policed = make(flows=(NAMED,))
    with pytest.raises((RequestError, NoSuchFlow), match=words):
        ask(commands, "allow", **fields)
    assert policed.answers == []


def test_the_audit_is_summarized_while_there_is_a_guest() -> None:
    commands = ControlCommands()
    with pytest.raises(RequestError, match="there is no guest now"):
        ask(commands, "audit")
    commands.policies.set_audit(lambda: {"reached": []})
    assert ask(commands, "audit") == {"reached": []}
    commands.policies.set_audit(None)
    with pytest.raises(RequestError):
        ask(commands, "audit")


def test_the_documentations_examples_of_a_policy_are_true() -> None:
    commands, _ = make("allow out udp,tcp resolver port 53 label=questions", flows=(NAMED,))

    async def main() -> None:
        await trio.sleep(2)
        for request, answer in documented("policy"):
            assert answer_or_error(commands, request) == answer

    trio.run(main, clock=MockClock(autojump_threshold=0))
