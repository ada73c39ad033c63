"""Loading all modules before the user changes, because the new user may not be allowed to read the installation."""

from __future__ import annotations

import pkgutil
from importlib import import_module
from typing import Final

import sansnet_cli
import sansnet_core
import sansnet_trio
from sansnet_trio.linux import rtnetlink

__all__ = ["load_everything"]

_LIBRARIES: Final = ("encodings.idna", "encodings.unicode_escape", "linecache", "logging", "traceback", "trio")
"""Modules that the standard library and trio load late: codecs, and those that print a traceback."""

_PROGRAM: Final = "sansnet_cli.__main__"


def load_everything() -> None:
    """Import all modules of sansnet, and those of libraries that are imported late."""
    for name in _LIBRARIES:
        import_module(name)
    for package in (sansnet_core, sansnet_trio, sansnet_cli):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if module.name != _PROGRAM:
                import_module(module.name)
    rtnetlink.load_alone()
