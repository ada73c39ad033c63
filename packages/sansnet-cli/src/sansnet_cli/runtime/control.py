"""The control socket of a command."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from sansnet_cli.options.policy import asks, with_forwards

if TYPE_CHECKING:
    from sansnet_cli.options.records import GuestOptions
    from sansnet_cli.runtime.hints import Hints
    from sansnet_core import Network
    from sansnet_trio.control.commands import ControlCommands
    from sansnet_trio.control.impairments import Impaired
    from sansnet_trio.control.policies import Policed
    from sansnet_trio.control.server import ControlSocket
    from sansnet_trio.driver import Driver
    from sansnet_trio.forward.forwards import Forwards
    from sansnet_trio.sandbox import Level

__all__ = ["Control", "asks_of", "controlled"]


class Control:
    """The control socket, if there is one. Without one, its methods do nothing.

    Attributes:
        commands: what it answers; None without one.
        path: its path.
    """

    def __init__(
        self, commands: ControlCommands | None = None, socket: ControlSocket | None = None, path: str = ""
    ) -> None:
        self.commands = commands
        self.path = path
        self._socket = socket

    @property
    def is_on(self) -> bool:
        """Whether there is a control socket."""
        return self.commands is not None

    def set_policed(self, policed: Policed) -> None:
        """Let clients change a policy, and decide about the flows that wait."""
        if self.commands is not None:
            self.commands.policies.set_policed(policed, with_forwards)

    def set_impaired(self, impaired: Impaired) -> None:
        """Let clients change the impairments of the guest's network."""
        if self.commands is not None:
            self.commands.impairments.set_impaired(impaired)

    def set_forwards(self, forwards: Forwards | None, *, namespace: bool) -> None:
        """Let clients change the forwarded ports; those of the guest's loopback only if it is in a namespace."""
        if self.commands is not None and forwards is not None:
            self.commands.set_forwards(forwards, namespace=namespace)

    def set_sandbox(self, level: Level) -> None:
        """Let clients see how much of the sandbox this process has."""
        if self.commands is not None:
            self.commands.set_sandbox(level)

    def set_audit(self, summary: Callable[[], dict[str, Any]] | None) -> None:
        """Let clients ask for a summary of what the guest uses and tries; None at the end of a guest."""
        if self.commands is not None:
            self.commands.policies.set_audit(summary)

    def serving(self, network: Network, driver: Driver, hints: Hints | None) -> AbstractContextManager[None]:
        """Let clients inspect this network and its driver as long as the block runs."""
        if self.commands is None:
            return nullcontext()
        return self.commands.serving(network, driver, hints.sentences if hints else ())

    async def run(self) -> None:
        """Answer requests until cancelled."""
        if self._socket is not None:
            await self._socket.run()


@contextmanager
def controlled(options: GuestOptions) -> Iterator[Control]:
    """Listen on a control socket as long as the block runs, if there is a path for it, or if the policy asks.

    In the latter case the socket is in a directory of its own, so that there is a way to answer.

    Raises:
        ListenError: the socket cannot be made.
    """
    if options.control is None and not asks_of(options):
        yield Control()
        return
    from sansnet_trio.control.commands import ControlCommands
    from sansnet_trio.control.server import ControlSocket

    commands = ControlCommands()
    with ExitStack() as stack:
        path = options.control or os.path.join(_directory(stack), "control")
        socket = ControlSocket(path, commands.answer)
        stack.callback(socket.close)
        yield Control(commands, socket, path)


def asks_of(options: GuestOptions) -> bool:
    """Whether the policy leaves flows to the user."""
    return options.policy is not None and asks(options.policy)


def _directory(stack: ExitStack) -> str:
    """A new directory for the user's run-time files."""
    from sansnet_trio.linux.own_names import temporary_directory

    try:
        return stack.enter_context(temporary_directory(os.environ.get("XDG_RUNTIME_DIR")))
    except OSError:
        return stack.enter_context(temporary_directory())
