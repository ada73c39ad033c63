"""The plan of a guest in a network namespace, and the result of making it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Generic, NamedTuple, TypeVar

from sansnet_core import fields
from sansnet_core.addresses import AnyAddress
from sansnet_core.config import LinkConfig
from sansnet_core.fields import OptionalMac, instance, optional, several
from sansnet_core.records import Converted, Record, field
from sansnet_trio.guest.hosts_file import HostsEntry
from sansnet_trio.hostinfo import InterfaceAddresses, Route, interface_address
from sansnet_trio.links.tap import MTU

__all__ = ["GuestPlan", "ReadyGuest"]

T = TypeVar("T")


def _hosts_entry(value: tuple[AnyAddress, Sequence[str]]) -> HostsEntry:
    """A line of /etc/hosts."""
    if not isinstance(value, tuple) or len(value) != 2:
        raise ValueError(f"{value!r} is not a pair of an address and its names")
    names = several(str)(value[1])
    return fields.address(value[0]), names


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
    mac: OptionalMac = field(optional(fields.mac), default=None)
    configure: bool = True
    addresses: InterfaceAddresses = field(several(interface_address), default=())
    routes: Converted[Iterable[Route], tuple[Route, ...]] = field(several(instance(Route)), default=())
    ipv6: bool = True
    resolv_conf: str | None = None
    hosts: Converted[Iterable[tuple[AnyAddress, Sequence[str]]], tuple[HostsEntry, ...]] = field(
        several(_hosts_entry), default=()
    )
    hostname: str | None = None
    root: bool = False


class ReadyGuest(NamedTuple, Generic[T]):
    """The result of `CommandGuest.ready` and `AttachedGuest.ready`.

    Attributes:
        tap: descriptor of the guest's tap, which the caller must close; a `Tap` is made from it and `link`.
        link: properties of the tap.
        prepared: the second value that `prepare` returned.
        warnings: sentences about parts of the plan that could not be carried out.
        notes: sentences about parts of the guest that are like the host's here, although they are its own elsewhere.
    """

    tap: int
    link: LinkConfig
    prepared: T
    warnings: tuple[str, ...]
    notes: tuple[str, ...] = ()
