"""What passed between guest, network and host, one line for each frame and order."""

from __future__ import annotations

from sansnet_core.recording.replay import Step

__all__ = ["conversation"]


def conversation(step: Step) -> list[str]:
    """One line for each frame, order, notice and fact of a step."""
    return [str(step)]
