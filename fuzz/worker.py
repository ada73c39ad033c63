"""The process that fuzzes one target with atheris: a fork of the campaign, which reads its log.

So all processes share the import of what is fuzzed, which takes several seconds.
"""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import atheris

from fuzz.execution import Failure, attempt
from fuzz.registry import Target
from fuzz.shrinking import shrink

__all__ = ["fork", "instrumented"]

INSTRUMENTED: Final = ["sansnet_core", "sansnet_trio"]


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


@contextmanager
def instrumented() -> Iterator[None]:
    """What is imported within reports to atheris which code it reaches."""
    if any(name in sys.modules for name in INSTRUMENTED):
        raise RuntimeError("what is to be fuzzed was imported before, without reports of the code that is reached")
    # It writes the name of each module
    with redirect_stderr(io.StringIO()), atheris.instrument_imports(INSTRUMENTED, _uninstrumented()):
        yield


def _uninstrumented() -> list[str]:
    """The names of the modules that check the core. New ways through them are not new ways through the core."""
    found = find_spec("sansnet_core")
    assert found is not None
    assert found.origin is not None
    top = Path(found.origin).parent
    files = [file.relative_to(top.parent).with_suffix("") for file in (top / "testing").rglob("*.py")]
    return [".".join(file.parts).removesuffix(".__init__") for file in files]


def fork(target: Target, regressions: Path, reports: Path, log: Path, arguments: Sequence[str]) -> int:
    """Fuzz a target in another process.

    Args:
        target: imported within `instrumented`.
        regressions: folder for minimised inputs that fail.
        reports: folder for their tracebacks.
        log: for all that the process writes.
        arguments: of libFuzzer, which ends the process when its time is over.

    Returns:
        The process's id.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    if pid := os.fork():
        return pid
    try:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        fuzzing = _Fuzzing(target, regressions, reports)
        atheris.Setup([sys.argv[0], *arguments], fuzzing.run)
        atheris.Fuzz()
    except BaseException:
        sys.excepthook(*sys.exc_info())
        sys.stderr.flush()
    finally:
        os._exit(70)  # libFuzzer has ended the process if all went well
