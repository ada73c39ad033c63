"""Loading trio without what it imports for features that no command uses.

Theory of operation. `import trio` loads all of trio, and with it TLS, DTLS and IDNA: 3 MB of libraries, and a tenth of
the time until a guest is served. So trio gets placeholders, each of which imports its module at its first use, which
never comes in a command (`sansnet_trio.deferred`). attrs imports `platform`, which compiles ten regular expressions,
only to ask whether this is PyPy.

trio also asks `ctypes.util.find_library` for the library of threads, to name them. That starts `/sbin/ldconfig -p` and
reads its answer, or even a compiler where there is no such program. While trio is loaded, the answer is the name that
the library has on Linux with glibc; where there is no such library, threads have no names.

The library `sansnet_trio` does none of this: it imports trio as any program does.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Final

from sansnet_trio.deferred import deferred

__all__ = ["UNUSED", "load_trio"]

UNUSED: Final = ("hmac", "idna", "ssl")
"""Modules that trio uses in functions alone, and that no command needs."""

_FINDER: Final = "ctypes.util"


def load_trio() -> None:
    """Import trio. No other thread may import a module of `UNUSED`, `ctypes.util` or `platform` meanwhile."""
    if "trio" not in sys.modules:
        known = {"python_implementation": lambda: "PyPy" if sys.implementation.name == "pypy" else "CPython"}
        with deferred(*UNUSED, platform=known), _libraries_by_name():
            import_module("trio")


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
