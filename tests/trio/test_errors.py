"""The exceptions of the package have one root."""

from __future__ import annotations

import inspect
import pkgutil
from importlib import import_module

import sansnet_trio
from sansnet_core import SansnetError


def test_every_exception_is_a_sansnet_error() -> None:
    names = [info.name for info in pkgutil.walk_packages(sansnet_trio.__path__, "sansnet_trio.")]
    classes = {value for name in names for _, value in inspect.getmembers(import_module(name), inspect.isclass)}
    errors = {value for value in classes if issubclass(value, BaseException)}
    ours = {value for value in errors if value.__module__.startswith("sansnet_trio")}
    assert len(ours) > 5
    assert {value for value in ours if not issubclass(value, SansnetError)} == set()
