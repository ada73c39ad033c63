"""Netlink (rtnetlink(7)): pyroute2's messages of addresses and routes, over a socket of our own.

Theory of operation. A container engine waits for sansnet on every start, and `import pyroute2` takes longer than the
rest of the start: it loads every protocol that it knows, an event loop and multiprocessing. The two modules needed here
take a tenth of that time (`benchmarks/compare.py --only start-up`), if an empty module takes the place of their package
while they are imported. Another thread that imports pyroute2 at that moment would get the empty module. So the first
`Netlink` imports the modules in the ordinary way, and `load_alone` imports them without their package in a process of
one thread: a forked child, or the `sansnet` command.

The kernel answers each request at once, so the calls block.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from struct import Struct
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from sansnet_trio.linux.proc import has_one_thread

if TYPE_CHECKING:
    from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg as AddressMessage
    from pyroute2.netlink.rtnl.rtmsg import rtmsg as RouteMessage

__all__ = ["Netlink", "load_alone", "subscribe"]

Message: TypeAlias = Any
"""A message of pyroute2, which has no useful types."""

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

# RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV4_ROUTE, RTMGRP_IPV6_IFADDR, RTMGRP_IPV6_ROUTE
_CHANGES: Final = 0x1 | 0x10 | 0x40 | 0x100 | 0x400

_ANSWER_SIZE: Final = 1 << 18
"""Bytes: more than the kernel puts into one answer (netlink_dump)."""

_PACKAGE: Final = "pyroute2"


class _MessageTypes(NamedTuple):
    address: type[AddressMessage]
    route: type[RouteMessage]


_loaded: _MessageTypes | None = None


class Netlink:
    """A netlink socket of the calling thread's network namespace; a context manager.

    Raises:
        OSError: no socket can be made.
    """

    def __init__(self) -> None:
        self._addresses, self._routes = _messages()
        self._sequence = 0
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)

    def __enter__(self) -> Netlink:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def addresses(self, family: int) -> list[Message]:
        """All addresses of a family."""
        return self._dump(self._addresses, _RTM_GETADDR, _RTM_NEWADDR, family)

    def routes(self, family: int) -> list[Message]:
        """All routes of a family, in all tables."""
        return self._dump(self._routes, _RTM_GETROUTE, _RTM_NEWROUTE, family)

    def route_to(self, destination: str, family: int, index: int) -> Message:
        """The route of a packet that leaves through an interface (`ip route get`). No packet is sent.

        Raises:
            OSError: there is no such route.
        """
        message = self._routes()
        message["attrs"] = [("RTA_DST", destination), ("RTA_OIF", index)]
        length = 32 if family == socket.AF_INET else 128
        self._send(message, _RTM_GETROUTE, _NLM_F_ACK, {"family": family, "dst_len": length})
        [found] = self._decoded(self._routes, _RTM_NEWROUTE)
        return found

    def add_address(self, family: int, attributes: list[tuple[str, Any]], **fields: int) -> None:
        """Add an address.

        Raises:
            OSError: the kernel refuses.
        """
        self._change(self._addresses, _RTM_NEWADDR, _CREATE, family, attributes, fields)

    def delete_address(self, family: int, attributes: list[tuple[str, Any]], **fields: int) -> None:
        """Delete an address.

        Raises:
            OSError: there is no such address.
        """
        self._change(self._addresses, _RTM_DELADDR, 0, family, attributes, fields)

    def add_route(self, family: int, attributes: list[tuple[str, Any]], **fields: int) -> None:
        """Add a route.

        Raises:
            OSError: the kernel refuses.
        """
        self._change(self._routes, _RTM_NEWROUTE, _CREATE, family, attributes, fields)

    def delete_route(self, family: int, attributes: list[tuple[str, Any]], **fields: int) -> None:
        """Delete a route.

        Raises:
            OSError: there is no such route.
        """
        self._change(self._routes, _RTM_DELROUTE, 0, family, attributes, fields)

    def _dump(self, kind: type[Message], request: int, answer: int, family: int) -> list[Message]:
        self._send(kind(), request, _NLM_F_DUMP, {"family": family})
        return self._decoded(kind, answer)

    def _decoded(self, kind: type[Message], answer: int) -> list[Message]:
        found = []
        for type_, data in self._answers():
            if type_ == answer:
                message = kind(data)
                message.decode()
                found.append(message)
        return found

    def _change(
        self,
        kind: type[Message],
        request: int,
        flags: int,
        family: int,
        attributes: list[tuple[str, Any]],
        fields: dict[str, int],
    ) -> None:
        message = kind()
        message["attrs"] = attributes
        self._send(message, request, _NLM_F_ACK | flags, {"family": family, **fields})
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


def load_alone() -> None:
    """Load pyroute2's messages without its package; in a process with several threads, in the ordinary way.

    Nothing of pyroute2 is left in `sys.modules`, so a later `import pyroute2` gets the real package.
    """
    global _loaded
    spec = find_spec(_PACKAGE) if _loaded is None and _PACKAGE not in sys.modules and has_one_thread() else None
    if spec is None or spec.submodule_search_locations is None:
        _messages()
        return
    placeholder = ModuleType(_PACKAGE)
    placeholder.__path__ = list(spec.submodule_search_locations)
    sys.modules[_PACKAGE] = placeholder
    try:
        _loaded = _import_messages()
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == _PACKAGE]:
            del sys.modules[name]


def _messages() -> _MessageTypes:
    """The classes of pyroute2's messages; the first call imports them."""
    global _loaded
    if _loaded is None:
        import_module(_PACKAGE)  # first: two threads that import a package from different ends deadlock
        _loaded = _import_messages()
    return _loaded


def _import_messages() -> _MessageTypes:
    from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
    from pyroute2.netlink.rtnl.rtmsg import rtmsg

    return _MessageTypes(ifaddrmsg, rtmsg)
