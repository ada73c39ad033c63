"""The short cut for expected segments and the ordinary path agree: same orders, frames, counts, deadlines and state."""

from __future__ import annotations

from contextlib import suppress
from struct import unpack_from
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sansnet_core import LinkConfig, Network, NetworkConfig, OpenStream, SendStream, UsageError
from sansnet_core.config import Limits
from sansnet_core.orders import Buffer
from sansnet_core.policy import Action, Rule
from sansnet_core.proto.tcp.flow import TcpFlow
from sansnet_core.proto.tcp.prediction import Prediction
from sansnet_core.recording import RecordedNetwork
from sansnet_core.records import replace
from sansnet_core.testing import SECRET, make_config
from sansnet_core.wire import ipv4, ipv6, tcp
from sansnet_core.wire.ethernet import ETHERTYPE_IPV4, ETHERTYPE_IPV6
from sansnet_core.wire.ip import TCP
from sansnet_core.wire.tcp import ACK, FIN, HALF, PSH, RST, SYN, URG
from tests.core.attributes import attributes
from tests.core.direct import GUEST, GUEST6

SERVER: Final = {4: bytes((203, 0, 113, 1)), 6: bytes.fromhex("20010db8000000010000000000000001")}
OWN: Final = {4: GUEST, 6: GUEST6}
MACS: Final = [bytes.fromhex("020000000001"), bytes.fromhex("020000000002")]
PORTS: Final = (4000, 4001)
LINKS: Final = {
    "plain": LinkConfig(mtu=1500),
    "offloads": LinkConfig(
        mtu=1500, max_frame_size=65549, vnet_header=True, checksum_offload=True, tso4=True, tso6=True
    ),
}


def state(value: Any) -> Any:
    """A value with all its parts, to be compared."""
    if isinstance(value, bytes | memoryview | bytearray):
        return bytes(value)
    if isinstance(value, dict):
        return [(state(key), state(item)) for key, item in value.items()]
    if isinstance(value, list | tuple):
        return [state(item) for item in value]
    if type(value).__module__.startswith("sansnet_core.proto.tcp"):
        names = [name for name in attributes(type(value)) if name not in ("shared", "memory", "_headers")]
        return {name: state(getattr(value, name, None)) for name in names}
    return value


