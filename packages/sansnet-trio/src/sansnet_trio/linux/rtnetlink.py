"""Addresses and routes of a network namespace, by netlink (rtnetlink(7)): pyroute2's messages over a socket of our own.

The kernel answers each request at once, so the calls block.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from struct import Struct
from typing import Any, Final, NamedTuple

from sansnet_core import addresses
from sansnet_trio.linux import netlink_messages
from sansnet_trio.linux.netlink_messages import Message

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
_HEADER: Final = Struct("=IHHII")  # length, type, flags, sequence, port
_ERRNO: Final = Struct("=i")

# linux/rtnetlink.h
_RTM_NEWADDR: Final = 20
_RTM_DELADDR: Final = 21
_RTM_GETADDR: Final = 22
_RTM_NEWROUTE: Final = 24
_RTM_DELROUTE: Final = 25
_RTM_GETROUTE: Final = 26
_RT_TABLE_MAIN: Final = 254
_RTPROT_BOOT: Final = 3
_RT_SCOPE_UNIVERSE: Final = 0
_RT_SCOPE_LINK: Final = 253
_RTN_UNICAST: Final = 1
_RTNH_F_ONLINK: Final = 4

# linux/if_addr.h
_IFA_F_NODAD: Final = 0x02
_FOREVER: Final = 0xFFFFFFFF

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
        self._types = netlink_messages.load()
        self._sequence = 0
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)

    def __enter__(self) -> Netlink:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def addresses(self, family: int) -> list[AddressMessage]:
        """All addresses of a family, AF_INET or AF_INET6."""
        self._send(self._types.address(), _RTM_GETADDR, _NLM_F_DUMP, {"family": family})
        return [_address(message) for message in self._decoded(self._types.address, _RTM_NEWADDR)]

    def routes(self, family: int) -> list[RouteMessage]:
        """All routes of a family, in all tables."""
        self._send(self._types.route(), _RTM_GETROUTE, _NLM_F_DUMP, {"family": family})
        return self._received_routes()

    def route_to(self, destination: bytes, index: int) -> RouteMessage:
        """The route of a packet that leaves through an interface (`ip route get`). No packet is sent.

        Raises:
            OSError: there is no such route.
        """
        message = self._types.route()
        message["attrs"] = [("RTA_DST", addresses.format(destination)), ("RTA_OIF", index)]
        fields = {"family": _family(destination), "dst_len": 8 * len(destination)}
        self._send(message, _RTM_GETROUTE, _NLM_F_ACK, fields)
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
        attributes: list[tuple[str, Any]] = []
        if len(address) == 16:
            attributes.append(("IFA_FLAGS", _IFA_F_NODAD))
            if not preferred:
                times = {"ifa_preferred": 0, "ifa_valid": _FOREVER, "cstamp": 0, "tstamp": 0}
                attributes.append(("IFA_CACHEINFO", times))
        self._change_address(_RTM_NEWADDR, _CREATE, index, address, prefix_length, attributes)

    def delete_address(self, index: int, address: bytes, prefix_length: int) -> None:
        """Delete an address of an interface.

        Raises:
            OSError: there is no such address.
        """
        self._change_address(_RTM_DELADDR, 0, index, address, prefix_length, [])

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
        self._change_route(_RTM_NEWROUTE, _CREATE, index, destination, prefix_length, gateway, metric, on_link)

    def delete_route(
        self, index: int, destination: bytes, prefix_length: int, gateway: bytes | None, metric: int, *, on_link: bool
    ) -> None:
        """Delete a route of the main table; the arguments are those of `add_route`.

        Raises:
            OSError: there is no such route.
        """
        self._change_route(_RTM_DELROUTE, 0, index, destination, prefix_length, gateway, metric, on_link)

    def _received_routes(self) -> list[RouteMessage]:
        return [_route(message) for message in self._decoded(self._types.route, _RTM_NEWROUTE)]

    def _decoded(self, kind: type[Message], answer: int) -> Iterator[Message]:
        for number, data in self._answers():
            if number == answer:
                message = kind(data)
                message.decode()
                yield message

    def _change_address(
        self, request: int, flags: int, index: int, address: bytes, prefix_length: int, more: list[tuple[str, Any]]
    ) -> None:
        text = addresses.format(address)
        message = self._types.address()
        message["attrs"] = [("IFA_LOCAL", text), ("IFA_ADDRESS", text), *more]
        fields = {"family": _family(address), "prefixlen": prefix_length, "index": index}
        self._change(message, request, flags, fields)

    def _change_route(
        self,
        request: int,
        flags: int,
        index: int,
        destination: bytes,
        prefix_length: int,
        gateway: bytes | None,
        metric: int,
        on_link: bool,
    ) -> None:
        attributes: list[tuple[str, Any]] = [("RTA_OIF", index)]
        if prefix_length:
            attributes.append(("RTA_DST", addresses.format(destination)))
        if gateway is not None:
            attributes.append(("RTA_GATEWAY", addresses.format(gateway)))
        if metric:
            attributes.append(("RTA_PRIORITY", metric))
        message = self._types.route()
        message["attrs"] = attributes
        fields = {
            "family": _family(destination),
            "dst_len": prefix_length,
            "table": _RT_TABLE_MAIN,
            "proto": _RTPROT_BOOT,
            "scope": _RT_SCOPE_LINK if len(destination) == 4 and gateway is None else _RT_SCOPE_UNIVERSE,
            "type": _RTN_UNICAST,
            "flags": _RTNH_F_ONLINK if gateway is not None and on_link else 0,
        }
        self._change(message, request, flags, fields)

    def _change(self, message: Message, request: int, flags: int, fields: dict[str, int]) -> None:
        self._send(message, request, _NLM_F_ACK | flags, fields)
        for _ in self._answers():
            pass

    def _send(self, message: Message, request: int, flags: int, fields: dict[str, int]) -> None:
        for name, value in fields.items():
            message[name] = value
        self._sequence += 1
        header = {"type": request, "flags": flags | _NLM_F_REQUEST, "sequence_number": self._sequence, "pid": 0}
        message["header"] = header
        message.encode()
        self._socket.sendto(message.data, (0, 0))

    def _answers(self) -> Iterator[tuple[int, bytes]]:
        """Type and bytes of each message of an answer.

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
                yield kind, answer[:length]
                answer = answer[(length + 3) & ~3 :]


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


