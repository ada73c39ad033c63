"""Ctrl-C while `sansnet run` loads its modules."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import Final

PROGRAM: Final = """
import signal, weakref
from sansnet_cli import dispatch
from sansnet_cli.run import command

class Loaded:
    pass

def run(arguments):
    loaded = Loaded()
    watched = weakref.ref(loaded, lambda _: signal.raise_signal(signal.SIGINT))
    del loaded  # importlib has such callbacks, and Python loses the exceptions in them
    return 0

command.run = run
dispatch.dispatch(["run"])
"""


def test_an_interrupt_in_a_callback_ends_the_command() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "")
