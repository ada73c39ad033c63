"""Profiles: the system calls and files that one process may use once it is confined, as data.

A rule allows one system call, under conditions on its arguments. Several rules for the same call are alternatives.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from sansnet_core.records import Record

__all__ = ["OWN_GROUP", "OWN_PROCESS", "Argument", "Group", "Profile", "Rule", "allow", "when"]

OWN_PROCESS: Final = -1
"""As the value of an argument: the id of this process."""
OWN_GROUP: Final = -2
"""As the value of an argument: the negative id of the process group of this process, as in kill(2)."""

WORD: Final = 0xFFFFFFFF


class Argument(NamedTuple):
    """A condition on an argument of a system call: it has one of some values.

    Only the lower half of the argument counts: where profiles have conditions, the kernel ignores or refuses the upper
    one.

    Attributes:
        number: its number, from 0.
        values: the values.
        mask: the bits that count.
    """

    number: int
    values: tuple[int, ...]
    mask: int = WORD


class Rule(NamedTuple):
    """Allows a system call if all conditions hold.

    Attributes:
        call: its name.
        arguments: the conditions.
    """

    call: str
    arguments: tuple[Argument, ...] = ()


class Group(NamedTuple):
    """System calls that are allowed for one reason.

    Attributes:
        reason: the reason.
        rules: the rules.
    """

    reason: str
    rules: tuple[Rule, ...]


class Profile(Record):
    """The system calls and files that one process may use once it is confined.

    Attributes:
        name: the process, for messages.
        groups: the system calls that are allowed.
        refused: system calls that fail with an error, for which the process need not end; name -> errno.
        files: paths below which files may be used -> rights, as bits of Landlock's LANDLOCK_ACCESS_FS_*. None does not
            use Landlock: with it, a process can neither mount nor enter the namespaces of others, and can look into
            none of their files in /proc.
        signals: whether it may send signals to processes that are not confined with it, as far as `groups` allow that.
        connects: whether it may connect and bind TCP sockets, as far as `groups` allow that.
    """

    name: str
    groups: tuple[Group, ...]
    refused: Mapping[str, int] = {}
    files: Mapping[str, int] | None = {}
    signals: bool = False
    connects: bool = False


def allow(*names: str) -> tuple[Rule, ...]:
    """Rules that allow system calls with any arguments."""
    return tuple(Rule(name) for name in names)


def when(call: str, *arguments: Argument) -> tuple[Rule, ...]:
    """A rule that allows a system call under conditions."""
    return (Rule(call, arguments),)
