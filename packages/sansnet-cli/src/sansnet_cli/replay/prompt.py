"""The Python prompt of `sansnet replay --python`."""

from __future__ import annotations

import code
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from sansnet_core.recording import RecordingError, conversation

if TYPE_CHECKING:
    from sansnet_core.recording import Replay, Step

__all__ = ["interact"]

_HELP = """\
replay           the replay: replay.config, replay.network, replay.run(until=N)
network          its network: network.flows(), network.statistics()
last             the last input and its outputs: last.frames, last.orders
step(), step(N)  replay one more input, or N, and show them
Ctrl-D           end"""


def interact(replay: Replay, last: Step | None) -> None:
    """Let the user look at the state of a replay, and go on with it, until the end of stdin.

    Args:
        replay: the replay.
        last: its last step; None if there was none.
    """

    def step(count: int = 1) -> Step | None:
        """Replay some inputs and print them; returns the last one, or None at the end of the recording."""
        if type(count) is not int or count < 1:
            print(f"step({count!r:.100}): give the number of inputs to replay, 1 or more; a replay does not go back")
            return None
        done = None
        for _ in range(count):
            try:
                done = names["last"] = next(replay)
            except StopIteration:
                print("the recording ends here")
                break
            except RecordingError as error:
                print(error)
                break
            for line in conversation(done):
                print(line)
            names["network"] = replay.network
        return done

    names: dict[str, Any] = {"replay": replay, "network": replay.network, "last": last, "step": step}
    names["conversation"] = conversation
    _complete(names)
    place = "the beginning" if last is None else f"input {last.number}, {last.time:.6f} s"
    code.interact(f"The replay is at {place}.\n{_HELP}", local=names, exitmsg="")


def _complete(names: dict[str, Any]) -> None:
    """Let the tabulator key complete names, if this Python has readline."""
    with suppress(ImportError):
        import readline
        import rlcompleter

        readline.set_completer(rlcompleter.Completer(names).complete)
        readline.parse_and_bind("tab: complete")
