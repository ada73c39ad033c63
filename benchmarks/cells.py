"""The measurements. A cell is one measurement; it yields one or more rows of the table."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Final

from laboratory import HOST, Laboratory, wait_for
from peer import WARM_UP
from programs import Guest, Program, run_to_end
from results import Row

__all__ = ["CELLS", "Cell"]

DEFAULT_MTU: Final = 65520
EVERYWHERE: Final = "0.0.0.0"
STARTS: Final = 5
"""Starts per round; their median is the round's value."""

CONNECT_LIMIT: Final = 60.0
"""Seconds that opening thousands of connections may take."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A measurement of one program in one round.

    Attributes:
        rows: the rows that `measure` yields values for.
        measure: takes the program, the laboratory and seconds of traffic; yields pairs of a row's name and a value in
            base units; raises `CellFailed` if it cannot continue.
    """

    name: str
    rows: tuple[Row, ...]
    measure: Callable[[Program, Laboratory, float], Iterator[tuple[str, float]]]


def traffic(name: str, row: Row, mtu: int = DEFAULT_MTU, size: int = 0) -> Cell:
    """A cell of one kind of traffic between the guest and the upstream server (see `peer`)."""
    kind = name.removesuffix(f"-{mtu}").removesuffix(f"-{size}")
    receiver = "server" if kind.endswith("-up") else "client"

    def measure(program: Program, laboratory: Laboratory, seconds: float) -> Iterator[tuple[str, float]]:
        with (
            program.guest(laboratory, mtu) as guest,
            laboratory.upstream.peer("server", kind, seconds, size) as server,
            guest.namespace.peer("client", kind, seconds, size) as client,
        ):
            counting = server if receiver == "server" else client
            yield name, float(counting.read_line(WARM_UP + seconds + 10))

    return Cell(name, (row,), measure)


def bulk(direction: str, mtu: int) -> Cell:
    name = f"tcp-{direction}-{mtu}"
    return traffic(name, Row(name, "Mbit/s", 1e6), mtu)


def datagrams(direction: str, size: int) -> Cell:
    name = f"udp-{direction}-{size}"
    return traffic(name, Row(name, "1000/s", 1e3), size=size)


def forwarded(way: str, what: str, row: Row) -> Cell:
    """A cell of traffic with a server in the guest, through a forwarded port.

    Args:
        way: `tap` for a client upstream; `splice` for a client on the host's loopback.
        what: `in` or `out`, for bulk transfers into or out of the guest; or a kind of traffic.
        row: of the table.
    """
    kind = {"in": "tcp-up", "out": "tcp-down"}.get(what, f"tcp-{what}")

    def measure(program: Program, laboratory: Laboratory, seconds: float) -> Iterator[tuple[str, float]]:
        client_at, address = (laboratory.upstream, HOST) if way == "tap" else (laboratory.host, "127.0.0.1")
        with (
            program.guest(laboratory, DEFAULT_MTU, forwards=True) as guest,
            guest.namespace.peer("server", kind, seconds, 0, EVERYWHERE) as server,
            client_at.peer("client", kind, seconds, 0, address) as client,
        ):
            counting = server if kind == "tcp-up" else client
            yield row.name, float(counting.read_line(WARM_UP + seconds + 10))

    return Cell(row.name, (row,), measure)


def forwarded_cells(way: str) -> Iterator[Cell]:
    for what in ("in", "out"):
        yield forwarded(way, what, Row(f"{way}-{what}", "Mbit/s", 1e6))
    for what in ("rr", "crr"):
        yield forwarded(way, what, Row(f"{way}-{what}", "1/s"))


def measure_start(program: Program, laboratory: Laboratory, seconds: float) -> Iterator[tuple[str, float]]:
    yield "start-up", median_time(partial(program.run_true, laboratory))


def measure_version(program: Program, laboratory: Laboratory, seconds: float) -> Iterator[tuple[str, float]]:
    if command := program.compatible():
        yield "version", median_time(partial(run_to_end, [*command, "--version"]))


