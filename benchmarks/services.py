"""Costs of services of the program, as ratios to sockets of the same program on the host's loopback.

`python benchmarks/services.py` needs root. One guest in a network namespace talks to both in turn: to a service of the
program at 10.0.2.2, and to a server of trio's sockets in the same program, which the guest reaches at 192.0.2.4. The
guest's end is `benchmarks/service_peer.py`. All data are random. Figures above 1 mean that the service is better.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Final, TypeAlias

import trio

from sansnet_trio import GuestDatagrams, NamespaceOptions, Services, open_guest

PEER: Final = Path(__file__).with_name("service_peer.py")
DATA: Final = os.urandom(1 << 20)
SERVICE: Final = "10.0.2.2"
SOCKET: Final = "192.0.2.4"
TESTS: Final = ("up", "down", "round-trip", "small-writes", "connect", "udp-up", "udp-round-trip")

Counts: TypeAlias = dict[str, int]


async def handle(stream: trio.abc.HalfCloseableStream) -> None:
    """One connection; its first byte is the test."""
    try:
        test = await stream.receive_some(1)
        if test == b"u":
            while await stream.receive_some(1 << 20):
                pass
        elif test == b"d":
            while True:
                await stream.send_all(DATA)
        elif test == b"r":
            while data := await stream.receive_some(1 << 16):
                await stream.send_all(data)
        elif test == b"s":
            while True:
                for start in range(0, len(DATA), 64):
                    await stream.send_all(DATA[start : start + 64])
        elif test == b"c":
            await stream.send_all(b"x")
    except trio.BrokenResourceError:
        pass
    finally:
        await stream.aclose()


async def echo_datagrams(datagrams: GuestDatagrams, counts: Counts) -> None:
    """Answer datagrams of the round-trip test, and count the others."""
    while True:
        data, peer = await datagrams.receive()
        counts["service"] += 1
        if len(data) == 1:
            await datagrams.send(data, peer)


async def echo_socket(socket: trio.socket.SocketType, counts: Counts) -> None:
    """The same with a socket of the host."""
    while True:
        data, address = await socket.recvfrom(65536)
        counts["socket"] += 1
        if len(data) == 1:
            await socket.sendto(data, address)


def processor_time() -> float:
    """Seconds of processor time of this process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


async def measure(
    run: Callable[[list[str]], Awaitable[bytes]],
    test: str,
    host: str,
    port: int,
    seconds: float,
    counted: str,
    counts: Counts,
) -> tuple[float, float]:
    """Units per second, and units per second of this process's processor time."""
    before, known = processor_time(), counts[counted]
    units, took = map(float, (await run([sys.executable, str(PEER), test, host, str(port), str(seconds)])).split())
    if test == "udp-up":
        units = counts[counted] - known
    used = processor_time() - before
    return units / took, units / used


async def main(tests: list[str], seconds: float, rounds: int) -> None:
    """Measure and print a table."""
    services = Services()
    counts = {"service": 0, "socket": 0}
    socket = trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM)
    await socket.bind(("127.0.0.1", 0))
    udp_port = socket.getsockname()[1]
    options = NamespaceOptions.made_up(map_host_loopback=(SOCKET,))
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(services.serve_tcp, handle, 9000, host=SERVICE))
        (listener,) = await nursery.start(partial(trio.serve_tcp, handle, 0, host="127.0.0.1"))
        tcp_port = listener.socket.getsockname()[1]
        nursery.start_soon(echo_datagrams, services.open_datagrams(9000, host=SERVICE), counts)
        nursery.start_soon(echo_socket, socket, counts)
        async with open_guest(["sleep", "100000"], options, services=services) as guest:

            async def run(command: list[str]) -> bytes:
                enter = ["nsenter", "-t", str(guest.pid), "-n", "-U", "--preserve-credentials"]
                done = await trio.run_process([*enter, *command], capture_stdout=True)
                return done.stdout

            print(f"{'test':16} {'service/s':>14} {'socket/s':>14} {'ratio':>6} {'ratio of processor time':>24}")
            for test in tests:
                rates: dict[str, list[tuple[float, float]]] = {"service": [], "socket": []}
                for _ in range(rounds):
                    for name, host, port in (
                        ("service", SERVICE, 9000),
                        ("socket", SOCKET, udp_port if test.startswith("udp") else tcp_port),
                    ):
                        rates[name].append(await measure(run, test, host, port, seconds, name, counts))
                ours, theirs = (
                    [statistics.median(values) for values in zip(*rates[name], strict=True)]
                    for name in ("service", "socket")
                )
                rate, work = ours[0] / theirs[0], ours[1] / theirs[1]
                print(f"{test:16} {ours[0]:14.0f} {theirs[0]:14.0f} {rate:6.2f} {work:24.2f}", flush=True)
            nursery.cancel_scope.cancel()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", choices=TESTS, default=list(TESTS))
    parser.add_argument("--seconds", type=float, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    trio.run(main, arguments.only, arguments.seconds, arguments.rounds)
