"""Questions about flows on the terminal of `sansnet serve` and `attach`, which nothing else reads.

The terminal of `run` and `qemu` is the command's. There `sansnet ctl PATH ask` asks, on another terminal.
"""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING, Final

import trio

from sansnet_cli.ctl.asking import INTERVAL, Dialogue, Lines
from sansnet_cli.output.stderr import say

if TYPE_CHECKING:
    from sansnet_trio.control.commands import ControlCommands

__all__ = ["ask_on_terminal", "sentence"]

_STDIN: Final = 0
_STDERR: Final = 2


def sentence(path: str, time: float) -> str:
    """How a user answers.

    Args:
        path: path of the control socket.
        time: seconds for which a flow waits.
    """
    return (
        f"flows that no rule decides wait {time:g} s for an answer, and are refused then; "
        f"to answer, run in another terminal: sansnet ctl {shlex.quote(path)} ask"
    )


async def ask_on_terminal(commands: ControlCommands) -> None:
    """Ask about flows, if stdin and stderr are a terminal, until it ends, or the user quits."""
    if not (os.isatty(_STDIN) and os.isatty(_STDERR)):
        return
    lines = Lines(_STDIN)
    dialogue = Dialogue(commands.answer, say, lines.discard)
    while True:
        readable = False
        with trio.move_on_after(INTERVAL):
            if dialogue.is_open() and _in_foreground():
                await trio.lowlevel.wait_readable(_STDIN)
                readable = True
            else:
                await trio.sleep_forever()
        if not _in_foreground():  # the shell stops a process in the background that reads its terminal
            continue
        if readable and not lines.read():
            return
        if dialogue.is_open() and lines.has_line() and not dialogue.reply(lines.take()):
            return
        dialogue.look()


def _in_foreground() -> bool:
    """Whether the terminal's input is ours: the shell has not put us into the background."""
    try:
        return os.tcgetpgrp(_STDIN) == os.getpgrp()
    except OSError:
        return False
