"""A kit for tests with trio: guests in the same program, in memory and in virtual time.

`open_simulated_guest` gives a `SimulatedGuest`, whose connections are trio streams, a network over a `MemoryLink`. Its
cables have delay, bandwidth and faults (`sansnet_core.testing.Impairment`). The other ends are services of the program
and a `SimulatedHost`, so that no socket of the host is made. Under `trio.testing.MockClock(autojump_threshold=0)` all
of it happens in virtual time, without privileges.

`guest_obstacle` is the reason why this machine cannot make real guests. The fixtures of pytest are in `pytest_plugin`,
which pytest loads by itself. Names are loaded when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sansnet_trio.testing.datagrams import SimulatedDatagrams
    from sansnet_trio.testing.front import SimulatedOptions, make_simulated_config, open_simulated_guest
    from sansnet_trio.testing.guest import SimulatedGuest
    from sansnet_trio.testing.host import SimulatedHost
    from sansnet_trio.testing.memory_link import MemoryLink
    from sansnet_trio.testing.obstacles import guest_obstacle
    from sansnet_trio.testing.streams import SimulatedListener, SimulatedStream

__all__ = [
    "MemoryLink",
    "SimulatedDatagrams",
    "SimulatedGuest",
    "SimulatedHost",
    "SimulatedListener",
    "SimulatedOptions",
    "SimulatedStream",
    "guest_obstacle",
    "make_simulated_config",
    "open_simulated_guest",
]

_HOMES = {
    "datagrams": ("SimulatedDatagrams",),
    "front": ("SimulatedOptions", "make_simulated_config", "open_simulated_guest"),
    "guest": ("SimulatedGuest",),
    "host": ("SimulatedHost",),
    "memory_link": ("MemoryLink",),
    "obstacles": ("guest_obstacle",),
    "streams": ("SimulatedListener", "SimulatedStream"),
}
"""Module -> the names here that it defines."""

if not TYPE_CHECKING:  # otherwise type checkers would accept any name

    def __getattr__(name: str) -> object:
        """Import a name when it is first used (PEP 562): pytest loads this package for its plugin."""
        for home, names in _HOMES.items():
            if name in names:
                value = globals()[name] = getattr(import_module(f"{__name__}.{home}"), name)
                return value
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
