"""The operations: what a guest, the host, the program and time can do to a network."""

from __future__ import annotations

from errno import (
    EACCES,
    ECONNREFUSED,
    ECONNRESET,
    EHOSTUNREACH,
    EMFILE,
    EMSGSIZE,
    ENETUNREACH,
    ENOBUFS,
    EPERM,
    EPROTO,
    ETIMEDOUT,
)
from typing import Final

from sansnet_core.addresses import Endpoint
from sansnet_core.policy import Allow, Drop, Refuse, Serve, Verdict
from sansnet_core.testing.operations.domains import Operation, among, any_bytes, operation
from sansnet_core.testing.operations.places import ADDRESSES, PORTS
from sansnet_core.testing.packets import ACK, FIN, PSH, RST, SYN, URG

__all__ = [
    "OPERATIONS",
    "CableChanges",
    "ForwardBegins",
    "ForwardEnds",
    "GuestAsks",
    "GuestAttaches",
    "GuestConnects",
    "GuestPings",
    "GuestRepeats",
    "GuestReports",
    "GuestSends",
    "GuestSendsDatagram",
    "GuestSendsFrame",
    "GuestSendsSegment",
    "GuestTransfers",
    "HostAnswersName",
    "HostConnects",
    "HostEnds",
    "HostFails",
    "HostFailsDatagram",
    "HostReplies",
    "HostSends",
    "HostSendsDatagram",
    "HostTakes",
    "LateFact",
    "OutputsWait",
    "OutsiderConnects",
    "ProgramConnects",
    "ProgramDecides",
    "ProgramSends",
    "Reconfiguration",
    "ServiceBegins",
    "ServiceEnds",
    "TimeJumps",
    "TimePasses",
]

REMOTE_PORTS: Final = (80, 443, 53, 8080, 853, 0, 65535, 5353)
_SEQUENCES: Final = (0, 0, 0, 0, 0, 1, -1, 2, 10, -10, 100, 1460, -1460, 19_999, 20_000, 70_000, 1 << 31, -(1 << 30))
_WINDOWS: Final = (65535, 0, 1, 100, 1000, 1460, 20_000)
_PICKS: Final = tuple(range(8))
_ERRNOS: Final = (
    ECONNREFUSED, ECONNRESET, ETIMEDOUT, EHOSTUNREACH, ENETUNREACH, EMSGSIZE, EACCES, EPERM, EMFILE, ENOBUFS,
    EPROTO, 0, 4095,
)  # fmt: skip
_VERDICTS: Final[tuple[Verdict, ...]] = (
    Allow(),
    Allow(),
    Allow(Endpoint("2001:db8:eeee::7", 443)),
    Allow(Endpoint("192.0.2.81", 80)),
    Refuse(),
    Refuse(ECONNREFUSED),
    Refuse(ETIMEDOUT),
    Drop(),
    Serve(),
)
_SIZES: Final = (1, 0, 100, 1000, 1460, 1472, 5000, 60_000, 65_507)


# the guest


@operation
class GuestSendsFrame(Operation):
    """A frame as it is, with its offload header if the link has one."""

    frame: bytes = any_bytes()


@operation
class GuestRepeats(Operation):
    """One of the guest's latest frames again."""

    back: int = among(*range(1, 9))


@operation
class GuestAttaches(Operation):
    """A guest is on the link again."""


@operation
class GuestConnects(Operation):
    """A SYN, and with `completes` the rest of the handshake once the SYN-ACK comes.

    `begins` is the beginning of the guest's data.
    """

    port: int = among(*PORTS[:5])
    remote: str = among(*ADDRESSES)
    remote_port: int = among(*REMOTE_PORTS)
    completes: bool = among(True, True, True, False)
    mss: int | None = among(1460, None, 0, 1, 536, 65495)
    scale: int | None = among(None, 0, 2, 7, 14, 200)
    sack: bool = among(True, False)
    window: int = among(*_WINDOWS)
    begins: str = among("", "tls", "tls of another", "http", "http of another", "dns", "dns twice", "zeros")


