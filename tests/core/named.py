"""Connections of a guest to addresses that stand for names, segment by segment; the host is the test itself."""

from __future__ import annotations

from typing import Any

from sansnet_core import Action, OpenStream, Rule, SendStream
from sansnet_core.addresses import packed
from sansnet_core.records import replace
from sansnet_core.testing import make_config
from sansnet_core.testing.packets import ACK, FIN, ICMP, ICMPV6, PSH, SYN, TCP, Segment, read_segments
from tests.core.bindings import FakeBindings
from tests.core.direct import GUEST, GUEST6, Direct

__all__ = [
    "LEASE",
    "LEASE6",
    "NAME",
    "OTHER",
    "OTHER_LEASE",
    "PUBLIC",
    "PUBLIC6",
    "PUBLIC_B",
    "PUBLIC_B6",
    "TcpGuest",
    "named",
    "opened",
    "sent",
]

NAME, OTHER = "db.example.org", "files.example.net"
LEASE, LEASE6, OTHER_LEASE = "198.18.0.1", "fd73:616e:736e:6574::1", "198.18.0.2"
PUBLIC, PUBLIC6 = "93.184.215.14", "2606:2800:21f:cb07::1"
PUBLIC_B, PUBLIC_B6 = "93.184.215.15", "2606:2800:21f:cb07::2"


def named(*rules: Rule, real: dict[str, list[str]] | None = None, **fields: Any) -> tuple[Direct, FakeBindings]:
    """A network with rules that refuses all else, and with own addresses for two names."""
    given = {"rules": rules, "default_action": Action.REFUSE, "notices": True} | fields
    bench = Direct(replace(make_config(), **given))
    bindings = FakeBindings({LEASE: NAME, LEASE6: NAME, OTHER_LEASE: OTHER}, real)
    bindings.attach(bench)
    return bench, bindings


class TcpGuest:
    """The guest's side of one connection.

    Attributes:
        sequence: of its next byte.
        seen: the number that it acknowledges.
    """

    def __init__(self, bench: Direct, destination: str = LEASE, port: int = 5432, *, source_port: int = 40000) -> None:
        self.bench = bench
        self.address = packed(destination)
        self.port, self.source_port = port, source_port
        self.sequence, self.seen = 1000, 0

    def _send(self, flags: int, payload: bytes = b"", *, mss: int | None = None) -> None:
        guest = GUEST if len(self.address) == 4 else GUEST6
        segment = Segment(
            guest, self.source_port, self.address, self.port, self.sequence, self.seen, flags, 65535, payload, mss=mss
        )
        self.bench.send(segment.ip())

    def syn(self) -> None:
        """Send the SYN, or repeat it."""
        self.sequence = 1000
        self._send(SYN, mss=1460)
        self.sequence += 1

    def accept(self) -> None:
        """Acknowledge the SYN-ACK, which must have come."""
        (answer,) = self.segments()
        assert answer.flags == SYN | ACK
        self.seen = (answer.sequence + 1) % (1 << 32)
        self._send(ACK)

    def data(self, payload: bytes) -> None:
        """Send bytes."""
        self._send(ACK | PSH, payload)
        self.sequence += len(payload)

    def fin(self) -> None:
        """Send FIN."""
        self._send(ACK | FIN)
        self.sequence += 1

    def segments(self) -> list[Segment]:
        """The segments to the guest since the last call; there must be no ICMP errors."""
        packets, self.bench.packets = self.bench.packets, []
        assert {packet.protocol for packet in packets} <= {TCP}
        return [segment for packet in packets for segment in read_segments(packet, 0)]

    def errors(self) -> list[tuple[int, int]]:
        """Type and code of the ICMP errors since the last call; there must be no segments."""
        packets, self.bench.packets = self.bench.packets, []
        assert {packet.protocol for packet in packets} <= {ICMP, ICMPV6}
        return [(packet.payload[0], packet.payload[1]) for packet in packets]


def opened(bench: Direct) -> list[OpenStream]:
    """The connects that were ordered since the last call; nothing else may have been."""
    orders = bench.take()
    found = [order for order in orders if isinstance(order, OpenStream)]
    assert found == orders
    return found


def sent(bench: Direct) -> bytes:
    """The bytes for the host since the last call; nothing else may have been ordered."""
    orders = bench.take()
    found = [order for order in orders if isinstance(order, SendStream)]
    assert found == orders
    assert all(order.data for order in found)
    return b"".join(bytes(order.data) for order in found)
