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
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from laboratory import CellFailed, build_traffic, descendants
from meter import Meter
from programs import first_line, sansnet_command
from references import RELEASES
from results import Results, Row, Sample, describe_host, report

sys.path.append(str(Path(__file__).resolve().parents[1]))  # for the imports below

from tests.lab import SERVER4, Lab, laboratory
from tests.lab.initramfs import linux
from tests.lab.machines import INTERFACE
from tests.lab.namespaces import eventually, running
from tests.lab.qemu import NEW, OLD, STREAM, VHOST_USER, Qemu, find_qemu
from tests.lab.virtual_machines import Kind, Stable, VirtualMachine

PORT: Final = "5001"
MEMORY: Final = 512
"""Memory of a machine, in MiB. Linux derives the bounds of a connection's buffers from it."""

REFERENCE: Final = "passt stream"
"""Ratios are relative to this column."""

PASST_OPTIONS: Final = ("--foreground", "--runas", "0:0", "--no-map-gw", "-t", "none", "-u", "none")
LINKS: Final = (STREAM, VHOST_USER)


@dataclass(frozen=True)
class Cell:
    """A direction of bulk transfer, and an MTU."""

    direction: str
    mtu: int

    @property
    def name(self) -> str:
        return f"{self.direction}-{self.mtu}"

    @property
    def row(self) -> Row:
        """Throughput, and processor time per byte."""
        return Row(self.name, "Mbit/s", 1e6, cpu_unit="s/GB", cpu_scale=1e-9)


CELLS: Final = tuple(Cell(direction, mtu) for mtu in (1500, 65520) for direction in ("up", "down"))


@dataclass(frozen=True)
class Program:
    """One way to give a machine a network.

    Attributes:
        name: of the column.
        version: of the program.
        command: the beginning of its command line.
        link: kind of link to the machine.
    """

    name: str
    version: str
    command: tuple[str, ...]
    link: str

    @contextlib.contextmanager
    def serving(self, lab: Lab, kind: Kind, mtu: int) -> Iterator[tuple[int, Path]]:
        """The running program, which listens on the host: its process id, and the path of its socket."""
        path = lab.directory / "benchmark.socket"
        path.unlink(missing_ok=True)
        command = [*self.command, "--mtu", str(mtu), *kind.serve_options, "--socket", str(path)]
        silence = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        with running(lab.host.command(*command), **silence) as process:
            if not eventually(path.exists):
                raise CellFailed(f"{shlex.join(command)} does not listen")
            yield process.pid, path


def programs(builds: dict[str, str]) -> list[Program]:
    """All columns: passt and builds of sansnet, over both kinds of links."""
    passt = RELEASES[13]
    command, version = (*passt.command("passt"), *PASST_OPTIONS), passt.version("passt")
    found = [Program(f"passt {link}", version, command, link) for link in LINKS]
    for name, words in builds.items():
        first = sansnet_command(words)
        version = first_line([*first, "--version"])
        found += [Program(f"{name} {link}", version, (*first, "serve"), link) for link in LINKS]
    return found


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

    def measure(self, program: Program, cell: Cell) -> Sample:
        """Bits per second, and processor seconds per byte of the network's processes.

        Raises:
            CellFailed: the measurement failed.
        """
        kind = Kind(self.qemu, program.link)
        words = f"tcp-{cell.direction} {SERVER4} {PORT} {self.seconds} 1 1"
        serve = [str(self.tool), "serve", *words.split()]
        with (
            program.serving(self.lab, kind, cell.mtu) as (pid, path),
            self.stable.machine(kind, path) as machine,
            running(self.lab.upstream.command(*serve), stdout=subprocess.PIPE) as server,
        ):
            assert server.stdout is not None
            server.stdout.readline()  # the server listens
            machine.load_driver()
            machine.configure(ipv6=False)
            check_mtu(machine, cell.mtu)
            meter = Meter(lambda: descendants(pid))
            output = machine.shell(f"traffic connect {words}", check=False).stdout
            used = meter.used()
            lines = server.stdout.read() if cell.direction == "up" else output
            counted, taken, count = map(float, lines.split()[-3:])
            if not counted:
                raise CellFailed("nothing arrived")
            return Sample(cell.name, counted * 8 / taken, used / count)


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
    if os.geteuid() != 0 or qemu is None or not shutil.which("gcc"):
        report(f"this needs root, gcc, and a Debian for x86-64 that has QEMU {options.qemu}")
        return 1
    columns = programs({"sansnet": sys.executable} | dict(options.sansnet))
    cells = [cell for cell in CELLS if cell.name in options.only]
    version = {"QEMU": ".".join(map(str, qemu.version))}
    results = Results(
        kind="machines",
        reference=REFERENCE,
        host=describe_host(version | {"rounds": f"{options.rounds} of {options.seconds:g} s of traffic per cell"}),
        programs={program.name: program.version for program in columns},
        rows=[cell.row for cell in cells],
    )
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as directory, laboratory() as lab:
        tool = build_traffic(Path(directory))
        stable = Stable(lab, linux({"traffic": tool.read_bytes()}, name="benchmark"), memory=MEMORY)
        bench = Bench(lab, stable, qemu, tool, options.seconds)
        for number in range(options.rounds):
            run_round(bench, columns, cells, results, f"round {number + 1}/{options.rounds}")
            results.host["duration"] = f"{time.monotonic() - begin:.0f} s"
            if options.json:
                results.save(options.json)
    print("\n".join(results.description()), end="\n\n")
    print(results.table())
    return 0


def run_round(bench: Bench, columns: list[Program], cells: list[Cell], results: Results, title: str) -> None:
    """Each cell once with each program in turn, so that all programs run under the same conditions."""
    for cell in cells:
        for program in columns:
            report(f"{title}: {cell.name} {program.name}")
            try:
                results.add(program.name, bench.measure(program, cell))
            except (AssertionError, CellFailed, OSError, ValueError, subprocess.SubprocessError) as failure:
                results.fail(f"{cell.name} of {program.name} in {title}: {failure}")


def parse_arguments() -> argparse.Namespace:
    names = [cell.name for cell in CELLS]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="default: 5")
    parser.add_argument("--seconds", type=float, default=2.0, help="of counted traffic per cell; default: 2")
    parser.add_argument(
        "--only", metavar="CELL", nargs="+", default=names, choices=names, help=f"of: {', '.join(names)}"
    )
    parser.add_argument("--qemu", choices=[OLD, NEW], default=NEW, help=f"version; default: {NEW}")
    parser.add_argument(
        "--sansnet",
        metavar="NAME=PYTHON",
        type=lambda text: tuple(text.split("=", 1)),
        action="append",
        default=[],
        help="more columns, as of compare.py",
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="also write every value to FILE, for publish.py")
    options = parser.parse_args()
    if options.rounds < 1 or options.seconds <= 0:
        parser.error("--rounds and --seconds must be more than 0")
    return options


if __name__ == "__main__":
    sys.exit(main())
