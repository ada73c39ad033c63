"""A Sphinx extension: makes the reference of a package from the docstrings of its public names.

A page has the line `<!-- names: PACKAGE HOME... -->`. It is replaced by the package's docstring and all names of its
`__all__`, under the modules where they are defined, in the order that the line begins; then come its public modules,
which are in `__all__` too, or in the list of the package's docstring.
"""

from __future__ import annotations

import inspect
import re
import sys
import textwrap
from collections.abc import Mapping
from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType
from typing import Any, Final

from sphinx.application import Sphinx
from sphinx.pycode import ModuleAnalyzer

__all__ = ["listed_modules", "markdown", "setup"]

_MARK: Final = re.compile(r"^<!-- names: (\S+)((?: [\w.]+)*) -->$", re.MULTILINE)

_COLON: Final = "\ue000"
"""Stands for a colon while napoleon works; a character for private use."""


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
    for name in listed_modules(package):
        if name not in modules:
            own = import_module(f"{package}.{name}").__all__
            homes.setdefault(f"{package}.{name}", []).extend(
                f"{package}.{name}.{each}" for each in own if each not in module.__all__
            )
    for home, names in homes.items():
        homes[home] = [full for full in names if not _is_described_elsewhere(full, homes)]
    parts = [_rst(f".. automodule:: {package}\n   :no-members:")]
    for home, names in homes.items():
        short = home.removeprefix(f"{package}.")
        if short in modules:
            parts += [f"## {short}", _rst(f".. automodule:: {home}\n   :no-members:")]
        elif names and home != package:
            parts += [f"## {short}", _rst(_first_paragraph(import_module(home)))]
        parts += [_rst(_directive(full, home)) for full in names]
    return "\n\n".join(parts)


def _is_described_elsewhere(full: str, homes: Mapping[str, list[str]]) -> bool:
    """Whether a name of a module is one that it only passes on from a folder whose names are shown, too."""
    module, _, name = full.rpartition(".")
    folder = getattr(getattr(import_module(module), name), "__module__", "").rpartition(".")[0]
    return module != folder and f"{folder}.{name}" in homes.get(folder, ())


def listed_modules(package: str) -> list[str]:
    """The modules that a package's docstring lists as public, without the package's name.

    In place of a folder that exports no names, its modules are listed.
    """
    _, _, listed = (import_module(package).__doc__ or "").partition("which are public too:")
    lines = [line for line in listed.splitlines() if line.startswith("- `")]
    names = [name for line in lines for name in re.findall(r"`([\w.]+)`", line.partition(":")[0])]
    found: list[str] = []
    for name in names:
        module = import_module(f"{package}.{name}")
        parts = [each.name for each in iter_modules(getattr(module, "__path__", []))]
        found += (
            [name]
            if {*getattr(module, "__all__", ())} - {*parts} or not parts
            else [f"{name}.{part}" for part in parts]
        )
    return found


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


def _split(_app: Sphinx, _what: str, _name: str, _value: Any, _options: Any, lines: list[str]) -> None:
    """Give each of several attributes that share a description (`tcp, udp: whether ...`) an entry of its own.

    Napoleon does that for arguments only. Of attributes, it would take all names but the last for a type.
    """
    found: list[str] = []
    shared: list[str] = []
    inside = False
    for line in [*lines, "end"]:
        if shared and not line.startswith(" " * 5):
            names, _, text = shared[0].strip().partition(": ")
            for name in names.split(", "):
                found += [f"    {name}: {text}", *shared[1:]]
            shared = []
        if line and not line.startswith(" "):
            inside = line == "Attributes:"
        if shared or (inside and re.match(r" {4}\w+(, \w+)+: ", line)):
            shared.append(line)
        else:
            found.append(line)
    lines[:] = found[:-1]


def _hide_colon(_app: Sphinx, what: str, _name: str, _value: Any, _options: Any, lines: list[str]) -> None:
    """Hide colons in the first line about an attribute from napoleon, which takes the words before one for a type."""
    if what in {"attribute", "data", "property"} and lines:
        lines[0] = lines[0].replace(":", _COLON)


def _show_colon(_app: Sphinx, _what: str, _name: str, _value: Any, _options: Any, lines: list[str]) -> None:
    lines[:] = [line.replace(_COLON, ":") for line in lines]


def setup(app: Sphinx) -> Mapping[str, bool]:
    """Register the extension."""
    app.connect("source-read", _fill)
    app.connect("autodoc-process-docstring", _split, priority=400)  # napoleon has 500
    app.connect("autodoc-process-docstring", _hide_colon, priority=400)
    app.connect("autodoc-process-docstring", _show_colon, priority=600)
    app.connect("autodoc-skip-member", _skip)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
