"""A whole network, led by a program of bytes: each operation is one byte, and the bytes behind it are its arguments.

fuzz/session.py has the invariants.
"""

from __future__ import annotations

import errno as errnos
from collections.abc import Callable, Iterable
from dataclasses import replace as replaced
from functools import cache
from typing import Final

from fuzz.choices import Choices
from fuzz.registry import target
from fuzz.session import CONVERSATIONS, LISTENING, VIRTUAL, Conversation, Session
from sansnet_core import Action, Allow, Drop, Limits, LinkConfig, NetworkConfig, Refuse, Serve, SocketId, Verdict
from sansnet_core.addresses import Endpoint
from sansnet_core.config import UdpFiltering
from sansnet_core.orders import ExtendedError
from sansnet_core.policy import parse_rule
from sansnet_core.records import replace
from sansnet_core.testing import GATEWAY, OUTSIDER, OUTSIDER6, SERVER, SERVER6, HostScript, make_config
from sansnet_core.testing.packets import ACK, FIN, PSH, RST, SYN, URG, Segment, echo_request, fragments, icmp, udp
from tests.fuzz import corpus
from tests.fuzz.harness import LIMITS, LOOPBACK_ALIAS, fix_ipv4_checksum

__all__ = ["network"]

_LINKS: Final = (
    LinkConfig(mtu=1500, max_frame_size=1514),
    LinkConfig(mtu=1500, max_frame_size=65549, vnet_header=True, checksum_offload=True, tso4=True, tso6=True, uso=True),
    LinkConfig(mtu=1500, max_frame_size=1514, verify_checksums=True),
    LinkConfig(mtu=68, max_frame_size=82),
    LinkConfig(mtu=1280, max_frame_size=1294, vnet_header=True, checksum_offload=True),
    LinkConfig(),
    LinkConfig(mtu=1500, max_frame_size=5000, vnet_header=True, checksum_offload=True, tso4=True, uso=True),
)
_TINY: Final = Limits(
    tcp_flows=2,
    tcp_pending=1,
    tcp_inbound_flows=1,
    udp_flows=2,
    udp_inbound_flows=1,
    echo_flows=1,
    tcp_window=1000,
    tcp_send_buffer=1000,
    tcp_memory=3000,
    tcp_reassembly_segments=2,
    reassembly_datagrams=1,
    reassembly_fragments=2,
    undecided_flows=1,
    stations=1,
    icmp_error_burst=1,
    icmp_error_rate=1,
    echo_burst=1,
)
_LIMITS: Final = (LIMITS, _TINY, Limits(), replace(_TINY, tcp_flows=5, tcp_window=1, tcp_send_buffer=1, tcp_memory=1))
_RULES: Final = (
    (),
    (parse_rule("refuse udp"), parse_rule("ask tcp 192.0.2.0/24")),
    (parse_rule("redirect tcp 192.0.2.80:80 to 127.0.0.1:8080"), parse_rule("drop ping")),
    (parse_rule("refuse 192.0.2.80"), parse_rule("refuse in tcp")),
)
_VERDICTS: Final[tuple[Verdict, ...]] = (
    Allow(),
    Allow(Endpoint(OUTSIDER6.address, 443)),
    Refuse(),
    Refuse(errnos.ETIMEDOUT),
    Drop(),
    Serve(),
)
_ERRNOS: Final = (
    *(errnos.ECONNREFUSED, errnos.EHOSTUNREACH, errnos.ENETUNREACH, errnos.ETIMEDOUT, errnos.ECONNRESET),
    *(errnos.EMSGSIZE, errnos.EACCES, errnos.EPERM, errnos.EPROTO, errnos.ENOBUFS, 0xFFFF),
)
_NEAR: Final = (0, 1, -1, 2, 10, -10, 100, -100, 500, 1000, -1000, 1460, -1460, 19_999, 20_000, 70_000, 1 << 31, -(1 << 30))
_SIZES: Final = (0, 1, 2, 28, 100, 500, 536, 999, 1000, 1400, 1460, 4000, 20_000, 60_000)
_WINDOWS: Final = (65535, 0, 1, 100, 1000, 5000)
_FLAGS: Final = (
    *(ACK, ACK | PSH, ACK | FIN, SYN, SYN | ACK, RST, RST | ACK, FIN, 0, SYN | FIN, SYN | RST, ACK | URG, 0xFF, ACK | 0xC0),
)
_TIMES: Final = (0.0, 0.001, 0.05, 0.3, 1.0, 3.0, 10.0, 61.0, 200.0, 8000.0)
_REMOTES: Final = (
    *(SERVER, GATEWAY, OUTSIDER.address, LOOPBACK_ALIAS, bytes((198, 18, 0, 1)), b"\xff" * 4, bytes((224, 0, 0, 1))),
    *(SERVER6, OUTSIDER6.address, bytes(16), bytes(15) + b"\1"),
)
_STREAMS_MOST: Final = 40
"""Connections of outsiders and forwards in one program: a driver has limits of its own."""
_FRAMES: Final = tuple(corpus.frames().values())


