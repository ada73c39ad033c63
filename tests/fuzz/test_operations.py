"""Any sequence of operations of guests and drivers leaves the network consistent.

Invariants: nothing raises but `UsageError` for misuse; orders are consistent (`Host` checks them); what is
held is bounded; when all is over and time has passed, nothing is left.
"""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from sansnet_core import Allow, Drop, Endpoint, LinkConfig, Prefix, Refuse, Serve, SocketId, UsageError, Verdict
from sansnet_core.testing import GATEWAY, OUTSIDER, OUTSIDER6, SERVER, HostStream
from sansnet_core.testing.packets import (
    ACK,
    FIN,
    IPV4,
    PSH,
    RST,
    SYN,
    TCP,
    URG,
    Segment,
    ethernet,
    glue,
    icmp,
    read_frame,
    read_ip,
    udp,
)
from sansnet_core.testing.packets import read_segments as segments_of
from tests.fuzz.corpus import frames, packets
from tests.fuzz.harness import LIMITS, LOOPBACK_ALIAS, VIRTUAL, Harness

_FRAMES = frames()
_PACKETS = packets()
LINKS = [
    LinkConfig(mtu=1500, max_frame_size=1514),
    LinkConfig(mtu=1500, max_frame_size=65549, vnet_header=True, checksum_offload=True, tso4=True, tso6=True, uso=True),
]
_LOOPBACK = Endpoint(bytes((127, 0, 0, 1)), 34567)
_OUTSIDERS = {8001: OUTSIDER, 8002: _LOOPBACK, 8003: OUTSIDER}
"""By the guest's port, who connects to it from outside."""
_REMOTES: dict[int, tuple[bytes, int]] = {
    **dict.fromkeys((40000, 40001, 40002), (SERVER, 80)),
    **_OUTSIDERS,
    8002: (LOOPBACK_ALIAS, 34567),
}
"""By the guest's port, whom it talks to."""
_PORTS = st.sampled_from(sorted(_REMOTES))
_OWN_PORTS = st.sampled_from(sorted(_REMOTES.keys() - _OUTSIDERS))
_LISTENING = st.sampled_from(sorted(_OUTSIDERS))
_MAX_FORWARDS = 5
_VERDICTS: list[Verdict] = [
    Allow(),
    Allow(),
    Allow(Endpoint(OUTSIDER6.address, 443)),
    Refuse(),
    Refuse(111),
    Refuse(110),
    Drop(),
    Serve(),
]
_STRANGERS4 = st.sampled_from([SERVER, GATEWAY, OUTSIDER.address, LOOPBACK_ALIAS, bytes(4), b"\x7f\0\0\1"])
_STRANGERS6 = st.sampled_from([OUTSIDER6.address, bytes(16), bytes(15) + b"\1", b"\xfe\x80" + bytes(13) + b"\7"])
_FLAGS = st.sampled_from(
    [SYN, ACK, ACK, ACK | PSH, ACK | PSH, ACK | FIN, ACK | FIN, RST, RST | ACK, SYN | ACK, SYN | FIN, FIN, 0, ACK | URG]
)
_NEAR = st.sampled_from([0, 0, 0, 0, 0, 1, -1, 2, 10, -10, 1460, -1460, 19_999, 20_000, 70_000, 1 << 31, -(1 << 30)])


class _Known:
    """The numbers that a guest knows of one of its connections, to choose others near the right ones."""

    def __init__(self) -> None:
        self.sequence = 1000
        self.seen = 0
        self.acknowledged = 0


