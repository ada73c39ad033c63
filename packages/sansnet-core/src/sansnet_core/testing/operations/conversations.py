"""The connections of a hostile guest, and the segments that the network may send it there.

Each byte that the guest sends depends on its place in the stream alone, however often it is sent. So the network
must deliver exactly these bytes, whatever the guest did; it must acknowledge none that was not sent; and what comes
from the host must be the host's bytes at their places.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Final

from sansnet_core.addresses import Endpoint
from sansnet_core.errors import SansnetError
from sansnet_core.testing.operations.content import BEGINNINGS, Content
from sansnet_core.testing.packets import ACK, FIN, IPV4, IPV6, RST, SYN, TCP, Segment

__all__ = ["Conversation", "Conversations", "Key", "UnknownPacket", "guests_segment"]

Key = tuple[Endpoint, Endpoint]
"""The guest's endpoint, and the remote one as the guest sees it."""

_MODULUS: Final = 1 << 32
_HALF: Final = 1 << 31
_MAX_BEGUN: Final = 8
_EXTENSIONS: Final = (0, 43, 44, 51, 60, 135, 139, 140)
"""Extension headers of IPv6 (RFC 8200, 4; IANA)."""


@dataclass(slots=True)
class Conversation:
    """One connection, as the guest sees it.

    Attributes:
        guest, remote: its ends.
        content: the bytes of the guest.
        host_content: the bytes of the host; None if the network itself is the other end.
        first: the guest's initial sequence number; None before its SYN.
        network_first: that of the network; None before its SYN.
        position: the next byte of the guest, in order.
        seen: how many sequence numbers of the network's stream came, behind its SYN.
        acknowledged: how many of the guest's sequence numbers the network has acknowledged, behind its SYN.
        taken: how many of the network's sequence numbers the guest has acknowledged, in segments that count.
        ended: the guest has sent FIN in order.
        sent: what the guest has sent, as ranges of sequence numbers behind its SYN, in order and disjoint.
        edge: the right edge of the network's window, as a number of bytes behind the guest's SYN.
        shift: by how much its windows are scaled.
        fin_at: where the network's FIN is; None if it has sent none.
        wild: the guest has sent other bytes, so that its stream is not known.
    """

    guest: Endpoint
    remote: Endpoint
    content: Content
    host_content: Content | None
    first: int | None = None
    network_first: int | None = None
    position: int = 0
    seen: int = 0
    acknowledged: int = 0
    taken: int = 0
    ended: bool = False
    sent: list[tuple[int, int]] = field(default_factory=list)
    edge: int = 0
    shift: int = 0
    fin_at: int | None = None
    wild: bool = False

    @property
    def sequence(self) -> int:
        """The guest's next sequence number."""
        return ((self.first or 0) + 1 + self.position + self.ended) % _MODULUS

    @property
    def expected(self) -> int:
        """The network's next sequence number."""
        return 0 if self.network_first is None else (self.network_first + 1 + self.seen) % _MODULUS

    def payload(self, sequence: int, size: int) -> bytes:
        """The guest's bytes from a sequence number on; zeros before the first one."""
        place = _signed(sequence - (self.first or 0) - 1)
        before = min(max(-place, 0), size)
        return bytes(before) + self.content.at(place + before, size - before)

    def note_sent(self, segment: Segment) -> None:
        """The guest sends a segment."""
        if self.first is None:
            return
        start = segment.sequence + bool(segment.flags & SYN)
        self.wild |= self.payload(start, len(segment.payload)) != segment.payload
        place = _signed(start - self.first - 1)
        end = place + len(segment.payload) + bool(segment.flags & FIN)
        if end <= max(place, 0):
            return
        ranges = sorted([*self.sent, (max(place, 0), end)])
        merged = ranges[:1]
        for start, stop in ranges[1:]:
            if start <= merged[-1][1]:
                merged[-1] = (merged[-1][0], max(merged[-1][1], stop))
            else:
                merged.append((start, stop))
        self.sent = merged

    def note_taken(self) -> None:
        """The guest has sent a segment at its position that acknowledges all that the network has sent."""
        if not self.wild and self.acknowledged <= self.position <= self.edge:
            self.taken = self.seen

    @property
    def sent_in_order(self) -> int:
        """How many sequence numbers behind its SYN the guest has sent without a gap."""
        return self.sent[0][1] if self.sent and self.sent[0][0] == 0 else 0


