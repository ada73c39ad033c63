"""A fake network: it records the facts that it gets, and returns the outputs that a test has set."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, Self

from sansnet_core import Buffer, Endpoint, ExtendedError, Frame, Notice, Order, Prefix, ResumeStream, SocketId, Verdict
from sansnet_trio.host.poller import MAX_EVENTS, Poller
from sansnet_trio.host.socket_context import SocketContext
from sansnet_trio.host.sockets import HostSockets

Fact = tuple[Any, ...]


class FakeNetwork:
    """Facts are tuples: the method's name, then its arguments without the time."""

    def __init__(self) -> None:
        self.facts: list[Fact] = []
        self.orders: list[Order] = []
        self.frames: list[Frame] = []
        self.notices: list[Notice] = []
        self.received: list[bytes] = []
        self.deadline: float | None = None
        self.budget = 1 << 20
        self.unaccepted: set[SocketId] = set()  # accepted streams that the guest has not: they have no budget
        self.attached = 0
        self.accepts = True
        self.last = 100  # the last name given to a socket
        self.wanted = False  # whether notices are made
        self.on_frames: Callable[[list[bytes]], None] = self.received.extend

    def guest_attached(self, now: float) -> None:
        self.attached += 1

    def receive_frames(self, frames: Iterable[Buffer], now: float) -> None:
        self.on_frames([bytes(frame) for frame in frames])

    def stream_connected(self, socket: SocketId, now: float) -> None:
        self.facts.append(("stream_connected", socket))

    def stream_received(self, socket: SocketId, data: bytes, now: float) -> None:
        self.facts.append(("stream_received", socket, data))

    def stream_sent(self, socket: SocketId, count: int, now: float) -> None:
        self.facts.append(("stream_sent", socket, count))

    def stream_ended(self, socket: SocketId, now: float) -> None:
        self.facts.append(("stream_ended", socket))

    def stream_failed(self, socket: SocketId, errno: int, error: ExtendedError | None, now: float) -> None:
        self.facts.append(("stream_failed", socket, errno, error))

    def stream_accepted(
        self, remote: Endpoint, guest_address: bytes | None, guest_port: int, now: float
    ) -> SocketId | None:
        self.facts.append(("stream_accepted", remote, guest_address, guest_port))
        if not self.accepts:
            return None
        name = self._named()
        self.unaccepted.add(name)
        return name

    def forward_added(
        self, guest_address: bytes | None, guest_port: int, now: float, outgoing: Collection[int] = ()
    ) -> SocketId:
        self.facts.append(("forward_added", guest_address, guest_port, outgoing))
        return self._named()

    def forward_removed(self, socket: SocketId, now: float) -> None:
        self.facts.append(("forward_removed", socket))

    def _named(self) -> SocketId:
        self.last += 1
        return SocketId(self.last)

    def datagram_received(
        self,
        socket: SocketId,
        source: Endpoint,
        data: bytes,
        segment_size: int,
        ttl: int,
        tos: int,
        now: float,
        local: bytes | None = None,
    ) -> None:
        fact = "datagram_received", socket, source, data, segment_size, ttl, tos
        self.facts.append(fact if local is None else (*fact, local))

    def datagram_failed(
        self, socket: SocketId, remote: Endpoint, error: ExtendedError, data: bytes, now: float
    ) -> None:
        self.facts.append(("datagram_failed", socket, remote, error, data))

    def echo_received(
        self, socket: SocketId, source: bytes, sequence: int, data: bytes, ttl: int, tos: int, now: float
    ) -> None:
        self.facts.append(("echo_received", socket, source, sequence, data, ttl, tos))

    def echo_failed(self, socket: SocketId, sequence: int, error: ExtendedError, data: bytes, now: float) -> None:
        self.facts.append(("echo_failed", socket, sequence, error, data))

    def service_added(self, protocol: int, prefix: Prefix | None, port: int | None, now: float) -> SocketId:
        self.facts.append(("service_added", protocol, prefix, port))
        return self._named()

    def service_removed(self, socket: SocketId, now: float) -> None:
        self.facts.append(("service_removed", socket))

    def service_sent(self, socket: SocketId, guest: Endpoint, source: Endpoint, data: bytes, now: float) -> None:
        self.facts.append(("service_sent", socket, guest, source, data))

    def stream_opened(
        self, source: Endpoint | None, guest_address: bytes | None, guest_port: int, now: float
    ) -> SocketId | int:
        self.facts.append(("stream_opened", source, guest_address, guest_port))
        return self._named()

    def stream_endpoints(self, socket: SocketId) -> tuple[Endpoint, Endpoint] | None:
        return (Endpoint("10.0.2.15", 1), Endpoint("10.0.2.2", 2))

    def stream_unacknowledged(self, socket: SocketId) -> int:
        return 0

    def program_addresses(self, source: bytes | None, guest_address: bytes | None) -> tuple[bytes, bytes] | int:
        return (source or bytes((10, 0, 2, 2)), guest_address or bytes((10, 0, 2, 15)))

    def flow_decided(self, socket: SocketId, verdict: Verdict, now: float) -> None:
        self.facts.append(("flow_decided", socket, verdict))

    def report_notices(self, wanted: bool) -> None:
        self.wanted = wanted

    def next_deadline(self) -> float | None:
        return self.deadline

    def handle_deadline(self, now: float) -> None:
        self.facts.append(("handle_deadline",))
        self.deadline = None

    def take_frames(self) -> list[Frame]:
        frames, self.frames = self.frames, []
        return frames

    def take_orders(self) -> list[Order]:
        orders, self.orders = self.orders, []
        return orders

    def take_notices(self) -> Sequence[Notice]:
        notices, self.notices = self.notices, []
        return notices

    def receive_budget(self, socket: SocketId) -> int:
        return 0 if socket in self.unaccepted else self.budget

    def named(self, name: str) -> list[Fact]:
        """The facts of one kind."""
        return [fact for fact in self.facts if fact[0] == name]

    def data(self) -> bytes:
        """The data that all streams received."""
        return b"".join(fact[2] for fact in self.named("stream_received"))


