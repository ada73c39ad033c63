#!/usr/bin/env python3
"""Measures the pure core: no kernel, no driver, frames from memory.

`core.py` prints the time of each case. `core.py --count` prints calls and instructions, which repeat, and how they
differ from those that `core.py --keep` kept. `core.py --profile CASE` prints the profile of one. Every case makes all
calls that a driver would make, except deadlines: facts go in, orders and frames come out. The data is random, but
always the same.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import sys
import time
from collections.abc import Callable, Iterable
from random import Random
from struct import pack, unpack_from
from typing import Final

import counts
import rings

from sansnet_core import Endpoint, Ipv4Config, LinkConfig, Network, NetworkConfig, OpenDatagram, OpenStream, SendStream
from sansnet_core.orders import Frame, Order, SocketId
from sansnet_core.policy import Action, Evaluator, Group, Rule
from sansnet_core.wire import checksum, ipv4, tcp, udp
from sansnet_core.wire.ip import TCP, UDP

__all__ = ["CASES", "Guest", "Work"]

GUEST: Final = bytes((192, 0, 2, 2))
GATEWAY: Final = bytes((192, 0, 2, 1))
SERVER: Final = bytes((203, 0, 113, 1))
GUEST_MAC: Final = bytes.fromhex("02000000000a")
WINDOW: Final = 65535
SCALE: Final = 10
BATCH: Final = 32
"""Frames that a driver reads before it takes the outputs."""
BATCHES: Final = 64
REPEATS: Final = 5

PLAIN: Final = LinkConfig(mtu=1500)
OFFLOADS: Final = LinkConfig(
    mtu=1500, max_frame_size=65549, vnet_header=True, checksum_offload=True, tso4=True, tso6=True, uso=True
)

Work = Callable[[], int]
"""Does a case's work once, and returns the number of units done."""


def random_bytes(size: int) -> bytes:
    """The same each time. Sums of zeros would cost half as much."""
    return Random(size).randbytes(size)


class Guest:
    """A network, and a source of frames from its guest.

    Attributes:
        make_network: makes the networks of all guests; `recording.py` replaces it.
    """

    make_network: Callable[..., Network] = Network

    def __init__(self, link: LinkConfig) -> None:
        config = NetworkConfig(
            link=link,
            guest_mac=GUEST_MAC,
            ipv4=Ipv4Config(address=GUEST, prefix_length=24, gateway=GATEWAY),
        )
        self.now = 0.0
        self.network = type(self).make_network(config, now=self.now, secret=bytes(16))
        self._prefix = bytes(12 if link.vnet_header else 0) + config.mac + GUEST_MAC + b"\x08\x00"
        self._tcp_header = len(self._prefix) + 20

    def frame(self, protocol: int, packet: bytes) -> bytes:
        return self._prefix + ipv4.emit_header(GUEST, SERVER, protocol, len(packet), 64, 0, 0, 0x4000) + packet

    def segment(self, port: int, flags: int, sequence: int, acknowledgment: int, data: bytes = b"") -> bytes:
        options = tcp.mss_option(1460) + tcp.window_scale_option(SCALE) + tcp.sack_permitted_option()
        fields = (port, 80, sequence, acknowledgment, flags, WINDOW, options if flags & tcp.SYN else b"", data)
        return self.frame(TCP, tcp.emit(GUEST, SERVER, *fields))

    def datagram(self, port: int, size: int) -> bytes:
        return self.frame(UDP, udp.emit(GUEST, SERVER, port, 9, random_bytes(size)))

    def feed(self, frames: Iterable[bytes]) -> list[Order]:
        self.now += 1e-4
        self.network.receive_frames(frames, self.now)
        return self.network.take_orders()

    def sequence_of(self, frame: Frame) -> int:
        headers = frame[0] if isinstance(frame, tuple) else frame
        sequence: int = unpack_from("!I", headers, self._tcp_header + 4)[0]
        return sequence

    def connect(self, port: int) -> tuple[SocketId, int]:
        """Do a whole handshake. Returns the socket and the sequence number that the guest expects."""
        (order,) = self.feed([self.segment(port, tcp.SYN, 0, 0)])
        assert isinstance(order, OpenStream)
        self.network.stream_connected(order.socket, self.now)
        (answer,) = self.network.take_frames()
        expected = (self.sequence_of(answer) + 1) & 0xFFFFFFFF
        self.feed([self.segment(port, tcp.ACK, 1, expected)])
        self.network.take_frames()
        return order.socket, expected


def batches(frames: list[bytes]) -> list[list[bytes]]:
    return [frames[start : start + BATCH] for start in range(0, len(frames), BATCH)]


