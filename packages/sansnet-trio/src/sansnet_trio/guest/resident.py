"""A process that stays in a guest's network namespace, and changes addresses and routes of the guest's interface.

Theory of operation. The process that serves the guest cannot enter the namespace again once it is confined, or has
given up its privileges or its user. So the child that configured the interface stays. It keeps CAP_NET_ADMIN and
nothing else.

An attacker who controls the serving process must not gain that capability, which may cover more than this namespace:
all network namespaces of the initial user namespace, if root made this one. So the resident accepts only addresses and
routes for the one interface that it configured, and ends at the first request that is anything else (`change_message`).
"""

from __future__ import annotations

import gc
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

from sansnet_trio.guest import change_message, helper_process
from sansnet_trio.guest.errors import GuestError
from sansnet_trio.guest.interface import reconfigure
from sansnet_trio.guest.plan import GuestPlan
from sansnet_trio.linux.privileges import CAP_NET_ADMIN

if TYPE_CHECKING:
    from sansnet_trio.guest.live_change import GuestChange

__all__ = ["serve_changes"]


def serve_changes(channel: socket.socket, plan: GuestPlan, is_orphan: Callable[[], bool]) -> None:
    """Make the changes that are requested, until the other end of the channel is closed.

    Called in the process that stays, in the guest's network namespace.

    Args:
        channel: a stream socket to the parent.
        plan: plan of the guest.
        is_orphan: tells whether the parent has ended.
    """
    from sansnet_trio.sandbox import chosen, confine  # while files can still be read
    from sansnet_trio.sandbox.profiles import RESIDENT

    gc.disable()  # finalizers of the parent's garbage could close descriptors that this process opens
    helper_process.detach()
    helper_process.keep_only(channel.fileno(), {CAP_NET_ADMIN})
    if is_orphan():
        return
    confine(RESIDENT, chosen())
    with channel.makefile("rb") as lines:
        while line := lines.readline(change_message.MAX_LINE):
            channel.sendall(_answer(change_message.decode(line, plan)))


def _answer(change: GuestChange) -> bytes:
    try:
        reconfigure(change.old, change.new, change.kept, change.given_up)
    except (OSError, GuestError) as error:
        return change_message.failure(error)
    return change_message.success()
