"""The end of a command: its signals, and the last data of its guest."""

from __future__ import annotations

import signal
from math import inf
from typing import Final, NamedTuple, Protocol

import trio

from sansnet_trio.network import GuestNetwork

__all__ = ["LastData", "end_command"]

_GRACE: Final = 5.0
"""Seconds between SIGTERM and SIGKILL, as for `trio.run_process`."""

_BRIEF: Final = 0.5
"""Seconds of a brief wait, and seconds for which frames that concern no data are a reason to wait."""
_BRIEF_IMPAIRED: Final = 10.0
"""Seconds of a brief wait over a bad network, where the guest's kernel may have to send again."""
_STALLED: Final = 10.0
"""Seconds without progress after which the rest is given up."""
_QUIET: Final = 0.005
"""Seconds without a frame after which the guest's kernel has nothing more to send."""
_LOOK: Final = 0.02
"""Seconds between two looks at a guest that still has data."""
_LATE: Final = 1.0
"""Seconds. A look that is so much too late shows that sansnet was stopped meanwhile, as by Ctrl-Z."""
_MAY_SEND: Final = ("SYN_ACK_SENT", "ESTABLISHED", "CLOSING")
"""States of connections to which the guest may still send data, until it has sent FIN."""


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


class LastData:
    """The last data of a guest: those that a command had given to its kernel before it ended.

    The guest's kernel may still have to send some. It sends FIN behind the last data, and repeats what gets lost. Other
    data are acknowledged already, but the host has not taken them yet. The open tap keeps the guest's network namespace
    alive meanwhile.

    Args:
        network: the network of the guest, whose command has just ended.
    """

    def __init__(self, network: GuestNetwork) -> None:
        self._network = network
        self._begin = trio.current_time()
        self._lost = _lost(network)

    async def wait(self, *, briefly: bool = False) -> None:
        """Serve the guest until its kernel has ended all connections, the host has taken all data, and all is quiet.

        Call this when the guest has no processes any more. It ends when there is no progress for 10 s: no connection
        ends, and the host takes nothing. It may be cancelled, and called again.

        Frames that sansnet ignores or drops are no reason to wait: a new interface repeats its multicast reports for a
        while. Nor are others for long: outsiders may cause them.

        Args:
            briefly: wait for half a second at most, or 10 s over a bad network, counted from the end of the command.
        """
        limit = inf
        if briefly:
            limit = self._begin + (_BRIEF if self._network.driver.cables is None else _BRIEF_IMPAIRED)
        with trio.move_on_at(limit):
            await self._wait()

    async def _wait(self) -> None:
        pause = _QUIET
        used: int | None = None
        rest: _Rest | None = None
        given_up = inf
        while True:
            now = trio.current_time()
            before, used = used, self._frames_used()
            last, rest = rest, _Rest.of(self._network)
            if last is None or rest.has_advanced(last):
                given_up = now + _STALLED
            if now >= given_up or (not rest and (used == before or now >= self._begin + _BRIEF)):
                return
            await trio.sleep(pause)
            late = trio.current_time() - now - pause
            if late > _LATE:  # sansnet was stopped, and nothing could advance
                given_up += late
            pause = min(2 * pause, _LOOK) if rest else _QUIET

    def loss(self) -> str | None:
        """A sentence about the data that are lost if the network ends now; None if there are none."""
        rest = _Rest.of(self._network)
        if lost := rest.undelivered + _lost(self._network) - self._lost:
            return f"the command has ended, and the host did not take at least {lost} bytes that it had sent"
        if rest.connections:
            return f"the command has ended, but not all of its connections ({rest.connections} left); data may be lost"
        return None

    def _frames_used(self) -> int:
        """How many frames of the guest were neither ignored nor dropped."""
        statistics = self._network.statistics()
        unused = statistics.ignored + sum(statistics.drops.values())
        return self._network.driver_statistics().frames_received - unused


def _lost(network: GuestNetwork) -> int:
    """How many bytes from the guest the host has not taken and will not take."""
    spliced = network.spliced()
    return network.statistics().tcp_lost + (0 if spliced is None else spliced.lost)


class _Rest(NamedTuple):
    """The reasons to serve a guest that has no processes any more.

    Attributes:
        connections: how many connections the guest's kernel has not ended.
        undelivered: bytes that the host has not taken.
        delivered: bytes that it has taken from the present flows; splices are not counted.
        frames: frames of the guest that are on their way through a bad network.
    """

    connections: int
    undelivered: int
    delivered: int
    frames: int

    @classmethod
    def of(cls, network: GuestNetwork) -> _Rest:
        flows = network.flows()
        undelivered = sum(flow.undelivered for flow in flows)
        connections, spliced, _ = network.spliced() or (0, 0, 0)
        cable = network.driver_statistics().impaired_up
        return cls(
            connections + sum(flow.state in _MAY_SEND and not flow.ended for flow in flows),
            undelivered + spliced,
            sum(flow.sent for flow in flows) - undelivered,
            0 if cable is None else cable.waiting,
        )

    def __bool__(self) -> bool:
        return bool(self.connections or self.undelivered or self.frames)

    def has_advanced(self, last: _Rest) -> bool:
        """Whether there is progress since an earlier look. New frames alone are none."""
        return self[:3] != last[:3]
