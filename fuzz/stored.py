"""The inputs in the repository: the corpus, a text file for each target, and the regressions, a file for each input."""

from __future__ import annotations

import sys
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Final

from fuzz.execution import ROOT, attempt
from fuzz.registry import Target

__all__ = ["CORPUS", "REGRESSIONS", "corpus_of", "distil", "inputs_of", "store"]

CORPUS: Final = ROOT / "fuzz" / "corpus"
"""Folder of the corpus; each line of a file is an input in base64."""
REGRESSIONS: Final = ROOT / "fuzz" / "regressions"
"""Folder of the inputs that have failed once, with a folder for each target."""


def corpus_of(target: Target) -> list[bytes]:
    """The corpus of a target."""
    file = CORPUS / f"{target.name}.txt"
    return [b64decode(line) for line in file.read_text().splitlines()] if file.exists() else []


def inputs_of(target: Target, regressions: Path = REGRESSIONS) -> Iterator[tuple[str, bytes]]:
    """All inputs of a target that are in the repository, each with a name."""
    yield "nothing", b""
    for number, seed in enumerate(target.seeds()):
        yield f"seed {number}", seed
    for number, data in enumerate(corpus_of(target), 1):
        yield f"line {number} of the corpus", data
    for path in sorted((regressions / target.name).glob("*")):
        yield path.name, path.read_bytes()


def store(target: Target, inputs: Iterable[bytes]) -> None:
    """Replace the corpus of a target."""
    CORPUS.mkdir(exist_ok=True)
    lines = sorted(b64encode(data).decode() for data in inputs)
    (CORPUS / f"{target.name}.txt").write_text("".join(f"{line}\n" for line in lines))


def distil(target: Target, inputs: Iterable[bytes]) -> list[bytes]:
    """The inputs that reach new code: a step between two lines of the packages that no smaller one makes.

    What fails is left out.
    """
    reached: set[tuple[CodeType, int, int]] = set()
    for seed in target.seeds():
        with _tracing(reached):
            attempt(target, seed)
    kept = []
    for data in sorted(set(inputs), key=lambda data: (len(data), data)):
        steps: set[tuple[CodeType, int, int]] = set()
        with _tracing(steps):
            failure = attempt(target, data)
        if failure is None and not steps <= reached:
            reached |= steps
            kept.append(data)
    return kept


@contextmanager
def _tracing(steps: set[tuple[CodeType, int, int]]) -> Iterator[None]:
    """Collect the steps that are made in the packages."""
    last: dict[FrameType, int] = {}

    def line(frame: FrameType, event: str, argument: Any) -> Any:
        if event == "line":
            steps.add((frame.f_code, last.get(frame, 0), frame.f_lineno))
            last[frame] = frame.f_lineno
        elif event == "return":
            last.pop(frame, None)
        return line

    def call(frame: FrameType, event: str, argument: Any) -> Any:
        file = frame.f_code.co_filename
        return line if "/sansnet_" in file and "/sansnet_core/testing/" not in file else None

    before = sys.gettrace()
    sys.settrace(call)
    try:
        yield
    finally:
        sys.settrace(before)
