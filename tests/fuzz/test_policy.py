"""No order of the core addresses an endpoint that the policy closes: judged by a second evaluator, written apart.

A guest connects, sends datagrams and pings to names, literal addresses and aliases; answers may be hostile; the rules
change; the program decides about some flows.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from sansnet_core import (
    Action,
    Allow,
    CloseSocket,
    DecideFlow,
    Endpoint,
    Limits,
    OpenEcho,
    OpenStream,
    Order,
    Refuse,
    Rule,
    SendDatagram,
    SendEcho,
    SendStream,
    SocketId,
)
from sansnet_core.addresses import is_loopback, is_multicast, is_unspecified, packed
from sansnet_core.policy import Check, parse_rule
from sansnet_core.records import replace
from sansnet_core.testing import make_config
from sansnet_core.testing.packets import ACK, RST, SYN, TCP, echo_request, read_segments, udp
from tests.core.bindings import FakeBindings
from tests.core.direct import GUEST, GUEST6, Direct
from tests.core.named import LEASE, LEASE6, NAME, OTHER, OTHER_LEASE, PUBLIC, PUBLIC6, PUBLIC_B, TcpGuest
from tests.core.policy.slow import SlowEvaluator

ALIAS, DNS = "10.0.2.3", "10.0.2.4"
HOST = [packed("192.168.7.7"), packed("2a00::77")]
SHARED = "1.2.3.4"
NAMES = [NAME, OTHER, "evil.example.com"]
HOSTILE = ["127.0.0.1", "0.0.0.0", "::1", "::", "::ffff:127.0.0.1", "10.0.0.1", "192.168.7.7", "169.254.169.254"]
HOSTILE += ["224.0.0.251", "fe80::1", "64:ff9b::a00:1", "2002:7f00:1::1", ALIAS]
ANSWERS = st.lists(st.sampled_from([PUBLIC, PUBLIC6, PUBLIC_B, SHARED, *HOSTILE]), max_size=4)
DESTINATIONS = [LEASE, LEASE6, OTHER_LEASE, "198.18.255.1", PUBLIC, PUBLIC6, SHARED, "10.0.0.1", "192.168.7.7"]
DESTINATIONS += [ALIAS, "169.254.169.254", "64:ff9b::a00:1", "2002:7f00:1::1"]
PORTS = [53, 80, 443, 853, 5432]
_TEXTS = [
    "allow tcp db.example.org:5432",
    "allow db.example.org",
    "allow *.example.net port 80,443",
    "allow tcp *.example.net:443 check=none",
    "refuse db.example.org port 80",
    "refuse evil.example.com",
    "drop *.example.com",
    "ask *.example.net",
    "ask tcp private",
    "ask",
    "allow public",
    "allow public port 53,853",
    "allow private",
    "allow loopback",
    "allow host port 80",
    "allow 64:ff9b::/96",
    "refuse 1.2.3.0/24",
    "refuse metadata",
    "refuse ping",
    "allow udp",
    "redirect tcp db.example.org:443 to 127.0.0.1:8443",
    "redirect tcp 10.0.0.1:80 to 127.0.0.1:8080",
]


PAYLOADS = [
    b"GET / HTTP/1.1\r\n",
    b"Host: evil.example.com\r\n\r\n",
    b"Host: db.example.org\r\n\r\n",
    b"x",
]
RULES = [*map(parse_rule, _TEXTS), Rule(action=Action.ALLOW, names=(NAME,), destinations=("10.0.0.0/8",))]


class Opened(NamedTuple):
    """A connect that was ordered, and whether the program allowed it."""

    order: OpenStream
    decided: bool
    checked: bool
    """Whether HTTP's Host is checked."""
    strict: bool
    """Whether only the name of the address may be named."""


