"""Old names of parts of `sansnet_core.testing`."""

from sansnet_core.testing import ManualConnection as ManualConnection

__all__ = ["ManualConnection"]
