"""The segments that one connection sends to the guest."""

from __future__ import annotations

from struct import Struct
from typing import Final

from sansnet_core.egress import Egress, FlowHeaders
from sansnet_core.mypyc import mypyc_attr
from sansnet_core.orders import Buffer, Endpoint
from sansnet_core.proto.tcp.handshake import Terms
from sansnet_core.proto.tcp.keepalive import Keepalive
from sansnet_core.proto.tcp.memory import Memory
from sansnet_core.proto.tcp.receiving import Receiver
from sansnet_core.proto.tcp.sending import Sender
from sansnet_core.wire.ip import TCP
from sansnet_core.wire.tcp import ACK, FIN, PSH, RST, SYN, add, sack_option

__all__ = ["NO_RECEIVER", "QUIET", "Output", "endpoints"]

QUIET: Final = 1.0
"""Seconds without a segment of the guest after which a connection without anything to do rests."""
MAX_FIELD: Final = 65535
"""Largest value of the window field."""


_ENDS4: Final = Struct("!4s4sHH")
_ENDS6: Final = Struct("!16s16sHH")
_NO_SENDER: Final = Sender(0)
NO_RECEIVER: Final = Receiver(0, 0)
"""In the place of the halves of a connection that rests, and of the receiver before the guest's SYN has come."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Output:
    """The base class of connections that builds their segments from the state of the two halves.

    Args:
        key: the handler's key of the connection: the guest's address, the remote one, and their ports.
        headers: of the connection.
        sender: its sending half.
        memory: of all connections; it bounds the windows.
        now: seconds.

    Attributes:
        sender, receiver: the two halves. A connection that rests must be woken before they are used.
        key, memory: the arguments.
        resting: the state of the two halves while there is nothing to do; None while they exist.
        heard: time of the guest's last segment, in seconds; after its FIN, also of the host's last progress.
        keepalive: the probes of the guest, and of it; None until there was one.
        terms: the result of the negotiation; before it, our offer.
    """

    __slots__ = ("_headers", "heard", "keepalive", "key", "memory", "receiver", "resting", "sender", "terms")

    receiver: Receiver
    terms: Terms

    def __init__(self, key: bytes, headers: FlowHeaders, sender: Sender, memory: Memory, now: float) -> None:
        self.key = key
        self._headers = headers
        self.sender = sender
        self.memory = memory
        self.resting: bytes | None = None
        self.heard = now
        self.keepalive: Keepalive | None = None

    @property
    def guest(self) -> Endpoint:
        """The guest's endpoint."""
        return endpoints(self.key)[0]

    @property
    def remote(self) -> Endpoint:
        """The other end as the guest sees it."""
        return endpoints(self.key)[1]

    # rest

    def rest(self, no_headers: FlowHeaders) -> bool:
        """Keep the two halves as a few bytes, if there is nothing to do.

        Args:
            no_headers: takes the place of the headers, which are made again.

        Returns:
            Whether the connection rests now.
        """
        sender, receiver = self.sender.rest(), self.receiver.rest()
        if sender is None or receiver is None:
            return False
        self.resting = sender + receiver + (self._headers.mac or b"")
        self.sender, self.receiver, self._headers = _NO_SENDER, NO_RECEIVER, no_headers
        return True

    def wake(self, egress: Egress) -> None:
        """Make the two halves again."""
        state = self.resting
        assert state is not None
        self.resting = None
        end = Sender.REST_SIZE + Receiver.REST_SIZE
        self.sender = Sender(0)
        self.sender.wake(state[: Sender.REST_SIZE], self.terms)
        self.receiver = Receiver(0, self.terms.window, self.terms.own_scale or 0)
        self.receiver.wake(state[Sender.REST_SIZE : end])
        guest, remote = endpoints(self.key)
        self._headers = FlowHeaders(egress, remote, guest, TCP, state[end:])

    # keepalive

    def hear(self, now: float) -> float:
        """Note a segment from the guest; the seconds since its previous segment."""
        silence, self.heard = now - self.heard, now
        return silence

    def keep_alive(self) -> Keepalive:
        """The keepalive, for a probe."""
        if self.keepalive is None:
            self.keepalive = Keepalive()
        return self.keepalive

    # handshake

    def syn(self) -> None:
        """Send our SYN, to a guest that sent none."""
        self._syn(SYN, 0)

    def syn_ack(self) -> None:
        """Answer the guest's SYN."""
        self._syn(SYN | ACK, self.receiver.next)

    def _syn(self, flags: int, acknowledgment: int) -> None:
        terms = self.terms
        window = min(terms.window, MAX_FIELD)  # never scaled (RFC 7323, 2.2)
        self._headers.tcp(self.sender.una, acknowledgment, flags, window, terms.syn_options(), b"", 0)

    def reset_handshake(self) -> None:
        """Reset a connection whose SYN-ACK is not acknowledged: the guest expects SND.NXT, whatever its window is."""
        self.reset(self.sender.next, self.receiver.next)

    def withdraw_syn(self) -> None:
        """Reset the connection that our SYN may have begun in the guest. There is nothing to acknowledge yet."""
        self.reset(self.sender.next, None)

    def refuse_acknowledgment(self, acknowledgment: int) -> None:
        """Reset a stale connection, which our SYN or SYN-ACK met (RFC 9293, 3.10.7.3 and 3.10.7.4, fifth)."""
        self.reset(acknowledgment, None)

    def reset(self, sequence: int, acknowledgment: int | None) -> None:
        """Send RST, with ACK if there is something to acknowledge."""
        flags = RST if acknowledgment is None else RST | ACK
        self._headers.tcp(sequence, acknowledgment or 0, flags, 0, b"", b"", 0)

    # an established connection

    def reset_connection(self) -> None:
        """Reset the connection with a sequence number that the guest accepts."""
        self.reset(self.sender.ack_sequence, self.receiver.next)

    def acknowledge(self, later: int = 0) -> None:
        """Send an acknowledgment, with SACK blocks if there is a gap; `later` more follow at once."""
        receiver, terms = self.receiver, self.terms
        options = b""
        if receiver.gap is not None and terms.sack:
            options = sack_option(receiver.sack_blocks(terms.sack_blocks, later))
        self._send(self.sender.ack_sequence, ACK, b"", options)

    def report_gap(self) -> None:
        """Send the acknowledgments of a gap that are due: without data, since data carries no SACK."""
        for later in reversed(range(self.receiver.take_reports())):
            self.acknowledge(later)

    def new_data(self, now: float, *, ends: bool) -> bool:
        """Send as much of the unsent data as the guest's window has room for.

        Args:
            now: seconds.
            ends: the stream ends behind the data: send FIN with the last of it, or alone if there is none.

        Returns:
            Whether FIN was sent.
        """
        sender, max_size = self.sender, self.terms.frame_payload
        buffer = sender.buffer
        while buffer.unsent:
            sequence = sender.next
            payload = sender.next_payload(max_size, now)
            if not payload:
                return False
            if buffer.unsent:
                self._send(sequence, ACK, payload)
            elif ends and sender.has_room:
                sender.send_fin(now)
                self._send(sequence, ACK | PSH | FIN, payload)
                return True
            else:
                self._send(sequence, ACK | PSH, payload)
        if not ends or not sender.fin_may_go:
            return False
        self._send(sender.send_fin(now), ACK | FIN, b"")
        return True

    def window_probe(self, now: float) -> None:
        """Send a byte beyond the guest's window (RFC 9293, 3.8.6.1)."""
        sequence, payload = self.sender.probe(now)
        self._send(sequence, ACK | PSH, payload)

    def keepalive_probe(self) -> None:
        """Send a segment just below the guest's window, which it acknowledges (RFC 9293, 3.8.4)."""
        self._send(add(self.sender.next, -1), ACK, b"")

    def retransmit(self) -> None:
        """Retransmit the segments that loss recovery selects."""
        sender = self.sender
        for sequence, payload in sender.retransmissions():
            self._send(sequence, ACK | PSH, payload)
        if sender.fin_is_missing:
            sender.forget_timing()
            self._send(sender.una, ACK | FIN, b"")

    def shrink(self, terms: Terms) -> None:
        """Take terms with a smaller MSS, because a link has dropped what is in flight; send that again."""
        self.terms = terms
        self.sender.shrink(terms)
        self.retransmit()

    def _send(self, sequence: int, flags: int, payload: Buffer, options: bytes = b"") -> None:
        receiver, terms = self.receiver, self.terms
        window = receiver.offer_window(terms.own_mss, self.memory.window(receiver.limit, terms.own_mss))
        if terms.own_scale:
            window >>= terms.own_scale  # fits the field, as the scale was chosen for the largest window
        mss = terms.mss
        self._headers.tcp(sequence, receiver.next, flags, window, options, payload, mss if len(payload) > mss else 0)


def endpoints(key: bytes) -> tuple[Endpoint, Endpoint]:
    """The guest's endpoint and the remote one, from the key of a connection."""
    guest, remote, guest_port, remote_port = (_ENDS4 if len(key) == 12 else _ENDS6).unpack(key)
    return Endpoint._make((guest, guest_port)), Endpoint._make((remote, remote_port))
