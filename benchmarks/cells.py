"""The measurements. A cell is one measurement; it yields one or more rows of the table."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any, Final

from laboratory import HOST, CellFailed, Laboratory, Process, Traffic
from meter import Children, Meter, memory, on_one_processor
from programs import Guest, Program, run_to_end
from results import Row, Sample

__all__ = ["CELLS", "MEGABITS", "Cell"]

DEFAULT_MTU: Final = 65520
EVERYWHERE: Final = "0.0.0.0"
LOOPBACK: Final = "127.0.0.1"
WARM_UP: Final = 0.3
"""Seconds before counting begins: `WARM_UP` of `traffic/main.c`."""

PATIENCE: Final = 5.0
"""Seconds that an answer may take longer than it should."""

SETTLING: Final = 0.04
"""Seconds in which a program that has started does nothing."""

STARTS: Final = 5
"""Starts per round; their median is the round's value."""

MEGABITS: Final = "Mbit/s"
AT_ONCE: Final = 32
STREAMS: Final = 8
LATENCY_SIZE: Final = 64
BURST: Final = 3000
BURST_LIMIT: Final = 15.0
"""Seconds after which connections of a burst are lost."""

IDLE_COUNTS: Final = (4_000, 9_000)
"""Not fewer: up to the first of them, memory grows that has a limit, such as that of the latest inputs."""
CONVERSATION: Final = 2.0
"""Seconds of traffic before flows are opened that stay idle."""
CONNECT_LIMIT: Final = 30.0
"""Seconds that opening thousands of flows may take."""

END_LIMIT: Final = 5.0
"""Seconds that processes may take to end after their namespace has."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A measurement of one program in one round.

    Attributes:
        name: unique.
        rows: the rows that `measure` yields values for.
        measure: takes the program, the laboratory and seconds of traffic; raises `CellFailed` if it cannot continue.
        limit: seconds that it may take besides those of the traffic.
    """

    name: str
    rows: tuple[Row, ...]
    measure: Callable[[Program, Laboratory, float], Iterator[Sample]]
    limit: float = 20.0


@contextlib.contextmanager
def ends(
    program: Program, laboratory: Laboratory, way: str, mtu: int, traffic: Traffic
) -> Iterator[tuple[Guest, Process, Process]]:
    """A guest, a server and its client.

    Args:
        program: serves the guest.
        laboratory: where all is.
        way: `out` for a server upstream and a client in the guest; else the server is in the guest, behind a forwarded
            port, and the client is upstream (`tap`) or on the host's loopback (`splice`).
        mtu: of the guest.
        traffic: of both ends.
    """
    with contextlib.ExitStack() as stack:
        enter = stack.enter_context
        guest = enter(program.guest(laboratory, mtu, forwards=way != "out"))
        settle(guest)
        if way == "out":
            server = enter(laboratory.end(laboratory.upstream, "serve", traffic))
            client = enter(laboratory.end(guest.namespace, "connect", traffic))
        else:
            place, address = (laboratory.upstream, HOST) if way == "tap" else (laboratory.host, LOOPBACK)
            server = enter(laboratory.end(guest.namespace, "serve", traffic, EVERYWHERE))
            client = enter(laboratory.end(place, "connect", traffic, address))
        yield guest, server, client


def settle(guest: Guest) -> None:
    """Wait until the program does nothing: what it still loads belongs to the start, which has cells of its own."""
    if guest.program is None:
        return
    limit = time.monotonic() + PATIENCE
    while time.monotonic() < limit:
        meter = Meter(guest.processes)
        time.sleep(SETTLING)
        if meter.used() < SETTLING / 20:
            return


def count(guest: Guest, measuring: Process, seconds: float) -> tuple[list[float], float]:
    """The numbers of the end that measures, and the program's processor time meanwhile."""
    if (line := measuring.read_line(WARM_UP + PATIENCE)) != "begin":
        raise CellFailed(f"an end of the traffic said {line!r}")
    meter = guest.meter()
    numbers = measuring.read_line(seconds + PATIENCE)
    return [float(word) for word in numbers.split()], meter.used()


