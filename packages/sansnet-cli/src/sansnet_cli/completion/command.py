"""`sansnet completion`: print a script that shtab makes from the parsers of all commands."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Final

from sansnet_cli.completion.parser import parse
from sansnet_cli.output.stdout import put

__all__ = ["completion", "script"]

_FILES: Final = ("FILE", "PATH", "PROGRAM", "QEMU-ARGUMENT")
"""Names in the help for values that are paths."""

_COMMAND: Final = {
    "bash": "_sansnet_command_or_files",
    "zsh": "_sansnet_command_or_files",
    "fish": "(__fish_complete_command)",
    "tcsh": "c",
    "preamble": {
        "bash": '_sansnet_command_or_files() {\n  compgen -c -- "$1"\n  compgen -f -- "$1"\n}\n',
        "zsh": "_sansnet_command_or_files() {\n  _alternative 'commands:command:_command_names -e' "
        "'files:file:_files'\n}\n",
    },
}
"""How each shell completes the command of `sansnet run` and its arguments."""


def completion(arguments: Sequence[str], parsers: Mapping[str, argparse.ArgumentParser]) -> int:
    """Run `sansnet completion`.

    Args:
        arguments: the words after `completion`.
        parsers: the parsers of all commands, by name.

    Returns:
        The exit status.
    """
    put(script(parse(arguments), parsers) + "\n")
    return 0


def script(shell: str, parsers: Mapping[str, argparse.ArgumentParser]) -> str:
    """The script for a shell.

    Args:
        shell: one of `sansnet_cli.completion.parser.SHELLS`.
        parsers: the parsers of all commands, by name.
    """
    import shtab

    return shtab.complete(_whole(parsers), shell)


def _whole(parsers: Mapping[str, argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """One parser with a subparser for each command, as shtab requires."""
    whole = argparse.ArgumentParser(prog="sansnet", description="A network for guests without privileges")
    whole.add_argument("--version", action="version", help="print the version and exit")
    commands = whole.add_subparsers(metavar="COMMAND")
    for name, parser in parsers.items():
        summary = (parser.description or "").partition("\n")[0].partition(". ")[0].rstrip(".,")
        made = commands.add_parser(name, parents=[parser], add_help=False, help=summary, description=summary)
        for action in made._actions:
            if action.metavar in _FILES:
                vars(action)["complete"] = "file"
            elif action.nargs == argparse.REMAINDER:
                vars(action)["complete"] = _COMMAND
    return whole
