"""Loading modules of Python's library without others that they import for features that no command uses.

`socket` imports `selectors` for a part of `sendfile`, and `argparse` imports `gettext`, whose translations are not
wanted: our messages are English, and `options.parser` reads those of argparse. Each of the two takes half a
millisecond.
"""

from __future__ import annotations

from sansnet_trio.deferred import deferred

__all__ = ["load_argparse", "load_socket"]


def load_argparse() -> None:
    """Import argparse, with messages that are not translated. No other thread may import `gettext` meanwhile."""
    with deferred(gettext={"gettext": str, "ngettext": _by_number}):
        import argparse  # noqa: F401  # it is only to be loaded


def load_socket() -> None:
    """Import socket. No other thread may import `selectors` meanwhile."""
    with deferred("selectors"):
        import socket  # noqa: F401  # it is only to be loaded


def _by_number(one: str, several: str, number: int) -> str:
    return one if number == 1 else several
