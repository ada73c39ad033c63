"""A host that is simulated: another maker of the sockets that carry out a network's orders."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from sansnet_trio.host.socket_context import SocketContext
    from sansnet_trio.host.sockets import FlowDecisions, HostSockets
    from sansnet_trio.services.program_sockets import ProgramSockets

__all__ = ["Host"]


class Host(Protocol):
    """Makes the host's sockets of drivers; see `Driver`. `sansnet_trio.testing.SimulatedHost` is one."""

    def make_sockets(
        self, context: SocketContext, decisions: FlowDecisions | None, program: Callable[[], ProgramSockets]
    ) -> HostSockets:
        """Make the sockets of one driver.

        Args:
            context: the state that the sockets share.
            decisions: gets the questions about new flows; None refuses these flows.
            program: returns the driver's services and connections of the program.
        """
