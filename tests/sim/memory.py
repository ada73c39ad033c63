"""Measures how many bytes a piece of code leaves allocated."""

from __future__ import annotations

import gc
import tracemalloc
from types import TracebackType

__all__ = ["Memory"]


class Memory:
    """Measures what is allocated in its `with` block and still held at its end, in `held`, in bytes."""

    def __enter__(self) -> Memory:
        gc.collect()
        tracemalloc.start()
        self.held = 0
        self._before = tracemalloc.get_traced_memory()[0]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        gc.collect()  # it also empties the interpreter's free lists
        self.held = tracemalloc.get_traced_memory()[0] - self._before
        tracemalloc.stop()