class Operations(RuleBasedStateMachine):
    """Guests, sockets and time, in any order."""

    def start(self, link: LinkConfig, connect: int | None, *, asks: bool = False) -> None:
        self.harness = Harness(link, connect=connect, asks=asks, listen=self._listen)
        self.services: list[SocketId] = []
        self.known = {port: _Known() for port in _REMOTES}

    def _listen(self, frame: bytes) -> None:
        read = read_frame(glue(frame), vnet=self.harness.config.link.vnet_header)
        if read.ethertype != IPV4:
            return
        ip = read_ip(read)
        for segment in segments_of(ip, read.gso_size) if ip.protocol == TCP else ():
            known = self.known.get(segment.destination_port)
            if known is not None:
                known.seen = (segment.sequence + segment.size) % (1 << 32)
                if segment.flags & ACK:
                    known.acknowledged = segment.acknowledgment

    def _segment(self, port: int, flags: int, sequence: int, acknowledgment: int, window: int, payload: bytes) -> bytes:
        segment = Segment(
            self.harness.guest.ipv4, port, *_REMOTES[port], sequence, acknowledgment, flags, window, payload,
            mss=1460 if flags & SYN else None, scale=2 if flags & SYN else None, sack_permitted=bool(flags & SYN),
        )  # fmt: skip
        guest = self.harness.guest
        return ethernet(guest.gateway_mac, guest.mac, IPV4, segment.ip().emit())

    @rule(port=_OWN_PORTS)
    def connects(self, port: int) -> None:
        """A correct handshake."""
        known = self.known[port]
        known.sequence = (known.sequence + 100_000) % (1 << 32)
        self.harness.receive(self._segment(port, SYN, known.sequence, 0, 65535, b""))
        known.sequence += 1
        self.harness.receive(self._segment(port, ACK, known.sequence, known.seen, 65535, b""))

    @rule(port=_LISTENING, accepts=st.booleans())
    def outsider_connects(self, port: int, accepts: bool) -> None:
        """A SYN to the guest, with or without the answer that it should have."""
        known = self.known[port]
        known.sequence = (known.sequence + 100_000) % (1 << 32)
        self.harness.host.accept(_OUTSIDERS[port], port, self.harness.now)
        self.harness.outputs()
        if accepts:
            self.harness.receive(self._segment(port, SYN | ACK, known.sequence, known.seen, 65535, b""))
            known.sequence += 1

    @rule(data=st.data(), verdict=st.sampled_from(_VERDICTS))
    def verdict_comes(self, data: st.DataObject, verdict: Verdict) -> None:
        if questions := sorted(self.harness.host.questions):
            self.harness.host.decide(data.draw(st.sampled_from(questions)), verdict, self.harness.now)
            self.harness.outputs()

    @rule(protocol=st.sampled_from([6, 17]), prefix=st.sampled_from([None, VIRTUAL, Prefix.of("0.0.0.0/0")]))
    def service_begins(self, protocol: int, prefix: Prefix | None) -> None:
        if not self.services:
            self.services.append(self.harness.network.service_added(protocol, prefix, None, self.harness.now))

    @rule()
    def service_ends(self) -> None:
        if self.services:
            self.harness.network.service_removed(self.services.pop(), self.harness.now)
            self.harness.outputs()

    @rule(port=_LISTENING, accepts=st.booleans())
    def program_connects(self, port: int, accepts: bool) -> None:
        """From the outsider's place in the guest's eyes, if that is an address of ours; else it is an errno."""
        known = self.known[port]
        known.sequence = (known.sequence + 100_000) % (1 << 32)
        self.harness.host.connect(port, self.harness.now, source=Endpoint(*_REMOTES[port]))
        self.harness.outputs()
        if accepts:
            self.harness.receive(self._segment(port, SYN | ACK, known.sequence, known.seen, 65535, b""))
            known.sequence += 1

    @rule(port=_LISTENING, number=_NEAR)
    def guest_is_unreachable(self, port: int, number: int) -> None:
        """An ICMP error about a segment of ours."""
        known, guest = self.known[port], self.harness.guest
        address, remote_port = _REMOTES[port]
        place = (known.seen - 1 + number) % (1 << 32)
        quoted = Segment(address, remote_port, guest.ipv4, port, place, 0, SYN, 0).ip().emit()
        error = icmp(guest.ipv4, address, 3, 3, bytes(4) + quoted)
        self.harness.receive(ethernet(guest.gateway_mac, guest.mac, IPV4, error.emit()))

    @rule(port=_LISTENING, number=_NEAR, mtu=st.sampled_from([0, 600, 1400, 65535]))
    def link_of_the_guest_is_narrow(self, port: int, number: int, mtu: int) -> None:
        """An ICMP error that asks for smaller segments."""
        known, guest = self.known[port], self.harness.guest
        address, remote_port = _REMOTES[port]
        quoted = Segment(address, remote_port, guest.ipv4, port, (known.seen - 1 + number) % (1 << 32)).ip().emit()
        error = icmp(guest.ipv4, address, 3, 4, mtu.to_bytes(4, "big") + quoted)
        self.harness.receive(ethernet(guest.gateway_mac, guest.mac, IPV4, error.emit()))

    @rule(port=st.sampled_from([5300, 40000]), outgoing=st.sampled_from([(), (4,), (4, 16)]))
    def forward_is_added(self, port: int, outgoing: tuple[int, ...]) -> None:
        if len(self.harness.host.forwards) < _MAX_FORWARDS:
            self.harness.host.forward(port, self.harness.now, outgoing=outgoing)

    @rule(data=st.data())
    def forward_is_removed(self, data: st.DataObject) -> None:
        if forwards := sorted(self.harness.host.forwards):
            self.harness.host.remove_forward(data.draw(st.sampled_from(forwards)), self.harness.now)
            self.harness.outputs()

    @rule(
        data=st.data(),
        source=st.builds(
            Endpoint,
            st.sampled_from([OUTSIDER.address, _LOOPBACK.address, SERVER, OUTSIDER6.address, bytes(4), bytes(16)]),
            st.integers(0, 6),
        ),
        size=st.sampled_from([0, 1, 5000]),
    )
    def outsider_sends(self, data: st.DataObject, source: Endpoint, size: int) -> None:
        if forwards := sorted(self.harness.host.forwards):
            socket = data.draw(st.sampled_from(forwards))
            self.harness.host.datagram(
                socket, source, bytes(size), self.harness.now, 1000 if size > 1000 else 0, SERVER
            )
            self.harness.outputs()

    @rule(
        port=st.sampled_from([5300, 40000]),
        remote=st.sampled_from([OUTSIDER.address, LOOPBACK_ALIAS, SERVER, GATEWAY, bytes((198, 18, 0, 1))]),
        number=st.integers(1, 6),
    )
    def guest_sends_a_datagram(self, port: int, remote: bytes, number: int) -> None:
        guest = self.harness.guest
        packet = udp(guest.ipv4, port, remote, number, b"answer")
        self.harness.receive(ethernet(guest.gateway_mac, guest.mac, IPV4, packet.emit()))

    @rule(port=_PORTS, size=st.sampled_from([1, 100, 1400]), window=st.sampled_from([0, 100, 65535]))
    def sends(self, port: int, size: int, window: int) -> None:
        """In-order data."""
        known = self.known[port]
        self.harness.receive(self._segment(port, ACK | PSH, known.sequence, known.seen, window, bytes(size)))
        known.sequence = known.acknowledged

    @rule(
        port=_PORTS,
        flags=_FLAGS,
        sequence=_NEAR,
        acknowledgment=_NEAR,
        size=st.sampled_from([0, 0, 0, 1, 100, 1400]),
        window=st.sampled_from([0, 1, 1000, 65535]),
    )
    def sends_something(
        self, port: int, flags: int, sequence: int, acknowledgment: int, size: int, window: int
    ) -> None:
        """A segment near the right place."""
        known = self.known[port]
        place = (known.sequence + sequence) % (1 << 32)
        number = (known.seen + acknowledgment) % (1 << 32)
        self.harness.receive(self._segment(port, flags, place, number, window, bytes(size)))

    @rule(name=st.sampled_from(sorted(_FRAMES)))
    def sends_a_frame(self, name: str) -> None:
        self.harness.receive(_FRAMES[name])

    def _streams(self) -> list[HostStream]:
        return [one for one in self.harness.host.streams.values() if one.connected and not one.closed]

    @rule(data=st.data(), size=st.sampled_from([1, 1000, 50_000]))
    def host_sends(self, data: st.DataObject, size: int) -> None:
        streams = [one for one in self._streams() if not one.ended]
        if streams:
            self.harness.host.produce(data.draw(st.sampled_from(streams)), bytes(size))
            self.harness.outputs()

    @rule(data=st.data(), what=st.sampled_from(["end", "fail", "block", "unblock"]))
    def host_does(self, data: st.DataObject, what: str) -> None:
        streams = self._streams()
        if not streams:
            return
        stream = data.draw(st.sampled_from(streams))
        host = self.harness.host
        if what == "end":
            host.end(stream)
        elif what == "fail":
            host.fail(stream, 104, self.harness.now)
        else:
            stream.blocked = what == "block"
        self.harness.outputs()

    @rule(data=st.data(), failed=st.booleans(), size=st.sampled_from([0, 1, 100, 5000, 60_000]))
    def datagram_arrives(self, data: st.DataObject, failed: bool, size: int) -> None:
        sockets = self.harness.open_sockets()
        if sockets:
            socket = data.draw(st.sampled_from(sockets))
            self.harness.answer(socket, bytes(size), failed=failed, size=1000 if size > 1000 else 0)

    @rule(data=st.data(), four=_STRANGERS4, six=_STRANGERS6, port=st.integers(0, 65535))
    def somebody_who_was_not_asked_sends_a_datagram(
        self, data: st.DataObject, four: bytes, six: bytes, port: int
    ) -> None:
        harness = self.harness
        if harness.host.datagram_sockets:
            socket, opened = data.draw(st.sampled_from(sorted(harness.host.datagram_sockets.items())))
            source = Endpoint(four if len(opened.local.address) == 4 else six, port)
            before = harness.network.statistics().flows
            harness.host.datagram(socket, source, b"psst", harness.now)
            harness.outputs()
            assert harness.network.statistics().flows == before, "state for somebody whom nobody asked"

    @rule(seconds=st.sampled_from([0.0, 0.001, 0.3, 1.0, 10.0, 200.0, 8000.0]))
    def time_passes(self, seconds: float) -> None:
        self.harness.advance(seconds)

    @rule()
    def driver_goes_back_in_time(self) -> None:
        if self.harness.now > 0:
            with pytest.raises(UsageError):
                self.harness.network.handle_deadline(-1.0)

    @invariant()
    def unsent_is_bounded(self) -> None:
        if hasattr(self, "harness"):
            for stream in self.harness.host.streams.values():
                assert stream.closed or len(stream.unsent) <= LIMITS.tcp_window

    def teardown(self) -> None:
        """After a long silence of the guest, nothing is left."""
        if not hasattr(self, "harness"):
            return
        for stream in self._streams():
            stream.blocked = False
        self.harness.outputs()
        self.harness.advance(40_000.0)
        assert not self._streams(), "connections that outlive a guest's silence"
        assert not self.harness.open_sockets()
        statistics = self.harness.network.statistics()
        assert statistics.tcp_held == 0


class PlainOperations(Operations):
    @initialize(link=st.sampled_from(LINKS), connect=st.sampled_from([0, 0, 0, 111, None]), asks=st.booleans())
    def start_plain(self, link: LinkConfig, connect: int | None, asks: bool) -> None:
        self.start(link, connect, asks=asks)


PlainOperations.TestCase.settings = settings(max_examples=100, stateful_step_count=30)
TestOperations = pytest.mark.slow(PlainOperations.TestCase)