def _address(message: Message) -> AddressMessage:
    local = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
    return AddressMessage(
        interface=message["index"],
        local=addresses.parse(local),
        address=addresses.parse(message.get_attr("IFA_ADDRESS") or local),
        prefix_length=message["prefixlen"],
        scope=message["scope"],
        flags=message.get_attr("IFA_FLAGS") or message["flags"],  # the attribute has more bits
    )


def _route(message: Message) -> RouteMessage:
    destination = _parsed(message.get_attr("RTA_DST"))
    several = message.get_attr("RTA_MULTIPATH")
    return RouteMessage(
        destination=destination or bytes(4 if message["family"] == socket.AF_INET else 16),
        prefix_length=message["dst_len"],
        source_length=message["src_len"],
        tos=message["tos"],
        table=message.get_attr("RTA_TABLE") or message["table"],  # the attribute has more bits
        kind=message["type"],
        flags=message["flags"],
        metric=message.get_attr("RTA_PRIORITY") or 0,
        source=_parsed(message.get_attr("RTA_PREFSRC")),
        paths=tuple(_path(path, path["oif"], path["hops"]) for path in several)
        if several
        else (_path(message, message.get_attr("RTA_OIF"), hops=0),),
    )


def _path(message: Message, interface: int | None, hops: int) -> Path:
    return Path(interface, _parsed(message.get_attr("RTA_GATEWAY")), message["flags"], hops)


def _parsed(text: str | None) -> bytes | None:
    return addresses.parse(text) if text else None


def _family(address: bytes) -> int:
    return socket.AF_INET if len(address) == 4 else socket.AF_INET6
