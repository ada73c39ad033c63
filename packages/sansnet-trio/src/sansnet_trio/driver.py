"""The pump: one trio task that carries frames, facts and orders between a link, a network and the host's sockets.

Theory of operation. The task waits for one epoll descriptor, which holds the link and every host socket, and then works
in rounds: what is ready is read and told to the network, then its orders are carried out until it gives no more, then
its frames are written. One reading of the clock serves a round. After some rounds, or when nothing is ready, it goes
back to trio.

Between calls this holds: all orders are carried out, and all frames are written or in `_pending`. While frames are
pending the guest has no room: sockets are not read, and beyond `_PAUSE_LINK_ABOVE` the link is not read either, so that
nothing grows without bound and nothing is lost. What still comes then is what timers send, such as retransmissions to a
guest that was stopped; beyond `_DROP_ABOVE` that is dropped, as a full queue of a real network would.

A link may hold frames that its descriptor does not tell of, since one system call read more than a batch. So after a
full batch it is read again in the next round, whatever the descriptor says.

There is no protocol here. The network decides; this file knows descriptors and time.
"""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from select import EPOLLIN, EPOLLOUT
from typing import TYPE_CHECKING, Final, Protocol

import trio

from sansnet_core import Frame, Notice, UsageError
from sansnet_trio.host.network_protocol import NetworkProtocol
from sansnet_trio.host.poller import MAX_EVENTS, Poller
from sansnet_trio.host.socket_context import SocketContext
from sansnet_trio.host.sockets import HostSockets
from sansnet_trio.links import Link, LinkClosed, want
from sansnet_trio.linux.syscalls import interface_index

if TYPE_CHECKING:
    from sansnet_trio.forward.forwards import Forwards

__all__ = ["Driver", "DriverStatistics"]

_log: Final = logging.getLogger("sansnet")

_BATCH: Final = 64
"""Most frames of one read. Whatever does not fit comes with the next round."""

_MAX_ROUNDS: Final = 64
_SLICE: Final = 0.005
"""Rounds, and seconds, before other tasks get their turn. Going through trio's scheduler costs 30 us."""

_PAUSE_LINK_ABOVE: Final = 1024
_DROP_ABOVE: Final = 4 * _PAUSE_LINK_ABOVE

_RESPITE: Final = 0.05
"""Seconds without work after work that failed for lack of memory."""
_NO_MEMORY: Final = (
    "there is too little memory, so frames and what sockets received are dropped; "
    "allow more, as by: ulimit -v unlimited"
)

_SPIN: Final = 50e-6
_MAX_MISSES: Final = 4
_PROBE: Final = 64
"""See `Driver._spin`: seconds, waits in vain, and batches between tries after those."""


@dataclass(frozen=True, slots=True)
class DriverStatistics:
    """What one driver did so far.

    Attributes:
        frames_received: frames from the guest.
        frames_sent: frames to the guest.
        frames_pending: frames that wait for the guest's link to have room.
        frames_dropped: frames that the link refused, or that a guest which takes none was not kept.
        datagrams_dropped: datagrams and echo requests that the host had no room for, or whose like it just refused; and
            datagrams of link-local senders on another link than the guest's.
        sockets: open sockets of the host.
        wakeups: how often trio woke the pump.
    """

    frames_received: int
    frames_sent: int
    frames_pending: int
    frames_dropped: int
    datagrams_dropped: int
    sockets: int
    wakeups: int


class _Timed(Protocol):
    """What waits for time to pass."""

    def next_deadline(self) -> float | None: ...

    def handle_deadline(self, now: float) -> None: ...


