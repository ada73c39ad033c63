"""Operations on a network as data, and a world in which they are done.

An operation is one thing that a guest, the host, the program or time can do. `run` does a sequence of them to a network
of a `Setting`. It plays the driver, and checks all outputs of the network: one that is wrong raises `AssertionError`.
`decode` makes a sequence of any bytes.
"""

from __future__ import annotations

from sansnet_core.testing.host_sockets import HostSockets
from sansnet_core.testing.operations.domains import Operation
from sansnet_core.testing.operations.encoding import decode, encode
from sansnet_core.testing.operations.runner import do, run
from sansnet_core.testing.operations.settings import Setting
from sansnet_core.testing.operations.steps import OPERATIONS
from sansnet_core.testing.operations.world import World

__all__ = ["OPERATIONS", "HostSockets", "Operation", "Setting", "World", "decode", "do", "encode", "run"]
