"""The incoming stream of a TCP connection of a simulated guest, put together from segments in any order."""

from __future__ import annotations

from collections import deque
from typing import Final

__all__ = ["Reassembly"]

_MODULUS: Final = 1 << 32


class Reassembly:
    """Data by position: the first byte of the stream is at 1, behind the SYN.

    Attributes:
        data: the bytes that came in order.
        expected: the position of the next byte, or behind the FIN.
        ended: the FIN came, and all bytes before it.
    """

    def __init__(self) -> None:
        self.data = bytearray()
        self.expected = 0
        self.ended = False
        self._early: dict[int, bytes] = {}
        self._end: int | None = None
        self._recent: deque[int] = deque(maxlen=8)

    @property
    def has_gap(self) -> bool:
        """Data came that do not follow the others."""
        return bool(self._early)

    def add(self, position: int, payload: bytes, *, fin: bool) -> None:
        """Take the data of a segment.

        Raises:
            AssertionError: they differ from those that came before at the same place.
        """
        end = position + len(payload)
        assert position >= 1, "data before the beginning"
        known = bytes(self.data[position - 1 : end - 1])
        assert payload[: len(known)] == known, f"other bytes at {position} than before"
        for start, data in self._early.items():
            low, high = max(start, position), min(start + len(data), end)
            assert low >= high or payload[low - position : high - position] == data[low - start : high - start]
        if fin:
            assert self._end in (None, end), "FIN at another place than before"
            self._end = end
        if end > self.expected and payload and len(self._early.get(position, b"")) < len(payload):
            self._early[position] = payload
            if position in self._recent:
                self._recent.remove(position)
            self._recent.appendleft(position)
        self._advance()

    def _advance(self) -> None:
        for start in sorted(self._early):
            if start > self.expected:
                break
            fresh = self._early.pop(start)[self.expected - start :]
            self.data += fresh
            self.expected += len(fresh)
        if self._end == self.expected and not self.ended:
            self.ended = True
            self.expected += 1

    def blocks(self, initial: int) -> tuple[tuple[int, int], ...]:
        """SACK blocks, as they are on the wire: at most four, the newest first (RFC 2018, 4).

        Args:
            initial: the sequence number of the SYN.
        """
        runs: list[list[int]] = []
        for start in sorted(self._early):
            end = start + len(self._early[start])
            if runs and start <= runs[-1][1]:
                runs[-1][1] = max(runs[-1][1], end)
            else:
                runs.append([start, end])
        recency = list(self._recent)

        def age(run: list[int]) -> int:
            return min((recency.index(start) for start in recency if run[0] <= start < run[1]), default=99)

        runs.sort(key=age)
        return tuple(((initial + run[0]) % _MODULUS, (initial + run[1]) % _MODULUS) for run in runs[:4])
