"""Bytes that the driver reads: requests on the control socket, queries of its name server, the host's resolv.conf.

Wrong ones are answered with the documented error, and answers can be written as JSON or as a DNS message.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Final

import dns.message
import dns.rcode

from fuzz.registry import target
from sansnet_core import SansnetError, ports
from sansnet_core.policy import Policy, parse_rule
from sansnet_core.ports import TCP, ForwardRule
from sansnet_trio.control.commands import ControlCommands
from sansnet_trio.dns.message import Reply, compose, read_query
from sansnet_trio.hostinfo import parse_resolv_conf

__all__ = ["control_request", "query_to_program", "resolv_conf"]


class _Forwards:
    """Forwards without listeners."""

    def __init__(self) -> None:
        self.rules: Sequence[ForwardRule] = ports.parse("8080:80", TCP)

    def add(self, forwards: Iterable[ForwardRule]) -> None:
        self.rules = ports.combine([*self.rules, *forwards])

    def remove(self, forwards: Iterable[ForwardRule]) -> None:
        removed = list(forwards)
        self.rules = [rule for rule in self.rules if rule not in removed]


class _Policed:
    """A policy without a network."""

    def __init__(self) -> None:
        self.policy = Policy(rules=[parse_rule("allow example.org"), parse_rule("refuse 10.0.0.0/8")])

    def set_policy(self, policy: Policy, *, keep_flows: bool = False) -> None:
        assert isinstance(policy, Policy)
        assert type(keep_flows) is bool
        self.policy = policy

    def pending(self) -> list[object]:
        return []

    def answer(self, id: int, verdict: object, rule: object = None) -> None:
        assert type(id) is int


_REQUESTS: Final = (
    {"command": "list"},
    {"command": "add", "forwards": [{"option": "-t", "spec": "127.0.0.1/90:91"}, {"option": "-U", "spec": "auto"}]},
    {"command": "delete", "forwards": [{"option": "-t", "spec": "8080:80"}]},
    {"command": "policy", "add": ["allow tcp a.example.org:443"], "keep_flows": True, "most": 5},
    {"command": "policy", "remove": ["allow example.org"]},
    {
        "command": "policy",
        "replace": 'default = "ask"\n[[rule]]\naction = "allow"\nto = "b"\n',
        "credentials": {"a": "b:c"},
    },
    {"command": "allow", "id": 7, "always": True},
    {"command": "flows", "most": 3},
    {"command": "counters"},
)


@target(
    max_size=600,
    seeds=lambda: [json.dumps(request).encode() for request in _REQUESTS],
    words=(
        b'"command": "',
        b'"policy"',
        b'"forwards": [',
        b'"replace": "',
        b'"add": ["',
        b"null",
        b"1e400",
        b"\\ud800",
    ),
)
def control_request(data: bytes) -> None:
    """A line on the control socket."""
    try:
        request = json.loads(data)
    except (ValueError, RecursionError):
        return
    if not isinstance(request, dict) or request.get("command") == "pending":  # that one reads trio's clock
        return
    commands = ControlCommands()
    commands.set_forwards(_Forwards(), namespace=bool(len(data) & 1))
    commands.policies.set_policed(_Policed())  # type: ignore[arg-type]  # has what the commands use
    try:
        answer = commands.answer(request)
    except SansnetError as error:
        answer = {"error": str(error)}
    json.dumps(answer).encode()


def _queries() -> Iterable[bytes]:
    return [dns.message.make_query("a.example.org", kind, use_edns=0).to_wire() for kind in ("A", "ANY", "IXFR")]


@target(max_size=512, seeds=_queries, words=(b"\0\0\x29\x04\xd0", b"\0\xfb\0\1", b"\0\1\0\1"))
def query_to_program(data: bytes) -> None:
    """A query to a name server of the program."""
    query = read_query(data)
    if query is None:
        return
    response = compose(query, Reply(rcode=query.problem or dns.rcode.NXDOMAIN), query.payload)
    assert len(response) <= query.payload
    read = dns.message.from_wire(response, question_only=False)
    assert read.id == query.id
    assert read.rcode() == (query.problem or dns.rcode.NXDOMAIN)


@target(
    max_size=600,
    seeds=lambda: [
        b"nameserver 192.0.2.1\nnameserver fe80::1%lo\nsearch a.example b\ndomain c\noptions ndots:2\n# x\n"
    ],
    words=(b"nameserver ", b"search ", b"domain ", b"options ", b"%lo", b"::1"),
)
def resolv_conf(data: bytes) -> None:
    """The host's file of name servers."""
    found = parse_resolv_conf(data.decode("utf-8", "surrogateescape"))
    assert all(len(server) in (4, 16) for server in found.nameservers)
