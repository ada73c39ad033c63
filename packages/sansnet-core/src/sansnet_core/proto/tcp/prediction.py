"""The short cut for segments of known connections, above all for those that are as expected.

Theory of operation. `Prediction.receive` finds the connection from the bytes of a frame, with one look-up, in place of
the modules `frames`, `ipv4` or `ipv6`, and `handler`. Nearly every segment is the next one of its connection: without
options, with data, an acknowledgment of something new or FIN, and nothing is lost, missing or full. Its effect is
written down in `take` (header prediction; Van Jacobson, 1990). All others go to `arrival`, and a SYN with new ends to
`opening`.

A frame is taken completely or not at all. One that is malformed, belongs to no connection, or has anything to learn
from (the Ethernet header must be that of the guest's latest frame, from its own address) is left to the ordinary path
before anything has changed. So no rule of the protocol is only here, and the network works the same without this
module; a property test runs both with the same inputs.

Sequence numbers are compared in place: see `wire.tcp.MASK`.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

from sansnet_core.context import Context
from sansnet_core.errors import Malformed
from sansnet_core.mypyc import mypyc_attr
from sansnet_core.orders import Buffer, SendStream
from sansnet_core.proto.icmp_errors import IcmpErrors
from sansnet_core.proto.tcp import arrival, states
from sansnet_core.proto.tcp.arrival import COPY_BELOW
from sansnet_core.proto.tcp.flow import TcpFlow
from sansnet_core.proto.tcp.opening import Opening
from sansnet_core.proto.tcp.shared import TcpShared
from sansnet_core.proto.tcp.states import ESTABLISHED, FIN_UNACKNOWLEDGED, SYN_ACK_SENT
from sansnet_core.wire import ipv4, ipv6
from sansnet_core.wire.ip import TCP
from sansnet_core.wire.tcp import ACK, FIN, HALF, MASK, RST, SYN, TcpHeader
from sansnet_core.wire.virtio_net import GSO_UDP_L4, HEADER_SIZE

__all__ = ["Prediction"]

# From the length field of the IP header on: length, (flags and offset,) addresses with ports, sequence, acknowledgment,
# data offset, flags, window
_IPV4: Final = Struct("!H2xH4x12sIIBBH")
_IPV6: Final = Struct("!H2x36sIIBBH")
_PORTS: Final = Struct("!HH")
_FRAGMENTED: Final = 0x3FFF
"""Bits of IPv4's field of flags and offset, none of which is set in a whole packet."""
_FLAGS: Final = ACK | RST | SYN | FIN
_NO_ACK: Final = ACK | RST | SYN


