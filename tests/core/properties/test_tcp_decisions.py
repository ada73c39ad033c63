"""Verdicts in any order, late, never, with guests that repeat, reset and give up. Invariants:

- no host socket exists before a verdict allows it, and none at all for virtual prefixes and services;
- each connection is asked about once, and its question is answered or withdrawn;
- the questions are bounded in number and time, and nothing is left after a silence;
- each connection that was reported as open is reported as closed, once;
- the same inputs give the same outputs.
"""

from __future__ import annotations

from errno import ECONNREFUSED, EHOSTUNREACH, ETIMEDOUT

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from sansnet_core import (
    Action,
    Allow,
    CloseSocket,
    DecideFlow,
    Drop,
    Endpoint,
    FlowClosed,
    FlowOpened,
    FlowRefused,
    Limits,
    OpenStream,
    Prefix,
    Refuse,
    Rule,
    Serve,
    ServeStream,
    Verdict,
)
from sansnet_core.orders import SocketId
from sansnet_core.records import replace
from sansnet_core.testing import OUTSIDER, SERVER, SERVER6, HostScript, Pair, ScriptedHost, make_config
from sansnet_core.testing.packets import ACK, RST, SYN, TCP, Segment
from tests.sim.record import RecordingNetwork, replay

LIMITS = Limits(tcp_flows=12, tcp_pending=6, tcp_inbound_flows=6, undecided_flows=3, decision_time=20.0)
VIRTUAL = bytes((198, 18, 0, 1))
ELSEWHERE = Endpoint("2001:db8:5::5", 443)
VERDICTS: dict[str, Verdict] = {
    "allow": Allow(),
    "elsewhere": Allow(ELSEWHERE),
    "refuse": Refuse(),
    "reset": Refuse(ECONNREFUSED),
    "unreachable": Refuse(EHOSTUNREACH),
    "silence": Refuse(ETIMEDOUT),
    "drop": Drop(),
    "serve": Serve(),
}
RULES = {
    "ask": (),
    "refuse": (Rule(action=Action.REFUSE, ports=(81,)),),
    "drop": (Rule(action=Action.DROP, ports=(80,)),),
    "allow": (Rule(action=Action.ALLOW),),
}
SERVERS = st.sampled_from([SERVER, SERVER6, VIRTUAL])
PORTS = st.sampled_from([40000, 40001, 40002, 40003])
ISNS = st.sampled_from([7, 1_000_000])


