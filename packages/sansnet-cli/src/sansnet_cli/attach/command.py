"""`sansnet attach`, from its command line to the fork of the process that prepares the namespace."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

from sansnet_cli.attach.namespace import name_servers_of, prepared
from sansnet_cli.attach.parser import parse
from sansnet_cli.options.records import AttachOptions
from sansnet_cli.process import background
from sansnet_cli.runtime.observe import open_capture
from sansnet_core.records import replace
from sansnet_trio.guest.attached import AttachedGuest
from sansnet_trio.guest.plan import GuestPlan
from sansnet_trio.plan.host import read_host_for
from sansnet_trio.plan.host_names import warn_unanswered
from sansnet_trio.plan.setup import Setup, make_plan
from sansnet_trio.sandbox.mode import choose

__all__ = ["attach"]


def attach(arguments: Sequence[str]) -> int:
    """Run `sansnet attach`.

    Args:
        arguments: the words after `attach`.

    Returns:
        The exit status.
    """
    options = parse(arguments)
    choose(options.sandbox)
    with prepared(options, functools.partial(_plan, options)) as fork:
        work = functools.partial(_attach, options, fork)
        return background.start(work, background=options.background, pid_file=options.pid_file)


def _attach(options: AttachOptions, fork: Callable[[], AttachedGuest[Setup]], on_ready: Callable[[], None]) -> None:
    capture = open_capture(options.pcap)
    with fork() as guest:
        from sansnet_cli.attach.start import start

        start(guest, options, capture, on_ready=lambda setup: on_ready())


def _plan(options: AttachOptions) -> tuple[GuestPlan, Setup]:
    plan, setup = make_plan(options, read_host_for(options))
    asked = name_servers_of(options) if options.hosts else None
    return plan, replace(setup, warnings=(*setup.warnings, *warn_unanswered(options, setup.config, asked)))
