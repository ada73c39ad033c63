"""The shape of the code: who imports whom, that the core does no I/O, and that public names are complete."""

from __future__ import annotations

import ast
import inspect
import pkgutil
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Final, get_args

import pytest

import sansnet_core
import sansnet_trio
from sansnet_core import Order

ROOT: Final = Path(__file__).parent.parent
CORE: Final = ROOT / "packages/sansnet-core/src/sansnet_core"
TRIO: Final = ROOT / "packages/sansnet-trio/src/sansnet_trio"
CLI: Final = ROOT / "packages/sansnet-cli/src/sansnet_cli"

ALLOWED_IN_CORE: Final = {
    "__future__",
    "abc",
    "bisect",
    "collections",
    "dataclasses",
    "enum",
    "errno",
    "functools",
    "hashlib",
    "heapq",
    "ipaddress",
    "itertools",
    "math",
    "struct",
    "types",
    "typing",
}
"""Parts of the standard library without I/O, clocks and randomness."""


def _files(package: Path) -> list[Path]:
    return sorted(package.rglob("*.py"))


def _names(files: list[Path]) -> list[str]:
    return [str(file.relative_to(ROOT / "packages")) for file in files]


def _module(file: Path) -> str:
    """The dotted name of a file of a package."""
    parts = list(file.relative_to(next(parent for parent in file.parents if parent.name == "src")).parts)
    parts[-1] = parts[-1].removesuffix(".py")
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imports(file: Path, *, typing_only: bool = True) -> Iterator[str]:
    """Every module that a file imports, at the top or inside of functions; relative imports are none of ours."""
    tree = ast.parse(file.read_text())
    skipped: set[int] = set()
    for node in ast.walk(tree):
        if not typing_only and isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            skipped.update(id(child) for child in ast.walk(node))
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            assert node.module is not None
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _of_package(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


@pytest.mark.parametrize("file", _files(CORE), ids=_names(_files(CORE)))
def test_the_core_imports_itself_and_a_list_of_the_standard_library(file: Path) -> None:
    strangers = {
        module
        for module in _imports(file)
        if not _of_package(module, "sansnet_core") and module.split(".")[0] not in ALLOWED_IN_CORE
    }

    assert not strangers


@pytest.mark.parametrize("file", _files(CORE / "wire"), ids=_names(_files(CORE / "wire")))
def test_formats_know_nothing_above_themselves(file: Path) -> None:
    above = {
        module
        for module in _imports(file)
        if _of_package(module, "sansnet_core")
        and not _of_package(module, "sansnet_core.wire")
        and not module.startswith(("sansnet_core.errors", "sansnet_core.orders", "sansnet_core.addresses"))
    } - {"sansnet_core"}

    assert not above


@pytest.mark.parametrize("file", _files(CORE / "proto"), ids=_names(_files(CORE / "proto")))
def test_siblings_never_import_siblings(file: Path) -> None:
    """They meet in `network.py`; the parts of TCP are one sibling."""
    own = _module(file)
    family = "sansnet_core.proto.tcp" if own.startswith("sansnet_core.proto.tcp") else own
    siblings = {
        module
        for module in _imports(file)
        if _of_package(module, "sansnet_core.proto") and not _of_package(module, family)
    } - {"sansnet_core.proto"}

    # IP knows how fragments are put together, which is a part of it
    if own in ("sansnet_core.proto.ipv4", "sansnet_core.proto.ipv6"):
        siblings = {module for module in siblings if not _of_package(module, "sansnet_core.proto.reassembly")}
    assert not siblings


@pytest.mark.parametrize("file", _files(CORE), ids=_names(_files(CORE)))
def test_nothing_in_the_core_imports_the_network(file: Path) -> None:
    if _module(file) != "sansnet_core":
        assert not any(_of_package(module, "sansnet_core.network") for module in _imports(file))


@pytest.mark.parametrize("file", _files(TRIO) + _files(CLI), ids=_names(_files(TRIO) + _files(CLI)))
def test_drivers_and_commands_know_the_cores_public_modules_alone(file: Path) -> None:
    hidden = {module for module in _imports(file) if module.startswith(("sansnet_core.proto", "sansnet_core.context"))}

    assert not hidden


@pytest.mark.parametrize("file", _files(TRIO), ids=_names(_files(TRIO)))
def test_the_driver_does_not_know_the_command(file: Path) -> None:
    assert not any(_of_package(module, "sansnet_cli") for module in _imports(file))


_ALL: Final = _files(CORE) + _files(TRIO) + _files(CLI)


@pytest.mark.parametrize("file", _ALL, ids=_names(_ALL))
def test_modules_say_what_they_are_and_what_is_public(file: Path) -> None:
    tree = ast.parse(file.read_text())
    assert ast.get_docstring(tree), "no docstring"
    if len(tree.body) > 1 and file.name != "__main__.py":
        assigned = {
            target.id
            for node in tree.body
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        assert "__all__" in assigned


def _modules() -> list[str]:
    names = []
    for package in (sansnet_core, sansnet_trio):
        names.append(package.__name__)
        names += [info.name for info in pkgutil.walk_packages(package.__path__, package.__name__ + ".")]
    return names


@pytest.mark.parametrize("name", _modules())
def test_all_public_names_exist_and_are_documented(name: str) -> None:
    module = import_module(name)
    public = getattr(module, "__all__", [])
    assert len(set(public)) == len(public)
    for entry in public:
        value = getattr(module, entry)
        if (inspect.isclass(value) or inspect.isfunction(value)) and value.__module__.startswith("sansnet_"):
            assert inspect.getdoc(value), f"{name}.{entry} has no docstring"
            # The methods of a protocol are documented in its implementation
            if inspect.isclass(value) and not getattr(value, "_is_protocol", False):
                for attribute, member in vars(value).items():
                    if inspect.isfunction(member) and not attribute.startswith("_"):
                        assert inspect.getdoc(member), f"{name}.{entry}.{attribute} has no docstring"


def test_dir_shows_every_public_name_before_it_was_used() -> None:
    script = "import sansnet_trio as package; print(sorted(set(package.__all__) - set(dir(package))))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


def test_every_order_is_public() -> None:
    assert {order.__name__ for order in get_args(Order)} <= set(sansnet_core.__all__)


def test_the_core_touches_nothing_of_the_operating_system() -> None:
    """A lively session under an audit hook: after the imports nothing is opened, connected, started or slept."""
    command = [sys.executable, "-W", "error", "-m", "tests.audited_session"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split()[0] == "quiet"
    assert int(done.stdout.split()[1]) > 100


def test_the_map_of_modules_names_them_all() -> None:
    shown = re.search(r"<!-- modules -->(.*?)<!-- /modules -->", (ROOT / "docs/design.md").read_text(), re.DOTALL)
    assert shown
    rows = [line.split("|")[1:4] for line in shown[1].splitlines() if "`" in line]
    named: dict[str, set[str]] = {}
    package = ""
    for place, _, modules in rows:
        package = place.strip(" `") or package
        named.setdefault(package, set()).update(re.findall(r"`([^`/]+)`", modules))  # TCP's folder is one of `proto`
    there = {
        package.name: {path.stem for path in package.iterdir() if path.name[0] != "_" and path.name != "py.typed"}
        for package in (CORE, TRIO, CLI)
    }
    assert named == there
