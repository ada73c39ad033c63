"""The driver: one trio task that carries frames, facts and orders between a link, a network and the host's sockets.

Theory of operation. The task waits for one epoll descriptor, which covers the link and every host socket. Then it works
in rounds. Each round reads the clock once, reports what is ready to the network, carries out the network's orders until
there are none, and writes its frames. After some rounds, or when nothing is ready, it returns to trio.

Invariant between calls: all orders are carried out, and all frames are written or in `_pending`. While frames are
pending the link has no room for more, so sockets are not read. Above `_PAUSE_LINK_ABOVE` the link is not read either.
So memory is bounded and nothing is lost. Only timers still produce frames then, such as retransmissions to a guest that
was stopped. Above `_DROP_ABOVE` these are dropped, as by a full queue of a real network.

A link may hold frames although its descriptor is not readable, because one system call read more than a batch. So after
a full batch the link is read again in the next round.

No protocol is implemented here: the network decides, and the driver handles descriptors and time.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, ExitStack, suppress
from functools import partial
from select import EPOLLIN, EPOLLOUT
from typing import TYPE_CHECKING, Any, Final, Protocol

import trio

from sansnet_core import Frame, Notice, SocketId, UsageError, Verdict
from sansnet_trio.driver_statistics import DriverStatistics
from sansnet_trio.events import EventPublisher, Subscription
from sansnet_trio.host.busy_wait import BusyWait
from sansnet_trio.host.network_protocol import NetworkProtocol, TrafficProtocol, expect_network
from sansnet_trio.host.poller import MAX_EVENTS, Poller
from sansnet_trio.host.socket_context import READ_AT_ONCE, SocketContext
from sansnet_trio.host.sockets import HostSockets
from sansnet_trio.links import Link, LinkClosed, expect_link, want
from sansnet_trio.linux.allocator import keep_freed_memory
from sansnet_trio.linux.descriptors import Uncopyable
from sansnet_trio.linux.syscalls import interface_index
from sansnet_trio.shortage import MemoryShortage

if TYPE_CHECKING:
    from sansnet_core.impairment import Impairment
    from sansnet_trio.cables import Cables
    from sansnet_trio.decisions import Decider
    from sansnet_trio.forward.forwards import Forwards
    from sansnet_trio.services.carrier import NetworkView
    from sansnet_trio.services.host import Host
    from sansnet_trio.services.program_sockets import ProgramSockets
    from sansnet_trio.services.services import Services

__all__ = ["Driver"]

_log: Final = logging.getLogger("sansnet")

_BATCH: Final = 64
"""Most frames of one read. The others follow in the next round."""

_MAX_ROUNDS: Final = 64
"""Most rounds before other tasks run. A pass through trio's scheduler costs 30 us."""
_SLICE: Final = 0.005
"""Seconds after which no further round begins before other tasks run."""

_DEADLINES_EVERY: Final = 0.0002
"""Seconds between two looks at the deadlines in one slice: as many calls as there are parts with deadlines."""

_PAUSE_LINK_ABOVE: Final = 1024
"""Pending frames above which the link is not read."""
_DROP_ABOVE: Final = 4 * _PAUSE_LINK_ABOVE
"""Pending frames above which new frames are dropped."""

_MEMORY_PAUSE: Final = 0.05
"""Seconds to wait after memory ran out."""


class _Timed(Protocol):
    """A part with a deadline."""

    def next_deadline(self) -> float | None: ...

    def handle_deadline(self, now: float) -> None: ...


