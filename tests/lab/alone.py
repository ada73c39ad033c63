"""A program whose guest has virtual addresses only, or whose `decide` fails.

`python -m tests.lab.alone virtual` (or `failing`) prints what an unmodified program in the guest sees, and how many
sockets of the host it has made meanwhile.
"""

from __future__ import annotations

import socket
import sys
from typing import Any

import trio

from sansnet_trio import NamespaceOptions, NewFlow, Verdict, open_guest

PROBES = """
import errno, signal, socket, struct, sys

signal.signal(signal.SIGTERM, signal.SIG_IGN)

def outcome(kind, address):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    protocol = 0 if kind != "ping" else socket.IPPROTO_ICMPV6 if ":" in address else socket.IPPROTO_ICMP
    with socket.socket(family, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM, protocol) as sock:
        sock.settimeout(1)
        try:
            sock.connect((address, 0 if kind == "ping" else 80))
            if kind == "tcp":
                return "connected"
            sock.send(struct.pack("!BBHHH", 128 if ":" in address else 8, 0, 0, 0, 1))
            sock.recv(100)
            return "reply"
        except TimeoutError:
            return "silence"
        except OSError as error:
            return errno.errorcode[error.errno]

for address in sys.argv[1:]:
    print(address, *(outcome(kind, address) for kind in ("tcp", "udp", "ping")), flush=True)
"""

EVERYWHERE = ["10.0.2.2", "10.0.2.77", "192.0.2.1", "203.0.113.10", "8.8.8.8", "fd00::2", "2001:db8:2::10", "2600::"]


async def decide(flow: NewFlow) -> Verdict:
    """A mistake in a program."""
    raise KeyError("a mistake")


async def virtual() -> None:
    """Print the results, and the number of sockets that were made in this process."""
    made: list[int] = []

    def note(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "socket.__new__" and arguments[1] in (socket.AF_INET, socket.AF_INET6):
            made.append(arguments[1])

    options = NamespaceOptions.made_up(virtual=("0.0.0.0/0", "::/0"), dns_forward=())
    async with open_guest([sys.executable, "-c", PROBES, *EVERYWHERE], options) as guest:
        sys.addaudithook(note)
        await guest.wait()
        print("sockets", len(made), guest.network.driver_statistics().sockets)


async def failing() -> None:
    """Print what the program sees when `decide` raises."""
    try:
        async with open_guest([sys.executable, "-c", PROBES, "192.0.2.1"], decide=decide) as guest:
            await guest.wait()
    except KeyError as error:
        print("raised", error, error.__context__)


if __name__ == "__main__":
    trio.run({"virtual": virtual, "failing": failing}[sys.argv[1]])