@operation
class GuestSends(Operation):
    """Data in order, of a guest that acknowledges all that came; with `ends`, a FIN behind it.

    With `edge`, the data ends this number of bytes behind the right edge of the window, in place of `size`. With
    `lost`, the first segment does not arrive.
    """

    port: int = among(*PORTS)
    size: int = among(100, 1, 0, 1000, 1460, 5000, 60_000)
    window: int = among(*_WINDOWS)
    ends: bool = among(False, False, False, True)
    edge: int | None = among(None, None, None, 0, 0, 1, -1, 1460)
    lost: bool = among(False, False, False, True)


@operation
class GuestSendsSegment(Operation):
    """A segment near the right place: numbers are added to the right ones, `sack` is where blocks begin.

    With `edge`, the sequence number counts from the right edge of the window.
    """

    port: int = among(*PORTS)
    flags: int = among(
        ACK, ACK, ACK | PSH, ACK | FIN, ACK | FIN, RST, RST | ACK, SYN, SYN | ACK, SYN | FIN, FIN, 0, ACK | URG, 255
    )
    sequence: int = among(*_SEQUENCES)
    acknowledgment: int = among(*_SEQUENCES)
    size: int = among(0, 0, 1, 100, 1400, 20_000)
    window: int = among(*_WINDOWS)
    sack: tuple[int, ...] = among((), (), (0,), (1460,), (1, 3000, 6000), (-1, 1 << 31, 5, 9))
    edge: bool = among(False, False, False, True)
    options: bytes = among(b"", b"\x01\x01\x02\x04\x00\x00\x00\x00", b"\x03\x03\xff\x00", b"\x05\x02\x08\x0a", b"\xff")


@operation
class GuestSendsDatagram(Operation):
    """A datagram, or with `run` an offloaded run of them."""

    port: int = among(*PORTS)
    remote: str = among(*ADDRESSES)
    remote_port: int = among(*REMOTE_PORTS)
    size: int = among(*_SIZES)
    run: int = among(0, 0, 0, 100, 1000, 1472)
    ttl: int = among(64, 1, 0, 255)
    tos: int = among(0, 255, 3)
    fragment: int = among(0, 0, 0, 8, 1480)


@operation
class GuestAsks(Operation):
    """A question for a name, over UDP."""

    port: int = among(*PORTS)
    name: str = among(
        "a.example.org", "b.example.org", "one.example.net", "proxied.example.com", "asked.example.com", "evil.test",
        "host.example", "1.0.18.198.in-addr.arpa", "A.Example.ORG", "", "x" * 63,
    )  # fmt: skip
    type: int = among(1, 28, 65, 5, 255, 10, 12, 0)
    server: str = among("resolver", "resolver6", "gateway", "server")
    twists: str = among("", "", "", "response", "two questions", "no question", "class", "edns", "cut")


@operation
class GuestPings(Operation):
    """An echo request."""

    identifier: int = among(7, 8, 0, 65535)
    remote: str = among(*ADDRESSES)
    sequence: int = among(1, 2, 0, 65535)
    size: int = among(*_SIZES)
    ttl: int = among(64, 1, 0, 255)
    fragment: int = among(0, 0, 0, 8, 1480)


@operation
class GuestReports(Operation):
    """An ICMP error about one of the latest packets to the guest."""

    back: int = among(*range(1, 9))
    type: int = among(3, 1, 11, 12, 4, 5, 2)
    code: int = among(3, 1, 0, 4, 255)
    size: int = among(28, 0, 8, 20, 40, 48, 1000)
    changed: int = among(-1, -1, -1, 9, 12, 20, 24, 45)


@operation
class GuestTransfers(Operation):
    """A well-behaved program of the guest connects, sends `up` bytes and its end, and reads `down` bytes and an end."""

    remote: str = among("server", "server6", "alias", "virtual", "proxied", "asked", "leased", "leased2", "leased6")
    remote_port: int = among(80, 443, 8080)
    up: int = among(0, 1, 300, 3000, 40_000)
    down: int = among(0, 1, 300, 3000, 40_000)
    mss: int = among(1460, 536, 60_000)
    window: int = among(256 << 10, 700, 65535)
    sack: bool = among(True, False)
    delayed_ack: float = among(0.0, 0.04)


