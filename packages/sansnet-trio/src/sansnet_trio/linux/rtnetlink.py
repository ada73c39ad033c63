"""Addresses and routes of a network namespace, by netlink (rtnetlink(7)).

A container engine waits for sansnet on every start, so this has only the messages, and of each only the attributes,
that sansnet uses. The kernel answers each request at once, so the calls block. All numbers are in host byte order.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from struct import Struct
from typing import Final, NamedTuple

__all__ = ["AddressMessage", "Netlink", "Path", "RouteMessage", "subscribe"]

# linux/netlink.h
_NLMSG_ERROR: Final = 2
_NLMSG_DONE: Final = 3
_NLM_F_REQUEST: Final = 0x1
_NLM_F_ACK: Final = 0x4
_NLM_F_EXCL: Final = 0x200
_NLM_F_DUMP: Final = 0x300
_NLM_F_CREATE: Final = 0x400
_CREATE: Final = _NLM_F_CREATE | _NLM_F_EXCL
_NLA_TYPE_MASK: Final = 0x3FFF
_HEADER: Final = Struct("=IHHII")  # length, type, flags, sequence, port
_ERRNO: Final = Struct("=i")

# linux/rtnetlink.h
_RTM_NEWADDR: Final = 20
_RTM_DELADDR: Final = 21
_RTM_GETADDR: Final = 22
_RTM_NEWROUTE: Final = 24
_RTM_DELROUTE: Final = 25
_RTM_GETROUTE: Final = 26
_RTA_DST: Final = 1
_RTA_OIF: Final = 4
_RTA_GATEWAY: Final = 5
_RTA_PRIORITY: Final = 6
_RTA_PREFSRC: Final = 7
_RTA_MULTIPATH: Final = 9
_RTA_TABLE: Final = 15
_RT_TABLE_MAIN: Final = 254
_RTPROT_BOOT: Final = 3
_RT_SCOPE_UNIVERSE: Final = 0
_RT_SCOPE_LINK: Final = 253
_RTN_UNICAST: Final = 1
_RTNH_F_ONLINK: Final = 4
_ATTRIBUTE: Final = Struct("=HH")  # length, type
_ROUTE: Final = Struct("=BBBBBBBBI")  # rtmsg: family, lengths, TOS, table, protocol, scope, type, flags
_PATH: Final = Struct("=HBBi")  # rtnexthop: length, flags, hops, interface

# linux/if_addr.h
_IFA_ADDRESS: Final = 1
_IFA_LOCAL: Final = 2
_IFA_CACHEINFO: Final = 6
_IFA_FLAGS: Final = 8
_IFA_F_NODAD: Final = 0x02
_ADDRESS: Final = Struct("=BBBBI")  # ifaddrmsg: family, prefix length, flags, scope, interface
_TIMES: Final = Struct("=IIII")  # ifa_cacheinfo: preferred, valid, created, updated
_FOREVER: Final = 0xFFFFFFFF

_NUMBER: Final = Struct("=I")

# RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV4_ROUTE, RTMGRP_IPV6_IFADDR, RTMGRP_IPV6_ROUTE
_CHANGES: Final = 0x1 | 0x10 | 0x40 | 0x100 | 0x400

_ANSWER_SIZE: Final = 1 << 18
"""Bytes: more than the kernel puts into one answer (netlink_dump)."""


class AddressMessage(NamedTuple):
    """An address of an interface (`ifaddrmsg`).

    Attributes:
        interface: its index.
        local: the address, 4 or 16 bytes.
        address: the same, or that of the peer on a point-to-point interface; the prefix belongs to it.
        prefix_length: length of its prefix, in bits.
        scope: RT_SCOPE_*.
        flags: IFA_F_*.
    """

    interface: int
    local: bytes
    address: bytes
    prefix_length: int
    scope: int
    flags: int


class Path(NamedTuple):
    """The next hop of a route.

    Attributes:
        interface: its index; None if there is none.
        gateway: 4 or 16 bytes; None if there is none, or if it has the other family (RTA_VIA).
        flags: RTNH_F_*.
        hops: the weight among the paths of a multipath route.
    """

    interface: int | None
    gateway: bytes | None
    flags: int
    hops: int


class RouteMessage(NamedTuple):
    """A route (`rtmsg`).

    Attributes:
        destination: 4 or 16 bytes.
        prefix_length: length of the destination's prefix, in bits.
        source_length: the same of the sources that it applies to; 0 is all sources.
        tos: the type of service that it applies to; 0 is all.
        table: RT_TABLE_*.
        kind: RTN_*.
        flags: RTM_F_* and RTNH_F_*.
        metric: 0 if it has none.
        source: the preferred source address; None if it has none.
        paths: one, or several for a multipath route.
    """

    destination: bytes
    prefix_length: int
    source_length: int
    tos: int
    table: int
    kind: int
    flags: int
    metric: int
    source: bytes | None
    paths: tuple[Path, ...]


class Netlink:
    """A netlink socket of the calling thread's network namespace; a context manager.

    Raises:
        OSError: no socket can be made.
    """

    def __init__(self) -> None:
        self._sequence = 0
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)

    def __enter__(self) -> Netlink:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def addresses(self, family: int) -> list[AddressMessage]:
        """All addresses of a family, AF_INET or AF_INET6."""
        self._send(_RTM_GETADDR, _NLM_F_DUMP, _ADDRESS.pack(family, 0, 0, 0, 0))
        return [_address(data) for kind, data in self._answers() if kind == _RTM_NEWADDR]

    def routes(self, family: int) -> list[RouteMessage]:
        """All routes of a family, in all tables."""
        self._send(_RTM_GETROUTE, _NLM_F_DUMP, _ROUTE.pack(family, 0, 0, 0, 0, 0, 0, 0, 0))
        return self._received_routes()

    def route_to(self, destination: bytes, index: int) -> RouteMessage:
        """The route of a packet that leaves through an interface (`ip route get`). No packet is sent.

        Raises:
            OSError: there is no such route.
        """
        message = _ROUTE.pack(_family(destination), 8 * len(destination), 0, 0, 0, 0, 0, 0, 0)
        attributes = _attribute(_RTA_DST, destination) + _attribute(_RTA_OIF, _NUMBER.pack(index))
        self._send(_RTM_GETROUTE, _NLM_F_ACK, message + attributes)
        [found] = self._received_routes()
        return found

    def add_address(self, index: int, address: bytes, prefix_length: int, *, preferred: bool = True) -> None:
        """Add an address to an interface. IPv6 does not probe for duplicates.

        Args:
            index: the interface.
            address: 4 or 16 bytes.
            prefix_length: length of its prefix, in bits.
            preferred: whether new connections may use it; for IPv6 only.

        Raises:
            OSError: the kernel refuses.
        """
        attributes = b""
        if len(address) == 16:
            attributes += _attribute(_IFA_FLAGS, _NUMBER.pack(_IFA_F_NODAD))
            if not preferred:
                attributes += _attribute(_IFA_CACHEINFO, _TIMES.pack(0, _FOREVER, 0, 0))
        self._change(_RTM_NEWADDR, _CREATE, _address_of(index, address, prefix_length) + attributes)

    def delete_address(self, index: int, address: bytes, prefix_length: int) -> None:
        """Delete an address of an interface.

        Raises:
            OSError: there is no such address.
        """
        self._change(_RTM_DELADDR, 0, _address_of(index, address, prefix_length))

    def add_route(
        self, index: int, destination: bytes, prefix_length: int, gateway: bytes | None, metric: int, *, on_link: bool
    ) -> None:
        """Add a route to the main table.

        Args:
            index: the interface.
            destination: 4 or 16 bytes.
            prefix_length: length of its prefix, in bits.
            gateway: 4 or 16 bytes; None if the destination is on the link.
            metric: 0 is the kernel's default.
            on_link: whether the gateway is on the link although no other route leads to it.

        Raises:
            OSError: the kernel refuses.
        """
        route = _route_of(index, destination, prefix_length, gateway, metric, on_link)
        self._change(_RTM_NEWROUTE, _CREATE, route)

    def delete_route(
        self, index: int, destination: bytes, prefix_length: int, gateway: bytes | None, metric: int, *, on_link: bool
    ) -> None:
        """Delete a route of the main table; the arguments are those of `add_route`.

        Raises:
            OSError: there is no such route.
        """
        self._change(_RTM_DELROUTE, 0, _route_of(index, destination, prefix_length, gateway, metric, on_link))

    def _received_routes(self) -> list[RouteMessage]:
        return [_route(data) for kind, data in self._answers() if kind == _RTM_NEWROUTE]

    def _change(self, request: int, flags: int, content: bytes) -> None:
        self._send(request, _NLM_F_ACK | flags, content)
        for _ in self._answers():
            pass

    def _send(self, request: int, flags: int, content: bytes) -> None:
        self._sequence += 1
        size = _HEADER.size + len(content)
        self._socket.sendto(
            _HEADER.pack(size, request, flags | _NLM_F_REQUEST, self._sequence, 0) + content,
            (0, 0),
        )

    def _answers(self) -> Iterator[tuple[int, bytes]]:
        """Type and content of each message of an answer.

        Raises:
            OSError: the answer is an error.
        """
        while True:
            answer = self._socket.recv(_ANSWER_SIZE)
            while answer:
                length, kind, _, _, _ = _HEADER.unpack_from(answer)
                if kind == _NLMSG_DONE:
                    return
                if kind == _NLMSG_ERROR:
                    code = -_ERRNO.unpack_from(answer, _HEADER.size)[0]
                    if code:
                        raise OSError(code, os.strerror(code))
                    return
                yield kind, answer[_HEADER.size : length]
                answer = answer[_aligned(length) :]


def subscribe() -> socket.socket:
    """A non-blocking socket that is readable when links, addresses or routes of the calling thread's namespace change.

    Raises:
        OSError: no descriptor is left.
    """
    kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
    made = socket.socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE)
    try:
        made.bind((0, _CHANGES))
    except OSError:
        made.close()
        raise
    return made


def _address(data: bytes) -> AddressMessage:
    _, length, flags, scope, index = _ADDRESS.unpack_from(data)
    found = _attributes(data, _ADDRESS.size)
    local = found.get(_IFA_LOCAL) or found[_IFA_ADDRESS]
    flags = _number(found, _IFA_FLAGS) or flags  # the attribute has more bits
    return AddressMessage(index, local, found.get(_IFA_ADDRESS, local), length, scope, flags)


def _route(data: bytes) -> RouteMessage:
    family, length, source_length, tos, table, _, _, kind, flags = _ROUTE.unpack_from(data)
    found = _attributes(data, _ROUTE.size)
    several = found.get(_RTA_MULTIPATH)
    return RouteMessage(
        destination=found.get(_RTA_DST) or bytes(4 if family == socket.AF_INET else 16),
        prefix_length=length,
        source_length=source_length,
        tos=tos,
        table=_number(found, _RTA_TABLE) or table,  # the attribute has more bits
        kind=kind,
        flags=flags,
        metric=_number(found, _RTA_PRIORITY) or 0,
        source=found.get(_RTA_PREFSRC),
        paths=tuple(_paths(several))
        if several
        else (Path(_number(found, _RTA_OIF), found.get(_RTA_GATEWAY), flags, hops=0),),
    )


def _paths(data: bytes) -> Iterator[Path]:
    while len(data) >= _PATH.size:
        length, flags, hops, index = _PATH.unpack_from(data)
        yield Path(index, _attributes(data[:length], _PATH.size).get(_RTA_GATEWAY), flags, hops)
        data = data[max(_aligned(length), _PATH.size) :]


def _attributes(data: bytes, start: int) -> dict[int, bytes]:
    """Type -> value of each attribute after the fixed part of a message."""
    found = {}
    while start + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, start)
        found[kind & _NLA_TYPE_MASK] = data[start + _ATTRIBUTE.size : start + length]
        start += max(_aligned(length), _ATTRIBUTE.size)
    return found


def _number(attributes: dict[int, bytes], kind: int) -> int | None:
    value = attributes.get(kind)
    return None if value is None else int(_NUMBER.unpack(value)[0])


def _attribute(kind: int, value: bytes) -> bytes:
    """An attribute whose value has a multiple of 4 bytes."""
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value


def _address_of(index: int, address: bytes, prefix_length: int) -> bytes:
    message = _ADDRESS.pack(_family(address), prefix_length, 0, 0, index)
    return message + _attribute(_IFA_LOCAL, address) + _attribute(_IFA_ADDRESS, address)


def _route_of(
    index: int, destination: bytes, prefix_length: int, gateway: bytes | None, metric: int, on_link: bool
) -> bytes:
    scope = _RT_SCOPE_LINK if len(destination) == 4 and gateway is None else _RT_SCOPE_UNIVERSE
    message = _ROUTE.pack(
        _family(destination),
        prefix_length,
        0,
        0,
        _RT_TABLE_MAIN,
        _RTPROT_BOOT,
        scope,
        _RTN_UNICAST,
        _RTNH_F_ONLINK if gateway is not None and on_link else 0,
    )
    message += _attribute(_RTA_OIF, _NUMBER.pack(index))
    if prefix_length:
        message += _attribute(_RTA_DST, destination)
    if gateway is not None:
        message += _attribute(_RTA_GATEWAY, gateway)
    if metric:
        message += _attribute(_RTA_PRIORITY, _NUMBER.pack(metric))
    return message


def _family(address: bytes) -> int:
    return socket.AF_INET if len(address) == 4 else socket.AF_INET6


def _aligned(length: int) -> int:
    return (length + 3) & ~3
