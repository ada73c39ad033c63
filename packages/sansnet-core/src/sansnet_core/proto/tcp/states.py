"""The lifecycle of a TCP connection between guest and host, as tables.

A connection changes its state by these tables only. The processing of segments (windows, sequence numbers,
retransmission) reports events and never sets a state.

Theory of operation. RFC 9293's eleven states are combinations of what each side has done. These tables keep the
factors apart: a lifecycle has four parts, which joint rules couple.

- `GUEST`: the connection with the guest, from the handshake to TIME-WAIT.
- `HOST`: the host's socket.
- `UP`: the stream from guest to host; `DOWN`: the stream from host to guest.

An event moves each part whose current state lists it. A part whose state does not list it stays as it is, as with a
repeated FIN or a reset after the end. Then joint rules are applied until none matches. They move further parts and name
effects, which `flow` maps to code. Between two events no joint rule matches.

A connection that the guest opens begins with its SYN and a host socket that is not connected yet. One from outside
begins with a connected socket and our SYN. If the driver is asked for a verdict, the side that is to be opened begins
UNDECIDED: no host socket is opened, or no SYN is sent to the guest. Simultaneous open (RFC 9293, 3.5) needs no state of
its own: the guest answers our SYN with a SYN-ACK although it has sent a SYN itself, so its SYN can be ignored.
"""

from __future__ import annotations

from errno import ECONNREFUSED, ECONNRESET, ETIMEDOUT
from functools import cache
from typing import Final, NamedTuple, TypeAlias

__all__ = [
    "ERRNOS",
    "EVENT_TRIGGERED",
    "FIN_UNACKNOWLEDGED",
    "FLOWING",
    "HANDSHAKE",
    "HOST_EXISTS",
    "INBOUND",
    "INITIAL",
    "JOINT",
    "PARTS",
    "UNDECIDED_INBOUND",
    "UNDECIDED_INITIAL",
    "Change",
    "JointRule",
    "Lifecycle",
    "change",
    "transition",
]

GUEST: Final = "GUEST"
HOST: Final = "HOST"
UP: Final = "UP"
DOWN: Final = "DOWN"
PARTS: Final = (GUEST, HOST, UP, DOWN)

UNDECIDED: Final = "UNDECIDED"
SYN_RECEIVED: Final = "SYN_RECEIVED"
SYN_ACK_SENT: Final = "SYN_ACK_SENT"
SYN_SENT: Final = "SYN_SENT"
ESTABLISHED: Final = "ESTABLISHED"
LOST: Final = "LOST"
TIME_WAIT: Final = "TIME_WAIT"
GONE: Final = "GONE"

CONNECTING: Final = "CONNECTING"
CONNECTED: Final = "CONNECTED"
DRAINING: Final = "DRAINING"

OPEN: Final = "OPEN"
FIN_SEEN: Final = "FIN_SEEN"
SHUT: Final = "SHUT"
EOF_SEEN: Final = "EOF_SEEN"
FIN_WAIT: Final = "FIN_WAIT"
LAST_ACK: Final = "LAST_ACK"
ACKED: Final = "ACKED"
CLOSED: Final = "CLOSED"

ALLOWED: Final = "verdict allows"
REFUSED: Final = "verdict refuses"
GUEST_ACK: Final = "guest acknowledges SYN"
GUEST_SYN_ACK: Final = "guest accepts"
GUEST_FIN: Final = "guest sends FIN"
GUEST_ACKED_FIN: Final = "guest acknowledges FIN"
GUEST_RESET: Final = "guest resets"
GUEST_LOST: Final = "guest is given up"
HOST_CONNECTED: Final = "host connects"
HOST_ENDED: Final = "host ends its stream"
HOST_FAILED: Final = "host fails"
UP_DRAINED: Final = "host took all data"
DOWN_DRAINED: Final = "FIN is sent behind all data"
TIME_OVER: Final = "state times out"