@operation
class CableChanges(Operation):
    """The cable of the well-behaved programs loses, repeats, holds back and delays frames from now on."""

    loss: float = among(0.0, 0.1, 0.4)
    duplicate: float = among(0.0, 0.2)
    reorder: float = among(0.0, 0.3)
    delay: float = among(0.0, 0.001, 0.1)


# the host's sockets


@operation
class HostConnects(Operation):
    """A connect succeeds."""

    pick: int = among(*_PICKS)


@operation
class HostFails(Operation):
    """A connect or a connection fails; the origin of its extended error is `origin`, or it has none."""

    pick: int = among(*_PICKS)
    errno: int = among(*_ERRNOS)
    origin: int = among(0, 1, 2, 3, 255)
    type: int = among(3, 1, 11, 2, 255)
    code: int = among(1, 0, 4, 255)
    info: int = among(0, 1280, 68, 1, (1 << 32) - 1)


@operation
class HostSends(Operation):
    """The remote sends bytes on a stream, which the driver reads as the budget allows."""

    pick: int = among(*_PICKS)
    size: int = among(1000, 1, 100, 50_000, 300_000)


@operation
class HostReplies(Operation):
    """The remote sends bytes that are no data of the guest: of a proxy or a name server that does wrong."""

    pick: int = among(*_PICKS)
    data: bytes = among(
        b"\x05\x00", b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00", b"\x05\x02", b"\x05\xff", b"\x00", b"\x05\x05",
        b"\x05\x00\x00\x03\xff", b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.0 407 no\r\n",
        b"HTTP/1.1 200 \r\n" + bytes(20_000),
        b"\x00\x00", b"\xff\xff", bytes(100),
    )  # fmt: skip


@operation
class HostEnds(Operation):
    """The remote ends a stream, behind what it has sent."""

    pick: int = among(*_PICKS)


@operation
class HostTakes(Operation):
    """A stream takes a part of the data that waits, in 16ths. Below 16, it takes no more by itself from then on."""

    pick: int = among(*_PICKS)
    part: int = among(16, 0, 1, 8)


@operation
class HostSendsDatagram(Operation):
    """A datagram, a run of them, or an echo reply comes to a socket."""

    pick: int = among(*_PICKS)
    source: str = among("asked", "asked", "asked", "other port", *ADDRESSES)
    size: int = among(*_SIZES)
    run: int = among(0, 0, 0, 1, 100, 1000)
    ttl: int = among(64, 0, 1, 255)
    tos: int = among(0, 255)
    local: str = among("", "server", "outsider6", "loopback")


@operation
class HostFailsDatagram(Operation):
    """A datagram or an echo request fails."""

    pick: int = among(*_PICKS)
    errno: int = among(*_ERRNOS)
    origin: int = among(2, 0, 1, 3, 255)
    type: int = among(3, 1, 11, 2, 255)
    code: int = among(3, 1, 0, 4, 255)
    info: int = among(0, 1280, 68, 1, (1 << 32) - 1)
    offender: str = among("server", "server6", "", "loopback")
    known: int = among(0, 8, 1000)


@operation
class HostAnswersName(Operation):
    """A name server answers one of the questions that it was asked."""

    pick: int = among(*_PICKS)
    addresses: tuple[str, ...] = among(
        ("server",), ("server6",), ("server", "outsider", "server6", "outsider6"), (), ("loopback",), ("closed",),
        ("group",), ("leased",), ("zero", "mapped"),
    )  # fmt: skip
    ttl: int = among(60, 0, 1, (1 << 32) - 1)
    alias: str = among("", "", "b.example.org", "evil.test", "itself")
    rcode: int = among(0, 0, 0, 3, 2, 5, 1, 9)
    twists: str = among("", "", "", "truncated", "identifier", "source", "question", "cut", "garbage")


@operation
class LateFact(Operation):
    """A fact about a socket that is closed: the driver was about to report it."""

    pick: int = among(*_PICKS)
    fact: str = among(
        "connected", "received", "sent", "ended", "failed", "datagram", "datagram failed", "echo", "echo failed",
        "decided", "forward removed", "service removed", "service sent", "budget",
    )  # fmt: skip


