"""A Sphinx extension: makes the reference of a package from the docstrings of its public names.

A page has the line `<!-- names: PACKAGE HOME... -->`. It is replaced by the package's docstring and all names of its
`__all__`, under the modules where they are defined, in the order that the line begins; then come its public modules.
"""

from __future__ import annotations

import inspect
import re
import sys
import textwrap
from collections.abc import Mapping
from importlib import import_module
from types import ModuleType
from typing import Any, Final

from sphinx.application import Sphinx
from sphinx.pycode import ModuleAnalyzer

__all__ = ["markdown", "setup"]

_MARK: Final = re.compile(r"^<!-- names: (\S+)((?: [\w.]+)*) -->$", re.MULTILINE)


def markdown(package: str, first: tuple[str, ...] = ()) -> str:
    """The reference of a package."""
    module = import_module(package)
    homes: dict[str, list[str]] = {f"{package}.{home}": [] for home in first}
    modules = [name for name in module.__all__ if inspect.ismodule(getattr(module, name))]
    for name in module.__all__:
        if name not in modules:
            homes.setdefault(_home(module, name), []).append(f"{package}.{name}")
    for name in modules:
        own = getattr(getattr(module, name), "__all__", ())
        homes.setdefault(f"{package}.{name}", []).extend(
            f"{package}.{name}.{each}" for each in own if each not in module.__all__
        )
    parts = [_rst(f".. automodule:: {package}\n   :no-members:")]
    for home, names in homes.items():
        short = home.removeprefix(f"{package}.")
        if short in modules:
            parts += [f"## {short}", _rst(f".. automodule:: {home}\n   :no-members:")]
        elif names and home != package:
            parts += [f"## {short}", _rst(_first_paragraph(import_module(home)))]
        parts += [_rst(_directive(full, home)) for full in names]
    return "\n\n".join(parts)


def _home(package: ModuleType, name: str) -> str:
    """The module where a public name of a package is defined; for an alias of types, the one that exports it."""
    home = getattr(getattr(package, name), "__module__", "")
    if home.startswith(package.__name__):
        return str(home)
    exporting = (
        other
        for other, module in [*sys.modules.items()]
        if other.startswith(f"{package.__name__}.") and name in getattr(module, "__all__", ())
    )
    return max(exporting, key=len, default=package.__name__)


def _directive(full: str, home: str) -> str:
    package, _, name = full.rpartition(".")
    value = getattr(import_module(package), name)
    if inspect.ismodule(value):
        return f".. automodule:: {full}\n   :no-members:"
    if inspect.isclass(value) and value.__name__ == name:
        kind = "autoexception" if issubclass(value, BaseException) else "autoclass"
        return f".. {kind}:: {full}\n   :members:"
    if inspect.isroutine(value):
        return f".. autofunction:: {full}"
    docs = ModuleAnalyzer.for_module(home).find_attr_docs().get(("", name), [])
    return f".. py:currentmodule:: {package}\n\n.. py:data:: {name}\n\n{textwrap.indent(chr(10).join(docs), '   ')}"


def _first_paragraph(module: ModuleType) -> str:
    return (inspect.getdoc(module) or "").partition("\n\n")[0]


def _rst(text: str) -> str:
    return f"```{{eval-rst}}\n{text}\n```"


def _fill(_app: Sphinx, _name: str, source: list[str]) -> None:
    source[0] = _MARK.sub(lambda match: markdown(match[1], tuple(match[2].split())), source[0])


def _skip(_app: Sphinx, _what: str, _name: str, member: Any, _skip: bool, _options: Any) -> bool | None:
    """Skip the fields of a NamedTuple: the docstring of the class has them."""
    return True if (getattr(member, "__doc__", None) or "").startswith("Alias for field number") else None


def setup(app: Sphinx) -> Mapping[str, bool]:
    """Register the extension."""
    app.connect("source-read", _fill)
    app.connect("autodoc-skip-member", _skip)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
