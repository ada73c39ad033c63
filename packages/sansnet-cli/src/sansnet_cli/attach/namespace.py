"""The namespace that `sansnet attach` enters: found by the options, and asked for its name servers."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Final

from sansnet_cli.options.records import AttachOptions
from sansnet_trio.hostinfo import RESOLV_CONF, parse_resolv_conf

if TYPE_CHECKING:
    from sansnet_trio.guest.target import ExistingNamespace

__all__ = ["find_namespace", "name_servers_of", "needs_resident"]

_BYTES: Final = {4: 4, 6: 16}
"""Size of the addresses of a family."""

_MAX_FILE: Final = 1 << 16
"""Bytes of a resolv.conf that are read."""


def find_namespace(options: AttachOptions) -> ExistingNamespace:
    """Find the namespace that is to be entered.

    Raises:
        GuestError: there is none, or it is not ours to enter.
    """
    from sansnet_trio.guest.target import ExistingNamespace

    if options.pid is not None:
        return ExistingNamespace.of_process(options.pid)
    assert options.netns is not None
    return ExistingNamespace.named(options.netns, options.userns)


def needs_resident(options: AttachOptions, namespace: ExistingNamespace, *, changes_user: bool = False) -> bool:
    """Whether a process has to stay in a namespace, so that its addresses and routes can follow the host's.

    Args:
        options: if they fix all addresses and routes, or the guest configures itself, nothing has to be changed.
        namespace: the guest's.
        changes_user: whether we become another user.
    """
    given, gateways = ({len(address) for address in some} for some in ((a for a, _ in options.own), options.gateways))
    fixed = all(_BYTES[family] in given & gateways for family in options.families)
    return options.configure and not fixed and (changes_user or namespace.needs_privileges())


def name_servers_of(options: AttachOptions) -> tuple[bytes, ...] | None:
    """The name servers that the programs in a namespace ask; None if that is not known.

    A process has them in the /etc/resolv.conf that it sees, and what `ip netns exec` runs in one of a name's own.
    """
    if options.pid is not None:
        path = f"/proc/{options.pid}/root{RESOLV_CONF}"
    elif options.netns is not None and "/" not in options.netns:
        path = f"/etc/netns/{options.netns}/resolv.conf"
        path = path if os.path.exists(path) else RESOLV_CONF
    else:
        return None
    try:
        # The file is a stranger's: a link would lead through our own root, and a pipe never end
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        return parse_resolv_conf(file.read(_MAX_FILE).decode(errors="replace")).nameservers
