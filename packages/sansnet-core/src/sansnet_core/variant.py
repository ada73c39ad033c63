"""Which variant of the core this is: the sources as they are, or some of them compiled (docs/design/packaging.md).

It asks the machinery of imports, and loads no other module: `sansnet --version` needs it.
"""

from importlib.machinery import ExtensionFileLoader, PathFinder

__all__ = ["COMPILED", "VARIANT"]

TYPE_CHECKING = False  # as in `typing`, which is not loaded
if TYPE_CHECKING:
    from typing import Final

_found = PathFinder.find_spec("sansnet_core.egress", [__file__.rpartition("/")[0]])

COMPILED: "Final[bool]" = _found is not None and isinstance(_found.loader, ExtensionFileLoader)
"""Whether the modules that handle each packet are compiled."""

VARIANT: "Final[str]" = "compiled" if COMPILED else "pure Python"
"""The same for people."""
