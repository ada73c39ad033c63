"""A kit for tests with trio: guests whose connections are trio streams, in memory and in virtual time."""

from __future__ import annotations

from sansnet_trio.testing.datagrams import SimulatedDatagrams
from sansnet_trio.testing.guest import SimulatedGuest
from sansnet_trio.testing.memory_link import MemoryLink
from sansnet_trio.testing.streams import SimulatedListener, SimulatedStream

__all__ = ["MemoryLink", "SimulatedDatagrams", "SimulatedGuest", "SimulatedListener", "SimulatedStream"]
