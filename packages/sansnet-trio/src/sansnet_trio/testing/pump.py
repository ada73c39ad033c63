"""Carries frames between a simulated guest's stack and its link, over two cables, in trio's time.

Theory of operation. One task works whenever frames arrive, an application acts (`kick`), or a deadline of the stack or
of a cable has come. All time is that of `trio.current_time`, so it is virtual under a `trio.testing.MockClock`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Protocol

import trio

if TYPE_CHECKING:
    from sansnet_core.testing import GuestStack, Netem
    from sansnet_trio.testing.memory_link import MemoryLink

__all__ = ["Member", "Pump"]


class Member(Protocol):
    """A part of the guest that looks at the stack after frames have arrived."""

    def update(self, now: float) -> bool:
        """Look at the stack.

        Returns:
            Whether the part must be asked again; if not, it is forgotten.
        """

    def end(self, errno: int) -> None:
        """Fail with an errno: nothing will come any more."""


class Pump:
    """The task between a stack and its link.

    Args:
        stack: the guest's stack.
        link: the link; the pump has the end that is not the driver's.
        up, down: the cables from the guest and to it.

    Attributes:
        members: the parts that look at the stack after frames have arrived.
    """

    def __init__(self, stack: GuestStack, link: MemoryLink, up: Netem, down: Netem) -> None:
        self.stack = stack
        self.up, self.down = up, down
        self.members: list[Member] = []
        self._link = link
        self._kicked = trio.Event()
        link.on_frames = self.kick

    def kick(self) -> None:
        """Let the task work soon: an application has done something."""
        self._kicked.set()

    async def run(self) -> None:
        """Work until cancelled.

        Raises:
            AssertionError: the network sent something that no correct network sends; see `GuestStack`.
        """
        while not self._link.closed:
            self._kicked = trio.Event()
            self._work(trio.current_time())
            with trio.CancelScope(deadline=self._next_deadline()):
                await self._kicked.wait()

    def end(self, errno: int) -> None:
        """Let all parts fail with an errno."""
        members, self.members = self.members, []
        for member in members:
            member.end(errno)

    def _work(self, now: float) -> None:
        stack = self.stack
        stack.at(now)
        self.down.put(self._link.take(), now)
        for frame in self.down.take(now):
            stack.receive(frame, now)
        deadline = stack.next_deadline()
        if deadline is not None and deadline <= now:
            stack.handle_deadline(now)
        members, self.members = self.members, []  # a member may add others
        self.members += [member for member in members if member.update(now)]
        self.up.put(stack.take_frames(), now)
        self._link.send(self.up.take(now))

    def _next_deadline(self) -> float:
        times = (part.next_deadline() for part in (self.stack, self.up, self.down))
        return min((time for time in times if time is not None), default=math.inf)
