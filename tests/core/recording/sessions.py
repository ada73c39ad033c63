"""Sessions of a guest with several flows, on a network that records."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from errno import ECONNRESET
from typing import Any, Final

from sansnet_core import (
    Action,
    Allow,
    CloseSocket,
    Endpoint,
    ExtendedError,
    NetworkConfig,
    Order,
)
from sansnet_core.recording import Failure, RecordedNetwork
from sansnet_core.recording.traffic import Traffic
from sansnet_core.records import replace
from sansnet_core.testing import (
    OUTSIDER,
    SERVER,
    GuestConnection,
    GuestTcpOptions,
    HostScript,
    HostStream,
    Pair,
    ScriptedHost,
    make_config,
)
from sansnet_core.testing.packets import echo_request, fragments, udp

__all__ = [
    "DATA",
    "SESSIONS",
    "SETUPS",
    "TRAFFIC",
    "DrivenNetwork",
    "ForgivingHost",
    "Session",
    "begun",
    "decided",
    "plain",
]

DATA: Final = bytes(range(256)) * 24
TRAFFIC: Final = frozenset(name for name in vars(Traffic) if not name.startswith("_"))
"""Its methods."""


class ForgivingHost(ScriptedHost):
    """A host as drivers are: what closes a socket that is not open is ignored, which follows a mistake of the core."""

    def obey(self, orders: Iterable[Order], now: float) -> None:
        super().obey([order for order in orders if not self._in_vain(order)], now)

    def _in_vain(self, order: Order) -> bool:
        if not isinstance(order, CloseSocket) or order.socket in self.questions:
            return False
        return order.socket in self.closed or not self._known(order.socket)


class DrivenNetwork(RecordedNetwork):
    """A network whose most frequent calls go to its `Traffic`, as those of a driver do."""

    def __getattribute__(self, name: str) -> Any:
        if name in TRAFFIC:
            return getattr(self.traffic(), name)
        return super().__getattribute__(name)


class Session(Pair):
    """A pair whose network records, and that notes failures.

    Attributes:
        failures: what the network told.
        recording: all that it wrote.
        connections: those of the guest.
        make_network: the class of the network.
    """

    make_network: type[RecordedNetwork] = RecordedNetwork

    def __init__(self, config: NetworkConfig, script: HostScript, **more: Any) -> None:
        super().__init__(config, script, **more)
        self.failures: list[Failure] = []
        self.recording: list[bytes] = []
        self.recorded = self.make_network(
            config, now=self.now, secret=bytes(range(32)), failed=self.failures.append, epoch=1_700_000_000.0
        )
        self.recorded.record(self.recording.append)
        self.network = self.recorded
        self.host = ForgivingHost(self.recorded, script)
        self.connections: list[GuestConnection] = []

    def all_done(self) -> bool:
        """Whether each connection has all its data, or was given up."""
        return all(one.reset or one.refused or (one.closed and bytes(one.received) == DATA) for one in self.connections)

    def answer_datagrams(self) -> None:
        """The host answers what the guest sent by UDP and ping."""
        for sent in self.host.datagrams:
            if sent.socket in self.host.datagram_sockets or sent.socket in self.host.forwards:
                self.recorded.datagram_received(sent.socket, sent.remote, bytes(sent.data), 0, 60, 0, self.now)
        for echo in self.host.echoes:
            if echo.socket in self.host.echo_sockets:
                self.recorded.echo_received(echo.socket, echo.remote, echo.sequence, bytes(echo.data), 60, 0, self.now)
        self.host.datagrams.clear()
        self.host.echoes.clear()
        self._outputs(self.now)
        self.settle()


def _traffic(session: Session) -> None:
    """Connections, datagrams and pings of the guest."""
    for number in range(3):
        connection = session.connect(GuestTcpOptions(mss=1460, window=1 << 20, scale=5), port=80 + number)
        connection.send(DATA)
        connection.shutdown()
        session.connections.append(connection)
    guest = session.guest
    for port in (1000, 1001):
        guest.send(udp(guest.ipv4, port, SERVER, 53, b"question"))
    guest.send(echo_request(guest.ipv4, SERVER, 7, 1, b"ping"))
    for piece in fragments(udp(guest.ipv4, 1003, SERVER, 53, bytes(3000)), 1480):
        guest.send(piece)


def begun(config: NetworkConfig | None = None, connections: int = 2, **more: Any) -> Session:
    """Connections whose data the host sends back."""
    session = Session(config or make_config(), HostScript(echo=True), **more)
    for number in range(connections):
        connection = session.connect(GuestTcpOptions(mss=1460, window=1 << 20, scale=5), port=80 + number)
        session.connections.append(connection)
    session.drive(lambda: all(one.established for one in session.connections))
    session.settle()
    return session


def plain(session: Session) -> None:
    """Connections of both sides, datagrams, pings, fragments, failures of the host."""
    network, now = session.recorded, session.now
    network.guest_attached(now)
    forward = network.forward_added(None, 7000, now)
    session.host.forwards.add(forward)
    _traffic(session)
    session.settle()
    session.answer_datagrams()
    network.datagram_received(forward, OUTSIDER, b"from outside", 0, 60, 0, session.now, bytes((198, 51, 100, 1)))
    for opened in list(session.host.datagram_sockets.values())[:1]:
        error = ExtendedError(111, 2, 3, 3, 0, SERVER)
        network.datagram_failed(opened.socket, Endpoint(SERVER, 53), error, b"question", session.now)
    session._outputs(session.now)
    session.guest.listening[22] = GuestTcpOptions()
    accepted = session.host.accept(OUTSIDER, 22, session.now)
    session.settle()
    if accepted is not None:
        session.host.produce(accepted, b"x" * 5000)
        session.host.end(accepted)
    for one in list(session.guest.connections.values()):
        if one not in session.connections and one.established:
            one.shutdown()
    session.drive(session.all_done, limit=200.0)
    network.reconfigure(replace(session.config, rules=(), dns_servers=("10.0.2.3",)), session.now)
    network.forward_removed(forward, session.now)
    session._outputs(session.now)


def decided(session: Session) -> None:
    """All flows wait for a verdict; services of the program."""
    network = session.recorded
    service = network.service_added(17, "10.9.0.1/32", 53, session.now)
    guest = session.guest
    _traffic(session)
    guest.send(udp(guest.ipv4, 1002, bytes((10, 9, 0, 1)), 53, b"for the program"))
    session.settle()
    ends = Endpoint(guest.ipv4, 1002), Endpoint("10.9.0.1", 53)
    network.service_sent(service, *ends, b"answer", session.now)
    session._outputs(session.now)
    _decide_all(session)
    session.answer_datagrams()
    session.drive(lambda: _decide_all(session) or session.all_done(), limit=200.0)
    made = session.host.connect(23, session.now)
    session._outputs(session.now)
    session.settle()
    if isinstance(made, HostStream) and not made.closed:
        session.host.fail(made, ECONNRESET, session.now)
        session._outputs(session.now)
    network.service_removed(service, session.now)
    session._outputs(session.now)


def _decide_all(session: Session) -> bool:
    for socket in list(session.host.questions):
        session.host.decide(socket, Allow(), session.now)
    session._outputs(session.now)
    session.settle()
    return False


SESSIONS: Final[dict[str, Callable[[Session], None]]] = {"plain": plain, "decided": decided}
SETUPS: Final = {
    "plain": (make_config(), HostScript(echo=True, accept=3000)),
    "decided": (
        replace(make_config(), default_action=Action.ASK, virtual=("10.9.0.0/16",)),
        HostScript(echo=True),
    ),
}
"""Name of a session -> the arguments of its `Session`."""
