"""Runs a target once, with a limit on processor time, and tells failures apart."""

from __future__ import annotations

import signal
import traceback
from pathlib import Path
from types import FrameType
from typing import Final, NamedTuple

from fuzz.registry import Target

__all__ = ["ROOT", "Failure", "TooSlow", "attempt"]

ROOT: Final = Path(__file__).resolve().parent.parent
"""The folder of the project."""


class TooSlow(BaseException):
    """An input takes too much processor time. Not an `Exception`, so that no target catches it."""


class Failure(NamedTuple):
    """Why an input failed.

    Attributes:
        name: that of the exception.
        place: file and line of the innermost place in the project; inputs with the same two show the same fault.
        report: the traceback.
    """

    name: str
    place: str
    report: str

    def is_like(self, other: Failure | None) -> bool:
        """Whether both show the same fault."""
        return other is not None and self[:2] == other[:2]


def _stop(number: int, frame: FrameType | None) -> None:
    raise TooSlow


def _innermost(error: Exception) -> str:
    places = traceback.extract_tb(error.__traceback__)
    own = [place for place in places if place.filename.startswith(f"{ROOT}/") and "/.venv/" not in place.filename]
    where = (own or places)[-1]
    return f"{where.filename.removeprefix(f'{ROOT}/')}:{where.lineno}"


def attempt(target: Target, data: bytes) -> Failure | None:
    """Run a target with an input; only in the main thread.

    The limit is one of processor time (ITIMER_VIRTUAL), so that a busy machine does not fail an input.

    Returns:
        None if all invariants hold.
    """
    if signal.getsignal(signal.SIGVTALRM) is not _stop:
        signal.signal(signal.SIGVTALRM, _stop)
    try:
        signal.setitimer(signal.ITIMER_VIRTUAL, target.seconds, target.seconds)
        try:
            target.run(data)
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    except TooSlow:
        return Failure("TooSlow", "", f"{len(data)} bytes take more than {target.seconds} s of processor time\n")
    except Exception as error:
        return Failure(type(error).__name__, _innermost(error), "".join(traceback.format_exception(error)))
    return None
