"""The audit of a network: lines of JSON about each decision and each name that the guest asked for."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterable
from math import inf
from typing import TYPE_CHECKING, Final

import trio

from sansnet_core import FlowClosed, FlowOpened, FlowRefused, FlowReport, NameAsked
from sansnet_core.errors import expect
from sansnet_trio._version import __version__
from sansnet_trio.audit.entries import Entry, dump, fields_of, when
from sansnet_trio.audit.file import AuditFile
from sansnet_trio.events import Lost

if TYPE_CHECKING:
    from sansnet_trio.events import Event

__all__ = ["AuditLog"]

_INTERVAL: Final = 1.0
"""Seconds between lines about events without a line."""

_SUMS: Final = {"flow": "flows", "failed": "flows", "closed": "ends", "open": "ends"} | dict.fromkeys(
    ("question", "answer"), "questions"
)
"""Kind of a line -> name of the sum of such events that have none."""


class AuditLog:
    """Writes the audit of one network; docs/audit.md describes the lines.

    The guest can cause any number of events. So lines have a rate, one for refusals and one for the rest. Events beyond
    it have no line; one line for each second has their number.

    Args:
        file: the destination; the caller closes it.
        refused_lines: most lines per second about refused flows and questions.
        lines: most lines per second about other events.
        clock: the clock of the events, in seconds.
        wall: the wall clock, in seconds since 1970.
    """

    def __init__(
        self,
        file: AuditFile,
        *,
        refused_lines: int = 100,
        lines: int = 1000,
        clock: Callable[[], float] = trio.current_time,
        wall: Callable[[], float] = time.time,
    ) -> None:
        expect("file", file, AuditFile, "an AuditFile; give AuditFile(open(path, 'ab', buffering=0))")
        self._file = file
        self._clock, self._wall = clock, wall
        now = clock()
        self._refusals, self._others = _Quota(refused_lines), _Quota(lines)
        self._left_out: Counter[str] = Counter()
        self._left_out_since = now
        self._totals = Counter(
            flows=0, refused_flows=0, questions=0, refused_questions=0, unreported=0, sent=0, received=0
        )
        self._ended = False
        self._write([self._line("start", now, {"version": __version__})])

    def add(self, events: Iterable[Event]) -> None:
        """Write a line for each event that is about a decision, a flow's end or a name."""
        lines = []
        for event in events:
            if isinstance(event, FlowOpened | FlowRefused | FlowClosed | NameAsked):
                lines += self._lines_about(event)
            elif isinstance(event, Lost):
                self._leave_out("unseen", event.count)
        if lines and self._file.failed:  # `flush` tries again
            self._leave_out("lost", len(lines))
        elif lines:
            self._write(lines)
        self.flush()

    def omit(self, count: int) -> None:
        """Count refused flows and questions that the network did not report, because there were too many."""
        if count:
            self._totals["unreported"] += count
            self._leave_out("unreported", count)

    def flush(self) -> None:
        """Write the line about events without a line, if it is time, and what waits for the reader of a pipe.

        Call it about once per second while there are no events.
        """
        if self._left_out and self._clock() - self._left_out_since >= _INTERVAL:
            self._report_left_out()
        self._file.push()

    def end(self, flows: Iterable[FlowReport] = ()) -> None:
        """Write the last lines: the flows that are still open, and the totals. A second call does nothing.

        Args:
            flows: the flows that are open now.
        """
        if self._ended:
            return
        self._ended = True
        self._write([line for flow in flows for line in self._lines_about(flow)])
        self._report_left_out()
        self._write([self._line("end", self._clock(), dict(self._totals))])

    def _lines_about(self, event: FlowOpened | FlowRefused | FlowClosed | FlowReport | NameAsked) -> list[bytes]:
        """The line about an event; none if there are too many."""
        kind = _kind(event)
        fields = fields_of(event)
        refused = fields.get("verdict", "allow") != "allow"
        prefix = "refused_" if refused else ""
        if kind in ("flow", "question"):
            self._totals[f"{kind}s"] += 1
            self._totals[f"refused_{kind}s"] += refused
        for direction in ("sent", "received"):
            self._totals[direction] += fields.get(direction, 0)
        now = self._clock()
        if not (self._refusals if refused else self._others).take(now):
            self._leave_out(prefix + _SUMS[kind])
            return []
        return [self._line(kind, now if isinstance(event, FlowReport) else event.time, fields)]

    def _line(self, kind: str, time: float, fields: Entry) -> bytes:
        wall = self._wall() - (self._clock() - time)
        return dump({"time": when(wall), "kind": kind, "pid": os.getpid(), **fields})

    def _leave_out(self, sum_: str, count: int = 1) -> None:
        if not self._left_out:
            self._left_out_since = self._clock()
        self._left_out[sum_] += count

    def _report_left_out(self) -> None:
        if self._left_out:
            now = self._clock()
            fields = {"seconds": round(now - self._left_out_since, 3), **self._left_out}
            left_out, self._left_out = self._left_out, Counter()
            if self._file.write([self._line("omitted", now, fields)], self._make_last):
                self._left_out, self._left_out_since = left_out, now

    def _write(self, lines: list[bytes]) -> None:
        if lost := self._file.write(lines, self._make_last):
            self._leave_out("lost", lost)

    def _make_last(self) -> bytes:
        return self._line("full", self._clock(), {})


class _Quota:
    """A number of lines per interval."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._count = 0
        self._since = -inf

    def take(self, now: float) -> bool:
        """Whether there may be one more line now."""
        if now - self._since >= _INTERVAL:
            self._since, self._count = now, 0
        self._count += 1
        return self._count <= self._most


def _kind(event: FlowOpened | FlowRefused | FlowClosed | FlowReport | NameAsked) -> str:
    match event:
        case NameAsked():
            return "question" if event.address is None else "answer"
        case FlowClosed():
            return "closed"
        case FlowReport():
            return "open"
        case FlowRefused(reason=None):
            return "failed"
        case _:
            return "flow"
