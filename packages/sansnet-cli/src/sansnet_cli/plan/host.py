"""What the host has of what the options name: interfaces and addresses to copy or use, a namespace to enter."""

from __future__ import annotations

import errno
import os
import socket
import stat
from typing import TYPE_CHECKING, Final

from sansnet_cli.options.records import AttachOptions, NetworkOptions
from sansnet_core import addresses
from sansnet_core.records import replace
from sansnet_trio.hostinfo import RESOLV_CONF, HostError, HostInfo, parse_resolv_conf, read_host, read_resolvers

if TYPE_CHECKING:
    from sansnet_trio.guest.target import ExistingNamespace

__all__ = ["find_namespace", "name_servers_of", "needs_resident", "read_again", "read_host_for"]

_FAMILIES: Final = {4: socket.AF_INET, 16: socket.AF_INET6}
"""By size of an address."""

_BYTES: Final = {4: 4, 6: 16}
"""Size of a family's addresses."""

_MAX_FILE: Final = 1 << 16
"""Bytes of a resolv.conf that are read."""


def read_host_for(options: NetworkOptions) -> HostInfo:
    """Read what a guest's network is modelled on.

    Raises:
        HostError: the host lacks an interface or an address that the options name.
    """
    host = _read(options)
    for family, device, uplink in ((4, options.outbound_if4, host.ipv4), (6, options.outbound_if6, host.ipv6)):
        if device is not None and family in options.families:
            what = f"--outbound-if{family} {device}"
            if options.interface is None and uplink is None:
                raise HostError(f"{what} has no IPv{family} address that the guest could have too; give another one")
            _check_device(what, device)
    for address in options.outbound:
        if (4 if len(address) == 4 else 6) in options.families:  # else it is not the host that is wrong
            _check_address(address)
    return host


def read_again(options: NetworkOptions, last: HostInfo) -> HostInfo:
    """Read it again while a guest runs. What the host lacks for the moment is as it was last."""
    try:
        host = _read(options)
    except (HostError, OSError):  # the interface that the options name is not there
        return replace(last, resolvers=read_resolvers())
    return replace(host, ipv4=host.ipv4 or last.ipv4, ipv6=host.ipv6 or last.ipv6)


def _read(options: NetworkOptions) -> HostInfo:
    return read_host(
        interface4=options.interface or options.outbound_if4, interface6=options.interface or options.outbound_if6
    )


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
    return options.configure and not fixed and (changes_user or namespace.takes_privileges())


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


def _check_device(what: str, device: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
        except OSError as error:
            if error.errno == errno.EPERM:
                raise HostError(f"{what} needs Linux 5.7 or newer, or root; leave it out") from error
            raise HostError(f"{what} cannot be used ({error.strerror}); give another one") from error


def _check_address(address: bytes) -> None:
    text = addresses.format(address)
    with socket.socket(_FAMILIES[len(address)], socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((text, 0))
        except OSError as error:
            raise HostError(
                f"-o {text} is not an address of the host's ({error.strerror}); give one that is"
            ) from error
