"""`sansnet attach`: the network of a namespace that exists already, until that is gone.

Who starts it waits for it. So it says that it is ready as soon as the guest's interface and all ports are, and loads
the rest of the program after that. Frames wait in the tap meanwhile.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import BinaryIO, Final

from sansnet_cli.options.ports import open_forwards
from sansnet_cli.options.records import AttachOptions
from sansnet_cli.output import report
from sansnet_cli.process import readiness
from sansnet_cli.process.loading import load_everything
from sansnet_cli.runtime.control import Control, controlled
from sansnet_cli.runtime.observe import captured, observed
from sansnet_trio.guest.attached import AttachedGuest
from sansnet_trio.guest.errors import GuestError
from sansnet_trio.guest.plan import ReadyGuest
from sansnet_trio.links.tap import Tap
from sansnet_trio.plan.setup import Setup

__all__ = ["attach"]

_ENDING: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


def attach(
    guest: AttachedGuest[Setup],
    options: AttachOptions,
    capture: BinaryIO | None,
    *,
    become: Callable[[], None] = lambda: None,
    on_ready: Callable[[Setup], None] = lambda setup: None,
    load_first: bool = False,
) -> None:
    """Run a guest's network until its namespace is gone, or a signal comes.

    Args:
        guest: being prepared.
        options: what was asked for.
        capture: where frames are captured, if they are.
        become: called when all is done that takes privileges; it may change the user.
        on_ready: called when the guest has its interface and all ports are bound, with what it was given.
        load_first: whether the whole program must be loaded before that, since it may not be read any more afterwards.

    Raises:
        GuestError: the guest could not be made, or its interface went away.
        ForwardError: a port cannot be forwarded.
        ListenError: there can be no such control socket.
    """
    with controlled(options.control) as control:
        _attach(guest, options, capture, control, become, on_ready, load_first=load_first)


def _attach(
    guest: AttachedGuest[Setup],
    options: AttachOptions,
    capture: BinaryIO | None,
    control: Control,
    become: Callable[[], None],
    on_ready: Callable[[Setup], None],
    *,
    load_first: bool,
) -> None:
    ready = _receive_ready(guest)
    setup = ready.prepared
    for warning in (*setup.warnings, *ready.warnings):
        report.warn(warning)
    if options.verbose:
        report.configuration(setup.config, ready.link, setup.addresses, setup.gateways)
    own = [address.address for address in setup.addresses]
    readiness.allow_many_descriptors()
    with (
        captured(capture) as file,
        open_forwards(
            options.ports, setup.config, guest, own, later=control.is_on, verbose=options.verbose
        ) as forwards,
    ):
        link = observed(Tap(ready.tap, ready.link), options, file)
        control.forward(forwards, namespace=True)
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)  # until somebody hears them
        if forwards is not None:
            guest.start_agent()
        readiness.require_descriptors()
        if load_first:
            load_everything()
        become()
        readiness.renounce(options.ports, controlled=control.is_on)
        report.inform(f"attached to {guest.namespace.network}")
        on_ready(setup)
        from sansnet_cli.attach.serve import serve

        readiness.prepare()
        serve(setup, link, forwards, guest, control, options, ending=_ENDING, mask=mask)


def _receive_ready(guest: AttachedGuest[Setup]) -> ReadyGuest[Setup]:
    try:
        return guest.receive_ready()
    except EOFError:
        raise GuestError("the guest could not be prepared, since the process that did it was killed") from None
