"""The first half of `sansnet run`, before trio is loaded: from the fork of the guest to the start of its command.

The command starts as soon as its network is configured, although that network is not served yet: a thread is still
loading the rest of the program. Frames wait in the tap for about 50 ms. A command that ends before that without using
its network needs no rest (`run.early_end`).
"""

from __future__ import annotations

import contextlib
import os
import resource
import select
import sys
import threading
import time
from functools import partial
from importlib import import_module
from typing import BinaryIO, Final

from sansnet_cli.options.records import RunOptions
from sansnet_cli.output import report
from sansnet_cli.process import readiness
from sansnet_cli.process.loading import is_plain, load
from sansnet_cli.run.early_end import wait_end
from sansnet_cli.runtime.audit import audited
from sansnet_cli.runtime.control import controlled
from sansnet_cli.runtime.job_control import JobControl
from sansnet_cli.runtime.observe import captured, observed
from sansnet_cli.runtime.ports import open_forwards
from sansnet_cli.runtime.record import recorded
from sansnet_cli.runtime.signals import CommandSignals
from sansnet_trio.guest.child import TIMEOUT
from sansnet_trio.guest.command import CommandGuest
from sansnet_trio.guest.errors import GuestError
from sansnet_trio.guest.plan import ReadyGuest
from sansnet_trio.links.tap import Tap
from sansnet_trio.linux.proc import has_one_thread
from sansnet_trio.plan.setup import Setup

__all__ = ["start"]

_REST: Final = "sansnet_cli.run.serve"
_FOR_READY: Final = ("sansnet_trio.guest.live_change", "sansnet_trio.guest.socket_agent")
"""The modules that `CommandGuest.receive_ready` needs. They are loaded while the child prepares the guest."""
_SWITCH_INTERVAL: Final = 0.00005
"""Seconds that the thread may compute while this one waits for the interpreter; with Python's own 5 ms, each system
call of this one took 5 ms more."""
_POLL_INTERVAL: Final = 0.0005
"""Seconds between two looks at a thread that ends."""
_MAX_POLLS: Final = 2000


def start(guest: CommandGuest[Setup], options: RunOptions, capture: BinaryIO | None) -> int:
    """Start the command of a guest, and serve its network until the command ends.

    Args:
        guest: the guest; its process is still preparing it.
        options: the options of `sansnet run`.
        capture: an open file for a capture.

    Returns:
        The command's exit status, or the negative number of the signal that ended it.

    Raises:
        GuestError: the guest could not be made, the command could not begin, or the guest's interface went away.
        ForwardError: a port cannot be forwarded.
        ListenError: the control socket cannot be made.
    """
    with (
        contextlib.closing(JobControl()) as jobs,
        contextlib.closing(CommandSignals()) as signals,
        controlled(options) as control,
    ):
        loading = _Loading(options)
        for name in _FOR_READY:
            import_module(name)
        try:
            ready = _wait_ready(guest, signals)
        except EOFError:  # a signal ended it early
            return guest.reap()
        setup = ready.prepared
        for warning in (*setup.warnings, *ready.warnings):
            report.warn(warning)
        if options.verbose:
            report.configuration(setup.config, ready.link, setup.addresses, setup.gateways)
            for note in ready.notes:
                report.inform(note)
        if options.ports.forwards or control.is_on:
            loading.join()  # a listener in the guest forks the socket agent, and a fork allows no other thread
        readiness.allow_many_descriptors()  # the command was forked before
        with (
            captured(capture) as file,
            audited(options) as audit,
            recorded(options) as recording,
            open_forwards(options, setup, control, guest) as forwards,
        ):
            readiness.require_descriptors()
            readiness.renounce(options.ports, controlled=control.is_on)
            guest.on_stop = partial(jobs.follow, guest)
            guest.start(foreground=jobs.separate)
            signals.separate = jobs.separate
            if capture is not None or recording is not None:
                guest.started_now()  # one that cannot start leaves the files of before as they are
            link = observed(Tap(ready.tap, ready.link, left_behind=True), options, file)
            if capture is None and is_plain(options):
                status, link = wait_end(guest, link, signals, loading.done)
                if status is not None:
                    return status
            loading.join()
            from sansnet_cli.run.serve import serve
            from sansnet_cli.runtime.session import Session

            readiness.prepare()
            session = Session(options, setup, control, forwards, guest, audit=audit, recording=recording)
            return serve(session, link, guest, signals, jobs.take_back)


class _Loading:
    """Loads the rest of the program, in a thread if there can be one. `join` raises the error if that fails.

    Attributes:
        done: a descriptor that is readable when the thread has ended, or if there is none; closed by `join`.
    """

    def __init__(self, options: RunOptions) -> None:
        self.done = os.eventfd(0)
        self._options = options
        self._thread: threading.Thread | None = None
        self._interval = sys.getswitchinterval()
        if resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY:  # else a thread's stack may not fit
            thread = threading.Thread(target=self._load, daemon=True)
            sys.setswitchinterval(_SWITCH_INTERVAL)
            with contextlib.suppress(RuntimeError):  # no more threads are allowed (ulimit -u)
                thread.start()
                self._thread = thread
        if self._thread is None:
            os.eventfd_write(self.done, 1)

    def join(self) -> None:
        """Wait until it is loaded, and the process has one thread only."""
        if self._thread is not None:
            self._thread.join()
            _wait_alone()
            self._thread = None
        sys.setswitchinterval(self._interval)
        load(self._options, _REST)
        if self.done >= 0:
            os.close(self.done)
            self.done = -1

    def _load(self) -> None:
        with contextlib.suppress(Exception):  # `join` tries again, when there may be more memory
            load(self._options, _REST)
        os.eventfd_write(self.done, 1)


def _wait_alone() -> None:
    """Wait until the kernel has ended all threads but one, which happens a moment after Python has."""
    for _ in range(_MAX_POLLS):
        if has_one_thread():
            break
        time.sleep(_POLL_INTERVAL)


def _wait_ready(guest: CommandGuest[Setup], signals: CommandSignals) -> ReadyGuest[Setup]:
    for _ in range(TIMEOUT):  # seconds; see `wait_readable`
        while readable := select.select([guest.fileno(), signals.fileno()], [], [], 1.0)[0]:
            if guest.fileno() in readable:
                return guest.receive_ready()
            signals.pass_on(guest)
    raise GuestError.unanswered(TIMEOUT)
