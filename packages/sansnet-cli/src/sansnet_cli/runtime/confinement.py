"""Confining the process that serves guests, with the profile that its options need."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from sansnet_cli.options.records import MachineOptions, QemuOptions, RunOptions
from sansnet_cli.output import report
from sansnet_trio.linux.unix_socket import has_network_cookies
from sansnet_trio.sandbox import Level, chosen, confine
from sansnet_trio.sandbox.profiles import Feature, main

if TYPE_CHECKING:
    from sansnet_cli.options.records import GuestOptions

__all__ = ["confine_main"]


def confine_main(options: GuestOptions, *, controlled: bool, prompts: bool) -> Level:
    """Confine this process, the last step before it serves guests.

    Args:
        options: the command's options.
        controlled: whether there is a control socket.
        prompts: whether it asks on the terminal about flows.
    """
    level = confine(main(set(_features(options, controlled=controlled, prompts=prompts))), chosen())
    if options.verbose:
        report.inform(f"sandbox: {level}")
    return level


def _features(options: GuestOptions, *, controlled: bool, prompts: bool) -> Iterator[Feature]:
    if isinstance(options, RunOptions | QemuOptions):
        yield Feature.CHILD
    if not isinstance(options, MachineOptions):
        yield Feature.TAP
    elif options.vhost_user:
        yield Feature.VHOST_USER
    if controlled or isinstance(options, MachineOptions):
        yield Feature.CLIENTS
    if controlled or options.ports.forwards:
        yield Feature.FORWARDS
    if prompts:
        yield Feature.PROMPT
    if controlled and not has_network_cookies():
        yield Feature.OLD_CONTROL
