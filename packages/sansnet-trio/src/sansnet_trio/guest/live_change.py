"""Changing a running guest: addresses and routes of its interface, and its own files.

Theory of operation. A child enters the guest's namespaces, makes the changes, reports the result and ends. The
event loop runs on meanwhile, and kills a child that does not answer in time.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import signal
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Final, NamedTuple

from sansnet_core import fields
from sansnet_core.fields import Addresses, Part, instance, several
from sansnet_core.records import Record, field
from sansnet_trio.guest.child import Channel, start_child
from sansnet_trio.guest.interface import reconfigure
from sansnet_trio.guest.mounts import rewrite
from sansnet_trio.guest.plan import GuestPlan
from sansnet_trio.linux import syscalls
from sansnet_trio.linux.children import end_child
from sansnet_trio.linux.rtnetlink import load_alone

__all__ = ["TIMEOUT", "GuestChange", "OwnFile", "change_guest"]

TIMEOUT: Final = 5.0
"""Seconds that a change may take."""


class GuestChange(Record):
    """Old and new state of a guest, for `CommandGuest.change` and `AttachedGuest.change`.

    Attributes:
        old, new: the plan that the guest has, and the one that it gets.
        kept: addresses of `old` that stay usable, since connections need them, but are not used for new ones.
        given_up: addresses of earlier plans that were kept and are removed now.
    """

    old: Part[GuestPlan] = field(instance(GuestPlan))
    new: Part[GuestPlan] = field(instance(GuestPlan))
    kept: Addresses = field(several(fields.address), default=())
    given_up: Addresses = field(several(fields.address), default=())


class OwnFile(NamedTuple):
    """The new contents of one of the guest's own files.

    Attributes:
        descriptor: descriptor of the present file.
        text: the new contents.
        changed: see `mounts.rewrite`.
    """

    descriptor: int
    text: str
    changed: bool


async def change_guest(
    change: GuestChange,
    join: Callable[[], None],
    descriptors: Collection[int] = (),
    mounts: str | None = None,
    own: Mapping[str, OwnFile] | None = None,
) -> tuple[dict[str, int], tuple[str, ...]]:
    """Change a guest.

    Args:
        change: the change of its interface.
        join: called in the child; it enters the guest's user and network namespaces, or raises OSError.
        descriptors: the descriptors that `join` needs.
        mounts: path of the guest's mount namespace.
        own: the guest's own files, by path.

    Returns:
        Descriptors of files that had to be made anew, by path; and a sentence for each file that could not be replaced.

    Raises:
        OSError: it is not permitted, or the guest is gone; ETIMEDOUT if the child did not answer.
        GuestError: the interface cannot have an address.
    """
    import trio

    own = own or {}
    needed = [*descriptors, *(file.descriptor for file in own.values())]
    pid, channel = start_child(partial(_change_in_child, change, join, mounts, own), needed)
    try:
        with trio.move_on_after(TIMEOUT):
            await trio.lowlevel.wait_readable(channel)
            (paths, problems), descriptors = channel.receive_with_descriptors()
            return dict(zip(paths, descriptors, strict=False)), problems
        raise OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
    except EOFError:
        raise OSError(errno.ESRCH, "the process that changes the guest was killed") from None
    finally:
        channel.close()  # ends the child, even if we changed our user and may not kill it
        end_child(pid)


def _change_in_child(
    change: GuestChange,
    join: Callable[[], None],
    mounts: str | None,
    own: Mapping[str, OwnFile],
    channel: Channel,
    parent: int,
) -> None:
    """The child's part."""
    gc.disable()  # finalizers of the parent's garbage could close descriptors that this process opens
    syscalls.forbid_dump()
    with contextlib.ExitStack() as stack:
        namespace = None
        if mounts is not None and own:
            namespace = os.open(mounts, os.O_RDONLY | os.O_CLOEXEC)
            stack.callback(os.close, namespace)
        if change.new.configure:
            load_alone()
        join()
        syscalls.set_parent_death_signal(signal.SIGKILL)
        syscalls.forbid_dump()  # entering a user namespace may reset it (fs.suid_dumpable)
        if os.getppid() != parent:
            return
        if change.new.configure:
            reconfigure(change.old, change.new, change.kept, change.given_up)
        made: dict[str, int] = {}
        problems: list[str] = []
        if namespace is not None:
            for path, file in own.items():
                try:
                    syscalls.setns(namespace, syscalls.CLONE_NEWNS)
                    new = rewrite(path, file.text, file.descriptor, changed=file.changed)
                except FileNotFoundError:  # the host's file to mount over is gone
                    continue
                except OSError as error:
                    problems.append(f"{path} cannot be replaced ({error.strerror})")
                else:
                    if new is not None:
                        made[path] = new
        channel.send((tuple(made), tuple(problems)), list(made.values()))