class Conversations:
    """All connections of a hostile guest.

    Args:
        resolver: the endpoints at which the network itself answers.
    """

    def __init__(self, resolver: frozenset[bytes] = frozenset()) -> None:
        self._resolver = resolver
        self._all: dict[Key, Conversation] = {}
        self._begun: dict[Key, list[Conversation]] = {}
        """Those whose SYN is not answered, the latest one last."""
        self.latest: dict[int, Conversation] = {}
        """The guest's port -> the connection that it used last."""
        self._distrusted = False

    def begin(self, guest: Endpoint, remote: Endpoint, first: int, begins: str) -> Conversation:
        """The guest is about to send a SYN."""
        made = self._make(guest, remote, BEGINNINGS[begins])
        made.first = first
        begun = self._begun.setdefault((guest, remote), [])
        begun[:] = [*[one for one in begun if one.first != first][-_MAX_BEGUN:], made]
        if (guest, remote) not in self._all:
            self.latest[guest.port] = made
        return made

    def _make(self, guest: Endpoint, remote: Endpoint, head: bytes = b"") -> Conversation:
        own = remote.port == 53 and remote.address in self._resolver
        return Conversation(
            guest, remote, Content(guest.port, head), None if own else Content(guest.port + 7 + remote.port)
        )

    def get(self, key: Key) -> Conversation | None:
        """A connection that the network has answered, or else one that has begun."""
        return self._all.get(key) or next(reversed(self._begun.get(key, [])), None)

    def note_sent(self, segment: Segment) -> None:
        """The guest sends a segment."""
        guest = Endpoint(segment.source, segment.source_port)
        remote = Endpoint(segment.destination, segment.destination_port)
        key = (guest, remote)
        begun = [one.first for one in self._begun.get(key, [])]
        if segment.flags & (SYN | ACK | RST) == SYN and segment.sequence not in begun:
            known = self._all.get(key)
            made = self.begin(guest, remote, segment.sequence, "")
            if known is not None and known.first == segment.sequence:
                made.content = known.content  # the same connection once more
        known = self._all.get(key)
        answers = segment.flags & (SYN | ACK | RST) == SYN | ACK
        if known is not None and known.first is None and answers and segment.acknowledgment == known.expected:
            known.first = segment.sequence
        for one in (known, *self._begun.get(key, [])):
            if one is not None:
                one.note_sent(segment)

    def distrust(self) -> None:
        """The guest sends what is not understood here: nothing is known of the streams that it has begun."""
        self._distrusted = True
        for one in (*self._all.values(), *(one for each in self._begun.values() for one in each)):
            one.wild = True

    def of_host(self, key: Key) -> Content | None:
        """The bytes of the host for a connection."""
        return self._make(*key).host_content

    def receive(self, segment: Segment) -> None:
        """A segment from the network.

        Raises:
            AssertionError: it has wrong bytes, or acknowledges what was not sent.
        """
        guest = Endpoint(segment.destination, segment.destination_port)
        remote = Endpoint(segment.source, segment.source_port)
        key = (guest, remote)
        flags = segment.flags
        if flags & SYN:
            self._begin_of_network(key, segment)
            return
        known = self._all.get(key)
        if known is None or known.network_first is None or known.first is None:
            assert not segment.payload, f"data of a connection that never was: {segment}"
            return
        if flags & RST or (not segment.payload and self._is_of_unanswered(key, segment.acknowledgment)):
            return
        place = _signed(segment.sequence - known.network_first - 1)
        end = place + len(segment.payload)
        if segment.payload and known.host_content is not None:
            assert place >= 0, f"data before the first byte: {segment}"
            assert known.host_content.at(place, len(segment.payload)) == segment.payload, f"wrong bytes: {segment}"
        assert not segment.payload or end > known.taken, f"{known.taken} were acknowledged before: {segment}"
        if flags & FIN:
            assert known.fin_at in (None, end), f"the end moves from {known.fin_at}: {segment}"
            known.fin_at = end
        last = end - (not segment.payload and not flags & FIN)  # an acknowledgment counts the FIN
        assert known.fin_at is None or last <= known.fin_at, f"data behind the end at {known.fin_at}: {segment}"
        if place <= known.seen:
            known.seen = max(known.seen, end + bool(flags & FIN))
        if flags & ACK:
            number = _signed(segment.acknowledgment - known.first - 1)
            assert known.wild or number <= known.sent_in_order, f"{number} of {known.sent} acknowledged: {segment}"
            known.acknowledged = max(known.acknowledged, number)
            known.edge = max(known.edge, number + (segment.window << known.shift))

    def _is_of_unanswered(self, key: Key, acknowledgment: int) -> bool:
        """Whether an acknowledgment is for a later SYN of the same ports: its connection answers a wrong segment."""
        begun = self._begun.get(key, ())
        return any(one.first is not None and acknowledgment == (one.first + 1) % _MODULUS for one in begun)

    def _begin_of_network(self, key: Key, segment: Segment) -> None:
        known = self._all.get(key)
        if segment.flags & ACK:
            if known is not None and known.network_first == segment.sequence:
                return  # the SYN-ACK again
            first = (segment.acknowledgment - 1) % _MODULUS
            begun = self._begun.setdefault(key, [])
            known = next((one for one in begun if one.first == first), None)
            assert known is not None or self._distrusted, f"a SYN-ACK that answers no SYN: {segment}"
            if known is None:
                known = self.begin(*key, first, "")
                known.wild = True
            begun.remove(known)
        elif known is None or known.network_first != segment.sequence:
            known = self._make(*key)
        known.network_first = segment.sequence
        known.edge, known.shift = segment.window, min(segment.scale or 0, 14)
        self._all[key] = self.latest[key[0].port] = known


