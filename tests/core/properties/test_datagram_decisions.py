"""Datagrams, pings, services, rules, verdicts and time in any order: no packet reaches a host without permission."""

from __future__ import annotations

import errno
from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, MultipleResults, RuleBasedStateMachine, initialize, invariant, multiple, rule

from sansnet_core import (
    Action,
    Allow,
    CloseSocket,
    DecideFlow,
    DeliverDatagram,
    Drop,
    Endpoint,
    FlowClosed,
    FlowOpened,
    FlowRefused,
    Limits,
    NetworkConfig,
    OpenDatagram,
    OpenEcho,
    Order,
    Prefix,
    Refuse,
    Rule,
    SendDatagram,
    SendEcho,
    Serve,
    SocketId,
    Verdict,
)
from sansnet_core.records import replace
from sansnet_core.testing import GATEWAY, make_config
from sansnet_core.testing.packets import UDP, Ip, echo_request, udp
from tests.core.direct import GUEST, Direct

VIRTUAL = Prefix.of("10.9.0.0/16")
ALLOWED, REFUSED, ASKED, REDIRECTED = (bytes((192, 0, 2, last)) for last in (1, 2, 3, 4))
INSIDE = bytes((10, 9, 0, 1))
TARGET = Endpoint("203.0.113.9", 9)
RULES = (
    Rule(action=Action.REFUSE, destinations=(REFUSED,), errno=errno.ECONNREFUSED),
    Rule(action=Action.ASK, destinations=(ASKED,)),
    Rule(action=Action.ASK, inbound=True),
    Rule(action=Action.ALLOW, destinations=(REDIRECTED,), to=TARGET),
)
LIMITS = Limits(udp_flows=5, udp_inbound_flows=3, echo_flows=3, undecided_flows=3, decision_time=10, udp_idle_once=20)
DESTINATIONS = st.sampled_from([ALLOWED, REFUSED, ASKED, ASKED, REDIRECTED, INSIDE, GATEWAY])
PORTS = st.sampled_from([5000, 5001, 5002])
REMOTE_PORTS = st.sampled_from([7, 8])
SIZES = st.sampled_from([0, 5, 1400, 1400])
VERDICTS: st.SearchStrategy[Verdict] = st.sampled_from(
    [Allow(), Allow(TARGET), Allow(Endpoint("2001:db8::9", 9)), Refuse(), Refuse(errno.ETIMEDOUT), Drop(), Serve()]
)
FORWARDED = 5353
QUESTION_TIME = LIMITS.decision_time


@dataclass
class Asked:
    """A question, with the time when it was asked, and the payloads that wait."""

    order: DecideFlow
    since: float


