"""A DNS server inside of the program, over UDP and TCP. The protocol is in the modules beside it.

Everything is bounded: the questions that wait for a callable, the connections, the questions of one connection that are
answered at the same time, and every wait for a callable or a guest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import trio

from sansnet_core import ConfigError
from sansnet_trio.dns.connection import Connection
from sansnet_trio.dns.exchange import Answers, Exchange, OnQuery
from sansnet_trio.dns.records import Value, read_answer
from sansnet_trio.dns.zones import Zones
from sansnet_trio.groups import only, raise_alone

if TYPE_CHECKING:
    from sansnet_core.addresses import AnyPrefix
    from sansnet_trio.services.carrier import NetworkView
    from sansnet_trio.services.datagrams import GuestDatagrams, Peer
    from sansnet_trio.services.services import Services
    from sansnet_trio.services.streams import GuestStream

__all__ = ["DnsServer", "DnsStatistics"]

_MAX_TTL = (1 << 31) - 1


@dataclass(frozen=True, slots=True)
class DnsStatistics:
    """Counters of a server.

    Attributes:
        udp, tcp: queries that got a response, by protocol.
        rcodes: name of a response code -> how often it was sent.
        malformed: queries that got FORMERR.
        ignored: messages that got no response, because they are responses or too short to be queries.
        dropped: queries over UDP that got no response, because too many waited already.
        refused_connections: connections that were reset, because too many were open.
    """

    udp: int
    tcp: int
    rcodes: Mapping[str, int]
    malformed: int
    ignored: int
    dropped: int
    refused_connections: int

    def __str__(self) -> str:
        codes = ", ".join(f"{count} {code}" for code, count in self.rcodes.items()) or "none"
        return (
            f"DNS queries: {self.udp} over UDP, {self.tcp} over TCP; responses: {codes}; {self.malformed} malformed, "
            f"{self.ignored} ignored, {self.dropped} dropped; {self.refused_connections} connections refused"
        )


class _Bound:
    """A bound for each guest, so that none can keep another one out.

    Args:
        most: the bound.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._present: Counter[NetworkView | None] = Counter()

    def enter(self, network: NetworkView | None) -> bool:
        """Whether there is room for one more of the guest; if so, it is counted."""
        if self._present[network] >= self._most:
            return False
        self._present[network] += 1
        return True

    def leave(self, network: NetworkView | None) -> None:
        """One of the guest is gone."""
        self._present[network] -= 1
        if not self._present[network]:
            del self._present[network]


