"""Invariants for any segments of the guest on a connection, and any conduct of its host meanwhile:

- nothing raises, and every frame out is well-formed;
- the right edge of the window never moves left, and nothing beyond it is acknowledged;
- the host is sent the guest's bytes in order and without holes, and no more than was acknowledged; its end follows the
  last one;
- the bytes held stay within the limits, and are 0 when the connection is over;
- a frame from the guest causes a bounded number of frames to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Final, TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sansnet_core import (
    Buffer,
    CloseSocket,
    KeepAlive,
    Limits,
    LinkConfig,
    Network,
    NetworkConfig,
    OpenStream,
    ResumeStream,
    SendStream,
    ShutdownStream,
    SocketId,
)
from sansnet_core.proto.tcp.gap import PIECE_COST
from sansnet_core.proto.tcp.loss import MAX_BURST
from sansnet_core.proto.tcp.memory import RESERVE
from sansnet_core.testing import SECRET, SERVER, GuestStack, make_config
from sansnet_core.testing.packets import (
    ACK,
    FIN,
    PSH,
    RST,
    SYN,
    Segment,
    ethernet,
    glue,
    read_frame,
    read_ip,
    read_segments,
)

_MODULUS: Final = 1 << 32
_PATTERN: Final = bytes((7 * n + n // 251) % 256 for n in range(251 * 256))
_LINKS: Final = (
    LinkConfig(mtu=1500, max_frame_size=1514),
    LinkConfig(mtu=65520, max_frame_size=65535),
    LinkConfig(mtu=68, max_frame_size=65535),
    LinkConfig(mtu=1500, max_frame_size=65549, vnet_header=True, checksum_offload=True, tso4=True, tso6=True),
)


def _bytes_at(position: int, size: int) -> bytes:
    """The bytes of the guest's stream at a position, from 0 on."""
    start = position % len(_PATTERN)
    return (_PATTERN * (2 + size // len(_PATTERN)))[start : start + size]


def _signed(number: int) -> int:
    return (number + (1 << 31)) % _MODULUS - (1 << 31)


@dataclass(frozen=True, slots=True)
class Shot:
    """A segment of the guest.

    Attributes:
        base: "next" counts from the acknowledged position, "edge" from the right edge of the window; "fill" begins at
            the acknowledged position and ends at that edge.
        offset: of the segment's first byte from there; with "fill", of the end of the segment.
        size: of its payload.
        flags: control bits.
        acknowledged: acknowledgment number, relative to the end of the network's stream; above 0 is invalid.
        window: the field.
        sack: blocks, relative to the acknowledgment number.
    """

    base: str
    offset: int
    size: int
    flags: int
    acknowledged: int = 0
    window: int = 65535
    sack: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class HostDoes:
    """The host takes some of what it was sent, sends data, ends, or is silent for `wait` seconds."""

    takes: int = 0
    says: int = 0
    ends: bool = False
    wait: float = 0.0


Step: TypeAlias = Shot | HostDoes


def _shot(random: Random) -> Shot:
    """Mostly segments that are nearly right: those of a Hypothesis strategy would mostly be dropped at once."""
    flags = ([ACK] * 4 + [ACK | PSH] * 4 + [ACK | FIN] * 4) * 4 + [FIN, 0, SYN, SYN | ACK, SYN | FIN, SYN | ACK | FIN]
    blocks = [(random.randint(-10, 4000), random.randint(-10, 4000)) for _ in range(random.choice([0, 0, 0, 0, 1, 3]))]
    offsets = [0] * 12 + [
        1,
        -1,
        2,
        -2,
        100,
        -100,
        1400,
        -1400,
        3000,
        65535,
        -65536,
        1 << 31,
        random.randint(-3000, 3000),
    ]
    return Shot(
        base=random.choice(["next", "next", "next", "edge", "fill"]),
        offset=random.choice([*offsets, random.randint(-3000, 3000)]),
        size=random.choice([0, 0, 1, 2, 100, 1400, 60_000, random.randint(0, 3000)]),
        flags=random.choice(flags),
        acknowledged=random.choice([0] * 20 + [-1, -100, -3000, 1, 1 << 30]),
        window=random.choice([0, 1, 100, 1460, 65535, 65535]),
        sack=tuple(blocks),
    )


def _step(random: Random) -> Step:
    if random.random() < 0.7:
        return _shot(random)
    return HostDoes(
        takes=random.choice([0, 0, 0, 1, 1000, 1 << 30]),
        says=random.choice([0, 0, 1, 3000, 100_000]),
        ends=random.random() < 0.05,
        wait=random.choice([0.0, 0.0, 0.0, 0.003, 0.3, 5.0, 100.0]),
    )


limits = st.builds(
    Limits,
    tcp_memory=st.sampled_from([1, 1000, 5000, 40_000, 512 << 20]),
    tcp_window=st.sampled_from([1, 2, 100, 2000, 65535, 4 << 20]),
    tcp_send_buffer=st.sampled_from([1, 4000, 4 << 20]),
    tcp_reassembly_segments=st.sampled_from([1, 8, 1024]),
    tcp_keepalive=st.sampled_from([10.0, 7200.0]),
)


class Wire:
    """One connection of a guest that sends anything, and the checks of the answers."""

    def __init__(self, config: NetworkConfig, *, mss: int | None, scale: int | None, first: int) -> None:
        self.config = config
        self.guest = GuestStack(vnet=config.link.vnet_header)
        self.now = 1000.0
        self.network = Network(config, now=self.now, secret=SECRET)
        self.first = (first + 1) % _MODULUS
        self.socket = SocketId(0)
        self.scale = 0
        self.known = self.edge = 0
        """Positions in the guest's stream: how far it is acknowledged, and the window's right edge."""
        self.ends: set[int] = set()
        """Positions of the FINs that the guest has sent, acceptable or not."""
        self.peer_next = 0
        self.taken = 0
        self.sent = bytearray()
        self.closed = self.ended = self.shut = self.paused = False
        self.gone: set[SocketId] = set()
        self.send(
            Segment(self.guest.ipv4, 5000, SERVER, 80, first, 0, SYN, 65535, mss=mss, scale=scale, sack_permitted=True)
        )
        assert self.socket
        self.network.stream_connected(self.socket, self.now)
        self.outputs(2)
        self.scale = self.own_scale if scale is not None else 0
        self.send(Segment(self.guest.ipv4, 5000, SERVER, 80, self.first, self.peer_next, ACK, 65535))

    def send(self, segment: Segment) -> None:
        frame = ethernet(self.config.mac, self.guest.mac, 0x0800, segment.ip().emit())
        self.network.receive_frames([bytes(12 if self.config.link.vnet_header else 0) + frame], self.now)
        self.outputs(2 * MAX_BURST)

    def outputs(self, most: int) -> None:
        """Take the outputs and check them."""
        frames: list[Buffer | tuple[bytes, Buffer]] = []
        while orders := self.network.take_orders():
            for order in orders:
                if isinstance(order, OpenStream):
                    # The guest may connect again while the host takes the last data
                    assert not self.socket or self.closed or (self.shut and self.ended)
                    self.socket = self.socket or order.socket
                elif isinstance(order, SendStream):
                    assert (self.closed, self.shut) == (False, False)
                    assert order.data
                    self.sent += order.data
                elif isinstance(order, ShutdownStream):
                    assert (self.closed, self.shut) == (False, False)
                    assert len(self.sent) in self.ends  # all data before FIN was ordered, if not taken yet
                    self.shut = True
                elif isinstance(order, CloseSocket):
                    assert order.socket not in self.gone  # another connection may have begun since, and been given up
                    self.gone.add(order.socket)
                    self.closed |= order.socket == self.socket
                elif isinstance(order, KeepAlive):
                    assert not self.closed
                    assert all(0 < value < 1 << 15 for value in (order.idle, order.interval, order.count))
                else:
                    assert isinstance(order, ResumeStream)
                    assert not self.closed
                    self.paused = False
        frames = list(self.network.take_frames())
        assert len(frames) <= most, f"{len(frames)} frames at once"
        for frame in frames:
            data = glue(frame)
            link = self.config.link
            assert len(data) <= link.max_frame_size + (12 if link.vnet_header else 0)
            read = read_frame(data, vnet=link.vnet_header)
            for segment in read_segments(read_ip(read), read.gso_size):
                self.look(segment)
        assert bytes(self.sent) == _bytes_at(0, len(self.sent))

    def look(self, segment: Segment) -> None:
        """Check one answer."""
        if segment.flags & SYN:
            self.peer_next = (segment.sequence + 1) % _MODULUS
            self.edge = segment.window
            self.own_scale = segment.scale or 0
            return
        if segment.flags & RST:
            return
        assert segment.flags & ACK
        known = self.known + _signed(segment.acknowledgment - self.first - self.known)
        assert known >= self.known, "an acknowledgment goes back"
        self.known = known
        assert known - (known > len(self.sent)) <= len(self.sent), "acknowledged is more than was sent on"
        assert known <= self.edge, "acknowledged is more than was offered"
        edge = known + (segment.window << self.scale)
        assert edge > self.edge - (1 << self.scale), "the right edge moves left"
        self.edge = max(self.edge, edge)
        behind = (segment.sequence + segment.size) % _MODULUS
        if _signed(behind - self.peer_next) > 0:
            self.peer_next = behind

    def shoot(self, shot: Shot) -> None:
        position, size = (self.edge if shot.base == "edge" else self.known) + shot.offset, shot.size
        if shot.base == "fill":
            position, size = self.known, max(self.edge - self.known + shot.offset, 0)
        acknowledgment = (self.peer_next + shot.acknowledged) % _MODULUS
        most = self.config.link.max_frame_size - 54 - (4 + 8 * len(shot.sack) if shot.sack else 0)
        data = _bytes_at(position, min(size, most))
        if shot.flags & FIN:
            self.ends.add(position + len(data))
        segment = Segment(
            self.guest.ipv4,
            5000,
            SERVER,
            80,
            (self.first + position) % _MODULUS,
            acknowledgment,
            shot.flags,
            shot.window,
            data,
            sack=tuple(((acknowledgment + a) % _MODULUS, (acknowledgment + b) % _MODULUS) for a, b in shot.sack),
        )
        self.send(segment)

    def do(self, what: HostDoes) -> None:
        assert self.socket
        if not self.closed:
            count = min(what.takes, len(self.sent) - self.taken)
            if count:
                self.taken += count
                self.network.stream_sent(self.socket, count, self.now)
                self.outputs(3)
            budget = 0 if self.ended or self.paused else self.network.receive_budget(self.socket)
            self.paused = not budget
            if budget and what.says:
                size = min(budget, what.says)
                self.network.stream_received(self.socket, bytes(size), self.now)
                self.outputs(3 + size)
            elif budget and what.ends:
                self.ended = True
                self.network.stream_ended(self.socket, self.now)
                self.outputs(3)
        self.wait(what.wait)

    def wait(self, seconds: float) -> None:
        end = self.now + seconds
        for _ in range(10_000):
            deadline = self.network.next_deadline()
            if deadline is None or deadline > end:
                break
            self.now = max(self.now, deadline)
            self.network.handle_deadline(self.now)
            self.outputs(MAX_BURST + 2)
        else:
            raise AssertionError("deadlines without end")
        self.now = end

    def check_memory(self) -> None:
        memory = self.config.limits
        held = self.network.statistics().tcp_held
        assert 0 <= held <= memory.tcp_memory + RESERVE + 65535 + PIECE_COST
        assert len(self.network._context.timers._heap) < 100
        if self.network.statistics().flows["tcp_flows"] == 0:
            assert held == 0


@pytest.mark.slow
@settings(max_examples=400)
@given(
    link=st.sampled_from(_LINKS),
    bounds=limits,
    mss=st.sampled_from([None, 1, 536, 1460, 65535]),
    scale=st.sampled_from([None, 0, 7, 14]),
    first=st.sampled_from([0, 1000, 0x7FFFFFF0, 0xFFFFFFF0]),
    seed=st.integers(0, 1 << 32),
)
def test_any_segments(
    link: LinkConfig, bounds: Limits, mss: int | None, scale: int | None, first: int, seed: int
) -> None:
    wire = Wire(make_config(link, bounds), mss=mss, scale=scale, first=first)
    random = Random(seed)
    for step in [*(_step(random) for _ in range(60)), Shot("next", 0, 0, RST)]:
        if wire.network.statistics().flows["tcp_flows"] == 0:
            break
        if isinstance(step, Shot):
            wire.shoot(step)
        else:
            wire.do(step)
        wire.check_memory()
