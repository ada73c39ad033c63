"""The effect of a guest's segment on its connection: SEGMENT ARRIVES of RFC 9293, 3.10.7."""

from __future__ import annotations

from typing import Final

from sansnet_core.errors import Reason
from sansnet_core.orders import Buffer, KeepAlive
from sansnet_core.proto.tcp import states
from sansnet_core.proto.tcp.flow import TcpFlow
from sansnet_core.proto.tcp.keepalive import LEAST_IDLE
from sansnet_core.proto.tcp.states import ESTABLISHED, FIN_UNACKNOWLEDGED
from sansnet_core.wire.tcp import ACK, FIN, MASK, RST, SYN, TcpHeader, add, diff, parse_syn_options

__all__ = ["receive", "unreachable"]

COPY_BELOW: Final = 1024
"""Bytes. Shorter payloads, and payloads of less than half of their frame, are copied, so that the memory held is the
memory counted. Other payloads are views of their frame."""


def receive(flow: TcpFlow, tcp: TcpHeader, buf: Buffer) -> None:
    """Process a segment of a connection.

    Args:
        flow: the connection. The caller has handled a SYN that opens it, or that repeats a SYN without an answer yet.
        tcp: the header.
        buf: the buffer that the header describes.
    """
    now = flow.shared.context.now
    silence = flow.hear(now)
    state = flow.lifecycle[0]
    receiver = flow.receiver
    flags = tcp.flags
    size = tcp.end - tcp.start
    # The next segment of a connection with an open window is acceptable
    is_next = tcp.sequence == receiver.next != receiver.edge and not flags & (SYN | RST)
    if is_next and state is states.SYN_ACK_SENT:
        if not _complete_handshake(flow, tcp):
            return
    elif not (is_next and state is ESTABLISHED) and not _is_acceptable(flow, tcp, size, buf, now, silence):
        return
    if not flags & ACK:
        flow.drop(Reason.TCP_SEQUENCE)
        return
    if not _acknowledge(flow, tcp, size, buf, now):
        return
    if size:
        _take_data(flow, tcp, size, buf)
        if flow.lifecycle[0] is states.GONE:
            return  # the data named a host that is not allowed
    if flags & FIN:
        receiver.note_fin((tcp.sequence + tcp.end - tcp.start) & MASK)
    if receiver.fin == receiver.next:
        flow.end()
    flow.schedule_flush()


def unreachable(flow: TcpFlow, sequence: int, errno: int) -> None:
    """An ICMP error from the guest's side reports that a segment to the guest was not delivered.

    It ends a handshake, if it is about our SYN or SYN-ACK. It ends no connection: to forge it, only the ports and a
    number in the window must be guessed (RFC 5461, RFC 5927).
    """
    if flow.lifecycle[0] in (states.SYN_SENT, states.SYN_ACK_SENT) and add(sequence, 1) == flow.sender.next:
        flow.give_up(states.GUEST_RESET, errno=errno)


def _is_acceptable(flow: TcpFlow, tcp: TcpHeader, size: int, buf: Buffer, now: float, silence: float) -> bool:
    """Check a segment that is not the next one of a connection with an open window; answer it if required.

    See RFC 9293, 3.10.7.

    Args:
        flow: the connection.
        tcp: the header.
        size: payload bytes.
        buf: the buffer.
        now: seconds.
        silence: seconds since the guest's last segment.

    Returns:
        Whether to process the segment's acknowledgment and data.
    """
    state = flow.lifecycle[0]
    flags = tcp.flags
    receiver = flow.receiver
    if state is states.SYN_SENT:
        _receive_in_syn_sent(flow, tcp, buf, now)
        return False
    if state is states.SYN_RECEIVED and flags & RST and tcp.sequence == receiver.next:
        flow.fire(states.GUEST_RESET)
        return False
    if state is states.SYN_RECEIVED or state is states.UNDECIDED:
        flow.drop(Reason.TCP_SEQUENCE)  # only the reset is valid before our SYN or our answer to the guest's
        return False
    if flags & SYN:
        if state is states.SYN_ACK_SENT:
            flow.syn_ack()  # the first was lost; if it is another SYN, the guest answers with a reset
            flow.sender.forget_timing()
        else:  # with any sequence number (RFC 5961, 4.2)
            flow.drop(Reason.TCP_SEQUENCE)
            _challenge(flow, now, limited=True)
        return False
    # The data of a reset explains it and takes no part of the stream (RFC 9293, 3.6.1)
    length = 0 if flags & RST else size + bool(flags & FIN)
    if not receiver.acceptable(tcp.sequence, length):
        if not flags & RST:
            _challenge(flow, now, limited=not length)
            if state is states.TIME_WAIT and flags & FIN and add(tcp.sequence, length) == receiver.next:
                # Our last acknowledgment was lost (RFC 9293, 3.10.7.4, eighth)
                flow.shared.time_wait[flow.inbound].begin(flow)
        # A repeated segment, or a probe of a closed window, may carry a new acknowledgment, but nothing else. One with
        # data is no duplicate acknowledgment (RFC 5681, 2 b). No guest repeats more than the largest window
        too_old = diff(receiver.next, tcp.sequence) > receiver.largest_window
        if flags & RST or too_old or diff(tcp.sequence, receiver.edge) > 0:
            flow.drop(Reason.TCP_SEQUENCE)
        elif flags & ACK and state is ESTABLISHED:
            if not flags & FIN and add(tcp.sequence, 1) == receiver.next:
                _guest_probed(flow, silence)
            _acknowledge(flow, tcp, size, buf, now)
            flow.schedule_flush()
        return False
    if flags & RST and (tcp.sequence == receiver.next or (receiver.gap and tcp.sequence == receiver.gap.end)):
        # As in Linux, behind the data beyond a gap too: the guest may not send it again, and sends no second reset
        flow.fire(states.GUEST_RESET)
        return False
    if flags & RST:  # elsewhere in the window (RFC 5961, 3.2)
        _challenge(flow, now, limited=True)
        return False
    if state is states.SYN_ACK_SENT:
        return _complete_handshake(flow, tcp)
    if state is states.TIME_WAIT:
        _challenge(flow, now, limited=not length)  # data is dropped, since it is beyond the FIN
    return True