class Decisions(RuleBasedStateMachine):
    """A guest, outsiders, a program and time."""

    @initialize(connect=st.sampled_from([0, 0, 0, 111, None]))
    def start(self, connect: int | None) -> None:
        self.config = replace(make_config(limits=LIMITS), default_action=Action.ASK, virtual=("198.18.0.0/15",))
        self.pair = Pair(self.config, HostScript(connect=connect))
        self.began = self.pair.now
        self.network = RecordingNetwork(self.config, now=self.began, secret=bytes(range(32)))
        self.pair.network = self.network
        self.pair.host = ScriptedHost(self.network, HostScript(connect=connect))
        self.allowed: set[SocketId] = set()
        self.asked: dict[SocketId, float] = {}
        self.checked = 0
        self.services: list[SocketId] = []
        self.rule_name = "ask"

    def settle(self) -> None:
        self.pair.settle()
        orders = self.pair.host.orders[self.checked :]
        self.checked += len(orders)
        for order in orders:
            if isinstance(order, DecideFlow):
                assert order.socket not in self.asked, "asked twice"
                self.asked[order.socket] = self.pair.now
            elif isinstance(order, OpenStream):
                assert order.socket in self.allowed or (order.socket not in self.asked and self.rule_name == "allow")
                assert order.remote.address != VIRTUAL
                assert order.destination.address != VIRTUAL
            elif isinstance(order, ServeStream):
                assert order.service is not None or order.socket in self.allowed
            elif isinstance(order, CloseSocket):
                self.asked.pop(order.socket, None)

    @rule(port=PORTS, server=SERVERS, remote=st.sampled_from([80, 81]), isn=ISNS)
    def guest_connects(self, port: int, server: bytes, remote: int, isn: int) -> None:
        """Also a repeated SYN, or another one from the same port."""
        source = self.pair.guest.address(len(server))
        self.pair.guest.send(Segment(source, port, server, remote, sequence=isn, flags=SYN, mss=1460).ip())
        self.settle()

    @rule(port=PORTS, server=SERVERS, remote=st.sampled_from([80, 81]), isn=ISNS, flags=st.sampled_from([RST, ACK]))
    def guest_sends_something_else(self, port: int, server: bytes, remote: int, isn: int, flags: int) -> None:
        source = self.pair.guest.address(len(server))
        self.pair.guest.send(Segment(source, port, server, remote, sequence=isn + 1, flags=flags).ip())
        self.settle()

    @rule(number=st.integers(0, 4))
    def outsider_connects(self, number: int) -> None:
        remote = Endpoint(OUTSIDER.address, 1000 + number)
        stream = self.pair.host.accept(remote, 80, self.pair.now)
        assert stream is None or not stream.failed
        self.settle()

    @rule(data=st.data())
    def outsider_is_gone(self, data: st.DataObject) -> None:
        streams = [one for one in self.pair.host.streams.values() if one.connected and not one.closed]
        if streams:
            stream = data.draw(st.sampled_from(streams))
            undecided = stream.socket in self.pair.host.questions
            if undecided:  # the order that withdraws the question is still to come
                self.network.stream_failed(stream.socket, 104, None, self.pair.now)
            else:
                self.pair.host.fail(stream, 104, self.pair.now)
            self.settle()
            assert stream.socket not in self.pair.host.questions

    @rule()
    def program_connects(self) -> None:
        self.pair.host.connect(80, self.pair.now)
        self.settle()

    @rule(data=st.data(), name=st.sampled_from(sorted(VERDICTS)))
    def verdict_comes(self, data: st.DataObject, name: str) -> None:
        questions = self.pair.host.questions
        if questions:
            socket = data.draw(st.sampled_from(sorted(questions)))
            if name in ("allow", "elsewhere", "serve"):
                self.allowed.add(socket)
            self.asked.pop(socket, None)
            self.pair.host.decide(socket, VERDICTS[name], self.pair.now)
            self.settle()

    @rule(socket=st.integers(1, 30), name=st.sampled_from(sorted(VERDICTS)))
    def late_verdict_comes(self, socket: int, name: str) -> None:
        if socket not in self.pair.host.questions:
            before = self.network.flows()
            self.network.flow_decided(SocketId(socket), VERDICTS[name], self.pair.now)
            assert self.network.flows() == before
            self.settle()

    @rule(name=st.sampled_from(sorted(RULES)))
    def rules_change(self, name: str) -> None:
        self.rule_name = name
        rules = RULES[name]
        self.network.reconfigure(replace(self.config, rules=rules), self.pair.now)
        self.settle()

    @rule(port=st.sampled_from([None, 80]), everywhere=st.booleans())
    def service_begins(self, port: int | None, everywhere: bool) -> None:
        if len(self.services) < 1:
            prefix = Prefix.of("0.0.0.0/0") if everywhere else None
            self.services.append(self.network.service_added(TCP, prefix, port, self.pair.now))

    @rule()
    def service_ends(self) -> None:
        if self.services:
            self.network.service_removed(self.services.pop(), self.pair.now)
            self.settle()

    @rule(seconds=st.sampled_from([0.1, 1.0, 5.0, 30.0, 200.0]))
    def time_passes(self, seconds: float) -> None:
        self.pair.wait(seconds)
        self.settle()

    @invariant()
    def questions_are_bounded(self) -> None:
        if not hasattr(self, "pair"):
            return
        flows = self.network.flows()
        undecided = {flow.socket for flow in flows if flow.state == "UNDECIDED"}
        assert undecided == self.pair.host.questions.keys() == self.asked.keys()
        for inbound in (False, True):
            assert sum(flow.inbound == inbound for flow in flows if flow.state == "UNDECIDED") <= LIMITS.undecided_flows
        assert all(self.pair.now - since <= LIMITS.decision_time for since in self.asked.values())
        assert len(flows) <= LIMITS.tcp_flows

    def teardown(self) -> None:
        if not hasattr(self, "pair"):
            return
        self.settle()
        self.pair.wait(20_000.0)
        self.pair.settle()
        assert self.network.flows() == []
        assert self.pair.host.questions == {}
        opened = [notice.socket for notice in self.pair.notices if isinstance(notice, FlowOpened)]
        closed = [notice.socket for notice in self.pair.notices if isinstance(notice, FlowClosed)]
        assert sorted(opened) == sorted(closed) == sorted(set(opened))
        assert all(notice.time >= self.began for notice in self.pair.notices)
        assert sum(isinstance(notice, FlowRefused) for notice in self.pair.notices) <= LIMITS.refusal_burst
        assert replay(self.network.calls, self.config, now=self.began) == self.network.results


Decisions.TestCase.settings = settings(max_examples=100, stateful_step_count=40)
TestDecisions = pytest.mark.slow(Decisions.TestCase)
