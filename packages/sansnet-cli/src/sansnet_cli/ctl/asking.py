"""`sansnet ctl PATH ask`: decide about flows on the terminal, as they come.

Theory of operation. The flows that wait are asked for several times a second, and shown one at a time. A reply counts
for the flow that is shown: what was typed before the question is discarded, since it was meant for another one.
"""

from __future__ import annotations

import contextlib
import os
import select
import termios
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from sansnet_cli.ctl.client import ask
from sansnet_cli.ctl.policy import destination, printable
from sansnet_cli.output.stdout import put
from sansnet_core.errors import SansnetError

if TYPE_CHECKING:
    from sansnet_cli.ctl.client import Answer

__all__ = ["INTERVAL", "Dialogue", "Lines", "ask_on_terminal"]

INTERVAL: Final = 0.25
"""Seconds between two looks at the flows that wait."""

_MAX_HELD: Final = 1 << 16
"""Bytes of lines that wait for questions."""

_CHOICES: Final = "[y]es, [n]o, [a]lways, ne[v]er, [s]kip, [q]uit"
_REPLIES: Final = {
    "y": ("allow", False),
    "yes": ("allow", False),
    "n": ("refuse", False),
    "no": ("refuse", False),
    "a": ("allow", True),
    "always": ("allow", True),
    "v": ("refuse", True),
    "never": ("refuse", True),
}
"""Reply -> command, and whether it becomes a rule."""


class Dialogue:
    """Shows the flows that wait, one after the other, and carries out the replies.

    Args:
        request: sends a request to the control commands, and returns the answer.
        write: shows a line.
        discard: discards what was typed until now.
    """

    def __init__(
        self,
        request: Callable[[dict[str, Any]], Answer],
        write: Callable[[str], None],
        discard: Callable[[], None] = lambda: None,
    ) -> None:
        self._request = request
        self._write = write
        self._discard = discard
        self._shown: Answer | None = None
        self._skipped: set[int] = set()

    def is_open(self) -> bool:
        """Whether a question is shown that has no reply yet."""
        return self._shown is not None

    def look(self) -> None:
        """Look at the flows that wait, and show the next one unless one is shown.

        Raises:
            SansnetError: there is no answer.
        """
        flows = self._request({"command": "pending"})["flows"]
        waiting = {flow["id"] for flow in flows}
        self._skipped &= waiting
        if self._shown is not None:
            if self._shown["id"] in waiting:
                return
            self._shown = None
            self._write("it does not wait any more")
        for flow in flows:
            if flow["id"] not in self._skipped:
                self._discard()
                self._shown = flow
                self._ask()
                return

    def reply(self, line: str) -> bool:
        """Carry out the reply to the question that is shown; whether to go on.

        Raises:
            SansnetError: there is no answer.
        """
        flow, word = self._shown, line.strip().lower()
        if word in ("q", "quit"):
            return False
        if flow is None:
            return True
        if word in ("s", "skip"):
            self._skipped.add(flow["id"])
        elif word in _REPLIES:
            self._decide(flow["id"], *_REPLIES[word])
        else:
            self._write(f"give one of y, n, a, v, s, q; always means: {printable(flow['rule'])}")
            self._ask()
            return True
        self._shown = None
        return True

    def _decide(self, id: int, command: str, always: bool) -> None:
        request = {"command": command, "id": id, "always": always}
        try:
            answer = self._request(request)
        except SansnetError as error:  # it has just been refused, since its time was over
            self._write(str(error))
            return
        if answer["rule"]:
            self._write(f"new rule: {printable(answer['rule'])}")

    def _ask(self) -> None:
        assert self._shown is not None
        flow = self._shown
        self._write(f"{flow['protocol']} {destination(flow)}, {flow['left']:.0f} s left; {_CHOICES}")


class Lines:
    """The lines of a descriptor, which may be a terminal."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._is_terminal = os.isatty(descriptor)
        self._held = b""

    def has_line(self) -> bool:
        """Whether a whole line was read already."""
        return b"\n" in self._held

    def discard(self) -> None:
        """Discard what was typed on a terminal until now; the lines of a pipe stay."""
        if self._is_terminal:
            self._held = b""
            with contextlib.suppress(termios.error):
                termios.tcflush(self.descriptor, termios.TCIFLUSH)

    def read(self) -> bool:
        """Read what is there, or wait for it; False at the end."""
        data = os.read(self.descriptor, 1 << 12)
        self._held = (self._held + data)[-_MAX_HELD:]
        return bool(data)

    def take(self) -> str:
        """The next line, if `has_line`."""
        line, _, self._held = self._held.partition(b"\n")
        return line.decode(errors="replace")


def ask_on_terminal(path: str) -> int:
    """Ask about the flows of a running sansnet until the end of stdin, `quit`, or the end of that sansnet.

    Args:
        path: path of the control socket.

    Returns:
        The exit status.

    Raises:
        ControlError: there is no such sansnet.
    """
    lines = Lines(0)
    dialogue = Dialogue(partial(ask, path), _write, lines.discard)
    dialogue.look()
    if not dialogue.is_open():
        _write("flows that wait are shown as they come; Ctrl-C ends this")
    try:
        while True:
            if lines.has_line() and dialogue.is_open():
                if not dialogue.reply(lines.take()):
                    return 0
            elif (
                select.select([] if lines.has_line() else [lines.descriptor], [], [], INTERVAL)[0] and not lines.read()
            ):
                return 0
            dialogue.look()
    except SansnetError:
        _write("sansnet has ended")
        return 0


def _write(line: str) -> None:
    put(f"{line}\n")
