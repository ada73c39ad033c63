"""Time from the start of a command to its first output: with a network of its own, and without.

`python benchmarks/starts.py` needs no root. The rows of "a new program" begin with the start of a program, the others
in a program that runs. The ways take turns; the table has medians and quartiles of the time and of the processor time,
with that of all child processes that have ended. Python must find its bytecode: run `python -m compileall packages`.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Final

import trio

from sansnet_trio import NamespaceOptions, open_guest

WORD: Final = time.time_ns().to_bytes(8, "big").hex()
COMMAND: Final = ["echo", WORD]

SCRIPT: Final = """
import sys, trio
from sansnet_trio import NamespaceOptions, run_guest
trio.run(run_guest, sys.argv[1:], NamespaceOptions.made_up())
"""
"""A program that runs its arguments as a guest."""

PLAIN: Final = "import subprocess, sys; subprocess.run(sys.argv[1:])"
"""The same without a network."""


async def first_output(command: list[str]) -> float:
    """Start a process, and return the time of its first output."""
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        came = time.perf_counter()
    assert line.decode().strip() == WORD
    return came


async def first_output_of_guest() -> float:
    """Start a guest, and return the time of its first output."""
    async with open_guest(COMMAND, NamespaceOptions.made_up(), stdout=subprocess.PIPE) as guest:
        assert guest.stdout is not None
        line = await guest.stdout.receive_some()
        came = time.perf_counter()
        await guest.wait()
    assert line.decode().strip() == WORD
    return came


async def with_a_thread() -> float:
    """The same in a program with a second thread."""
    end = threading.Event()
    thread = threading.Thread(target=end.wait)
    thread.start()
    try:
        return await first_output_of_guest()
    finally:
        end.set()
        thread.join()


def processor_time() -> float:
    """Seconds of processor time of this process and of its children that have ended."""
    uses = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(use.ru_utime + use.ru_stime for use in uses)


WAYS: Final[dict[str, Callable[[], Awaitable[float]]]] = {
    "subprocess": lambda: first_output(COMMAND),
    "open_guest, one thread": first_output_of_guest,
    "open_guest, two threads": with_a_thread,
    "a new program, subprocess": lambda: first_output([sys.executable, "-c", PLAIN, *COMMAND]),
    "a new program, run_guest": lambda: first_output([sys.executable, "-c", SCRIPT, *COMMAND]),
    "a new program, sansnet run": lambda: first_output([sys.executable, "-m", "sansnet_cli", "run", "--", *COMMAND]),
}


async def main(rounds: int) -> None:
    """Measure and print a table."""
    values: dict[str, list[tuple[float, float]]] = {name: [] for name in WAYS}
    for number in range(rounds + 1):
        for name, way in WAYS.items():
            used, began = processor_time(), time.perf_counter()
            came = await way()
            if number:  # the first round is not counted
                values[name].append((came - began, processor_time() - used))
    print(f"{'way':27} {'ms to first output':>22} {'ms of processor time':>22}")
    for name, pairs in values.items():
        cells = [
            f"{1e3 * middle:.1f} ({1e3 * low:.1f}..{1e3 * high:.1f})"
            for low, middle, high in map(statistics.quantiles, zip(*pairs, strict=True))
        ]
        print(f"{name:27} {cells[0]:>22} {cells[1]:>22}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    if options.rounds < 2:
        parser.error("--rounds must be at least 2: the table has quartiles")
    trio.run(main, options.rounds)
