"""Old names of parts of `sansnet_core.testing`."""

from sansnet_core.testing import HostScript as Script
from sansnet_core.testing import HostStream as Stream
from sansnet_core.testing import ScriptedHost as Host

__all__ = ["Host", "Script", "Stream"]
