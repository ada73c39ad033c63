"""Counts rooms, arrows and circles of the packages: `python tests/structure.py [CHECKOUT]`.

- A room is an entry of a folder of a package: a module, or a folder with all that is in it. The `__init__` of the
  folder itself, which only presents the others, is none.
- An arrow leads from a room to another one that it imports, or that a module in it imports, however often.
- A circle is a set of rooms, or of modules, that all lead to each other. It is counted once, whatever its size.

Imports count at the top of a module and inside of functions. Those under `if TYPE_CHECKING:` are never carried out, so
they are arrows of their own kind, in columns of their own. `from package import name` leads to the module `name` if
there is one, else to the package's `__init__`.
"""

from __future__ import annotations

import argparse
import ast
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["Imports", "Module", "Package", "circles", "is_within", "read_packages", "report"]

ROOT: Final = Path(__file__).parent.parent


@dataclass(frozen=True)
class Imports:
    """Full names of what a module imports, such as `sansnet_core.config` and `sansnet_core.config.Limits`."""

    runtime: frozenset[str]
    typing_only: frozenset[str]


@dataclass(frozen=True)
class Module:
    """A file of a package."""

    name: str
    """Its name for `import`; that of the folder for an `__init__`."""
    file: Path
    lines: int
    imports: Imports


class Package:
    """The modules of one package and what they import of it."""

    def __init__(self, folder: Path) -> None:
        """Read all files of a package.

        Args:
            folder: the one with the `__init__` of the package.

        Raises:
            ValueError: a module has a relative import, which this script does not follow.
        """
        self.name: Final = folder.name
        modules = [_read_module(file, folder.parent) for file in sorted(folder.rglob("*.py"))]
        self.modules: Final = {module.name: module for module in modules}
        self.folders: Final = sorted(module.name for module in modules if module.file.name == "__init__.py")

    def module_arrows(self, *, typing_only: bool = False) -> dict[str, set[str]]:
        """Module -> modules of this package that it imports; with `typing_only` those under TYPE_CHECKING as well."""
        arrows = {}
        for module in self.modules.values():
            names = set(module.imports.runtime) | (set(module.imports.typing_only) if typing_only else set())
            arrows[module.name] = {self._defined_in(name) for name in names if is_within(name, self.name)}
            arrows[module.name].discard(module.name)
        return arrows

    def room_arrows(self, folder: str, *, typing_only: bool = False) -> dict[str, set[str]]:
        """Room -> rooms of the same folder that it leads to, all by the name of their module or folder."""
        arrows: dict[str, set[str]] = {}
        for start, ends in self.module_arrows(typing_only=typing_only).items():
            room = self._room(start, folder)
            if room is not None:
                reached = {self._room(end, folder) for end in ends}
                arrows.setdefault(room, set()).update(end for end in reached if end not in (None, room))
        return arrows

    def _defined_in(self, name: str) -> str:
        """The module that has a name: itself, or the one that its last part is of."""
        return name if name in self.modules else name.rpartition(".")[0]

    def _room(self, module: str, folder: str) -> str | None:
        """The entry of a folder that has a module; None for the folder's own `__init__`, and outside of it."""
        if not module.startswith(folder + "."):
            return None
        return f"{folder}.{module[len(folder) + 1 :].partition('.')[0]}"


def read_packages(checkout: Path) -> list[Package]:
    """All packages of a checkout, by name."""
    return [Package(file.parent) for file in sorted(checkout.glob("packages/*/src/*/__init__.py"))]


def circles(arrows: Mapping[str, Iterable[str]]) -> list[list[str]]:
    """The strongly connected components that have more than one node, by Tarjan's algorithm."""
    found: list[list[str]] = []
    index: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []

    def visit(node: str) -> None:
        index[node] = lowest[node] = len(index)
        stack.append(node)
        for following in sorted(arrows.get(node, ())):
            if following not in index:
                visit(following)
                lowest[node] = min(lowest[node], lowest[following])
            elif following in stack:
                lowest[node] = min(lowest[node], index[following])
        if lowest[node] == index[node]:
            component = stack[stack.index(node) :]
            del stack[-len(component) :]
            if len(component) > 1:
                found.append(sorted(component))

    for node in sorted(arrows):
        if node not in index:
            visit(node)
    return found


def is_within(name: str, package: str) -> bool:
    """Whether a full name is that of a package, or of something in it."""
    return name == package or name.startswith(package + ".")


def _read_module(file: Path, root: Path) -> Module:
    parts = list(file.relative_to(root).with_suffix("").parts)
    name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    text = file.read_text()
    tree = ast.parse(text, str(file))
    unexecuted = {
        id(child)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")
        for statement in node.body
        for child in ast.walk(statement)
    }
    names: dict[bool, set[str]] = defaultdict(set)
    for node in ast.walk(tree):
        names[id(node) in unexecuted].update(_imported(node, file))
    imports = Imports(frozenset(names[False]), frozenset(names[True] - names[False]))
    return Module(name, file, len(text.splitlines()), imports)


def _imported(node: ast.AST, file: Path) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        if node.level or node.module is None:
            raise ValueError(f"{file}:{node.lineno}: a relative import")
        yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _row(name: str, arrows: Mapping[str, Iterable[str]], all_arrows: Mapping[str, Iterable[str]]) -> str:
    runtime, total = (sum(len(set(ends)) for ends in graph.values()) for graph in (arrows, all_arrows))
    return f"{name:<28}{len(arrows):>8}{runtime:>8}{total - runtime:>8}{len(circles(all_arrows)):>9}"


def report(package: Package) -> Iterator[str]:
    """Lines of text about one package: its folders, its modules, its circles. These include typing-only arrows."""
    found = []
    for folder in package.folders:
        arrows, all_arrows = (package.room_arrows(folder, typing_only=each) for each in (False, True))
        yield _row(f"rooms of {folder.partition('.')[2] or package.name}", arrows, all_arrows)
        found += circles(all_arrows)
    all_arrows = package.module_arrows(typing_only=True)
    longest = max(package.modules.values(), key=lambda module: module.lines)
    lines = sum(module.lines for module in package.modules.values())
    yield _row(f"modules of {package.name}", package.module_arrows(), all_arrows)
    yield f"{lines} lines; the longest module is {longest.name} with {longest.lines}"
    for circle in [*found, *(circle for circle in circles(all_arrows) if circle not in found)]:
        yield f"circle: {', '.join(circle)}"


def main() -> None:
    """Print the tables of all packages."""
    parser = argparse.ArgumentParser(description="Count rooms, arrows and circles of the packages.")
    parser.add_argument("checkout", type=Path, nargs="?", default=ROOT, help="default: the one of this script")
    packages = read_packages(parser.parse_args().checkout)
    if not packages:
        parser.error("there is no package at packages/*/src/*/__init__.py")
    print(f"{'':<28}{'count':>8}{'arrows':>8}{'typing':>8}{'circles':>9}")
    for package in packages:
        print(*report(package), "", sep="\n")


if __name__ == "__main__":
    main()
