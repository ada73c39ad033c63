"""The loop of the broker: jobs that wait for a descriptor or for a time."""

from __future__ import annotations

import math
import select
import time
from collections.abc import Iterable
from typing import Protocol

from sansnet_core import SansnetError

__all__ = ["Finished", "Job", "run_jobs"]


class Finished(SansnetError):
    """Raised by a job when the process should end, because the serving process has ended."""


class Job(Protocol):
    """A job of the broker. None of its methods waits."""

    def descriptor(self) -> int | None:
        """The descriptor to wait for now until it is readable; None waits for none."""

    def due(self) -> float:
        """The time (`time.monotonic`) to run at if the descriptor is not readable before; may be infinite."""

    def run(self) -> None:
        """Called when the descriptor is readable or the time has come, and maybe once too often.

        Raises:
            Finished: all jobs end.
        """


def run_jobs(jobs: Iterable[Job]) -> None:
    """Run jobs until one of them raises `Finished`."""
    jobs = tuple(jobs)
    try:
        while True:
            poll = select.poll()
            for job in jobs:
                if (descriptor := job.descriptor()) is not None:
                    poll.register(descriptor, select.POLLIN)
            due = min((job.due() for job in jobs), default=math.inf)
            rest = max(due - time.monotonic(), 0)
            ready = {found for found, _ in poll.poll(None if rest == math.inf else math.ceil(rest * 1000))}
            for job in jobs:
                if job.descriptor() in ready or job.due() <= time.monotonic():
                    job.run()
    except Finished:
        return
