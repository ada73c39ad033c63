"""The command line of `sansnet completion`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Final

from sansnet_cli.options.parser import Parser, with_examples
from sansnet_cli.version import version

__all__ = ["SHELLS", "parse", "parser"]

SHELLS: Final = ("bash", "zsh", "fish", "tcsh")


def parser() -> argparse.ArgumentParser:
    """The parser of `sansnet completion`."""
    made = Parser(
        prog="sansnet completion",
        usage=f"%(prog)s {{{'|'.join(SHELLS)}}}",
        description="Print a script by which a shell completes command lines of sansnet: its commands, their options, "
        "and the names of files.",
        epilog=with_examples(
            "Write the script where the shell looks for it, and make that directory first if necessary. Bash needs the "
            "package bash-completion for that, or a line in ~/.bashrc that sources the file. For zsh the directory "
            "must be in $fpath before compinit runs, by `fpath+=~/.zfunc` in ~/.zshrc. For tcsh add "
            "`source ~/.sansnet.tcsh` to ~/.tcshrc.",
            "sansnet completion bash > ~/.local/share/bash-completion/completions/sansnet",
            "sansnet completion zsh > ~/.zfunc/_sansnet",
            "sansnet completion fish > ~/.config/fish/completions/sansnet.fish",
            "sansnet completion tcsh > ~/.sansnet.tcsh",
        ),
        add_help=False,
    )
    made.add_argument("shell", choices=SHELLS, metavar="SHELL", help=", ".join(SHELLS))
    made.add_argument("--version", action="version", version=version(), help="print the version and exit")
    made.add_argument("-h", "--help", action="help", help="print this and exit")
    return made


def parse(arguments: Sequence[str]) -> str:
    """The shell that the arguments after `sansnet completion` name.

    Raises:
        CommandLineError: an argument is wrong.
        SystemExit: help or version were asked for and have been printed.
    """
    shell: str = parser().parse_args(arguments).shell
    return shell
