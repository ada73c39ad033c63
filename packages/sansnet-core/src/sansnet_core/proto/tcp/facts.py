"""The effect of a fact about the host's sockets on their connection.

While several attempts to connect are under way, or a handshake with a proxy, the facts are theirs.
"""

from __future__ import annotations

from sansnet_core.orders import ExtendedError, SocketId
from sansnet_core.proto.tcp import states
from sansnet_core.proto.tcp.flow import TcpFlow
from sansnet_core.proto.tcp.states import FIN_SEEN, GONE

__all__ = ["connected", "ended", "failed", "sent"]


def connected(flow: TcpFlow, socket: SocketId) -> None:
    """The host's connect succeeded."""
    if flow.attempts is not None:
        flow.attempts.connected(socket)
    else:
        flow.fire(states.HOST_CONNECTED)


def sent(flow: TcpFlow, count: int) -> None:
    """The socket took bytes."""
    if flow.attempts is not None:
        flow.attempts.sent(count)
        return
    if flow.lifecycle[1] is GONE:
        return  # the driver may be late
    receiver, own_mss = flow.receiver, flow.terms.own_mss
    may_open = receiver.delivered(count)
    flow.release(count)
    if flow.lifecycle[2] is FIN_SEEN:
        _progress(flow)
        flow.check_up_drained()
    elif may_open and receiver.window_opens(own_mss, flow.shared.memory.window(receiver.limit, own_mss)):
        receiver.acknowledge_now()
        flow.schedule_flush()


def _progress(flow: TcpFlow) -> None:
    """The host takes the data of a guest that has sent FIN. The guest may be gone; that must not end the connection."""
    context = flow.shared.context
    if flow.lifecycle[0] is GONE:
        flow.end_after(context.config.limits.tcp_keepalive)
    else:
        flow.hear(context.now)


def ended(flow: TcpFlow, socket: SocketId) -> None:
    """The remote host will send no more."""
    if flow.attempts is not None:
        flow.attempts.ended(socket)
        return
    flow.fire(states.HOST_ENDED)
    flow.schedule_flush()


def failed(flow: TcpFlow, socket: SocketId, error: ExtendedError) -> None:
    """The connect failed, or the connection is broken."""
    if flow.attempts is not None:
        flow.attempts.failed(socket, error)
    else:
        flow.host_failed(error)