EVENT_TRIGGERED: Final[dict[str, dict[str, dict[str, str]]]] = {
    GUEST: {
        UNDECIDED: {ALLOWED: SYN_SENT, REFUSED: GONE, GUEST_RESET: GONE, GUEST_LOST: GONE},
        # A joint rule sends the SYN-ACK when the host has connected
        SYN_RECEIVED: {TIME_OVER: GONE, GUEST_RESET: GONE, GUEST_LOST: GONE},
        SYN_ACK_SENT: {GUEST_ACK: ESTABLISHED, GUEST_RESET: GONE, GUEST_LOST: GONE},
        SYN_SENT: {GUEST_SYN_ACK: ESTABLISHED, GUEST_RESET: GONE, GUEST_LOST: GONE},
        ESTABLISHED: {GUEST_RESET: GONE, GUEST_LOST: LOST},
        LOST: {},  # a joint rule sends a reset at once
        TIME_WAIT: {TIME_OVER: GONE, GUEST_RESET: GONE, GUEST_LOST: GONE},
        GONE: {},
    },
    HOST: {
        UNDECIDED: {ALLOWED: CONNECTING, REFUSED: GONE},
        CONNECTING: {HOST_CONNECTED: CONNECTED, HOST_FAILED: GONE},
        CONNECTED: {HOST_FAILED: GONE},
        DRAINING: {HOST_FAILED: GONE},  # the guest's side is over, and nothing that it sends matters any more
        GONE: {},
    },
    UP: {
        OPEN: {GUEST_FIN: FIN_SEEN},
        FIN_SEEN: {UP_DRAINED: SHUT},
        SHUT: {},
    },
    DOWN: {
        OPEN: {HOST_ENDED: EOF_SEEN},
        EOF_SEEN: {DOWN_DRAINED: LAST_ACK},  # or FIN_WAIT, by a joint rule
        FIN_WAIT: {GUEST_ACKED_FIN: ACKED},
        LAST_ACK: {GUEST_ACKED_FIN: CLOSED},
        ACKED: {},
        CLOSED: {},
    },
}
"""part -> state -> event -> next state."""

FIN_UNACKNOWLEDGED: Final = frozenset((FIN_WAIT, LAST_ACK))
"""States of `DOWN` in which our FIN was sent and not acknowledged."""


class JointRule(NamedTuple):
    """While every part named in `when` is in its state: move those in `then`, and run the effects in order."""

    when: dict[str, str]
    then: dict[str, str]
    effects: tuple[str, ...]


JOINT: Final = (
    JointRule({GUEST: SYN_RECEIVED, HOST: CONNECTED}, {GUEST: SYN_ACK_SENT}, ("send_syn_ack",)),
    JointRule({GUEST: SYN_RECEIVED, HOST: GONE}, {GUEST: GONE}, ("refuse",)),
    JointRule({GUEST: UNDECIDED, HOST: GONE}, {GUEST: GONE}, ("withdraw_question",)),
    JointRule({GUEST: SYN_ACK_SENT, HOST: GONE}, {GUEST: GONE}, ("reset_handshake",)),
    JointRule({GUEST: SYN_SENT, HOST: GONE}, {GUEST: GONE}, ("withdraw_syn",)),
    JointRule({GUEST: ESTABLISHED, HOST: GONE}, {GUEST: GONE}, ("send_reset",)),
    # Before it was lost, the guest had sent all that it had to say: the host gets it
    JointRule({GUEST: LOST, HOST: CONNECTED, UP: FIN_SEEN}, {GUEST: GONE, HOST: DRAINING}, ("send_reset",)),
    JointRule({GUEST: LOST, HOST: CONNECTED, UP: SHUT}, {GUEST: GONE, HOST: GONE}, ("send_reset", "close_socket")),
    JointRule({GUEST: LOST}, {GUEST: GONE}, ("send_reset",)),
    # A FIN that was sent before the guest's was received (RFC 9293's FIN-WAIT-1) is not the last one
    JointRule({UP: OPEN, DOWN: LAST_ACK}, {DOWN: FIN_WAIT}, ()),
    JointRule(
        {GUEST: ESTABLISHED, UP: SHUT, DOWN: ACKED},
        {GUEST: TIME_WAIT, HOST: GONE},
        ("close_socket", "start_time_wait"),
    ),
    # The guest ended first. Its ACK of our FIN shows that it has our ACK of its own FIN, so TIME-WAIT is not needed
    JointRule({GUEST: ESTABLISHED, UP: SHUT, DOWN: CLOSED}, {GUEST: GONE, HOST: GONE}, ("close_socket",)),
    # The same two, while the host has not taken all data yet
    JointRule(
        {GUEST: ESTABLISHED, UP: FIN_SEEN, DOWN: ACKED}, {GUEST: TIME_WAIT, HOST: DRAINING}, ("start_time_wait",)
    ),
    JointRule({GUEST: ESTABLISHED, UP: FIN_SEEN, DOWN: CLOSED}, {GUEST: GONE, HOST: DRAINING}, ()),
    JointRule({HOST: DRAINING, UP: SHUT}, {HOST: GONE}, ("close_socket",)),
    JointRule({GUEST: TIME_WAIT, HOST: GONE, UP: FIN_SEEN}, {UP: SHUT}, ("discard_data",)),
    JointRule({GUEST: GONE, HOST: UNDECIDED}, {HOST: GONE}, ("withdraw_question",)),
    JointRule({GUEST: GONE, HOST: CONNECTING}, {HOST: GONE}, ("abort_socket",)),
    # A reset in CLOSING or LAST-ACK is no failure: both have sent FIN, and only one acknowledgment is missing
    *(
        JointRule({GUEST: GONE, HOST: CONNECTED, UP: FIN_SEEN, DOWN: down}, {HOST: DRAINING}, ())
        for down in sorted(FIN_UNACKNOWLEDGED)
    ),
    *(
        JointRule({GUEST: GONE, HOST: CONNECTED, UP: SHUT, DOWN: down}, {HOST: GONE}, ("close_socket",))
        for down in sorted(FIN_UNACKNOWLEDGED)
    ),
    JointRule({GUEST: GONE, HOST: CONNECTED}, {HOST: GONE}, ("abort_socket",)),
)

