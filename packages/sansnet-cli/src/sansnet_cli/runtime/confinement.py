"""Confining the process that serves guests, with the profile that its options need."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from sansnet_cli.options.records import AttachOptions, MachineOptions, QemuOptions, RunOptions
from sansnet_cli.output import report
from sansnet_trio.sandbox import Level, chosen, confine
from sansnet_trio.sandbox.profiles import Feature, main

if TYPE_CHECKING:
    from sansnet_cli.options.records import GuestOptions

__all__ = ["confine_main"]


def confine_main(options: GuestOptions, *, controlled: bool) -> Level:
    """Confine this process, the last step before it serves guests.

    Args:
        options: the command's options.
        controlled: whether there is a control socket.
    """
    level = confine(main(set(_features(options, controlled=controlled))), chosen())
    if options.verbose:
        report.inform(f"sandbox: {level}")
    return level


def _features(options: GuestOptions, *, controlled: bool) -> Iterator[Feature]:
    if controlled:
        yield Feature.CONTROL
    if controlled or options.ports.forwards:
        yield Feature.FORWARDS
    if any(forward.auto for forward in options.ports.forwards):
        yield Feature.AUTO
    if isinstance(options, RunOptions | QemuOptions):
        yield Feature.CHILD
    if isinstance(options, AttachOptions) and options.ends_with_namespace:
        yield Feature.DIRECTORY
    if isinstance(options, MachineOptions):
        yield Feature.MACHINES
        if options.vhost_user:
            yield Feature.VHOST_USER
