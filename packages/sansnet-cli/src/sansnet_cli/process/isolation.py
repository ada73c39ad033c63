"""Where the command may import from: its installation, and not where its caller's environment says.

Python puts the directories of PYTHONPATH first, then those of the user, and before all the working directory
(`python -m`) or that of the script. They are taken away before anything is imported but what every start of Python
loads. To start again as `python -I` would do the same for later imports, and costs as much as starting twice. What is
in the environment stays there for the guest's command.
"""

from __future__ import annotations

import os
import sys

import sansnet_cli

__all__ = ["isolate"]


def isolate() -> None:
    """Import nothing from now on that the caller's environment leads to."""
    sys.pycache_prefix = None  # PYTHONPYCACHEPREFIX has compiled code
    ours = os.path.dirname(os.path.dirname(_absolute(sansnet_cli.__file__)))
    library = os.path.dirname(_absolute(os.__file__))
    trusted = {ours, library, os.path.join(library, "lib-dynload")}
    foreign = set() if sys.flags.safe_path else {_absolute(entry) for entry in sys.path[:1]}
    if not sys.flags.ignore_environment:
        foreign |= {_absolute(entry) for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep)}
    site = sys.modules.get("site")  # not with `python -S`
    if site is not None:
        trusted.update(map(_absolute, site.getsitepackages()))
        if site.ENABLE_USER_SITE and site.USER_SITE:
            foreign.add(_absolute(site.USER_SITE))
    foreign -= trusted
    sys.path[:] = [entry for entry in sys.path if _absolute(entry) not in foreign]


def _absolute(path: str) -> str:
    try:
        return os.path.abspath(path)
    except OSError:  # there is no working directory any more
        return path
