"""The round trips to the guest, and the retransmission timeout that follows from them (RFC 6298)."""

from __future__ import annotations

from typing import Final

from sansnet_core.mypyc import mypyc_attr
from sansnet_core.wire.tcp import diff

__all__ = ["INITIAL_RTO", "MAX_RTO", "MIN_RTO", "RoundTrips"]

MIN_RTO: Final = 0.2
"""The least that the timer waits beyond SRTT, and so the least of all: Linux's TCP_RTO_MIN. RFC 6298, 2.4 recommends
1 s, but the link to a guest has no long queues, unless an impairment makes them."""
MAX_RTO: Final = 60.0
INITIAL_RTO: Final = 1.0


@mypyc_attr(allow_interpreted_subclasses=True)
class RoundTrips:
    """The base class of senders that measures.

    Attributes:
        rto: seconds, with backoff, which lasts until new data is acknowledged (Karn; RFC 6298, 5).
    """

    __slots__ = ("_recovery_rto", "_rtt_sequence", "_rtt_start", "_rttvar", "_srtt", "rto")

    def __init__(self) -> None:
        self.rto = INITIAL_RTO
        self._srtt: float | None = None
        self._rttvar = 0.0
        self._rtt_sequence = 0
        self._rtt_start: float | None = None
        self._recovery_rto = 0.0
        """RTO at the first acknowledgment in the recovery of one flight; 0 before it."""

    def forget_timing(self) -> None:
        """Stop timing: an acknowledgment of something sent twice may be for either (Karn; RFC 6298, 3)."""
        self._rtt_start = None

    def _sends_again(self, end: int) -> None:
        """A segment that ends before this number is sent again: it is not timed, nor is one before it."""
        if diff(end, self._rtt_sequence) >= 0:
            self.forget_timing()

    def _bound_backoff(self) -> None:
        """A part of a flight is acknowledged: the timeouts for several losses of one flight do not add up."""
        if not self._recovery_rto:
            self._recovery_rto = self.rto
        self.rto = min(self.rto, self._recovery_rto)

    def _end_backoff(self) -> None:
        """Something is acknowledged that was first sent after the timeout."""
        if self._srtt is None:
            self.rto = INITIAL_RTO
        else:
            self._set_rto()

    def _sample(self, rtt: float) -> None:
        """Update SRTT, RTTVAR and RTO (RFC 6298, 2.2 and 2.3)."""
        if self._srtt is None:
            self._srtt = rtt
            self._rttvar = rtt / 2
        else:
            error = rtt - self._srtt
            self._rttvar += ((error if error > 0 else -error) - self._rttvar) / 4
            self._srtt += error / 8
        self._set_rto()

    def _set_rto(self) -> None:
        assert self._srtt is not None
        variance = 4 * self._rttvar
        rto = self._srtt + (variance if variance > MIN_RTO else MIN_RTO)
        self.rto = rto if rto < MAX_RTO else MAX_RTO
