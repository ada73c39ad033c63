"""The namespace that `sansnet attach` enters: how to find it, and which name servers its programs use."""

from __future__ import annotations

import os
import stat
from importlib import import_module
from typing import TYPE_CHECKING, Final

from sansnet_cli.options.records import AttachOptions
from sansnet_trio.hostinfo import RESOLV_CONF, parse_resolv_conf
from sansnet_trio.linux import netlink_messages

if TYPE_CHECKING:
    from sansnet_trio.guest.target import ExistingNamespace

__all__ = ["find_namespace", "load_preparation", "name_servers_of", "needs_resident"]

_BYTES: Final = {4: 4, 6: 16}
"""Size of the addresses of a family."""

_MAX_FILE: Final = 1 << 16
"""Bytes of a resolv.conf that are read, at most."""


def load_preparation() -> None:
    """Load the modules that prepare a namespace, before the forks: a child copies each page that it writes to."""
    netlink_messages.load()
    for name in ("sansnet_trio.guest.attached", "sansnet_trio.guest.target"):
        import_module(name)


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
