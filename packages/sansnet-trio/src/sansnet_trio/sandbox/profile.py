"""Profiles: the system calls that one process may use once it is confined."""

from __future__ import annotations

from sansnet_core.records import Record

__all__ = ["Profile"]


class Profile(Record):
    """The system calls that one process may use once it is confined.

    Attributes:
        name: the process, for messages.
    """

    name: str
