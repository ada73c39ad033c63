"""Does operations to a world."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from sansnet_core.config import NetworkConfig
from sansnet_core.errors import UsageError
from sansnet_core.testing.operations import guest_deeds, host_deeds, program_deeds
from sansnet_core.testing.operations.domains import Operation
from sansnet_core.testing.operations.settings import Setting
from sansnet_core.testing.operations.world import World

__all__ = ["do", "run"]

_DEEDS: Final[dict[type[Operation], Callable[[World, Any], None]]] = {
    **guest_deeds.DEEDS,
    **host_deeds.DEEDS,
    **program_deeds.DEEDS,
}


def do(world: World, operations: Iterable[Operation]) -> None:
    """Do operations, one after the other.

    Raises:
        AssertionError: the network does what it must not.
        UsageError: one of them is no operation.
    """
    for one in operations:
        deed = _DEEDS.get(type(one))
        if deed is None:
            raise UsageError(f"operations: {one!r:.100} is none of the kinds in OPERATIONS")
        deed(world, one)
        world.settle()


def run(
    setting: Setting | NetworkConfig,
    operations: Iterable[Operation],
    listen: Callable[[bytes], None] = lambda frame: None,
) -> World:
    """Do operations to a new network, and end all that is left; then nothing may be.

    Args:
        setting: of the network; with a configuration, all connects of the host succeed.
        operations: the operations.
        listen: gets each frame to the guest, after it was checked.

    Returns:
        The world at the end.

    Raises:
        AssertionError: the network does what it must not.
    """
    if isinstance(setting, Setting):
        world = World(setting.config(), connects=setting.connects, listen=listen)
    else:
        world = World(setting, listen=listen)
    do(world, operations)
    world.finish()
    return world
