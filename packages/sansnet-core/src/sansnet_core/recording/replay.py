"""Runs a recorded network again, and compares what it does."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from sansnet_core.config import NetworkConfig
from sansnet_core.errors import SansnetError
from sansnet_core.notices import Notice
from sansnet_core.orders import Frame, Order
from sansnet_core.recording.network import RecordedNetwork

__all__ = ["RecordingError", "Replay", "ReplayDifference", "Step"]


class RecordingError(SansnetError, ValueError):
    """A recording is damaged, cut off, or of a kind that cannot be replayed.

    Attributes:
        position: where, in bytes from the beginning; everything before was used.
    """

    def __init__(self, message: str, position: int) -> None:
        super().__init__(message)
        self.position = position


class ReplayDifference(SansnetError):
    """A replay did not do what the recording says.

    Attributes:
        step: the input.
        recorded, replayed: the two sides, as text.
    """

    def __init__(self, step: Step, recorded: str, replayed: str) -> None:
        super().__init__(f"input {step.number}: recorded {recorded}, replayed {replayed}")
        self.step, self.recorded, self.replayed = step, recorded, replayed


@dataclass(slots=True)
class Step:
    """One input, and what the network did.

    Attributes:
        number: of the input, from 1 on.
        time: seconds since the recording began.
        input: the call as text.
        frames, orders, notices: the outputs that the call returned.
        result: what else the call returned.
        difference: how the replay differs from the recording here; None if it does not.
    """

    number: int
    time: float
    input: str
    frames: list[Frame] = field(default_factory=list)
    orders: list[Order] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)
    result: object = None
    difference: ReplayDifference | None = None

    def __str__(self) -> str:
        return f"{self.number} {self.time:.6f} {self.input}"


class Replay:
    """Runs the core again with the inputs of a recording.

    Args:
        data: the recording, whole or in pieces.
        stop_at_difference: whether iteration raises `ReplayDifference`; otherwise the step has it, and the replay goes
            on.

    Attributes:
        config: the configuration that the recording begins with.
        network: the network, at the present point of the replay.
    """

    config: NetworkConfig
    network: RecordedNetwork

    def __init__(self, data: Iterable[bytes] | bytes, *, stop_at_difference: bool = True) -> None:
        raise NotImplementedError

    def __iter__(self) -> Iterator[Step]:
        return self

    def __next__(self) -> Step:
        raise StopIteration

    def run(self, until: int | None = None, at: float | None = None) -> int:
        """Replay up to an input or a time, or to the end.

        Args:
            until: number of the last input to replay.
            at: seconds since the recording began; inputs after it are not replayed.

        Returns:
            The number of the last input that was replayed.
        """
        raise NotImplementedError
