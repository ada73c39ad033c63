"""Costs of rules, decisions and subscribers for each new flow, as ratios to a guest without any of them.

`python benchmarks/flows.py` needs no root. One program has a guest for each case. The guests take turns to open flows
to servers of another process on the host's loopback; `benchmarks/flow_peer.py` is both of them. A TCP flow is a
connection with one byte each way. A UDP flow is a datagram with its answer, from a new port; it ends when a newer one
takes its place. Processor time is that of the program alone. A ratio compares a turn of the case with a turn of the
first case that came just before or after it; the table has medians.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import subprocess
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

import trio

from sansnet_core import Action, Allow, Limits, Rule
from sansnet_core.addresses import Prefix
from sansnet_trio import GuestNetwork, NamespaceOptions, NewFlow, Verdict, open_guest
from sansnet_trio.decisions import Decider
from sansnet_trio.front.command import Guest

PEER: Final = Path(__file__).with_name("flow_peer.py")
HOST: Final = "192.0.2.4"
"""The address by which the guests reach the host's loopback."""


async def at_once(flow: NewFlow) -> Verdict:
    """Decide without waiting."""
    return Allow()


async def after_others(flow: NewFlow) -> Verdict:
    """Decide when every other task that can run has run."""
    await trio.sleep(0)
    return Allow()


class Case(NamedTuple):
    """A guest to measure.

    Attributes:
        rules: number of rules; the last one matches.
        decide: asked about every flow, if there is one.
        subscribers: number of tasks that read the events.
    """

    rules: int = 0
    decide: Decider | None = None
    subscribers: int = 0


CASES: Final = {
    "nothing": Case(),
    "nothing again": Case(),
    "10 rules": Case(rules=10),
    "100 rules": Case(rules=100),
    "decide at once": Case(decide=at_once),
    "decide, sleep(0)": Case(decide=after_others),
    "1 subscriber": Case(subscribers=1),
    "10 subscribers": Case(subscribers=10),
}


async def read_events(network: GuestNetwork, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    """Subscribe, and read every event."""
    async with network.subscribe() as events:
        task_status.started()
        async for _ in events:
            pass


def options_of(case: Case, flows: int) -> NamespaceOptions:
    """Made-up addresses, few UDP flows, and rules for other destinations before one for every destination."""
    others = [
        Rule(action=Action.REFUSE, destinations=(Prefix.of(f"10.{n}.0.0/16"),), ports=(443,))
        for n in range(1, case.rules)
    ]
    rules = (*others, Rule(action=Action.ALLOW)) if case.rules else ()
    return NamespaceOptions.made_up(map_host_loopback=(HOST,), rules=rules, limits=Limits(udp_flows=flows))


Turn: TypeAlias = tuple[float, float]
"""Flows for each second, and seconds of processor time for each flow."""


class Peer:
    """A guest's program, which opens flows on request."""

    def __init__(self, guest: Guest) -> None:
        self._guest = guest

    async def open_flows(self, protocol: str, port: int, count: int) -> Turn:
        """Flows for each second, and seconds of this process's processor time for each flow."""
        assert self._guest.stdin is not None
        assert self._guest.stdout is not None
        gc.collect()
        before = time.process_time()
        await self._guest.stdin.send_all(f"{protocol} {HOST} {port} {count}\n".encode())
        seconds = float(await self._guest.stdout.receive_some())
        return count / seconds, (time.process_time() - before) / count


async def main(names: list[str], flows: int, rounds: int) -> None:
    """Measure and print a table."""
    server = await trio.lowlevel.open_process([sys.executable, str(PEER), "serve"], stdout=subprocess.PIPE)
    assert server.stdout is not None
    ports = dict(zip(("tcp", "udp"), map(int, (await server.stdout.receive_some()).split()), strict=True))
    results: dict[tuple[str, str], list[tuple[Turn, Turn]]] = {}
    async with AsyncExitStack() as stack:
        stack.callback(server.kill)
        nursery = await stack.enter_async_context(trio.open_nursery())
        stack.callback(nursery.cancel_scope.cancel)
        peers = {}
        for name in names:
            case = CASES[name]
            opened = open_guest(
                [sys.executable, str(PEER)],
                options_of(case, flows),
                decide=case.decide,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            guest = await stack.enter_async_context(opened)
            for _ in range(case.subscribers):
                await nursery.start(read_events, guest.network)
            peers[name] = Peer(guest)
        for number in range(rounds + 1):
            for protocol, port in ports.items():
                for name in names[1:]:
                    pair = [names[0], name] if number % 2 else [name, names[0]]
                    turns = {each: await peers[each].open_flows(protocol, port, flows) for each in pair}
                    if number:  # the first round is not counted
                        results.setdefault((protocol, name), []).append((turns[name], turns[names[0]]))
    print(f"{'flow':4} {'case':18} {'flows/s':>8} {'us/flow':>8} {'ratio of processor time (middle half)':>38}")
    for (protocol, name), pairs in results.items():
        rate, used = (statistics.median(column) for column in zip(*(turn for turn, _ in pairs), strict=True))
        low, middle, high = statistics.quantiles([turn[1] / reference[1] for turn, reference in pairs])
        print(f"{protocol:4} {name:18} {rate:8.0f} {used * 1e6:8.0f} {f'{middle:.2f} ({low:.2f}..{high:.2f})':>38}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", choices=CASES, default=list(CASES), help="the first one is the reference")
    parser.add_argument("--flows", type=int, default=100, help="in one turn")
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    trio.run(main, arguments.only, arguments.flows, arguments.rounds)
