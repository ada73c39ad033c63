"""What guests in network namespaces have in common, whether the namespace is made or exists already."""

from __future__ import annotations

from typing import Generic, NamedTuple, TypeVar

from sansnet_core.config import LinkConfig
from sansnet_core.records import Record
from sansnet_trio.guest.hosts_file import HostsEntry
from sansnet_trio.hostinfo import InterfaceAddress, Route
from sansnet_trio.links.tap import MTU

__all__ = ["GuestPlan", "ReadyGuest"]

T = TypeVar("T")


class GuestPlan(Record):
    """What a guest is to have.

    Attributes:
        interface: name of its interface.
        mtu: of the interface, in bytes.
        mac: its Ethernet address; None leaves it to the kernel.
        configure: whether the interface gets addresses and routes, and is brought up. If not, that is left to a DHCP
            client or the like in the guest.
        addresses, routes: of the interface, both families.
        ipv6: whether the interface may have IPv6 at all.
        resolv_conf: contents of the guest's /etc/resolv.conf; None leaves it as it is on the host.
        hosts: entries that come first in the guest's /etc/hosts; without any, that is the host's.
        hostname: None leaves it as it is on the host.
        root: whether the command of an ordinary user is root in the user namespace that owns the guest's network, with
            all capabilities over it. Otherwise it has the user and group that started it, and no capabilities.
    """

    interface: str = "tap0"
    mtu: int = MTU.default
    mac: bytes | None = None
    configure: bool = True
    addresses: tuple[InterfaceAddress, ...] = ()
    routes: tuple[Route, ...] = ()
    ipv6: bool = True
    resolv_conf: str | None = None
    hosts: tuple[HostsEntry, ...] = ()
    hostname: str | None = None
    root: bool = False


class ReadyGuest(NamedTuple, Generic[T]):
    """What `Guest.ready` and `AttachedGuest.ready` say.

    Attributes:
        tap: an open tap, the reader's to close; with `link` it makes a `Tap`.
        link: what the tap can do.
        prepared: what `prepare` returned besides the plan.
        warnings: sentences about what could not be had, and was done without.
    """

    tap: int
    link: LinkConfig
    prepared: T
    warnings: tuple[str, ...]
