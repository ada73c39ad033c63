"""The compatible commands, from their arguments to their exit status.

The help and the version are printed before more modules are loaded, because callers often ask for them.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from typing import Final

from sansnet_cli.compat import version_of
from sansnet_cli.compat.command_line import BadOption
from sansnet_cli.compat.options import usage
from sansnet_cli.compat.parsed_options import Information, Misuse, ParsedOptions
from sansnet_cli.output.stdout import put

__all__ = ["main"]

_CAPABILITIES: Final = '{"type": "net"}'
"""The capabilities of a vhost-user back end, for management programs (docs/interop/vhost-user.json of QEMU)."""


def main(program: str, words: Sequence[str]) -> int:
    """Run `pasta` or `passt`.

    Args:
        program: its name.
        words: its arguments.

    Returns:
        The exit status, which is 1 for every error. For a command that a signal ended, it is that signal's negative
        number. If the program goes to the background, this function returns in both processes.
    """
    try:
        parsed = ParsedOptions(program, words)
        from sansnet_cli.compat.launch import start
        from sansnet_cli.compat.request import read

        return start(program, read(parsed))
    except Information as request:
        return _inform(program, str(request))
    except BadOption as bad:
        return _complain(f"{program}: {bad}\n{usage(program)}")
    except Misuse as misuse:
        return _complain(f"{program}: {misuse}; see `{program} --help`\n")


def _inform(program: str, name: str) -> int:
    match name:
        case "help":
            text = usage(program)
        case "version":
            text = version_of(program)
        case _:
            text = f"{_CAPABILITIES}\n"
    put(text)
    return 0


def _complain(text: str) -> int:
    with contextlib.suppress(OSError):  # stderr has no reader
        sys.stderr.write(text)
    return 1
