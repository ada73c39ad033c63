"""Old names of parts of `sansnet_core.testing`."""

from sansnet_core.testing import ErrorMessage as ErrorMessage
from sansnet_core.testing import read_error as read_error

__all__ = ["ErrorMessage", "read_error"]
