"""Why a guest could not be made."""

from __future__ import annotations

from sansnet_core.errors import SansnetError

__all__ = ["CommandNotExecutable", "CommandNotFound", "GuestError"]


class GuestError(SansnetError):
    """A guest could not be made; the message is one sentence that names the remedy."""

    @classmethod
    def unanswered(cls, seconds: float) -> GuestError:
        """The error for a process that prepares the guest and does not answer: it is stopped, or waits itself."""
        return cls(f"the process that prepares the guest has not answered for {seconds:g} s; let it run, or try again")

    @classmethod
    def killed(cls) -> GuestError:
        """The error for a process that was killed while it prepared the guest."""
        return cls("the guest could not be prepared, since the process that did it was killed; try again")


class CommandNotFound(GuestError):
    """There is no program of that name."""


class CommandNotExecutable(GuestError):
    """The file exists, but cannot be executed."""
