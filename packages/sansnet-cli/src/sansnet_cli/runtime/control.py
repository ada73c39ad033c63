"""The control socket of a command, for as long as that runs."""

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
    """What is told to those who ask by the control socket; without one everything here does nothing."""

    def __init__(self, instance: ControlCommands | None = None, socket: ControlSocket | None = None) -> None:
        self._instance = instance
        self._socket = socket

    @property
    def is_on(self) -> bool:
        """Whether there is a control socket."""
        return self._instance is not None

    def forward(self, forwards: Forwards | None, *, namespace: bool) -> None:
        """Ports can be forwarded from now on; `namespace` says whether from the guest's loopback as well."""
        if self._instance is not None and forwards is not None:
            self._instance.forward(forwards, namespace=namespace)

    def serving(self, network: Network, driver: Driver, hints: Hints | None) -> AbstractContextManager[None]:
        """While a guest is served."""
        if self._instance is None:
            return nullcontext()
        return self._instance.serving(network, driver, hints.sentences if hints else ())

    async def run(self) -> None:
        """Answer until cancelled."""
        if self._socket is not None:
            await self._socket.run()


@contextmanager
def controlled(path: str | None) -> Iterator[Control]:
    """Listen on a control socket, if there is to be one, as long as the block runs.

    Raises:
        ListenError: it cannot be made.
    """
    if path is None:
        yield Control()
        return
    from sansnet_trio.control.commands import ControlCommands
    from sansnet_trio.control.server import ControlSocket

    instance = ControlCommands()
    socket = ControlSocket(path, instance.answer)
    try:
        yield Control(instance, socket)
    finally:
        socket.close()
