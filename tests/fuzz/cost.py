"""The cost of an input, in lines of the core that run. Unlike seconds, they are the same on each machine."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, Final

import sansnet_core

__all__ = ["lines_of"]

_CORE: Final = str(Path(sansnet_core.__file__).parent)
_KIT: Final = str(Path(sansnet_core.__file__).parent / "testing")


def lines_of(call: Callable[[], object]) -> int:
    """How many lines of the core run in a call; each turn of a loop counts."""
    count = 0

    def local(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal count
        count += 1
        return local

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        file = frame.f_code.co_filename
        return local if file.startswith(_CORE) and not file.startswith(_KIT) else None

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return count
