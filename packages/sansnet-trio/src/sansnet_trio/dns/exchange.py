"""One question on its way to a response, with the calls of the program's functions that it needs."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

import dns.exception
import dns.rcode
import dns.rdatatype
import trio

from sansnet_core import NameAsked
from sansnet_trio.dns.message import Query, Reply, compose, read_query
from sansnet_trio.dns.records import Entry, Question, read_answer
from sansnet_trio.dns.resolve import resolve

if TYPE_CHECKING:
    from dns.name import Name

    from sansnet_core import Endpoint
    from sansnet_trio.dns.records import Answerer
    from sansnet_trio.dns.zones import Zones
    from sansnet_trio.services.carrier import NetworkView

__all__ = ["Answers", "Exchange", "OnQuery"]

OnQuery: TypeAlias = Callable[[Question, str], None]
"""Called with a question and the name of the response code that it got."""


@dataclass(slots=True)
class Answers:
    """The state that all exchanges of a server share.

    Attributes:
        zones: the names.
        otherwise: the entry of all other names.
        ttl: seconds, for records without a TTL of their own.
        answer_time: seconds that a callable has to answer.
        on_query: see `OnQuery`.
        counts: malformed, ignored and other events.
        rcodes: name of a response code -> how often it was sent.
    """

    zones: Zones
    otherwise: Entry | Answerer
    ttl: int
    answer_time: float
    on_query: OnQuery | None
    counts: Counter[str] = field(default_factory=Counter)
    rcodes: Counter[str] = field(default_factory=Counter)

    def begin(self, data: bytes, guest: Endpoint, network: NetworkView | None = None) -> Exchange | None:
        """Read a message of a guest; None if it gets no response.

        Args:
            data: the message.
            guest: the endpoint that sent it.
            network: the guest's network, whose subscribers get the name.
        """
        query = read_query(data)
        if query is None:
            self.counts["ignored"] += 1
            return None
        if query.problem == dns.rcode.FORMERR:
            self.counts["malformed"] += 1
        return Exchange(self, query, guest, network)


class Exchange:
    """A query and its reply.

    Attributes:
        reply: the reply; None until `finish` has asked the callables that it needs.
    """

    def __init__(self, answers: Answers, query: Query, guest: Endpoint, network: NetworkView | None) -> None:
        self._answers = answers
        self._query = query
        self._guest = guest
        self._network = network
        self._steps = resolve(answers.zones, answers.otherwise, query)
        self._asked: tuple[Answerer, Name] | None = None
        self.reply: Reply | None = None
        self._advance(None)

    @property
    def payload(self) -> int:
        """Most bytes of the response over UDP."""
        return self._query.payload

    async def finish(self) -> None:
        """Ask the callables. Without an answer in time the reply is SERVFAIL.

        Raises:
            ConfigError: a callable returned something that is no record.
        """
        with trio.move_on_after(self._answers.answer_time):
            while self._asked is not None:
                self._advance(await self._ask(*self._asked))
        if self.reply is None:
            self.reply = Reply(dns.rcode.SERVFAIL)

    def response(self, limit: int) -> bytes:
        """Count and report the exchange, and make the bytes of its response, at most `limit`."""
        assert self.reply is not None
        code = dns.rcode.to_text(self.reply.rcode)
        self._answers.rcodes[code] += 1
        if self._query.name is not None:
            question = self._question(self._query.name)
            if self._network is not None:
                self._network.publish(NameAsked(question.name, answered=True, time=trio.current_time()))
            if self._answers.on_query is not None:
                self._answers.on_query(question, code)
        return compose(self._query, self.reply, limit)

    def _advance(self, entry: Entry | None) -> None:
        try:
            self._asked = self._steps.send(entry)
        except StopIteration as done:
            self._asked, self.reply = None, done.value

    async def _ask(self, answerer: Answerer, name: Name) -> Entry:
        question = self._question(name)
        try:
            answer = answerer(question)
            if inspect.isawaitable(answer):
                answer = await answer
        except dns.exception.DNSException as error:
            return _entry(error)
        except (OSError, trio.TooSlowError):
            return dns.rcode.SERVFAIL
        return read_answer(answer, self._answers.ttl, f"the answer for {question.name}")

    def _question(self, name: Name) -> Question:
        text = name.canonicalize().to_text(omit_final_dot=True)
        return Question(text, dns.rdatatype.to_text(self._query.type), self._guest)


def _entry(error: dns.exception.DNSException) -> Entry:
    """The entry for an exception of dnspython's resolver, which a callable may use to ask other servers."""
    import dns.resolver  # it takes as long to import as all the rest

    if isinstance(error, dns.resolver.NXDOMAIN):
        return dns.rcode.NXDOMAIN
    return {} if isinstance(error, dns.resolver.NoAnswer) else dns.rcode.SERVFAIL