class Driver(Uncopyable):
    """Runs one network over one link.

    Args:
        network: the `sansnet_core.Network`, or a proxy of one. While `run` runs only the driver may call it. Its clock
            is `trio.current_time`.
        link: the guest's link. The driver owns it: `run` closes it.
        interface: the host's interface for link-local addresses that the guest uses; None if there is none.
        outbound4, outbound6: the interface that sockets of this family must use, except for loopback addresses; None
            leaves the choice to the kernel.
        on_notices: called in the driver's task with the notices of each wake-up that produced some; the network makes
            notices for it, whatever its configuration says. An exception that it raises ends the driver and leaves
            `run`.
        forwards: the forwarded ports to serve while `run` runs. The caller closes them.
        services: the services of the program to offer the guest while `run` runs.
        decide: an async function that decides about new flows for which a rule or the default action of the
            configuration is `ASK`; see `sansnet_trio.decisions`. Without it, such flows are refused. An exception that
            it raises ends the driver and leaves `run`.
        host: makes the sockets that carry out the network's orders; None for real ones. See
            `sansnet_trio.testing.SimulatedHost`.
        traffic: the network's object for the most frequent calls, which does not check arguments; None calls the
            network itself. See `sansnet_core.recording.RecordedNetwork.traffic`.

    Attributes:
        decisions: the questions to its `decide` function; None if it has none.
        forwards: the forwarded ports that it serves; None if it has none.

    Raises:
        OSError: there is no such interface, or no descriptor is left.
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
        services: Services | None = None,
        decide: Decider | None = None,
        host: Host | None = None,
        traffic: TrafficProtocol | None = None,
    ) -> None:
        expect_network(network)
        expect_link(link)
        self._network, self._link = network, link
        self._events = EventPublisher(network.report_notices, on_notices)
        self.decisions = None
        if decide is not None:
            from sansnet_trio.decisions import Decisions

            self.decisions = Decisions(decide, self._decide_flow, lambda: self.program)
        self._poller = Poller()
        self._busy_wait = BusyWait(self._poller)
        devices = {size: name for size, name in ((4, outbound4), (16, outbound6)) if name is not None}
        self._context = SocketContext(
            network, self._poller, 0 if interface is None else interface_index(interface), devices, traffic
        )
        self._traffic = self._context.traffic
        self._sockets = (
            HostSockets(self._context, self.decisions)
            if host is None
            else host.make_sockets(self._context, self.decisions, lambda: self.program)
        )
        self.forwards = forwards
        self._services = services
        self._program: ProgramSockets | None = None
        self.view: NetworkView | None = None
        """The network for programs, which their streams refer to."""
        self._shortage = MemoryShortage(lambda: self._update_link(self._clock()), self._sockets.shed)
        self._timed: list[_Timed] = [self._traffic, self._sockets, self._shortage]
        if on_notices is not None:
            self._timed.append(self._events)
        if forwards is not None:
            self._timed.append(forwards)
        self.cables: Cables | None = None
        """The impairments between link and network, if there ever were any."""
        self._pending: list[Frame] = []
        self._link_wanted = (True, False)
        """Whether the driver waits for frames from the link, and for room in it."""
        self._link_interest = EPOLLIN
        self._link_holds = False
        """The link may have more frames, even if its descriptor is not readable."""
        self._events_lost = False
        """Memory ran out while events were handled."""
        self._started = self._running = False
        self._working = False
        """The orders that a fact leads to will be carried out; see `tell`."""
        self._now = -math.inf
        """The time of all facts until then: the network's time must not go back."""
        self._timer = trio.CancelScope()
        """Ends the wait at the next deadline."""
        self._failure: OSError | None = None
        """The failure of the link that another task met, for `run` to raise."""
        self._frames_received = self._frames_done = self._frames_dropped = self._wakeups = 0

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run until cancelled. At the end all descriptors are closed, including the link's.

        TCP connections that the guest has not ended by then are reset.

        Args:
            task_status: passed by `nursery.start`, which returns when frames and sockets are served.

        Raises:
            LinkClosed: the guest's end of the link is gone. A run that is not cancelled ends in this way.
            UsageError: `run` was called before.
            OSError: the link failed for an unknown reason.
        """
        if self._started:
            raise UsageError("a driver runs once")
        self._started = True
        keep_freed_memory()
        with ExitStack() as stack:
            stack.callback(self._shortage.close)
            stack.callback(self._events.close)
            stack.callback(self._link.close)
            stack.callback(self._poller.close)
            stack.callback(self._end_program)
            stack.callback(self._sockets.close)
            stack.callback(self._set_running, False)
            self._set_running(True)
            self._poller.add(self._link.fileno(), self._link_interest, self._link_ready)
            if self._services is not None:
                self._services.driver_started(self.program)
            stack.callback(self._leave_forwards)
            if self.forwards is not None:
                self.forwards.serve(self._context, self._sockets, self._clock)
            serve = partial(self._serve, task_status)
            try:
                await (serve() if self.decisions is None else self.decisions.run(serve))
            except Exception as error:
                if self.view is not None:
                    self.view.end(error)  # it cancels its tasks before their streams break
                raise

    async def _serve(self, task_status: trio.TaskStatus[None]) -> None:
        self._now = now = trio.current_time()
        self._network.guest_attached(now)
        self._flush(now)
        task_status.started()
        await self._pump()

    def serve_forwards(self, forwards: Forwards) -> None:
        """Serve forwarded ports from now on, by a running driver that has none; the caller closes them.

        Raises:
            UsageError: the driver does not run, or has forwarded ports.
            OSError: no descriptor is left.
        """
        if not self._running or self.forwards is not None:
            raise UsageError("only a running driver without forwarded ports can get some")
        forwards.serve(self._context, self._sockets, self._clock)
        self.forwards = forwards
        self._timed.append(forwards)

    def _leave_forwards(self) -> None:
        if self.forwards is not None:
            self.forwards.leave()

    def tell(self, fact: Callable[[float], None]) -> None:
        """Tell the network a fact that does not come from the link or a socket, and carry out the resulting orders.

        Any task of trio may call it. While orders are being carried out, those of this fact follow.

        Args:
            fact: called with the time in seconds; it calls a method of the network with that time.
        """
        if self._working:
            fact(self._now)
            return
        self._now = now = trio.current_time()
        self._working = True
        try:
            fact(now)
        finally:
            self._working = False
        try:
            with suppress(LinkClosed):  # `run` will raise it too
                self._flush(now)
        except OSError as error:  # no failure of the task that tells the fact
            self._failure, self._timer.deadline = error, -math.inf
        self._events.publish(self._traffic.take_notices(), now)
        deadline = -math.inf if self._has_more() else self._next_deadline()
        if deadline < self._timer.deadline:
            self._timer.deadline = deadline

    def _clock(self) -> float:
        """The time for a fact that does not come with one."""
        return self._now if self._working else trio.current_time()

    @property
    def program(self) -> ProgramSockets:
        """The services and connections of the program; for this package alone."""
        if self._program is None:
            from sansnet_trio.services.program_sockets import ProgramSockets

            self._program = ProgramSockets(self._context, self._sockets, self.tell)
            self._program.carrier.running = self._running
            self._program.carrier.view = self.view
            self._timed.append(self._program)
        return self._program

    def _set_running(self, running: bool) -> None:
        self._running = running
        if self._program is not None:
            self._program.carrier.running = running

    def _end_program(self) -> None:
        if self._program is not None:
            if self._services is not None:
                self._services.driver_ended(self._program)
            self._program.end()

    def impair(self, *, up: Impairment | None = None, down: Impairment | None = None, seed: Any = None) -> None:
        """Have other impairments between link and network from now on; see `GuestNetwork.impair`."""
        # `Any` where others check the arguments of users, since this class is compiled
        if self.cables is None:
            from sansnet_trio.cables import Cables

            self.cables = Cables(
                vnet_header=self._link.config.vnet_header,
                seed=seed,
                receive=self._traffic.receive_frames,
                send=self._send,
            )
            self._timed.append(self.cables)
        self.cables.become(up, down)
        if (deadline := self._next_deadline()) < self._timer.deadline:  # frames may arrive sooner now
            self._timer.deadline = deadline

    def _decide_flow(self, socket: SocketId, verdict: Verdict) -> None:
        self.tell(lambda now: self._network.flow_decided(socket, verdict, now))

    def subscribe(self, buffer: Any = 1000) -> AbstractAsyncContextManager[Subscription]:
        """The events of the network, for one subscriber and as long as the block runs; see `GuestNetwork.subscribe`."""
        return self._events.subscribe(buffer)

    def publish(self, notice: Notice) -> None:
        """Give the subscribers a notice that the program made, as if the network had made it."""
        if self._running:
            self.tell(lambda now: self._events.publish([notice], now))

    def use_interface(self, interface: str | None) -> None:
        """Use another interface of the host for the link-local addresses that the guest uses; see `Driver`."""
        with suppress(OSError):  # this interface is gone too
            self._context.scope = 0 if interface is None else interface_index(interface)

    def statistics(self) -> DriverStatistics:
        """The current counters; also available after `run` has ended."""
        refused = self._link.dropped
        return DriverStatistics(
            frames_received=self._frames_received,
            frames_sent=self._frames_done - refused,
            frames_pending=len(self._pending),
            frames_dropped=refused + self._frames_dropped,
            datagrams_dropped=self._context.datagrams_dropped,
            sockets=len(self._sockets),
            wakeups=self._wakeups,
            impaired_up=None if self.cables is None else self.cables.up.statistics(),
            impaired_down=None if self.cables is None else self.cables.down.statistics(),
        )

    async def _pump(self) -> None:
        fd = self._poller.fileno()
        while True:
            with trio.CancelScope(deadline=self._next_deadline()) as self._timer:
                while True:
                    if self._has_more():
                        await trio.lowlevel.checkpoint()
                    else:
                        await trio.lowlevel.wait_readable(fd)
                    self._wakeups += 1
                    await self._try_to_work()
                    deadline = self._next_deadline()
                    if deadline != self._timer.deadline:
                        self._timer.deadline = deadline
            await self._try_to_work()  # the deadline has passed

    async def _try_to_work(self) -> None:
        """Work. If there is too little memory for that, the current frames or data are lost."""
        try:
            self._working = True
            try:
                self._work()
            finally:
                self._working = False
            if notices := self._traffic.take_notices():
                self._events.publish(notices, self._now)
            self._events.deliver()
        except MemoryError:
            self._frames_dropped += 1
            self._events_lost = True
            self._shortage.failed(trio.current_time())
            await trio.sleep(_MEMORY_PAUSE)

    def _work(self) -> None:
        """Work in rounds, for a bounded time."""
        if self._failure is not None:
            raise self._failure
        poll, handle, clock = self._poller.poll, self._poller.handle, trio.lowlevel.current_clock().current_time
        context = self._context
        began = look_at = self._now = now = clock()
        context.woken = False
        if self._events_lost:
            self._sockets.report_again()
            self._events_lost = False
        events = poll(0, MAX_EVENTS)
        rounds = 0
        while True:
            if self._link_holds and self._link_wanted[0]:
                self._read_link(now)
            if events:
                handle(events, now)
            if context.unread:
                self._sockets.read_unread(now)
            else:
                context.allowance = READ_AT_ONCE
            if now >= look_at:
                look_at = now + _DEADLINES_EVERY
                if self._next_deadline() <= now:
                    for timed in self._timed:
                        timed.handle_deadline(now)
            self._flush(now)
            rounds += 1
            if rounds == _MAX_ROUNDS or now - began > _SLICE:
                break  # not after taking events, because those of streams are reported only once
            events = poll(0, MAX_EVENTS) or ([] if self._has_more() or context.woken else self._busy_wait.wait())
            self._now = now = clock()
            if not (events or self._has_more()):
                break

    def _next_deadline(self) -> float:
        soonest = math.inf
        for source in self._timed:
            deadline = source.next_deadline()
            if deadline is not None and deadline < soonest:
                soonest = deadline
        return soonest

    def _flush(self, now: float) -> None:
        """Carry out orders until there are none, then write frames."""
        traffic = self._traffic
        working, self._working = self._working, True
        try:
            while orders := traffic.take_orders():
                self._sockets.apply(orders, now)
        finally:
            self._working = working
        if frames := traffic.take_frames():
            self._send(frames if self.cables is None else self.cables.to_guest(frames, now), now)

    def _send(self, frames: Sequence[Frame], now: float) -> None:
        """Write frames, or let them wait."""
        if len(self._pending) > _DROP_ABOVE:
            self._frames_dropped += len(frames)
        elif self._pending:
            self._pending += frames
        elif frames:
            self._write(frames)
            if not self._pending and self.cables is None:
                return  # nothing has changed that the driver waits for
        self._update_link(now)

    def _write(self, frames: Sequence[Frame]) -> None:
        done = self._link.write_frames(frames)
        self._frames_done += done
        self._pending = list(frames[done:])

    def _link_ready(self, flags: int, now: float) -> None:
        # A link that does not report room (`ReadableLink`) is tried after any event
        if self._pending and (flags & EPOLLOUT or not self._link_interest & EPOLLOUT):
            self._write(self._pending)
            self._update_link(now)
        if flags & ~(EPOLLIN | EPOLLOUT) or (flags & EPOLLIN and self._link_wanted[0]):
            self._read_link(now)

    def _has_more(self) -> bool:
        """Whether there is something to do that no event will report."""
        if self._link_holds and self._link_wanted[0]:
            return True
        return len(self._context.unread) > 0 and not self._context.blocked

    def _read_link(self, now: float) -> None:
        short = self._shortage.is_on
        limit = self._shortage.limit(_BATCH) if short else _BATCH
        frames = self._link.read_frames(limit)
        count = len(frames)
        self._link_holds = count == limit
        if count:
            self._frames_received += count
            if short:
                frames = self._shortage.taken(frames)
                self._frames_dropped += count - len(frames)
            if self.cables is not None:
                frames = self.cables.from_guest(frames, now)
            self._traffic.receive_frames(frames, now)

    def _update_link(self, now: float) -> None:
        """Set from the number of pending frames for which events the driver waits, and whether sockets are read."""
        pending = len(self._pending)
        wanted = (pending <= _PAUSE_LINK_ABOVE, pending > 0)
        if wanted != self._link_wanted:
            self._link_wanted = wanted
            self._link_interest = want(self._link, frames=wanted[0], room=wanted[1])
            self._poller.change(self._link.fileno(), self._link_interest)
        blocked = pending > 0 or self._shortage.is_on or (self.cables is not None and self.cables.is_full(now))
        if blocked != self._context.blocked:
            self._context.blocked = blocked
            if not blocked:
                self._sockets.unpark()