@cache
def _config(link: int, limits: int, options: int) -> NetworkConfig:
    base = make_config(_LINKS[link], _LIMITS[limits])
    filtering = list(UdpFiltering)
    return replace(
        base,
        dns_servers=(GATEWAY,),
        dns_search=("example.org",),
        dns_forward=((GATEWAY, Endpoint(SERVER, 53)),),
        hosts=(("host.example", (LOOPBACK_ALIAS,)), ("asked.example", ())),
        map_host_loopback=(LOOPBACK_ALIAS,),
        virtual=(VIRTUAL,),
        default_action=Action.ASK if options & 1 else None,
        router_advertisements=bool(options & 2),
        learn_addresses=not options & 4,
        udp_filtering=filtering[(options >> 3) % len(filtering)],
        ipv6=base.ipv6 if _LINKS[link].mtu >= 1280 else None,
        rules=_RULES[options >> 5 & 3],
    )


def _options(choices: Choices, flags: int) -> bytes:
    """Options of a segment, padded."""
    made = b""
    kinds = choices.number(256)
    if flags & SYN:
        if not kinds & 1:
            made += b"\2\4" + choices.pick((1460, 1, 0, 536, 65535, 40)).to_bytes(2, "big")
        if not kinds & 2:
            made += bytes((3, 3, choices.pick((2, 0, 7, 14, 255))))
        if not kinds & 4:
            made += b"\4\2"
    elif kinds & 8:
        made += choices.take(choices.number(12))
    return (made + bytes(-len(made) % 4))[:40]