def traffic(
    name: str,
    row: Row,
    kind: str,
    *,
    way: str = "out",
    mtu: int = DEFAULT_MTU,
    size: int = 1,
    at_once: int = 1,
    pinned: bool = False,
) -> Cell:
    """A cell of traffic that is counted for some seconds; with `pinned`, all processes share one processor."""
    bits = 8 if row.unit == MEGABITS else 1

    def measure(program: Program, laboratory: Laboratory, seconds: float) -> Iterator[Sample]:
        placed: AbstractContextManager[None] = on_one_processor() if pinned else nullcontext()
        task = Traffic(kind, seconds, size, at_once)
        with placed, ends(program, laboratory, way, mtu, task) as (guest, server, client):
            receiver = server if kind.endswith("-up") else client
            (units, taken, *_), used = count(guest, receiver, seconds)
            yield Sample(name, units * bits / taken, used / units if units and guest.program else None)

    return Cell(name, (row,), measure)


def bulk(name: str, kind: str, **options: Any) -> Cell:
    return traffic(name, Row(name, MEGABITS, 1e6, cpu_unit="s/GB", cpu_scale=1e-9), kind, **options)


def datagrams(direction: str, size: int) -> Cell:
    name = f"udp-{direction}-{size}"
    return traffic(name, Row(name, "1000/s", 1e3, cpu_unit="us", cpu_scale=1e-6), f"udp-{direction}", size=size)


def transactions(way: str) -> Iterator[Cell]:
    """Requests and connections, one and several at once, on all processors and on one."""
    for kind in ("rr", "crr"):
        for at_once in (1, AT_ONCE):
            for pinned in (False, True):
                name = f"{'tcp' if way == 'out' else way}-{kind}-{at_once}{'-pinned' * pinned}"
                row = Row(name, "1/s", cpu_unit="us", cpu_scale=1e-6)
                yield traffic(name, row, f"tcp-{kind}", way=way, at_once=at_once, pinned=pinned)


def measure_latency(program: Program, laboratory: Laboratory, seconds: float) -> Iterator[Sample]:
    task = Traffic("udp-rr", seconds, LATENCY_SIZE)
    with ends(program, laboratory, "out", DEFAULT_MTU, task) as (guest, _, client):
        (units, _, _, middle, high, _), used = count(guest, client, seconds)
        if not units:
            raise CellFailed("no datagram was answered")
        yield Sample("udp-latency", middle, used / units if guest.program else None)
        yield Sample("udp-latency-99th", high)


def measure_burst(program: Program, laboratory: Laboratory, seconds: float) -> Iterator[Sample]:
    task = Traffic("burst", BURST_LIMIT, count=BURST)
    with ends(program, laboratory, "tap", DEFAULT_MTU, task) as (guest, _, client):
        (answered, taken, _, lost), used = count(guest, client, BURST_LIMIT)
        yield Sample("burst-lost", lost)
        if answered:
            yield Sample("burst", taken, used / answered if guest.program else None)


def idle(kind: str, size: int) -> Cell:
    """Memory for each idle flow: its growth from some to many flows."""
    name = f"idle-{kind}"

    def measure(program: Program, laboratory: Laboratory, seconds: float) -> Iterator[Sample]:
        with contextlib.ExitStack() as stack:
            enter = stack.enter_context
            guest = enter(program.guest(laboratory, DEFAULT_MTU))
            if guest.program is None:
                return
            settle(guest)
            converse(laboratory, guest)
            enter(laboratory.end(laboratory.upstream, "serve", Traffic(name, size=size)))
            client = enter(laboratory.end(guest.namespace, "connect", Traffic(name, size=size)))
            totals = []
            for number in IDLE_COUNTS:
                client.tell(str(number))
                client.read_line(CONNECT_LIMIT)
                totals.append(settled_bytes(guest))
            yield Sample(name, (totals[1] - totals[0]) / (IDLE_COUNTS[1] - IDLE_COUNTS[0]))

    return Cell(name, (Row(name, "KiB", 1 << 10, more_is_better=False),), measure, limit=2 * CONNECT_LIMIT)


def converse(laboratory: Laboratory, guest: Guest) -> None:
    """Some traffic of one flow: a program may keep the latest, whatever it was, and that is no memory of idle flows."""
    task = Traffic("udp-rr", CONVERSATION, LATENCY_SIZE)
    with laboratory.end(laboratory.upstream, "serve", task), laboratory.end(guest.namespace, "connect", task) as client:
        for _ in range(2):
            client.read_line(WARM_UP + CONVERSATION + PATIENCE)