class Policies(RuleBasedStateMachine):
    """A guest, hostile answers, rules that change."""

    @initialize(
        rules=st.lists(st.sampled_from(RULES), min_size=1, max_size=6),
        default=st.sampled_from([Action.REFUSE, Action.ALLOW, Action.ASK]),
    )
    def start(self, rules: list[Rule], default: Action) -> None:
        config = replace(
            make_config(limits=Limits(undecided_flows=6, tcp_pending=6, decision_time=20.0)),
            rules=tuple(rules),
            default_action=default,
            map_host_loopback=(ALIAS,),
            host_addresses=tuple(HOST),
        )
        self.bench = Direct(config)
        real = {SHARED: [OTHER, "evil.example.com"]}
        self.bindings = FakeBindings({LEASE: NAME, LEASE6: NAME, OTHER_LEASE: OTHER}, real)
        self.bindings.attach(self.bench)
        self.streams: dict[SocketId, Opened] = {}
        self.echoes: dict[SocketId, bytes] = {}
        self.questions: list[DecideFlow] = []
        self.allowed: set[tuple[int, Endpoint, Endpoint]] = set()
        self.guests: dict[int, TcpGuest] = {}
        self.port = 40000

    # judging

    def open_to(
        self, protocol: int, destination: bytes, host: bytes, port: int, name: str | None, *, decided: bool
    ) -> bool:
        """Whether the rules let a flow of the guest reach an address of the host's side."""
        config = self.bench.network._context.config
        slow = SlowEvaluator(list(config.rules), config.default_action, HOST, [])
        leased = self.bindings.is_leased(destination)
        judged = slow.judge(protocol, host if leased else destination, port, False, name, None if leased else host)
        action, by = judged[0], judged[1]
        if action is not Action.ALLOW and not (decided and action is Action.ASK):
            return False
        if is_unspecified(host) or is_multicast(host) or host.startswith(bytes(10) + b"\xff\xff"):
            return False
        if is_loopback(host) and leased:
            literal = slow.judge(protocol, host, port, False, None, None)
            rules = [one for one in (by, literal[1]) if isinstance(one, Rule)]
            return any(one.destinations or one.groups for one in rules)
        return True

    def redirected(self, order: OpenStream) -> bool:
        return any(one.to == order.remote for one in self.bench.network._context.config.rules)

    def is_open(self, opened: Opened) -> bool:
        order = opened.order
        if self.redirected(order):
            return True
        host, destination = order.remote.address, order.destination
        return self.open_to(TCP, destination.address, host, destination.port, order.name, decided=opened.decided)

    def take(self) -> None:
        """Check all orders that were given."""
        self.bench.collect()
        for order in self.bench.take():
            self.check(order)
        for guest in self.guests.values():
            assert guest.bench is self.bench

    def check(self, order: Order) -> None:
        if isinstance(order, OpenStream):
            decided = (TCP, order.guest, order.destination) in self.allowed
            checked, strict = self.http(order)
            opened = self.streams[order.socket] = Opened(order, decided, checked, strict)
            assert self.is_open(opened), order
        elif isinstance(order, SendStream):
            opened = self.streams[order.socket]
            assert self.is_open(opened._replace(decided=True)), ("data to what is closed", order)
            self.check_data(opened, bytes(order.data))
        elif isinstance(order, SendDatagram):
            assert self.reachable(17, order.remote.address, order.remote.port), order
        elif isinstance(order, OpenEcho):
            self.echoes[order.socket] = order.remote
        elif isinstance(order, SendEcho):
            assert order.remote == self.echoes[order.socket]
            assert self.reachable(1 if len(order.remote) == 4 else 58, order.remote, 0), order
        elif isinstance(order, DecideFlow):
            self.questions.append(order)
        elif isinstance(order, CloseSocket):
            self.streams.pop(order.socket, None)
            self.questions = [one for one in self.questions if one.socket != order.socket]

    def judge(self, order: OpenStream, name: str | None) -> tuple[Action, Rule | str | None, Check, bool]:
        config = self.bench.network._context.config
        slow = SlowEvaluator(list(config.rules), config.default_action, HOST, [])
        leased = self.bindings.is_leased(order.destination.address)
        where, host = (order.remote, None) if leased else (order.destination, order.remote.address)
        return slow.judge(TCP, where.address, order.destination.port, False, name, host)

    def http(self, order: OpenStream) -> tuple[bool, bool]:
        """Whether the Host of requests is checked, and is the name of the address then."""
        judged = self.judge(order, order.name)
        leased = self.bindings.is_leased(order.destination.address)
        return judged[2] is Check.HTTP and not self.redirected(order), leased and judged[3]

    def check_data(self, opened: Opened, data: bytes) -> None:
        """A request for a name that the rules close does not pass where they check names."""
        if opened.checked and b"Host: evil.example.com" in data:
            assert not opened.strict, ("another name than that of the address", opened)
            assert self.judge(opened.order, "evil.example.com")[0] in (Action.ALLOW, Action.ASK), opened

    def reachable(self, protocol: int, host: bytes, port: int) -> bool:
        """Whether any flow of the guest may reach an address of the host's side."""
        decided = bool(self.allowed)
        pairs: list[tuple[str, str | None]] = [(text, None) for text in (PUBLIC, PUBLIC6, SHARED, "10.0.0.1")]
        pairs += [("192.168.7.7", None), (ALIAS, None), ("169.254.169.254", None), ("64:ff9b::a00:1", None)]
        pairs += [("2002:7f00:1::1", None), (LEASE, NAME), (OTHER_LEASE, OTHER)]
        pairs += [(SHARED, OTHER), (SHARED, "evil.example.com")]
        for text, name in pairs:
            address = packed(text)
            leased = self.bindings.is_leased(address)
            if not leased and host != (b"\x7f\0\0\1" if text == ALIAS else address):
                continue
            if self.open_to(protocol, address, host, port, name, decided=decided):
                return True
        return False

    # the guest

    @rule(
        destination=st.sampled_from(DESTINATIONS),
        port=st.sampled_from(PORTS),
        hosts=st.one_of(st.none(), ANSWERS),
        verdict=st.booleans(),
        connects=st.booleans(),
    )
    def connects(self, destination: str, port: int, hosts: list[str] | None, verdict: bool, connects: bool) -> None:
        """A SYN, with what follows at once or later."""
        if hosts is not None:
            for name in NAMES:
                self.bindings.know(name, *hosts)
        self.port += 1
        guest = self.guests[self.port] = TcpGuest(self.bench, destination, port, source_port=self.port)
        guest.syn()
        self.take()
        if verdict and self.questions:
            self.decide(self.questions[-1], allow=True)
        if connects and self.streams:
            self.connect(max(self.streams))
        self.take()

    @rule(port=st.sampled_from(PORTS), destination=st.sampled_from([LEASE, OTHER_LEASE, SHARED, PUBLIC]), hosts=ANSWERS)
    def connects_to_a_name_and_sends(self, port: int, destination: str, hosts: list[str]) -> None:
        """The usual case."""
        self.connects(destination, port, [*hosts, PUBLIC], True, True)
        if guest := self.guests.get(self.port):
            guest.data(b"GET / HTTP/1.1\r\n")
            guest.data(b"Host: evil.example.com\r\n\r\n")
            self.take()

    @rule(data=st.data(), payload=st.sampled_from(PAYLOADS))
    def sends(self, data: st.DataObject, payload: bytes) -> None:
        if self.guests:
            data.draw(st.sampled_from(sorted(self.guests.items())))[1].data(payload)
            self.take()

    @rule(destination=st.sampled_from(DESTINATIONS), port=st.sampled_from(PORTS), source=st.integers(5000, 5003))
    def sends_a_datagram(self, destination: str, port: int, source: int) -> None:
        address = packed(destination)
        self.bench.send(udp(GUEST if len(address) == 4 else GUEST6, source, address, port, b"hello"))
        self.take()

    @rule(destination=st.sampled_from(DESTINATIONS), identifier=st.integers(1, 3))
    def pings(self, destination: str, identifier: int) -> None:
        address = packed(destination)
        self.bench.send(echo_request(GUEST if len(address) == 4 else GUEST6, address, identifier, 1, b"data"))
        self.take()

    # the host, and the program

    @rule(name=st.sampled_from(NAMES), hosts=ANSWERS)
    def a_name_is_resolved(self, name: str, hosts: list[str]) -> None:
        self.bindings.know(name, *hosts)
        self.take()

    @rule(data=st.data(), errno=st.sampled_from([0, 111, 101]))
    def a_connect_ends(self, data: st.DataObject, errno: int) -> None:
        if not self.streams:
            return
        socket = data.draw(st.sampled_from(sorted(self.streams)))
        if errno:
            del self.streams[socket]
            self.bench.network.stream_failed(socket, errno, None, self.bench.now)
        else:
            self.connect(socket)
        self.take()

    def connect(self, socket: SocketId) -> None:
        self.bench.network.stream_connected(socket, self.bench.now)
        self.finish_handshakes()

    def finish_handshakes(self) -> None:
        self.take()
        packets, self.bench.packets = self.bench.packets, []
        for packet in packets:
            for segment in read_segments(packet, 0) if packet.protocol == TCP else ():
                guest = self.guests.get(segment.destination_port)
                if guest is not None and segment.flags == SYN | ACK:
                    guest.seen = (segment.sequence + 1) % (1 << 32)
                    guest.data(b"")
                elif segment.flags & RST:
                    self.guests.pop(segment.destination_port, None)

    @rule(data=st.data(), allow=st.booleans())
    def a_verdict_comes(self, data: st.DataObject, allow: bool) -> None:
        if not self.questions:
            return
        question = self.questions.pop(data.draw(st.integers(0, len(self.questions) - 1)))
        self.decide(question, allow=allow)
        self.take()

    def decide(self, question: DecideFlow, *, allow: bool) -> None:
        if question in self.questions:
            self.questions.remove(question)
        if allow:
            self.allowed.add((question.protocol, question.guest, question.destination))
        self.bench.network.flow_decided(question.socket, Allow() if allow else Refuse(), self.bench.now)
        self.take()

    @rule(
        rules=st.lists(st.sampled_from(RULES), max_size=6), default=st.sampled_from([None, Action.REFUSE, Action.ASK])
    )
    def the_rules_change(self, rules: list[Rule], default: Action | None) -> None:
        fields: dict[str, Any] = {"rules": tuple(rules)}
        if default is not None:
            fields["default_action"] = default
        config = replace(self.bench.network._context.config, **fields)
        self.bench.network.reconfigure(config, self.bench.now)
        self.take()

    @rule(seconds=st.sampled_from([0.1, 0.3, 1.0, 10.0, 200.0]))
    def time_passes(self, seconds: float) -> None:
        self.bench.wait(seconds)
        self.take()

    def teardown(self) -> None:
        """After a long silence, nothing is left, and no address keeps its names."""
        if hasattr(self, "bench"):
            for name in NAMES:
                self.bindings.know(name)
            self.take()
            self.bench.wait(40_000.0)
            self.take()
            assert not self.bindings.pins
            assert self.bench.network.flows() == []
            assert self.bench.network._tcp._shared.further == 0


Policies.TestCase.settings = settings(max_examples=150, stateful_step_count=30)
TestPolicies = pytest.mark.slow(Policies.TestCase)
