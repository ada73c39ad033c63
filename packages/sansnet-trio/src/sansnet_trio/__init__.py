"""The trio driver of sansnet: carries frames between a guest's link, a `sansnet_core.Network` and the host's sockets.

Example:
    fd, config = open_tap("sansnet0", mtu=65520)
    network = Network(NetworkConfig(link=config, ipv4=...), now=trio.current_time(), secret=os.urandom(16))
    async with trio.open_nursery() as nursery:
        await nursery.start(Driver(network, Tap(fd, config)).run)
"""

from sansnet_trio.driver import Driver, DriverStatistics
from sansnet_trio.links import Link, LinkClosed
from sansnet_trio.links.tap import Tap, open_tap
from sansnet_trio.machine import Machine

__all__ = ["Driver", "DriverStatistics", "Link", "LinkClosed", "Machine", "Tap", "open_tap"]
