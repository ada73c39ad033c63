"""The host's connects for one connection of the guest: to several addresses of a name, or by a proxy.

Theory of operation. A name has addresses of both families, and not all of them may work. They are tried in the manner
of RFC 8305 ("Happy Eyeballs"), so that the guest need not wait for the ones that do not: the families alternate, and
the next attempt begins 0.25 s after the last one, or at once when one has failed. The first that succeeds is the
connection, and the others are aborted. If all fail, the guest sees one failure, the most informative one.

The first attempt has the connection's name for its socket, and further ones have their own.

A connection by a proxy has one attempt, to the proxy. Once that is connected, a handshake asks the proxy to connect to
the destination. Nothing of the guest's passes before it is done. No more is read than the handshake needs, so that the
first bytes of the destination are left for the guest.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from errno import (
    EACCES,
    EADDRNOTAVAIL,
    EAFNOSUPPORT,
    EAGAIN,
    ECONNREFUSED,
    ECONNRESET,
    EINVAL,
    EMFILE,
    ENETDOWN,
    ENETUNREACH,
    ENFILE,
    ENOBUFS,
    ENOMEM,
    ENOSPC,
    ETIMEDOUT,
)
from itertools import chain, zip_longest
from math import inf
from typing import Final, Generic, Protocol, TypeVar

from sansnet_core.errors import UsageError
from sansnet_core.mypyc import mypyc_attr
from sansnet_core.orders import (
    ORIGIN_LOCAL,
    CloseSocket,
    Endpoint,
    ExtendedError,
    OpenStream,
    SendStream,
    SocketId,
)
from sansnet_core.proto.tcp.shared import TcpShared

__all__ = ["DELAY", "MAX_ENDPOINTS", "Attempts", "Handshake", "alternate"]

DELAY: Final = 0.25
"""Seconds between two attempts: the Connection Attempt Delay (RFC 8305, 5)."""
MAX_ENDPOINTS: Final = 8
"""Endpoints that are tried: an answer with hundreds of addresses must not use up the host's sockets."""

_LOCAL: Final = frozenset((EADDRNOTAVAIL, EAFNOSUPPORT, EINVAL, ENETDOWN, ENETUNREACH))
"""The host has no way to an address, as without IPv6; this says nothing about the destination."""
_SILENT: Final = frozenset((EAGAIN, EMFILE, ENFILE, ENOBUFS, ENOMEM, ENOSPC, ETIMEDOUT))
"""There was no answer, or the host lacked a resource."""


class Handshake(Protocol):
    """The dialogue with a proxy, before a connection leads through it.

    Attributes:
        needed: bytes to read next; never more than belong to the dialogue.
        done: it is over.
        errno: why the proxy did not connect; 0 if it has.
    """

    @property
    def needed(self) -> int: ...
    @property
    def done(self) -> bool: ...
    @property
    def errno(self) -> int: ...

    def start(self) -> bytes:
        """The first bytes to send."""

    def receive(self, data: bytes) -> bytes:
        """Take bytes from the proxy, at most `needed`; give those to send."""


class Connection(Protocol):
    """The connection that the attempts are for."""

    socket: SocketId

    @property
    def guest(self) -> Endpoint: ...
    @property
    def remote(self) -> Endpoint: ...

    def host_connected(self, socket: SocketId, host: Endpoint, unsent: int) -> None:
        """An attempt has succeeded; the socket has not taken `unsent` bytes of the handshake yet."""

    def host_failed(self, error: ExtendedError, host: Endpoint) -> None:
        """All attempts have failed; the error, and the endpoint that it is about."""


Flow = TypeVar("Flow", bound=Connection)


