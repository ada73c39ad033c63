"""From the fork of a guest to the end of its command.

The command begins as soon as its network is there, although nobody serves that yet: the rest of the program is still
being loaded then, by a thread. Frames wait in the tap meanwhile, for a twentieth of a second.
"""

from __future__ import annotations

import select
import threading
from importlib import import_module
from typing import BinaryIO, Final

from sansnet_cli import process, report
from sansnet_cli.control import Control, controlled
from sansnet_cli.observe import observed
from sansnet_cli.options import RunOptions
from sansnet_cli.plan import Setup
from sansnet_cli.ports import forwarded
from sansnet_cli.signals import SignalForwarder
from sansnet_trio.guests import ReadyGuest
from sansnet_trio.links.tap import Tap
from sansnet_trio.namespace import Guest

__all__ = ["supervise"]

_REST: Final = "sansnet_cli.running"


def supervise(guest: Guest[Setup], options: RunOptions, capture: BinaryIO | None) -> int:
    """Run a guest's network and its command until the command ends.

    Returns:
        The command's exit status, or the negative number of the signal that ended it.

    Raises:
        GuestError: the guest could not be made, the command could not begin, or the guest's interface went away.
        ForwardError: a port cannot be forwarded.
        ListenError: there can be no such control socket.
    """
    signals = SignalForwarder()
    try:
        loading = threading.Thread(target=import_module, args=(_REST,), daemon=True)
        loading.start()
        with controlled(options.control) as control:
            try:
                ready = _wait_ready(guest, signals)
            except EOFError:  # a signal ended it early
                return guest.reap()
            return _run(guest, options, capture, signals, control, loading, ready)
    finally:
        signals.close()


def _wait_ready(guest: Guest[Setup], signals: SignalForwarder) -> ReadyGuest[Setup]:
    while True:
        readable, _, _ = select.select([guest.fileno(), signals.fileno()], [], [])
        if guest.fileno() in readable:
            return guest.receive_ready()
        signals.forward(guest)


def _run(
    guest: Guest[Setup],
    options: RunOptions,
    capture: BinaryIO | None,
    signals: SignalForwarder,
    control: Control,
    loading: threading.Thread,
    ready: ReadyGuest[Setup],
) -> int:
    setup = ready.prepared
    for warning in (*setup.warnings, *ready.warnings):
        report.warn(warning)
    if options.verbose:
        report.configuration(setup.config, ready.link, setup.addresses, setup.gateways)
    link = observed(Tap(ready.tap, ready.link, left_behind=True), options, capture)
    if options.ports.forwards or control.is_on:
        loading.join()  # for some of them a process is forked, which must not meet another thread
    own = [address.address for address in setup.addresses]
    process.allow_many_descriptors()  # the command was forked before
    with forwarded(options.ports, setup.config, guest, own, later=control.is_on, verbose=options.verbose) as forwards:
        control.forward(forwards, namespace=True)
        process.require_descriptors()
        guest.start()
        loading.join()
        from sansnet_cli.running import accompany

        process.prepare()
        return accompany(guest, setup, link, forwards, signals, control, options)
