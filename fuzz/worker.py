"""The process that fuzzes one target with atheris. fuzz.campaign starts it, and reads its log."""

from __future__ import annotations

import argparse
import sys
import time
from hashlib import sha256
from pathlib import Path
from typing import Final

import atheris

from fuzz.execution import Failure, attempt
from fuzz.registry import Target, find
from fuzz.shrinking import shrink

__all__ = ["main"]

INSTRUMENTED: Final = ["sansnet_core", "sansnet_trio"]
UNINSTRUMENTED: Final = ["sansnet_core.testing"]
"""They check the core; new ways through them are not new ways through the core."""


class _Fuzzing:
    """Runs inputs; files each new fault once, and goes on."""

    def __init__(self, target: Target, regressions: Path, reports: Path) -> None:
        self._target = target
        self._regressions = regressions
        self._reports = reports
        self._filed: list[Failure] = []

    def run(self, data: bytes) -> None:
        failure = attempt(self._target, data)
        if failure is not None and not any(failure.is_like(other) for other in self._filed):
            self._file(failure, data)

    def _file(self, failure: Failure, data: bytes) -> None:
        self._filed.append(failure)
        attempts = 30 if failure.name == "TooSlow" else 5000
        smallest = shrink(data, lambda other: failure.is_like(attempt(self._target, other)), attempts=attempts)
        final = attempt(self._target, smallest) or failure
        name = f"{final.name}-{sha256(smallest).hexdigest()[:12]}"
        for folder, suffix, content in (
            (self._regressions, "", smallest),
            (self._reports, ".txt", final.report.encode()),
        ):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{name}{suffix}").write_bytes(content)
        print(f"filed {self._regressions / name}", flush=True)


def main() -> None:
    """Fuzz until the time is over; libFuzzer ends the process then."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("target")
    parser.add_argument("--seconds", type=float, required=True, help="time until it ends, with that of its start")
    parser.add_argument("--regressions", type=Path, required=True, help="folder for minimised inputs that fail")
    parser.add_argument("--reports", type=Path, required=True, help="folder for their tracebacks")
    own, rest = sys.argv[1:], []
    if "--" in own:
        own, rest = own[: own.index("--")], own[own.index("--") + 1 :]  # the arguments of libFuzzer
    options = parser.parse_args(own)
    end = time.monotonic() + options.seconds
    with atheris.instrument_imports(include=INSTRUMENTED, exclude=UNINSTRUMENTED):
        target = find(options.target)
    fuzzing = _Fuzzing(target, options.regressions, options.reports)
    limit = max(1, round(end - time.monotonic()))  # 0 would be none
    atheris.Setup([sys.argv[0], f"-max_total_time={limit}", *rest], fuzzing.run)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
