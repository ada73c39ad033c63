"""The memory that the C library keeps."""

from __future__ import annotations

import platform
import subprocess
import sys
from typing import Final

import pytest

PROGRAM: Final = """
import resource
from sansnet_trio.linux.allocator import keep_freed_memory

if {keep}:
    keep_freed_memory()

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def batch():
    return [bytes([number]) * (256 << 10) for number in range(8)]

batch()
before = faults()
for _ in range(50):
    batch()
print(faults() - before)
"""


def faults(*, keep: bool) -> int:
    """How many pages the kernel makes for 50 batches of data, in a new process."""
    made = subprocess.run([sys.executable, "-c", PROGRAM.format(keep=keep)], check=True, capture_output=True)
    return int(made.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc learns from the blocks that are freed")
def test_the_memory_of_a_batch_is_used_again() -> None:
    kept, given_back = faults(keep=True), faults(keep=False)
    assert kept < 1000 < given_back
