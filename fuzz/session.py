"""A network, its guest and its host, whose every output is checked.

Invariants:

- No input raises.
- Orders fit the state of their sockets, and no order reaches for an address that exists in the program only.
- Frames are well-formed to an independent reader, and within the link's sizes.
- A stream's bytes are those that were sent, in order and without a gap, in both directions. Nothing is acknowledged
  that was not sent.
- What is held stays within the limits.
- When all is over and time has passed, nothing is left.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from sansnet_core import Network, NetworkConfig, OpenStream, Order, Prefix, SendDatagram, SendStream, SocketId
from sansnet_core.addresses import Endpoint
from sansnet_core.testing import OUTSIDER, OUTSIDER6, SECRET, SERVER, SERVER6, GuestStack, HostScript, ScriptedHost
from sansnet_core.testing.host import HostStream
from sansnet_core.testing.packets import ACK, ARP, IPV4, IPV6, SYN, TCP, Segment, ethernet, glue, read_frame, read_ip
from sansnet_core.testing.packets import read_segments as segments_of

__all__ = ["CONVERSATIONS", "LISTENING", "VIRTUAL", "Conversation", "Session"]

VIRTUAL: Final = Prefix("198.18.0.0/15")
_SPACE: Final = 1 << 32
_PATTERN_SIZE: Final = 1 << 16
_PATTERN: Final = random.Random(9293).randbytes(_PATTERN_SIZE) * 3
"""The byte at each sequence number modulo 65536, so that a byte in a wrong place is found out."""
_ROUNDS: Final = 1000
"""Outputs at one instant; a network that has more would never stop."""


def _content(start: int, size: int) -> bytes:
    """What a stream has at a place."""
    start %= _PATTERN_SIZE
    return _PATTERN[start : start + size]


@dataclass
class Conversation:
    """What the guest knows of the connection at one of its ports.

    Attributes:
        port: of the guest.
        remote: the other end.
        sequence: the number of the next byte in order.
        seen: the number behind the last byte of the network.
        acknowledged: the number that the network expects.
        starts: numbers at which a stream of the guest may begin.
        furthest: per start, the bytes from there that were sent.
        theirs: the number at which the network's stream begins; None before its SYN.
    """

    port: int
    remote: Endpoint
    sequence: int = 1000
    seen: int = 0
    acknowledged: int = 0
    starts: set[int] = field(default_factory=set)
    end: int = 0
    theirs: int | None = None


LISTENING: Final = {8001: OUTSIDER, 8002: OUTSIDER6}
"""By the guest's port, the outsider that connects to it."""
CONVERSATIONS: Final = (
    *((port, Endpoint(SERVER, 80)) for port in (41000, 41001)),
    (41002, Endpoint(SERVER6, 80)),
    (41003, Endpoint(VIRTUAL.address[:3] + b"\7", 80)),
    *LISTENING.items(),
)
"""The guest's ports and whom it talks to."""
_OWN_BYTES: Final = tuple(port.to_bytes(2, "big") for port, _ in CONVERSATIONS)


class _Host(ScriptedHost):
    """A host whose driver asks for the budget of a stream when there is something to read, as with epoll."""

    def _read(self, stream: HostStream, now: float) -> bool:
        return bool(stream.incoming or stream.ended) and super()._read(stream, now)