class Driver:
    """Runs one network over one link.

    Args:
        network: the `sansnet_core.Network`, or a proxy of one. Only the driver may call it while `run` runs. Its clock
            is `trio.current_time`.
        link: the guest's Ethernet. The driver owns it: `run` closes it.
        interface: the host's interface for link-local addresses that the guest asks for; None if there is none.
        outbound4, outbound6: the only interface of the host's that sockets of this family use, but for those to
            loopback; None leaves it to the kernel.
        on_notices: called with the notices of each wake-up that has some.
        forwards: ports that lead to the guest, to be served while `run` runs; they are the caller's to close.

    Raises:
        OSError: there is no such interface, or no descriptor left.
    """

    def __init__(
        self,
        network: NetworkProtocol,
        link: Link,
        *,
        interface: str | None = None,
        outbound4: str | None = None,
        outbound6: str | None = None,
        on_notices: Callable[[Sequence[Notice]], None] | None = None,
        forwards: Forwards | None = None,
    ) -> None:
        self._network = network
        self._link = link
        self._on_notices = on_notices
        self._poller = Poller()
        devices = {size: name for size, name in ((4, outbound4), (16, outbound6)) if name is not None}
        self._context = SocketContext(
            network, self._poller, 0 if interface is None else interface_index(interface), devices
        )
        self._sockets = HostSockets(self._context)
        self._forwards = forwards
        self._timed: list[_Timed] = [network, self._sockets]
        if forwards is not None:
            self._timed.append(forwards)
        self._pending: list[Frame] = []
        self._link_wanted = (True, False)
        """Frames from it, and room in it."""
        self._link_interest = EPOLLIN
        self._link_holds = False
        """It may have more frames, whether its descriptor is readable or not."""
        self._misses = 0
        self._started = False
        self._timer = trio.CancelScope()
        """Ends the wait when the next deadline comes."""
        self._starved = False
        self._frames_received = self._frames_done = self._frames_dropped = self._wakeups = 0

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run until cancelled. Every descriptor is closed when this ends, however it ends; the link's too.

        TCP connections that the guest has not ended by then are reset.

        Args:
            task_status: for `nursery.start`, which returns when frames and sockets are served.

        Raises:
            LinkClosed: the guest's end is gone. That is how a run ends which nobody cancels.
            UsageError: it ran before.
            OSError: the link failed in a way that it does not know.
        """
        if self._started:
            raise UsageError("a driver runs once")
        self._started = True
        with ExitStack() as stack:
            stack.callback(self._link.close)
            stack.callback(self._poller.close)
            stack.callback(self._sockets.close)
            self._poller.add(self._link.fileno(), self._link_interest, self._link_ready)
            if self._forwards is not None:
                stack.callback(self._forwards.leave)
                self._forwards.serve(self._context, self._sockets, trio.current_time)
            now = trio.current_time()
            self._network.guest_attached(now)
            self._flush(now)
            task_status.started()
            await self._pump()

    def tell(self, fact: Callable[[float], None]) -> None:
        """Tell the network something that no socket and no frame says, and carry out what comes of it.

        Args:
            fact: called with the time; it calls the network.
        """
        now = trio.current_time()
        fact(now)
        with suppress(LinkClosed):  # `run` meets that, too, and ends by it
            self._flush(now)
        self._timer.deadline = self._next_deadline()

    def use_interface(self, interface: str | None) -> None:
        """Let link-local addresses that the guest asks for be on another interface of the host's from now on."""
        with suppress(OSError):  # it has gone, too
            self._context.scope = 0 if interface is None else interface_index(interface)

    def statistics(self) -> DriverStatistics:
        """What it did so far; also after `run` ended."""
        refused = self._link.dropped
        return DriverStatistics(
            frames_received=self._frames_received,
            frames_sent=self._frames_done - refused,
            frames_pending=len(self._pending),
            frames_dropped=refused + self._frames_dropped,
            datagrams_dropped=self._context.datagrams_dropped,
            sockets=len(self._sockets),
            wakeups=self._wakeups,
        )

    async def _pump(self) -> None:
        fd = self._poller.fileno()
        while True:
            deadline = self._next_deadline()
            with trio.CancelScope(deadline=deadline) as self._timer:
                while True:
                    if self._must_read():
                        await trio.lowlevel.checkpoint()
                    else:
                        await trio.lowlevel.wait_readable(fd)
                    self._wakeups += 1
                    await self._try_to_work()
                    if deadline != (deadline := self._next_deadline()):
                        self._timer.deadline = deadline
            await self._try_to_work()  # the deadline has passed

    async def _try_to_work(self) -> None:
        """Work; where there is no memory for it, what was being worked on is lost."""
        try:
            self._work()
        except MemoryError:
            self._frames_dropped += 1
            if not self._starved:
                self._starved = True
                _log.warning(_NO_MEMORY)
            await trio.sleep(_RESPITE)

    def _work(self) -> None:
        """Do what there is to do, for a bounded time."""
        poll, handlers, clock = self._poller.poll, self._poller.handlers, trio.current_time
        began = now = clock()
        events = poll(0, MAX_EVENTS)
        for _ in range(_MAX_ROUNDS):
            if self._must_read():
                self._read_link(now)
            for fd, flags in events:
                handlers[fd](flags, now)
            self._poller.settle()
            if self._next_deadline() <= now:
                for timed in self._timed:
                    timed.handle_deadline(now)
                self._poller.settle()
                now = clock()  # forwards tell the network of listeners at the time that it is then
            self._flush(now)
            events = poll(0, MAX_EVENTS) or ([] if self._must_read() else self._spin())
            now = clock()
            if not (events or self._must_read()) or now - began > _SLICE:
                break
        if self._on_notices is None:
            self._network.take_notices()
        elif notices := self._network.take_notices():
            self._on_notices(notices)

    def _next_deadline(self) -> float:
        soonest = math.inf
        for source in self._timed:
            deadline = source.next_deadline()
            if deadline is not None and deadline < soonest:
                soonest = deadline
        return soonest

    def _spin(self) -> list[tuple[int, int]]:
        """Wait a moment for the answer to what was just sent, where answers do come at once.

        Going to sleep and being woken costs 30 us of processor time, and 40 us of delay. Medians with a guest in a
        namespace, on two busy processors, without and with this: a byte to and fro over TCP 82 to 109 and 61 to 79 us;
        connect, a byte to and fro, close 529 to 784 and 406 to 503 us. Others that want the processor get it, and after
        some waits in vain it is tried only now and then.
        """
        if self._misses > _MAX_MISSES and self._misses % _PROBE:
            self._misses += 1
            return []
        poll, clock = self._poller.poll, time.perf_counter
        end = clock() + _SPIN
        while clock() < end:
            if events := poll(0, MAX_EVENTS):
                self._misses = 0
                return events
            os.sched_yield()
        self._misses += 1
        return []

    def _flush(self, now: float) -> None:
        """Carry out orders until there are none, then write frames."""
        network = self._network
        while orders := network.take_orders():
            self._sockets.apply(orders, now)
        if frames := network.take_frames():
            if len(self._pending) > _DROP_ABOVE:
                self._frames_dropped += len(frames)
            elif self._pending:
                self._pending += frames
            else:
                self._write(frames)
            self._update_link()

    def _write(self, frames: list[Frame]) -> None:
        done = self._link.write_frames(frames)
        self._frames_done += done
        self._pending = frames[done:]

    def _link_ready(self, flags: int, now: float) -> None:
        # A link that does not report room is asked for it whatever it reports
        if self._pending and (flags & EPOLLOUT or not self._link_interest & EPOLLOUT):
            self._write(self._pending)
            self._update_link()
        if flags & ~(EPOLLIN | EPOLLOUT) or (flags & EPOLLIN and self._link_wanted[0]):
            self._read_link(now)

    def _must_read(self) -> bool:
        return self._link_holds and self._link_wanted[0]

    def _read_link(self, now: float) -> None:
        frames = self._link.read_frames(_BATCH)
        self._link_holds = len(frames) == _BATCH
        if frames:
            self._frames_received += len(frames)
            self._network.receive_frames(frames, now)

    def _update_link(self) -> None:
        """Wait for the link, and let the sockets wait, as the pending frames demand."""
        pending = len(self._pending)
        wanted = (pending <= _PAUSE_LINK_ABOVE, pending > 0)
        if wanted == self._link_wanted:
            return
        self._link_wanted = wanted
        self._link_interest = want(self._link, frames=wanted[0], room=wanted[1])
        self._poller.change(self._link.fileno(), self._link_interest)
        self._context.blocked = pending > 0
        if not pending:
            self._sockets.unpark()
