#!/usr/bin/env python3
"""Run virtual machines with sansnet and with passt in turns: throughput, and processor time of the network's process.

Needs root, a C compiler, and Debian for x86-64: the machines are those of the tests (tests/lab). README.md in this
folder explains the numbers.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from laboratory import CellFailed
from references import RELEASES
from results import Results, Row, describe_host, report, table, write_json

sys.path.append(str(Path(__file__).resolve().parents[1]))  # for the imports below

from tests.lab import SERVER4, Lab, laboratory, usage
from tests.lab.initramfs import linux
from tests.lab.machines import INTERFACE, serving
from tests.lab.namespaces import eventually, running
from tests.lab.qemu import NEW, OLD, STREAM, VHOST_USER, Qemu, find_qemu
from tests.lab.virtual_machines import Kind, Stable, VirtualMachine

HERE: Final = Path(__file__).parent
PORT: Final = "5001"
MEMORY: Final = 512
"""Memory of a machine, in MiB. Linux derives the bounds of a connection's buffers from it."""

REFERENCE: Final = "passt stream"
"""Ratios are relative to this column."""

PASST_PORTS: Final = ("-t", "none", "-u", "none")
HOW: Final = ("listen", "connect")
"""The server upstream listens; the machine connects."""


@dataclass(frozen=True)
class Cell:
    """A direction of bulk transfer, and an MTU."""

    direction: str
    mtu: int

    @property
    def name(self) -> str:
        return f"{self.direction}-{self.mtu}"

    @property
    def rows(self) -> tuple[Row, Row]:
        """Throughput, and processor time per byte."""
        return Row(self.name, "Mbit/s", 1e6), Row(f"{self.name} cpu", "s/GB", 1e-9, more_is_better=False)


CELLS: Final = tuple(Cell(direction, mtu) for mtu in (1500, 65520) for direction in ("up", "down"))


class Program(Protocol):
    """One way to give a machine a network.

    Attributes:
        name: of the column.
        link: kind of link to the machine.
    """

    name: str
    link: str

    def serving(self, lab: Lab, kind: Kind, mtu: int) -> contextlib.AbstractContextManager[tuple[int, Path]]:
        """A running program that listens on the host: its process id, and the path of its socket."""


class Sansnet:
    """`sansnet serve`."""

    def __init__(self, link: str) -> None:
        self.name = f"sansnet {link}"
        self.link = link

    @contextlib.contextmanager
    def serving(self, lab: Lab, kind: Kind, mtu: int) -> Iterator[tuple[int, Path]]:
        with serving(lab, *kind.serve_options, "--mtu", str(mtu)) as server:
            yield server.process.pid, server.path


class Passt:
    """A version of `passt`."""

    def __init__(self, command: list[str], link: str) -> None:
        self.name = f"passt {link}"
        self.link = link
        self._command = command

    @contextlib.contextmanager
    def serving(self, lab: Lab, kind: Kind, mtu: int) -> Iterator[tuple[int, Path]]:
        options = ["--foreground", "--runas", "0:0", "--no-map-gw", *PASST_PORTS, "--mtu", str(mtu)]
        path = lab.directory / "passt.socket"
        path.unlink(missing_ok=True)
        command = [*self._command, *options, *kind.serve_options, "--socket", str(path)]
        silence = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        with running(lab.host.command(*command), **silence) as process:
            if not eventually(path.exists):
                raise CellFailed(f"{shlex.join(command)} does not listen")
            yield process.pid, path


