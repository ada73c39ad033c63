"""Terminating signals while the command ends already."""

from __future__ import annotations

import signal
import subprocess
import sys

PROGRAM = """
import os, signal, trio
from sansnet_cli.runtime.termination import terminating_signals

async def main():
    with terminating_signals():
        os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGTERM)

trio.run(main)
print("ended by itself")
"""


def test_a_signal_that_nobody_takes_any_more_does_not_kill_the_process() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "ended by itself\n", "")


FORWARDER = """
import os, signal
from sansnet_cli.runtime.signals import CommandSignals

forwarder = CommandSignals()
for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
    os.kill(os.getpid(), number)
forwarder.close()
print("ended by itself", flush=True)
os.kill(os.getpid(), signal.SIGTERM)
"""


def test_a_signal_that_comes_when_the_command_has_ended_does_not_change_the_status() -> None:
    done = subprocess.run([sys.executable, "-c", FORWARDER], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGTERM, "ended by itself\n", "")
