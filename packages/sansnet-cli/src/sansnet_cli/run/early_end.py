"""A command that ends while the rest of the program is still being loaded.

Theory of operation. Most of the start of sansnet is loading what serves a network, and a short command such as
`git status` ends before that is done. If it has left no process, and its guest has sent nothing that a network answers
or passes on, there is nothing to serve, and waiting would be a waste. A new interface announces its multicast groups by
itself (MLDv2, RFC 3810), which sansnet ignores; any other frame means that the guest has used its network. Then this
process serves as for any other command: the frame that was read here comes first.

This is before the process is confined, so nothing of a frame is read but the destination in its Ethernet header.
"""

from __future__ import annotations

import select
from typing import TYPE_CHECKING, Final

from sansnet_cli.output import report
from sansnet_trio.links import LinkClosed

if TYPE_CHECKING:
    from sansnet_cli.runtime.signals import CommandSignals
    from sansnet_core import Buffer
    from sansnet_trio.guest.command import CommandGuest
    from sansnet_trio.links import Link
    from sansnet_trio.plan.setup import Setup

__all__ = ["wait_end"]

_MLD: Final = bytes.fromhex("3333 0000 0016")
"""The Ethernet address of all MLDv2-capable routers, ff02::16: the destination of reports."""
_VNET_HEADER_SIZE: Final = 12


def wait_end(guest: CommandGuest[Setup], link: Link, signals: CommandSignals, loaded: int) -> tuple[int | None, Link]:
    """Wait until the command has ended or the rest is loaded; pass on signals meanwhile.

    Args:
        guest: the guest, whose command has been started.
        link: the guest's link.
        signals: the signals to pass on.
        loaded: a descriptor that is readable when the rest is loaded.

    Returns:
        The command's exit status, or the negative number of the signal that ended it, if nothing is left to serve: the
        link is closed then. Otherwise None, and the link to serve.

    Raises:
        CommandNotFound: there is no such program.
        CommandNotExecutable: the file cannot be executed.
        GuestError: the command's status cannot be known.
    """
    descriptors = [guest.events, signals.fileno(), loaded]
    while True:
        readable = select.select(descriptors, [], [])[0]
        if signals.fileno() in readable:
            signals.pass_on(guest)
        if guest.events in readable and guest.has_ended():
            break
        if loaded in readable:
            return None, link
    status = guest.wait_now()
    try:
        used = _used_link(guest, link)
    except Exception as error:  # the status is known, and no failure changes it
        report.warn_unclean(error)
        used = None
    if used is None:
        link.close()
        return status, link
    return None, used


def _used_link(guest: CommandGuest[Setup], link: Link) -> Link | None:
    """The link to serve after the command's end; None if nothing is left to serve."""
    if guest.has_remaining():  # they may use the network until they are ended
        return link
    guest.end_remaining_now()
    frame = _first_used(link)
    if frame is None:
        return None
    from sansnet_cli.run.unread import UnreadLink

    return UnreadLink(link, [frame])


def _first_used(link: Link) -> Buffer | None:
    """The first frame with which the guest has used its network; None if there is none."""
    start = _VNET_HEADER_SIZE if link.config.vnet_header else 0
    try:
        while frames := link.read_frames(1):
            if bytes(frames[0][start : start + len(_MLD)]) != _MLD:
                return frames[0]
    except (LinkClosed, OSError):  # the guest deleted its interface
        pass
    return None
