"""The environment of a guest's command is the caller's, byte for byte."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.lab import Lab

EXECUTE: Final = """
import ctypes, sys
words, entries = eval(sys.argv[1])
array = lambda items: (ctypes.c_char_p * (len(items) + 1))(*items, None)
ctypes.CDLL(None).execve(words[0], array(words), array(entries))
"""
"""Executes a program with these entries of the environment, which need not be variables (execve(2))."""

COMMON: Final = [b"PATH=/usr/sbin:/usr/bin:/sbin:/bin", b"TERM=dumb"]


@pytest.mark.parametrize(
    "entries",
    [
        [b"LC_CTYPE=C"],
        [b"LANG=C", b"PYTHONUTF8=0", b"PYTHONCOERCECLOCALE=1"],
        [b"LC_ALL=", b"LC_CTYPE=POSIX", b"LANG=xx_YY"],
        [b"a.b=1", b"BASH_FUNC_f%%=() { :; }", b"X=\xff\n\x01", b"EMPTY="],
        [b"WITHOUT", b"TWICE=1", b"TWICE=2", b"=nameless", b"WITHOUT"],
        [b"PWD=/elsewhere", b"OLDPWD=/there", b"SHLVL=7", b"_=x"],
        [b"PYTHONPATH=/nonexistent", b"PYTHONSTARTUP=x", b"PYTHONOPTIMIZE=2", b"LD_LIBRARY_PATH=/nonexistent"],
        [b"SANSNET_POLICY=/nonexistent", b"LISTEN_FDS=1", b"LISTEN_PID=1"],
    ],
)
@pytest.mark.parametrize("program", ["run", "pasta"])
def test_it_is_passed_on(lab: Lab, entries: list[bytes], program: str) -> None:
    if program == "pasta":
        entries = [entry for entry in entries if not entry.startswith(b"SANSNET")]
    words = [str(Path(sys.prefix, "bin/sansnet")), program, *(["-q"] if program == "pasta" else []), "--", "env", "-0"]
    given = [*COMMON, *entries]
    line = lab.host.command(sys.executable, "-c", EXECUTE, repr(([word.encode() for word in words], given)))
    done = subprocess.run(line, capture_output=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.split(b"\0")[:-1] == given
