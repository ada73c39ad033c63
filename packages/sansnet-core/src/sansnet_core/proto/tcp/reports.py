"""The notices and the report about one connection."""

from __future__ import annotations

from sansnet_core.notices import FlowClosed, FlowOpened, FlowRefused, FlowReport
from sansnet_core.proto.tcp.flow import TcpFlow
from sansnet_core.proto.tcp.states import ESTABLISHED, GONE, HOST_EXISTS, OPEN, UNDECIDED
from sansnet_core.wire.ip import TCP

__all__ = ["closed", "opened", "refused", "report"]


def opened(flow: TcpFlow, now: float) -> FlowOpened:
    """The notice that a connection may open."""
    permission = flow.permission
    return FlowOpened(
        flow.first_socket,
        TCP,
        flow.guest,
        flow.remote,
        flow.host,
        flow.inbound,
        now,
        permission.name,
        permission.rule,
    )


def refused(flow: TcpFlow, now: float) -> FlowRefused | None:
    """The notice about a connection that failed to open; None if it did not.

    A connection from outside only fails if it may not open: its host socket is connected from the start.
    """
    if flow.answered or (flow.inbound and flow.reason is None):
        return None
    host = flow.host if flow.told or flow.inbound else None
    errno = flow.failure.errno if flow.failure else 0
    permission = flow.permission
    return FlowRefused(
        TCP,
        flow.guest,
        flow.remote,
        host,
        errno,
        flow.reason,
        flow.inbound,
        now,
        permission.name,
        permission.rule,
    )


def closed(flow: TcpFlow, now: float) -> FlowClosed:
    """The notice of the end of a connection."""
    permission = flow.permission
    return FlowClosed(
        flow.first_socket,
        TCP,
        flow.guest,
        flow.remote,
        flow.host,
        flow.inbound,
        flow.sent,
        flow.received,
        flow.errno,
        now,
        permission.name,
        flow.reason,
        permission.rule,
    )


def report(flow: TcpFlow) -> FlowReport:
    """The present state of a connection."""
    permission = flow.permission
    _, host, up, _ = flow.lifecycle
    return FlowReport(
        flow.first_socket,
        TCP,
        flow.guest,
        flow.remote,
        flow.host,
        flow.inbound,
        _state(flow),
        flow.sent,
        flow.received,
        permission.name,
        permission.rule,
        flow.receiver.unsent if host in HOST_EXISTS else 0,
        up is not OPEN,
    )


def _state(flow: TcpFlow) -> str:
    guest, host, up, down = flow.lifecycle
    if UNDECIDED in (guest, host):
        return UNDECIDED
    if guest is GONE or (guest is ESTABLISHED and (up, down) != (OPEN, OPEN)):
        return "CLOSING"
    return guest
