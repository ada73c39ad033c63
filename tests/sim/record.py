"""Records all calls to a network, to repeat them on another one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from sansnet_core import Buffer, Frame, Network, NetworkConfig
from sansnet_core.testing import SECRET
from sansnet_core.testing.packets import glue

__all__ = ["Call", "RecordingNetwork", "replay"]

Call = tuple[str, tuple[Any, ...]]
"""A method's name and its arguments."""

_RECORDED = (
    "forward_added",
    "datagram_failed",
    "datagram_received",
    "echo_failed",
    "echo_received",
    "flow_decided",
    "forward_removed",
    "handle_deadline",
    "next_deadline",
    "receive_budget",
    "reconfigure",
    "report_notices",
    "service_added",
    "service_removed",
    "service_sent",
    "stream_accepted",
    "stream_connected",
    "stream_ended",
    "stream_failed",
    "stream_opened",
    "stream_received",
    "stream_sent",
    "take_orders",
    "take_notices",
)


class RecordingNetwork(Network):
    """A network that records its calls and what they returned."""

    def __init__(self, config: NetworkConfig, *, now: float, secret: bytes) -> None:
        super().__init__(config, now=now, secret=secret)
        self.calls: list[Call] = []
        self.results: list[object] = []
        for name in _RECORDED:
            setattr(self, name, self._recorded(name, getattr(self, name)))

    def _recorded(self, name: str, method: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object) -> object:
            self.calls.append((name, arguments))
            result = method(*arguments)
            self.results.append(result)
            return result

        return call

    def receive_frames(self, frames: Iterable[Buffer], now: float) -> None:
        """Note the frames, which may come from an iterator that can be used once."""
        frames = list(frames)
        self.calls.append(("receive_frames", (frames, now)))
        self.results.append(None)
        super().receive_frames(frames, now)

    def take_frames(self) -> list[Frame]:
        """Note the frames as plain bytes: how one is cut into parts does not matter."""
        self.calls.append(("take_frames", ()))
        frames = super().take_frames()
        self.results.append([glue(frame) for frame in frames])
        return frames


def replay(
    calls: list[Call],
    config: NetworkConfig,
    *,
    now: float,
    batch: Callable[[list[Buffer]], list[list[Buffer]]] = lambda frames: [frames],
) -> list[object]:
    """Repeat `calls` on a new network.

    Args:
        calls: those of a `RecordingNetwork`.
        config: its configuration.
        now: when it began.
        batch: how frames that came at once are to be handed over.

    Returns:
        The results of the calls, one for each.
    """
    network = RecordingNetwork(config, now=now, secret=SECRET)
    for name, arguments in calls:
        if name == "receive_frames":
            frames, when = arguments
            for part in batch(frames):
                network.receive_frames(part, when)
            network.results[len(network.results) - len(batch(frames)) :] = [None]
        else:
            getattr(network, name)(*arguments)
    return network.results
