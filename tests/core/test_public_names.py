"""The package shows all its public names, and loads them only when they are used."""

from __future__ import annotations

import inspect
import operator
import pkgutil
import re
import subprocess
import sys
from importlib import import_module
from types import ModuleType

import pytest

import sansnet_core
from sansnet_core import NetworkConfig, SansnetError, recording

MODULES = [info.name for info in pkgutil.walk_packages(sansnet_core.__path__, "sansnet_core.")]


def _fresh(code: str) -> str:
    """The output of a new interpreter."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60).stdout


def test_completion_shows_every_public_name() -> None:
    shown = _fresh("import sansnet_core; print(*dir(sansnet_core))").split()
    assert set(sansnet_core.__all__) <= set(shown)


def test_every_public_module_is_an_attribute_and_is_in_the_docstring() -> None:
    modules = {name for name in sansnet_core.__all__ if isinstance(getattr(sansnet_core, name), ModuleType)}
    listed = "".join(line for line in (sansnet_core.__doc__ or "").splitlines(keepends=True) if line.startswith("- "))
    assert set(re.findall(r"`([a-z]+)`", listed)) == modules
    code = "import sansnet_core; print(sansnet_core.ports.parse('80', 6)[0].first, sansnet_core.link.__name__)"
    assert _fresh(code).split() == ["80", "sansnet_core.link"]


def test_names_are_defined_where_the_package_looks_for_them() -> None:
    for home, names in sansnet_core._HOMES.items():
        module = import_module(f"sansnet_core.{home}")
        assert set(names) <= set(getattr(module, "__all__", ()))
    named = [name for names in sansnet_core._HOMES.values() for name in names]
    assert sorted(named) == sorted(name for name in sansnet_core.__all__ if name not in sansnet_core._HOMES)


@pytest.mark.parametrize("package", [sansnet_core, recording])
def test_a_name_that_does_not_exist_is_an_attribute_error(package: ModuleType) -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Netwrok'"):
        operator.attrgetter("Netwrok")(package)


def test_the_package_loads_nothing_until_a_name_is_used() -> None:
    code = "import sys, sansnet_core; print(*(name for name in sys.modules if name.startswith('sansnet_core.')))"
    assert _fresh(code).split() == ["sansnet_core._version"]
    code = (
        "import sys; from sansnet_core import NetworkConfig; print(*sorted(name for name in sys.modules "
        "if name.startswith('sansnet_core.')), 'inspect' in sys.modules, 'typing' in sys.modules)"
    )
    names = (
        *("_version", "addresses", "config", "errors", "fields", "known_ports"),
        *("policy", "policy.names", "policy.policy", "policy.rule", "records"),
    )
    assert _fresh(code).split() == [*(f"sansnet_core.{name}" for name in names), "False", "True"]


@pytest.mark.parametrize("name", MODULES)
def test_every_exception_of_ours_has_one_root(name: str) -> None:
    for value in vars(import_module(name)).values():
        if inspect.isclass(value) and issubclass(value, BaseException) and value.__module__ == name:
            assert issubclass(value, SansnetError), f"{name}.{value.__name__}"


def test_the_signature_of_a_configuration_has_its_fields() -> None:
    parameters = inspect.signature(NetworkConfig).parameters
    assert set(parameters) == set(
        vars(NetworkConfig(ipv4=None, ipv6=sansnet_core.Ipv6Config(address=None, gateway="fe80::1")))
    )
    assert {parameter.kind for parameter in parameters.values()} == {inspect.Parameter.KEYWORD_ONLY}
    assert str(parameters["dns_servers"]) == "dns_servers: Iterable[AnyAddress] = ()"
    assert (parameters["tcp"].annotation, parameters["tcp"].default) == (bool, True)
    shown = _fresh("import pydoc, sansnet_core; print(pydoc.plain(pydoc.render_doc(sansnet_core.Ipv6Config)))")
    assert "Ipv6Config(*, address: AnyInterface | None, gateway: AnyAddress)" in shown