# outsiders and the program


@operation
class OutsiderConnects(Operation):
    """A listening socket accepts a connection for the guest, which answers with a SYN-ACK if it `accepts`."""

    port: int = among(*PORTS[5:])
    remote: str = among("outsider", "outsider6", "loopback", "self", "server", "zero", "group", "link-local6")
    remote_port: int = among(34567, 34568, 0, 65535)
    address: str = among("", "", "self", "self6", "server")
    accepts: bool = among(True, True, False)
    window: int = among(*_WINDOWS)


@operation
class ProgramConnects(Operation):
    """The program connects to a server in the guest."""

    port: int = among(*PORTS[5:])
    source: str = among("", "", "gateway", "virtual", "self", "loopback")
    source_port: int = among(34567, 34568, 1)
    address: str = among("", "", "self", "self6", "server")
    accepts: bool = among(True, True, False)
    window: int = among(*_WINDOWS)


@operation
class ForwardBegins(Operation):
    """A socket for datagrams from outside."""

    port: int = among(*PORTS)
    address: str = among("", "", "self", "self6", "server")
    outgoing: tuple[int, ...] = among((), (4,), (4, 16))


@operation
class ForwardEnds(Operation):
    """Such a socket is closed."""

    pick: int = among(*_PICKS)


@operation
class ServiceBegins(Operation):
    """The program serves flows itself."""

    protocol: int = among(6, 17)
    prefix: str = among("", "198.51.100.192/26", "0.0.0.0/0", "::/0", "192.0.2.80/32")
    port: int | None = among(None, 80, 53, 443)


@operation
class ServiceEnds(Operation):
    """A service, or a UDP flow that the program serves, ends."""

    pick: int = among(*_PICKS)


@operation
class ProgramSends(Operation):
    """The program sends a datagram by a service of UDP or a flow that it serves."""

    pick: int = among(*_PICKS)
    port: int = among(*PORTS)
    source: str = among("asked", "asked", "virtual", "server", "gateway", "self", "group", "zero")
    size: int = among(*_SIZES)


@operation
class ProgramDecides(Operation):
    """A verdict comes."""

    pick: int = among(*_PICKS)
    verdict: Verdict = among(*_VERDICTS)


@operation
class Reconfiguration(Operation):
    """The configuration changes in one respect."""

    change: str = among("same", "refuse all", "allow all", "ask all", "first", "no proxies", "no resolver", "names",
                        "other addresses", "no virtual", "no aliases", "other servers")  # fmt: skip
    moved: bool = among(False, True)
    keep_flows: bool = among(False, True)


# time and the driver


@operation
class TimePasses(Operation):
    """Seconds pass, deadline by deadline."""

    seconds: float = among(0.0, 0.001, 0.05, 0.3, 1.0, 3.0, 10.0, 40.0, 200.0, 4000.0, 20_000.0)


@operation
class TimeJumps(Operation):
    """Seconds pass in which the driver did nothing: it is late."""

    seconds: float = among(0.3, 1.0, 10.0, 200.0, 20_000.0)


@operation
class OutputsWait(Operation):
    """The driver takes no outputs for a number of operations."""

    operations: int = among(1, 2, 5, 20)


OPERATIONS: Final[tuple[type[Operation], ...]] = (
    GuestSendsFrame, GuestRepeats, GuestAttaches, GuestConnects, GuestSends, GuestSendsSegment, GuestSendsDatagram,
    GuestAsks, GuestPings, GuestReports, HostConnects, HostFails, HostSends, HostReplies, HostEnds, HostTakes,
    HostSendsDatagram, HostFailsDatagram, HostAnswersName, LateFact, OutsiderConnects, ProgramConnects, ForwardBegins,
    ForwardEnds, ServiceBegins, ServiceEnds, ProgramSends, ProgramDecides, Reconfiguration, TimePasses, TimeJumps,
    OutputsWait,
    GuestTransfers,
    CableChanges,
)  # fmt: skip
"""All kinds. Programs of bytes count their places, so new ones go to the end."""
