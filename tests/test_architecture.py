"""The structure of the code: what imports what, a core without I/O, public names that exist and are documented."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Final, get_args

import pytest

import sansnet_core
import sansnet_trio
from sansnet_core import Order
from tests.structure import Module, Package, circles, is_within, read_packages

ROOT: Final = Path(__file__).parent.parent

ALLOWED_IN_CORE: Final = {
    "__future__",
    "_blake2",  # a part of hashlib
    "abc",
    "binascii",
    "bisect",
    "collections",
    "contextlib",
    "dataclasses",
    "enum",
    "errno",
    "functools",
    "hashlib",
    "heapq",
    "importlib",
    "inspect",
    "io",
    "ipaddress",
    "itertools",
    "math",
    "operator",
    "pickle",
    "struct",
    "tomllib",
    "types",
    "typing",
}
"""Parts of the standard library without I/O, clocks and randomness; of `io`, only `BytesIO`."""


PACKAGES: Final = {package.name: package for package in read_packages(ROOT)}
MODULES: Final = [module for package in PACKAGES.values() for module in package.modules.values()]
FOLDERS: Final = [(package, folder) for package in PACKAGES.values() for folder in package.folders]

MAX_LINES: Final = 500
"""The limit for one module."""


def modules_of(*folders: str) -> pytest.MarkDecorator:
    """Run a test with each module of some folders, such as `sansnet_core.wire`."""
    chosen = [module for module in MODULES if any(is_within(module.name, folder) for folder in folders)]
    assert chosen
    return pytest.mark.parametrize("module", chosen, ids=lambda module: module.name)


def imported(module: Module, folder: str = "") -> set[str]:
    """Full names that a module imports, those for its annotations too, as far as they are of a folder."""
    names = module.imports.runtime | module.imports.typing_only
    return {name for name in names if not folder or is_within(name, folder)}


def test_the_packages() -> None:
    assert set(PACKAGES) == {"sansnet_core", "sansnet_trio", "sansnet_cli"}


@pytest.mark.parametrize("package", PACKAGES.values(), ids=lambda package: package.name)
def test_modules_do_not_import_each_other_in_circles(package: Package) -> None:
    """Imports inside of functions and for annotations count too."""
    assert circles(package.module_arrows(typing_only=True)) == []


@pytest.mark.parametrize(("package", "folder"), FOLDERS, ids=[folder for _, folder in FOLDERS])
def test_folders_do_not_import_each_other_in_circles(package: Package, folder: str) -> None:
    """Nor do a folder and a module beside it."""
    assert circles(package.room_arrows(folder, typing_only=True)) == []


@modules_of(*PACKAGES)
def test_modules_are_short_enough_to_be_read(module: Module) -> None:
    assert module.lines <= MAX_LINES


@modules_of("sansnet_core")
def test_the_core_imports_itself_and_a_list_of_the_standard_library(module: Module) -> None:
    more = {"random"} if module.name == "sansnet_core.impairment.netem" else set()
    if is_within(module.name, "sansnet_core.testing.strategies"):
        more = {"hypothesis"}
    if module.name == "sansnet_core.mypyc":
        more = {"mypy_extensions"}
        assert "mypy_extensions" not in module.imports.runtime
    assert {name.partition(".")[0] for name in imported(module)} <= {*ALLOWED_IN_CORE, *more, "sansnet_core"}


@modules_of("sansnet_core.testing")
def test_the_kit_for_tests_works_without_hypothesis(module: Module) -> None:
    if not is_within(module.name, "sansnet_core.testing.strategies"):
        assert imported(module, "sansnet_core.testing.strategies") == set()


@modules_of("sansnet_core.testing")
def test_the_kit_for_tests_has_formats_and_protocols_of_its_own(module: Module) -> None:
    """So that a mistake in the core is not excused by the same mistake in its tests."""
    assert imported(module, "sansnet_core.wire") | imported(module, "sansnet_core.proto") == set()


def test_nothing_but_tests_loads_the_kit_for_tests() -> None:
    for module in MODULES:
        if not is_within(module.name, "sansnet_core.testing") and not is_within(module.name, "sansnet_trio.testing"):
            assert imported(module, "sansnet_core.testing") <= (
                {"sansnet_core.testing"} if module.name == "sansnet_core" else set()
            )
            assert imported(module, "sansnet_trio.testing") == set()


@modules_of("sansnet_core.wire")
def test_formats_import_nothing_of_a_higher_layer(module: Module) -> None:
    below = ("wire", "errors", "orders", "addresses")
    assert {name for name in imported(module, "sansnet_core") if name.split(".")[1] not in below} == set()


@modules_of("sansnet_core.proto")
def test_protocols_do_not_import_each_other(module: Module) -> None:
    """They meet in `network`. All may report failures by ICMP, and let flows wait for a verdict; IP reassembles."""
    protocol = module.name.split(".")[2:3]
    allowed = [*protocol, "icmp_errors", "undecided", *(["reassembly"] if protocol in (["ipv4"], ["ipv6"]) else [])]
    assert {name for name in imported(module, "sansnet_core.proto") if name.split(".")[2] not in allowed} == set()


@modules_of("sansnet_core")
def test_nothing_in_the_core_imports_the_network(module: Module) -> None:
    users = ("sansnet_core.testing", "sansnet_core.recording")
    if module.name != "sansnet_core" and not any(is_within(module.name, user) for user in users):
        assert imported(module, "sansnet_core.network") == set()


@modules_of("sansnet_trio", "sansnet_cli")
def test_drivers_and_commands_import_the_public_modules_of_the_core(module: Module) -> None:
    """And `sansnet_core.mypyc`, whose decorator does nothing in interpreted code."""
    names = {name.split(".")[1] for name in imported(module, "sansnet_core") if "." in name}
    assert names <= {*sansnet_core.__all__, "mypyc"}


@modules_of("sansnet_trio")
def test_the_driver_does_not_import_the_command(module: Module) -> None:
    assert imported(module, "sansnet_cli") == set()


@modules_of(*PACKAGES)
def test_modules_have_a_docstring_and_a_list_of_public_names(module: Module) -> None:
    tree = ast.parse(module.file.read_text())
    assert ast.get_docstring(tree), "no docstring"
    if len(tree.body) > 1 and module.file.name != "__main__.py":
        assigned = {
            target.id
            for node in tree.body
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        assert "__all__" in assigned


LIBRARY: Final = [module.name for module in MODULES if not is_within(module.name, "sansnet_cli")]


@pytest.mark.parametrize("name", LIBRARY)
def test_all_public_names_exist_and_are_documented(name: str) -> None:
    module = import_module(name)
    public = getattr(module, "__all__", [])
    assert len(set(public)) == len(public)
    for entry in public:
        value = getattr(module, entry)
        if (inspect.isclass(value) or inspect.isfunction(value)) and value.__module__.startswith("sansnet_"):
            assert inspect.getdoc(value), f"{name}.{entry} has no docstring"
            # methods of a typing.Protocol are documented where they are implemented
            if inspect.isclass(value) and not getattr(value, "_is_protocol", False):
                for attribute, member in vars(value).items():
                    if inspect.isfunction(member) and not attribute.startswith("_"):
                        assert inspect.getdoc(member), f"{name}.{entry}.{attribute} has no docstring"


@modules_of("sansnet_cli")
def test_the_command_imports_public_names_of_the_driver(module: Module) -> None:
    """They are exported by the package, or are in one of the modules that its docstring lists."""
    assert sansnet_trio.__doc__
    listed = [line for line in sansnet_trio.__doc__.splitlines() if line.startswith("- `")]
    public = [f"sansnet_trio.{name}" for line in listed for name in re.findall(r"`([a-z_.]+)`", line)]
    for node in ast.walk(ast.parse(module.file.read_text())):
        if isinstance(node, ast.ImportFrom) and is_within(node.module or "", "sansnet_trio"):
            for name in (alias.name for alias in node.names):
                place = f"{node.module}.{name}"
                assert name in sansnet_trio.__all__ or any(is_within(place, each) for each in public), place


@pytest.mark.parametrize("package", ["sansnet_core", "sansnet_trio"])
def test_dir_shows_the_public_names_alone_before_they_were_used(package: str) -> None:
    script = f"import {package} as p; print(set(p.__all__) ^ {{name for name in dir(p) if not name.startswith('__')}})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "set()"


def test_every_argument_of_the_network_is_described() -> None:
    """A driver is written from these descriptions alone."""
    for name, method in inspect.getmembers(sansnet_core.Network, inspect.isfunction):
        if not name.startswith("_"):
            text = f"`socket` `now` {inspect.getdoc(method)}"  # the docstring of the class describes these two
            described = re.findall(r"^    (\w+): |`(\w+)`", text, re.MULTILINE)
            missing = inspect.signature(method).parameters.keys() - {
                "self",
                *(each for pair in described for each in pair),
            }
            assert not missing, f"{name}: {missing}"


def test_every_order_is_public() -> None:
    assert {order.__name__ for order in get_args(Order)} <= set(sansnet_core.__all__)


def test_the_core_touches_nothing_of_the_operating_system() -> None:
    """After its imports, a session under an audit hook opens, connects and starts nothing, and never sleeps."""
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
        name: {room.rpartition(".")[2] for room in package.room_arrows(name) if "._" not in room}
        for name, package in PACKAGES.items()
    }
    assert named == there


def test_subprocess_runs_no_function_of_ours_after_its_fork() -> None:
    """`preexec_fn` can deadlock in a process with threads."""
    assert [module.name for module in MODULES if "preexec_fn" in module.file.read_text()] == []
