"""pyroute2's messages of addresses and routes.

Theory of operation. A container engine waits for sansnet on every start, and `import pyroute2` takes longer than the
rest of the start: it loads every protocol that it knows, an event loop and multiprocessing. The two modules needed here
take 2 ms, if an empty module takes the place of their package while they are imported, and what they hardly use of
Python's library is loaded at its first use: `logging`, and modules in Python around `_thread` and `_weakref`, of which
they need little more than those have. Another thread that imports these modules at that moment would get them, too. So
a process with several threads imports pyroute2 in the ordinary way.
"""

from __future__ import annotations

import _thread
import _weakref
import sys
from collections.abc import Mapping
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from sansnet_trio.deferred import deferred
from sansnet_trio.linux.proc import has_one_thread

if TYPE_CHECKING:
    from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
    from pyroute2.netlink.rtnl.rtmsg import rtmsg

__all__ = ["Message", "MessageTypes", "load"]

Message: TypeAlias = Any
"""A message of pyroute2, which has no useful types."""

_PACKAGE: Final = "pyroute2"


class MessageTypes:
    """The classes of messages.

    Attributes:
        address: an address of an interface (`ifaddrmsg`).
        route: a route (`rtmsg`).
    """

    def __init__(self, address: type[ifaddrmsg], route: type[rtmsg]) -> None:
        self.address = address
        self.route = route


_loaded: MessageTypes | None = None


class _Logger:
    """A logger that loads `logging` at its first use."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> object:
        import logging

        return getattr(logging.getLogger(self._name), attribute)


_USED: Final[dict[str, Mapping[str, object]]] = {
    "logging": {"getLogger": _Logger},
    "threading": {"Lock": _thread.allocate_lock, "local": _thread._local},
    "weakref": {"proxy": _weakref.proxy},
}
"""Modules that the messages use little of: what they use while they are imported, or for each message."""


def load() -> MessageTypes:
    """The classes of messages. The first call imports them; after it, `import pyroute2` imports the whole package."""
    global _loaded
    if _loaded is None:
        if _PACKAGE in sys.modules or not has_one_thread():
            import_module(_PACKAGE)  # first: two threads that import a package from different ends deadlock
            _loaded = _import_messages()
        else:
            _loaded = _import_alone()
    return _loaded


def _import_messages() -> MessageTypes:
    from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
    from pyroute2.netlink.rtnl.rtmsg import rtmsg

    return MessageTypes(ifaddrmsg, rtmsg)


def _import_alone() -> MessageTypes:
    """Import the messages without their package; nothing of pyroute2 is left in `sys.modules`."""
    placeholder = ModuleType(_PACKAGE)
    spec = next(filter(None, (finder.find_spec(_PACKAGE, None) for finder in sys.meta_path)), None)
    if spec is None:
        raise ModuleNotFoundError(f"No module named {_PACKAGE!r}", name=_PACKAGE)
    placeholder.__path__ = list(spec.submodule_search_locations or ())
    sys.modules[_PACKAGE] = placeholder
    try:
        with deferred("traceback", **_USED):
            return _import_messages()
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == _PACKAGE]:
            del sys.modules[name]
