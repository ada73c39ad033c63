"""A guest with a small TCP of its own (RFC 9293, 6298, 2018, 7323), strict about what it is sent.

Stream positions are plain integers that never wrap: the SYN is 0, the first byte of data 1. They become sequence
numbers only on the wire. Behaviour that no correct network shows raises `AssertionError`: data beyond the window that
was offered, different bytes at a place that was filled before, an acknowledgement of data that was never sent.
"""

from __future__ import annotations

import math
import struct
from collections import deque
from dataclasses import dataclass, replace
from typing import Final

from tests.sim import packets
from tests.sim.packets import ACK, FIN, PSH, RST, SYN, TCP, UDP, Ip, Segment

__all__ = ["Connection", "Guest", "GuestOptions"]

_MODULUS: Final = 1 << 32
_FIRST_RTO: Final = 1.0
_LEAST_RTO: Final = 0.2
_MAX_RTO: Final = 60.0


def _signed(difference: int) -> int:
    """A difference of sequence numbers as the nearest integer."""
    return (difference + (1 << 31)) % _MODULUS - (1 << 31)


@dataclass(frozen=True, slots=True)
class GuestOptions:
    """The abilities of the guest's TCP, and its behaviour.

    Attributes:
        mss: that the guest announces.
        window: receive buffer in bytes.
        scale: window scale offered, or None.
        sack: whether SACK is offered.
        autoread: the application reads at once; otherwise by `Connection.read`.
        largest_segment: payload bytes of the offloaded segments that the guest hands to the network; 0 for none.
        partial: leave checksums to the network, if the link has offload headers.
        delayed_ack: seconds that an acknowledgement of less than two segments may wait; 0 for none.
        sequence: initial sequence number.
    """

    mss: int = 1460
    window: int = 256 << 10
    scale: int | None = 7
    sack: bool = True
    autoread: bool = True
    largest_segment: int = 0
    partial: bool = False
    delayed_ack: float = 0.0
    sequence: int = 1000


