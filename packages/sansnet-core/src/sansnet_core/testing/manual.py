"""A connection in which the test decides about each segment."""

from __future__ import annotations

from dataclasses import replace
from typing import Final, Unpack

from sansnet_core.testing.packets import ACK, PSH, SYN, Segment, SegmentFields
from sansnet_core.testing.pair import SERVER, Pair

__all__ = ["ManualConnection"]

_MODULUS: Final = 1 << 32


class ManualConnection:
    """The guest's end of a connection, worked by hand.

    Attributes:
        sequence: the guest's next sequence number.
        expected: the network's next sequence number.
        window: the window field of every segment that does not say otherwise.
        syn_ack: how the network answered the SYN.
        peer_sequence: the network's initial sequence number.
    """

    def __init__(
        self, pair: Pair, *, sequence: int = 1000, port: int = 50000, remote: tuple[bytes, int] = (SERVER, 80)
    ) -> None:
        self._pair = pair
        self._remote = remote
        self.port = port
        self.first = sequence
        self.sequence = sequence
        self.expected = 0
        self.window = 65535
        self.syn_ack: Segment | None = None

    def segment(self, flags: int = ACK, payload: bytes = b"", **fields: Unpack[SegmentFields]) -> Segment:
        """A segment at the current place, with `fields` changed; nothing is sent and nothing moves on."""
        place = Segment(
            self._pair.guest.ipv4,
            self.port,
            *self._remote,
            self.sequence,
            self.expected if flags & ACK else 0,
            flags,
            self.window,
            payload,
        )
        return replace(place, **fields)

    def send(self, flags: int = ACK, payload: bytes = b"", **fields: Unpack[SegmentFields]) -> list[Segment]:
        """Send a segment as `segment` makes it; what the network answers at once."""
        self._pair.guest.send(self.segment(flags, payload, **fields).ip())
        self._pair.settle()
        return self.take()

    def take(self) -> list[Segment]:
        """The segments for this connection since the last call."""
        strays = self._pair.guest.strays
        mine = [segment for segment in strays if segment.destination_port == self.port]
        self._pair.guest.strays = [segment for segment in strays if segment.destination_port != self.port]
        return mine

    def syn(self, **fields: Unpack[SegmentFields]) -> list[Segment]:
        """Send a SYN that offers everything, unless `fields` say otherwise."""
        offer: SegmentFields = {"sequence": self.first, "mss": 1460, "scale": 0, "sack_permitted": True}
        return self.send(SYN, **(offer | fields))

    def open(self, **fields: Unpack[SegmentFields]) -> Segment:
        """The whole handshake; `fields` apply to the SYN. Returns the SYN-ACK."""
        answers = self.syn(**fields)
        if not answers:
            self._pair.wait(0.5)
            answers = self.take()
        assert len(answers) == 1, f"handshake: {[str(answer) for answer in answers]}"
        (self.syn_ack,) = answers
        assert self.syn_ack.flags == SYN | ACK
        assert self.syn_ack.acknowledgment == (self.first + 1) % _MODULUS
        self.sequence = (self.first + 1) % _MODULUS
        self.expected = (self.syn_ack.sequence + 1) % _MODULUS
        for answer in self.send():  # nothing but the window, now that it may be scaled
            assert (answer.flags, answer.payload, answer.sequence) == (ACK, b"", self.expected), str(answer)
        return self.syn_ack

    def data(self, payload: bytes, **fields: Unpack[SegmentFields]) -> list[Segment]:
        """Send in-order data, and move on."""
        answers = self.send(ACK | PSH, payload, **fields)
        self.sequence = (self.sequence + len(payload)) % _MODULUS
        return answers

    def accept(self, segments: list[Segment]) -> bytes:
        """Note what in-order segments bring, without acknowledging it; their payload."""
        data = b""
        for segment in segments:
            assert segment.sequence == self.expected, "not in order"
            data += segment.payload
            self.expected = (self.expected + segment.size) % _MODULUS
        return data
