"""A capture of a replay, in which each packet has comments."""

from __future__ import annotations

from typing import Final

from sansnet_core import dropped
from sansnet_core.dropped import Dropped
from sansnet_core.notices import FlowReport
from sansnet_core.orders import Buffer, Frame
from sansnet_core.pcapng import pcapng_header, pcapng_packet
from sansnet_core.recording.replay import Replay, Step
from sansnet_core.recording.texts import order_text
from sansnet_core.wire import virtio_net

__all__ = ["Capture"]

_SNAPLEN: Final = 1 << 18
"""Bytes: a frame is kept whole."""


class Capture:
    """Writes the frames of a replay as pcapng.

    The comments of a packet tell the input that it came or went with, why it was dropped, the orders that it caused,
    and its flow.

    Args:
        replay: the replay, which the caller runs.

    Attributes:
        header: the beginning of the file.
    """

    def __init__(self, replay: Replay) -> None:
        self.header = pcapng_header(_SNAPLEN)
        self._replay = replay
        self._vnet = replay.config.link.vnet_header
        self._start = replay.epoch + replay.began
        self._flows: dict[Dropped, FlowReport] = {}
        self._looked_up = 0

    def packets(self, step: Step) -> bytes:
        """The packets of a step, which is the latest one, to be put behind those of the step before."""
        blocks = []
        for number, frame in enumerate(step.received):
            comments = [f"input {step.number}: {step.method}"]
            if number < len(step.effects):
                effect = step.effects[number]
                comments += [f"dropped: {reason.name}: {reason.value}" for reason in effect.dropped]
                comments += ["ignored: it needs no answer"] * effect.ignored
                comments += [f"order: {order_text(order)}" for order in effect.orders]
            blocks.append(self._packet(step, frame, comments, from_guest=True))
        blocks += [
            self._packet(step, frame, [f"input {step.number}: {step.method}"], from_guest=False)
            for frame in step.frames
        ]
        return b"".join(blocks)

    def _packet(self, step: Step, frame: Frame, comments: list[str], *, from_guest: bool) -> bytes:
        data: Buffer = b"".join(frame) if isinstance(frame, tuple) else frame
        flow = self._flow(step, data, from_guest)
        if flow is not None:
            comments.append(f"flow: {flow}")
        if step.raised is not None:
            comments.append(f"failure: {step.raised}")
        return pcapng_packet(
            data, self._start + step.time, _SNAPLEN, self._vnet, comments=comments, from_guest=from_guest
        )

    def _flow(self, step: Step, frame: Buffer, from_guest: bool) -> str | None:
        """The flow of a frame, as text."""
        if not self._replay.can_replay:
            return None
        start = virtio_net.HEADER_SIZE if self._vnet else 0
        ends = dropped.read(bytes(frame[start : start + dropped.HEAD]))
        if ends is None or ends.protocol is None:
            return None
        if not from_guest:
            ends = Dropped(ends.protocol, ends.destination, ends.source)
        if ends not in self._flows and self._looked_up != step.number:
            self._looked_up = step.number
            self._flows = {
                Dropped(flow.protocol, flow.guest, flow.remote): flow for flow in self._replay.network.flows()
            }
        flow = self._flows.get(ends)
        return None if flow is None else f"{flow.socket}: {ends}"