def confirm(guest: Guest, orders: Iterable[Order]) -> None:
    """Report everything ordered to be sent as sent."""
    for order in orders:
        if isinstance(order, SendStream):
            guest.network.stream_sent(order.socket, len(order.data), guest.now)


def tcp_up(link: LinkConfig, size: int) -> Work:
    guest = Guest(link)
    _, expected = guest.connect(50000)
    data = random_bytes(size)
    starts = range(1, 1 + size * BATCH * BATCHES, size)
    work = batches([guest.segment(50000, tcp.ACK, start & 0xFFFFFFFF, expected, data) for start in starts])
    # The first batch has one segment: until it is acknowledged, the window is that of the SYN-ACK, which is not scaled
    work[:1] = [work[0][:1], work[0][1:]]

    def run() -> int:
        for batch in work:
            confirm(guest, guest.feed(batch))
            guest.network.take_frames()
        assert not guest.network.statistics().drops
        return BATCH * BATCHES

    return run


def tcp_down(link: LinkConfig, size: int) -> Work:
    """The guest acknowledges each chunk at once."""
    guest = Guest(link)
    socket, expected = guest.connect(50000)
    data = random_bytes(size)
    ends = range(expected + size, expected + size * BATCHES + 1, size)
    acknowledgments = [guest.segment(50000, tcp.ACK, 1, end & 0xFFFFFFFF) for end in ends]

    def run() -> int:
        count = 0
        for acknowledgment in acknowledgments:
            guest.network.stream_received(socket, data, guest.now)
            count += len(guest.network.take_frames())
            guest.feed([acknowledgment])
            count += len(guest.network.take_frames())
        return count

    return run


def tcp_request_response() -> Work:
    guest = Guest(OFFLOADS)
    socket, expected = guest.connect(50000)
    count = BATCH * BATCHES
    requests = [guest.segment(50000, tcp.ACK | tcp.PSH, 1 + i, (expected + i) & 0xFFFFFFFF, b"?") for i in range(count)]

    def run() -> int:
        for request in requests:
            confirm(guest, guest.feed([request]))
            guest.network.stream_received(socket, b"!", guest.now)
            guest.network.take_frames()
        return count

    return run


def tcp_connect_close() -> Work:
    """Handshake, one byte each way, the server's FIN, the guest's FIN, and the segments that follow."""
    guest = Guest(OFFLOADS)
    ports = range(20000, 20000 + BATCH * 8)

    def run() -> int:
        network = guest.network
        for port in ports:
            socket, expected = guest.connect(port)
            confirm(guest, guest.feed([guest.segment(port, tcp.ACK | tcp.PSH, 1, expected, b"?")]))
            network.stream_received(socket, b"!", guest.now)
            network.stream_ended(socket, guest.now)
            network.take_frames()
            end = (expected + 2) & 0xFFFFFFFF
            guest.feed([guest.segment(port, tcp.ACK | tcp.FIN, 2, end)])
            network.take_frames()
        return len(ports)

    return run


def udp_up(size: int) -> Work:
    guest = Guest(OFFLOADS)
    work = batches([guest.datagram(50000, size)] * (BATCH * BATCHES))

    def run() -> int:
        for batch in work:
            guest.feed(batch)
            guest.network.take_frames()
        return BATCH * BATCHES

    return run


def udp_down(link: LinkConfig, size: int, run_length: int) -> Work:
    """`run_length` datagrams in one fact, as UDP_GRO delivers them; with 1, one by one."""
    guest = Guest(link)
    order = guest.feed([guest.datagram(50000, size)])[0]
    assert isinstance(order, OpenDatagram)
    socket = order.socket
    data = random_bytes(size * run_length)
    segment_size = size if run_length > 1 else 0
    source = Endpoint(SERVER, 9)

    def run() -> int:
        for _ in range(BATCHES):
            for _ in range(0, BATCH, run_length):
                guest.network.datagram_received(socket, source, data, segment_size, 64, 0, guest.now)
            guest.network.take_frames()
        return BATCH * BATCHES

    return run


def checksum_of(size: int) -> Work:
    data = random_bytes(size)

    def run() -> int:
        for _ in range(BATCH):
            checksum.ones_sum(data)
        return BATCH

    return run


def header() -> Work:
    packet = ipv4.emit_header(GUEST, SERVER, TCP, 20, 64, 0, 0, 0) + pack("!20x")

    def run() -> int:
        for _ in range(BATCH * BATCHES):
            ipv4.parse(packet, 0, len(packet))
        return BATCH * BATCHES

    return run