class Session:
    """A network in virtual time.

    Args:
        config: of the network.
        script: how its streams behave.
    """

    def __init__(self, config: NetworkConfig, script: HostScript) -> None:
        self.config = config
        self.now = 0.0
        self.guest = GuestStack()
        self.network = Network(config, now=self.now, secret=SECRET)
        self.host = _Host(self.network, script)
        self.conversations = [Conversation(port, remote) for port, remote in CONVERSATIONS]
        self._by_port = {each.port: each for each in self.conversations}
        self.holds = False
        """Frames of the guest are received without taking the outputs."""
        self._produced: dict[SocketId, int] = {}
        self._received: dict[SocketId, tuple[Conversation, int | None]] = {}
        """Stream of the guest -> its conversation and the number of the next byte; None before the first."""

    # the guest

    def send(self, *frames: bytes, head: bytes = bytes(12)) -> None:
        """The guest sends frames, each behind an offload header if the link has one."""
        if self.config.link.vnet_header:
            frames = tuple(head + frame for frame in frames)
        self.network.receive_frames(frames, self.now)
        if not self.holds:
            self.outputs()

    def send_foreign(self, frame: bytes, head: bytes = bytes(12)) -> None:
        """The same for a frame with any content, unless it could be part of a conversation."""
        if not any(port in frame for port in _OWN_BYTES):
            self.send(frame, head=head)

    def packet(self, packet: bytes) -> bytes:
        """The frame of a packet."""
        return ethernet(self.guest.gateway_mac, self.guest.mac, IPV4 if packet[0] >> 4 == 4 else IPV6, packet)

    def segment(
        self, talk: Conversation, flags: int, sequence: int, acknowledgment: int, window: int, size: int, options: bytes
    ) -> None:
        """The guest sends a segment, whose data are those that belong to its place."""
        sequence %= _SPACE
        start = (sequence + bool(flags & SYN)) % _SPACE
        if flags & SYN:
            talk.starts.add(start)
            talk.end = start
        talk.end = max(talk.end, start + size, key=lambda number: (number - start + (1 << 31)) % _SPACE) % _SPACE
        source = self.guest.address(len(talk.remote.address))
        segment = Segment(
            source, talk.port, *talk.remote, sequence, acknowledgment % _SPACE, flags, window, _content(start, size),
            raw_options=options,
        )  # fmt: skip
        frame = self.packet(segment.ip().emit())
        most = self.config.link.mtu - 40 - len(options)
        head = bytes(12)
        if size > most > 0 and self.config.link.vnet_header:
            kind = 1 if len(source) == 4 else 4
            network = 34 if kind == 1 else 54
            head = bytes((1, kind)) + b"".join(
                number.to_bytes(2, "little") for number in (network + 20 + len(options), most, network, 16, 0)
            )
        self.send(frame, head=head)

    # outputs

    def outputs(self) -> None:
        """Take and check everything, and let the host answer."""
        for _ in range(_ROUNDS):
            frames = self.network.take_frames()
            for frame in frames:
                self._check(glue(frame))
            orders = self.network.take_orders()
            for order in orders:
                self._check_order(order)
            self.host.obey(orders, self.now)
            reported = self.host.report(self.now)
            self.network.take_notices()
            if not (orders or frames or reported):
                break
        else:
            raise AssertionError("outputs without an end")

    def _check_order(self, order: Order) -> None:
        if isinstance(order, OpenStream | SendDatagram):
            assert not VIRTUAL.contains(order.remote.address), "an order to an address of the program"
        if isinstance(order, OpenStream) and (talk := self._by_port.get(order.guest.port)) is not None:
            self._received[order.socket] = talk, None
        elif isinstance(order, SendStream) and order.socket in self._received:
            self._check_data(order)

    def _check_data(self, order: SendStream) -> None:
        talk, number = self._received[order.socket]
        data = bytes(order.data)
        starts = talk.starts if number is None else {number}
        found = [start for start in starts if _matches(data, start)]
        assert found, "the host gets other bytes than the guest sent"
        self._received[order.socket] = talk, (found[0] + len(data)) % _SPACE

    def _check(self, frame: bytes) -> None:
        link = self.config.link
        read = read_frame(frame, vnet=link.vnet_header)
        assert read.size <= max(link.max_frame_size, 60)
        if read.ethertype == ARP:
            return
        ip = read_ip(read)
        assert read.gso_type or len(read.payload) <= max(link.mtu, 46)
        if ip.protocol == TCP:
            for segment in segments_of(ip, read.gso_size):
                self._check_segment(segment)

    def _check_segment(self, segment: Segment) -> None:
        talk = self._by_port.get(segment.destination_port)
        if talk is None or (segment.source, segment.source_port) != talk.remote:
            return
        if segment.flags & SYN:
            talk.theirs = (segment.sequence + 1) % _SPACE
        if segment.payload and talk.theirs is not None:
            offset = (segment.sequence - talk.theirs) % _SPACE
            assert _matches(segment.payload, offset), "the guest gets other bytes than the host sent"
        talk.seen = (segment.sequence + segment.size) % _SPACE
        if segment.flags & ACK:
            talk.acknowledged = segment.acknowledgment

    def check_limits(self) -> None:
        """Check that what is held stays within the limits."""
        limits, statistics = self.config.limits, self.network.statistics()
        flows = statistics.flows
        assert flows["tcp_flows"] <= limits.tcp_flows
        assert flows["udp_flows"] <= limits.udp_flows + limits.udp_inbound_flows
        assert 0 <= statistics.tcp_held <= limits.tcp_memory + limits.tcp_flows * max(limits.tcp_window, 16 << 10)
        assert len(self.host.datagram_sockets) <= limits.udp_flows
        assert len(self.host.echo_sockets) <= limits.echo_flows
        assert len(self.host.questions) <= 6 * limits.undecided_flows  # three protocols, two directions
        deadline = self.network.next_deadline()
        assert deadline is None or deadline >= 0

    # the host

    def streams(self) -> list[HostStream]:
        """Those that are connected and open."""
        return [each for each in self.host.streams.values() if each.connected and not each.closed]

    def produce(self, stream: HostStream, size: int) -> None:
        """The remote sends the next bytes of its stream."""
        if not stream.ended:
            begin = self._produced.get(stream.socket, 0)
            self._produced[stream.socket] = begin + size
            self.host.produce(stream, _content(begin, size))
            self.outputs()

    # time

    def advance(self, seconds: float) -> None:
        """Let time pass, deadline by deadline."""
        self.outputs()
        end = self.now + seconds
        for _ in range(5000):
            times = (self.network.next_deadline(), self.host.next_deadline())
            deadline = min((each for each in times if each is not None), default=None)
            if deadline is None or deadline > end:
                break
            self.now = max(self.now, deadline)
            self.network.handle_deadline(self.now)
            self.outputs()
        else:
            raise AssertionError("deadlines without an end")
        self.now = end

    def finish(self, sockets: Iterable[SocketId] = ()) -> None:
        """After a long silence of the guest, while the host reads, nothing is left."""
        self.holds = False
        for stream in self.host.streams.values():
            stream.blocked = False
            stream.script = HostScript()
        self.outputs()
        self.advance(40_000.0)
        assert not self.streams(), "connections that outlive the guest's silence"
        assert not self.host.datagram_sockets
        assert not self.host.echo_sockets
        assert not self.host.questions
        assert not self.network.flows()
        assert self.network.statistics().tcp_held == 0


def _matches(data: bytes, start: int) -> bool:
    start %= _PATTERN_SIZE
    return _PATTERN.startswith(data[: 2 * _PATTERN_SIZE], start)
