"""Work for the children of processes with several threads: such a child is a new Python, which imports it."""

from __future__ import annotations

import os
import sys

from sansnet_trio.guest.child import Channel
from sansnet_trio.linux.proc import has_one_thread
from sansnet_trio.linux.rtnetlink import Netlink
from sansnet_trio.sandbox import chosen


def count_addresses(channel: Channel, parent: int) -> None:
    """Send the number of IPv4 addresses."""
    with Netlink() as netlink:
        channel.send(len(netlink.addresses(2)))


def describe(number: int, channel: Channel, parent: int) -> None:
    """Send facts about the child, and the contents of a descriptor that it got."""
    channel.send((sys.path, os.getpid(), os.getppid() == parent, has_one_thread(), os.read(number, 100)))


def mode_of_the_sandbox(channel: Channel, parent: int) -> None:
    """Send the mode."""
    channel.send(chosen())


def fail(channel: Channel, parent: int) -> None:
    """Raise an exception."""
    raise LookupError("lost")


def nothing() -> None:
    """Do nothing."""
