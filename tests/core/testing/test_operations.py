"""The world of operations notices networks that do wrong."""

from __future__ import annotations

import pytest

from sansnet_core import Network
from sansnet_core.testing.operations import Setting, World, do
from sansnet_core.testing.operations.steps import GuestTransfers


class LosesLargeFrames(Network):
    """A network whose large frames never arrive, so that it gives up and resets its connections."""

    def take_frames(self) -> list[bytes]:
        return [frame for frame in super().take_frames() if len(frame) < 1000]


def test_a_transfer_that_the_network_gives_up_without_a_reason_is_noticed() -> None:
    world = World(Setting().config(), network=LosesLargeFrames)
    do(world, [GuestTransfers(down=3000)])
    with pytest.raises(AssertionError, match="a connection of port 50000 is reset without a reason"):
        world.finish()
