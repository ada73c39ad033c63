"""Old names of parts of `sansnet_core.testing`."""

from sansnet_core.testing import Impairment as Impairment
from sansnet_core.testing import Netem as Netem

__all__ = ["Impairment", "Netem"]