def settled_bytes(guest: Guest) -> int:
    """Memory once it no longer changes."""
    last = memory(guest.processes())
    for _ in range(20):
        time.sleep(0.2)
        now = memory(guest.processes())
        if abs(now - last) < 64 << 10:
            return now
        last = now
    return last


def measure_memory(program: Program, laboratory: Laboratory, seconds: float) -> Iterator[Sample]:
    with program.guest(laboratory, DEFAULT_MTU) as guest:
        if guest.program is not None:
            yield Sample("memory", settled_bytes(guest))


def measure_start(program: Program, laboratory: Laboratory, seconds: float) -> Iterator[Sample]:
    yield repeated("start-up", lambda _: program.run_true(laboratory))


def measure_version(program: Program, laboratory: Laboratory, seconds: float) -> Iterator[Sample]:
    if command := program.compatible():
        yield repeated("version", lambda _: run_to_end([*command, "--version"]))


def measure_attach(program: Program, laboratory: Laboratory, seconds: float) -> Iterator[Sample]:
    """The time that a container engine waits: it has made a namespace, and continues when the command returns."""
    if command := program.compatible():
        yield repeated("attach", partial(attach, command, laboratory))


def attach(command: list[str], laboratory: Laboratory, returned: Callable[[], None]) -> None:
    """Give an existing namespace its network, and end that."""
    name = f"sansnet-benchmark-{os.getpid()}"
    closed = ["-t", "none", "-u", "none", "-T", "none", "-U", "none", "--no-map-gw"]
    options = ["--config-net", "--quiet", *closed, "--netns", f"/run/netns/{name}"]
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        run_to_end(laboratory.host.command([*command, *options]))
        returned()
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=True)  # this ends the program


def repeated(row: str, work: Callable[[Callable[[], None]], None]) -> Sample:
    """Medians of the time and of the processor time of several runs, after one that fills caches.

    Args:
        row: the row's name.
        work: calls its argument where the time ends, if that is before it returns. The processor time is that of all
            processes that it starts, to their end.
    """
    times, used = [], []
    for _ in range(1 + STARTS):
        children = Children()
        ended: list[float] = []
        begin = time.monotonic()
        work(partial(note_time, ended))
        note_time(ended)
        times.append(ended[0] - begin)
        used.append(children.end(END_LIMIT))
    return Sample(row, median(times[1:]), median(used[1:]))


def note_time(times: list[float]) -> None:
    times.append(time.monotonic())


def start_row(name: str) -> Row:
    return Row(name, "ms", 1e-3, more_is_better=False, cpu_unit="ms", cpu_scale=1e-3)


CELLS: Final = (
    *(
        bulk(f"tcp-{direction}-{mtu}{f'-{at_once}' * (at_once > 1)}", f"tcp-{direction}", mtu=mtu, at_once=at_once)
        for mtu, at_once in ((1500, 1), (DEFAULT_MTU, 1), (DEFAULT_MTU, STREAMS))
        for direction in ("up", "down")
    ),
    *transactions("out"),
    *(datagrams(direction, size) for direction in ("up", "down") for size in (64, 1400, 8000)),
    Cell(
        "udp-latency",
        (
            Row("udp-latency", "us", 1e-6, more_is_better=False, cpu_unit="us", cpu_scale=1e-6),
            Row("udp-latency-99th", "us", 1e-6, more_is_better=False),
        ),
        measure_latency,
    ),
    *(
        bulk(f"{way}-{name}", kind, way=way)
        for way in ("tap", "splice")
        for name, kind in (("in", "tcp-up"), ("out", "tcp-down"))
    ),
    *transactions("tap"),
    *transactions("splice"),
    Cell(
        "burst",
        (
            Row("burst", "s", more_is_better=False, cpu_unit="us", cpu_scale=1e-6),
            Row("burst-lost", "lost", more_is_better=False),
        ),
        measure_burst,
        limit=30,
    ),
    idle("tcp", 1),
    idle("udp", 64),
    Cell("memory", (Row("memory", "MiB", 1 << 20, more_is_better=False),), measure_memory),
    Cell("start-up", (start_row("start-up"),), measure_start, limit=30),
    Cell("attach", (start_row("attach"),), measure_attach, limit=30),
    Cell("version", (start_row("version"),), measure_version, limit=30),
)
