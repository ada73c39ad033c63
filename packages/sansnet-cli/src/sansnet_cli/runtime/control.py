"""The control socket of a command."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sansnet_cli.runtime.hints import Hints
    from sansnet_core import Network
    from sansnet_trio.control.commands import ControlCommands
    from sansnet_trio.control.server import ControlSocket
    from sansnet_trio.driver import Driver
    from sansnet_trio.forward.forwards import Forwards

__all__ = ["Control", "controlled"]


class Control:
    """The control socket, if there is one. Without one, its methods do nothing."""

    def __init__(self, commands: ControlCommands | None = None, socket: ControlSocket | None = None) -> None:
        self._commands = commands
        self._socket = socket

    @property
    def is_on(self) -> bool:
        """Whether there is a control socket."""
        return self._commands is not None

    def set_forwards(self, forwards: Forwards | None, *, namespace: bool) -> None:
        """Let clients change the forwarded ports; those of the guest's loopback only if it is in a namespace."""
        if self._commands is not None and forwards is not None:
            self._commands.set_forwards(forwards, namespace=namespace)

    def serving(self, network: Network, driver: Driver, hints: Hints | None) -> AbstractContextManager[None]:
        """Let clients inspect this network and its driver as long as the block runs."""
        if self._commands is None:
            return nullcontext()
        return self._commands.serving(network, driver, hints.sentences if hints else ())

    async def run(self) -> None:
        """Answer requests until cancelled."""
        if self._socket is not None:
            await self._socket.run()


@contextmanager
def controlled(path: str | None) -> Iterator[Control]:
    """Listen on a control socket as long as the block runs, if a path is given.

    Raises:
        ListenError: the socket cannot be made.
    """
    if path is None:
        yield Control()
        return
    from sansnet_trio.control.commands import ControlCommands
    from sansnet_trio.control.server import ControlSocket

    commands = ControlCommands()
    socket = ControlSocket(path, commands.answer)
    try:
        yield Control(commands, socket)
    finally:
        socket.close()