class Connection:
    """One TCP connection that the guest opened, or accepted if there is a SYN to answer."""

    def __init__(
        self,
        guest: Guest,
        local: tuple[bytes, int],
        remote: tuple[bytes, int],
        options: GuestOptions,
        now: float,
        syn: Segment | None = None,
    ) -> None:
        self._guest = guest
        self._local, self._remote = local, remote
        self._answers = syn is not None
        self.options = options
        self.established = self.reset = self.refused = False
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
        self.received = bytearray()
        self._consumed = 0
        self._rcv_nxt = 0
        self._edge = 0
        self._early: dict[int, bytes] = {}
        self._early_fin: int | None = None
        self._recent: deque[int] = deque(maxlen=8)
        self.fin_received = False
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
        assert not self._fin_wanted
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
    def peer(self) -> tuple[bytes, int]:
        """The remote endpoint, as the guest sees it."""
        return self._remote

    @property
    def fin_acknowledged(self) -> bool:
        return self._fin_wanted and self.una == self._end + 1

    @property
    def closed(self) -> bool:
        """Both directions are over, or there was a reset."""
        return self.reset or self.refused or (self.fin_acknowledged and self.fin_received)

    @property
    def everything_acknowledged(self) -> bool:
        return self.established and self.una >= self._end + self._fin_wanted

    @property
    def sequence(self) -> int:
        """SND.NXT as on the wire."""
        return (self.options.sequence + self.nxt) % _MODULUS

    @property
    def expected(self) -> int:
        """RCV.NXT as on the wire."""
        return (self._irs + self._rcv_nxt) % _MODULUS

    @property
    def _end(self) -> int:
        """Position behind the last byte of data."""
        return 1 + len(self._outgoing)

    # Output

    def segment(self, flags: int, *, position: int | None = None, payload: bytes = b"") -> Segment:
        """A segment of this connection, for a test to send as it is or changed."""
        place = self.nxt if position is None else position
        return Segment(
            *self._local,
            *self._remote,
            sequence=(self.options.sequence + place) % _MODULUS,
            acknowledgment=self.expected if flags & ACK else 0,
            flags=flags,
            window=self._offer(),
            payload=payload,
        )

    def _offer(self) -> int:
        """The window field; the right edge that it implies is never taken back."""
        scale = self.options.scale if self.established and self.peer_scale is not None and self.options.scale else 0
        free = max(0, self.options.window - (len(self.received) - self._consumed))
        edge = max(self._rcv_nxt + free, self._edge)
        offer = min(65535, (edge - self._rcv_nxt) >> scale)
        self._edge = max(self._edge, self._rcv_nxt + (offer << scale))
        return offer

    def _update_window(self) -> None:
        free = self.options.window - (len(self.received) - self._consumed)
        if self.established and self._rcv_nxt + free - self._edge >= min(self.options.mss, self.options.window // 2):
            self._ack_now = True

    def _transmit_syn(self, now: float) -> None:
        how = self.options
        self._guest.send_segment(
            Segment(
                *self._local,
                *self._remote,
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

    def _blocks(self) -> tuple[tuple[int, int], ...]:
        """SACK blocks, the newest first (RFC 2018, 4)."""
        runs: list[list[int]] = []
        for start in sorted(self._early):
            end = start + len(self._early[start])
            if runs and start <= runs[-1][1]:
                runs[-1][1] = max(runs[-1][1], end)
            else:
                runs.append([start, end])
        recency = list(self._recent)

        def age(run: list[int]) -> int:
            return min((recency.index(start) for start in recency if run[0] <= start < run[1]), default=99)

        runs.sort(key=age)
        return tuple(((self._irs + run[0]) % _MODULUS, (self._irs + run[1]) % _MODULUS) for run in runs[:4])

    def _emit(self, flags: int, position: int, payload: bytes, now: float) -> None:
        segment = self.segment(flags, position=position, payload=payload)
        if flags & ACK and not flags & RST and self.options.sack and self.peer_sack and self._early and not payload:
            segment = replace(segment, sack=self._blocks())
        self._guest.send_segment(segment, min(self.options.mss, self.peer_mss))
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
        return min(self._rto_deadline, self._ack_deadline)

    def handle_deadline(self, now: float) -> None:
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
        if self.everything_acknowledged:
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
        self.segments_received.append(segment)
        self.last_heard = now
        if self.reset or self.refused:
            return
        if not self.established:
            if not self._answers:
                self._receive_syn_ack(segment, now)
                return
            if not self._completes(segment, now):
                return
        position = self._rcv_nxt + _signed(segment.sequence - self.expected)
        if segment.flags & RST:
            if self.fin_received and self.fin_acknowledged:
                return  # TIME-WAIT: an old segment of ours, late on the cable, met no connection
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
        """RFC 5961, 3.2: only the exact number resets; another one in the window is challenged."""
        if position == self._rcv_nxt:
            self.reset = True
            self._rto_deadline = self._ack_deadline = math.inf
        else:
            assert self._rcv_nxt < position <= self._edge, f"reset at {position}, expected {self._rcv_nxt}"
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
        self._rto = _LEAST_RTO if self.retransmissions == 0 else 3.0
        self._window_update = (0, 1)
        self.established = True
        self.established_at = now
        self._ack_now = True

    def _take_syn(self, segment: Segment) -> None:
        self._irs = segment.sequence
        self._rcv_nxt = 1
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
        if segment.flags & RST:
            assert segment.sequence == self.expected, "not behind the SYN"
            self.reset = True
            self._rto_deadline = math.inf
            return False
        assert segment.flags & ACK, "an answer to SYN-ACK without ACK"
        assert segment.acknowledgment == (self.options.sequence + 1) % _MODULUS, "ACK of something else than our SYN"
        self._rto = _LEAST_RTO if self.retransmissions == 0 else 3.0
        self._rto_deadline = math.inf
        self.established = True
        self.established_at = now
        return True

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
                self._rto = max(_LEAST_RTO, 4 * (now - self._timed[1]))
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
            if position < self._rcv_nxt:
                if position == self._rcv_nxt - 1:
                    self.keepalives += 1
                self._ack_now = True
            return
        end = position + len(segment.payload)
        if end > self._edge:
            assert end <= self._edge + 1, f"data up to {end}, but the window ends at {self._edge}"
            assert len(segment.payload) <= 1, "more than one byte behind the window"
            self.probes_received += 1
            self._ack_now = True
            return
        assert position >= 1
        known = bytes(self.received[position - 1 : end - 1])
        assert segment.payload[: len(known)] == known, f"other bytes at {position} than before"
        for start, data in self._early.items():
            low, high = max(start, position), min(start + len(data), end)
            assert low >= high or segment.payload[low - position : high - position] == data[low - start : high - start]
        in_order = position == self._rcv_nxt and not self._early
        if fin:
            assert self._early_fin in (None, end), "FIN at another place than before"
            self._early_fin = end
        if end > self._rcv_nxt and segment.payload and len(self._early.get(position, b"")) < len(segment.payload):
            self._early[position] = segment.payload
            if position in self._recent:
                self._recent.remove(position)
            self._recent.appendleft(position)
        self._advance()
        self._unacknowledged += 1
        if self.options.delayed_ack and in_order and not fin and self._unacknowledged < 2:
            self._ack_deadline = min(self._ack_deadline, now + self.options.delayed_ack)
        else:
            self._ack_now = True

    def _advance(self) -> None:
        for start in sorted(self._early):
            if start > self._rcv_nxt:
                break
            fresh = self._early.pop(start)[self._rcv_nxt - start :]
            self.received += fresh
            self._rcv_nxt += len(fresh)
        if self.options.autoread:
            self._consumed = len(self.received)
        if self._early_fin == self._rcv_nxt and not self.fin_received:
            self.fin_received = True
            self._rcv_nxt += 1


class Guest:
    """Everything on the guest's side of the cable.

    Args:
        mac: the guest's.
        ipv4, ipv6: its addresses.
        gateway_mac: where it sends everything.
        vnet: frames carry a `virtio_net_hdr`.
    """

    def __init__(
        self,
        *,
        mac: bytes = bytes.fromhex("020000000001"),
        ipv4: bytes = bytes((10, 0, 2, 15)),
        ipv6: bytes = bytes.fromhex("20010db8000000000000000000000015"),
        gateway_mac: bytes = bytes.fromhex("9a559a559a55"),
        vnet: bool = False,
    ) -> None:
        self.mac, self.ipv4, self.ipv6, self.gateway_mac, self.vnet = mac, ipv4, ipv6, gateway_mac, vnet
        self.connections: dict[tuple[bytes, int, bytes, int], Connection] = {}
        self.strays: list[Segment] = []
        """Segments that belong to no connection."""
        self.datagrams: list[tuple[Ip, int, int, bytes]] = []
        """UDP: packet, source port, destination port, data."""
        self.others: list[packets.ReadFrame] = []
        """Everything else that came."""
        self.max_frame_size = 0
        self.segmented_frames = 0
        self.listening: dict[int, GuestOptions] = {}
        """By port, how connections from outside are accepted."""
        self._frames: list[bytes] = []
        self._next_port = 40000

    def address(self, size: int) -> bytes:
        """The guest's address of this length in bytes."""
        return self.ipv4 if size == 4 else self.ipv6

    def connect(
        self,
        remote: tuple[bytes, int],
        options: GuestOptions = GuestOptions(),
        *,
        port: int | None = None,
        now: float = 0.0,
    ) -> Connection:
        """Open a connection; the SYN is among the next frames."""
        if port is None:
            self._next_port += 1
            port = self._next_port
        local = (self.address(len(remote[0])), port)
        connection = Connection(self, local, remote, options, now)
        self.connections[(*local, *remote)] = connection
        return connection

    # Out

    def send_segment(self, segment: Segment, gso_size: int = 0) -> None:
        """Send a TCP segment; one longer than `gso_size` as an offloaded frame."""
        connection = self.connections.get(
            (segment.source, segment.source_port, segment.destination, segment.destination_port)
        )
        partial = self.vnet and connection is not None and connection.options.partial
        large = bool(self.vnet and gso_size and len(segment.payload) > gso_size)
        if not (partial or large):
            self.send(segment.ip())
            return
        ip = Ip(segment.source, segment.destination, TCP, segment.emit(right_checksum=False))
        start = 34 if ip.version == 4 else 54
        gso_type = 0 if not large else 1 if ip.version == 4 else 4
        header_size = start + 20 + len(segment.options()) if large else 0
        head = struct.pack("<BBHHHHH", 1, gso_type, header_size, gso_size if large else 0, start, 16, 0)
        self._frames.append(head + self._ethernet(ip))

    def send(self, ip: Ip) -> None:
        """Send an IP packet to the gateway."""
        self.send_frame(self._ethernet(ip))

    def send_frame(self, frame: bytes) -> None:
        """Send a frame as it is; it gets an empty offload header where the link has them."""
        self._frames.append(bytes(12) + frame if self.vnet else frame)

    def _ethernet(self, ip: Ip) -> bytes:
        ethertype = packets.IPV4 if ip.version == 4 else packets.IPV6
        return packets.ethernet(self.gateway_mac, self.mac, ethertype, ip.emit())

    def take_frames(self) -> list[bytes]:
        for connection in self.connections.values():
            connection.output(self._now)
        frames, self._frames = self._frames, []
        return frames

    _now = 0.0

    def at(self, now: float) -> None:
        """Set the time, for output that no received frame causes."""
        self._now = now

    # In

    def receive(self, frame: bytes | memoryview | tuple[bytes, bytes | memoryview], now: float) -> None:
        """Take one frame from the network, checking all of it."""
        self._now = now
        read = packets.read_frame(frame, vnet=self.vnet)
        assert read.source == self.gateway_mac
        assert read.destination == self.mac or read.destination[0] & 1, "a frame for another guest"
        self.max_frame_size = max(self.max_frame_size, read.size)
        self.segmented_frames += bool(read.gso_type)
        if read.ethertype == packets.ARP:
            self.others.append(read)
            return
        ip = packets.read_ip(read)
        if ip.protocol == TCP:
            assert ip.destination in (self.ipv4, self.ipv6)
            for segment in packets.read_segments(ip, read.gso_size):
                self._receive_segment(segment, now)
        elif ip.protocol == UDP and ip.fragment & 0x3FFF == 0:
            self._receive_datagrams(ip, read.gso_size)
        else:
            self.others.append(read)

    def _receive_segment(self, segment: Segment, now: float) -> None:
        key = (segment.destination, segment.destination_port, segment.source, segment.source_port)
        connection = self.connections.get(key)
        if connection is not None:
            connection.receive(segment, now)
        elif segment.flags == SYN and segment.destination_port in self.listening:
            self._accept(segment, now)
        else:
            self.strays.append(segment)

    def _accept(self, syn: Segment, now: float) -> None:
        assert syn.mss is not None
        local, remote = (syn.destination, syn.destination_port), (syn.source, syn.source_port)
        options = self.listening[syn.destination_port]
        self.connections[(*local, *remote)] = Connection(self, local, remote, options, now, syn)

    def _receive_datagrams(self, ip: Ip, gso_size: int) -> None:
        source_port, destination_port, size = struct.unpack_from("!HHH", ip.payload)
        assert size == len(ip.payload), "UDP length"
        data = ip.payload[8:]
        step = gso_size or max(1, len(data))
        for start in range(0, max(1, len(data)), step):
            self.datagrams.append((ip, source_port, destination_port, data[start : start + step]))

    # Time

    def next_deadline(self) -> float | None:
        deadline = min((one.next_deadline() for one in self.connections.values()), default=math.inf)
        return None if deadline == math.inf else deadline

    def handle_deadline(self, now: float) -> None:
        self._now = now
        for connection in self.connections.values():
            connection.handle_deadline(now)