class ReplaceablePoller(Poller):
    """An epoll set with methods that a test can replace, also if it is compiled."""


class Bench:
    """Host sockets with a fake network, without trio."""

    def __init__(self, scope: int = 0) -> None:
        self.network = FakeNetwork()
        self.poller = ReplaceablePoller()
        self.context = SocketContext(self.network, self.poller, scope)
        self.sockets = HostSockets(self.context)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.sockets.close()
        self.poller.close()

    def order(self, *orders: Order) -> None:
        """Carry out orders, at time 0."""
        self.network.unaccepted -= {order.socket for order in orders if isinstance(order, ResumeStream)}
        self.sockets.apply(orders, 0.0)

    def round(self, timeout: float = 0.05) -> int:
        """Handle the events that are ready, at time 0; how many there were."""
        events = self.poller.poll(timeout, MAX_EVENTS)
        self.poller.handle(events, 0.0)
        waiting = 0 if self.context.blocked else len(self.context.unread)
        self.sockets.read_unread(0.0)
        return len(events) + waiting

    def until(self, *names: str, seconds: float = 5.0) -> None:
        """Handle events until there is a fact of each of these kinds."""
        self.wait(lambda: all(self.network.named(name) for name in names), seconds)

    def wait(self, condition: Callable[[], bool], seconds: float = 5.0) -> None:
        """Handle events until a condition holds."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, self.network.facts[-5:]
            self.round()

    def quiet(self) -> None:
        """Handle the remaining events, and check that no event repeats without end."""
        while self.round(0.02):
            assert self.spins() < 20

    def spins(self) -> int:
        """How many events come in 20 rounds without anything new."""
        return sum(self.round(0.001) for _ in range(20))
