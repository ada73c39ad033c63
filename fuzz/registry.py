"""The targets of coverage-guided fuzzing: each is a function of bytes that raises if something is wrong."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Final

__all__ = ["Target", "all_targets", "find", "target"]


@dataclass(frozen=True)
class Target:
    """A target.

    Attributes:
        name: the name of its function.
        run: takes any bytes, and raises if an invariant is broken.
        max_size: bytes of the largest input that is tried.
        seconds: processor time that an input may take, in seconds.
        words: bytes with a meaning for the target, which the fuzzer inserts.
        seeds: gives valid inputs to begin with.
        module: the module of the function.
    """

    name: str
    run: Callable[[bytes], None]
    max_size: int
    seconds: float
    words: tuple[bytes, ...]
    seeds: Callable[[], Iterable[bytes]]
    module: str


_MARK: Final = "fuzz_target"


def target(
    *,
    max_size: int = 2048,
    seconds: float = 2.0,
    words: Iterable[bytes] = (),
    seeds: Callable[[], Iterable[bytes]] = tuple,
) -> Callable[[Callable[[bytes], None]], Callable[[bytes], None]]:
    """Make a function a target. The arguments are fields of `Target`."""

    def mark(run: Callable[[bytes], None]) -> Callable[[bytes], None]:
        setattr(run, _MARK, Target(run.__name__, run, max_size, seconds, tuple(words), seeds, run.__module__))
        return run

    return mark


def _targets_of(module: str) -> dict[str, Target]:
    found = (getattr(each, _MARK, None) for each in vars(import_module(module)).values())
    return {each.name: each for each in found if isinstance(each, Target) and each.module == module}


@cache
def all_targets() -> Mapping[str, Target]:
    """The targets of the modules in `fuzz.targets`, by name."""
    found: dict[str, Target] = {}
    for module in pkgutil.iter_modules(import_module("fuzz.targets").__path__, "fuzz.targets."):
        for name, each in _targets_of(module.name).items():
            assert name not in found, f"two targets have the name {name}"
            found[name] = each
    return found


def find(name: str) -> Target:
    """The target of a name, or of another module: `module:name`.

    Raises:
        LookupError: there is none.
    """
    module, colon, own = name.partition(":")
    try:
        return _targets_of(module)[own] if colon else all_targets()[name]
    except (ImportError, KeyError):
        raise LookupError(f"there is no target {name!r}; fuzz/run --list shows all") from None