Lifecycle: TypeAlias = tuple[str, str, str, str]
"""The states of `PARTS`, in that order."""

INITIAL: Final[Lifecycle] = (SYN_RECEIVED, CONNECTING, OPEN, OPEN)
"""The first states of a connection that the guest opens."""
INBOUND: Final[Lifecycle] = (SYN_SENT, CONNECTED, OPEN, OPEN)
"""The first states of a connection from outside."""
UNDECIDED_INITIAL: Final[Lifecycle] = (SYN_RECEIVED, UNDECIDED, OPEN, OPEN)
UNDECIDED_INBOUND: Final[Lifecycle] = (UNDECIDED, CONNECTED, OPEN, OPEN)
"""The same two, while the driver is asked for a verdict."""

FLOWING: Final[Lifecycle] = (ESTABLISHED, CONNECTED, OPEN, OPEN)
"""A connection that is open in both directions."""
HANDSHAKE: Final = frozenset((UNDECIDED, SYN_RECEIVED, SYN_ACK_SENT, SYN_SENT))
"""States of `GUEST` before the handshakes with host and guest are complete."""
HOST_EXISTS: Final = frozenset((CONNECTING, CONNECTED, DRAINING))
"""States of `HOST` in which there is a socket."""
ERRNOS: Final[dict[tuple[str, str], int]] = {
    (SYN_RECEIVED, TIME_OVER): ETIMEDOUT,
    (SYN_RECEIVED, GUEST_LOST): ETIMEDOUT,
    (SYN_RECEIVED, GUEST_RESET): ECONNRESET,
    (SYN_ACK_SENT, GUEST_LOST): ETIMEDOUT,
    (SYN_ACK_SENT, GUEST_RESET): ECONNRESET,
    (UNDECIDED, GUEST_LOST): ETIMEDOUT,
    (UNDECIDED, GUEST_RESET): ECONNREFUSED,
    (SYN_SENT, GUEST_LOST): ETIMEDOUT,
    (SYN_SENT, GUEST_RESET): ECONNREFUSED,
    (ESTABLISHED, GUEST_LOST): ETIMEDOUT,
    (ESTABLISHED, GUEST_RESET): ECONNRESET,
}
"""State of `GUEST` and the event that ended the connection there -> the errno that a socket in its place would have.
There is none after both have sent FIN (RFC 9293, 3.10.7.4)."""


@cache
def transition(states: Lifecycle, event: str) -> tuple[Lifecycle, tuple[str, ...]]:
    """Apply an event.

    Args:
        states: the states of the four parts.
        event: one of the names above.

    Returns:
        Their next states, and the effects to run, in order.
    """
    now = dict(zip(PARTS, states, strict=True))
    for part in PARTS:
        now[part] = EVENT_TRIGGERED[part][now[part]].get(event, now[part])
    effects: list[str] = []
    while rule := next((rule for rule in JOINT if rule.when.items() <= now.items()), None):
        now |= rule.then
        effects += rule.effects
    return (now[GUEST], now[HOST], now[UP], now[DOWN]), tuple(effects)


class Change(NamedTuple):
    """The consequences of an event beyond the next states.

    Attributes:
        effects: to run, in order.
        errno: that of `ERRNOS`; 0 for none.
        ends_handshake: the connection leaves the states of `HANDSHAKE`.
        has_ended: the side of the guest, or both sides, have ended by the event.
    """

    effects: tuple[str, ...]
    errno: int
    ends_handshake: bool
    has_ended: bool


@cache
def change(states: Lifecycle, event: str) -> tuple[Lifecycle, Change | None]:
    """Apply an event, as `transition`; the next states, and the consequences beyond them, if there are any."""
    after, effects = transition(states, event)
    before, guest = states[0], after[0]
    both_have_ended = states[2] is not OPEN and states[3] in FIN_UNACKNOWLEDGED
    errno = ERRNOS.get((before, event), 0) if guest is not before and not both_have_ended else 0
    ends_handshake = before in HANDSHAKE and guest not in HANDSHAKE
    has_ended = guest is GONE and (before is not GONE or after[1] is GONE)
    if not (effects or errno or ends_handshake or has_ended):
        return after, None
    return after, Change(effects, errno, ends_handshake, has_ended)
