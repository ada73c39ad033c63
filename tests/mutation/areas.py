"""The parts of the core that are changed, and the fast tests of each."""

from __future__ import annotations

from pathlib import Path
from typing import Final

__all__ = ["CORE", "ROOT", "modules", "folders_of_tests"]

ROOT: Final = Path(__file__).parents[2]
CORE: Final = ROOT / "packages/sansnet-core/src/sansnet_core"

_WHOLE: Final = (
    "tests/core/scenarios",
    "tests/core/properties",
    "tests/core/recording",
    "tests/core/resolver/test_streams.py",
    "tests/core/proxy",
    "tests/core/test_wrong_arguments.py",
)
"""Tests of the network as a whole."""

_TESTS: Final = {
    "proto/tcp": ("tests/core/proto/tcp", *_WHOLE),
    "proto/udp": (
        "tests/core/proto/test_*.py",
        "tests/core/scenarios/test_[!t]*.py",  # not those of TCP
        "tests/core/properties/test_d*.py",
        "tests/core/properties/test_known_flows.py",
        *_WHOLE[2:],
    ),
    "wire": ("tests/core/wire", "tests/core/test_summary.py", "tests/core/proto"),
}


def modules(names: list[str]) -> list[str]:
    """The modules that names of files and folders below the core mean, in order.

    Raises:
        ValueError: a name means no module, or one that is not in an area with tests.
    """
    found: list[str] = []
    for name in names:
        path = CORE / name
        files = sorted(path.rglob("*.py")) if path.is_dir() else [path]
        inside = [str(file.relative_to(CORE)) for file in files if file.is_file() and file.name != "__init__.py"]
        if not inside or not all(file.startswith(tuple(_TESTS)) for file in inside):
            raise ValueError(f"{name} is no module or folder below {', '.join(_TESTS)}")
        found += inside
    return list(dict.fromkeys(found))


def folders_of_tests(chosen: list[str]) -> list[str]:
    """The folders and files of tests that are run for these modules."""
    patterns = [pattern for area, patterns in _TESTS.items() for pattern in patterns if _any_in(chosen, area)]
    found = [str(path.relative_to(ROOT)) for pattern in patterns for path in sorted(ROOT.glob(pattern))]
    return list(dict.fromkeys(found))


def _any_in(chosen: list[str], area: str) -> bool:
    return any(module.startswith(area) for module in chosen)
