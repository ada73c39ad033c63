"""The end of a command: its signals, and the last data of its guest."""

from __future__ import annotations

import signal
from typing import Final, Protocol

import trio

from sansnet_core import NetworkStatistics
from sansnet_trio.network import GuestNetwork

__all__ = ["deliver", "drain", "end_command"]

_GRACE: Final = 5.0
"""Seconds between SIGTERM and SIGKILL, as for `trio.run_process`."""

_MAX_DRAIN: Final = 0.5
"""Seconds that the guest's kernel gets, at most, to send data that the command left in its sockets."""
_MAX_IMPAIRED_DRAIN: Final = 10.0
"""The same over a bad network, where it may have to send again."""
_QUIET: Final = 0.005
"""Seconds without a frame after which the guest's kernel has nothing more to send."""
_STALLED: Final = 10.0
"""Seconds in which a host takes nothing, after which it is given up."""
_LOOK: Final = 0.02
"""Seconds between two looks at what the host has taken."""
_NOT_ENDED: Final = ("SYN_RECEIVED", "ESTABLISHED")
"""States of connections that the guest's kernel has not ended; it does so when the command ends."""


class _Command(Protocol):
    def send_signal(self, number: int) -> None: ...

    async def wait(self) -> int: ...


async def end_command(command: _Command) -> None:
    """End a command that still runs: with SIGTERM, and after 5 s SIGKILL. Shield it from cancellation."""
    for number in (signal.SIGTERM, signal.SIGCONT):  # a stopped process handles SIGTERM only after SIGCONT
        command.send_signal(number)
    with trio.move_on_after(_GRACE):
        await command.wait()
        return
    command.send_signal(signal.SIGKILL)
    await command.wait()


async def drain(network: GuestNetwork) -> None:
    """Serve the guest's kernel until it is quiet: a command may end before its last datagram or segment is sent.

    The open tap keeps the guest's network namespace alive meanwhile. Frames that sansnet ignores or drops do not count:
    a new interface repeats its multicast reports for a while. Over a bad network, the guest's kernel may be quiet until
    it sends again, so this waits until the kernel has ended the connections of the command.
    """
    impaired = network.driver.cables is not None
    with trio.move_on_after(_MAX_IMPAIRED_DRAIN if impaired else _MAX_DRAIN):
        used = -1
        while True:
            statistics = network.statistics()
            before, used = used, network.driver_statistics().frames_received - _unused(statistics)
            quiet = used == before and not statistics.tcp_held
            if quiet and not (impaired and _is_on_its_way(network)):
                return
            await trio.sleep(_QUIET)


async def deliver(network: GuestNetwork) -> int:
    """Wait until the host has taken the data of connections that the guest has left: they are acknowledged already.

    Call this after `drain`, when the guest has no processes any more. It ends when the host takes nothing for 10 s, and
    may be cancelled.

    Returns:
        The bytes that the host has not taken. They are lost when the network ends.
    """
    taken: int | None = None
    deadline = 0.0
    while held := network.statistics().tcp_held:
        now = trio.current_time()
        before, taken = taken, sum(flow.sent for flow in network.flows()) - held
        if taken != before:
            deadline = now + _STALLED
        elif now >= deadline:
            return held
        await trio.sleep(_LOOK)
    return 0


def _unused(statistics: NetworkStatistics) -> int:
    """How many of the guest's frames were ignored or dropped."""
    return statistics.ignored + sum(statistics.drops.values())


def _is_on_its_way(network: GuestNetwork) -> bool:
    """Whether frames of the guest have not arrived, or it has not ended a connection."""
    counters = network.driver_statistics().impaired_up
    return (counters is not None and counters.waiting > 0) or any(flow.state in _NOT_ENDED for flow in network.flows())