@mypyc_attr(allow_interpreted_subclasses=True)
class Attempts(Generic[Flow]):
    """The attempts of one connection.

    Args:
        shared: the state that all connections share.
        sockets: name of a socket -> connection; attempts add and remove their own.
        flow: the connection.
        hosts: the endpoints, the preferred ones first; those of a family stay in order.
        name: the host name that they belong to.
        handshake: for a proxy, which is the only endpoint then.
    """

    __slots__ = (
        "_begun",
        "_failures",
        "_flow",
        "_handshake",
        "_name",
        "_open",
        "_shaking",
        "_shared",
        "_sockets",
        "_unsent",
        "_waiting",
        "deadline",
        "queued",
        "ticket",
    )

    def __init__(
        self,
        shared: TcpShared[Flow],
        sockets: dict[SocketId, Flow],
        flow: Flow,
        hosts: Iterable[Endpoint],
        name: str | None,
        handshake: Handshake | None = None,
    ) -> None:
        self._shared = shared
        self._sockets = sockets
        self._flow = flow
        self._name = name
        self._waiting = deque(alternate(hosts)[:MAX_ENDPOINTS])
        self._begun = False
        self._open: dict[SocketId, Endpoint] = {}
        self._failures: list[tuple[ExtendedError, Endpoint]] = []
        self._handshake = handshake
        self._shaking = False
        self._unsent = 0
        """Bytes of the handshake that the socket has not taken."""
        self.deadline = self.queued = inf
        self.ticket = 0

    @property
    def flow(self) -> Flow:
        """The connection."""
        return self._flow

    @property
    def further(self) -> int:
        """Sockets that connect beside the first one."""
        return max(len(self._open) - 1, 0)

    # attempts

    def begin(self) -> None:
        """Begin the first attempt, or the next one."""
        shared, flow = self._shared, self._flow
        context = shared.context
        if self._open:
            if shared.further >= context.config.limits.tcp_pending:
                context.timers.arm(self, context.now + DELAY)
                return  # one of those under way may end before
            shared.count_further(1)
        socket = context.new_socket() if self._begun else flow.socket
        self._begun = True
        host = self._waiting.popleft()
        self._open[socket] = host
        self._sockets[socket] = flow
        local = context.address_map.outbound(host.address)
        context.out.orders.append(OpenStream(socket, host, local, flow.guest, flow.remote, self._name))
        context.timers.arm(self, context.now + DELAY if self._waiting else inf)

    def expire(self) -> None:
        """The time between two attempts has passed, or that for the handshake."""
        if self._waiting:
            self.begin()
        elif self._shaking:
            for socket in list(self._open):  # none, if the connection has ended at the same time
                self._fail(socket, ETIMEDOUT)

    def connected(self, socket: SocketId) -> None:
        """An attempt has succeeded."""
        if socket not in self._open:
            return
        if self._handshake is None:
            self._succeed(socket)
        else:
            self._shaking = True
            context = self._shared.context
            context.timers.arm(self, context.now + context.config.limits.decision_time)
            self._send(socket, self._handshake.start())

    def failed(self, socket: SocketId, error: ExtendedError) -> None:
        """An attempt has failed, and its socket is closed."""
        if socket not in self._open:
            return
        self._failures.append((error, self._forget(socket)))
        if self._waiting:
            self.begin()
        elif not self._open:
            self._end()
            self._flow.host_failed(*max(self._failures, key=_weight))

    def restrict(self, is_allowed: Callable[[Endpoint], bool]) -> bool:
        """Give up the endpoints that the rules close now; whether there are others."""
        self._waiting = deque(host for host in self._waiting if is_allowed(host))
        for socket, host in list(self._open.items()):
            if not is_allowed(host):
                self._abort(socket, EACCES)
        if self._waiting and not self._open:
            self.begin()
        return bool(self._open)

    def close(self, errno: int) -> None:
        """Abort all of them: the connection is over; `errno` is as in `CloseSocket`."""
        for socket in list(self._open):
            self._abort(socket, errno)
        self._end()

    def _succeed(self, socket: SocketId) -> None:
        flow, host = self._flow, self._open.pop(socket)
        self._shared.count_further(-bool(self._open))
        for other in list(self._open):
            self._abort(other, 0)
        self._end()
        if socket != flow.socket:
            del self._sockets[flow.socket]
        flow.host_connected(socket, host, self._unsent)

    def _abort(self, socket: SocketId, errno: int) -> None:
        self._forget(socket)
        self._shared.context.out.orders.append(CloseSocket(socket, True, errno))

    def _forget(self, socket: SocketId) -> Endpoint:
        host = self._open.pop(socket)
        self._shared.count_further(-bool(self._open))
        if socket != self._flow.socket:
            del self._sockets[socket]
        return host

    def _end(self) -> None:
        self._waiting.clear()
        self._shared.context.timers.forget(self)

    # the handshake with a proxy

    def budget(self, socket: SocketId) -> int:
        """How many bytes may be read from a socket."""
        return self._handshake.needed if self._shaking and self._handshake and socket in self._open else 0

    def received(self, socket: SocketId, data: bytes) -> None:
        """Bytes were read from a socket, within the budget."""
        handshake = self._handshake
        if handshake is None or not self._shaking or socket not in self._open:
            raise UsageError("stream_received: this stream's budget was 0; read nothing before a ResumeStream order")
        self._send(socket, handshake.receive(data))
        if handshake.done:
            if handshake.errno:
                self._fail(socket, handshake.errno)
            else:
                self._succeed(socket)

    def sent(self, count: int) -> None:
        """The socket took bytes of the handshake."""
        if not 0 <= count <= self._unsent:
            raise UsageError(f"count: {count} bytes were reported as sent, but only {self._unsent} were ordered")
        self._unsent -= count

    def ended(self, socket: SocketId) -> None:
        """The proxy has ended the stream during the handshake."""
        if socket in self._open:
            self._fail(socket, ECONNRESET)

    def _send(self, socket: SocketId, data: bytes) -> None:
        if data:
            self._unsent += len(data)
            self._shared.context.out.orders.append(SendStream(socket, data))

    def _fail(self, socket: SocketId, errno: int) -> None:
        self._shared.context.out.orders.append(CloseSocket(socket, True, errno))
        self.failed(socket, ExtendedError(errno, ORIGIN_LOCAL, 0, 0, 0, None))


def alternate(hosts: Iterable[Endpoint]) -> list[Endpoint]:
    """Endpoints in an order in which their families alternate, beginning with that of the first (RFC 8305, 4)."""
    families: dict[int, list[Endpoint]] = {}
    for host in hosts:
        families.setdefault(len(host.address), []).append(host)
    return [host for host in chain.from_iterable(zip_longest(*families.values())) if host is not None]


def _weight(failure: tuple[ExtendedError, Endpoint]) -> int:
    """How much a failure says about the destination; the first of the greatest weight counts."""
    error, _ = failure
    if error.errno in (ECONNREFUSED, ECONNRESET):
        return 3
    if error.errno in _SILENT:
        return 1
    return 0 if error.origin <= ORIGIN_LOCAL and error.errno in _LOCAL else 2
