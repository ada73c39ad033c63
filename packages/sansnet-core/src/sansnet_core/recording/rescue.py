"""Goes on after an exception that is a mistake of this program.

Theory of operation. `recovery` gives up the flow that the exception belongs to. Then the call goes on with the rest of
its work: the other frames, flows and deadlines. A fact about the flow, or a frame, is lost. After
many exceptions in a short time the network is given up, since something is wrong that does not go away.
"""

from __future__ import annotations

from collections.abc import Iterator
from operator import length_hint
from typing import Any, Final

from sansnet_core import recovery
from sansnet_core.dropped import HEAD
from sansnet_core.errors import ConfigError, Reason, UsageError
from sansnet_core.network import Network
from sansnet_core.recording.calls import ARGUMENTS, RETURNING, Call, Ending, Raised
from sansnet_core.recording.noting import NotingNetwork

__all__ = ["RescuedNetwork"]

MAX_FAILURES: Final = 16
"""Exceptions in `FAILURE_TIME` after which the network is given up."""
FAILURE_TIME: Final = 60.0
"""Seconds."""
MAX_RECORDINGS: Final = 3
"""Exceptions with which the driver gets the last inputs; more would be of little use, and each takes time."""

_NEEDED: Final = frozenset((Call.FORWARD_ADDED, Call.SERVICE_ADDED, Call.GUEST_ATTACHED))
"""Methods whose work the caller cannot do without: it gets the exception."""


class RescuedNetwork(NotingNetwork):
    """A network that notes its inputs and goes on after exceptions; `RecordedNetwork` has the inputs."""

    def raised(
        self, error: BaseException, number: int, now: Any, *arguments: Any, result: Any = None, left: Any = None
    ) -> Any:
        """Go on after an exception in a call, if that is possible, and note the call.

        Args:
            error: the exception.
            number: of the method.
            now: as it was given.
            *arguments: the others.
            result: of the method if its work is lost.
            left: the frames that were not received; or the old configuration.

        Returns:
            The result of the method.

        Raises:
            BaseException: the same one; the network cannot go on, the caller made a mistake, or it was no mistake.
        """
        ending = _ending(error, number)
        if ending != Ending.FAILED:
            self._note_raised((-number, now, *arguments, _raised(ending, error)), ending)
            raise error
        assert isinstance(error, Exception)
        first, failures = error, []
        while True:
            flows = self._give_up(error, number, arguments, left)
            failures.append((error, flows))
            if flows is None:
                self._note_raised((-number, now, *arguments, _raised(Ending.FAILED, first)), Ending.FAILED)
                self._tell(failures, number, arguments)
                raise error
            try:
                result = self._go_on(number, now, arguments, result, left)
                break
            except UsageError:  # the next frame is none
                self._note_raised((-number, now, *arguments, _raised(Ending.RECOVERED, first), None), ending)
                self._tell(failures, number, arguments)
                raise
            except Exception as another:
                error = another
        survived = _raised(Ending.RECOVERED, first)
        self.survived = self.survived or survived
        outcome = (result,) if number in RETURNING else ()
        self._note_raised((-number, now, *arguments, survived, *outcome), Ending.RECOVERED)
        self._tell(failures, number, arguments)
        return result

    def next_deadline(self) -> float | None:
        """See `Network.next_deadline`. Without an answer the network cannot go on."""
        try:
            return Network.next_deadline(self)
        except Exception as error:
            if _ending(error, 0) == Ending.FAILED and self._failed is not None:
                from sansnet_core.recording.failure import Failure

                self._failed(Failure(error, "next_deadline()", None, self.last_inputs(), False))
            raise

    def _give_up(self, error: Exception, number: int, arguments: tuple[Any, ...], left: Any) -> list[str] | None:
        """Give up what an exception belongs to: flows as text, or a frame. None if the network cannot go on."""
        now = self._context.now
        self._failures = [*(time for time in self._failures if time > now - FAILURE_TIME), now]
        if len(self._failures) > MAX_FAILURES or number in _NEEDED:
            return None
        try:
            socket = arguments[0] if ARGUMENTS[number][:1] == ("socket",) else None
            flows = recovery.recover(self._protocols, error, socket)
        except Exception:
            return None
        if not flows:
            frame = b""
            if number == Call.RECEIVE_FRAMES and isinstance(left, Iterator):
                frame = arguments[0][len(arguments[0]) - length_hint(left) - 1]
            self._context.drop(Reason.FAILED, bytes(frame[self._frames.start :][:HEAD]) or None)
        return flows

    def _go_on(self, number: int, now: Any, arguments: tuple[Any, ...], result: Any, left: Any) -> Any:
        """Do the rest of a call."""
        if number == Call.RECEIVE_FRAMES:
            Network.receive_frames(self, left, now)
        elif number == Call.RECONFIGURE:
            self._context.config = left  # so that the flows are judged that were not judged yet
            config, moved, keep_flows = arguments
            Network.reconfigure(self, config, now, moved=moved, keep_flows=keep_flows)
        elif number == Call.HANDLE_DEADLINE:
            Network.handle_deadline(self, now)
        elif number == Call.FORWARD_REMOVED:
            Network.forward_removed(self, arguments[0], now)
        elif number == Call.SERVICE_REMOVED:
            Network.service_removed(self, arguments[0], now)
        elif number == Call.REPORT_NOTICES:
            Network.report_notices(self, arguments[0])
        elif number == Call.TAKE_NOTICES:
            return Network.take_notices(self)
        elif number == Call.TAKE_ORDERS:
            return Network.take_orders(self)
        elif number == Call.TAKE_FRAMES:
            return Network.take_frames(self)
        return result

    def _tell(
        self, failures: list[tuple[Exception, list[str] | None]], number: int, arguments: tuple[Any, ...]
    ) -> None:
        """Tell the driver about exceptions and what was given up."""
        if self._failed is None:
            return
        from sansnet_core.recording.failure import Failure
        from sansnet_core.recording.texts import call_text

        entry = call_text(number, dict(zip(ARGUMENTS[number], arguments, strict=True)))
        self._told += len(failures)
        recording = self.last_inputs() if self._told - len(failures) < MAX_RECORDINGS else b""
        for error, flows in failures:
            flow = ", ".join(flows) if flows else None
            self._failed(Failure(error, entry, flow, recording, flows is not None))


def _ending(error: BaseException, number: int) -> int:
    if not isinstance(error, Exception) or isinstance(error, MemoryError):
        return Ending.INTERRUPTED
    if isinstance(error, UsageError) or (number == Call.RECONFIGURE and isinstance(error, ConfigError)):
        return Ending.MISUSE
    return Ending.FAILED


def _raised(ending: int, error: BaseException) -> Raised:
    """An exception for the recording, with the places in the code that it passed through."""
    text = [str(error)]
    place = error.__traceback__
    while ending != Ending.MISUSE and place is not None:
        code = place.tb_frame.f_code
        file = "/".join(code.co_filename.split("/")[-3:])
        text.append(f"  {file}:{place.tb_lineno} {code.co_qualname}")
        place = place.tb_next
    return Raised(ending, type(error).__name__, "\n".join(text[:1] + text[1:][-50:]))
