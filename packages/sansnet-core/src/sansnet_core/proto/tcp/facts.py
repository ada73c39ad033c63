"""The effect of a fact about the host's sockets on their connection.

While several attempts to connect are under way, or a handshake with a proxy, the facts are theirs.
"""

from __future__ import annotations

from sansnet_core.orders import ExtendedError, SocketId
from sansnet_core.proto.tcp import states
from sansnet_core.proto.tcp.flow import TcpFlow
from sansnet_core.proto.tcp.states import FIN_SEEN

__all__ = ["budget", "connected", "ended", "failed", "received", "sent"]


def connected(flow: TcpFlow, socket: SocketId) -> None:
    """The host's connect succeeded."""
    if flow.attempts is not None:
        flow.attempts.connected(socket)
    else:
        flow.fire(states.HOST_CONNECTED)


def received(flow: TcpFlow, socket: SocketId, data: bytes) -> None:
    """Bytes were read from the socket, within the budget."""
    if flow.attempts is not None:
        flow.attempts.received(socket, data)
    else:
        flow.stream_received(data)


def budget(flow: TcpFlow, socket: SocketId) -> int:
    """How many bytes may be read from the socket."""
    return flow.receive_budget() if flow.attempts is None else flow.attempts.budget(socket)


def sent(flow: TcpFlow, count: int) -> None:
    """The socket took bytes."""
    if flow.attempts is not None:
        flow.attempts.sent(count)
        return
    receiver = flow.receiver
    receiver.delivered(count)
    flow.release(count)
    if flow.lifecycle[2] is FIN_SEEN:
        flow.check_up_drained()
    if receiver.window_opens(flow.terms.own_mss, flow.shared.memory.window(receiver.limit)):
        receiver.acknowledge_now()
        flow.schedule_flush()


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
