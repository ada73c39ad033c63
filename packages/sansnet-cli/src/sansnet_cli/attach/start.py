"""The first half of `sansnet attach`, before trio is loaded: from the fork of the preparing process to readiness.

The caller waits for readiness. It is reported as soon as the guest's interface is configured and all ports are bound;
the rest of the program is loaded after that. Frames wait in the tap meanwhile.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import BinaryIO

from sansnet_cli.options.records import AttachOptions
from sansnet_cli.output import report
from sansnet_cli.process import readiness
from sansnet_cli.process.loading import load
from sansnet_cli.process.loop import load_trio
from sansnet_cli.runtime.audit import audited
from sansnet_cli.runtime.control import controlled
from sansnet_cli.runtime.observe import captured, observed
from sansnet_cli.runtime.ports import open_forwards
from sansnet_cli.runtime.record import recorded
from sansnet_cli.runtime.termination import TERMINATING
from sansnet_trio.guest.attached import AttachedGuest
from sansnet_trio.guest.errors import GuestError
from sansnet_trio.guest.plan import ReadyGuest
from sansnet_trio.links.tap import Tap
from sansnet_trio.plan.setup import Setup

__all__ = ["start"]


def start(
    guest: AttachedGuest[Setup],
    options: AttachOptions,
    capture: BinaryIO | None,
    *,
    become: Callable[[], None] = lambda: None,
    on_ready: Callable[[Setup], None],
    load_first: bool = False,
) -> None:
    """Attach to a namespace, and serve its network until it is gone or a signal comes.

    Args:
        guest: the guest; its process is still preparing it.
        options: the options of `sansnet attach`.
        capture: an open file for a capture.
        become: called after everything that needs privileges; it may change the user.
        on_ready: called with the guest's setup when its interface is configured and all ports are bound.
        load_first: load the whole program before `become`, because the new user may not be allowed to read it.

    Raises:
        GuestError: the guest could not be made, or its interface went away.
        ForwardError: a port cannot be forwarded.
        ListenError: the control socket cannot be made.
    """
    with controlled(options) as control:
        ready = _receive_ready(guest)
        setup = ready.prepared
        for warning in (*setup.warnings, *ready.warnings):
            report.warn(warning)
        if options.verbose:
            report.configuration(setup.config, ready.link, setup.addresses, setup.gateways)
        readiness.allow_many_descriptors()
        with (
            captured(capture) as file,
            audited(options) as audit,
            recorded(options) as recording,
            open_forwards(options, setup, control, guest) as forwards,
        ):
            link = observed(Tap(ready.tap, ready.link), options, file)
            mask = signal.pthread_sigmask(signal.SIG_BLOCK, TERMINATING)  # until trio handles them
            if forwards is not None:
                guest.start_agent()
            readiness.require_descriptors()
            if load_first:
                load(options, "sansnet_cli.attach.serve")
            become()
            readiness.renounce(options.ports, controlled=control.is_on)
            report.inform(f"attached to {guest.namespace.network}")
            on_ready(setup)
            load_trio()
            from sansnet_cli.attach.serve import serve
            from sansnet_cli.runtime.session import Session

            readiness.prepare()
            session = Session(
                options,
                setup,
                control,
                forwards,
                guest,
                namespace=guest.namespace if options.ends_with_namespace else None,
                audit=audit,
                recording=recording,
                prompts=True,
            )
            serve(session, link, mask)


def _receive_ready(guest: AttachedGuest[Setup]) -> ReadyGuest[Setup]:
    try:
        return guest.receive_ready()
    except EOFError:
        raise GuestError("the guest could not be prepared, because the preparing process was killed") from None
