"""The cost of the sandbox: the start of a command, and system calls, with and without it. No privileges are needed.

Each round takes turns, so that a change of the machine's load meets both alike. The values are medians.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Final

from sansnet_trio.sandbox import Mode, confine
from sansnet_trio.sandbox.profiles import main as profile

MODES: Final = (Mode.OFF, Mode.ENFORCE)
ROUNDS: Final = 20
CALLS: Final = 200_000
COMMAND: Final = (sys.executable, "-m", "sansnet_cli", "run", "--sandbox")


def in_child(measure: Callable[[], float]) -> float:
    """The result of a measurement in a new process, which may confine itself."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(writer, repr(measure()).encode())
        os._exit(0)
    os.close(writer)
    with open(reader) as pipe:
        value = float(pipe.read())
    os.waitpid(pid, 0)
    return value


def confining() -> float:
    """Seconds that `confine` takes."""
    begin = time.perf_counter()
    confine(profile())
    return time.perf_counter() - begin


def calling(call: Callable[[], object], mode: Mode) -> float:
    """Seconds of one system call."""
    confine(profile(), mode)
    begin = time.perf_counter()
    for _ in range(CALLS):
        call()
    return (time.perf_counter() - begin) / CALLS


def starting(mode: Mode) -> float:
    """Seconds of `sansnet run -- true`."""
    begin = time.perf_counter()
    subprocess.run([*COMMAND, mode.value, "--", "true"], check=True)
    return time.perf_counter() - begin


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"default: {ROUNDS}")
    rounds = max(parser.parse_args().rounds, 1)
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    cells: dict[str, Callable[[Mode], float]] = {
        "a system call without conditions (getppid)": lambda mode: in_child(lambda: calling(os.getppid, mode)),
        "one with conditions (setsockopt)": lambda mode: in_child(
            lambda: calling(lambda: made.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 64), mode)
        ),
        "sansnet run -- true": starting,
    }
    print(f"confine: {1e3 * median(in_child(confining) for _ in range(rounds)):.2f} ms")
    for name, measure in cells.items():
        values: dict[Mode, list[float]] = {mode: [] for mode in MODES}
        for _ in range(rounds):
            for mode in MODES:
                values[mode].append(measure(mode))
        without, with_it = (1e6 * median(values[mode]) for mode in MODES)
        ratio, more = with_it / without, with_it - without
        print(f"{name}: {without:.3f} us without, {with_it:.3f} us with it, {more:+.3f} us, ratio {ratio:.3f}")


if __name__ == "__main__":
    main()
