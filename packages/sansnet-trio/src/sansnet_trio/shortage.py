"""A driver without memory: it takes only small frames and reads no sockets, until there is memory again.

Theory of operation. A guest's network keeps within its limits (`Limits.within`). If memory is short nevertheless,
because the limits are too high for the process (RLIMIT_AS), an allocation fails anywhere, and the present frames or
data are lost. Then a reserve of memory is given up, so that the next steps succeed. Until there is enough memory
again, sockets are not read, as if the guest's link were full, and of the guest's frames only small ones
are taken. These acknowledge data, and end connections. The guest sends the others again. If that frees too little
memory, for example because a guest does not read its connections, the ones that hold most data are reset.
"""

from __future__ import annotations

import logging
import math
import mmap
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from sansnet_core import Buffer

__all__ = ["MemoryShortage"]

_log: Final = logging.getLogger("sansnet")

_RESERVE: Final = 4 << 20
"""Bytes of address space. No page of it is used, so it takes no memory otherwise."""
_LAST_RESERVE: Final = 2 << 20
"""The same, for the reset of connections."""
_PIECE: Final = 64 << 10
"""Bytes: as many as a frame or a datagram can have."""
_PIECES: Final = 64
_PAUSE: Final = 0.1
"""Seconds between attempts to allocate so many pieces."""
_ATTEMPTS: Final = 10
"""Attempts after which connections are reset."""
_SMALL: Final = 256
"""Bytes. A frame of this size has hardly more than headers."""
_BATCH: Final = 4
"""Most frames of one read: a batch is in memory as a whole."""

_NO_MEMORY: Final = (
    "there is too little memory, so frames and data from sockets are dropped; "
    "allow more, for example: ulimit -v unlimited"
)


class MemoryShortage:
    """Whether memory is short, and the reserve for that case.

    Args:
        changed: called when it begins or ends.
        shed: called with the time to reset some connections.

    Attributes:
        is_on: memory is short.
    """

    def __init__(self, changed: Callable[[], None], shed: Callable[[float], None]) -> None:
        self._changed = changed
        self._shed = shed
        self._reserve = _Reserve(_RESERVE)
        self._last_reserve = _Reserve(_LAST_RESERVE)
        self._warned = False
        self._again_at = math.inf
        self._attempts = 0
        self.is_on = False

    def failed(self, now: float) -> None:
        """An allocation has failed. The first time, this logs a warning."""
        self._reserve.close()
        if not self.is_on:
            self.is_on = True
            self._attempts = 0
            self._again_at = now + _PAUSE
            self._changed()
        if not self._warned:
            self._warned = True
            _log.warning(_NO_MEMORY)
        self._try_in_vain(now)

    def next_deadline(self) -> float:
        """The time when `handle_deadline` must be called; infinity if it need not be."""
        return self._again_at

    def handle_deadline(self, now: float) -> None:
        """End the shortage if there is memory again, also in pieces: what was freed is not given back to the system."""
        if now < self._again_at:
            return
        self._again_at = now + _PAUSE
        if _are_free(_PIECES):
            self._again_at = math.inf
            self.is_on = False
            self._reserve.fill()
            self._changed()
        else:
            self._try_in_vain(now)

    def _try_in_vain(self, now: float) -> None:
        self._attempts += 1
        if not self._attempts % _ATTEMPTS:
            self._last_reserve.close()
            with suppress(MemoryError):  # then the next time
                self._shed(now)
            self._last_reserve.fill()

    def limit(self, batch: int) -> int:
        """How many frames to read, instead of `batch`."""
        return _BATCH if self.is_on else batch

    def taken(self, frames: Sequence[Buffer]) -> Sequence[Buffer]:
        """Those of the guest's frames that are taken now."""
        return [frame for frame in frames if len(frame) <= _SMALL] if self.is_on else frames

    def close(self) -> None:
        """Give up the reserves."""
        self._reserve.close()
        self._last_reserve.close()


class _Reserve:
    """Address space without pages, to be given up for others."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._mapping: mmap.mmap | None = None
        self.fill()

    def fill(self) -> None:
        if self._mapping is None:
            with suppress(OSError):
                self._mapping = mmap.mmap(-1, self._size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)

    def close(self) -> None:
        if self._mapping is not None:
            self._mapping.close()
            self._mapping = None


def _are_free(count: int) -> bool:
    """Whether so many pieces of memory can be allocated at once."""
    pieces = []
    try:
        for _ in range(count):
            pieces.append(bytearray(_PIECE))
    except MemoryError:
        return False
    return True
