"""The conversation of guest, network and host: one line for each frame, order and fact."""

from __future__ import annotations

from typing import Final

from sansnet_core.orders import Buffer, Frame
from sansnet_core.recording.replay import Step
from sansnet_core.recording.texts import order_text, value_text
from sansnet_core.summary import summary
from sansnet_core.wire import virtio_net

__all__ = ["conversation"]

_QUIET: Final = frozenset(("take_orders", "take_frames", "take_notices", "receive_frames"))
"""Methods that are not shown themselves, but what they take and give."""
_BUDGET: Final = "receive_budget"


def conversation(step: Step) -> list[str]:
    """Describe a step: a line for each frame from the guest (`>`) and to it (`<`), order, notice and fact.

    A call without an effect that can be seen gives no line.
    """
    vnet = step.vnet_header
    lines = [f"guest  > {_frame(frame, vnet)}" for frame in step.received]
    if step.method not in _QUIET and step.method != _BUDGET:
        result = f" = {value_text(step.result)}" if step.result is not None else ""
        lines.append(f"fact     {step.input}{result}")
    lines += [f"order    {order_text(order)}" for order in step.orders]
    lines += [f"guest  < {_frame(frame, vnet)}" for frame in step.frames]
    lines += [f"notice   {notice}" for notice in step.notices]
    if step.raised is not None:
        lines.append(f"failure  {step.raised.splitlines()[0] if step.raised else ''}")
    if step.difference is not None:
        place = f"{step.difference.where}: " if step.difference.where else ""
        lines.append(f"differs  {place}{step.difference.recorded}, and now {step.difference.replayed}")
    head = f"{step.number:>6} {step.time:>12.6f} "
    return [head + line for line in lines]


def _frame(frame: Frame, vnet: bool) -> str:
    data: Buffer = b"".join(frame) if isinstance(frame, tuple) else frame
    if vnet:
        if len(data) < virtio_net.HEADER_SIZE:
            return f"{len(data)} bytes, shorter than virtio_net_hdr"
        data = data[virtio_net.HEADER_SIZE :]
    return summary(data)
