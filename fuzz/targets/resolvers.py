"""The resolver of names: a hostile guest, and hostile name servers.

Nothing raises. Servers are asked only for names that the rules allow, and in well-formed queries. The guest gets only
well-formed responses to its questions, with addresses that the rules open. Nothing leaves the host for an address that
no server gave an allowed name. At the end, nothing is left.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from functools import cache
from typing import Final

import dns.exception
import dns.flags
import dns.message

from fuzz.choices import Choices
from fuzz.registry import target
from sansnet_core import (
    Action,
    CloseSocket,
    Network,
    NetworkConfig,
    OpenDatagram,
    OpenStream,
    Order,
    Rule,
    SendDatagram,
    SendStream,
    SocketId,
)
from sansnet_core.addresses import Endpoint, parse
from sansnet_core.config import Limits, ResolverConfig
from sansnet_core.orders import ExtendedError
from sansnet_core.policy import Check, Group, NameMode
from sansnet_core.records import replace
from sansnet_core.testing import SECRET, GuestStack, make_config
from sansnet_core.testing.packets import (
    ACK,
    ARP,
    IPV4,
    IPV6,
    PSH,
    SYN,
    TCP,
    UDP,
    Segment,
    ethernet,
    glue,
    read_frame,
    read_ip,
    read_segments,
    udp,
)

__all__ = ["resolver"]

_DNS: Final = (parse("10.0.2.3"), parse("2001:db8:2::3"))
_SERVERS: Final = (Endpoint(parse("192.0.2.53"), 53), Endpoint(parse("192.0.2.54"), 53))
_NAMES: Final = (
    b"\1a\7example\3org\0",
    b"\1b\7example\3org\0",
    b"\2db\7example\3net\0",
    b"\7example\3org\0",
    b"\4evil\3net\0",
    b"\1A\7Example\3ORG\0",
    b"\3a.b\7example\3org\0",
    b"\0",
    b"\x017\x010\x0218\x03198\7in-addr\4arpa\0",
)
_TYPES: Final = (1, 28, 65, 5, 15, 16, 255, 10, 12, 6, 64, 2, 41, 257)
_ADDRESSES: Final = tuple(
    map(
        parse,
        (
            *("93.184.216.7", "2a00:1:2::7", "127.0.0.1", "10.1.2.3", "169.254.169.254", "192.0.2.1", "::1"),
            *("fd00:ec2::254", "64:ff9b::7f00:1", "198.18.0.1", "198.18.0.2", "fd73:616e:736e:6574::1", "8.8.8.8"),
        ),
    )
)
_PUBLIC: Final = (parse("93.184.216.7"), parse("2a00:1:2::7"), parse("8.8.8.8"))
_RULES: Final = (
    Rule(action=Action.ALLOW, names=("*.example.org",), ports=(443,), check=Check.NONE),
    Rule(action=Action.ALLOW, names=("db.example.net",), groups=(Group.PRIVATE,), ports=(5432,)),
)
_LIMITS: Final = (
    Limits(),
    Limits(name_questions=2, names=2, name_cache=300, name_streams=1, name_burst=3, name_rate=1.0, udp_flows=3),
)


@cache
def _config(mode: int, limits: int, default: int) -> NetworkConfig:
    return replace(
        make_config(limits=_LIMITS[limits]),
        dns_servers=_DNS,
        rules=_RULES,
        default_action=(Action.REFUSE, Action.ASK)[default],
        resolver=ResolverConfig(servers=_SERVERS, names=list(NameMode)[mode]),
    )


def _is_open(name: str) -> bool:
    name = name.lower().rstrip(".")
    return name.endswith(".example.org") or name == "db.example.net"


def _text(name: bytes) -> str:
    """A name on the wire, whose labels are plain, as text."""
    labels = []
    while name[0]:
        labels.append(name[1 : 1 + name[0]].decode("ascii"))
        name = name[1 + name[0] :]
    return ".".join(labels)


def _record(name: bytes, kind: int, ttl: int, data: bytes) -> bytes:
    return name + struct.pack("!HHIH", kind, 1, ttl, len(data)) + data


class _Program:
    """The operations."""

    def __init__(self, choices: Choices) -> None:
        self._choices = choices
        config = _config(choices.number(len(NameMode)), choices.number(2), choices.number(2))
        self._default = config.default_action
        self._now = 0.0
        self._guest = GuestStack()
        self._network = Network(config, now=0.0, secret=SECRET)
        self._asked: list[SendDatagram] = []
        """Questions at the servers without an answer."""
        self._streams: dict[SocketId, Endpoint] = {}
        """Streams to servers, and how much was read of them."""
        self._sockets: set[SocketId] = set()
        self._given: dict[bytes, set[bytes]] = {}
        """Name in lower case -> addresses that servers gave it, or that a name that it leads to has."""
        self._numbers = (0, 0)
        """Next sequence number of the guest's connection to the resolver, and the number that it expects."""
        self._port = 2000

    def run(self) -> None:
        operations = self._operations()
        while self._choices.left:
            operations[self._choices.number(256) % len(operations)]()
        self._wait(4000.0)
        self._wait(40_000.0)
        flows = self._network.statistics().flows
        assert flows["name_questions"] == 0
        assert not self._network.flows()
        assert not self._sockets, "sockets that nobody closes"
        assert not self._streams

    def _operations(self) -> list[Callable[[], None]]:
        return [
            self.asks,
            self.server_answers,
            self.time_passes,
            self.connects,
            self.asks_anything,
            self.server_answers_anything,
            self.asks_over_tcp,
            self.sends,
            self.server_fails,
            self.server_stream,
            self.reconfigures,
        ]

    # the guest

    def _send(self, packet: bytes) -> None:
        guest = self._guest
        kind = IPV4 if packet[0] >> 4 == 4 else IPV6
        self._network.receive_frames([ethernet(guest.gateway_mac, guest.mac, kind, packet)], self._now)
        self._outputs()

    def _ask(self, data: bytes) -> None:
        self._port += 1
        server = self._choices.pick(_DNS)
        self._send(udp(self._guest.address(len(server)), self._port, server, 53, data).emit())

    def _query(self) -> bytes:
        choices = self._choices
        flags = choices.pick((0x0100, 0x0100, 0x0110, 0, 0x2000, 0x8000))
        head = struct.pack("!6H", choices.number(4), flags, 1, 0, 0, edns := choices.number(2))
        question = choices.pick(_NAMES) + struct.pack("!HH", choices.pick(_TYPES), choices.pick((1, 1, 1, 255, 3)))
        return head + question + b"\0\0\x29\x04\xd0\0\0\x80\0\0\0" * edns

    def asks(self) -> None:
        self._ask(self._query())

    def asks_anything(self) -> None:
        self._ask(self._choices.take(self._choices.number(80)))

    def asks_over_tcp(self) -> None:
        """In a connection of its own, in one segment or several."""
        network_size = self._choices.number(64)
        data = b"".join(
            len(each).to_bytes(2, "big") + each for each in (self._query() for _ in range(self._choices.number(3)))
        )
        data = data[: len(data) - self._choices.number(4)]
        self._port += 1
        guest, port = self._guest.ipv4, self._port
        self._numbers = (1001, 0)
        self._send(Segment(guest, port, _DNS[0], 53, 1000, 0, SYN, 65535, mss=1460).ip().emit())
        for start in range(0, len(data), network_size + 1):
            number, seen = self._numbers
            part = data[start : start + network_size + 1]
            self._numbers = number + len(part), seen
            self._send(Segment(guest, port, _DNS[0], 53, number, seen, ACK | PSH, 65535, part).ip().emit())

    def connects(self) -> None:
        self._port += 1
        where, port = self._choices.pick(_ADDRESSES), self._choices.pick((443, 5432, 53, 853, 80))
        guest = self._guest.address(len(where))
        self._send(Segment(guest, self._port, where, port, 1000, 0, SYN, 65535, mss=1460).ip().emit())

    def sends(self) -> None:
        self._port += 1
        where, port = self._choices.pick(_ADDRESSES), self._choices.pick((443, 5432, 53, 853, 5353))
        self._send(udp(self._guest.address(len(where)), self._port, where, port, b"data").emit())

    # the name servers

    def _answer(self, query: bytes) -> bytes:
        """A response to a query, with chains, and records of other names."""
        choices = self._choices
        end = query.index(b"\0", 12) + 5  # questions of the network are not compressed
        asked = query[12 : end - 4]
        rcode = choices.pick((0, 0, 0, 0, 3, 2, 5))
        flags = 0x8180 | rcode | choices.pick((0, 0, 0, 0x0200))
        answers, owner = [], asked
        owners = [asked.lower()]
        for _ in range(choices.number(4)):
            ttl = choices.pick((60, 0, 1, 100_000, 0xFFFFFFFF))
            match choices.number(6):
                case 0 | 1:
                    address = choices.pick(_ADDRESSES)
                    answers.append(_record(owner, 1 if len(address) == 4 else 28, ttl, address))
                    self._give(owners, address)
                case 2:
                    name = choices.pick(_NAMES)
                    answers.append(_record(owner, 5, ttl, name))
                    owner = name
                    owners.append(name.lower())
                case 3:
                    name, address = choices.pick(_NAMES), choices.pick(_ADDRESSES)
                    answers.append(_record(name, 1 if len(address) == 4 else 28, ttl, address))
                    self._give([name.lower()] if name.lower() in owners else [], address)
                case 4:
                    service = b"\0\1" + choices.pick(_NAMES) + b"\0\1\0\6\2h2\2h3\0\4\0\4\x0a\1\2\3"
                    answers.append(_record(owner, 65, ttl, service))
                case _:
                    data = choices.take(choices.number(16))
                    answers.append(_record(owner, choices.pick(_TYPES), ttl, data))
                    if len(data) in (4, 16):
                        self._give(owners, data)
        soa = _record(b"\7example\3org\0", 6, 60, b"\0\0" + struct.pack("!5I", 1, 2, 3, 4, 60))
        authority = choices.number(2)
        head = query[:2] + struct.pack("!5H", flags, 1, len(answers), authority, 0)
        return head + query[12:end] + b"".join(answers) + soa * authority

    def _give(self, owners: Iterable[bytes], address: bytes) -> None:
        for owner in owners:
            self._given.setdefault(owner, set()).add(address)

    def _question(self) -> SendDatagram | None:
        return self._choices.pick(self._asked) if self._asked else None

    def server_answers(self) -> None:
        question = self._question()
        if question is None:
            return
        answer = self._answer(bytes(question.data))
        source = question.remote
        match self._choices.number(16):
            case 15:
                answer = bytes([answer[0] ^ 1]) + answer[1:]
            case 14:
                source = Endpoint(parse("8.8.8.8"), 53)
            case 13:
                answer = answer[: self._choices.number(len(answer))]
        self._network.datagram_received(question.socket, source, answer, 0, 64, 0, self._now)
        self._outputs()

    def server_answers_anything(self) -> None:
        question = self._question()
        if question is not None:
            data = bytes(question.data)
            keep = self._choices.pick((2, 12, len(data)))
            answer = data[:2] + b"\x81\x80" + data[4:keep] + self._choices.take(self._choices.number(64))
            if b"\0\1\0\1" in answer or b"\0\x1c\0\1" in answer:
                return  # may be an address record, which only `_answer` notes
            self._network.datagram_received(question.socket, question.remote, answer, 0, 64, 0, self._now)
            self._outputs()

    def server_fails(self) -> None:
        question = self._question()
        if question is not None:
            error = ExtendedError(self._choices.pick((111, 113, 101, 90)), 2, 3, 3, 0, None)
            self._network.datagram_failed(question.socket, question.remote, error, b"", self._now)
            self._outputs()

    def server_stream(self) -> None:
        """Something happens at a stream to a server, to which the network turns for long answers."""
        if not self._streams:
            return
        socket = self._choices.pick(list(self._streams))
        match self._choices.number(4):
            case 0:
                self._network.stream_connected(socket, self._now)
            case 1:
                del self._streams[socket]
                self._network.stream_failed(socket, 111, None, self._now)
            case 2:
                self._network.stream_ended(socket, self._now)
            case _:
                data = self._choices.take(self._choices.number(32))
                data = data[: self._network.receive_budget(socket)]
                if data:
                    self._network.stream_received(socket, data, self._now)
        self._outputs()

    # time, outputs

    def time_passes(self) -> None:
        self._wait(self._choices.pick((0.0, 0.3, 1.0, 5.0, 70.0, 200.0)))

    def reconfigures(self) -> None:
        config = self._network._context.config
        assert config.resolver is not None
        resolver = replace(config.resolver, servers=self._choices.pick((_SERVERS, _SERVERS[:1], ())))
        self._network.reconfigure(replace(config, resolver=resolver), self._now)
        self._outputs()

    def _wait(self, seconds: float) -> None:
        end = self._now + seconds
        for _ in range(5000):
            deadline = self._network.next_deadline()
            if deadline is None or deadline > end:
                break
            self._now = max(self._now, deadline)
            self._network.handle_deadline(self._now)
            self._outputs()
        else:
            raise AssertionError("deadlines without an end")
        self._now = end

    def _outputs(self) -> None:
        for _ in range(1000):
            frames, orders = self._network.take_frames(), self._network.take_orders()
            for frame in frames:
                self._check_frame(glue(frame))
            for order in orders:
                self._check(order)
            self._network.take_notices()
            if not (frames or orders):
                return
        raise AssertionError("outputs without an end")

    def _check(self, order: Order) -> None:
        match order:
            case OpenDatagram(socket):
                assert socket not in self._sockets
                self._sockets.add(socket)
            case SendDatagram(socket, remote, data):
                assert socket in self._sockets
                if remote in _SERVERS:
                    self._check_question(bytes(data))
                    self._asked = [*self._asked[-30:], order]
                else:
                    self._check_place(remote)
            case OpenStream(socket, remote):
                if remote not in _SERVERS:
                    assert order.name is not None
                    assert _is_open(order.name)
                    self._check_place(remote)
                self._streams[socket] = remote
            case SendStream(socket, data):
                assert socket in self._streams
                if self._streams[socket] in _SERVERS:
                    self._check_question(bytes(data)[2:])
                self._network.stream_sent(socket, len(data), self._now)
            case CloseSocket(socket):
                self._sockets.discard(socket)
                self._streams.pop(socket, None)
                self._asked = [each for each in self._asked if each.socket != socket]

    def _check_question(self, data: bytes) -> None:
        query = dns.message.from_wire(data)
        (question,) = query.question
        assert self._default is Action.ASK or _is_open(str(question.name)), question
        assert not query.answer
        assert not query.authority

    def _check_place(self, remote: Endpoint) -> None:
        """Check that an address is one that a server gave an allowed name, and that the rules open it."""
        names = [name for name, addresses in self._given.items() if remote.address in addresses]
        assert any(_is_open(_text(name)) for name in names), f"{remote} is no address of an allowed name"
        assert remote.port in (443, 5432)
        assert (remote.address in _PUBLIC) == (remote.port == 443)

    def _check_frame(self, frame: bytes) -> None:
        read = read_frame(frame, vnet=False)
        if read.ethertype == ARP:
            return
        ip = read_ip(read)
        if ip.protocol == UDP and ip.payload[:2] == b"\0\x35":
            response = dns.message.from_wire(ip.payload[8:])
            assert response.flags & dns.flags.QR
        elif ip.protocol == TCP:
            for segment in read_segments(ip):
                if segment.destination_port == self._port and segment.source_port == 53:
                    self._numbers = self._numbers[0], (segment.sequence + segment.size) % (1 << 32)


def _seeds() -> Iterable[bytes]:
    ask, answer = bytes((0, 0, 0, 0, 0, 0, 0, 0)), bytes((1, 0, 0, 0, 1, 0, 0, 0, 0, 0))
    for mode in range(len(NameMode)):
        for limits in range(2):
            yield bytes((mode, limits, 0)) + ask + answer + answer + bytes((3, 9, 0)) + bytes((3, 0, 0))
    yield bytes(3) + bytes((6, 10, 2)) + ask[1:] + ask[1:] + bytes(8) + answer
    yield bytes(3) + ask + bytes((1, 0, 0, 3, 0, 0, 0)) + bytes((9, 0, 0)) + bytes((9, 0, 3, 8)) + bytes(20)


@target(max_size=300, seconds=5.0, seeds=_seeds, words=_NAMES)
def resolver(data: bytes) -> None:
    """A network with a resolver, led through questions and answers of all kinds."""
    try:
        _Program(Choices(data)).run()
    except dns.exception.DNSException as error:
        raise AssertionError("a malformed message") from error