class _Program:
    """The operations."""

    def __init__(self, choices: Choices) -> None:
        self._choices = choices
        link, limits, options = choices.number(len(_LINKS)), choices.number(len(_LIMITS)), choices.number(128)
        script = HostScript(connect=choices.pick((0, 0, 0, None, errnos.ECONNREFUSED, errnos.EHOSTUNREACH)))
        if choices.number(8) == 7:
            script.accept, script.echo = 100, True
        self.session = Session(_config(link, limits, options), script)
        self._services: list[SocketId] = []
        self._opened = 0

    def run(self) -> None:
        operations = self._operations()
        while self._choices.left:
            operations[self._choices.number(256) % len(operations)]()
            self.session.check_limits()
        self.session.finish()

    def _operations(self) -> list[Callable[[], None]]:
        return [
            self.connects,
            self.sends_data,
            self.sends_segment,
            self.host_produces,
            self.time_passes,
            self.acknowledges,
            self.sends_known_frame,
            self.host_does,
            self.connect_ends,
            self.outsider_connects,
            self.sends_datagram,
            self.datagram_arrives,
            self.datagram_fails,
            self.forward,
            self.decides,
            self.service,
            self.program_connects,
            self.reconfigures,
            self.holds,
            self.icmp_error,
            self.sends_bytes,
            self.acknowledges_some,
            self.closes,
            self.asks,
        ]

    def _talk(self) -> Conversation:
        return self._choices.pick(self.session.conversations)

    # the guest's TCP

    def connects(self) -> None:
        """A correct handshake."""
        talk, session = self._talk(), self.session
        talk.sequence = (talk.sequence + 100_000) % (1 << 32)
        options = _options(self._choices, SYN)
        session.segment(talk, SYN, talk.sequence, 0, 65535, 0, options)
        talk.sequence += 1
        session.outputs()
        session.segment(talk, ACK, talk.sequence, talk.seen, self._choices.pick(_WINDOWS), 0, b"")

    def sends_data(self) -> None:
        talk, session, choices = self._talk(), self.session, self._choices
        session.segment(
            talk, ACK | PSH, talk.sequence, talk.seen, choices.pick(_WINDOWS), choices.pick(_SIZES), b""
        )
        talk.sequence = talk.acknowledged

    def sends_segment(self) -> None:
        """Near the right place."""
        talk, choices = self._talk(), self._choices
        flags = choices.pick(_FLAGS)
        place, number = talk.sequence + choices.pick(_NEAR), talk.seen + choices.pick(_NEAR)
        self.session.segment(
            talk, flags, place, number, choices.pick(_WINDOWS), choices.pick(_SIZES), _options(choices, flags)
        )

    def acknowledges(self) -> None:
        """All that came, a few times, as a guest does whose window opens."""
        talk = self._talk()
        window = self._choices.pick(_WINDOWS)
        for _ in range(1 + self._choices.number(4)):
            self.session.segment(talk, ACK, talk.acknowledged or talk.sequence, talk.seen, window, 0, b"")

    def acknowledges_some(self) -> None:
        """With SACK blocks near what came."""
        talk, choices = self._talk(), self._choices
        number = talk.seen - choices.pick(_SIZES)
        blocks = b""
        for _ in range(choices.number(4)):
            left = number + choices.pick(_NEAR)
            blocks += b"".join((each % (1 << 32)).to_bytes(4, "big") for each in (left, left + choices.pick(_SIZES)))
        options = b"\1\1\5" + bytes([2 + len(blocks)]) + blocks if blocks else b""
        self.session.segment(talk, ACK, talk.acknowledged, number, choices.pick(_WINDOWS), 0, options)

    def closes(self) -> None:
        """The guest ends its side in order."""
        talk = self._talk()
        self.session.segment(talk, ACK | FIN, talk.acknowledged, talk.seen, 65535, self._choices.pick((0, 1, 100)), b"")

    # other frames of the guest

    def sends_known_frame(self) -> None:
        """One of the corpus, changed at a few places."""
        choices = self._choices
        frame = bytearray(choices.pick(_FRAMES))
        for _ in range(choices.number(4)):
            place = choices.number(256)
            if place < len(frame):
                frame[place] = choices.number(256)
        if choices.number(8) == 7:
            del frame[choices.number(256) :]
        head = choices.take(12).ljust(12, b"\0") if choices.number(16) == 15 else bytes(12)
        self.session.send_foreign(fix_ipv4_checksum(bytes(frame)), head)

    def sends_bytes(self) -> None:
        """Any bytes behind an Ethernet header."""
        kind = self._choices.pick((b"\x08\x00", b"\x86\xdd", b"\x08\x06", b"\x81\x00"))
        data = self._choices.take(self._choices.number(128))
        guest = self.session.guest
        self.session.send_foreign(fix_ipv4_checksum(guest.gateway_mac + guest.mac + kind + data))

    def sends_datagram(self) -> None:
        """UDP or ping, whole or in fragments."""
        session, choices = self.session, self._choices
        remote = choices.pick(_REMOTES)
        own = session.guest.address(len(remote))
        size = choices.pick((0, 1, 8, 100, 1000, 1472, 3000))
        number = choices.number(8)
        if choices.flag():
            packet = echo_request(own, remote, number, number, bytes(size))
        else:
            packet = udp(own, 5000 + choices.number(4), remote, choices.pick((53, 123, 443, 1, 5353)), bytes(size))
        packets = fragments(packet, 512, number) if choices.number(4) == 3 else [packet]
        if len(packets) == 1:
            packets[0] = replaced(packet, ttl=choices.pick((64, 1, 0, 255)), fragment=choices.pick((0x4000, 0)))
        elif choices.flag():
            packets.reverse()
        frames = [session.packet(each.emit()) for each in packets]
        session.send(*frames[: 1 + choices.number(8)])

    def icmp_error(self) -> None:
        """The guest reports an error about a segment or a datagram of the network."""
        session, talk, choices = self.session, self._talk(), self._choices
        own = session.guest.address(len(talk.remote.address))
        number = (talk.seen - 1 + choices.pick(_NEAR)) % (1 << 32)
        if choices.flag():
            quoted = Segment(*talk.remote, own, talk.port, number, 0, ACK, 0).ip()
        else:
            quoted = udp(*talk.remote, own, 5000 + choices.number(4), bytes(choices.number(20)))
        kind = choices.pick(((3, 3), (3, 4), (11, 0), (4, 0), (1, 4), (2, 0), (3, 0), (1, 0)))
        error = icmp(own, talk.remote.address, *kind, choices.take(4).ljust(4, b"\0") + quoted.emit())
        session.send(session.packet(error.emit()))

    # the host

    def host_produces(self) -> None:
        if streams := self.session.streams():
            self.session.produce(self._choices.pick(streams[-8:]), self._choices.pick(_SIZES))

    def host_does(self) -> None:
        """A remote ends, resets, stops reading, reads little by little."""
        session, what = self.session, self._choices.number(8)
        session.outputs()
        if not (streams := session.streams()):
            return
        stream = self._choices.pick(streams[-8:])
        match what:
            case 0 | 1:
                session.host.end(stream)
            case 2:
                session.host.fail(stream, self._choices.pick(_ERRNOS), session.now)
            case 3 | 4:
                stream.blocked = True
            case 5:
                stream.blocked = False
            case _:
                stream.script = replaced(stream.script, accept=self._choices.pick((1, 100, 1000, 5000)))
        session.outputs()

    def connect_ends(self) -> None:
        """A connect that had no answer has one."""
        session, choices = self.session, self._choices
        session.outputs()
        waiting = [each for each in session.host.streams.values() if not each.connected and not each.closed]
        if session.host.script.connect is not None or not waiting:
            return
        stream = choices.pick(waiting[-8:])
        if choices.flag():
            session.host.fail(stream, choices.pick(_ERRNOS), session.now, self._error() if choices.flag() else None)
        else:
            stream.connected = True
            session.network.stream_connected(stream.socket, session.now)
        session.outputs()

    def outsider_connects(self) -> None:
        """With or without the answer that it should have."""
        session, choices = self.session, self._choices
        if self._opened >= _STREAMS_MOST:
            return
        self._opened += 1
        port, remote = choices.pick(list(LISTENING.items()))
        if len(remote.address) == 16 and session.config.ipv6 is None:
            return
        session.outputs()
        session.host.accept(remote, port, session.now)
        self._answer(port)

    def program_connects(self) -> None:
        """The program connects to a server of the guest."""
        session = self.session
        if self._opened >= _STREAMS_MOST:
            return
        self._opened += 1
        port = self._choices.pick(list(LISTENING))
        session.outputs()
        session.host.connect(port, session.now, source=self._choices.pick((None, Endpoint(VIRTUAL.address[:3] + b"\7", 9))))
        self._answer(port)

    def _answer(self, port: int) -> None:
        session = self.session
        session.outputs()
        if self._choices.number(4) < 3:
            talk = next(each for each in session.conversations if each.port == port)
            talk.sequence = (talk.sequence + 100_000) % (1 << 32)
            session.segment(talk, SYN | ACK, talk.sequence, talk.seen, 65535, 0, _options(self._choices, SYN))
            talk.sequence += 1

    def _error(self) -> ExtendedError:
        choices = self._choices
        offender = choices.pick((None, *_REMOTES))
        info = choices.pick((0, 68, 1280, 1400, 1499, 65535, 0xFFFFFFFF))
        return ExtendedError(
            choices.pick(_ERRNOS), choices.number(5), choices.number(16), choices.number(8), info, offender
        )

    def datagram_arrives(self) -> None:
        """At a socket of UDP, ping, or a forward."""
        session, choices = self.session, self._choices
        session.outputs()
        size = choices.pick((0, 1, 100, 1472, 5000, 65000))
        run = choices.pick((0, 1, 100, 1000)) if size > 100 else 0
        if run == 1 and size > 1472:
            run = 1000
        sockets = [*session.host.datagram_sockets, *session.host.echo_sockets, *session.host.forwards]
        if not sockets:
            return
        socket = choices.pick(sockets)
        ttl, tos = choices.pick((64, 1, 255)), choices.number(4)
        if (echo := session.host.echo_sockets.get(socket)) is not None:
            size = min(size, 65507)
            session.network.echo_received(socket, echo.remote, choices.number(8), bytes(size), ttl, tos, session.now)
        else:
            opened = session.host.datagram_sockets.get(socket)
            width = len(opened.local.address) if opened else choices.pick((4, 16))
            remotes = [each for each in _REMOTES if len(each) == width]
            source = Endpoint(choices.pick(remotes), choices.pick((53, 123, 443, 1, 0)))
            session.network.datagram_received(socket, source, bytes(size), run, ttl, tos, session.now)
        session.outputs()

    def datagram_fails(self) -> None:
        """With any error about any part of what was sent."""
        session, choices = self.session, self._choices
        session.outputs()
        sockets = [*session.host.datagram_sockets, *session.host.echo_sockets, *session.host.forwards]
        if not sockets:
            return
        socket, error = choices.pick(sockets), self._error()
        data = bytes(choices.pick((0, 1, 8, 100, 1472)))
        if socket in session.host.echo_sockets:
            session.network.echo_failed(socket, choices.number(8), error, data, session.now)
        else:
            remote = Endpoint(choices.pick(_REMOTES), choices.pick((53, 123, 443, 1)))
            session.network.datagram_failed(socket, remote, error, data, session.now)
        session.outputs()

    def forward(self) -> None:
        """One is added or removed."""
        session, choices = self.session, self._choices
        session.outputs()
        if choices.flag() and session.host.forwards:
            session.host.remove_forward(choices.pick(sorted(session.host.forwards)), session.now)
        elif len(session.host.forwards) < 4:
            session.host.forward(choices.pick((5300, 5000)), session.now, outgoing=choices.pick(((), (4,), (4, 16))))
        session.outputs()

    # the program

    def decides(self) -> None:
        """A verdict about a flow."""
        session = self.session
        session.outputs()
        if questions := sorted(session.host.questions):
            session.host.decide(self._choices.pick(questions), self._choices.pick(_VERDICTS), session.now)
            session.outputs()

    def service(self) -> None:
        """One begins, ends, or sends."""
        session, choices = self.session, self._choices
        session.outputs()
        match choices.number(3):
            case 0 if not self._services:
                for protocol in (6, 17):
                    self._services.append(session.network.service_added(protocol, None, None, session.now))
            case 1 if self._services:
                session.network.service_removed(self._services.pop(), session.now)
            case 2 if self._services:
                guest = Endpoint(session.guest.ipv4, 5000 + choices.number(4))
                source = Endpoint(choices.pick((bytes((198, 18, 0, 1)), GATEWAY, SERVER)), choices.pick((53, 443)))
                data = bytes(choices.pick((0, 1, 1472, 9000)))
                session.network.service_sent(self._services[-1], guest, source, data, session.now)
        session.outputs()

    def reconfigures(self) -> None:
        """Other rules, name servers and addresses."""
        session, choices = self.session, self._choices
        session.outputs()
        config = replace(
            session.network._context.config,
            rules=choices.pick(_RULES),
            dns_servers=choices.pick(((), (GATEWAY,), (LOOPBACK_ALIAS,))),
            hosts=choices.pick(((), (("host.example", (LOOPBACK_ALIAS,)),))),
            default_action=choices.pick((None, Action.ASK, Action.REFUSE)),
        )
        session.network.reconfigure(config, session.now, moved=choices.flag(), keep_flows=choices.flag())
        session.outputs()

    def asks(self) -> None:
        """For reports, which change nothing."""
        session = self.session
        str(session.network)
        for report in session.network.flows():
            str(report)
        str(session.network.statistics())
        session.network.guest_attached(session.now)
        session.network.report_notices(self._choices.flag())
        session.outputs()

    # time and outputs

    def time_passes(self) -> None:
        self.session.advance(self._choices.pick(_TIMES))

    def holds(self) -> None:
        """The guest's next frames come in one batch, until something else happens."""
        self.session.holds = not self.session.holds