class Decisions(RuleBasedStateMachine):
    """A guest, outsiders, and a program that decides."""

    questions = Bundle[DecideFlow]("questions")
    services = Bundle[SocketId]("services")

    @initialize(default=st.sampled_from([Action.ALLOW, Action.ASK]))
    def start(self, default: Action) -> None:
        self.config: NetworkConfig = replace(
            make_config(limits=LIMITS), virtual=(VIRTUAL,), rules=RULES, default_action=default
        )
        self.bench = Direct(self.config)
        self.forward = self.bench.network.forward_added(None, FORWARDED, self.bench.now)
        self.asked: dict[SocketId, Asked] = {}
        self.served: set[SocketId] = set()
        self.served_pings: set[SocketId] = set()
        self.host: dict[SocketId, OpenDatagram | OpenEcho] = {}
        self.permitted: dict[tuple[int, Endpoint, Endpoint], Endpoint | None] = {}
        """Protocol and endpoints of a flow that a verdict allowed -> where it leads, if elsewhere."""
        self.open: dict[tuple[int, Endpoint, Endpoint], FlowOpened] = {}
        self.count = 0

    def _payload(self, size: int) -> bytes:
        self.count += 1
        return self.count.to_bytes(4, "big") + bytes(size)

    # inputs

    @rule(target=questions, destination=DESTINATIONS, port=PORTS, remote_port=REMOTE_PORTS, size=SIZES)
    def datagram(self, destination: bytes, port: int, remote_port: int, size: int) -> MultipleResults[DecideFlow]:
        return self._send(udp(GUEST, port, destination, remote_port, self._payload(size)))

    @rule(target=questions, destination=DESTINATIONS, identifier=PORTS, size=SIZES)
    def ping(self, destination: bytes, identifier: int, size: int) -> MultipleResults[DecideFlow]:
        return self._send(echo_request(GUEST, destination, identifier, 1, self._payload(size)))

    def _send(self, packet: Ip) -> MultipleResults[DecideFlow]:
        self.bench.send(packet)
        return self._check()

    @rule(target=questions, last=st.integers(1, 5), size=SIZES)
    def outsider(self, last: int, size: int) -> MultipleResults[DecideFlow]:
        bench = self.bench
        source = Endpoint(bytes((198, 51, 100, last)), 1000)
        bench.network.datagram_received(self.forward, source, self._payload(size), 0, 60, 0, bench.now)
        return self._check()

    @rule(question=questions, verdict=VERDICTS)
    def decide(self, question: DecideFlow, verdict: Verdict) -> None:
        """Also late and repeated ones."""
        asked = self.asked.pop(question.socket, None)
        if asked is not None:
            key = (question.protocol, question.guest, question.destination)
            if isinstance(verdict, Allow) and not question.inbound and key not in self.open:
                self.permitted[key] = verdict.to
            elif isinstance(verdict, Serve) and not question.inbound:
                (self.served if question.protocol == UDP else self.served_pings).add(question.socket)
        self.bench.network.flow_decided(question.socket, verdict, self.bench.now)
        self._check()

    @rule(target=services, prefix=st.sampled_from([None, VIRTUAL, Prefix.of(ALLOWED)]), port=st.sampled_from([None, 7]))
    def add_service(self, prefix: Prefix | None, port: int | None) -> MultipleResults[SocketId] | SocketId:
        try:
            socket = self.bench.network.service_added(UDP, prefix, port, self.bench.now)
        except RuntimeError:
            return multiple()
        self.served.add(socket)
        return socket

    @rule(service=services)
    def remove_service(self, service: SocketId) -> None:
        self.bench.network.service_removed(service, self.bench.now)
        self.served.discard(service)
        self._check()

    @rule(service=services, port=PORTS, source=DESTINATIONS, source_port=REMOTE_PORTS)
    def program_sends(self, service: SocketId, port: int, source: bytes, source_port: int) -> None:
        endpoints = Endpoint(GUEST, port), Endpoint(source, source_port)
        self.bench.packets.clear()
        self.bench.network.service_sent(service, *endpoints, b"news", self.bench.now)
        self._check()
        if self.bench.packets:
            assert service in self.served

    @rule(data=st.data())
    def answer(self, data: st.DataObject) -> None:
        """A host answers; the guest's socket that asked gets it, from the address that it had addressed."""
        flows = [flow for flow in self.open.values() if flow.protocol == UDP and flow.socket in self.host]
        if not flows:
            return
        flow = data.draw(st.sampled_from(flows))
        socket, host = flow.socket, flow.host
        self.bench.packets.clear()
        self.bench.network.datagram_received(socket, host, b"answer", 0, 60, 0, self.bench.now)
        self._check()
        (packet,) = self.bench.packets
        source_port, port = (int.from_bytes(packet.payload[at : at + 2], "big") for at in (0, 2))
        assert (Endpoint(packet.destination, port), Endpoint(packet.source, source_port)) == (flow.guest, flow.remote)
        self.bench.packets.clear()

    @rule(seconds=st.sampled_from([0.1, 3.0, 9.9, 25.0, 200.0]))
    def wait(self, seconds: float) -> None:
        self.bench.wait(seconds)
        self._check()

    @rule(default=st.sampled_from(list(Action)))
    def reconfigure(self, default: Action) -> None:
        self.config = replace(self.config, default_action=default)
        self.bench.network.reconfigure(self.config, self.bench.now)
        self._check()

    # outputs

    def _check(self) -> MultipleResults[DecideFlow]:
        """Take the outputs; return the new questions."""
        self.bench.collect()
        notices, self.bench.notices = self.bench.notices, []
        for notice in notices:
            assert notice.time <= self.bench.now
            if isinstance(notice, FlowOpened):
                self._check_opened(notice)
            else:
                assert isinstance(notice, FlowClosed | FlowRefused)
        found: list[DecideFlow] = []
        for order in self.bench.take():
            if isinstance(order, DecideFlow):
                assert not VIRTUAL.contains(order.destination.address)
                self.asked[order.socket] = Asked(order, self.bench.now)
                found.append(order)
            elif isinstance(order, CloseSocket):
                if self.asked.pop(order.socket, None) is None:
                    assert order.socket in self.host or order.socket in self.served, "a socket that was never opened"
                    self.host.pop(order.socket, None)
                    self.served.discard(order.socket)
            else:
                self._check_sent(order)
        for notice in notices:
            if isinstance(notice, FlowClosed):
                del self.open[notice.protocol, notice.guest, notice.remote]
        return multiple(*found)

    def _check_opened(self, flow: FlowOpened) -> None:
        key = (flow.protocol, flow.guest, flow.remote)
        assert key not in self.open, "one flow was opened twice"
        self.open[key] = flow
        if flow.inbound or flow.socket in self.served or flow.socket in self.served_pings:
            return
        address = flow.remote.address
        assert address in (ALLOWED, ASKED, REDIRECTED), "it exists in the program only, or is refused"
        to = TARGET if address == REDIRECTED else None
        if address == ASKED:
            to = self.permitted.pop(key)  # each verdict opens one flow
        elif key in self.permitted:
            to = self.permitted.pop(key)
        assert flow.host.address == (to or flow.remote).address

    def _check_sent(self, order: Order) -> None:
        if isinstance(order, OpenDatagram | OpenEcho):
            assert order.socket not in self.host
            self.host[order.socket] = order
        elif isinstance(order, DeliverDatagram):
            assert order.socket in self.served
        elif isinstance(order, SendDatagram):
            assert order.socket == self.forward or isinstance(self.host[order.socket], OpenDatagram)
            assert [flow for flow in self.open.values() if (flow.socket, flow.host) == (order.socket, order.remote)]
        else:
            assert isinstance(order, SendEcho)
            assert isinstance(self.host[order.socket], OpenEcho)
            assert [flow for flow in self.open.values() if flow.socket == order.socket]

    @invariant()
    def every_question_is_open_and_young(self) -> None:
        reports = {flow.socket: flow for flow in self.bench.network.flows() if flow.state == "UNDECIDED"}
        assert reports.keys() == self.asked.keys()
        for asked in self.asked.values():
            assert self.bench.now - asked.since <= QUESTION_TIME
        for protocols in ((UDP,), (1, 58)):
            for inbound in (False, True):
                some = [flow for flow in reports.values() if flow.protocol in protocols and flow.inbound == inbound]
                assert len(some) <= LIMITS.undecided_flows

    @invariant()
    def the_host_has_a_socket_for_open_flows_only(self) -> None:
        flows = [flow for flow in self.bench.network.flows() if flow.state != "UNDECIDED"]
        assert self.host.keys() <= {flow.socket for flow in flows}
        assert len([flow for flow in flows if flow.protocol == UDP and not flow.inbound]) <= LIMITS.udp_flows
        assert len([flow for flow in flows if flow.protocol == UDP and flow.inbound]) <= LIMITS.udp_inbound_flows

    def teardown(self) -> None:
        """When time has passed, nothing is left."""
        if hasattr(self, "bench"):
            self.bench.wait(1000)
            self._check()
            assert (self.asked, self.host, self.open) == ({}, {}, {})
            assert self.bench.network.flows() == []
            assert self.bench.network.next_deadline() is None


TestDecisions = Decisions.TestCase
TestDecisions.settings = settings(max_examples=150, stateful_step_count=40)
