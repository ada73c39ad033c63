"""The descriptors that this process inherits beyond its standard streams: those that nothing names are closed.

Otherwise the caller would wait for the end of a pipe, and an attacker who has taken over the process would have them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import pairwise
from typing import Final

__all__ = ["close_inherited", "close_named", "close_unnamed"]

_STREAMS: Final = (0, 1, 2)

# Compiled at their first use: few command lines have such words
_PATH: Final = r"(?:/proc/(?:self|thread-self)|/dev)/fd/(\d+)"
_OPTION: Final = r"(?:--fd|-F)=?(\d*)"
"""`--fd` of `sansnet serve` and of passt."""

_PREFIX: Final = "SANSNET_"
"""Of the variables that hold paths of files."""
_FIRST_PASSED: Final = 3
"""SD_LISTEN_FDS_START in sd_listen_fds(3)."""


def close_unnamed(words: Sequence[str], environment: Mapping[str, str]) -> None:
    """Close the descriptors that neither a command line nor the environment names.

    Args:
        words: the words of the command line; a descriptor is named by a path such as /dev/fd/5 in a word, or by `--fd`.
        environment: the variables; those of sansnet may have such a path, and LISTEN_FDS counts passed sockets.
    """
    values = [value for name, value in environment.items() if name.startswith(_PREFIX)]
    close_inherited({*_named(*words, *values), *_options(words), *_passed(environment)})


def close_inherited(kept: Iterable[int]) -> None:
    """Close all descriptors, except for the standard streams and `kept`."""
    keep = {*_STREAMS, *kept}
    with suppress(OSError):  # /proc is not mounted
        for name in os.listdir("/proc/self/fd"):
            if int(name) not in keep:
                with suppress(OSError):  # the descriptor of the list itself
                    os.close(int(name))


def close_named(path: str) -> None:
    """Close the inherited descriptor that a path names, if it does, because the file has been opened by that path."""
    match = re.fullmatch(_PATH, path)
    if match and int(match[1]) not in _STREAMS:
        with suppress(OSError):  # it is closed already
            os.close(int(match[1]))


def _named(*texts: str) -> Iterator[int]:
    for text in texts:
        if "/fd/" in text:
            yield from map(int, re.findall(_PATH, text))


def _options(words: Sequence[str]) -> Iterator[int]:
    for word, following in pairwise([*words, ""]):
        if word.startswith(("--fd", "-F")) and (match := re.fullmatch(_OPTION, word)):
            number = match[1] or following
            if number.isdecimal():
                yield int(number)


def _passed(environment: Mapping[str, str]) -> Iterable[int]:
    count = environment.get("LISTEN_FDS", "")
    if environment.get("LISTEN_PID") == str(os.getpid()) and count.isdecimal():
        return range(_FIRST_PASSED, _FIRST_PASSED + min(int(count), os.sysconf("SC_OPEN_MAX")))
    return ()