def _seeds() -> Iterable[bytes]:
    start = bytes((0, 0, 0, 0, 0))
    connect, produce, ack = bytes((0, 0, 0)), bytes((3, 0, 10)), bytes((5, 0, 0, 0))
    data, wait, end = bytes((1, 0, 0, 9)), bytes((4, 4)), bytes((22, 0, 0))
    download = start + connect + produce + ack + produce + ack + wait + ack + end
    upload = start + connect + data * 5 + bytes((7, 3, 0)) + data * 20 + wait + bytes((7, 5, 0)) + end
    inbound = start + bytes((9, 0, 0, 0)) + bytes((3, 0, 8)) + bytes((5, 4, 0, 0)) + end
    datagrams = start + bytes((10, 0, 3, 1, 1, 0, 0, 0, 0, 0)) + bytes((11, 2, 0, 0, 0, 0)) + bytes((12, 0, 0, 1)) + bytes(8)
    for link in range(len(_LINKS)):
        for limits in range(len(_LIMITS)):
            for program in (download, upload, inbound, datagrams):
                yield bytes((link, limits)) + program[2:]
    for number in range(len(_FRAMES)):
        yield start + bytes((6, number, 0, 0, 0)) + wait
    assert len(CONVERSATIONS) == 6


@target(max_size=400, seconds=5.0, seeds=_seeds)
def network(data: bytes) -> None:
    """A network that a guest, a host and time lead through any operations."""
    _Program(Choices(data)).run()
