"""Old names of parts of `sansnet_core.testing`."""

from sansnet_core.testing import GuestConnection as Connection
from sansnet_core.testing import GuestStack as Guest
from sansnet_core.testing import GuestTcpOptions as GuestOptions

__all__ = ["Connection", "Guest", "GuestOptions"]
