"""Finds the answers to questions: among the names of the configuration, in the cache, or at the host's name servers.

Theory of operation. Equal questions that are under way are one. The cache is bounded by bytes; the least recently used
answer gives way. Expired addresses are kept for a while longer: they are used if the servers fail (RFC 8767).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple, TypeAlias

from sansnet_core.config import ResolverConfig
from sansnet_core.context import Context
from sansnet_core.errors import Reason
from sansnet_core.resolver.answers import FAILED, Answer, read_answer
from sansnet_core.resolver.exchange import Exchange
from sansnet_core.resolver.facts import HostFacts
from sansnet_core.resolver.name_servers import NameServers
from sansnet_core.token_bucket import TokenBucket
from sansnet_core.wire import dns_message as dns
from sansnet_core.wire import dns_names
from sansnet_core.wire.dns_message import Message, Question, ResourceRecord

__all__ = ["Found", "Lookups"]

Key: TypeAlias = tuple[bytes, int]
"""A name as on the wire, in lower case, and a type of records."""


class Found(NamedTuple):
    """An answer of the cache.

    Attributes:
        answer: from a server or the configuration.
        until: seconds; when it expires.
        last: seconds; until then, it is used if the servers fail.
    """

    answer: Answer
    until: float
    last: float = 0.0


class Lookups:
    """All questions of one network, and the answers that are known.

    Args:
        context: of the network.
        facts: where sockets are registered.
        config: of the resolver.
    """

    __slots__ = ("_cache", "_context", "_facts", "_held", "_hosts", "_rate", "_servers", "_waiting", "config")

    def __init__(self, context: Context, facts: HostFacts, config: ResolverConfig) -> None:
        limits = context.config.limits
        self._context = context
        self._facts = facts
        self._cache: dict[Key, Found] = {}
        """The least recently used first."""
        self._held = 0
        self._waiting: dict[Key, tuple[Exchange, list[Callable[[Answer], None]]]] = {}
        self._rate = TokenBucket(limits.name_rate, limits.name_burst, context.now)
        self._servers = NameServers(())
        self.configure(config)

    @property
    def held(self) -> int:
        """Bytes of answers, approximately."""
        return self._held

    def configure(self, config: ResolverConfig) -> None:
        """Follow the context's new configuration."""
        self.config = config
        hosts = self._context.config.hosts
        self._hosts = {dns_names.emit(name).lower(): addresses for name, addresses in hosts if addresses}
        if config.servers != self._servers.servers:
            self._servers = NameServers(config.servers)
            self._cache.clear()  # other servers may know other names
            self._held = 0
            for exchange, _ in list(self._waiting.values()):
                exchange.restart(self._servers)

    def hosts(self, name: bytes) -> tuple[bytes, ...]:
        """The addresses that the configuration gives a name."""
        return self._hosts.get(name, ())

    def known(self, name: bytes, type_: int) -> Found | None:
        """The answer to a question, if it is known and has not expired.

        Args:
            name: as on the wire, in lower case.
            type_: of the records.
        """
        if name in self._hosts:
            return Found(self._of_hosts(name, type_), self._context.now)
        found = self._cache.get((name, type_))
        if found is None or found.until <= self._context.now:
            return None
        self._cache[name, type_] = self._cache.pop((name, type_))
        return found

    def _of_hosts(self, name: bytes, type_: int) -> Answer:
        """The answer for a name of the configuration: TTL 0, since a reconfiguration may change it."""
        size = {dns.A: 4, dns.AAAA: 16}.get(type_)
        addresses = tuple(address for address in self._hosts[name] if len(address) == size)
        records = tuple(ResourceRecord(name, type_, dns.INTERNET, 0, address) for address in addresses)
        return Answer(dns.NOERROR, records, addresses, (), 0.0)

    def look_up(self, name: bytes, type_: int, done: Callable[[Answer], None]) -> None:
        """Find the answer to a question; `done` is called with it, maybe at once, and at the latest after a time limit.

        Until the present input ends, `known` has the answer as well.
        """
        key = (name, type_)
        if found := self.known(name, type_):
            done(found.answer)
            return
        if waiting := self._waiting.get(key):
            waiting[1].append(done)
            return
        context = self._context
        if len(self._waiting) >= context.config.limits.name_questions or not self._rate.take(context.now):
            context.drop(Reason.NAME_LIMIT)
            self._keep(key, FAILED._replace(lifetime=1.0))
            done(FAILED)
            return
        question = Question(name, type_)
        exchange = Exchange(context, self._facts, self._servers, question, partial(self._answered, question))
        self._waiting[key] = exchange, [done]
        exchange.start()

    def _answered(self, question: Question, message: Message | None) -> None:
        key = (question.name, question.type)
        answer = self._keep(key, read_answer(message, question, self.config))
        for done in self._waiting.pop(key)[1]:
            done(answer)

    def _keep(self, key: Key, answer: Answer) -> Answer:
        """Keep an answer; instead of a failure, the expired one that is kept already, if it is not too old."""
        now = self._context.now
        until = now + answer.lifetime
        last = until + self.config.grace
        old = self._cache.pop(key, None)
        if old is not None:
            self._held -= old.answer.size
            if answer.rcode == dns.SERVFAIL and old.answer.addresses and now < old.last:
                answer, last = old.answer._replace(lifetime=answer.lifetime), old.last
        self._cache[key] = Found(answer, until, last)
        self._held += answer.size
        while self._held > self._context.config.limits.name_cache and len(self._cache) > 1:
            self._held -= self._cache.pop(next(iter(self._cache))).answer.size
        return answer
