"""Asks the host's name servers.

Theory of operation. The servers are asked in order, each for a few seconds, twice in all, as by the resolver of libc
(resolv.conf(5): `timeout`, `attempts`). One that did not answer in time is asked last for a while. Each try has a new
socket, whose port the host's kernel chooses, and a new identifier, so that an answer cannot be guessed (RFC 5452). A
datagram that is not the answer is ignored. A truncated answer is asked for again over TCP. A server that fails or
refuses is not the last word: the next one is asked.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Final, TypeAlias

from sansnet_core.context import Context
from sansnet_core.errors import Malformed, Reason
from sansnet_core.orders import CloseSocket, Endpoint, OpenDatagram, OpenStream, SendDatagram, SendStream, SocketId
from sansnet_core.resolver.facts import HostFacts
from sansnet_core.resolver.name_servers import NameServers
from sansnet_core.wire import dns_message as dns
from sansnet_core.wire.dns_message import Edns, Message, Question
from sansnet_core.wire.ip import UDP

__all__ = ["Done", "Exchange"]

Done: TypeAlias = Callable[[Message | None], None]
"""Called once, with the answer of a server; None if all failed."""

TIMEOUT: Final = 5.0
"""Seconds for one try."""
ATTEMPTS: Final = 2
MAX_TRIES: Final = 6
"""Most tries in all, so that a question ends within half a minute: libc asks three servers at most."""
MAX_WRONG: Final = 64
"""Most datagrams of one try that are not the answer; then the server is given up, since somebody is guessing."""
DATAGRAM: Final = 1232
"""Bytes of the largest answer over UDP, so that it need not be fragmented (RFC 9715, 3)."""

_RECURSION_DESIRED: Final = 0x0100
_NO_EDNS: Final = (dns.FORMERR, dns.NOTIMP, 16)
"""Response codes of servers that do not know EDNS (RFC 6891, 7); 16 is BADVERS."""


class Exchange:
    """One question, until it is answered or all servers have failed.

    Args:
        context: of the network.
        facts: where sockets are registered.
        servers: of the host.
        question: of class IN.
        done: called with the answer.
    """

    __slots__ = (
        "_buffer",
        "_context",
        "_done",
        "_edns",
        "_facts",
        "_identifier",
        "_order",
        "_question",
        "_servers",
        "_socket",
        "_stream",
        "_try",
        "_worst",
        "_wrong",
        "deadline",
        "queued",
        "ticket",
    )

    def __init__(
        self, context: Context, facts: HostFacts, servers: NameServers, question: Question, done: Done
    ) -> None:
        self._context = context
        self._facts = facts
        self._servers = servers
        self._order: tuple[Endpoint, ...] = ()
        self._question = question
        self._done = done
        self._try = -1
        self._edns = True
        self._identifier = self._wrong = 0
        self._socket: SocketId | None = None
        self._stream = False
        self._buffer = b""
        self._worst: Message | None = None
        """The latest response with a failure."""
        self.deadline = self.queued = inf
        self.ticket = 0

    def start(self) -> None:
        """Ask the first server; `done` may be called at once."""
        self.restart(self._servers)

    def restart(self, servers: NameServers) -> None:
        """Begin again with other servers."""
        self._servers = servers
        self._order = servers.in_order(self._context.now)
        self._try = -1
        self._next()

    def _next(self) -> None:
        """Ask the next server."""
        self._try += 1
        self._edns = True
        if self._try >= min(ATTEMPTS * len(self._order), MAX_TRIES):
            self._finish(self._worst)
        else:
            self._ask()

    @property
    def _server(self) -> Endpoint:
        return self._order[self._try % len(self._order)]

    def _ask(self, *, stream: bool = False) -> None:
        """Send the question to the present server."""
        self._close()
        context, server = self._context, self._server
        self._socket = socket = context.new_socket()
        self._facts.sockets[socket] = self
        self._stream = stream
        self._identifier = context.entropy.next(16)
        self._wrong = 0
        self._buffer = b""
        context.timers.arm(self, context.now + TIMEOUT)
        if stream:
            context.out.orders.append(OpenStream(socket, server, context.address_map.outbound(server.address)))
            return
        local = Endpoint._make((context.address_map.bound(server.address), 0))
        context.out.orders.append(OpenDatagram(socket, local))
        context.out.orders.append(SendDatagram(socket, server, self._query(), 0, 64, 0, may_fragment=True))

    def _query(self) -> bytes:
        edns = Edns(DATAGRAM) if self._edns else None
        return dns.emit(Message(self._identifier, _RECURSION_DESIRED, questions=(self._question,), edns=edns))

    def _close(self) -> None:
        """Close the present socket, unless the driver has done so."""
        socket, self._socket = self._socket, None
        if socket is not None and self._facts.sockets.pop(socket, None) is not None:
            self._context.out.orders.append(CloseSocket(socket))

    def _finish(self, message: Message | None) -> None:
        self._close()
        self._context.timers.forget(self)
        self._done(message)

    # facts

    def connected(self) -> None:
        """See `OwnSocket`."""
        assert self._socket is not None  # otherwise nothing is registered
        query = self._query()
        data = len(query).to_bytes(2, "big") + query
        self._context.out.orders.append(SendStream(self._socket, data))

    def budget(self) -> int:
        """See `OwnSocket`. Never more than the rest of the answer is read."""
        size = len(self._buffer)
        return 2 - size if size < 2 else 2 + int.from_bytes(self._buffer[:2], "big") - size

    def received(self, data: bytes) -> None:
        """See `OwnSocket`."""
        self._buffer += data
        if self.budget():
            return
        message = self._answer(self._buffer[2:])
        if message is None:
            self._next()
        else:
            self._answered(message)

    def datagram(self, source: Endpoint, data: bytes) -> None:
        """See `OwnSocket`."""
        message = self._answer(data) if source == self._server else None
        if message is not None:
            self._answered(message)
            return
        self._context.drop_packet(Reason.HOST_SOURCE, UDP, source, self._server)
        self._wrong += 1
        if self._wrong >= MAX_WRONG:
            self._next()

    def failed(self) -> None:
        """See `OwnSocket`."""
        self._next()

    def expire(self) -> None:
        """The server has not answered in time."""
        if not self._stream:
            self._servers.timed_out(self._server, self._context.now)
        self._next()

    def _answer(self, data: bytes) -> Message | None:
        """The answer to the question; None for anything else (RFC 5452, 9.1)."""
        try:
            message = dns.parse(data)
        except Malformed:
            return None
        if message.identifier != self._identifier or message.flags & (dns.RESPONSE | dns.OPCODE) != dns.RESPONSE:
            return None
        asked = self._question
        if not message.questions and message.rcode in _NO_EDNS:
            return message  # some servers repeat no question that they did not understand
        if len(message.questions) != 1:
            return None
        name, *rest = message.questions[0]
        return message if name.lower() == asked.name.lower() and rest == [asked.type, asked.class_] else None

    def _answered(self, message: Message) -> None:
        self._servers.answered(self._server)
        if message.rcode in _NO_EDNS and self._edns:
            self._edns = False
            self._ask(stream=self._stream)
        elif message.rcode not in (dns.NOERROR, dns.NXDOMAIN):
            self._worst = message
            self._next()
        elif message.flags & dns.TRUNCATED:
            if self._stream:
                self._next()
            else:
                self._ask(stream=True)
        else:
            self._finish(message)
