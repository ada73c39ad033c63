"""`sansnet pasta`, `passt` and `pesto`: the command lines of these C programs, for programs that call them.

Callers rely on the names, defaults and abbreviations of options, on the messages for a wrong option, on exit statuses,
and on the command returning exactly when everything works. All of this is kept. The rest is that of `run`, `attach` and
`serve`. These modules are loaded only for these commands, and this one loads no others.
"""

from __future__ import annotations

import os

from sansnet_cli import __version__

__all__ = ["PROGRAMS", "program_named", "version_of"]

PROGRAMS = ("pasta", "passt")
"""The programs that serve a guest; `pesto` is a client of their control socket."""


def program_named(path: str) -> str | None:
    """The program that a process is called as, if it is one of them; `passt.avx2` is passt."""
    name = os.path.basename(path)
    return next((program for program in (*PROGRAMS, "pesto") if program in name), None)


def version_of(program: str) -> str:
    """The output of `--version`."""
    from sansnet_core.variant import VARIANT

    return f"{program} {__version__} (sansnet, {VARIANT})\nLicense: MIT OR Apache-2.0.\n"
