"""The part that all inspectors share: which bytes may pass, the bound, and the end by a name that is not allowed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from sansnet_core.errors import SansnetError
from sansnet_core.orders import Buffer

__all__ = ["LIMIT", "Forbidden", "Inspector", "Unclear"]

LIMIT: Final = 32 << 10
"""Bytes of a connection that may be held back."""


class Forbidden(SansnetError):
    """A connection may not go on.

    Args:
        name: the host name that is not allowed; None if there is no name, or if it is not clear.
        why: for people.
    """

    def __init__(self, name: str | None, why: str) -> None:
        super().__init__(why)
        self.name = name
        self.why = why


class Unclear(SansnetError):
    """The bytes are of another protocol, or servers could read them in more than one way."""


class Inspector:
    """Reads what the guest sends on one connection.

    A strict inspector holds bytes back until it has read a name that is allowed, and forbids all that is unclear. One
    that is not strict only watches: bytes pass at once, and the connection ends only if a name is not allowed. The
    bytes that complete the name do not pass then, so no server has received the whole of it.

    Args:
        is_allowed: whether a name may be spoken to. Names are in canonical form: lower case ASCII, without a trailing
            dot; IP addresses are in text form.
        strict: whether bytes are held back.

    Attributes:
        done: everything from now on passes, and need not be fed any more.
        awaits_host: nothing passes before the host has answered; see `host_received`.
    """

    __slots__ = ("_end", "_is_allowed", "_passed", "_received", "awaits_host", "checked", "done", "position", "strict")

    def __init__(self, is_allowed: Callable[[str], bool], *, strict: bool) -> None:
        self.strict = strict
        self.done = False
        self.awaits_host = False
        self.position = 0
        """For subclasses: the number of bytes that have been parsed."""
        self.checked = 0
        """For subclasses: the number of bytes that may pass."""
        self._is_allowed = is_allowed
        self._received = 0
        self._passed = 0
        self._end: tuple[str | None, str] | None = None

    @property
    def held(self) -> int:
        """The number of bytes that are held back."""
        return self._received - self._passed

    def feed(self, data: Buffer) -> int:
        """Read the next bytes from the guest.

        Returns:
            The number of bytes that may pass now, from the first one that is held back.

        Raises:
            Forbidden: none of the bytes that are held back may pass, and the connection must end.
        """
        self._received += len(data)
        return self._run(data)

    def host_received(self, data: Buffer) -> int:
        """Read the next bytes from the host. Only an inspector with `awaits_host` needs them.

        Returns:
            As from `feed`.

        Raises:
            Forbidden: as from `feed`.
        """
        if not self.awaits_host or self._end is not None:
            return 0
        return self._run(self.answer(data))

    def finish(self) -> None:
        """The guest sends no more (FIN).

        Raises:
            Forbidden: bytes are held back, which will never be complete.
        """
        if self.held and not self.done:
            self._run(b"", "the guest has closed its side before its first message was complete")

    def inspect(self, data: Buffer) -> None:
        """For subclasses: read the next bytes; move `position` and `checked`, set `done`.

        Raises:
            Unclear: see there. A watched connection passes from then on.
            Forbidden: from `see`.
        """
        raise NotImplementedError

    def answer(self, data: Buffer) -> bytes:
        """For subclasses: read the host's bytes; give the guest's bytes that waited and have to be inspected now.

        Only one that sets `awaits_host` has this.
        """
        raise NotImplementedError

    def see(self, name: str) -> None:
        """For subclasses: the guest named a host.

        Raises:
            Forbidden: the name is not allowed.
        """
        if not self._is_allowed(name):
            raise Forbidden(name, f"the name {name} is not allowed")

    def doubt(self, why: str) -> None:
        """For subclasses: something is unclear, but the rest can be read.

        Raises:
            Unclear: the inspector is strict.
        """
        if self.strict:
            raise Unclear(why)

    def bound(self) -> None:
        """For subclasses: check the number of bytes that were parsed and may not pass yet.

        Raises:
            Unclear: there are too many.
        """
        if self.position - self.checked > LIMIT:
            raise Unclear(f"more than {LIMIT} bytes before the name")

    def _run(self, data: Buffer, problem: str | None = None) -> int:
        if self._end is None and not self.done:
            try:
                if problem is not None:
                    raise Unclear(problem)
                self.inspect(data)
            except Unclear as error:
                if self.strict:
                    self._end = None, str(error)
                else:
                    self.done = True
            except Forbidden as error:
                self._end = error.name, error.why
        if self._end is not None:
            raise Forbidden(*self._end)
        until = self._received if self.done or not self.strict else self.checked
        passing = until - self._passed
        self._passed = until
        return passing
