"""From the fork of a guest to the end of its command.

The command begins as soon as its network is there, although nobody serves that yet: the rest of the program is still
being loaded then, by a thread. Frames wait in the tap meanwhile, for a twentieth of a second.
"""

from __future__ import annotations

import contextlib
import resource
import select
import threading
from importlib import import_module
from typing import BinaryIO, Final

from sansnet_cli.options.ports import open_forwards
from sansnet_cli.options.records import RunOptions
from sansnet_cli.output import report
from sansnet_cli.process import readiness
from sansnet_cli.runtime.control import Control, controlled
from sansnet_cli.runtime.observe import captured, observed
from sansnet_cli.runtime.signals import CommandSignals
from sansnet_trio.guest.child import TIMEOUT
from sansnet_trio.guest.command import CommandGuest
from sansnet_trio.guest.errors import GuestError
from sansnet_trio.guest.plan import ReadyGuest
from sansnet_trio.links.tap import Tap
from sansnet_trio.plan.setup import Setup

__all__ = ["supervise"]

_REST: Final = "sansnet_cli.run.serve"


def supervise(guest: CommandGuest[Setup], options: RunOptions, capture: BinaryIO | None) -> int:
    """Run a guest's network and its command until the command ends.

    Returns:
        The command's exit status, or the negative number of the signal that ended it.

    Raises:
        GuestError: the guest could not be made, the command could not begin, or the guest's interface went away.
        ForwardError: a port cannot be forwarded.
        ListenError: there can be no such control socket.
    """
    signals = CommandSignals()
    try:
        loading = _Loading()
        with controlled(options.control) as control:
            try:
                ready = _wait_ready(guest, signals)
            except EOFError:  # a signal ended it early
                return guest.reap()
            return _run(guest, options, capture, signals, control, loading, ready)
    finally:
        signals.close()


class _Loading:
    """Loads the rest of the program, in a thread if there can be one; what prevents that is said by `join`."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        if resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY:  # else it may lack what a thread takes
            thread = threading.Thread(target=self._load, daemon=True)
            with contextlib.suppress(RuntimeError):  # no more threads are allowed (ulimit -u)
                thread.start()
                self._thread = thread

    def join(self) -> None:
        """Wait until it is loaded, and the process has one thread only."""
        if self._thread is not None:
            self._thread.join()
        import_module(_REST)

    def _load(self) -> None:
        with contextlib.suppress(Exception):  # tried again by `join`, where there is more memory for it
            import_module(_REST)


def _wait_ready(guest: CommandGuest[Setup], signals: CommandSignals) -> ReadyGuest[Setup]:
    for _ in range(TIMEOUT):  # seconds; see `wait_readable`
        while readable := select.select([guest.fileno(), signals.fileno()], [], [], 1.0)[0]:
            if guest.fileno() in readable:
                return guest.receive_ready()
            signals.forward(guest)
    raise GuestError.unanswered(TIMEOUT)


def _run(
    guest: CommandGuest[Setup],
    options: RunOptions,
    capture: BinaryIO | None,
    signals: CommandSignals,
    control: Control,
    loading: _Loading,
    ready: ReadyGuest[Setup],
) -> int:
    setup = ready.prepared
    for warning in (*setup.warnings, *ready.warnings):
        report.warn(warning)
    if options.verbose:
        report.configuration(setup.config, ready.link, setup.addresses, setup.gateways)
    if options.ports.forwards or control.is_on:
        loading.join()  # for some of them a process is forked, which must not meet another thread
    own = [address.address for address in setup.addresses]
    readiness.allow_many_descriptors()  # the command was forked before
    with (
        captured(capture) as file,
        open_forwards(
            options.ports, setup.config, guest, own, later=control.is_on, verbose=options.verbose
        ) as forwards,
    ):
        link = observed(Tap(ready.tap, ready.link, left_behind=True), options, file)
        control.forward(forwards, namespace=True)
        readiness.require_descriptors()
        readiness.renounce(options.ports, controlled=control.is_on)
        guest.start()
        loading.join()
        from sansnet_cli.run.serve import accompany

        readiness.prepare()
        return accompany(guest, setup, link, forwards, signals, control, options)