@dataclass(frozen=True)
class Bench:
    """The environment of a measurement.

    Attributes:
        lab: the namespaces.
        stable: makes the machines.
        qemu: runs the machines.
        tool: the traffic generator.
        seconds: duration of counted traffic.
    """

    lab: Lab
    stable: Stable
    qemu: Qemu
    tool: Path
    seconds: float

    def measure(self, program: Program, cell: Cell) -> tuple[float, float]:
        """Bits per second, and processor seconds per byte of the network's process.

        Raises:
            CellFailed: the measurement failed.
        """
        kind = Kind(self.qemu, program.link)
        ends = ("receive", "send") if cell.direction == "up" else ("send", "receive")
        near, far = (f"{end} {how} {SERVER4} {PORT} {self.seconds}" for end, how in zip(ends, HOW, strict=True))
        with (
            program.serving(self.lab, kind, cell.mtu) as (pid, path),
            self.stable.machine(kind, path) as machine,
            running(self.lab.upstream.command(str(self.tool), *near.split()), stdout=subprocess.PIPE) as server,
        ):
            assert server.stdout is not None
            server.stdout.readline()  # the server listens
            machine.load_driver()
            machine.configure(ipv6=False)
            check_mtu(machine, cell.mtu)
            before = usage.processor_time(pid)
            output = machine.shell(f"traffic {far}", check=False).stdout
            used = usage.processor_time(pid) - before
            rate, count = (
                float(word) for word in (server.stdout.readline() if cell.direction == "up" else output).split()
            )
            if not rate:
                raise CellFailed("nothing arrived")
            return rate, used / count


def check_mtu(machine: VirtualMachine, mtu: int) -> None:
    """Check that the machine uses the announced MTU.

    Raises:
        CellFailed: it does not.
    """
    shown = machine.shell(f"ip link show dev {INTERFACE}").stdout
    if f"mtu {mtu} " not in shown:
        raise CellFailed(f"the machine's MTU is not {mtu}: {shown}")


def main() -> int:
    options = parse_arguments()
    qemu = find_qemu(options.qemu)
    compiler = shutil.which("gcc")
    if os.geteuid() != 0 or qemu is None or compiler is None:
        report(f"this needs root, gcc, and a Debian for x86-64 that has QEMU {options.qemu}")
        return 1
    release = RELEASES[13]
    passt = release.command("passt")
    programs: list[Program] = [Sansnet(STREAM), Passt(passt, STREAM), Sansnet(VHOST_USER), Passt(passt, VHOST_USER)]
    cells = [cell for cell in CELLS if cell.name in options.only]
    rows = [row for cell in cells for row in cell.rows]
    results: Results = {row.name: {program.name: [] for program in programs} for row in rows}
    description = describe_host() | {"QEMU": ".".join(map(str, qemu.version)), "passt": release.version("passt")}
    with tempfile.TemporaryDirectory() as directory, laboratory() as lab:
        tool = Path(directory) / "traffic"
        subprocess.run([compiler, "-O2", "-static", "-o", tool, HERE / "traffic.c"], check=True)
        stable = Stable(lab, linux({"traffic": tool.read_bytes()}, name="benchmark"), memory=MEMORY)
        bench = Bench(lab, stable, qemu, tool, options.seconds)
        for number in range(options.rounds):
            run_round(bench, programs, cells, results, f"round {number + 1}/{options.rounds}")
            if options.json:
                write_json(options.json, description, rows, results)
    for name, text in description.items():
        print(f"{name}: {text}")
    print(f"rounds: {options.rounds}, seconds of traffic per cell: {options.seconds:g}\n")
    print(table([program.name for program in programs], rows, results, REFERENCE))
    return 0


def run_round(bench: Bench, programs: list[Program], cells: list[Cell], results: Results, title: str) -> None:
    """Each cell once with each program in turn, so that all programs run under the same conditions."""
    for cell in cells:
        for program in programs:
            report(f"{title}: {cell.name} {program.name}")
            try:
                values = bench.measure(program, cell)
            except (AssertionError, CellFailed) as failure:
                report(f"  {failure}")
                continue
            for row, value in zip(cell.rows, values, strict=True):
                results[row.name][program.name].append(value)


def parse_arguments() -> argparse.Namespace:
    names = [cell.name for cell in CELLS]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="default: 5")
    parser.add_argument("--seconds", type=float, default=2.0, help="of counted traffic per cell; default: 2")
    parser.add_argument(
        "--only", metavar="CELL", nargs="+", default=names, choices=names, help=f"of: {', '.join(names)}"
    )
    parser.add_argument("--qemu", choices=[OLD, NEW], default=NEW, help=f"version; default: {NEW}")
    parser.add_argument("--json", metavar="FILE", type=Path, help="also write every value to FILE")
    options = parser.parse_args()
    if options.rounds < 1 or options.seconds <= 0:
        parser.error("--rounds and --seconds must be more than 0")
    return options


if __name__ == "__main__":
    sys.exit(main())
