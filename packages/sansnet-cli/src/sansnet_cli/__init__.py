"""The `sansnet` command."""

from sansnet_cli._version import __version__

__all__ = ["__version__"]
