"""The parts of the host that the options name: interfaces and addresses, read and checked."""

from __future__ import annotations

import errno
import socket
from typing import Final

from sansnet_core import addresses
from sansnet_core.errors import expect
from sansnet_core.records import replace
from sansnet_trio.hostinfo import HostError, HostInfo, read_host, read_resolvers
from sansnet_trio.linux import memory
from sansnet_trio.linux.reserved_ports import read_reserved_ports
from sansnet_trio.plan.options import NetworkOptions

__all__ = ["read_again", "read_host_for"]

_FAMILIES: Final = {4: socket.AF_INET, 16: socket.AF_INET6}
"""By size of an address."""


def read_host_for(options: NetworkOptions) -> HostInfo:
    """Read the host's network, as far as a guest's network is copied from it, and its limits. Blocks like `read_host`.

    Args:
        options: name the interfaces and source addresses to use; the host chooses those that they leave out.

    Raises:
        HostError: the host lacks an interface or an address that the options name.
    """
    expect("options", options, NetworkOptions, "NetworkOptions or NamespaceOptions")
    host = replace(_read(options), memory=memory.for_guest(), reserved_ports=read_reserved_ports())
    for family, device, uplink in ((4, options.outbound_if4, host.ipv4), (6, options.outbound_if6, host.ipv6)):
        if device is not None and family in options.families:
            what = options.word(f"outbound_if{family}", device)
            if options.interface is None and uplink is None:
                raise HostError(f"{what} has no IPv{family} address to copy to the guest; give another one")
            _check_device(what, device)
    for address in options.outbound:
        if (4 if len(address) == 4 else 6) in options.families:  # of another family, `make_setup` refuses it
            _check_address(options, address)
    return host


def read_again(options: NetworkOptions, last: HostInfo) -> HostInfo:
    """Read the host's network again while a guest runs. Parts that are missing at the moment stay as in `last`.

    So do the limits, which cannot change while a network runs.
    """
    try:
        host = _read(options)
    except (HostError, OSError):  # the interface that the options name is not there
        return replace(last, resolvers=read_resolvers())
    return replace(
        host,
        ipv4=host.ipv4 or last.ipv4,
        ipv6=host.ipv6 or last.ipv6,
        memory=last.memory,
        reserved_ports=last.reserved_ports,
    )


def _read(options: NetworkOptions) -> HostInfo:
    return read_host(
        interface4=options.interface or options.outbound_if4, interface6=options.interface or options.outbound_if6
    )


def _check_device(what: str, device: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
        except OSError as error:
            if error.errno == errno.EPERM:
                raise HostError(f"{what} needs Linux 5.7 or newer, or root; leave it out") from error
            raise HostError(f"{what} cannot be used ({error.strerror}); give another one") from error


def _check_address(options: NetworkOptions, address: bytes) -> None:
    text = addresses.format(address)
    with socket.socket(_FAMILIES[len(address)], socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((text, 0))
        except OSError as error:
            problem = f"{options.word('outbound', text)} is not an address of the host ({error.strerror})"
            raise HostError(f"{problem}; give one of its addresses") from error
