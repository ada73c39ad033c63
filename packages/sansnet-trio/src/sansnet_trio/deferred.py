"""Modules that are loaded at their first use, for other packages that import them and use them in functions alone.

Python's own `importlib.util.LazyLoader` does not do, since the second import of a lazy module loads it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType

__all__ = ["deferred"]


@contextmanager
def deferred(*names: str, **used: Mapping[str, object]) -> Iterator[None]:
    """Modules that are imported in the block are loaded at their first use, unless they are loaded already.

    No other thread may import them meanwhile. After the block, an import of them is an ordinary one.

    Args:
        names: the modules.
        used: further ones, of which some attributes are used at once: their names, and what stands for them.
    """
    wanted: dict[str, Mapping[str, object]] = {**{name: {} for name in names}, **used}
    placeholders = [_Placeholder(name, known) for name, known in wanted.items() if name not in sys.modules]
    sys.modules.update((placeholder.__name__, placeholder) for placeholder in placeholders)
    try:
        yield
    finally:
        for placeholder in placeholders:
            placeholder.leave()


class _Placeholder(ModuleType):
    """Stands for a module whose attributes are not needed yet."""

    def __init__(self, name: str, known: Mapping[str, object]) -> None:
        super().__init__(name)
        vars(self).update(known)

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):  # an import looks for those of packages
            raise AttributeError(name)
        self.leave()
        return getattr(import_module(self.__name__), name)

    def leave(self) -> None:
        """Leave the place to the module itself."""
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
