"""Counters of a network at one moment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from sansnet_core.context import Context
from sansnet_core.dropped import Dropped, latest
from sansnet_core.errors import Reason

__all__ = ["NetworkStatistics", "collect"]


class _Tcp(Protocol):
    @property
    def held(self) -> int: ...

    @property
    def lost(self) -> int: ...


@dataclass(frozen=True, slots=True)
class NetworkStatistics:
    """Counters at one moment.

    Attributes:
        frames_received, frames_sent: numbers of frames from and to the guest.
        flows: name of a counter -> current number of flows or sockets of a protocol.
        drops: reason -> how often it occurred; only reasons that did.
        tcp_held: payload bytes held for all TCP connections, in either direction.
        ignored: frames that are part of a protocol and need no answer; not counted as drops.
        last_drops: reason -> endpoints of the latest packets dropped, the latest one last, without duplicates.
        refusals_unreported: refused flows and questions for names without a notice, because there were too many.
        tcp_lost: payload bytes that were acknowledged to the guest and that the host will never take: its socket
            failed, or the connection was closed here, by new rules or a limit.
    """

    frames_received: int
    frames_sent: int
    flows: Mapping[str, int]
    drops: Mapping[Reason, int]
    tcp_held: int
    ignored: int
    last_drops: Mapping[Reason, tuple[Dropped, ...]]
    refusals_unreported: int = 0
    tcp_lost: int = 0

    @property
    def totals(self) -> str:
        """One line for people."""
        drops = sum(self.drops.values())
        return f"{self.frames_received} frames received, {self.frames_sent} sent, {drops} drops"

    def __str__(self) -> str:
        lines = [
            f"frames: {self.frames_received} from the guest, {self.frames_sent} to the guest, {self.ignored} ignored",
            *(f"{name.replace('_', ' ')}: {count}" for name, count in self.flows.items()),
            f"tcp bytes held: {self.tcp_held}",
            f"tcp bytes lost: {self.tcp_lost}",
        ]
        for reason, count in sorted(self.drops.items(), key=lambda item: -item[1]):
            last = ", ".join(map(str, self.last_drops.get(reason, ())))
            lines.append(f"dropped: {count}: {reason.value}{last and f'; last: {last}'}")
        return "\n".join(lines)


def collect(context: Context, received: int, sent: int, flows: Mapping[str, int], tcp: _Tcp) -> NetworkStatistics:
    """The counters of a network; the last four arguments are those that its context does not have."""
    return NetworkStatistics(
        frames_received=received,
        frames_sent=sent,
        flows=flows,
        drops=dict(context.drops),
        tcp_held=tcp.held,
        ignored=context.ignored,
        last_drops={reason: latest(kept) for reason, kept in context.last_drops.items()},
        refusals_unreported=context.refusals_unreported,
        tcp_lost=tcp.lost,
    )
