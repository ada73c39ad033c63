"""A trio program that gives a command a network and prints the endpoints that the command connects to.

    python -m examples.embed curl -sI http://192.0.2.80/

Needs permission to open /dev/net/tun. Without a command, it starts a shell.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import trio

from sansnet_core import FlowOpened, SansnetError
from sansnet_trio import LinkClosed, NamespaceOptions, Subscription, open_guest

OPTIONS = NamespaceOptions.made_up(map_host_loopback=("10.0.2.2",))
"""The guest has addresses of its own, and reaches the host's loopback at the gateway's address."""


async def show(events: Subscription) -> None:
    """Print the remote endpoints of new flows, until the network ends."""
    async for event in events:
        if isinstance(event, FlowOpened):
            print("the guest opened", event.remote, flush=True)


async def run(command: Sequence[str]) -> int:
    """Run a command with a network. Returns its exit status."""
    try:
        async with open_guest(command, OPTIONS) as guest, guest.network.subscribe() as events:
            guest.network.nursery.start_soon(show, events)
            return await guest.wait()
    except LinkClosed as gone:
        print("the guest has lost its network, so its command was ended:", gone, file=sys.stderr)
    except SansnetError as problem:
        print(problem, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(trio.run(run, sys.argv[1:] or ["sh"]))
