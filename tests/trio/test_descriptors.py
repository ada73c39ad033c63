"""Closing the descriptors that a process does not need, and messages with descriptors."""

from __future__ import annotations

import socket
import subprocess
import sys
from typing import Final

from sansnet_trio.linux.descriptors import receive_descriptors

_SCRIPT: Final = """
import os, resource, sys
from sansnet_trio.linux import descriptors
{before}
file = os.open("/", os.O_RDONLY)
for number in (5, 40, 700):
    os.dup2(file, number)
resource.setrlimit(resource.RLIMIT_NOFILE, ({limit}, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
descriptors.close_others({{0, 1, 2, 40}})
for number in (0, 1, 2, 5, 40, 700):
    try:
        os.fstat(number)
        print(number)
    except OSError:
        pass
"""
_NO_LIST: Final = """
def listdir(path):
    raise FileNotFoundError
os.listdir = listdir
"""


def closing(before: str = "", limit: int = 1000) -> list[int]:
    """The descriptors that are left of 0, 1, 2, 5, 40 and 700 by `close_others({0, 1, 2, 40})`."""
    script = _SCRIPT.format(before=before, limit=limit)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    return [int(word) for word in done.stdout.split()]


def test_those_above_a_limit_that_was_lowered_are_closed_too() -> None:
    assert closing(limit=50) == [0, 1, 2, 40]


def test_without_proc_those_below_the_limit_are_closed() -> None:
    assert closing(_NO_LIST) == [0, 1, 2, 40]


def test_numbers_that_are_not_open_are_not_tried() -> None:
    """There may be a billion below the limit, and only newer C libraries have a call that closes a range."""
    assert closing("def closerange(*_): raise AssertionError\nos.closerange = closerange") == [0, 1, 2, 40]


def test_the_last_message_of_a_process_that_has_not_read_all_is_received() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        with theirs:
            ours.send(b"unread")
            theirs.send(b"the reason")
        assert receive_descriptors(ours, 100, 1) == (b"the reason", [])
        assert receive_descriptors(ours, 100, 1) == (b"", [])
