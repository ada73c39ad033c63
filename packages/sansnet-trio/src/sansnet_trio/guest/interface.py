"""Making and configuring a guest's interface; called in the guest's network namespace."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Collection, Iterable, Sequence
from typing import Final

from sansnet_core import addresses
from sansnet_core.config import LinkConfig
from sansnet_trio.guest.errors import GuestError
from sansnet_trio.guest.plan import GuestPlan
from sansnet_trio.guest.user_namespace import not_permitted
from sansnet_trio.hostinfo import InterfaceAddress, Route
from sansnet_trio.links.tap import bring_up, open_tap
from sansnet_trio.linux import files, syscalls
from sansnet_trio.linux.rtnetlink import Netlink
from sansnet_trio.words import word

__all__ = ["allow_low_ports", "allow_ping", "configure", "open_interface", "reconfigure"]

_MAX_GID: Final = (1 << 31) - 1
"""The highest group id in ping_group_range (net/ipv4/ping.c)."""

_LOOPBACK: Final = "lo"


def allow_ping() -> None:
    """Allow all groups of the guest to open ping sockets, which a nested guest needs."""
    extents = [[int(word) for word in line.split()] for line in files.read("/proc/self/gid_map").splitlines()]
    last = next((min(count - 1, _MAX_GID) for first, _, count in extents if first == 0), 0)
    _set_variable("ipv4/ping_group_range", f"0 {last}")


def allow_low_ports() -> None:
    """Allow all users of the guest to bind ports below 1024: TCP and UDP, IPv4 and IPv6."""
    _set_variable("ipv4/ip_unprivileged_port_start", "0")


def _set_variable(name: str, value: str) -> None:
    """Set a sysctl of the network namespace; it keeps its default if it is missing or /proc is read-only."""
    with contextlib.suppress(OSError):
        files.write(f"/proc/sys/net/{name}", value)


def open_interface(plan: GuestPlan) -> tuple[int, LinkConfig]:
    """Make the guest's interface; see `open_tap`.

    Raises:
        GuestError: it cannot be made.
    """
    device = "/dev/net/tun"
    try:
        return open_tap(plan.interface, mtu=plan.mtu, mac=plan.mac)
    except OSError as error:
        match error.errno:
            case errno.ENOENT | errno.ENODEV | errno.ENXIO:
                remedy = "load the module as root (modprobe tun), or give the container the device"
                message = f"{device} is missing; {remedy}"
            case errno.EACCES if os.statvfs(device).f_flag & os.ST_NODEV:
                mount = _mount_point(device)
                message = (
                    f"{mount} is mounted with nodev, so {device} does not work; as root: mount -o remount,dev {mount}"
                )
            case errno.EACCES:
                message = f"no permission to open {device}; as root: chmod 0666 {device}"
            case errno.ENOTTY:
                message = f"{device} is not the tun device; as root: rm {device}; mknod {device} c 10 200"
            case errno.EPERM if error.filename == device:
                message = f"{device} may not be opened here; give the container this device, as by --device {device}"
            case errno.EPERM:
                raise not_permitted("an interface cannot be made") from error
            case errno.EMFILE | errno.ENFILE:
                raise
            case errno.EBUSY:
                problem = f"another program has interface {plan.interface!r}"
                message = f"{problem}; end that, or give another name with {word('ifname=')}"
            case errno.EINVAL if _exists(plan.interface):
                problem = f"there is an interface {plan.interface!r} already, which is not a tap"
                message = f"{problem}; give another name with {word('ifname=')}"
            case _:
                message = f"interface {plan.interface!r} cannot be made with MTU {plan.mtu}: {error.strerror}"
        raise GuestError(message) from error


def _exists(interface: str) -> bool:
    return any(name == interface for _, name in socket.if_nameindex())


def _mount_point(path: str) -> str:
    while not os.path.ismount(path):
        path = os.path.dirname(path)
    return path


def configure(plan: GuestPlan, warnings: list[str]) -> None:
    """Bring up the loopback interface, and the guest's interface with its addresses and routes.

    Addresses and routes that exist already stay.

    Args:
        plan: plan of the guest.
        warnings: gets a sentence for each route that could not be added.

    Raises:
        GuestError: the interface cannot have an address.
    """
    variables = f"ipv6/conf/{plan.interface}"
    if not plan.ipv6:
        _set_variable(f"{variables}/disable_ipv6", "1")
    bring_up(_LOOPBACK)
    if not plan.configure:
        return
    # The guest is alone on the link, so it needs no duplicate address detection, and no router advertisements.
    _set_variable(f"{variables}/accept_dad", "0")
    _set_variable(f"{variables}/accept_ra", "0")
    bring_up(plan.interface)
    with Netlink() as netlink:
        index = syscalls.interface_index(plan.interface)
        for own in plan.addresses:
            _add_address(netlink, index, own)
        for route in _add_routes(netlink, index, plan.routes):
            destination = f"{addresses.format(route.destination)}/{route.prefix_length}"
            warnings.append(f"the route to {destination} could not be copied to the guest")


def reconfigure(old: GuestPlan, new: GuestPlan, kept: Collection[bytes], given_up: Collection[bytes]) -> None:
    """Change addresses and routes of the guest's interface, which is up. Those that the guest added itself stay.

    Args:
        old: the present plan.
        new: the new plan.
        kept: old addresses to keep for connections that use them; new connections do not use them.
        given_up: addresses that were kept until now, and are no longer used.

    Raises:
        OSError: there is no such interface.
        GuestError: the interface cannot have an address.
    """
    index = syscalls.interface_index(new.interface)
    with Netlink() as netlink:
        for route in set(old.routes) - set(new.routes):
            with contextlib.suppress(OSError):  # the kernel deleted it with its address, or the guest did
                netlink.delete_route(index, *_arguments(route), on_link=route.on_link)
        _delete_addresses(netlink, index, (InterfaceAddress(address, 8 * len(address)) for address in given_up))
        for size in (4, 16):
            before = [own for own in old.addresses if len(own.address) == size]
            after = [own for own in new.addresses if len(own.address) == size]
            # The order of IPv4 addresses matters: it is the order in which they were added
            _delete_addresses(netlink, index, before if size == 4 and before != after else set(before) - set(after))
            for own in after:
                _add_address(netlink, index, own)
        present = {own.address for own in new.addresses}
        for address in kept:
            if address not in present:
                _add_address(netlink, index, InterfaceAddress(address, 8 * len(address)), preferred=False)
        _add_routes(netlink, index, new.routes)


def _delete_addresses(netlink: Netlink, index: int, gone: Iterable[InterfaceAddress]) -> None:
    for own in gone:
        with contextlib.suppress(OSError):  # the guest deleted it, or the kernel did with the primary address
            netlink.delete_address(index, own.address, own.prefix_length)


def _add_address(netlink: Netlink, index: int, own: InterfaceAddress, *, preferred: bool = True) -> None:
    try:
        netlink.add_address(index, own.address, own.prefix_length, preferred=preferred)
    except OSError as error:
        if error.errno != errno.EEXIST:
            raise GuestError(f"the guest cannot have the address {own}: {error.strerror}") from error


def _add_routes(netlink: Netlink, index: int, routes: Sequence[Route]) -> list[Route]:
    """Add routes in an order that their dependencies allow; returns those that could not be added."""
    left = sorted(routes, key=lambda route: route.gateway is not None)
    while True:
        failed = []
        for route in left:
            try:
                netlink.add_route(index, *_arguments(route), on_link=route.on_link)
            except OSError as error:
                if error.errno != errno.EEXIST:  # the kernel adds the route to an address's network
                    failed.append(route)
        if len(failed) in (0, len(left)):
            return failed
        left = failed


def _arguments(route: Route) -> tuple[bytes, int, bytes | None, int]:
    """The arguments of `Netlink.add_route`."""
    return route.destination, route.prefix_length, route.gateway, route.metric
