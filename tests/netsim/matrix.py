"""The cells of the matrix, and the measurement of one."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import product
from statistics import median
from typing import Final

from sansnet_core import Frame, Limits
from sansnet_core.testing import GuestTcpOptions, HostScript, Impairment, Netem, Pair, make_config, packets

__all__ = ["BUFFERS", "CELLS", "DELAYS", "DIRECTIONS", "FLOWS", "LOSSES", "PATHS", "Cell", "Outcome", "Path", "measure"]

SIZE: Final = 512 << 10
"""Bytes of data that all flows of a cell carry together."""
SEEDS: Final = (1, 2, 3)
"""The faults of the link are random from these; without loss, one is enough."""
MSS: Final = 1460
FRAME: Final = 1514
DELAYED_ACK: Final = 0.04
"""Seconds, as in Linux."""
LIMIT: Final = 600.0
"""Virtual seconds; no transfer may take longer."""


@dataclass(frozen=True, slots=True)
class Path:
    """The narrowest place of the link.

    Attributes:
        name: for tables.
        rate: bytes per second.
        queue: most frames that wait there; further ones are lost.
    """

    name: str
    rate: float
    queue: int


DIRECTIONS: Final = ("down", "up")
"""Down is to the guest: `proto.tcp.sending` sends. Up is from it: `proto.tcp.receiving` receives from a guest stack."""
PATHS: Final = (
    Path("1 Gbit/s", 125e6, 1000),
    Path("10 Mbit/s", 1.25e6, 1000),
    Path("10 Mbit/s, short queue", 1.25e6, 64),
)
DELAYS: Final = (0.001, 0.05)
"""Seconds in each direction; a round trip is twice as long."""
BUFFERS: Final = (64 << 10, 4 << 20)
"""Bytes that either end holds for a flow: `Limits.tcp_window`, `Limits.tcp_send_buffer` and the guest's window."""
FLOWS: Final = (1, 8)
LOSSES: Final = (0.0, 0.01, 0.05)
"""The probability that a frame is lost, in each direction."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One combination of direction, link and flows."""

    direction: str
    path: Path
    delay: float
    buffer: int
    flows: int
    loss: float

    @property
    def bound(self) -> float:
        """Seconds that no TCP can do better than, without loss: the rate, the window and the handshake."""
        size = SIZE // self.flows
        headers = (FRAME - MSS) * math.ceil(size / MSS)
        sending = (SIZE + headers * self.flows) / self.path.rate
        waiting = (math.ceil(size / self.buffer) - 1) * 2 * self.delay
        # SYN, SYN-ACK and the data itself; to the guest, data follows the acknowledgment of the SYN-ACK
        return max(sending, waiting) + (4 if self.direction == "down" else 3) * self.delay


CELLS: Final = tuple(Cell(*values) for values in product(DIRECTIONS, PATHS, DELAYS, BUFFERS, FLOWS, LOSSES))


@dataclass(frozen=True, slots=True)
class Outcome:
    """The measurement of one cell.

    Attributes:
        seconds: from the first SYN until the last flow's end has arrived; the median of several seeds.
        slowest: the largest of them.
        sent_again: payload bytes that were sent more than once, as a part of all data; the mean.
        frames: frames with data, and the other way; the mean.
        progress: the virtual time and the bytes that have arrived, step by step, for the first seed.
    """

    seconds: float
    slowest: float
    sent_again: float
    frames: tuple[int, int]
    progress: list[tuple[float, int]]


class Meter(Netem):
    """A cable that also counts the payload bytes of TCP over IPv4 that are put into it."""

    payload = 0

    def put(self, frames: Iterable[Frame], now: float) -> None:
        """Count frames, and send them."""
        glued = [packets.glue(frame) for frame in frames]
        self.payload += sum(map(_payload, glued))
        super().put(glued, now)


def _payload(frame: bytes) -> int:
    """The payload bytes of a frame with TCP over IPv4, both headers' sizes taken from the header of TCP."""
    return int.from_bytes(frame[16:18]) - 20 - (frame[46] >> 4) * 4


def measure(cell: Cell) -> Outcome:
    """Transfer data in virtual time."""
    runs = [_run(cell, seed) for seed in (SEEDS if cell.loss else SEEDS[:1])]
    return Outcome(
        median(run[0] for run in runs),
        max(run[0] for run in runs),
        sum(run[1].payload / SIZE - 1 for run in runs) / len(runs),
        (round(sum(run[1].frames for run in runs) / len(runs)), round(sum(run[2].frames for run in runs) / len(runs))),
        runs[0][3],
    )


def _run(cell: Cell, seed: int) -> tuple[float, Meter, Meter, list[tuple[float, int]]]:
    """Seconds, the cable with data, the other one, and the progress."""
    # Runs of losses have no limit; with it, a long run would be shorter than by chance
    how = Impairment(
        loss=cell.loss, longest_loss=1000, delay=cell.delay, rate=8 * cell.path.rate, queue=cell.path.queue
    )
    down = cell.direction == "down"
    data = bytes(range(256)) * (SIZE // 256 // cell.flows)
    config = make_config(limits=Limits(tcp_window=cell.buffer, tcp_send_buffer=cell.buffer))
    pair = Pair(config, HostScript(produce=data, end=True) if down else HostScript())
    pair.up, pair.down = Meter(how, seed), Meter(how, seed + 1000)
    start = pair.now
    options = GuestTcpOptions(window=cell.buffer, delayed_ack=DELAYED_ACK)
    connections = [pair.connect(options) for _ in range(cell.flows)]
    if not down:
        for connection in connections:
            connection.send(data)
            connection.shutdown()

    def received() -> Iterator[tuple[bytearray, bool]]:
        """The bytes of each flow that have arrived, and whether its end has."""
        if down:
            yield from ((one.received, one.fin_received) for one in connections)
        else:
            yield from ((stream.received, stream.shutdown) for stream in pair.host.streams.values())

    progress: list[tuple[float, int]] = []
    pair.drive(_watch(received, cell.flows, lambda count: progress.append((pair.now - start, count))), limit=LIMIT)
    assert all(arrived == data for arrived, _ in received())
    with_data, others = (pair.down, pair.up) if down else (pair.up, pair.down)
    assert isinstance(with_data, Meter)
    assert isinstance(others, Meter)
    return pair.now - start, with_data, others, progress


def _watch(
    received: Callable[[], Iterator[tuple[bytearray, bool]]], flows: int, note: Callable[[int], None]
) -> Callable[[], bool]:
    """A condition that holds when all flows have ended; it notes how many bytes have arrived."""
    before = 0

    def over() -> bool:
        nonlocal before
        state = list(received())
        count = sum(len(data) for data, _ in state)
        if count != before:
            note(count)
            before = count
        return len(state) == flows and all(ended for _, ended in state)

    return over
