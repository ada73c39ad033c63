"""The forwarded ports of a guest while it is served."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sansnet_cli.options.records import CommandOptions
from sansnet_cli.output import report
from sansnet_cli.runtime.control import Control
from sansnet_trio.plan.setup import Setup

if TYPE_CHECKING:
    from sansnet_core.ports import ForwardRule
    from sansnet_trio.forward.binding import ListenAddress
    from sansnet_trio.forward.forwards import Forwards
    from sansnet_trio.guest.socket_agent import GuestSockets

__all__ = ["open_forwards"]


@contextmanager
def open_forwards(
    options: CommandOptions, setup: Setup, control: Control, guest: GuestSockets | None = None
) -> Iterator[Forwards | None]:
    """Forward ports as long as the block runs; None if there are none, and no control socket could add some.

    Args:
        options: the command's options.
        setup: the setup of the guest's network.
        control: the control socket.
        guest: makes sockets in the guest, if it is in a namespace.

    Raises:
        ForwardError: a port cannot be bound.
    """
    ports, config = options.ports, setup.config
    if not (ports.forwards or control.is_on):
        yield None
        return
    from sansnet_trio.forward.forwards import Forwards

    def say(at: ListenAddress, rule: ForwardRule, opened: bool) -> None:
        if options.verbose:
            report.followed(at, rule, opened=opened)

    families = [version for version, family in ((4, config.ipv4), (6, config.ipv6)) if family is not None]
    with Forwards(
        ports.forwards,
        families=families,
        freebind=ports.freebind,
        splice=ports.splice,
        to_loopback=ports.to_loopback,
        on_follow=say,
    ) as forwards:
        if options.verbose:
            for rule in forwards.rules:
                report.forward(rule)
        if guest is not None:
            forwards.set_guest(guest, setup.own)
            forwards.prepare_to_follow()
        yield forwards
