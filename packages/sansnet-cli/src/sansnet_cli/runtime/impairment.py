"""The impairments of a command's guests: one, or several one after the other. Changes stay for later ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sansnet_core.records import replace

if TYPE_CHECKING:
    from sansnet_cli.options.ports import PortOptions
    from sansnet_core.impairment import Impairment
    from sansnet_trio.driver_statistics import DriverStatistics
    from sansnet_trio.network import GuestNetwork
    from sansnet_trio.plan.setup import Setup

__all__ = ["LiveImpairments", "unimpaired"]


def unimpaired(ports: PortOptions) -> str | None:
    """A sentence about connections of a guest in a namespace that need no frames, and so meet no impairment.

    Returns:
        None if no forwarded port leads to such connections.
    """
    used = sorted({forward.option for forward in ports.forwards})
    whole = [option for option in used if option in ("-T", "-U")]
    local = [f"{option} from the host's own loopback" for option in used if option in ("-t", "-u")]
    if not used:
        return None
    return f"connections by {' and by '.join([*whole, *local])} do not meet the bad network, as they need no frames"


class LiveImpairments:
    """Impairments that clients of the control socket change while guests are served.

    Args:
        setup: the setup of the first guest's network.
    """

    def __init__(self, setup: Setup) -> None:
        self._up, self._down, self._seed = setup.impair_up, setup.impair_down, setup.impair_seed
        self._served: GuestNetwork | None = None

    @property
    def impairments(self) -> tuple[Impairment, Impairment]:
        """The present impairments of frames from the guest, and to it."""
        from sansnet_core.impairment import Impairment

        return self._up or Impairment(), self._down or Impairment()

    def impair(self, *, up: Impairment | None = None, down: Impairment | None = None) -> None:
        """Have others from now on; see `GuestNetwork.impair`."""
        self._up, self._down = up or self._up, down or self._down
        if self._served is not None:
            self._served.impair(up=up, down=down, seed=self._seed)

    def driver_statistics(self) -> DriverStatistics | None:
        """The counters of the driver; None without a guest."""
        return None if self._served is None else self._served.driver_statistics()

    def applied(self, setup: Setup) -> Setup:
        """The setup of a new guest, with the present impairments."""
        return replace(setup, impair_up=self._up, impair_down=self._down)

    def serve(self, network: GuestNetwork | None) -> None:
        """Set the network that is served; None at its end."""
        self._served = network
