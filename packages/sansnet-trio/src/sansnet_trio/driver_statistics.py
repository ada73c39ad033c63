"""The counters of a driver."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sansnet_core.impairment import NetemStatistics

__all__ = ["DriverStatistics"]


@dataclass(frozen=True, slots=True)
class DriverStatistics:
    """Counters of one driver.

    Attributes:
        frames_received: frames from the guest.
        frames_sent: frames to the guest.
        frames_pending: frames that wait until the guest's link has room.
        frames_dropped: frames that the link dropped, or that were dropped because too many were pending or there was
            too little memory.
        datagrams_dropped: datagrams and echo requests that the host had no room for, or that were similar to one that
            it had just refused; and datagrams from link-local senders on another link than the guest's.
        sockets: open sockets of the host.
        wakeups: how often trio woke the driver.
        impaired_up, impaired_down: counters of the impairments of frames from the guest and to it; None if there never
            were any.
    """

    frames_received: int
    frames_sent: int
    frames_pending: int
    frames_dropped: int
    datagrams_dropped: int
    sockets: int
    wakeups: int
    impaired_up: NetemStatistics | None = None
    impaired_down: NetemStatistics | None = None

    def __str__(self) -> str:
        return (
            f"frames: {self.frames_received} from the guest, {self.frames_sent} to the guest, "
            f"{self.frames_pending} pending, {self.frames_dropped} dropped\n"
            f"datagrams dropped: {self.datagrams_dropped}\n"
            f"sockets: {self.sockets}\n"
            f"wakeups: {self.wakeups}"
        )