class Twins:
    """Two networks with the same inputs; the second one takes no short cut.

    Args:
        config: of both.
        version: 4 or 6.
        wakeful: whether the connections of the second one are woken at once when they rest, which changes deadlines.
    """

    def __init__(self, config: NetworkConfig, version: int, *, wakeful: bool = False) -> None:
        self.config, self.version, self.wakeful = config, version, wakeful
        self.now = 1000.0
        self.networks = [RecordedNetwork(config, now=self.now, secret=SECRET, ring=1 << 16) for _ in range(2)]
        self.inside: list[Any] = list(self.networks)
        self.inside[1]._context.expected.enabled = False
        self.sockets: list[Any] = []
        self.unsent: dict[Any, int] = {}
        self.sequence = dict.fromkeys(PORTS, 100)
        """The sequence number of the guest's next segment."""
        self.expected = dict.fromkeys(PORTS, 0)
        """The guest's acknowledgment number."""

    def each(self, name: str, *arguments: Any) -> Any:
        """Call a method of both; the result or the error must be the same."""
        results: list[Any] = []
        for network in self.networks:
            try:
                results.append(getattr(network, name)(*arguments))
            except UsageError as error:
                results.append(str(error))
        assert results[0] == results[1]
        return results[0]

    def take(self) -> None:
        for order in self.each("take_orders"):
            if isinstance(order, OpenStream):
                self.sockets.append(order.socket)
            elif isinstance(order, SendStream):
                self.unsent[order.socket] = self.unsent.get(order.socket, 0) + len(order.data)
        for frame in self.each("take_frames"):
            self._follow(b"".join(frame) if isinstance(frame, tuple) else frame)
        self.each("take_notices")
        if not self.wakeful:
            self.each("next_deadline")
        self.each("statistics")
        self.each("flows")
        for flow, other in zip(*(inside._tcp._flows.values() for inside in self.inside), strict=True):
            if not self.wakeful:
                assert state(flow) == state(other)
                continue
            other.awake()
            if flow.resting is None:
                times = {"deadline", "queued", "ticket"}
                first, second = ({k: v for k, v in state(one).items() if k not in times} for one in (flow, other))
                assert first == second
        held, other = (inside._tcp._shared.memory.held for inside in self.inside)
        assert held == other

    def _follow(self, frame: bytes) -> None:
        """Let the guest acknowledge what a frame brings, if it is the next."""
        start = 26 if self.config.link.vnet_header else 14
        header = start + (20 if self.version == 4 else 40)
        if len(frame) < header + 20 or frame[start + (9 if self.version == 4 else 6)] != TCP:
            return  # an ICMP error or a question for an Ethernet address
        _, port, sequence, _, offset, flags = unpack_from("!HHIIBB", frame, header)
        size = (
            unpack_from("!H", frame, start + 2)[0] - 20 if self.version == 4 else unpack_from("!H", frame, start + 4)[0]
        )
        size -= offset >> 4 << 2
        if flags & SYN:
            self.expected[port] = tcp.add(sequence, 1)
        elif sequence == self.expected.get(port) and not flags & RST:
            self.expected[port] = tcp.add(sequence, size + bool(flags & FIN))

    def frame(self, port: int, flags: int, shift: int, back: int, data: bytes, **odd: Any) -> bytes:
        """A frame of the guest.

        Args:
            port: of the guest.
            flags: control bits.
            shift: from the next sequence number.
            back: from the acknowledgment that is due.
            data: the payload.
            odd: fields that differ from those of an ordinary segment.
        """
        own, server = OWN[self.version], odd.get("server", SERVER[self.version])
        options = odd.get("options", b"")
        sequence = tcp.add(self.sequence.get(port, 100), shift)
        acknowledgment = tcp.add(self.expected.get(port, 0), -back)
        ports = port, odd.get("to_port", 80)
        packet = tcp.emit(own, server, *ports, sequence, acknowledgment, flags, odd.get("window", 5000), options, data)
        size = max(len(packet) + odd.get("longer", 0), 0)
        if self.version == 4:
            ether, fragment = ETHERTYPE_IPV4, odd.get("fragment", 0x4000)
            head = ipv4.emit_header(own, server, TCP, size, 64, 0, 7, fragment)
        else:
            ether = ETHERTYPE_IPV6
            head = ipv6.emit_header(own, server, TCP, size, 64, 0)
        whole = bytearray(head + packet)
        if "flip" in odd:
            whole[odd["flip"] % len(whole)] ^= 1
        ethernet: bytes = odd.get("to", self.config.mac) + MACS[odd.get("mac", 0)] + ether
        vnet: bytes = odd.get("vnet", bytes(12)) if self.config.link.vnet_header else b""
        return vnet + ethernet + bytes(whole) + bytes(odd.get("padding", 0))

    def open(self, port: int, flags: int = ACK, data: bytes = b"", **odd: Any) -> None:
        """Open a connection.

        Args:
            port: of the guest.
            flags: of the segment that completes the handshake, or not.
            data: its payload.
            odd: as for `frame`.
        """
        options = tcp.mss_option(1000) + tcp.window_scale_option(2) + tcp.sack_permitted_option()
        syn = self.frame(port, SYN, 0, 0, b"", options=options)
        self.each("receive_frames", [syn], self.now)
        self.take()
        self.each("stream_connected", self.sockets[-1], self.now)
        self.take()
        self.sequence[port] += 1
        shift, back = odd.pop("shift", 0), odd.pop("back", 0)
        self.each("receive_frames", [self.frame(port, flags, shift, back, data, **odd)], self.now)
        if not (odd or shift or back):
            self.sequence[port] = tcp.add(self.sequence[port], len(data) + bool(flags & FIN))
        self.take()


