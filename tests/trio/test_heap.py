"""Memory of bulk data is reused, and not returned to the kernel after each read."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, sys
from sansnet_trio.linux.heap import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(100):
        read = b"x" * (256 << 10)
        frames = [read[start : start + 65536] for start in range(0, len(read), 65536)]
        del read, frames
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

print(faults())
keep_freed_memory()
faults()
print(faults())
"""


def faults() -> tuple[int, int]:
    """The page faults of a hundred reads of 256 KiB and their frames, before and after the call."""
    output = subprocess.run([sys.executable, "-c", FAULTS], check=True, capture_output=True, text=True).stdout
    before, after = map(int, output.split())
    return before, after


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have other rules")
def test_memory_of_bulk_data_is_used_again() -> None:
    before, after = faults()
    assert after < 100 < 1000 < before
