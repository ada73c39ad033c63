"""A trio program that gives a command a network and prints the endpoints that the command connects to.

    python -m examples.embed curl -sI http://192.0.2.80/

Needs permission to open /dev/net/tun. Without a command, it starts a shell.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import trio

from sansnet_core import FlowOpened, Ipv4Config, LinkConfig, Network, NetworkConfig, Notice
from sansnet_trio import CommandGuest, Driver, GuestPlan, LinkClosed, Route, Tap

ADDRESS, GATEWAY = "10.0.2.15/24", "10.0.2.2"


def prepare() -> tuple[GuestPlan, None]:
    """The guest's interface, addresses and routes. Runs in the child process that becomes the command."""
    return GuestPlan(
        interface="eth0",
        mtu=1500,
        addresses=(ADDRESS,),
        routes=(Route(destination="0.0.0.0/0", gateway=GATEWAY),),
        ipv6=False,
    ), None


def configuration(link: LinkConfig) -> NetworkConfig:
    """The configuration of the network. The guest reaches the host's loopback at the gateway's address."""
    ipv4 = Ipv4Config(address=ADDRESS, gateway=GATEWAY)
    return NetworkConfig(link=link, ipv4=ipv4, map_host_loopback=(GATEWAY,), notices=True)


def show(notices: Sequence[Notice]) -> None:
    """Print the remote endpoints of new flows."""
    for notice in notices:
        if isinstance(notice, FlowOpened):
            print("the guest opened", notice.remote, flush=True)


async def supervise(guest: CommandGuest[None]) -> int:
    """Serve the guest until its command ends or its interface is gone. Returns the exit status."""
    status = 1
    try:
        async with trio.open_nursery() as nursery:
            ready = await guest.ready()
            network = Network(configuration(ready.link), now=trio.current_time(), secret=os.urandom(32))
            driver = Driver(network, Tap(ready.tap, ready.link), on_notices=show)
            await nursery.start(driver.run)
            guest.start()
            status = await guest.wait()
            nursery.cancel_scope.cancel()
    except* LinkClosed as gone:
        print("the guest has lost its network, so its command is ended:", gone.exceptions[0], file=sys.stderr)
    return status


def main(command: Sequence[str]) -> int:
    """Run a command with a network. Returns its exit status."""
    with CommandGuest.fork(command, prepare) as guest:  # fork before trio runs
        return trio.run(supervise, guest)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or ["sh"]))
