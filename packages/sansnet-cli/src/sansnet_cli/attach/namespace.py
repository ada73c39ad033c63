"""The namespace that `sansnet attach` enters: how to find it, what its guest gets, which name servers it uses."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Final

from sansnet_cli.options.records import AttachOptions
from sansnet_trio.hostinfo import RESOLV_CONF, parse_resolv_conf
from sansnet_trio.linux import netlink_messages
from sansnet_trio.linux.rtnetlink import subscribe

if TYPE_CHECKING:
    from sansnet_trio.guest.attached import AttachedGuest
    from sansnet_trio.guest.plan import GuestPlan
    from sansnet_trio.guest.target import ExistingNamespace
    from sansnet_trio.plan.setup import Setup

__all__ = ["find_namespace", "name_servers_of", "needs_resident", "prepared"]

_BYTES: Final = {4: 4, 6: 16}
"""Size of the addresses of a family."""

_MAX_FILE: Final = 1 << 16
"""Bytes of a resolv.conf that are read, at most."""


@contextmanager
def prepared(
    options: AttachOptions, plan: Callable[[], tuple[GuestPlan, Setup]]
) -> Iterator[Callable[[], AttachedGuest[Setup]]]:
    """Find the namespace, read the host and plan the guest, before any fork: a child copies each page it writes to.

    Args:
        options: name the namespace.
        plan: reads the host, and returns the guest's plan.

    Yields a function that starts the guest, once: see `AttachedGuest.fork`.

    Raises:
        GuestError: the namespace does not exist, or entering it is not permitted.
        OSError: no descriptor is left.
        Exception: `plan` raised it.
    """
    from sansnet_trio.guest.attached import AttachedGuest

    netlink_messages.load()
    with closing(find_namespace(options)) as namespace, subscribe() as host_changes:
        planned = plan()
        stays = needs_resident(options)
        yield partial(AttachedGuest.fork, namespace, lambda: planned, stays=stays, host_changes=host_changes)


def find_namespace(options: AttachOptions) -> ExistingNamespace:
    """Find the namespace that the options name.

    Raises:
        GuestError: it does not exist, or entering it is not permitted.
    """
    from sansnet_trio.guest.target import ExistingNamespace

    if options.pid is not None:
        return ExistingNamespace.of_process(options.pid)
    assert options.netns is not None
    return ExistingNamespace.named(options.netns, options.userns)


def needs_resident(options: AttachOptions) -> bool:
    """Whether a process must stay in the namespace to change its addresses and routes when those of the host change.

    None is needed if the options set all addresses and gateways, or if the guest configures itself.
    """
    own = {len(address) for address, _ in options.own}
    gateways = {len(address) for address in options.gateways}
    fixed = all(_BYTES[family] in own & gateways for family in options.families)
    return options.configure and not fixed


def name_servers_of(options: AttachOptions) -> tuple[bytes, ...] | None:
    """The name servers that programs in the namespace use; None if they are not known.

    For a process they are in its own /etc/resolv.conf. For a namespace with a name, `ip netns exec` shows its programs
    /etc/netns/NAME/resolv.conf if that exists.
    """
    if options.pid is not None:
        path = f"/proc/{options.pid}/root{RESOLV_CONF}"
    elif options.netns is not None and "/" not in options.netns:
        path = f"/etc/netns/{options.netns}/resolv.conf"
        path = path if os.path.exists(path) else RESOLV_CONF
    else:
        return None
    try:
        # The file belongs to another user: a link would lead through our own root, and a pipe could block for ever
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        return parse_resolv_conf(file.read(_MAX_FILE).decode(errors="replace")).nameservers
