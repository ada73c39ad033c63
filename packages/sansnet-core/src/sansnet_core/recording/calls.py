"""The inputs of a network: the methods whose calls change what it does later.

An entry of a recording is one call. In memory it is a tuple: the number of the method, the time, the other arguments in
the order below, and the result, if the method has one. A negative number means that an exception was raised: then a
`Raised` comes before the result, and the result only if there is one.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple, TypeAlias

__all__ = ["ARGUMENTS", "METHODS", "OUTPUTS", "RETURNING", "Call", "Ending", "Entry", "Raised"]

Entry: TypeAlias = tuple[Any, ...]


class Call:
    """The numbers of the methods."""

    GUEST_ATTACHED: Final = 1
    RECEIVE_FRAMES: Final = 2
    STREAM_ACCEPTED: Final = 3
    STREAM_CONNECTED: Final = 4
    STREAM_RECEIVED: Final = 5
    STREAM_SENT: Final = 6
    STREAM_ENDED: Final = 7
    STREAM_FAILED: Final = 8
    FORWARD_ADDED: Final = 9
    FORWARD_REMOVED: Final = 10
    DATAGRAM_RECEIVED: Final = 11
    DATAGRAM_FAILED: Final = 12
    ECHO_RECEIVED: Final = 13
    ECHO_FAILED: Final = 14
    SERVICE_ADDED: Final = 15
    SERVICE_REMOVED: Final = 16
    SERVICE_SENT: Final = 17
    STREAM_OPENED: Final = 18
    FLOW_DECIDED: Final = 19
    REPORT_NOTICES: Final = 20
    HANDLE_DEADLINE: Final = 21
    TAKE_ORDERS: Final = 22
    TAKE_FRAMES: Final = 23
    TAKE_NOTICES: Final = 24
    RECEIVE_BUDGET: Final = 25
    RECONFIGURE: Final = 26


METHODS: Final = {
    number: name.lower() for name, number in vars(Call).items() if isinstance(number, int) and name.isupper()
}
"""Number -> name of the method of `Network`."""

ARGUMENTS: Final[dict[int, tuple[str, ...]]] = {
    Call.GUEST_ATTACHED: (),
    Call.RECEIVE_FRAMES: ("frames",),
    Call.STREAM_ACCEPTED: ("remote", "guest_address", "guest_port"),
    Call.STREAM_CONNECTED: ("socket",),
    Call.STREAM_RECEIVED: ("socket", "data"),
    Call.STREAM_SENT: ("socket", "count"),
    Call.STREAM_ENDED: ("socket",),
    Call.STREAM_FAILED: ("socket", "errno", "error"),
    Call.FORWARD_ADDED: ("guest_address", "guest_port", "outgoing"),
    Call.FORWARD_REMOVED: ("socket",),
    Call.DATAGRAM_RECEIVED: ("socket", "source", "data", "segment_size", "ttl", "tos", "local"),
    Call.DATAGRAM_FAILED: ("socket", "remote", "error", "data"),
    Call.ECHO_RECEIVED: ("socket", "source", "sequence", "data", "ttl", "tos"),
    Call.ECHO_FAILED: ("socket", "sequence", "error", "data"),
    Call.SERVICE_ADDED: ("protocol", "prefix", "port"),
    Call.SERVICE_REMOVED: ("socket",),
    Call.SERVICE_SENT: ("socket", "guest", "source", "data"),
    Call.STREAM_OPENED: ("source", "guest_address", "guest_port"),
    Call.FLOW_DECIDED: ("socket", "verdict"),
    Call.REPORT_NOTICES: ("wanted",),
    Call.HANDLE_DEADLINE: (),
    Call.TAKE_ORDERS: (),
    Call.TAKE_FRAMES: (),
    Call.TAKE_NOTICES: (),
    Call.RECEIVE_BUDGET: ("socket",),
    Call.RECONFIGURE: ("config", "moved", "keep_flows"),
}
"""Number -> names of the arguments but `now`."""

OUTPUTS: Final = frozenset((Call.TAKE_ORDERS, Call.TAKE_FRAMES, Call.TAKE_NOTICES))
"""Methods that return outputs."""
RETURNING: Final = OUTPUTS | {
    Call.STREAM_ACCEPTED,
    Call.FORWARD_ADDED,
    Call.SERVICE_ADDED,
    Call.STREAM_OPENED,
    Call.RECEIVE_BUDGET,
}
"""Methods that return anything."""


class Ending:
    """How a call ended that raised an exception."""

    MISUSE: Final = 0
    """The driver broke the contract; it got the exception."""
    RECOVERED: Final = 1
    """The core failed, and the network went on."""
    FAILED: Final = 2
    """The core failed, and the driver got the exception."""
    INTERRUPTED: Final = 3
    """Memory ran out, or the call was interrupted: a replay does not raise it."""


class Raised(NamedTuple):
    """An exception in a call.

    Attributes:
        ending: one of `Ending`.
        error: name of its class.
        text: its message, and the lines of code that it passed through.
    """

    ending: int
    error: str
    text: str
