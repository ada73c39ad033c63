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
from sansnet_trio.guest.mounts import file_texts, rewrite
from sansnet_trio.guest.plan import GuestPlan
from sansnet_trio.linux import syscalls
from sansnet_trio.linux.children import end_child

__all__ = ["TIMEOUT", "ChangeProcess", "GuestChange", "LiveGuest", "OwnFile", "change_guest"]

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


class LiveGuest:
    """A running guest that this process may change, because it may enter its namespaces.

    Args:
        join: called in a child; it enters the guest's user and network namespaces, or raises OSError.
        descriptors: the descriptors that `join` needs, and `mounts`.
        mounts: descriptor of the guest's mount namespace; None if it has no files of its own.
        files: descriptors of the guest's own files, by path. A file that is made anew replaces its descriptor there.
    """

    def __init__(
        self,
        join: Callable[[], None],
        descriptors: Collection[int] = (),
        mounts: int | None = None,
        files: dict[str, int] | None = None,
    ) -> None:
        self.join = join
        self.descriptors = descriptors
        self.mounts = mounts
        self.files = {} if files is None else files
        self._written = {path: os.fstat(file).st_mtime_ns for path, file in self.files.items()}
        """Modification times of the files after our last write, in nanoseconds; the guest's writes change them."""

    def begin(self, change: GuestChange) -> ChangeProcess:
        """Begin a change. The guest's own files that the guest has modified are left alone.

        Raises:
            OSError: no process can be started.
        """
        texts = dict(file_texts(change.new)) if self.files else {}
        own = {}
        for path, descriptor in self.files.items():
            untouched = os.fstat(descriptor).st_mtime_ns == self._written[path]
            if path in texts:
                own[path] = OwnFile(descriptor, texts[path], untouched)
        return ChangeProcess(self, change, own)

    def note(self, own: Mapping[str, OwnFile], made: Mapping[str, int]) -> None:
        """Note that files were written.

        Args:
            own: the files.
            made: descriptors of those that had to be made anew, by path.
        """
        for path, file in own.items():
            if path in made:
                os.close(file.descriptor)
                self.files[path] = made[path]
            if path in made or file.changed:
                self._written[path] = os.fstat(self.files[path]).st_mtime_ns


class ChangeProcess:
    """The child that makes one change. Close it, which ends it.

    Args:
        guest: the guest.
        change: the change of its interface.
        own: its own files to write, by path.

    Raises:
        OSError: no process can be started.
    """

    def __init__(self, guest: LiveGuest, change: GuestChange, own: Mapping[str, OwnFile]) -> None:
        self._guest = guest
        self._own = own
        needed = [*guest.descriptors, *(file.descriptor for file in own.values())]
        work = partial(_change_in_child, change, guest.join, guest.mounts, own)
        self._pid, self._channel = start_child(work, needed)

    def fileno(self) -> int:
        """A descriptor that is readable when `finish` does not block."""
        return self._channel.fileno()

    def finish(self) -> tuple[str, ...]:
        """The result, when it is there.

        Returns:
            A sentence for each file that could not be replaced.

        Raises:
            OSError: it is not permitted, or the guest is gone.
            GuestError: the interface cannot have an address.
        """
        try:
            (paths, problems), descriptors = self._channel.receive_with_descriptors()
        except EOFError:
            raise OSError(errno.ESRCH, "the process that changes the guest was killed") from None
        self._guest.note(self._own, dict(zip(paths, descriptors, strict=False)))
        return tuple(problems)

    def close(self) -> None:
        """End it."""
        self._channel.close()  # ends the child, even if we changed our user and may not kill it
        end_child(self._pid)


async def change_guest(guest: LiveGuest, change: GuestChange) -> tuple[str, ...]:
    """Change a guest; see `ChangeProcess.finish`.

    Raises:
        OSError, GuestError: see there; ETIMEDOUT if the child did not answer.
    """
    import trio

    with contextlib.closing(guest.begin(change)) as process:
        with trio.move_on_after(TIMEOUT):
            await trio.lowlevel.wait_readable(process)
            return process.finish()
    raise OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))


def _change_in_child(
    change: GuestChange,
    join: Callable[[], None],
    mounts: int | None,
    own: Mapping[str, OwnFile],
    channel: Channel,
    parent: int,
) -> None:
    """The child's part."""
    gc.disable()  # finalizers of the parent's garbage could close descriptors that this process opens
    syscalls.forbid_dump()
    join()
    syscalls.set_parent_death_signal(signal.SIGKILL)
    syscalls.forbid_dump()  # entering a user namespace may reset it (fs.suid_dumpable)
    if os.getppid() != parent:
        return
    if change.new.configure:
        reconfigure(change.old, change.new, change.kept, change.given_up)
    made: dict[str, int] = {}
    problems: list[str] = []
    for path, file in own.items():
        try:
            if mounts is not None:
                syscalls.setns(mounts, syscalls.CLONE_NEWNS)
            new = rewrite(path, file.text, file.descriptor, changed=file.changed)
        except FileNotFoundError:  # the host's file to mount over is gone
            continue
        except OSError as error:
            problems.append(f"{path} cannot be replaced ({error.strerror})")
        else:
            if new is not None:
                made[path] = new
    channel.send((tuple(made), tuple(problems)), list(made.values()))