class DnsServer:
    """Answers the questions of guests about names. See `sansnet_trio.dns` for the forms of names and records.

    Args:
        zones: name -> its records.
        otherwise: the answer for all other names: `"NXDOMAIN"`, `"REFUSED"`, records, or a callable.
        ttl: seconds for which guests may keep records that have no TTL of their own, and negative answers.
        reverse: answer PTR questions for all addresses in `zones`.
        on_query: called with each `Question` that gets a response, and the name of the response code.
        answer_time: seconds that a callable has to answer; then the guest gets SERVFAIL.
        idle_time: seconds without a complete query after which a connection is closed (RFC 7766, section 6.2.3). A
            guest that does not read its responses for as long is reset.
        max_connections: most open connections of one guest. Further ones are reset.
        max_pending: most queries of one guest over UDP that wait for callables, or for room in its link. Further ones
            are dropped.

    Raises:
        ConfigError: a name, a record or a limit is wrong.
    """

    def __init__(
        self,
        zones: Mapping[str, Value] | None = None,
        *,
        otherwise: Value = "NXDOMAIN",
        ttl: int = 60,
        reverse: bool = False,
        on_query: OnQuery | None = None,
        answer_time: float = 5.0,
        idle_time: float = 10.0,
        max_connections: int = 128,
        max_pending: int = 512,
    ) -> None:
        if not 0 <= ttl <= _MAX_TTL:
            raise ConfigError(f"ttl: {ttl} seconds are not possible; give 0 to {_MAX_TTL} (RFC 2181, section 8)")
        for name, seconds in (("answer_time", answer_time), ("idle_time", idle_time)):
            if not seconds > 0:
                raise ConfigError(f"{name}: {seconds} seconds are not possible; give more than 0")
        for name, number in (("max_connections", max_connections), ("max_pending", max_pending)):
            if number < 1:
                raise ConfigError(f"{name}: {number} is too small; give at least 1")
        entry = otherwise if callable(otherwise) else read_answer(otherwise, ttl, "otherwise")
        self._reverse = reverse
        self._answers = Answers(Zones(zones or {}, ttl=ttl, reverse=reverse), entry, ttl, answer_time, on_query)
        self._idle_time = idle_time
        self._connections, self._pending = _Bound(max_connections), _Bound(max_pending)

    def replace(self, zones: Mapping[str, Value]) -> None:
        """Replace all names, from the next question on. Guests may keep answers that they have, for their TTL.

        Raises:
            ConfigError: a name or a record is wrong. Nothing has changed.
        """
        self._answers.zones = Zones(zones, ttl=self._answers.ttl, reverse=self._reverse)

    def statistics(self) -> DnsStatistics:
        """The counters at this moment."""
        names = ("udp", "tcp", "malformed", "ignored", "dropped", "refused_connections")
        counts = self._answers.counts
        return DnsStatistics(rcodes=dict(self._answers.rcodes), **{name: counts[name] for name in names})

    async def serve(
        self,
        services: Services,
        *,
        host: AnyPrefix | None = None,
        port: int = 53,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Answer the guests of `services` over UDP and TCP until cancelled.

        An exception of a callable leaves `serve`, unless it is an `OSError`, `trio.TooSlowError` or one of dnspython:
        for these the guest gets SERVFAIL, or what dnspython's resolver means by it.

        Args:
            services: the services of one or several guests.
            host: the address that guests ask, or a prefix; None for every own and virtual address.
            port: the port.
            task_status: passed by `nursery.start`, which returns when guests can ask.

        Raises:
            OSError: there is a service at this address and port already (EADDRINUSE).
            ConfigError: a callable returned something that is no record.
            Exception: the exception of a callable; a group only if several failed.
        """
        async with services.open_datagrams(port, host=host) as datagrams:
            try:
                async with trio.open_nursery() as nursery:
                    await nursery.start(partial(services.serve_tcp, self._serve_connection, port, host=host))
                    task_status.started()
                    await self._serve_datagrams(datagrams, nursery)
            except BaseExceptionGroup as group:
                raise_alone(only(group))

    async def _serve_datagrams(self, datagrams: GuestDatagrams, nursery: trio.Nursery) -> None:
        while True:
            data, peer = await datagrams.receive()
            exchange = self._answers.begin(data, peer.guest, peer.network)
            if exchange is None:
                continue
            if self._pending.enter(peer.network):
                nursery.start_soon(self._finish, datagrams, peer, exchange)
            else:
                self._answers.counts["dropped"] += 1

    async def _finish(self, datagrams: GuestDatagrams, peer: Peer, exchange: Exchange) -> None:
        """Answer a query, in a task of its own: a guest that does not read its responses must not hold up others."""
        try:
            await exchange.finish()
            self._answers.counts["udp"] += 1
            with suppress(OSError, trio.BrokenResourceError):  # the guest is gone
                await datagrams.send(exchange.response(exchange.payload), peer)
        finally:
            self._pending.leave(peer.network)

    async def _serve_connection(self, stream: GuestStream) -> None:
        network = stream.network
        if not self._connections.enter(network):
            self._answers.counts["refused_connections"] += 1
            stream.abort()
            return
        try:
            async with stream:
                await Connection(self._answers, stream, stream.guest, network, self._idle_time).run()
        except* (trio.BrokenResourceError, trio.TooSlowError):
            stream.abort()
        finally:
            self._connections.leave(network)
