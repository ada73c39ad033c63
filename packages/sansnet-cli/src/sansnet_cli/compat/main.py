"""The compatible commands, from their words to their exit status.

What only asks for the help or the version is answered before more is loaded: callers ask that often.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from typing import Final

from sansnet_cli.compat import version
from sansnet_cli.compat.command_line import BadOption
from sansnet_cli.compat.options import usage
from sansnet_cli.compat.parsed_options import Information, Misuse, ParsedOptions
from sansnet_cli.output.stdout import put

__all__ = ["main"]

_CAPABILITIES: Final = '{"type": "net"}'
"""What a management program may want to know of a vhost-user back-end (docs/interop/vhost-user.json of QEMU)."""


def main(program: str, words: Sequence[str]) -> int:
    """Do what the words after a program's name ask for.

    Returns:
        The exit status: 1 for whatever is wrong. Twice, if the program goes to the background: in both processes. For
        a command that a signal ended, that signal's negative number.
    """
    try:
        given = ParsedOptions(program, words)
        from sansnet_cli.compat.launch import start
        from sansnet_cli.compat.request import read

        return start(program, read(given))
    except Information as asked:
        return _inform(program, str(asked))
    except BadOption as bad:
        return _complain(f"{program}: {bad}\n{usage(program)}")
    except Misuse as misuse:
        return _complain(f"{program}: {misuse}; see `{program} --help`\n")


def _inform(program: str, what: str) -> int:
    match what:
        case "help":
            text = usage(program)
        case "version":
            text = version(program)
        case _:
            text = f"{_CAPABILITIES}\n"
    put(text)
    return 0


def _complain(text: str) -> int:
    with contextlib.suppress(OSError):  # nobody listens
        sys.stderr.write(text)
    return 1
