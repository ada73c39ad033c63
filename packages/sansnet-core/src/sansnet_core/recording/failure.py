"""An exception that the core raised by mistake, as a driver learns of it."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Failure"]


@dataclass(frozen=True, slots=True)
class Failure:
    """An exception that the core raised by mistake, and what was done about it.

    Attributes:
        error: the exception.
        entry: the input that it was raised by, as text.
        flow: the flow that was given up, as text; None if the exception belongs to none.
        recording: the last inputs, as `RecordedNetwork.last_inputs` gives them; empty after some failures, since a
            guest may cause any number of them.
        goes_on: whether the network goes on. If not, the exception leaves the method that raised it.
    """

    error: BaseException
    entry: str
    flow: str | None
    recording: bytes
    goes_on: bool

    def __str__(self) -> str:
        what = f"{type(self.error).__name__}: {self.error}"
        given_up = f"; {self.flow} was given up" if self.flow else ""
        return f"the core failed at {self.entry}: {what}{given_up}"
