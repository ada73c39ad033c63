"""The text of `--version`: the version, and the variant of the core."""

from sansnet_cli._version import __version__

__all__ = ["version"]


def version() -> str:
    """The version of sansnet, and whether it is compiled."""
    from sansnet_core.variant import VARIANT

    return f"sansnet {__version__} ({VARIANT})"