def measure_attach(program: Program, laboratory: Laboratory, seconds: float) -> Iterator[tuple[str, float]]:
    """The time that a container engine waits: it has made a namespace, and continues when the command returns."""
    if command := program.compatible():
        yield "attach", median_time(partial(attach, command, laboratory))


def attach(command: list[str], laboratory: Laboratory) -> float:
    """Seconds until a guest in an existing namespace has its network."""
    name = f"sansnet-benchmark-{os.getpid()}"
    closed = ["-t", "none", "-u", "none", "-T", "none", "-U", "none", "--no-map-gw"]
    with tempfile.NamedTemporaryFile("r") as pid_file:
        options = ["--config-net", "--quiet", "--pid", pid_file.name, *closed]
        subprocess.run(["ip", "netns", "add", name], check=True)
        try:
            begin = time.monotonic()
            run_to_end(laboratory.host.command([*command, *options, "--netns", f"/run/netns/{name}"]))
            taken = time.monotonic() - begin
        finally:
            subprocess.run(["ip", "netns", "delete", name], check=True)  # this ends the program
        process = Path(f"/proc/{pid_file.read().strip()}")
        wait_for(lambda: not process.exists() or None, f"{command[0]} did not end with the namespace")
        return taken


def median_time(work: Callable[[], float | None]) -> float:
    """The median of several runs, after one that fills caches. A run may return its time; else it is measured."""
    times = []
    for _ in range(1 + STARTS):
        begin = time.monotonic()
        reported = work()
        times.append(time.monotonic() - begin if reported is None else reported)
    return median(times[1:])


def settled_bytes(guest: Guest) -> int:
    """Resident memory once it no longer changes."""
    last = guest.resident_bytes()
    for _ in range(20):
        time.sleep(0.25)
        now = guest.resident_bytes()
        if abs(now - last) < 64 << 10:
            return now
        last = now
    return last


def measure_memory(program: Program, laboratory: Laboratory, seconds: float) -> Iterator[tuple[str, float]]:
    with (
        program.guest(laboratory, DEFAULT_MTU) as guest,
        laboratory.upstream.peer("server", "idle", 0, 0),
        guest.namespace.peer("client", "idle", 0, 0) as client,
    ):
        if guest.program is None:
            return
        base = settled_bytes(guest)
        yield "memory-0", base
        for count in IDLE_COUNTS:
            client.tell(str(count))
            client.read_line(CONNECT_LIMIT)
            total = settled_bytes(guest)
            yield f"memory-{count}", total
            yield f"memory-each-{count}", (total - base) / count


IDLE_COUNTS: Final = (1_000, 10_000)

MEMORY_ROWS: Final = (
    Row("memory-0", "MiB", 1 << 20, more_is_better=False),
    *(Row(f"memory-{count}", "MiB", 1 << 20, more_is_better=False) for count in IDLE_COUNTS),
    *(Row(f"memory-each-{count}", "KiB", 1 << 10, more_is_better=False) for count in IDLE_COUNTS),
)

CELLS: Final = (
    bulk("up", 1500),
    bulk("down", 1500),
    bulk("up", 65520),
    bulk("down", 65520),
    traffic("tcp-rr", Row("tcp-rr", "1/s")),
    traffic("tcp-crr", Row("tcp-crr", "1/s")),
    datagrams("up", 64),
    datagrams("down", 64),
    datagrams("up", 1400),
    datagrams("down", 1400),
    *forwarded_cells("tap"),
    *forwarded_cells("splice"),
    Cell("start-up", (Row("start-up", "ms", 1e-3, more_is_better=False),), measure_start),
    Cell("attach", (Row("attach", "ms", 1e-3, more_is_better=False),), measure_attach),
    Cell("version", (Row("version", "ms", 1e-3, more_is_better=False),), measure_version),
    Cell("memory", MEMORY_ROWS, measure_memory),
)
