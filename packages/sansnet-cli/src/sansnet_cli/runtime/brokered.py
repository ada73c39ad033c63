"""The broker of a command: what it does depends on the command's options."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from sansnet_cli.output import report
from sansnet_cli.runtime.following import Changeable, Follower
from sansnet_trio.broker.client import Broker
from sansnet_trio.broker.process import Duties, WatchedHost
from sansnet_trio.guest.hosts_file import HOSTS
from sansnet_trio.guest.live_change import LiveGuest
from sansnet_trio.hostinfo import RESOLV_CONF

if TYPE_CHECKING:
    from sansnet_trio.guest.target import ExistingNamespace

__all__ = ["NamespaceGuest", "brokered"]


class NamespaceGuest(Changeable, Protocol):
    """A guest in a namespace: `CommandGuest` or `AttachedGuest`."""

    @property
    def host_changes(self) -> socket.socket:
        """A netlink socket that has received the changes since the host was read."""

    def live(self) -> LiveGuest | None:
        """The guest, to be changed by the broker; None if it has a resident, which changes it."""


@contextmanager
def brokered(
    follower: Follower, guest: NamespaceGuest | None, namespace: ExistingNamespace | None
) -> Iterator[Broker | None]:
    """A broker as long as the block runs; None, with a warning, if there cannot be one.

    Args:
        follower: makes the guest's network follow the host's.
        guest: the guest in a namespace; None is a virtual machine.
        namespace: the namespace whose name is watched.
    """
    live = None if guest is None else guest.live()
    setup = follower.setup
    files = (RESOLV_CONF, HOSTS) if live is not None and live.files else (RESOLV_CONF,)
    duties = Duties(
        host=WatchedHost(follower.options, setup.host, files, None if guest is None else guest.host_changes),
        guest=None if live is None or setup.plan is None else (live, setup.plan),
        namespace=namespace,
    )
    try:
        broker = Broker(duties)
    except OSError as error:
        report.warn(f"the guest's network cannot follow the host's: {report.reason(error)}")
        yield None
        return
    with broker:
        follower.set_guest(guest if live is None else broker)
        yield broker
