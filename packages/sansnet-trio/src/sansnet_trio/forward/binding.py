"""Binding the listening sockets of forwarded ports, and explaining why one cannot be bound."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Iterator
from socket import (
    AF_INET6,
    IPPROTO_IP,
    IPPROTO_IPV6,
    IPV6_V6ONLY,
    SO_BINDTODEVICE,
    SO_REUSEADDR,
    SOCK_DGRAM,
    SOCK_STREAM,
    SOL_SOCKET,
)
from socket import socket as Socket
from typing import Any, Final, NamedTuple, Self

from sansnet_core import ConfigError, SansnetError, addresses
from sansnet_core.addresses import LOOPBACK, AnyAddress, checked_port, packed
from sansnet_core.ports import TCP, UDP, ForwardRule
from sansnet_trio.host.sockaddr import encode, family_of
from sansnet_trio.host.sockopts import IP_FREEBIND, prepare_forwarded, prepare_listener
from sansnet_trio.linux import files
from sansnet_trio.linux.descriptors import MORE_DESCRIPTORS, SHORTAGE
from sansnet_trio.linux.syscalls import MAX_BACKLOG, interface_index
from sansnet_trio.words import word

__all__ = [
    "ForwardError",
    "ListenAddress",
    "described",
    "ephemeral_ports",
    "guest_listen_address",
    "bind_in_guest",
    "bind_listener",
    "listen_addresses",
]

_LATER: Final = "try again later"
_ANY: Final = {4: bytes(4), 16: bytes(16)}
_LOOPBACK_INTERFACE: Final = "lo"
_TAKEN: Final = frozenset({errno.EADDRINUSE, errno.EPERM, errno.ENODEV})
"""Errors for a socket on all of the guest's loopback addresses: the guest uses the port at one of its addresses, or
(before Linux 5.7) only privileged processes may bind a socket to an interface."""
_KINDS: Final = {True: SOCK_STREAM, False: SOCK_DGRAM}


class ForwardError(SansnetError):
    """Ports cannot be forwarded; the message is one sentence that names the remedy.

    Attributes:
        is_shortage: whether the cause is a lack of resources, so that other ports fail, too.
    """

    is_shortage = False

    @classmethod
    def of(cls, forward: ForwardRule, at: ListenAddress, error: OSError) -> ForwardError:
        """The error for a listening socket that cannot be bound."""
        side = "host" if at.inbound else "guest"
        at = _without_interface(at)
        where = "" if at.address is None else f" at {addresses.format(at.address)}"
        problem = f"{described(forward)}: port {at.port} of the {side} cannot be bound{where}"
        made = cls(f"{problem} ({error.strerror or error}); {_remedy(at, error)}")
        made.is_shortage = error.errno in SHORTAGE
        made.__cause__ = error
        return made

    @classmethod
    def lookup_failed(cls, error: OSError) -> ForwardError:
        """The error for ports of the other side that cannot be looked up."""
        remedy = MORE_DESCRIPTORS if error.errno in SHORTAGE else _LATER
        return cls(f"the ports for auto cannot be looked up ({error.strerror}); {remedy}")


def described(rule: ForwardRule) -> str:
    """A rule in a message for the user."""
    kind = "TCP" if rule.protocol == TCP else "UDP"
    if not rule.inbound:
        kind += " (inbound=False)"
    return f"{word(kind)} {rule.spec()}"


class _ListenAddress(NamedTuple):
    protocol: int
    inbound: bool
    address: bytes | None
    interface: str | None
    port: int


class ListenAddress(_ListenAddress):
    """Where a listener is bound.

    Args:
        protocol: `TCP` or `UDP`.
        inbound: whether it is on the host; otherwise it is in the guest, see `guest_listen_address`.
        address: in any form; None means all addresses of both families. The attribute is 4 or 16 bytes.
        interface: name of an interface; None means all.
        port: port number.

    Raises:
        ConfigError: the protocol, the address or the port is wrong.
    """

    __slots__ = ()

    def __new__(
        cls, protocol: int, inbound: bool, address: AnyAddress | None, interface: str | None, port: int
    ) -> Self:
        if protocol not in (TCP, UDP):
            raise ConfigError(f"protocol: {protocol!r} is neither 6 (TCP) nor 17 (UDP)")
        where = None if address is None else packed(address, zone=True)
        return super().__new__(cls, protocol, inbound, where, interface, checked_port(port))

    def _replace(self, **changes: Any) -> Self:
        return type(self)(**{**self._asdict(), **changes})

    __replace__ = _replace


def listen_addresses(forward: ForwardRule, sizes: Iterable[int], ports: Iterable[int]) -> Iterator[ListenAddress]:
    """Where to listen for a rule.

    One socket serves both families, except for `auto`, since the followed socket may be of one family, and for UDP,
    whose socket options differ.

    Args:
        forward: the rule.
        sizes: sizes of the addresses of the wanted families: 4 and 16, or one of them.
        ports: the wanted ports of the rule.
    """
    sizes = sorted(sizes)
    if not forward.inbound:
        yield from (guest_listen_address(forward.protocol, size, port) for port in ports for size in sizes)
        return
    where: list[bytes | None]
    if forward.address is not None:
        where = [forward.address] if len(forward.address) in sizes else []
    elif len(sizes) == 2 and forward.protocol == TCP and not forward.auto:
        where = [None]
    else:
        where = [_ANY[size] for size in sizes]
    for port in ports:
        for address in where:
            yield ListenAddress(forward.protocol, forward.inbound, address, forward.interface, port)


def guest_listen_address(protocol: int, size: int, port: int) -> ListenAddress:
    """Where to listen in the guest: at ::1, or at all IPv4 addresses on its loopback interface.

    These are 127.0.0.0/8 and the guest's own addresses; connections to the latter are refused.
    """
    if size == 4:
        return ListenAddress(protocol, False, _ANY[4], _LOOPBACK_INTERFACE, port)
    return ListenAddress(protocol, False, LOOPBACK[16], None, port)


def bind_in_guest(at: ListenAddress, make: Callable[[int, int], Socket]) -> Socket:
    """Like `bind_listener`, for an address in the guest; at 127.0.0.1 only if the guest uses the port itself.

    Raises:
        OSError: see bind(2) and listen(2).
    """
    try:
        return bind_listener(at, make, freebind=False)
    except OSError as error:
        if at.interface is None or error.errno not in _TAKEN:
            raise
    return bind_listener(_without_interface(at), make, freebind=False)


def _without_interface(at: ListenAddress) -> ListenAddress:
    return at if at.inbound or at.interface is None else at._replace(address=LOOPBACK[4], interface=None)


def bind_listener(at: ListenAddress, make: Callable[[int, int], Socket], *, freebind: bool) -> Socket:
    """Make a listening socket.

    Args:
        at: where to bind it.
        make: makes a non-blocking socket on the right side from family and kind.
        freebind: whether the host may lack the address.

    Raises:
        OSError: see bind(2) and listen(2).
    """
    stream = at.protocol == TCP
    family = AF_INET6 if at.address is None else family_of(at.address)
    made = make(family, _KINDS[stream])
    try:
        if stream:
            made.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
            if family == AF_INET6:
                made.setsockopt(IPPROTO_IPV6, IPV6_V6ONLY, at.address is not None)
        elif at.inbound:
            prepare_forwarded(made, family)
        else:
            prepare_listener(made, family)
        scope = 0
        if at.interface is not None:
            scope = interface_index(at.interface) if at.inbound else 0
            made.setsockopt(SOL_SOCKET, SO_BINDTODEVICE, os.fsencode(at.interface))
        if freebind:
            made.setsockopt(IPPROTO_IP, IP_FREEBIND, 1)  # serves IPv6 sockets too
        made.bind(encode(_ANY[16] if at.address is None else at.address, at.port, scope))
        if stream:
            made.listen(MAX_BACKLOG)
    except BaseException:
        made.close()
        raise
    return made


def _remedy(at: ListenAddress, error: OSError) -> str:
    match error.errno:
        case errno.EACCES | errno.EPERM:
            setting = f"net.ipv4.ip_unprivileged_port_start={at.port}"
            return f"give another port, or allow it as root: sysctl -w {setting}"
        case errno.EADDRINUSE:
            return "give another port, or end the program that has it"
        case errno.EADDRNOTAVAIL:
            return (
                f"give an address that the host has, or {word('Forwards(freebind=True)')} if it gets this address later"
            )
        case None | errno.ENODEV:  # Python itself raises it, without an errno
            return f"give another interface; there is none named {at.interface!r}"
        case errno.EINVAL if at.address is not None and addresses.is_link_local(at.address):
            return f"name the interface of a link-local address, as {addresses.format(at.address)}%eth0/{at.port}"
        case errno.EAGAIN:  # from fork()
            return "allow more processes, for example: ulimit -u 1000"
        case errno.ETIMEDOUT:  # NoAgent
            return _LATER
        case number if number in SHORTAGE:
            return f"give fewer ports, or {MORE_DESCRIPTORS}"
        case _:
            return "give another port"


def ephemeral_ports() -> range:
    """The ports that the host assigns to sockets without a fixed port (ip_local_port_range)."""
    try:
        first, last = files.read("/proc/sys/net/ipv4/ip_local_port_range").split()
    except (OSError, ValueError):
        return range(32768, 61000)  # Linux's default
    return range(int(first), int(last) + 1)
