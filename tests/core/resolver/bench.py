"""A network with our own resolver, a guest that asks, and name servers of the host that are played by the test."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

from sansnet_core import Action, CloseSocket, Endpoint, NameAsked, NetworkConfig, OpenDatagram, Rule, SendDatagram
from sansnet_core.addresses import parse
from sansnet_core.config import ResolverConfig
from sansnet_core.policy import NameMode
from sansnet_core.records import replace
from sansnet_core.testing import make_config
from sansnet_core.testing.packets import UDP, udp
from tests.core.direct import GUEST, GUEST6, Direct

__all__ = ["DNS4", "DNS6", "SERVERS", "Bench", "allow", "configuration"]

DNS4, DNS6 = parse("10.0.2.3"), parse("2001:db8:2::3")
SERVERS: Final = (Endpoint(parse("192.0.2.53"), 53), Endpoint(parse("192.0.2.54"), 53))


def configuration(
    *rules: Rule,
    names: NameMode = NameMode.OWN,
    default: Action | None = Action.REFUSE,
    resolver: dict[str, Any] | None = None,
    **fields: Any,
) -> NetworkConfig:
    """A configuration with a resolver."""
    return replace(
        make_config(),
        dns_servers=(DNS4, DNS6),
        rules=rules,
        default_action=default,
        resolver=replace(ResolverConfig(servers=SERVERS, names=names), **(resolver or {})),
        **fields,
    )


def allow(*names: str, **fields: Any) -> Rule:
    """A rule that allows names."""
    return Rule(action=Action.ALLOW, names=names, **fields)


class Bench(Direct):
    """A guest that asks over UDP, and the datagrams to the host's name servers."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__(config)
        self.asked: list[SendDatagram] = []
        """Questions to the name servers without an answer."""
        self.opened: list[OpenDatagram] = []
        self.closed: list[int] = []
        self.identifier = 0

    def ask(
        self, name: str, type_: str = "A", *, server: bytes = DNS4, port: int = 4000, **options: Any
    ) -> list[dns.message.Message]:
        """Ask the resolver; what it answers at once."""
        self.identifier += 1
        query = dns.message.make_query(name, type_, id=self.identifier, **options)
        return self.ask_bytes(query.to_wire(), server=server, port=port)

    def ask_bytes(self, data: bytes, *, server: bytes = DNS4, port: int = 4000) -> list[dns.message.Message]:
        """Send the resolver a datagram."""
        self.send(udp(GUEST if len(server) == 4 else GUEST6, port, server, 53, data))
        return self.answers()

    def answers(self) -> list[dns.message.Message]:
        """The answers to the guest since the last call."""
        found = [packet for packet in self.packets if packet.protocol == UDP and packet.payload[:2] == b"\0\x35"]
        self.packets = [packet for packet in self.packets if packet not in found]
        self.sort()
        return [dns.message.from_wire(packet.payload[8:]) for packet in found]

    def sort(self) -> None:
        """Put the orders where they belong."""
        for order in self.take():
            if isinstance(order, OpenDatagram):
                self.opened.append(order)
            elif isinstance(order, SendDatagram):
                self.asked.append(order)
            elif isinstance(order, CloseSocket):
                self.closed.append(order.socket)
                self.asked = [one for one in self.asked if one.socket != order.socket]
            else:
                self.orders.append(order)

    def questions(self) -> list[tuple[str, str]]:
        """Name and type of the questions at the name servers."""
        self.sort()
        queries = [dns.message.from_wire(bytes(order.data)) for order in self.asked]
        return [(str(query.question[0].name), dns.rdatatype.to_text(query.question[0].rdtype)) for query in queries]

    def reply(
        self,
        order: SendDatagram,
        *records: str,
        rcode: int = 0,
        authority: Iterable[str] = (),
        flags: int = 0,
        source: Endpoint | None = None,
        identifier: int | None = None,
        question: str | None = None,
    ) -> list[dns.message.Message]:
        """A name server answers with records such as "example.org. 60 IN A 192.0.2.1"; what the guest gets."""
        query = dns.message.from_wire(bytes(order.data))
        answer = dns.message.make_response(query)
        answer.flags |= flags | dns.flags.RA
        answer.set_rcode(dns.rcode.Rcode(rcode))
        answer.answer += [rrset(record) for record in records]
        answer.authority += [rrset(record) for record in authority]
        if identifier is not None:
            answer.id = identifier
        if question is not None:
            answer.question = dns.message.make_query(question, "A").question
        return self.deliver(order, answer.to_wire(), source)

    def deliver(self, order: SendDatagram, data: bytes, source: Endpoint | None = None) -> list[dns.message.Message]:
        """A datagram comes to the socket of a question."""
        self.network.datagram_received(order.socket, source or order.remote, data, 0, 64, 0, self.now)
        self.collect()
        return self.answers()

    def reply_all(self, zone: Mapping[tuple[str, str], tuple[str, ...]]) -> list[dns.message.Message]:
        """The name servers answer all questions from a zone; what the guest gets."""
        found = self.answers()
        while self.asked:
            order = self.asked[0]
            query = dns.message.from_wire(bytes(order.data)).question[0]
            key = (str(query.name), dns.rdatatype.to_text(query.rdtype))
            exists = any(name == key[0] for name, _ in zone)
            found += self.reply(order, *zone.get(key, ()), rcode=0 if exists else 3)
        return found

    def look_up(
        self, name: str, zone: Mapping[tuple[str, str], tuple[str, ...]], type_: str = "A", **options: Any
    ) -> Any:
        """Ask, let the name servers answer from a zone; the one answer."""
        (answer,) = self.ask(name, type_, **options) + self.reply_all(zone)
        return answer

    def told(self) -> list[NameAsked]:
        """The notices about names so far."""
        return [notice for notice in self.notices if isinstance(notice, NameAsked)]


def rrset(record: str) -> dns.rrset.RRset:
    """A record in the text form of a zone file."""
    name, ttl, class_, type_, data = record.split(" ", 4)
    return dns.rrset.from_text(name, int(ttl), class_, type_, data)
