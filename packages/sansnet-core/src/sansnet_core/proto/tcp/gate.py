"""Holds back what the guest sends on a connection until an inspector has read an allowed host name in it.

This module is loaded for the first connection that needs it: most networks have none.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from sansnet_core.context import Context
from sansnet_core.inspect import LIMIT, Forbidden, Inspector, make
from sansnet_core.mypyc import mypyc_attr
from sansnet_core.orders import Buffer, Endpoint
from sansnet_core.proto.tcp.send_buffer import append_chunk
from sansnet_core.targets import Target
from sansnet_core.wire.ip import TCP

__all__ = ["Gate", "open_gate"]

_MAX_NAMES: Final = 16
"""Names of one connection that are judged again when the rules change; the latest ones."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Gate:
    """The data of one connection that may not pass yet.

    Args:
        inspector: reads it.
        names: the names of the connection.

    Attributes:
        refused: the name that ended the connection; None if there is none.
    """

    __slots__ = ("_held", "_inspector", "_names", "refused")

    def __init__(self, inspector: Inspector, names: Names) -> None:
        self._inspector = inspector
        self._names = names
        self._held: deque[Buffer] = deque()
        self.refused: str | None = None

    @property
    def done(self) -> bool:
        """Whether all further data passes."""
        return self._inspector.done

    @property
    def awaits_host(self) -> bool:
        """Whether `host_received` is to be called."""
        return self._inspector.awaits_host

    def receive(self, data: list[Buffer], limit: int) -> list[Buffer] | None:
        """Take data of the guest, in order.

        Args:
            data: the data.
            limit: the largest window: if it is full of bytes that are held back, the guest can send no more.

        Returns:
            The data that may pass now; None if the connection must end.
        """
        for one in data:
            append_chunk(self._held, one)
        try:
            passing = self._take(sum(map(self._inspector.feed, data)))
        except Forbidden as forbidden:
            self.refused = forbidden.name
            return None
        return passing if self._inspector.held < min(limit, LIMIT) else None

    def host_received(self, data: bytes) -> list[Buffer] | None:
        """The host sent data; the data of the guest that may pass now. None if the connection must end."""
        try:
            return self._take(self._inspector.host_received(data))
        except Forbidden as forbidden:
            self.refused = forbidden.name
            return None

    def finish(self) -> bool:
        """The guest has sent FIN; whether it may pass."""
        try:
            self._inspector.finish()
        except Forbidden:  # since no name has come
            return False
        return True

    def is_allowed(self) -> bool:
        """Whether the present rules allow the names that were read."""
        return all(map(self._names.is_allowed, self._names.seen))

    def _take(self, count: int) -> list[Buffer]:
        """The first bytes of those held back."""
        taken: list[Buffer] = []
        while count:
            data = self._held.popleft()
            if len(data) > count:
                self._held.appendleft(data[count:])
                data = data[:count]
            taken.append(data)
            count -= len(data)
        return taken


@mypyc_attr(allow_interpreted_subclasses=True)
class Names:
    """The host names that one connection may name.

    Args:
        context: of the network.
        remote: the destination in the guest's packets.
        target: where the connection leads.

    Attributes:
        seen: the latest names that it was allowed to name.
    """

    __slots__ = ("_context", "_host", "_remote", "_target", "seen")

    def __init__(self, context: Context, remote: Endpoint, target: Target) -> None:
        self._context = context
        self._remote = remote
        self._host = target.hosts[0] if target.hosts else None
        self._target = target
        self.seen: deque[str] = deque(maxlen=_MAX_NAMES)

    def __call__(self, name: str) -> bool:
        """Whether the connection may name a host, given in canonical form; the name is noted then."""
        allowed = self.is_allowed(name)
        if allowed and name not in self.seen:
            self.seen.append(name)
        return allowed

    def is_allowed(self, name: str) -> bool:
        """Whether the connection may name a host."""
        context, target = self._context, self._target
        if target.name not in (None, name) and target.judgement.strict:
            # Another name at the same address: it must be one that the guest has asked for, too
            bindings = context.bindings
            if bindings is None or name not in bindings.names(self._remote.address):
                return False
        return context.targets.is_allowed(TCP, self._remote, self._host, name, via=target.via)


def open_gate(context: Context, remote: Endpoint, target: Target) -> Gate:
    """The gate of a new connection, whose target has a check."""
    names = Names(context, remote, target)
    return Gate(make(target.check, names, strict=target.judgement.strict), names)