@mypyc_attr(allow_interpreted_subclasses=True)
class Prediction:
    """Takes the segments that are as expected.

    Args:
        context: of the network.
        shared: the state that all connections share.
        flows: key of a connection -> connection.
        opening: opens connections.
        icmp_errors: of the network.
    """

    __slots__ = (
        "_context",
        "_expected",
        "_flows",
        "_icmp_errors",
        "_max_size",
        "_opening",
        "_opens",
        "_shared",
        "_start",
    )

    def __init__(
        self,
        context: Context,
        shared: TcpShared[TcpFlow],
        flows: dict[bytes, TcpFlow],
        opening: Opening,
        icmp_errors: IcmpErrors,
    ) -> None:
        link = context.config.link
        self._context = context
        self._shared = shared
        self._flows = flows
        self._start = HEADER_SIZE if link.vnet_header else 0
        self._max_size = self._start + link.max_frame_size
        self._expected = context.expected
        self._opening = opening
        self._opens = context.config.tcp
        self._icmp_errors = icmp_errors

    def receive(self, frame: Buffer) -> bool:
        """Take a frame if it is a well-formed segment of a connection, or opens one.

        Returns:
            Whether it was taken. If not, nothing has changed.

        Raises:
            Malformed: it opens a connection that may not open, and is dropped.
        """
        if type(frame) is not bytes and (type(frame) is not memoryview or not frame.readonly):
            return False
        start = self._start
        expected = self._expected
        size = len(frame)
        if not start + 54 <= size <= self._max_size:
            return False
        if expected.stale:
            expected.refresh()
        if frame[start : start + 15] == expected.head4:
            if frame[start + 23] != TCP:
                return False
            length, fragment, key, sequence, acknowledgment, offset, flags, field = _IPV4.unpack_from(frame, start + 16)
            begin, end = start + 54, start + 14 + length
            if (
                fragment & _FRAGMENTED
                or int.from_bytes(frame[start + 14 : start + 34], "big") % 65535
                or key[:4] != expected.guest4
            ):
                return False
        elif frame[start : start + 14] == expected.ethernet6:
            if frame[start + 20] != TCP or size < start + 74 or frame[start + 14] >> 4 != 6:
                return False
            length, key, sequence, acknowledgment, offset, flags, field = _IPV6.unpack_from(frame, start + 18)
            begin, end = start + 74, start + 54 + length
            if key[:16] != expected.guest6:
                return False
        else:
            return False
        if start and frame[1] == GSO_UDP_L4:  # the header of the link is checked then
            return False
        flow = self._flows.get(key)
        data = begin + (offset >> 4 << 2) - 20
        if not begin <= data <= end <= size:
            return False
        if flow is None:
            if flags & _FLAGS != SYN or not self._opens:
                return False
        else:
            if flow.resting is not None:
                flow.awake()
            if data == begin and flags & _NO_ACK == ACK and flow.gate is None:
                if self.take(flow, frame, sequence, acknowledgment, flags & FIN, field, begin, end):
                    return True
            elif flags & _NO_ACK == SYN:  # it may open another connection
                return False
        source_port, destination_port = _PORTS.unpack_from(key, len(key) - 4)
        fields = (
            source_port,
            destination_port,
            sequence,
            acknowledgment,
            flags,
            field,
            data,
            end,
            begin,
        )
        tcp = tuple.__new__(TcpHeader, fields)
        if flow is not None:
            arrival.receive(flow, tcp, frame)
            return True
        if not (source_port and destination_port):
            return False
        try:
            self._opening.syn_received(tcp, key, frame)
        except Malformed as malformed:
            parse = ipv4.parse if len(key) == 12 else ipv6.parse
            ip, _, _ = parse(frame, start + 14, size)
            self._icmp_errors.refuse(malformed.reason, ip, frame)
            raise
        return True

    def take(
        self,
        flow: TcpFlow,
        frame: Buffer,
        sequence: int,
        acknowledgment: int,
        fin: int,
        field: int,
        begin: int,
        end: int,
    ) -> bool:
        """Process a segment without options if it is as expected.

        Args:
            flow: a connection that nothing inspects.
            frame: holds the segment, with ACK and without SYN and RST.
            sequence: its sequence number.
            acknowledgment: its acknowledgment number.
            fin: 1 if it has FIN, else 0.
            field: its window field.
            begin: index of its data.
            end: index behind its data.

        Returns:
            Whether it was; if not, nothing has changed.
        """
        count = end - begin
        receiver, sender = flow.receiver, flow.sender
        una = sender.una
        acked = (acknowledgment - una) & MASK
        in_flight = (sender.next - una) & MASK
        room = (receiver.edge - sequence) & MASK
        state = flow.lifecycle[0]
        if (
            sequence != receiver.next
            or count + fin > room
            or receiver.gap is not None
            or (receiver.fin is not None and (count or fin))
            or acked > in_flight
            or not (acked or count or (fin and not in_flight))
            or sender.loss is not None
            or not sender.window
            or (sequence - sender.wl1) & MASK >= HALF
            or not (state is ESTABLISHED or (state is SYN_ACK_SENT and acked == in_flight))
        ):
            return False
        shared = self._shared
        memory = shared.memory
        if memory.held + count > memory.limit:
            return False

        # It is as expected
        now = self._context.now
        flow.heard = now
        if state is SYN_ACK_SENT:
            flow.establish(states.GUEST_ACK, sequence)
        if acked:
            released = sender.acknowledge(acked, now)
            flow.held -= released
            memory.held -= released
        window = field << sender.terms.scale
        sender.window = window
        if window > sender.largest_window:
            sender.largest_window = window
        sender.wl1 = sequence
        if acked == in_flight and acked and flow.lifecycle[3] in FIN_UNACKNOWLEDGED:
            flow.fire(states.GUEST_ACKED_FIN)
            if flow.lifecycle[0] is states.GONE:
                return True
        if count:
            copy = count < COPY_BELOW or count < len(frame) >> 1
            data = frame[begin:end] if copy else memoryview(frame)[begin:end]
            receiver.next = (sequence + count) & MASK
            receiver.unsent += count
            flow.sent += count
            flow.held += count
            memory.held += count
            shared.context.out.orders.append(SendStream(flow.socket, data))
        if fin:
            receiver.fin = receiver.next
            flow.end()
        if not flow.dirty:
            flow.dirty = True
            shared.dirty.append(flow)
        return True