SEGMENTS: Final = st.tuples(
    st.sampled_from(PORTS),
    st.sampled_from([ACK] * 6 + [ACK | PSH, ACK | FIN, ACK | URG, ACK | RST, SYN, 0, ACK | 0x40]),
    st.sampled_from([0] * 12 + [-1, -5, 1, 50, 70000]),
    st.sampled_from([0] * 8 + [1, 10, -1, 100000]),
    st.sampled_from([0, 0, 1, 10, 900, 3000, 20000]),
    st.one_of(
        st.just({}),
        st.just({}),
        st.just({}),
        st.fixed_dictionaries(
            {},
            optional={
                "window": st.sampled_from([0, 1, 10, 65535]),
                "options": st.sampled_from([bytes((1, 1, 1, 1)), tcp.sack_option([(1, 50)]), tcp.mss_option(9)]),
                "fragment": st.sampled_from([0, 0x2000, 0x8000, 3]),
                "longer": st.sampled_from([-30, -1, 1, 40]),
                "flip": st.integers(0, 60),
                "mac": st.sampled_from([0, 1]),
                "to": st.sampled_from([bytes(6), b"\xff" * 6, MACS[0]]),
                "padding": st.integers(0, 30),
                "vnet": st.sampled_from([bytes((0, 5)) + bytes(10), bytes((1, 4, 54, 0, 9, 0, 34, 0, 16, 0, 0, 0))]),
                "cut": st.integers(0, 80),
                "view": st.booleans(),
            },
        ),
    ),
)
ANSWERS: Final = st.tuples(
    st.sampled_from([ACK, ACK, ACK | PSH, ACK | FIN, ACK | RST, SYN, 0]),
    st.sampled_from([b"", b"", b"early", bytes(900)]),
    st.one_of(
        st.just({}),
        st.just({}),
        st.fixed_dictionaries(
            {},
            optional={
                "shift": st.sampled_from([-1, 1]),
                "back": st.sampled_from([-1, 1, 2]),
                "window": st.sampled_from([0, 1]),
                "options": st.just(bytes((1, 1, 1, 1))),
            },
        ),
    ),
)
"""The guest's answers to the SYN-ACK."""
STEPS: Final = st.one_of(
    st.tuples(st.just("segments"), st.lists(SEGMENTS, min_size=1, max_size=4)),
    st.tuples(st.just("segments"), st.lists(SEGMENTS, min_size=1, max_size=4)),
    st.tuples(st.just("host"), st.tuples(st.integers(0, 1), st.sampled_from([1, 10, 2000, 30000]))),
    st.tuples(st.just("sent"), st.tuples(st.integers(0, 1), st.floats(0, 1))),
    st.tuples(st.just("wait"), st.sampled_from([0.0001, 0.003, 0.25, 1.0, 2.5])),
    st.tuples(st.just("end"), st.integers(0, 1)),
    st.tuples(st.just("failed"), st.integers(0, 9)),
)