def judge(name: str | None, address: bytes = SERVER) -> Work:
    """Flows under a policy of 1,000 rules with 10,000 names, one rule of prefixes, and a group."""
    evaluator = _large_policy()
    return lambda: sum(evaluator.judge(TCP, address, 443, name=name) is not None for _ in range(1000))


def ask(distinct: int) -> Work:
    """Questions for names under the same policy."""
    evaluator = _large_policy()
    names = [f"host{number}.example.com" for number in range(distinct)]
    return lambda: sum(evaluator.question(name, 1) is not None for name in names)


def _large_policy() -> Evaluator:
    rules = [
        Rule(action=Action.ALLOW, names=[f"n{number}-{each}.example.org" for each in range(10)], ports=(80, 443))
        for number in range(999)
    ]
    rules.append(Rule(action=Action.REFUSE, destinations=("10.0.0.0/8", "fd00::/8"), groups=(Group.METADATA,)))
    return Evaluator(rules, Action.REFUSE)


CASES: Final[dict[str, tuple[str, Callable[[], Work]]]] = {
    "tcp-up-1460": ("segment", lambda: tcp_up(PLAIN, 1460)),
    "tcp-up-64k": ("segment", lambda: tcp_up(OFFLOADS, 65160)),
    "tcp-down-1460": ("frame", lambda: tcp_down(PLAIN, 64240)),
    "tcp-down-64k": ("frame", lambda: tcp_down(OFFLOADS, 260640)),
    "tcp-rr": ("transaction", tcp_request_response),
    "tcp-crr": ("connection", tcp_connect_close),
    "udp-up-64": ("datagram", lambda: udp_up(64)),
    "udp-up-1400": ("datagram", lambda: udp_up(1400)),
    "udp-down-64": ("datagram", lambda: udp_down(OFFLOADS, 64, 1)),
    "udp-down-64-run": ("datagram", lambda: udp_down(OFFLOADS, 64, 32)),
    "udp-down-1400-plain": ("datagram", lambda: udp_down(PLAIN, 1400, 1)),
    "ipv4-parse": ("header", header),
    "vhost-up-1460": ("frame", lambda: rings.vhost_up(1460, 32768)),
    "vhost-up-64k": ("frame", lambda: rings.vhost_up(rings.LARGE, 32768)),
    "vhost-down-64": ("frame", lambda: rings.vhost_down(64)),
    "vhost-down-64k": ("frame", lambda: rings.vhost_down(rings.LARGE)),
    "vhost-down-64k-1536": ("frame", lambda: rings.vhost_down(rings.LARGE, 1536)),
    "stream-decode-1460": ("frame", lambda: rings.stream_decode(1460, 65536)),
    "stream-decode-64k": ("frame", lambda: rings.stream_decode(rings.LARGE, 230000)),
    "checksum-20": ("sum", lambda: checksum_of(20)),
    "checksum-1460": ("sum", lambda: checksum_of(1460)),
    "checksum-65000": ("sum", lambda: checksum_of(65000)),
    "policy-flow": ("flow", lambda: judge(None)),
    "policy-flow-name": ("flow", lambda: judge("n998-9.example.org")),
    "policy-flow-nat64": ("flow", lambda: judge("n998-9.example.org", bytes.fromhex("0064ff9b") + bytes(8) + SERVER)),
    "policy-question": ("question", lambda: ask(1000)),
    "policy-question-new": ("question", lambda: ask(20000)),
}
"""Name: the counted unit, and a function that makes new work."""


def measure(prepare: Callable[[], Work]) -> float:
    """Seconds per unit: the best of several repetitions, each on its own network."""
    best = float("inf")
    for _ in range(REPEATS):
        work = prepare()
        begin = time.perf_counter()
        units = work()
        best = min(best, (time.perf_counter() - begin) / units)
    return best


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", metavar="CASE", choices=CASES, help=f"one of: {', '.join(CASES)}")
    parser.add_argument("--count", action="store_true", help="calls and instructions instead of time")
    parser.add_argument("--keep", action="store_true", help="the same, and keep them")
    options = parser.parse_args()
    if options.profile:
        work = CASES[options.profile][1]()
        profile = cProfile.Profile()
        units = profile.runcall(work)
        print(f"{units} {CASES[options.profile][0]}s")
        pstats.Stats(profile).sort_stats("tottime").print_stats(25)
        return 0
    if options.count or options.keep:
        counts.compare({name: prepare for name, (_, prepare) in CASES.items()}, keep=options.keep)
        return 0
    for name, (unit, prepare) in CASES.items():
        print(f"{name:20} {measure(prepare) * 1e6:9.2f} us per {unit}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
