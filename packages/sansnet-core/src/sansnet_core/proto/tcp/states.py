"""The life of a TCP connection between guest and host, as tables.

Rule 1: what moves a state is in this file and nowhere else. Per-segment work (windows, sequence numbers,
retransmission) never touches it.

Theory of operation. RFC 9293 has eleven states because it multiplies what each side has done. A translator keeps the
factors: four small machines, coupled.

- `GUEST`: the handshake with the guest, until it is over for good.
- `HOST`: the host's socket.
- `UP`: the stream from guest to host; `DOWN`: the stream from host to guest.

An event moves the one machine that lists it (an event that a state does not list changes nothing: a repeated FIN, a
reset after the end). Then joint rules fire until none applies; they couple the machines, and name the effects, which
are methods of `TcpFlow`. Invariant between events: no joint rule applies.

A connection that the guest begins starts with its SYN and a host's socket that is yet to connect; one from outside with
a connected socket and a SYN of ours. RFC 9293's simultaneous open needs no state of its own: whoever sent a SYN answers
another's with a SYN-ACK, so the guest's answer comes, and its own SYN can be ignored.
"""

from __future__ import annotations

from functools import cache
from typing import Final, NamedTuple, TypeAlias

__all__ = ["EVENT_TRIGGERED", "INBOUND", "INITIAL", "JOINT", "MACHINES", "JointRule", "Lifecycle", "transition"]

GUEST: Final = "GUEST"
HOST: Final = "HOST"
UP: Final = "UP"
DOWN: Final = "DOWN"
MACHINES: Final = (GUEST, HOST, UP, DOWN)

SYN_RECEIVED: Final = "SYN_RECEIVED"
SYN_ACK_SENT: Final = "SYN_ACK_SENT"
SYN_SENT: Final = "SYN_SENT"
ESTABLISHED: Final = "ESTABLISHED"
TIME_WAIT: Final = "TIME_WAIT"
GONE: Final = "GONE"

CONNECTING: Final = "CONNECTING"
CONNECTED: Final = "CONNECTED"

OPEN: Final = "OPEN"
FIN_SEEN: Final = "FIN_SEEN"
SHUT: Final = "SHUT"
EOF_SEEN: Final = "EOF_SEEN"
FIN_SENT: Final = "FIN_SENT"
ACKED: Final = "ACKED"

GUEST_ACK: Final = "guest acknowledges SYN"
GUEST_SYN_ACK: Final = "guest accepts"
GUEST_FIN: Final = "guest sends FIN"
GUEST_ACKED_FIN: Final = "guest acknowledges FIN"
GUEST_RESET: Final = "guest resets or is given up"
HOST_CONNECTED: Final = "host connects"
HOST_ENDED: Final = "host ends its stream"
HOST_FAILED: Final = "host fails"
UP_DRAINED: Final = "host took all data"
DOWN_DRAINED: Final = "guest was sent all data"
TIME_OVER: Final = "time-wait is over"

EVENT_TRIGGERED: Final[dict[str, dict[str, dict[str, str]]]] = {
    GUEST: {
        SYN_RECEIVED: {GUEST_RESET: GONE},  # the SYN-ACK waits for the host: a joint rule sends it
        SYN_ACK_SENT: {GUEST_ACK: ESTABLISHED, GUEST_RESET: GONE},
        SYN_SENT: {GUEST_SYN_ACK: ESTABLISHED, GUEST_RESET: GONE},
        ESTABLISHED: {GUEST_RESET: GONE},
        TIME_WAIT: {TIME_OVER: GONE, GUEST_RESET: GONE},
        GONE: {},
    },
    HOST: {
        CONNECTING: {HOST_CONNECTED: CONNECTED, HOST_FAILED: GONE},
        CONNECTED: {HOST_FAILED: GONE},
        GONE: {},
    },
    UP: {
        OPEN: {GUEST_FIN: FIN_SEEN},
        FIN_SEEN: {UP_DRAINED: SHUT},
        SHUT: {},
    },
    DOWN: {
        OPEN: {HOST_ENDED: EOF_SEEN},
        EOF_SEEN: {DOWN_DRAINED: FIN_SENT},
        FIN_SENT: {GUEST_ACKED_FIN: ACKED},
        ACKED: {},
    },
}
"""machine -> state -> event -> next state."""


class JointRule(NamedTuple):
    """When every machine named in `when` is in its state, move those in `then` and run the effect."""

    when: dict[str, str]
    then: dict[str, str]
    effect: str


JOINT: Final = (
    JointRule({GUEST: SYN_RECEIVED, HOST: CONNECTED}, {GUEST: SYN_ACK_SENT}, "send_syn_ack"),
    JointRule({GUEST: SYN_RECEIVED, HOST: GONE}, {GUEST: GONE}, "refuse"),
    JointRule({GUEST: SYN_ACK_SENT, HOST: GONE}, {GUEST: GONE}, "send_reset"),
    JointRule({GUEST: SYN_SENT, HOST: GONE}, {GUEST: GONE}, "withdraw"),
    JointRule({GUEST: ESTABLISHED, HOST: GONE}, {GUEST: GONE}, "send_reset"),
    JointRule({GUEST: ESTABLISHED, UP: SHUT, DOWN: ACKED}, {GUEST: TIME_WAIT, HOST: GONE}, "close_socket"),
    JointRule({GUEST: GONE, HOST: CONNECTING}, {HOST: GONE}, "abort_socket"),
    JointRule({GUEST: GONE, HOST: CONNECTED}, {HOST: GONE}, "abort_socket"),
)

Lifecycle: TypeAlias = tuple[str, str, str, str]
"""The states of `MACHINES`, in that order."""

INITIAL: Final[Lifecycle] = (SYN_RECEIVED, CONNECTING, OPEN, OPEN)
INBOUND: Final[Lifecycle] = (SYN_SENT, CONNECTED, OPEN, OPEN)
"""Where a connection begins: the guest's, and one from outside."""


@cache
def transition(states: Lifecycle, event: str) -> tuple[Lifecycle, tuple[str, ...]]:
    """What `event` leads to.

    Args:
        states: where the four machines are.
        event: one of the names above.

    Returns:
        Where they go, and the effects to run, in order.
    """
    now = dict(zip(MACHINES, states, strict=True))
    for machine in MACHINES:
        now[machine] = EVENT_TRIGGERED[machine][now[machine]].get(event, now[machine])
    effects = []
    while rule := next((rule for rule in JOINT if rule.when.items() <= now.items()), None):
        now |= rule.then
        effects.append(rule.effect)
    return (now[GUEST], now[HOST], now[UP], now[DOWN]), tuple(effects)