def play(twins: Twins, step: tuple[str, Any]) -> None:
    kind, detail = step
    if kind == "segments":
        frames: list[Any] = []
        for port, flags, shift, back, size, odd in detail:
            frame = twins.frame(port, flags, shift, back, (bytes(range(256)) * (size // 256 + 1))[:size], **odd)
            frame = frame[: len(frame) - odd.get("cut", 0)]
            frames.append(memoryview(frame) if odd.get("view") else frame)
            if not odd and not shift and flags & ACK:
                twins.sequence[port] = tcp.add(twins.sequence[port], size + bool(flags & FIN))
        twins.each("receive_frames", frames, twins.now)
    elif kind == "host":
        index, size = detail
        with suppress(IndexError):
            socket = twins.sockets[index]
            budget = twins.each("receive_budget", socket)
            if budget:
                twins.each("stream_received", socket, bytes(min(size, budget)), twins.now)
    elif kind == "sent":
        index, part = detail
        socket = twins.sockets[index]
        count = int(twins.unsent.get(socket, 0) * part)
        twins.unsent[socket] = twins.unsent.get(socket, 0) - count
        twins.each("stream_sent", socket, count, twins.now)
    elif kind == "wait":
        twins.now += detail
        twins.each("handle_deadline", twins.now)
    elif kind == "end":
        twins.each("stream_ended", twins.sockets[detail], twins.now)
    elif detail < 2:
        twins.each("stream_failed", twins.sockets[detail], 104, None, twins.now)
    twins.take()


def config(link: str, *, memory: int = 1 << 20) -> NetworkConfig:
    return replace(make_config(), link=LINKS[link], limits=Limits(tcp_memory=memory, tcp_window=20_000))


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("wakeful", [False, True], ids=["", "wakeful"])
@given(answers=st.lists(ANSWERS, min_size=2, max_size=2), steps=st.lists(STEPS, max_size=12), small=st.booleans())
def test_both_paths_agree(
    link: str, version: int, wakeful: bool, answers: list[Any], steps: list[tuple[str, Any]], small: bool
) -> None:
    """With `wakeful`, also that a rest changes nothing."""
    twins = Twins(config(link, memory=30_000 if small else 1 << 20), version, wakeful=wakeful)
    for port, (flags, data, odd) in zip(PORTS, answers, strict=True):
        twins.open(port, flags, data, **odd)
    for step in steps:
        play(twins, step)


DESTINATIONS: Final = {
    4: [
        SERVER[4],
        bytes((203, 0, 113, 9)),  # a rule refuses it
        bytes((203, 0, 113, 10)),  # a rule drops it
        bytes((203, 0, 113, 11)),  # the driver is asked
        bytes((127, 0, 0, 1)),
        bytes((224, 0, 0, 1)),
        bytes((255, 255, 255, 255)),
        bytes((10, 0, 2, 2)),  # the gateway
        GUEST,
    ],
    6: [
        SERVER[6],
        bytes(16),
        bytes((255, 2)) + bytes(13) + b"\1",
        bytes.fromhex("fe800000000000000000000000000009"),
        GUEST6,
    ],
}
RULES: Final = [
    Rule(action=action, destinations=(f"203.0.113.{number}/32",))
    for number, action in ((9, Action.REFUSE), (10, Action.DROP), (11, Action.ASK))
]


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("link", LINKS)
@given(data=st.data(), full=st.booleans(), tcp_on=st.booleans(), services=st.booleans())
def test_both_paths_open_and_refuse_the_same_connections(
    link: str, version: int, data: st.DataObject, full: bool, tcp_on: bool, services: bool
) -> None:
    limits = Limits(tcp_flows=3, undecided_flows=1) if full else Limits()
    made = replace(make_config(), link=LINKS[link], limits=limits, rules=RULES, tcp=tcp_on, notices=True)
    twins = Twins(made, version)
    if services:
        twins.each("service_added", TCP, None, 81, twins.now)
    twins.each("receive_frames", [twins.frame(9, RST, 0, 0, b"")], twins.now)  # the network knows the guest from now on
    odd: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
        {"server": st.sampled_from(DESTINATIONS[version])},
        optional={
            "to_port": st.sampled_from([0, 53, 80, 81]),
            "options": st.sampled_from([tcp.mss_option(9), bytes((1, 1, 1, 0)), bytes((2, 200, 0, 0))]),
            "mac": st.sampled_from([0, 1]),
            "longer": st.sampled_from([-30, -1, 1]),
            "vnet": st.sampled_from([bytes((0, 5)) + bytes(10), bytes(12)]),
            "cut": st.integers(0, 80),
        },
    )
    flags = st.sampled_from([SYN] * 6 + [SYN | FIN, SYN | RST, SYN | 0xC0, SYN | PSH, SYN | ACK, 0])
    syn = st.tuples(
        st.sampled_from([0, 4000, 4001, 4002]), flags, st.sampled_from([0, 0, 1]), st.sampled_from([b"", b"early"]), odd
    )
    for batch in data.draw(st.lists(st.lists(syn, min_size=1, max_size=3), min_size=1, max_size=6)):
        frames = [twins.frame(port, flags, shift, 0, early, **odd) for port, flags, shift, early, odd in batch]
        cut = [frame[: len(frame) - odd.get("cut", 0)] for frame, (*_, odd) in zip(frames, batch, strict=True)]
        twins.each("receive_frames", cut, twins.now)
        twins.take()
        twins.now += data.draw(st.sampled_from([0.0001, 0.25, 3.0]))
        twins.each("handle_deadline", twins.now)
        twins.take()


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("link", LINKS)
def test_a_connection_is_opened_by_the_short_cut(link: str, version: int) -> None:
    """Otherwise the property would hold without it."""
    twins = Twins(config(link), version)
    twins.open(PORTS[0])
    inside = twins.inside[0]
    assert inside._tcp.prediction.receive(twins.frame(PORTS[1], SYN, 0, 0, b""))
    assert len(inside._tcp) == 2
    assert not inside._tcp.prediction.receive(twins.frame(PORTS[1], SYN, 5, 0, b"")), "it ends another one"


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("link", LINKS)
def test_only_whole_frames_that_do_not_change_take_the_short_cut(link: str, version: int) -> None:
    twins = Twins(config(link), version)
    twins.open(PORTS[0])
    inside = twins.inside[0]
    receive = inside._tcp.prediction.receive
    frame = twins.frame(PORTS[0], ACK, 0, 0, b"request")
    assert not any(receive(frame[:size]) for size in range(len(frame)))
    assert not receive(memoryview(bytearray(frame)))
    assert receive(memoryview(frame))
    twins.sequence[PORTS[0]] += 7
    start = 12 if twins.config.link.vnet_header else 0
    room = start + twins.config.link.max_frame_size - len(frame)
    largest = twins.frame(PORTS[0], ACK, 0, 0, b"request" + bytes(room))
    assert not receive(largest + b"\0")
    assert receive(largest)


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("server", [SERVER, {4: bytes((127, 0, 0, 1)), 6: bytes(16)}], ids=["allowed", "closed"])
def test_both_paths_refuse_the_same_syns(link: str, version: int, server: dict[int, bytes]) -> None:
    """By their ports, their flags and their destinations, with the same ICMP errors."""
    twins = Twins(replace(make_config(), link=LINKS[link], rules=RULES), version)
    twins.open(PORTS[0])
    for port, to_port, flags in ((0, 80, SYN), (PORTS[1], 0, SYN), (PORTS[1], 80, SYN | FIN), (PORTS[1], 80, SYN)):
        frame = twins.frame(port, flags, 0, 0, b"", server=server[version], to_port=to_port)
        twins.each("receive_frames", [frame], twins.now)
        twins.take()


P: Final = PORTS[0]
UNEXPECTED: Final[dict[str, list[tuple[str, Any]]]] = {
    "none: requests in a row": [("segments", [(P, ACK, 0, 0, 10, {})] * 3), ("host", (0, 10))],
    "none: a window that is smaller": [("segments", [(P, ACK, 0, 0, 10, {}), (P, ACK, 10, 0, 5, {"window": 9})])],
    "a gap is filled": [("segments", [(P, ACK, 10, 0, 900, {}), (P, ACK, 0, 0, 10, {})])],
    "a part of a gap is filled": [("segments", [(P, ACK, 50, 0, 900, {}), (P, ACK, 0, 0, 10, {})])],
    "data comes before a FIN that was ahead": [("segments", [(P, ACK | FIN, 10, 0, 0, {}), (P, ACK, 0, 0, 10, {})])],
    "data reaches beyond a FIN": [("segments", [(P, ACK | FIN, 5, 0, 0, {}), (P, ACK, 0, 0, 10, {})])],
    "data fills a gap whose segment had an old acknowledgment": [
        ("host", (0, 10)),
        ("segments", [(P, ACK, 0, 0, 10, {}), (P, ACK, 10, 10, 10, {}), (P, ACK, 0, 0, 10, {})]),
    ],
    "data comes before a FIN that had an old acknowledgment": [
        ("host", (0, 10)),
        ("segments", [(P, ACK, 0, 0, 10, {}), (P, ACK | FIN, 10, 10, 0, {}), (P, ACK, 0, 0, 10, {})]),
    ],
    "a closed window stays closed": [
        ("segments", [(P, ACK, 0, 0, 10, {"window": 0})]),
        ("host", (0, 10)),
        ("segments", [(P, ACK, 0, 0, 10, {"window": 0})]),
        ("wait", 0.25),
        ("segments", [(P, ACK, 0, 0, 10, {"window": 0})]),
        ("wait", 0.25),
    ],
    "something was lost": [
        ("host", (0, 30_000)),
        ("wait", 0.25),
        ("segments", [(P, ACK, 0, 10, 10, {}), (P, ACK, 0, 0, 10, {})]),
    ],
    "a closed window was probed": [
        ("segments", [(P, ACK, 0, 0, 10, {"window": 0})]),
        ("host", (0, 10)),
        ("wait", 0.25),
        ("segments", [(P, ACK, 10, 0, 10, {})]),
        ("host", (0, 10)),
        ("segments", [(P, ACK, 20, 0, 10, {})]),
    ],
    "the window closes": [
        ("segments", [(P, ACK, 0, 0, 10, {"window": 0})]),
        ("host", (0, 10)),
        ("wait", 0.25),
        ("segments", [(P, ACK, 10, 0, 10, {"window": 0})]),
    ],
    "an acknowledgment is too new": [("segments", [(P, ACK, 0, -1, 10, {})])],
    "a window is older than another": [
        ("segments", [(P, ACK, 50, 0, 10, {"window": 100}), (P, ACK, 0, 0, 10, {"window": 65535})]),
    ],
    "data is larger than the window": [("segments", [(P, ACK, 0, 0, 20_000, {}), (P, ACK, 0, 0, 20_000, {})])],
    "data is a byte larger than the window": [("segments", [(P, ACK, 0, 0, 20_001, {})])],
    "an acknowledgment repeats": [("host", (0, 10)), ("segments", [(P, ACK, 0, 10, 0, {})] * 4)],
    "a window is older than another, and nothing is missing": [
        ("segments", [(P, ACK, 50, 0, 0, {"window": 100}), (P, ACK, 0, 0, 10, {"window": 65535})]),
    ],
    "the window is full, and the guest acknowledges": [
        ("segments", [(P, ACK, 0, 0, 20_000, {})]),
        ("host", (0, 10)),
        ("segments", [(P, ACK, 0, 0, 0, {}), (P, ACK, 0, 0, 10, {})]),
    ],
    "the window closes while data is in flight": [
        ("host", (0, 10)),
        ("segments", [(P, ACK, 0, 10, 10, {"window": 0}), (P, ACK, 0, 0, 10, {"window": 0})]),
        ("host", (0, 10)),
        ("wait", 0.25),
    ],
    "a run of datagrams": [("segments", [(P, ACK, 0, 0, 10, {"vnet": bytes((0, 5)) + bytes(10)})])],
    "a fragment": [("segments", [(P, ACK, 0, 0, 10, {"fragment": 0x2000})])],
    "a bad checksum of the header": [("segments", [(P, ACK, 0, 0, 10, {"flip": 10})])],
    "none: the guest ends first": [
        ("segments", [(P, ACK, 0, 0, 10, {}), (P, ACK | FIN, 0, 0, 0, {})]),
        ("sent", (0, 1.0)),
        ("host", (0, 10)),
        ("end", 0),
        ("segments", [(P, ACK, 0, 0, 0, {})]),
    ],
    "none: the host ends first": [
        ("segments", [(P, ACK, 0, 0, 10, {})]),
        ("sent", (0, 1.0)),
        ("end", 0),
        ("segments", [(P, ACK | FIN, 0, 0, 5, {})]),
        ("sent", (0, 1.0)),
        ("wait", 2.5),
    ],
    "a FIN that acknowledges nothing new, with data in flight": [
        ("host", (0, 10)),
        ("segments", [(P, ACK | FIN, 0, 10, 0, {})]),
    ],
    "a FIN behind a window that is full": [
        ("segments", [(P, ACK, 0, 0, 19_999, {}), (P, ACK | FIN, 0, 0, 1, {}), (P, ACK | FIN, 0, 0, 0, {})]),
    ],
    "a FIN fits into the window, behind its last byte but one": [
        ("segments", [(P, ACK, 0, 0, 19_998, {}), (P, ACK | FIN, 0, 0, 1, {})]),
    ],
    "a FIN and data come again": [
        ("segments", [(P, ACK | FIN, 0, 0, 10, {}), (P, ACK | FIN, -11, 0, 10, {}), (P, ACK, 0, 0, 1, {})]),
        ("host", (0, 10)),
        ("segments", [(P, ACK, 0, 0, 1, {}), (P, ACK | FIN, 0, 0, 0, {})]),
    ],
    "an acknowledgment of FIN comes again": [
        ("end", 0),
        ("segments", [(P, ACK, 0, 0, 0, {}), (P, ACK, 0, 0, 0, {}), (P, ACK, 0, 1, 0, {})]),
    ],
    "a part of FIN and data is acknowledged": [
        ("host", (0, 10)),
        ("end", 0),
        ("segments", [(P, ACK, 0, 1, 0, {}), (P, ACK | FIN, 0, 1, 0, {}), (P, ACK, 0, 0, 0, {})]),
    ],
    "both ends send FIN at once": [
        ("end", 0),
        ("segments", [(P, ACK | FIN, 0, 1, 10, {})]),
        ("sent", (0, 1.0)),
        ("segments", [(P, ACK, 0, 0, 0, {})]),
        ("wait", 0.003),
        ("wait", 2.5),
    ],
    "another station": [("segments", [(P, ACK, 0, 0, 10, {"mac": 1}), (P, ACK, 10, 0, 10, {})])],
}


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("steps", UNEXPECTED.values(), ids=UNEXPECTED)
def test_single_cases_agree(steps: list[tuple[str, Any]], version: int) -> None:
    twins = Twins(config("offloads"), version)
    for port in PORTS:
        twins.open(port)
    for step in steps:
        play(twins, step)


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("back", [-1, 0, 1])
@pytest.mark.parametrize("data", [b"", b"early"])
def test_the_answer_to_our_syn_ack_has_to_acknowledge_it(data: bytes, back: int, version: int) -> None:
    twins = Twins(config("plain"), version)
    twins.open(PORTS[1])
    twins.open(P, ACK, data, back=back)
    play(twins, ("segments", [(P, ACK, 0, 0, 10, {})]))


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("link", LINKS)
def test_requests_and_acknowledgments_take_the_short_cut(link: str, version: int) -> None:
    """Otherwise the property would hold without it."""
    twins = Twins(config(link), version)
    for port in PORTS:
        twins.open(port)
    inside = twins.inside[0]
    network: Network = twins.networks[0]

    def is_predicted(port: int, data: bytes) -> bool:
        frame = twins.frame(port, ACK, 0, 0, data)
        flow = next(flow for flow in inside._tcp._flows.values() if flow.guest.port == port)
        sequence, acknowledgment = twins.sequence[port], twins.expected[port]
        begin = len(frame) - len(data)
        taken: bool = inside._tcp.prediction.take(flow, frame, sequence, acknowledgment, 0, 5000, begin, len(frame))
        return taken

    for _ in range(3):
        assert all(is_predicted(port, b"request") for port in PORTS)
        twins.sequence = {port: sequence + 7 for port, sequence in twins.sequence.items()}
        for socket in twins.sockets:
            network.stream_received(socket, b"answer", twins.now)
        network.take_orders()
        for frame in network.take_frames():
            assert isinstance(frame, bytes)
            twins._follow(frame)
    assert all(is_predicted(port, b"") for port in PORTS)
    assert not any(is_predicted(port, b"") for port in PORTS), "a repeated acknowledgment"


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("first", ["guest", "host"])
def test_a_whole_connection_takes_the_short_cut(first: str, version: int) -> None:
    """From the guest's answer to the SYN-ACK to the last segment of both ends."""
    twins = Twins(config("offloads"), version)
    network, inside = twins.networks[0], twins.inside[0]
    options = tcp.mss_option(1000) + tcp.window_scale_option(2)
    network.receive_frames([twins.frame(9, RST, 0, 0, b"")], twins.now)  # the network knows the guest from now on
    network.receive_frames([twins.frame(P, SYN, 0, 0, b"", options=options)], twins.now)
    (order,) = network.take_orders()
    assert isinstance(order, OpenStream)
    network.stream_connected(order.socket, twins.now)
    twins.sequence[P] += 1
    (flow,) = inside._tcp._flows.values()

    def is_predicted(fin: int, data: bytes) -> bool:
        network.take_orders()
        for answer in network.take_frames():
            assert isinstance(answer, bytes)
            twins._follow(answer)
        frame = twins.frame(P, ACK | fin, 0, 0, data)
        numbers, begin = (twins.sequence[P], twins.expected[P]), len(frame) - len(data)
        taken: bool = inside._tcp.prediction.take(flow, frame, *numbers, fin, 5000, begin, len(frame))
        twins.sequence[P] += len(data) + fin
        return taken

    assert is_predicted(0, b"")
    assert is_predicted(0, b"request")
    network.stream_sent(order.socket, 7, twins.now)
    if first == "guest":
        assert is_predicted(FIN, b"")
    network.stream_received(order.socket, b"answer", twins.now)
    network.stream_ended(order.socket, twins.now)
    assert is_predicted(0 if first == "guest" else FIN, b"")
    assert flow.lifecycle[0] == ("GONE" if first == "guest" else "TIME_WAIT")


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("link", LINKS)
def test_a_segment_without_options_takes_the_whole_short_cut(link: str, version: int) -> None:
    """Otherwise the property would hold without the shorter part of it."""
    twins = Twins(config(link), version)
    twins.open(P)
    tcp_inside = twins.inside[0]._tcp
    taken: list[tuple[int, bool]] = []

    class Noted(Prediction):
        def take(self, flow: TcpFlow, frame: Buffer, *numbers: int) -> bool:
            taken.append((numbers[3], super().take(flow, frame, *numbers)))
            return taken[-1][1]

    context, shared, icmp_errors = tcp_inside.context, tcp_inside._shared, tcp_inside.prediction._icmp_errors
    prediction = Noted(context, shared, tcp_inside._flows, tcp_inside.opening, icmp_errors)
    assert prediction.receive(twins.frame(P, ACK, 0, 0, b"request"))
    assert prediction.receive(twins.frame(P, ACK | PSH, 7, 0, b"request", window=9))
    assert prediction.receive(twins.frame(P, ACK, 14, 0, b"request", options=bytes((1, 1, 1, 1))))
    assert taken == [(5000, True), (9, True)]
    assert len(shared.dirty) == 1, "all are answered at once"


@pytest.mark.parametrize(
    ("behind", "is_taken"), [(0, True), (1, True), (HALF - 1, True), (HALF, False), (HALF + 1, False), (-1, False)]
)
def test_a_window_newer_than_that_of_the_segment_is_kept(behind: int, is_taken: bool) -> None:
    """SND.WL1 is `behind` the segment; half of the number space is behind in neither direction."""
    twins = Twins(config("plain"), 4)
    twins.open(P)
    inside = twins.inside[0]._tcp
    flow = next(iter(inside._flows.values()))
    frame = twins.frame(P, ACK, 0, 0, b"request")
    sequence = twins.sequence[P]
    flow.sender.wl1 = tcp.add(sequence, -behind)
    begin = len(frame) - 7
    assert inside.prediction.take(flow, frame, sequence, twins.expected[P], 0, 5, begin, len(frame)) is is_taken


def test_a_quiet_connection_rests_until_there_is_something_to_do() -> None:
    """Data in both directions, an end and a failure find it as if it had never rested."""
    for wakes in ("guest", "host", "end", "failure"):
        twins = Twins(config("offloads"), 4)
        for port in PORTS:
            twins.open(port)
            play(twins, ("segments", [(port, ACK, 0, 0, 900, {})]))
        steps: list[tuple[str, Any]]
        steps = [("sent", (0, 1.0)), ("sent", (1, 1.0)), ("wait", 0.25), ("wait", 1.0), ("wait", 1.0)]
        for step in steps:
            play(twins, step)
        flows = list(twins.inside[0]._tcp._flows.values())
        assert [flow.resting is None for flow in flows] == [False, False], wakes
        play(
            twins,
            {
                "guest": ("segments", [(PORTS[0], ACK, 0, 0, 10, {})]),
                "host": ("host", (0, 10)),
                "end": ("end", 0),
                "failure": ("failed", 0),
            }[wakes],
        )
        assert flows[0].resting is None, wakes
        assert flows[1].resting is not None, wakes
        steps = [("segments", [(PORTS[0], ACK | FIN, 0, 0, 10, {})]), ("host", (0, 10)), ("wait", 1.0)]
        for step in steps:
            if wakes != "failure" and not (wakes == "end" and step[0] == "host"):
                play(twins, step)