def _guest_probed(flow: TcpFlow, silence: float) -> None:
    """The guest has sent a segment just below the window, after `silence` seconds: perhaps a keepalive probe."""
    if silence < LEAST_IDLE:
        return  # it is the repetition of a byte
    if flow.receiver.window_probed():
        return  # Linux sends the same segment then
    if schedule := flow.keep_alive().new_schedule(silence):
        flow.shared.context.out.orders.append(KeepAlive(flow.socket, *schedule))


def _challenge(flow: TcpFlow, now: float, *, limited: bool) -> None:
    """Acknowledge a segment that is not acceptable; `limited` means at a limited rate."""
    if flow.receiver.challenge(now, limited=limited):
        if flow.lifecycle[0] is states.SYN_ACK_SENT:
            flow.acknowledge()  # nothing is flushed before the handshake is complete
        else:
            flow.schedule_flush()


def _complete_handshake(flow: TcpFlow, tcp: TcpHeader) -> bool:
    """Process the guest's answer to our SYN-ACK; whether to process the rest of the segment."""
    if not tcp.flags & ACK:
        return True  # it is dropped as in any other state
    if tcp.acknowledgment != flow.sender.next:
        flow.refuse_acknowledgment(tcp.acknowledgment)
        return False
    flow.establish(states.GUEST_ACK, tcp.sequence)
    return True


def _receive_in_syn_sent(flow: TcpFlow, tcp: TcpHeader, buf: Buffer, now: float) -> None:
    """Process the guest's answer to our SYN (RFC 9293, 3.10.7.3).

    A SYN without ACK is ignored: see `states`. So is data with a SYN-ACK; the guest sends it again.
    """
    flags = tcp.flags
    sender = flow.sender
    if flags & ACK and tcp.acknowledgment != sender.next:
        if not flags & RST:
            # It belongs to an earlier connection. The reset ends that one, and then the guest can accept our SYN
            flow.refuse_acknowledgment(tcp.acknowledgment)
            flow.retry_syn()
    elif flags & (ACK | RST) == ACK | RST:
        flow.fire(states.GUEST_RESET)
    elif flags & (ACK | SYN) == ACK | SYN:
        flow.agree(tcp, parse_syn_options(buf, tcp.options_start, tcp.start))
        flow.establish(states.GUEST_SYN_ACK, flow.receiver.next)
        sender.acknowledge(1, now)
        flow.receiver.acknowledge_now()
        flow.schedule_flush()
    else:
        flow.drop(Reason.TCP_SEQUENCE)


def _acknowledge(flow: TcpFlow, tcp: TcpHeader, size: int, buf: Buffer, now: float) -> bool:
    """Process acknowledgment, window and SACK (RFC 9293, 3.10.7.4, fifth).

    Returns:
        Whether to process the rest of the segment. Not if the acknowledgment is not acceptable, or ended the
        connection.
    """
    acked = flow.sender.take(tcp, buf, size, now)
    if acked is None:
        flow.drop(Reason.TCP_SEQUENCE)
        _challenge(flow, now, limited=not size)
        return False
    released, everything, retransmit = acked
    if released:
        flow.release(released)
    if everything and flow.lifecycle[3] in FIN_UNACKNOWLEDGED:
        flow.fire(states.GUEST_ACKED_FIN)
        if flow.lifecycle[0] is states.GONE:
            return False
    if retransmit:
        flow.retransmit()
    return True


def _take_data(flow: TcpFlow, tcp: TcpHeader, size: int, buf: Buffer) -> None:
    """Process the first `size` bytes of the payload (RFC 9293, 3.10.7.4, seventh)."""
    receiver = flow.receiver
    if receiver.fin is not None and receiver.is_beyond_fin(add(tcp.sequence, size)):
        flow.drop(Reason.TCP_SEQUENCE)
        return
    shared = flow.shared
    memory = shared.memory
    if memory.held + size > memory.limit:
        size = _fitting(flow, diff(tcp.sequence, receiver.next), size)
        if not size:
            return
    copy = size < COPY_BELOW or size < len(buf) >> 1
    end = tcp.start + size
    data = buf[tcp.start : end] if copy else memoryview(buf)[tcp.start : end]
    queued, unsent = receiver.queued, receiver.unsent
    ready = receiver.accept(tcp.sequence, data, shared.context.config.limits.tcp_reassembly_segments)
    flow.deliver(ready, receiver.unsent - unsent, receiver.queued - queued)


def _fitting(flow: TcpFlow, ahead: int, size: int) -> int:
    """How many of `size` bytes fit into memory, which has less room; they begin `ahead` bytes beyond RCV.NXT."""
    receiver = flow.receiver
    memory, mss = flow.shared.memory, flow.terms.own_mss
    room = max(memory.room_in_order(receiver.unsent, mss) - ahead, 0) if ahead <= 0 else 0
    if size <= room:
        return size
    flow.drop(Reason.TCP_MEMORY)
    receiver.acknowledge_now()
    return room
