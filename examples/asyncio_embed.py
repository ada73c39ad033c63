"""A program that gives a command a network by the driver of asyncio_driver.py. 10.0.2.2 is the host's loopback there.

    python -m examples.asyncio_embed curl http://10.0.2.2:8000/

It needs unshare (util-linux), ip (iproute2), and permission to open /dev/net/tun. It needs no privileges.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from examples.asyncio_driver import AsyncioDriver
from sansnet_core import Ipv4Config, LinkConfig, Network, NetworkConfig

TUNSETIFF, IFF_TAP, IFF_NO_PI = 0x400454CA, 0x0002, 0x1000  # linux/if_tun.h
NAME = "eth0"
UNSHARE = ("unshare", "--user", "--map-root-user", "--net")
BECOME = "--become-guest"
MTU = 65520
CONFIG = NetworkConfig(
    link=LinkConfig(mtu=MTU, max_frame_size=MTU + 14),
    ipv4=Ipv4Config(address="10.0.2.15/24", gateway="10.0.2.2"),
    map_host_loopback=("10.0.2.2",),
)
SETUP = f"""
ip address add 10.0.2.15/24 dev {NAME}
ip link set {NAME} mtu {MTU} up
ip route add default via 10.0.2.2
"""


@asynccontextmanager
async def open_guest(command: Sequence[str]) -> AsyncIterator[tuple[asyncio.subprocess.Process, int]]:
    """Start a command in namespaces of its own; it begins when the block does, and is killed at its end.

    Args:
        command: the command and its arguments.

    Yields:
        The process, and the descriptor of the tap.

    Raises:
        OSError: a program is missing, or the namespaces could not be made; the reason is on standard error.
    """
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            number = str(theirs.fileno())
            words = [*UNSHARE, sys.executable, "-m", "examples.asyncio_embed", BECOME, number, *command]
            process = await asyncio.create_subprocess_exec(*words, pass_fds=[theirs.fileno()])
        try:
            _, (tap,), _, _ = await asyncio.to_thread(socket.recv_fds, ours, 1, 1)
        except ValueError:
            await process.wait()
            raise OSError("the guest has no network interface") from None
        try:
            os.set_blocking(tap, False)
            ours.send(b".")
            yield process, tap
        finally:
            os.close(tap)
            if process.returncode is None:
                process.kill()
                await process.wait()


def become_guest(number: str, command: list[str]) -> None:
    """Make the tap, send it to the parent, and become the command as soon as the parent has it."""
    with socket.socket(fileno=int(number)) as parent:
        tap = os.open("/dev/net/tun", os.O_RDWR)
        fcntl.ioctl(tap, TUNSETIFF, struct.pack("16sH22x", NAME.encode(), IFF_TAP | IFF_NO_PI))
        subprocess.run(["sh", "-ec", SETUP], check=True)
        socket.send_fds(parent, [b"."], [tap])
        os.close(tap)
        parent.recv(1)
    os.execvp(command[0], command)


async def main(command: Sequence[str]) -> int:
    """Run a command. Returns its exit status."""
    async with open_guest(command) as (process, tap), asyncio.TaskGroup() as group:
        network = Network(CONFIG, now=asyncio.get_running_loop().time(), secret=os.urandom(32))
        driver = group.create_task(AsyncioDriver(network, tap).run())
        status = await process.wait()
        driver.cancel()
        return status


if __name__ == "__main__":
    if sys.argv[1:2] == [BECOME]:
        become_guest(sys.argv[2], sys.argv[3:])
    try:
        sys.exit(asyncio.run(main(sys.argv[1:] or ["sh"])))
    except KeyboardInterrupt:
        sys.exit(130)
