"""`sansnet run`, from its command line to the fork of the guest."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence

from sansnet_cli.options.records import CommandLineError, RunOptions
from sansnet_cli.process.library import load_argparse
from sansnet_cli.runtime.observe import open_capture
from sansnet_core.records import replace
from sansnet_trio.guest.command import CommandGuest
from sansnet_trio.guest.errors import CommandNotFound
from sansnet_trio.guest.plan import GuestPlan
from sansnet_trio.plan.host import read_host_for
from sansnet_trio.plan.setup import Setup, make_plan
from sansnet_trio.sandbox.mode import choose

__all__ = ["parse", "run"]


def run(arguments: Sequence[str]) -> int:
    """Run `sansnet run`.

    Args:
        arguments: the words after `run`.

    Returns:
        The command's exit status, or the negative number of the signal that ended it.
    """
    options = parse(arguments)
    choose(options.sandbox)
    if not (options.configure or options.root) and os.geteuid():
        raise CommandLineError(
            "--no-config leaves the interface to the command, which must be root to configure it; add --root"
        )
    capture = open_capture(options.pcap)
    with CommandGuest.fork(
        options.command, functools.partial(_prepare, options), host_processes=options.host_processes
    ) as guest:
        from sansnet_cli.run.start import start

        try:
            return start(guest, options, capture)
        except CommandNotFound as error:
            if options.command == (os.environ.get("SHELL"),):
                raise CommandNotFound(f"{error} in $SHELL") from error
            raise


def parse(arguments: Sequence[str]) -> RunOptions:
    """Parse the arguments after `sansnet run`; see `sansnet_cli.run.parser.parse`.

    Without options, as in most command lines, no parser is loaded: it takes a sixth of the time until the guest is
    forked.
    """
    begins = arguments[:1] == ["--"]
    command = arguments[1:] if begins else arguments
    if command and (begins or not command[0].startswith("-")):
        return RunOptions(command=tuple(command))
    load_argparse()
    from sansnet_cli.run import parser

    return parser.parse(arguments)


def _prepare(options: RunOptions) -> tuple[GuestPlan, Setup]:
    plan, setup = make_plan(options, read_host_for(options))
    return replace(plan, root=options.root), setup
