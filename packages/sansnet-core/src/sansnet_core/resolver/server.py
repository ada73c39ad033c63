"""The resolver as the guest sees it: which questions are answered, and how.

Theory of operation. The rules decide about each question. One that they refuse never leaves the host. With
`NameMode.OWN`, a question for addresses gets the name's own address in the family of the question, whatever families
the name has, and its chain of CNAME records stays here. With `NameMode.REAL` it gets the records of the host's name
server, without the addresses that the rules close. Other records are passed on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, TypeAlias

from sansnet_core.config import ResolverConfig
from sansnet_core.context import Context
from sansnet_core.errors import Malformed, Reason
from sansnet_core.notices import NameAsked
from sansnet_core.orders import Endpoint
from sansnet_core.policy import Action, NameMode
from sansnet_core.policy.evaluator import Judgement
from sansnet_core.resolver import reverse
from sansnet_core.resolver.answers import Answer
from sansnet_core.resolver.bindings import NameBindings
from sansnet_core.resolver.lookups import Lookups
from sansnet_core.resolver.reach import is_reachable, judgement_at
from sansnet_core.resolver.special import special
from sansnet_core.resolver.svcb import sanitize, target
from sansnet_core.wire import dns_message as dns
from sansnet_core.wire import dns_names
from sansnet_core.wire.dns_message import Edns, Message, Question, ResourceRecord
from sansnet_core.wire.ip import TCP, UDP

__all__ = ["Server"]

Reply: TypeAlias = Callable[[bytes | None], None]

_RECURSION_DESIRED: Final = 0x0100
_RECURSION_AVAILABLE: Final = 0x0080
_CHECKING_DISABLED: Final = 0x0010
_DNSSEC_OK: Final = 0x8000
"""A flag of EDNS, which a response repeats (RFC 3225, 3)."""
_BADVERS: Final = 16
_BLOCKED: Final = bytes.fromhex("000f0002000f")
"""An option of EDNS: extended error 15, "blocked" (RFC 8914, 4.16)."""
MAX_QUERY: Final = 4096
"""Bytes of the largest query that is read: a name, and options of EDNS."""
MAX_QUERY_RECORDS: Final = 8
"""Most questions and records in a query, which has one question, and records for EDNS and signatures at most. Hundreds
of long names that are compressed would take a hundred times as long to read."""
MIN_DATAGRAM: Final = 512
"""Bytes that every client takes (RFC 1035, 4.2.1)."""
MAX_DATAGRAM: Final = 1232
"""Bytes that pass every link with the smallest MTU of IPv6 (RFC 9715, 3)."""
_LEASE_TTL: Final = 300.0
"""Most seconds for which the guest keeps an address of `NameMode.OWN`: the name may vanish."""
_OPEN: Final = (Action.ALLOW, Action.ASK)
_SERVICES: Final = (dns.SVCB, dns.HTTPS)
_ADDRESS_SIZES: Final = {dns.A: 4, dns.AAAA: 16}


class _Asked:
    """A question of the guest that is not answered yet."""

    __slots__ = ("_limit", "_query", "_reply", "name", "question", "type")

    def __init__(self, query: Message, question: Question, reply: Reply, limit: int | None) -> None:
        self._query = query
        self._reply = reply
        self._limit = limit
        self.question = question
        self.name = dns_names.text(question.name)
        self.type = question.type

    def answer(
        self,
        rcode: int,
        answers: Sequence[ResourceRecord] = (),
        authorities: Sequence[ResourceRecord] = (),
        options: bytes = b"",
    ) -> None:
        """Send the answer."""
        query = self._query
        limit = self._limit
        if limit is None:
            limit = min(max(query.edns.size if query.edns else 0, MIN_DATAGRAM), MAX_DATAGRAM)
        self._reply(respond(query, rcode, (self.question,), answers, authorities, options, limit))

    def ignore(self) -> None:
        """Send no answer."""
        self._reply(None)


def respond(
    query: Message,
    rcode: int,
    questions: tuple[Question, ...] = (),
    answers: Sequence[ResourceRecord] = (),
    authorities: Sequence[ResourceRecord] = (),
    options: bytes = b"",
    limit: int = MIN_DATAGRAM,
) -> bytes:
    """The bytes of a response to a query."""
    flags = dns.RESPONSE | _RECURSION_AVAILABLE
    flags |= query.flags & (dns.OPCODE | _RECURSION_DESIRED | _CHECKING_DISABLED)
    edns = Edns(MAX_DATAGRAM, flags=query.edns.flags & _DNSSEC_OK, options=options) if query.edns else None
    message = Message(query.identifier, flags, rcode, questions, tuple(answers), tuple(authorities), (), edns)
    return dns.emit(message, limit)


class Server:
    """Answers the messages of the guest.

    Args:
        context: of the network.
        lookups: finds answers.
        bindings: the addresses that stand for names.
        config: of the resolver.
    """

    __slots__ = ("_bindings", "_context", "_lookups", "_waiting", "config")

    def __init__(self, context: Context, lookups: Lookups, bindings: NameBindings, config: ResolverConfig) -> None:
        self._context = context
        self._lookups = lookups
        self._bindings = bindings
        self.config = config
        self._waiting: dict[_Asked, None] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def serve(self, guest: Endpoint, server: Endpoint, data: bytes, reply: Reply, limit: int | None = 65535) -> None:
        """Answer a message.

        Args:
            guest: its sender.
            server: its destination.
            data: the message, with any contents.
            reply: called once, maybe at once, with the response; None if there is none.
            limit: bytes of the largest response; None means that of a datagram, as the query says.
        """
        context = self._context
        protocol = UDP if limit is None else TCP
        try:
            if len(data) > MAX_QUERY:
                raise Malformed(Reason.DNS_MALFORMED)
            query = dns.parse(data, MAX_QUERY_RECORDS)
        except Malformed:
            context.drop_packet(Reason.DNS_MALFORMED, protocol, guest, server)
            identifier = int.from_bytes(data[:2], "big")
            is_query = len(data) >= 12 and not data[2] & 0x80
            reply(respond(Message(identifier, 0), dns.FORMERR) if is_query else None)
            return
        if query.flags & dns.RESPONSE:
            context.drop_packet(Reason.DNS_MALFORMED, protocol, guest, server)
            reply(None)
            return
        rcode = _problem(query)
        if rcode:
            context.drop_packet(Reason.DNS_MALFORMED, protocol, guest, server)
            reply(respond(query, rcode, query.questions if len(query.questions) == 1 else ()))
            return
        self._ask(_Asked(query, query.questions[0], reply, limit), protocol, guest, server)

    def _ask(self, asked: _Asked, protocol: int, guest: Endpoint, server: Endpoint) -> None:
        """Answer a question as the rules say."""
        context = self._context
        pointer = reverse.address(asked.question.name)
        if pointer is not None and self._bindings.is_leased(pointer):
            self._answer_pointer(asked, pointer)
            return
        judgement = context.policy.question(asked.name, asked.type)
        of_hosts = self._is_of_hosts(asked)
        own = self.config.names is NameMode.OWN and not of_hosts
        via = own and judgement.rule is not None and judgement.rule.via is not None
        found = None if of_hosts or via else special(asked.name, asked.type)
        if judgement.action is Action.ASK and self.config.names is NameMode.REAL and not (of_hosts or found):
            judgement = judgement._replace(action=Action.REFUSE)  # the verdict would come too late for the question
        if judgement.action in (Action.REFUSE, Action.DROP):
            self._notify(asked, judgement, refused=True)
            context.drop_packet(Reason.REFUSED, protocol, guest, server)
            if judgement.action is Action.DROP:
                asked.ignore()
            else:
                asked.answer(dns.REFUSED, options=_BLOCKED)
            return
        if found is not None:
            self._notify(asked, judgement, here=True)
            self._answer_special(asked, *found)
            return
        if len(self._waiting) >= context.config.limits.name_questions:
            context.drop_packet(Reason.NAME_LIMIT, protocol, guest, server)
            asked.answer(dns.SERVFAIL)
            return
        if asked.type == dns.ANY:  # records of one type are enough (RFC 8482, 4.1)
            asked.type = dns.A if context.config.ipv4 else dns.AAAA
        self._notify(asked, judgement)
        if via or (own and judgement.action is Action.ASK):
            self._answer_own(asked, _LEASE_TTL)  # it is resolved after the verdict, or by the proxy
            return
        self._waiting[asked] = None
        if own and asked.type in _ADDRESS_SIZES:
            self._bindings.resolve(asked.name, partial(self._resolved, asked))
        else:
            name = asked.question.name.lower()
            self._lookups.look_up(name, asked.type, partial(self._looked_up, asked))

    def _is_of_hosts(self, asked: _Asked) -> bool:
        return bool(self._lookups.hosts(asked.question.name.lower()))

    def _notify(self, asked: _Asked, judgement: Judgement, *, refused: bool = False, here: bool = False) -> None:
        here = here or refused or self._lookups.known(asked.question.name.lower(), asked.type) is not None
        now = self._context.now
        self._context.notify(NameAsked(asked.name, here, now, asked.question.type, refused, judgement.text))

    def _notify_closed(self, asked: _Asked, addresses: Sequence[bytes]) -> None:
        """Tell that the guest may reach none of a name's addresses, and the rule about the first one."""
        if not addresses:
            return
        context, first = self._context, addresses[0]
        host = context.address_map.to_host(first, 0)
        rule = judgement_at(context, asked.name, first, host.address if host else None).text
        context.notify(NameAsked(asked.name, False, context.now, asked.question.type, True, rule, first))

    def _answer_pointer(self, asked: _Asked, address: bytes) -> None:
        """Answer a question for the name of an own address, or for its parts."""
        names = self._bindings.names(address)
        self._context.notify(NameAsked(asked.name, True, self._context.now, asked.type))
        if not names:
            asked.answer(dns.NXDOMAIN)
        elif asked.type not in (dns.PTR, dns.ANY):
            asked.answer(dns.NOERROR)
        else:
            data = dns_names.from_text(names[0])
            record = ResourceRecord(asked.question.name, dns.PTR, dns.INTERNET, int(_LEASE_TTL), data)
            asked.answer(dns.NOERROR, (record,))

    def _answer_special(self, asked: _Asked, rcode: int, address: bytes | None) -> None:
        """Answer a question for a name with a meaning of its own."""
        if address is None:
            asked.answer(rcode)
        else:
            record = ResourceRecord(asked.question.name, asked.type, dns.INTERNET, int(_LEASE_TTL), address)
            asked.answer(rcode, (record,))

    # answers

    def _resolved(self, asked: _Asked) -> None:
        """The addresses of a name are known, which gets an own address if the guest may reach one of them."""
        del self._waiting[asked]
        answers = self._bindings.answers(asked.name)
        if any(is_reachable(self._context, asked.name, host) for one in answers for host in one.addresses):
            self._answer_own(asked, min(one.lifetime for one in answers if one.addresses))
            return
        self._notify_closed(asked, [host for one in answers for host in one.addresses])
        rcodes = {one.rcode for one in answers} if answers else {dns.SERVFAIL}
        if dns.SERVFAIL in rcodes:
            asked.answer(dns.SERVFAIL)
        elif dns.NXDOMAIN in rcodes and not any(one.addresses for one in answers):
            asked.answer(dns.NXDOMAIN, (), _authorities(answers))
        else:
            asked.answer(dns.NOERROR, (), _authorities(answers))

    def _answer_own(self, asked: _Asked, lifetime: float) -> None:
        """Answer with the name's own address, if one is asked for."""
        size = _ADDRESS_SIZES.get(asked.type, 0)
        if not self._guest_has(size):
            asked.answer(dns.NOERROR)
            return
        lease = self._bindings.lease(asked.name)
        if lease is None:
            self._context.drop(Reason.NAME_LIMIT)
            asked.answer(dns.SERVFAIL)
            return
        address = self._bindings.leases.address(lease, size)
        ttl = max(int(min(lifetime, _LEASE_TTL)), 1)
        asked.answer(dns.NOERROR, (ResourceRecord(asked.question.name, asked.type, dns.INTERNET, ttl, address),))

    def _guest_has(self, size: int) -> bool:
        """Whether the guest has the family of addresses with this number of bytes."""
        config, guest = self._context.config, self._context.guest
        if size == 4:
            return config.ipv4 is not None
        return size == 16 and config.ipv6 is not None and bool(config.ipv6.address or guest.ipv6)

    def _looked_up(self, asked: _Asked, answer: Answer) -> None:
        """Answer with the records of a name server."""
        del self._waiting[asked]
        context = self._context
        name = asked.question.name.lower()
        found = self._lookups.known(name, asked.type)
        left = max(found.until - context.now, 0.0) if found else answer.lifetime
        records = []
        open_: list[bytes] = []
        for record in answer.records:
            if record.type in _ADDRESS_SIZES and record.type == asked.type:
                if not self._is_open(asked.name, record.data, of_hosts=self._is_of_hosts(asked)):
                    continue
                open_.append(record.data)
            elif record.type in _SERVICES:
                data = sanitize(record.data, udp=self._is_udp_open(asked.name))
                if data is None or not self._may_follow(data):
                    continue
                record = record._replace(name=asked.question.name, data=data)
            elif asked.type in _SERVICES:
                continue  # the guest may not ask for the members of the chain
            records.append(record._replace(ttl=int(left)))
        if answer.addresses and not open_:
            records.clear()
            self._notify_closed(asked, answer.addresses)
        if open_ and not self._is_of_hosts(asked):
            self._bindings.learn(asked.name, open_, context.now + left + self.config.grace)
        asked.answer(answer.rcode, records, [record._replace(ttl=int(left)) for record in answer.authorities])

    def _is_open(self, name: str, address: bytes, *, of_hosts: bool) -> bool:
        """Whether an address may be in an answer."""
        address_map = self._context.address_map
        host = address_map.to_host(address, 0)
        if host is None:
            return of_hosts and address_map.is_own(address)  # a service of the program
        return is_reachable(self._context, name, address, host.address)

    def _may_follow(self, data: bytes) -> bool:
        """Whether the guest may ask for the name that a record of a service leads to."""
        name = target(data)
        return name is None or self._context.policy.question(name, dns.A).action in _OPEN

    def _is_udp_open(self, name: str) -> bool:
        judged = self._context.policy.judge(UDP, None, 443, name=name)
        return judged.action in _OPEN


def _problem(query: Message) -> int:
    """The response code for a query that cannot be answered; 0 if it can."""
    if query.flags & dns.OPCODE:
        return dns.NOTIMP
    if len(query.questions) != 1 or query.answers or query.authorities:
        return dns.FORMERR
    if query.edns is not None and query.edns.version:
        return _BADVERS
    return 0 if query.questions[0].class_ == dns.INTERNET else dns.NOTIMP


def _authorities(answers: Sequence[Answer]) -> tuple[ResourceRecord, ...]:
    return next((one.authorities for one in answers if one.authorities), ())
