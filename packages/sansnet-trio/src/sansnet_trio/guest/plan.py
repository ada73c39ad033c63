"""The plan of a guest in a network namespace, and the result of making it."""

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
    """Interface, files, names and user of a guest.

    Attributes:
        interface: name of its interface.
        mtu: MTU of the interface, in bytes.
        mac: Ethernet address of the interface, 6 bytes; None lets the kernel choose one.
        configure: whether the interface gets addresses and routes and is brought up. If not, a DHCP client or the like
            in the guest must do that.
        addresses, routes: addresses and routes of the interface, for both families.
        ipv6: whether IPv6 is enabled on the interface.
        resolv_conf: contents of the guest's /etc/resolv.conf; None keeps the host's.
        hosts: entries to put first in the guest's /etc/hosts; without any, the guest has the host's file.
        hostname: host name of the guest; None keeps the host's.
        root: whether the command of an ordinary user is root in the user namespace that owns the guest's network, with
            all capabilities over it. Otherwise it keeps the user and group that started it, without capabilities.
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
    """The result of `CommandGuest.ready` and `AttachedGuest.ready`.

    Attributes:
        tap: descriptor of the guest's tap, which the caller must close; a `Tap` is made from it and `link`.
        link: properties of the tap.
        prepared: the second value that `prepare` returned.
        warnings: sentences about parts of the plan that could not be carried out.
    """

    tap: int
    link: LinkConfig
    prepared: T
    warnings: tuple[str, ...]
