"""`sansnet pasta`, `passt` and `pesto`: the command lines of the C programs of these names, for who calls those.

What a caller relies on is kept: names, defaults and abbreviations of options, the words for a wrong one, exit statuses,
and that the command returns exactly when everything works. From there on it is the same as `run`, `attach` and `serve`.
Nothing here is loaded unless it is asked for, and this module loads nothing.
"""

from __future__ import annotations

import os

from sansnet_cli import __version__

__all__ = ["PROGRAMS", "program_named", "version"]

PROGRAMS = ("pasta", "passt")
"""Networks; `pesto` only talks to one."""


def program_named(path: str) -> str | None:
    """Which of the programs a process is called as, if any: `passt.avx2` is one of them too."""
    name = os.path.basename(path)
    return next((program for program in (*PROGRAMS, "pesto") if program in name), None)


def version(program: str) -> str:
    """What `--version` prints."""
    return f"{program} {__version__} (sansnet)\nMIT or Apache-2.0, as you like.\n"
