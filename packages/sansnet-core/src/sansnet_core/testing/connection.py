"""One TCP connection of a simulated guest (RFC 9293, 6298, 2018, 7323), strict about the segments that it gets.

Stream positions are plain integers that never wrap: the SYN is 0, the first byte of data 1. They become sequence
numbers only on the wire. Behaviour that no correct network shows raises `AssertionError`: data beyond the window that
was offered, different bytes at a place that was filled before, an acknowledgment of data that was never sent.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Final, Protocol

from sansnet_core.testing.packets import ACK, FIN, PSH, RST, SYN, Segment
from sansnet_core.testing.reassembly import Reassembly
from sansnet_core.testing.tcp_options import GuestTcpOptions

__all__ = ["GuestConnection"]

_MODULUS: Final = 1 << 32
_FIRST_RTO: Final = 1.0
_LEAST_RTO: Final = 0.2
_MAX_RTO: Final = 60.0


def _signed(difference: int) -> int:
    """A difference of sequence numbers as the nearest integer."""
    return (difference + (1 << 31)) % _MODULUS - (1 << 31)


class _Sender(Protocol):
    """Sends segments: the stack that a connection belongs to."""

    def send_segment(self, segment: Segment, gso_size: int = 0) -> None: ...


class GuestConnection:
    """One TCP connection of a simulated guest. `GuestStack.connect` makes it, and `GuestStack.listening` accepts one.

    All that was sent and received is kept, so that a test can compare it.

    Args:
        stack: the guest's stack, which sends the segments.
        local, peer: the endpoints as the guest sees them: address as 4 or 16 bytes, and port.
        options: the abilities of its TCP.
        now: the time in seconds.
        syn: the SYN that this connection accepts; None opens one.

    Attributes:
        established: the handshake is done. It stays so when the connection ends.
        established_at: the time of that in seconds; None before.
        reset: the connection ended by RST, from either side.
        refused: the network answered the SYN with RST.
        failed: the errno of an ICMP error that ended an attempt to connect (`fail`); 0 if there was none.
        una, nxt, most: stream positions: acknowledged, sent next, most that was ever sent.
        peer_mss, peer_scale, peer_sack: the offers in the network's SYN.
        retransmissions, probes: how often data, and how often probes of a closed window, were sent again.
        keepalives, probes_received: probes of the network: keep-alives, and probes of this side's closed window.
        challenges: resets at another place than the exact one, which were answered by ACK (RFC 5961).
        segments_received: all segments that came.
        last_heard: the time of the last one in seconds.
    """

    def __init__(
        self,
        stack: _Sender,
        local: tuple[bytes, int],
        peer: tuple[bytes, int],
        options: GuestTcpOptions,
        now: float,
        syn: Segment | None = None,
    ) -> None:
        self._stack = stack
        self.local, self.peer = local, peer
        self._answers = syn is not None
        self.options = options
        self.established = self.reset = self.refused = False
        self.failed = 0
        self.established_at: float | None = None
        # Towards the network
        self._outgoing = bytearray()
        self._fin_wanted = False
        self.una = self.nxt = self.most = 0
        self._window = 0
        self._window_update = (-1, -1)
        self._peer_scale = 0
        self.peer_mss = 536
        self.peer_scale: int | None = None
        self.peer_sack = False
        self._congestion = 10 * options.mss
        self._sacked: list[tuple[int, int]] = []
        self._duplicates = 0
        self._recover = 0
        self._probed = 0
        self._rto = _FIRST_RTO
        self._rto_deadline = math.inf
        self._timed: tuple[int, float] | None = None
        # From the network
        self._irs = 0
        self._incoming = Reassembly()
        self._consumed = 0
        self._edge = 0
        self._ack_deadline = math.inf
        self._ack_now = False
        self._unacknowledged = 0
        # State that tests read
        self.retransmissions = self.probes = self.keepalives = self.probes_received = 0
        self.challenges = 0
        self.segments_received: list[Segment] = []
        self.last_heard = now
        if syn is not None:
            self._take_syn(syn)
            self._edge = 1 + min(65535, options.window)  # that of the SYN-ACK is never scaled
        self._transmit_syn(now)

    # The application

    def send(self, data: bytes) -> None:
        """Queue `data`; it leaves with the guest's next output."""
        assert not self._fin_wanted, "data after the end"
        self._outgoing += data

    def shutdown(self) -> None:
        """Send FIN after all data."""
        self._fin_wanted = True

    def read(self, count: int) -> bytes:
        """Take up to `count` bytes that came; the window opens by as many."""
        data = bytes(self.received[self._consumed : self._consumed + count])
        self._consumed += len(data)
        self._update_window()
        return data

    def abort(self, now: float) -> None:
        """Send RST."""
        self._emit(RST | ACK, self.nxt, b"", now)
        self.reset = True
        self._rto_deadline = self._ack_deadline = math.inf

    @property
    def received(self) -> bytearray:
        """The bytes that came in order."""
        return self._incoming.data

    @property
    def fin_received(self) -> bool:
        """The network ended its stream, and all bytes before the end came."""
        return self._incoming.ended

    def fail(self, errno: int) -> None:
        """Give up an attempt to connect, because of an ICMP error (RFC 5461, 4)."""
        if not self.established:
            self.failed = errno
            self._rto_deadline = self._ack_deadline = math.inf

    @property
    def fin_acknowledged(self) -> bool:
        """The network acknowledged the end of this side's stream."""
        return self._fin_wanted and self.una == self._end + 1

    @property
    def closed(self) -> bool:
        """Both directions are over, or the connection failed."""
        return bool(self.reset or self.refused or self.failed or (self.fin_acknowledged and self.fin_received))

    @property
    def everything_acknowledged(self) -> bool:
        """The network acknowledged all that was queued, and the end if it was."""
        return self.established and self.una >= self._end + self._fin_wanted

    @property
    def sequence(self) -> int:
        """SND.NXT as on the wire."""
        return (self.options.sequence + self.nxt) % _MODULUS

    @property
    def expected(self) -> int:
        """RCV.NXT as on the wire."""
        return (self._irs + self._incoming.expected) % _MODULUS

    @property
    def _end(self) -> int:
        """Position behind the last byte of data."""
        return 1 + len(self._outgoing)

    # Output

    def segment(self, flags: int, *, position: int | None = None, payload: bytes = b"") -> Segment:
        """A segment of this connection, for a test to send as it is or changed."""
        place = self.nxt if position is None else position
        return Segment(
            *self.local,
            *self.peer,
            sequence=(self.options.sequence + place) % _MODULUS,
            acknowledgment=self.expected if flags & ACK else 0,
            flags=flags,
            window=self._offer(),
            payload=payload,
        )

    def _offer(self) -> int:
        """The window field; the right edge that it implies is never taken back."""
        offer, self._edge = self._next_offer()
        return offer

    def _next_offer(self) -> tuple[int, int]:
        """The window field that the next segment has, and the right edge that it implies."""
        scale = self.options.scale if self.established and self.peer_scale is not None and self.options.scale else 0
        free = max(0, self.options.window - (len(self.received) - self._consumed))
        edge = max(self._incoming.expected + free, self._edge)
        offer = min(65535, (edge - self._incoming.expected) >> scale)
        return offer, max(self._edge, self._incoming.expected + (offer << scale))

    def _update_window(self) -> None:
        _, edge = self._next_offer()
        if self.established and edge - self._edge >= max(1, min(self.options.mss, self.options.window // 2)):
            self._ack_now = True

    def _transmit_syn(self, now: float) -> None:
        how = self.options
        self._stack.send_segment(
            Segment(
                *self.local,
                *self.peer,
                sequence=how.sequence,
                acknowledgment=self.expected if self._answers else 0,
                flags=SYN | ACK if self._answers else SYN,
                window=min(65535, how.window),
                mss=how.mss,
                scale=how.scale if not self._answers or self.peer_scale is not None else None,
                sack_permitted=how.sack and (not self._answers or self.peer_sack),
            )
        )
        self.nxt = self.most = 1
        self._rto_deadline = now + self._rto

    def _emit(self, flags: int, position: int, payload: bytes, now: float) -> None:
        segment = self.segment(flags, position=position, payload=payload)
        if (
            flags & ACK
            and not flags & RST
            and self.options.sack
            and self.peer_sack
            and self._incoming.has_gap
            and not payload
        ):
            segment = replace(segment, sack=self._incoming.blocks(self._irs))
        self._stack.send_segment(segment, min(self.options.mss, self.peer_mss))
        self._ack_now = False
        self._unacknowledged = 0
        self._ack_deadline = math.inf

    def output(self, now: float) -> None:
        """Send whatever may be sent now."""
        if not self.established or self.reset:
            return
        if not self.everything_acknowledged:
            self._send_stream(now)
        if self._ack_now:
            self._emit(ACK, self.nxt, b"", now)

    def _send_stream(self, now: float) -> None:
        mss = min(self.options.mss, self.peer_mss)
        largest = max(mss, self.options.largest_segment)
        limit = self.una + min(self._window, self._congestion)
        last = self._end + self._fin_wanted
        while self.nxt < last:
            skip = next((end for start, end in self._sacked if start <= self.nxt < end), None)
            if skip is not None:
                self.nxt = skip
                continue
            size = min(largest, self._end - self.nxt, limit - self.nxt)
            nearest = min((start for start, _ in self._sacked if start > self.nxt), default=last)
            size = min(size, nearest - self.nxt)
            if size < 0 or (size == 0 and not (self.nxt == self._end < limit)):
                break
            # Silly window avoidance (RFC 9293, 3.8.6.2.1): a small segment only if it is the last one
            small = size < mss and self.nxt + size < min(self._end, nearest)
            if small and self.nxt > self.una and self._window < 2 * mss:
                break
            self._transmit(self.nxt, size, now, fin=self.nxt + size < limit)
        if self.una < self.most and self._rto_deadline == math.inf:
            self._rto_deadline = now + self._rto
        if self.una == self.nxt and self.nxt < last and self._rto_deadline == math.inf:
            self._rto_deadline = now + self._rto  # the persist timer

    def _transmit(self, position: int, size: int, now: float, *, fin: bool = True) -> None:
        payload = bytes(self._outgoing[position - 1 : position - 1 + size])
        end = position + size
        flags = ACK | (PSH if size and end == self._end else 0)
        if fin and self._fin_wanted and end == self._end:
            flags |= FIN
            end += 1
        if position < self.most and position != self._probed:
            self.retransmissions += 1
            self._timed = None
        elif self._timed is None:
            self._timed = (end, now)
        self._emit(flags, position, payload, now)
        self.nxt = max(self.nxt, end)
        self.most = max(self.most, end)

    # Time

    def next_deadline(self) -> float:
        """The time when `handle_deadline` must be called; infinite if it need not be."""
        return min(self._rto_deadline, self._ack_deadline)

    def handle_deadline(self, now: float) -> None:
        """Do whatever is due: repeat segments, probe a closed window, acknowledge."""
        if self._ack_deadline <= now:
            self._ack_now = True
        if self._rto_deadline > now:
            return
        self._rto_deadline = math.inf
        if not self.established:
            self.retransmissions += 1
            self._rto = min(2 * self._rto, _MAX_RTO)
            self._transmit_syn(now)
            return
        if self._window == 0:
            self.probes += 1
            self._probed = self.una
            payload = bytes(self._outgoing[self.una - 1 : self.una])
            # With nothing but FIN to send, an old number makes the network answer
            self._emit(ACK, self.una if payload else self.una - 1, payload, now)
            self.most = max(self.most, self.una + len(payload))
        else:
            self._sacked.clear()  # RFC 2018, 8: SACK is advice that may be taken back
            self.nxt = self.una
            self._congestion = 2 * self.options.mss
            self._duplicates, self._recover = 0, self.most
        self._rto = min(2 * self._rto, _MAX_RTO)
        self._rto_deadline = now + self._rto

    # Input

    def receive(self, segment: Segment, now: float) -> None:
        """Take a segment from the network.

        Raises:
            AssertionError: no correct network would have sent it.
        """
        self.segments_received.append(segment)
        self.last_heard = now
        if self.reset or self.refused or self.failed:
            return
        if not self.established:
            if not self._answers:
                self._receive_syn_ack(segment, now)
                return
            if not self._completes(segment, now):
                return
        position = self._incoming.expected + _signed(segment.sequence - self.expected)
        if segment.flags & RST:
            if self.fin_received and self.fin_acknowledged:
                return  # TIME-WAIT: an old segment, late on the cable, met no connection
            self._receive_reset(position)
            return
        if segment.flags & SYN:
            assert position == 0, "a SYN inside the connection"
            self._ack_now = True
            return
        assert segment.flags & ACK, "a segment without ACK"
        self._receive_ack(segment, position, now)
        self._receive_data(segment, position, now)

    def _receive_reset(self, position: int) -> None:
        """RFC 5961, 3.2: only the exact number resets; another one in the window is challenged, an old one ignored.

        A network that has forgotten the connection answers an old segment of the guest with an old number.
        """
        if position == self._incoming.expected:
            self.reset = True
            self._rto_deadline = self._ack_deadline = math.inf
        elif position > self._incoming.expected:
            assert position <= self._edge, f"reset at {position}, but the window ends at {self._edge}"
            self.challenges += 1
            self._ack_now = True

    def _receive_syn_ack(self, segment: Segment, now: float) -> None:
        assert segment.flags & ACK, "an answer to SYN without ACK"
        assert segment.acknowledgment == (self.options.sequence + 1) % _MODULUS, "ACK of something else than our SYN"
        self._rto_deadline = math.inf
        if segment.flags & RST:
            assert not segment.flags & SYN
            self.refused = True
            return
        assert segment.flags & SYN
        assert not segment.payload
        assert segment.scale is None or self.options.scale is not None, "window scale that was not offered"
        assert not segment.sack_permitted or self.options.sack, "SACK that was not offered"
        self._take_syn(segment)
        self._edge = 1
        self.una = 1
        self._window_update = (0, 1)
        self._establish(now)
        self._ack_now = True

    def _take_syn(self, segment: Segment) -> None:
        self._irs = segment.sequence
        self._incoming.expected = 1
        self.peer_mss = segment.mss or 536
        self.peer_scale = segment.scale
        self._peer_scale = (segment.scale or 0) if self.options.scale is not None else 0
        self.peer_sack = segment.sack_permitted
        self._window = segment.window  # never scaled in a SYN (RFC 7323, 2.2)

    def _completes(self, segment: Segment, now: float) -> bool:
        """Whether a segment ends the handshake that the network began; it is then looked at like any other."""
        if segment.flags & SYN:
            assert segment.flags == SYN, "a SYN with something else"
            assert segment.sequence == self._irs, "another SYN than before"
            self._transmit_syn(now)
            return False
        self._rto_deadline = math.inf
        if segment.flags & RST:
            assert segment.sequence == self.expected, "not behind the SYN"
            self.reset = True
            return False
        assert segment.flags & ACK, "an answer to SYN-ACK without ACK"
        assert segment.acknowledgment == (self.options.sequence + 1) % _MODULUS, "ACK of something else than our SYN"
        self._establish(now)
        return True

    def _establish(self, now: float) -> None:
        self._rto = _LEAST_RTO if self.retransmissions == 0 else 3.0
        self.established = True
        self.established_at = now

    def _receive_ack(self, segment: Segment, position: int, now: float) -> None:
        acknowledged = self.una + _signed(segment.acknowledgment - self.options.sequence - self.una)
        assert acknowledged <= self.most, f"ACK of {acknowledged}, but only {self.most} was ever sent"
        window = segment.window << self._peer_scale
        for start, end in segment.sack:
            left = self.una + _signed(start - self.options.sequence - self.una)
            right = self.una + _signed(end - self.options.sequence - self.una)
            assert self.options.sack
            assert left < right <= self.most, "SACK of what was never sent"
            if left >= acknowledged:
                self._sacked.append((left, right))
        if acknowledged > self.una:
            if self._timed is not None and acknowledged >= self._timed[0]:
                self._rto = min(max(_LEAST_RTO, 4 * (now - self._timed[1])), _MAX_RTO)
                self._timed = None
            self._congestion += min(acknowledged - self.una, 2 * self.options.mss)
            self.una = acknowledged
            self.nxt = max(self.nxt, acknowledged)
            self._sacked = [block for block in self._sacked if block[1] > acknowledged]
            self._duplicates = 0
            self._rto_deadline = now + self._rto if self.una < self.most else math.inf
            if self.una < self._recover and self._sacked:
                self._repair(now)
        elif acknowledged == self.una and not segment.payload and self.una < self.nxt and window == self._window:
            self._duplicates += 1
            if self._duplicates == 3 and self.una >= self._recover:
                self._recover = self.most
                self._congestion = max(self._congestion // 2, 2 * self.options.mss)
                self._repair(now)
        if self._window_update <= (position, acknowledged):
            if window and not self._window and self.una == self.nxt:
                self._rto, self._rto_deadline = _LEAST_RTO, math.inf
            self._window = window
            self._window_update = (position, acknowledged)

    def _repair(self, now: float) -> None:
        """Send the first hole again."""
        mss = min(self.options.mss, self.peer_mss)
        hole = min((start for start, _ in self._sacked), default=self._end)
        self._transmit(self.una, max(0, min(mss, hole - self.una, self._end - self.una)), now)

    def _receive_data(self, segment: Segment, position: int, now: float) -> None:
        fin = bool(segment.flags & FIN)
        if not segment.payload and not fin:
            if position < self._incoming.expected:
                if position == self._incoming.expected - 1:
                    self.keepalives += 1
                self._ack_now = True
            return
        end = position + len(segment.payload)
        if end > self._edge:
            one = end == self._edge + 1 and len(segment.payload) <= 1
            assert one, f"data up to {end}, but the window ends at {self._edge}"
            self.probes_received += 1
            self._ack_now = True
            return
        in_order = position == self._incoming.expected and not self._incoming.has_gap
        self._incoming.add(position, segment.payload, fin=fin)
        if self.options.autoread:
            self._consumed = len(self.received)
        self._unacknowledged += 1
        if self.options.delayed_ack and in_order and not fin and self._unacknowledged < 2:
            self._ack_deadline = min(self._ack_deadline, now + self.options.delayed_ack)
        else:
            self._ack_now = True
