"""Loading trio without what it imports for features that no command uses.

Theory of operation. `import trio` loads all of trio, and with it TLS, DTLS, IDNA, files and processes: 4 MB of memory
of its own, two fifths of the time that it takes. So trio and its dependencies get placeholders, each of which imports
its module at its first use (`sansnet_trio.deferred`). In a command that never comes: what it uses stands in `_USED`.

trio also asks `ctypes.util.find_library` for the library of threads, to name them. That starts `/sbin/ldconfig -p` and
reads its answer, or even a compiler where there is no such program. While trio is loaded, the answer is the name that
the library has on Linux with glibc; where there is no such library, threads have no names.

The library `sansnet_trio` does none of this: it imports trio as any program does.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from types import AsyncGeneratorType, CoroutineType, ModuleType
from typing import Any, Final

from sansnet_trio.deferred import deferred

__all__ = ["UNUSED", "load_trio"]


def _instance_of(type: type) -> Callable[[object, object, object], None]:
    """A validator of attrs; that of exceptions, in `outcome`, is the only one."""

    def check(instance: object, attribute: Any, value: object) -> None:
        if not isinstance(value, type):
            raise TypeError(f"{attribute.name!r} must be {type!r} (got {value!r})")

    return check


_PUBLISHED: Final = {
    "sortedcontainers.sortedset": "SortedSet",
    "trio._channel": "MemoryChannelStatistics MemoryReceiveChannel MemorySendChannel as_safe_channel "
    "open_memory_channel",
    "trio._core._mock_clock": "MockClock",
    "trio._core._unbounded_queue": "UnboundedQueue UnboundedQueueStatistics",
    "trio._dtls": "DTLSChannel DTLSChannelStatistics DTLSEndpoint",
    "trio._highlevel_open_tcp_listeners": "open_tcp_listeners serve_tcp",
    "trio._highlevel_open_tcp_stream": "open_tcp_stream",
    "trio._highlevel_open_unix_stream": "open_unix_socket",
    "trio._highlevel_ssl_helpers": "open_ssl_over_tcp_listeners open_ssl_over_tcp_stream serve_ssl_over_tcp",
    "trio._path": "Path PosixPath WindowsPath",
    "trio._ssl": "NeedHandshakeError SSLListener SSLStream",
    "trio._subprocess": "Process open_process run_process",
}
"""Modules -> what others publish of them, and no command uses: it is None."""

_CLOSED: Final = "CORO_CLOSED"

_USED: Final[Mapping[str, Mapping[str, object]]] = {
    "attr.validators": {"instance_of": _instance_of},
    "inspect": {  # for locks and threads, and for dataclasses since Python 3.12
        "CORO_CLOSED": _CLOSED,
        "get_annotations": lambda owner: dict(vars(owner).get("__annotations__", ())),
        "getcoroutinestate": lambda coroutine: _CLOSED if coroutine.cr_frame is None else "CORO_SUSPENDED",
        "isasyncgen": lambda value: isinstance(value, AsyncGeneratorType),
        "iscoroutine": lambda value: isinstance(value, CoroutineType),
    },
    "platform": {"python_implementation": lambda: {"pypy": "PyPy"}.get(sys.implementation.name, "CPython")},
    **{module: dict.fromkeys(names.split()) for module, names in _PUBLISHED.items()},
}
"""Modules -> what is used of them while trio is loaded, or later, and what stands for it."""

UNUSED: Final = (*_USED, "idna")
"""Modules that trio and its dependencies import, and that no command needs."""

_FINDER: Final = "ctypes.util"


def load_trio() -> None:
    """Import trio. No other thread may import a module of `UNUSED` or `ctypes.util` meanwhile."""
    if "trio" not in sys.modules:
        with deferred(*UNUSED, **_USED), _libraries_by_name():
            import_module("trio")
            import_module("dataclasses")  # the core's, which need `inspect` only for classes without a docstring


@contextmanager
def _libraries_by_name() -> Iterator[None]:
    """`ctypes.util.find_library` answers without a search in the block."""
    if _FINDER in sys.modules:
        yield
        return
    finder = ModuleType(_FINDER)
    vars(finder)["find_library"] = lambda name: f"lib{name}.so.0"
    sys.modules[_FINDER] = vars(ctypes)["util"] = finder
    try:
        yield
    finally:
        del sys.modules[_FINDER], vars(ctypes)["util"]