def _signed(difference: int) -> int:
    difference %= _MODULUS
    return difference - _MODULUS if difference >= _HALF else difference


class UnknownPacket(SansnetError):
    """A packet of the guest that may hold a segment, but is not read here."""


def guests_segment(frame: bytes) -> Segment | None:
    """The segment in a frame of the guest, which may be malformed; None if it holds none.

    Raises:
        UnknownPacket: it is a fragment, or has extension headers.
        struct.error: it is cut.
    """
    ethertype, first = struct.unpack_from("!HB", frame, 12)
    if ethertype == IPV4:
        total, _, fragment, _, protocol = struct.unpack_from("!HHHBB", frame, 16)
        start, end = 14 + (first & 15) * 4, 14 + total
        source, destination = frame[26:30], frame[30:34]
        if fragment & 0x3FFF and protocol == TCP:
            raise UnknownPacket
    elif ethertype == IPV6:
        size, protocol = struct.unpack_from("!HB", frame, 18)
        start, end = 54, 54 + size
        source, destination = frame[22:38], frame[38:54]
        if protocol in _EXTENSIONS:
            raise UnknownPacket
    else:
        return None
    if protocol != TCP:
        return None
    fields = struct.unpack_from("!HHIIBBH", frame, start)
    source_port, destination_port, sequence, acknowledgment, offset, flags, window = fields
    payload = frame[start + (offset >> 4) * 4 : end]
    return Segment(source, source_port, destination, destination_port, sequence, acknowledgment, flags, window, payload)
