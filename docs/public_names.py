"""A Sphinx extension: the reference has every public name of the packages; a name that it lacks is a warning."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Any, Final

from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.pycode import ModuleAnalyzer
from sphinx.util.logging import getLogger

__all__ = ["PACKAGES", "setup"]

PACKAGES: Final = ("sansnet_core", "sansnet_trio", "sansnet_cli")


def _skip(app: Sphinx, _what: str, name: str, member: Any, skip: bool, _options: Any) -> bool | None:
    module = app.env.ref_context.get("py:module") or app.env.temp_data.get("autodoc:module")
    if skip and name in getattr(sys.modules.get(str(module)), "__all__", ()):
        return False  # an alias of types has no docstring that autodoc finds where it is exported: `_document` does
    return True if (getattr(member, "__doc__", None) or "").startswith("Alias for field number") else None


def _document(_app: Sphinx, what: str, name: str, _member: Any, _options: Any, lines: list[str]) -> None:
    package, _, short = name.rpartition(".")
    if what not in ("data", "type") or lines and not lines[0].startswith(("Represent a", "str(", "int(")):
        return
    for home, module in [*sys.modules.items()]:
        if home.startswith(f"{package}.") and short in getattr(module, "__all__", ()):
            analyzer = ModuleAnalyzer.for_module(home)
            lines[:] = analyzer.find_attr_docs().get(("", short), lines)


def _check(_app: Sphinx, env: BuildEnvironment) -> None:
    documented = env.domains.python_domain.objects
    for package in PACKAGES:
        for name in import_module(package).__all__:
            if f"{package}.{name}" not in documented:
                getLogger(__name__).warning("%s.%s is public and not in the reference", package, name)


def setup(app: Sphinx) -> Mapping[str, bool]:
    """Register the extension."""
    app.connect("autodoc-skip-member", _skip)
    app.connect("autodoc-process-docstring", _document)
    app.connect("env-check-consistency", _check)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
