"""All exceptions of the packages have one root, so that a program can catch them all."""

from __future__ import annotations

import inspect
import pkgutil
from importlib import import_module
from types import ModuleType
from typing import Final

import pytest

import sansnet_cli
import sansnet_core
import sansnet_trio
from sansnet_core import SansnetError

PACKAGES: Final = (sansnet_core, sansnet_trio, sansnet_cli)


def modules(package: ModuleType) -> list[str]:
    found = pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    return [package.__name__, *(module.name for module in found if not module.name.endswith(".__main__"))]


@pytest.mark.parametrize("name", [name for package in PACKAGES for name in modules(package)])
def test_exceptions_derive_from_one_root(name: str) -> None:
    module = import_module(name)
    own = [value for value in vars(module).values() if inspect.isclass(value) and value.__module__ == name]
    others = [value for value in own if issubclass(value, BaseException) and not issubclass(value, SansnetError)]

    assert not [value for value in others if not value.__name__.startswith("_")]
