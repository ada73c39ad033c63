"""Messages of DHCP, DHCPv6 and DNS.

A parser raises `Malformed` and nothing else; a message that it reads is the same after it was written and read again;
names mean the same to dnspython.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

import dns.exception
import dns.message
import dns.name

from fuzz.choices import Choices
from fuzz.registry import target
from sansnet_core.errors import Malformed
from sansnet_core.resolver import reverse, svcb
from sansnet_core.testing.packets import dhcp_discover
from sansnet_core.wire import dhcp4, dhcp6, dns_message, dns_names
from sansnet_core.wire import dns as dns_query
from tests.fuzz import corpus

__all__ = ["dhcp4_message", "dhcp6_message", "names_and_bindings", "query_of_names", "whole_dns_message"]


def _dhcp4() -> Iterable[bytes]:
    return [dhcp_discover(bytes(6), kind=kind).payload[8:] for kind in (1, 3, 8)]


@target(seeds=_dhcp4, words=(b"\x63\x82\x53\x63", b"\x35\1", b"\x34\1\3", b"\x3d\7", b"\x32\4"))
def dhcp4_message(data: bytes) -> None:
    """A DHCP or BOOTP message."""
    frame = bytes(42) + data
    assert dhcp4.summary(frame, 42, len(frame)).isprintable()
    try:
        message = dhcp4.parse(frame, 42, len(frame))
    except Malformed:
        return
    assert message.type is None or 0 <= message.type <= 255
    if any(code in (0, 52, 255) for code in message.options):
        raise AssertionError("an option that frames others is among the options")
    if not message.options:
        return  # written as DHCP, not BOOTP
    written = dhcp4.emit(message)
    try:
        again = dhcp4.parse(written, 0, len(written))
    except Malformed:
        assert len(written) > len(data) - 192, "only limits may refuse what was written"
        return
    assert again == message
    assert len(written) == max(300, 241 + sum(map(dhcp4.option_size, message.options.values())))


def _dhcp6() -> Iterable[bytes]:
    return [corpus.packets()["dhcp6 solicit"].payload[8:]]


@target(seeds=_dhcp6, words=(b"\0\1\0\x0a\0\3\0\1", b"\0\3\0\x28", b"\0\5\0\x18", b"\0\x19", b"\0\x0e\0\0"))
def dhcp6_message(data: bytes) -> None:
    """A DHCPv6 message and its associations."""
    frame = bytes(62) + data
    assert dhcp6.summary(frame, 62, len(frame)).isprintable()
    try:
        message = dhcp6.parse(frame, 62, len(frame))
    except Malformed:
        return
    assert dhcp6.emit(message) == data
    for option in message.options:
        if option[0] in (dhcp6.IA_NA, dhcp6.IA_TA, dhcp6.IA_PD):
            try:
                association = dhcp6.parse_association(option)
            except Malformed:
                continue
            assert len(association.id) == 4
            assert all(len(address) == 16 for address in association.addresses)


def _queries() -> Iterable[bytes]:
    found = [dns.message.make_query(name, kind, use_edns=0) for name, kind in (("a.example.org", "A"), (".", "NS"))]
    return [query.to_wire() for query in found] + [corpus.packets()["own name"].payload[8:]]


@target(max_size=512, seeds=_queries, words=(b"\0\0\x29\x04\xd0", b"\xc0\x0c", b"\0\1\0\1"))
def query_of_names(data: bytes) -> None:
    """A query of one question, as the small server of own names reads it."""
    query = dns_query.parse_query(data)
    if query is None:
        return
    full = dns_message.parse(data)
    assert full.questions[0].name.lower() == query.name
    assert full.questions[0].type == query.type
    assert query.question == data[12 : 12 + len(query.question)]
    for type_, size in ((dns_query.A, 4), (dns_query.AAAA, 16)):
        answer = dns_message.parse(dns_query.emit_answer(query, type_, [bytes(size)] * 8))
        assert answer.identifier == query.identifier
        assert [record.name for record in answer.answers] == [full.questions[0].name] * 8


def _responses() -> Iterable[bytes]:
    text = (
        "id 1\nopcode QUERY\nflags QR RD RA\n;QUESTION\na.example.org. IN A\n;ANSWER\n"
        "a.example.org. 60 IN CNAME b.example.org.\nb.example.org. 60 IN A 192.0.2.7\n"
        "b.example.org. 60 IN MX 10 mail.example.org.\nb.example.org. 60 IN SRV 1 2 3 x.example.org.\n"
        "b.example.org. 60 IN HTTPS 1 . alpn=h2,h3 ipv4hint=192.0.2.7\n"
        ";AUTHORITY\nexample.org. 60 IN SOA ns.example.org. admin.example.org. 1 2 3 4 5\n"
    )
    return [*_queries(), dns.message.from_text(text).to_wire()]


def _question_of(data: bytes) -> bytes | None:
    """The name of the first question as dnspython reads it, in lower case."""
    try:
        name, _ = dns.name.from_wire(data, 12)
    except dns.exception.DNSException:
        return None
    return name.canonicalize().to_wire()


@target(max_size=1500, seeds=_responses, words=(b"\xc0\x0c", b"\0\5\0\1", b"\0\x0f\0\1", b"\0\x06\0\1", b"\0\0\x29"))
def whole_dns_message(data: bytes) -> None:
    """A DNS message of any kind."""
    try:
        message = dns_message.parse(data)
    except Malformed:
        return
    if message.questions:
        assert _question_of(data) in (message.questions[0].name.lower(), None)
    written = dns_message.emit(message)
    if len(written) <= 65535:
        assert dns_message.parse(written) == message
    short = dns_message.emit(message, 512)
    if len(short) < len(written):
        assert dns_message.parse(short).questions == message.questions
    for section in (message.answers, message.authorities, message.additional):
        for record in section:
            assert len(record.name) <= 255
    for question in message.questions:
        text = dns_names.text(question.name)
        assert dns_names.from_text(text) == question.name.lower()
        assert text.isascii()
        assert text.isprintable()
        assert " " not in text


def _names() -> Iterable[bytes]:
    service = struct.pack("!H", 1) + b"\0" + struct.pack("!HH", 1, 6) + b"\2h2\2h3"
    return [b"\0" + service, b"\1" + b"\1" + b"7\1" + b"2\1" + b"0\3192\7in-addr\4arpa\0"]


@target(max_size=300, seeds=_names, words=(b"\4arpa\0", b"\7in-addr", b"\3ip6", b"\0\1\0\3\2h3", b"\0\4\0\4"))
def names_and_bindings(data: bytes) -> None:
    """The data of an HTTPS record, and the name of an address."""
    choices = Choices(data)
    http3 = choices.flag()
    content = choices.rest()
    clean = svcb.sanitize(content, udp=http3)
    if clean is not None:
        assert svcb.sanitize(clean, udp=http3) == clean
        assert len(clean) <= len(content)
        target = svcb.target(clean)
        assert target is None or target.isprintable()
    try:
        message = dns_message.parse(bytes((0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0)) + content + b"\0\x0c\0\1")
    except Malformed:
        return
    found = reverse.address(message.questions[0].name)
    assert found is None or len(found) in (4, 16)
