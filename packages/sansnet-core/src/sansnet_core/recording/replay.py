"""Runs a recorded network again, and compares what it does.

Theory of operation. Each entry of the recording is one call, which is made again. Its result is encoded
as the recording has it: then two calls did the same if the bytes are equal.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from sansnet_core.config import NetworkConfig
from sansnet_core.context import make_evaluator
from sansnet_core.errors import ConfigError, Reason, SansnetError, UsageError
from sansnet_core.notices import Notice
from sansnet_core.orders import Buffer, Frame, Order
from sansnet_core.recording.calls import ARGUMENTS, METHODS, OUTPUTS, RETURNING, Call, Ending, Raised
from sansnet_core.recording.differences import difference_texts
from sansnet_core.recording.format import Beginning, Checkpoint, Counted, Part, RecordingError, expected, is_time, parts
from sansnet_core.recording.network import RecordedNetwork
from sansnet_core.recording.texts import call_text
from sansnet_core.snapshot import load
from sansnet_core.variant import VARIANT

__all__ = ["Effect", "RecordingError", "Replay", "ReplayDifference", "Step"]


class ReplayDifference(SansnetError):
    """A replay did not do what the recording says.

    Args:
        number: of the input.
        call: the input as text.
        recorded, replayed: what it did then and now, as text; of several outputs, the first one that differs.
        where: which one that is, such as "frame 4 of 4 differs at byte 10"; empty if the outputs are no list.

    All are attributes, too.
    """

    def __init__(self, number: int, call: str, recorded: str, replayed: str, where: str = "") -> None:
        place = f"{where}: " if where else ""
        super().__init__(f"input {number}, {call}: {place}the recording has {recorded}, the replay has {replayed}")
        self.number = number
        self.call = call
        self.recorded = recorded
        self.replayed = replayed
        self.where = where

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.number, self.call, self.recorded, self.replayed, self.where)


@dataclass(frozen=True, slots=True)
class Effect:
    """The direct effect of one frame of the guest; the answers of TCP follow when outputs are taken.

    Attributes:
        dropped: the reasons for which something was dropped.
        ignored: how often a frame was found that needs no answer.
        orders: the orders that it caused.
    """

    dropped: tuple[Reason, ...]
    ignored: int
    orders: tuple[Order, ...]


@dataclass(slots=True)
class Step:
    """One input, and its outputs.

    Attributes:
        number: of the input, from 1 on.
        time: seconds since the recording began.
        method: name of the method of `Network`.
        arguments: its arguments by name, without `now`.
        input: the call as text.
        received: the frames from the guest, of `receive_frames`.
        effects: what each of them caused.
        frames, orders, notices: the outputs that the call returned.
        result: what any other call returned.
        raised: the exception in it, which the network survived or the driver got, as text; None without one.
        difference: how the replay differs from the recording here; None if it does not.
        vnet_header: whether its frames begin with `virtio_net_hdr`.
    """

    number: int
    time: float
    method: str
    arguments: dict[str, Any]
    input: str
    received: tuple[bytes, ...] = ()
    effects: tuple[Effect, ...] = ()
    frames: list[Frame] = field(default_factory=list)
    orders: list[Order] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)
    result: object = None
    raised: str | None = None
    difference: ReplayDifference | None = None
    vnet_header: bool = False

    def __str__(self) -> str:
        return f"{self.number} {self.time:.6f} {self.input}"


class _Network(RecordedNetwork):
    """Tells what each frame causes. Frames that come one by one at the same time have the effects of a batch.

    Attributes:
        effects: of the last frames that came.
    """

    effects: list[Effect]

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in super().__getstate__().items() if name != "effects"}

    def receive_frames(self, frames: Iterable[Buffer], now: float) -> None:
        """See `Network.receive_frames`."""
        self.effects = []
        context = self._context
        for piece in [(frame,) for frame in frames] if isinstance(frames, tuple) and frames else [frames]:
            drops, ignored, ordered = context.drops.copy(), context.ignored, len(self._context.out.orders)
            super().receive_frames(piece, now)
            self.effects.append(
                Effect(
                    tuple((context.drops - drops).elements()),
                    context.ignored - ignored,
                    tuple(self._context.out.orders[ordered:]),
                )
            )


class Replay:
    """Runs the core again with the inputs of a recording; an iterator of steps.

    A recording that begins in the middle, with inputs but without the state before them, can be read only: its steps
    have no outputs, and there is no network (`can_replay`).

    Args:
        data: the recording, whole or in pieces.
        stop_at_difference: whether a difference is raised; otherwise the step has it, and the replay goes on.

    Attributes:
        can_replay: whether the inputs are replayed.
        config: the configuration that the recording begins with.
        version: the version of sansnet_core that made it. Another one may do other things.
        variant: the variant of that (`sansnet_core.variant`); None in recordings of before it was written.
        epoch: see `RecordedNetwork`.
        began: time of the clock at the beginning, in seconds.
        number: of the last input.
        ended: whether the last input of the recording is known to be replayed.
        differences: how many steps differed.

    Raises:
        RecordingError: the recording is none, or its beginning is damaged. Iteration raises it at the damage, after all
            steps before.
        ReplayDifference: see above.
    """

    def __init__(self, data: Iterable[bytes] | bytes, *, stop_at_difference: bool = True) -> None:
        self._parts = parts((data,) if isinstance(data, bytes) else data)
        self._stops = stop_at_difference
        self.number = self.differences = 0
        self.ended = False
        self._next: Part | None = None
        self._network: _Network | None = None
        self._held: Exception | None = None
        first = next(self._parts, None)
        if first is None or not isinstance(first.entry, Beginning):
            raise RecordingError("the recording is cut off: it has no beginning", 0)
        beginning = first.entry
        self.config = beginning.config
        self.version, _, variant = beginning.version.partition(" ")
        self.variant = variant.strip("()") or None
        self.epoch = float(beginning.epoch)
        self.began = float(beginning.now)
        self._now = self.began
        self.can_replay = beginning.state is not None
        if self.can_replay:
            self._begin(first, beginning)

    def _begin(self, part: Part, beginning: Beginning) -> None:
        try:
            self._network = network = _Network(
                beginning.config, now=beginning.now, secret=beginning.secret, ring=0, epoch=self.epoch
            )
        except UsageError as wrong:
            raise RecordingError(f"the beginning of the recording is wrong: {wrong}", part.position.block) from None
        if beginning.state:
            self._load(part, network, beginning.state, beginning.config)

    def _load(self, part: Part, network: RecordedNetwork, state: bytes, config: NetworkConfig) -> None:
        if self.variant not in (None, VARIANT):
            raise RecordingError(
                f"the recording has a saved state of the variant {self.variant:.20}, which this one ({VARIANT}) cannot "
                "load; replay it with the variant that made it",
                part.position.block,
            )
        policy = make_evaluator(config)
        try:
            network.load_state(load(state, network, (config, policy, *config.rules)))
        except ValueError as wrong:
            raise RecordingError(f"the recording cannot be replayed: {wrong}", part.position.block) from None

    @property
    def network(self) -> RecordedNetwork:
        """The network, at the present point of the replay.

        Raises:
            RecordingError: the recording begins in the middle.
        """
        if self._network is None:
            raise RecordingError("the recording begins in the middle, so that it can be read and not replayed", 0)
        return self._network

    def __iter__(self) -> Iterator[Step]:
        return self

    def __next__(self) -> Step:
        part = self._peek()
        if part is None:
            raise StopIteration
        self._next = None
        self.number += 1
        try:
            step = self._step(part)
        except Exception as error:  # a network from a damaged state gives anything
            raise RecordingError(
                f"the state in the recording is damaged: input {self.number} gives no outputs "
                f"({type(error).__name__}: {error!s:.100})",
                part.position.block,
            ) from error
        if step.difference is not None:
            self.differences += 1
            if self._stops:
                raise step.difference
        return step

    def _peek(self) -> Part | None:
        """The next input; None at the end."""
        while self._next is None:
            part = next(self._parts, None)
            if part is None:
                self.ended = True
                return None
            if isinstance(part.entry, Checkpoint):
                if self._network is not None and isinstance(part.entry.config, NetworkConfig):
                    self._load(part, self._network, part.entry.state, part.entry.config)
            elif isinstance(part.entry, Beginning):
                raise RecordingError("the recording has two beginnings", part.position.block)
            else:
                self._next = part
        return self._next

    def run(self, until: int | None = None, at: float | None = None) -> int:
        """Replay up to an input or a time, or to the end.

        Args:
            until: number of the last input to replay.
            at: seconds since the recording began; inputs after it are not replayed.

        Returns:
            The number of the last input that was replayed.

        Raises:
            UsageError: the input or the time is before the present one, and a replay does not go back.
        """
        if until is not None and until < self.number:
            raise UsageError(f"until: {until} is before the last input, {self.number}; begin another Replay")
        if at is not None and self.number and at < self._now - self.began:
            raise UsageError(
                f"at: {at} is before the last input, at {self._now - self.began:g} s; begin another Replay"
            )
        for _ in self.steps(until, at):
            pass
        return self.number

    def steps(self, until: int | None = None, at: float | None = None) -> Iterator[Step]:
        """The steps up to an input or a time, or to the end; see `run`."""
        while until is None or self.number < until:
            part = self._peek()
            if part is None:
                return
            now = part.entry[1]
            if at is not None and is_time(now) and now - self.began > at:
                return
            yield next(self)

    def _step(self, part: Part) -> Step:
        entry: Any = part.entry
        number, now = abs(entry[0]), entry[1]
        if is_time(now):
            self._now = now
        names = ARGUMENTS[number]
        arguments = dict(zip(names, entry[2 : 2 + len(names)], strict=True))
        recorded = entry[2 + len(names) :]
        step = Step(self.number, self._now - self.began, METHODS[number], arguments, call_text(number, arguments))
        step.vnet_header = self.config.link.vnet_header
        if number == Call.RECEIVE_FRAMES and isinstance(arguments["frames"], tuple):
            step.received = tuple(frame for frame in arguments["frames"] if isinstance(frame, bytes))
        if self._network is None:
            step.raised = next((each.text for each in recorded if isinstance(each, Raised)), None)
            return step
        replayed = self._call(self._network, number, now, arguments)
        if step.received:
            step.effects = tuple(self._network.effects)
        self._fill(step, number, replayed)
        if not _is_same(number, part, recorded, replayed):
            where, before, after = difference_texts(number, recorded, replayed, vnet=step.vnet_header)
            step.difference = ReplayDifference(self.number, step.input, before, after, where)
        return step

    def _call(self, network: _Network, number: int, now: object, arguments: dict[str, Any]) -> tuple[Any, ...]:
        """Make a call again; what it raised and returned, as in `calls`."""
        given = arguments if now is None else {**arguments, "now": now}
        network.survived, network.effects = None, []
        try:
            result = getattr(network, METHODS[number])(**given)
        except (UsageError, ConfigError) as error:
            return (Raised(Ending.MISUSE, type(error).__name__, str(error)),)
        except Exception as error:
            return (Raised(Ending.FAILED, type(error).__name__, str(error)),)
        outcome = (result,) if number in RETURNING else ()
        return (network.survived, *outcome) if network.survived else outcome

    def _fill(self, step: Step, number: int, outcome: tuple[Any, ...]) -> None:
        for each in outcome:
            if isinstance(each, Raised):
                step.raised = f"{each.error}: {each.text}"
            elif number == Call.TAKE_FRAMES:
                step.frames = each
            elif number == Call.TAKE_ORDERS:
                step.orders = each
            elif number == Call.TAKE_NOTICES:
                step.notices = each
            else:
                step.result = each


def _is_same(number: int, part: Part, recorded: tuple[Any, ...], replayed: tuple[Any, ...]) -> bool:
    """Whether a call did again what it did."""
    before = next((each for each in recorded if isinstance(each, Raised)), None)
    now = next((each for each in replayed if isinstance(each, Raised)), None)
    if before is not None and before.ending == Ending.INTERRUPTED:
        return True  # the state after it follows
    if (before and before[:2]) != (now and now[:2]):
        return False
    if number not in RETURNING or not recorded or isinstance(recorded[-1], Raised):
        return True
    if isinstance(recorded[-1], Counted):
        return number in OUTPUTS and recorded[-1].number == len(replayed[-1])
    return part.outcome.endswith(expected(number, replayed[-1:]))
