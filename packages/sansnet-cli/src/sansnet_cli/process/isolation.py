"""The directories that sansnet imports from: only those of its installation, for any environment.

Python puts into `sys.path` first the working directory (`python -m`) or that of the script, then the directories of
PYTHONPATH; those of the standard library follow, and then the user's own. `isolate` removes all of them but the
standard library's, before the first import of a module that Python itself does not load at its start. Starting again as
`python -I` would do the same, but takes as long as a second start. The environment itself does not change, because the
guest's command inherits it.
"""

from __future__ import annotations

import os
import sys

import sansnet_cli

__all__ = ["isolate"]


def isolate() -> None:
    """Remove the directories from `sys.path` that the caller's environment put there."""
    sys.pycache_prefix = None  # PYTHONPYCACHEPREFIX names a directory with compiled code
    ours = os.path.dirname(os.path.dirname(_absolute(sansnet_cli.__file__)))
    library = os.path.dirname(_absolute(os.__file__))
    trusted = {ours, library, os.path.join(library, "lib-dynload")}
    foreign = set() if sys.flags.safe_path else {_absolute(entry) for entry in sys.path[:1]}
    if not sys.flags.ignore_environment:
        foreign |= {_absolute(entry) for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep)}
    site = sys.modules.get("site")  # not loaded by `python -S`
    if site is not None:
        trusted.update(map(_absolute, site.getsitepackages()))
        if site.ENABLE_USER_SITE and site.USER_SITE:
            foreign.add(_absolute(site.USER_SITE))
    foreign -= trusted
    sys.path[:] = [entry for entry in sys.path if _absolute(entry) not in foreign]


def _absolute(path: str) -> str:
    try:
        return os.path.abspath(path)
    except OSError:  # the working directory has been deleted
        return path
