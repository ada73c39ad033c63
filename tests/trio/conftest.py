"""Fixtures for tests of the driver."""

from __future__ import annotations

import os
import time
from typing import Final

import pytest

_IDLE_THREADS: Final = 60.0
"""Seconds. An idle thread of trio ends after 10 s."""


@pytest.fixture
def one_thread() -> None:
    """Wait until this process has one thread: only then is a guest's child a fork, which can run functions of tests."""
    end = time.monotonic() + _IDLE_THREADS
    while len(os.listdir("/proc/self/task")) > 1:
        assert time.monotonic() < end, "threads of an earlier test do not end"
        time.sleep(0.05)
