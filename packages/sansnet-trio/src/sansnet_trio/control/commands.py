"""What runs in this process, for those who ask by the control socket: forwards, flows, counters.

docs/control.md documents requests and answers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Final, Protocol

from sansnet_core import ConfigError, Dropped, Endpoint, FlowReport, Network, SansnetError, addresses, ports
from sansnet_core.ports import TCP, UDP, ForwardRule
from sansnet_trio.control.server import Answer, Request
from sansnet_trio.driver import DriverStatistics

__all__ = ["CountingDriver", "ControlCommands", "PortForwards", "RequestError"]

DEFAULT_FLOWS: Final = 1000
MAX_FLOWS: Final = 10_000
"""In one answer, if the request does not say and at most: to list them takes the network's time."""

_OPTIONS: Final = {"-t": (TCP, True), "-u": (UDP, True), "-T": (TCP, False), "-U": (UDP, False)}
_PROTOCOLS: Final = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmpv6"}


class RequestError(SansnetError):
    """A request means nothing; the message says what would."""


class CountingDriver(Protocol):
    """What a driver is to those who ask."""

    def statistics(self) -> DriverStatistics:
        """What it did so far."""


class PortForwards(Protocol):
    """What can be done with forwards while they are served."""

    @property
    def rules(self) -> Sequence[ForwardRule]:
        """Those that there are."""

    def add(self, forwards: Iterable[ForwardRule]) -> None:
        """Have more; on failure, which is a `SansnetError`, things stay as they were."""

    def remove(self, forwards: Iterable[ForwardRule]) -> None:
        """Have fewer; the same."""


class ControlCommands:
    """Answers requests. A guest's network is known while it runs; forwards may outlive it."""

    def __init__(self) -> None:
        self._forwards: PortForwards | None = None
        self._namespace = False
        self._guest: tuple[Network, CountingDriver, Sequence[str]] | None = None
        self._commands: dict[str, Callable[[Request], Answer]] = {
            "list": self._list,
            "add": self._add,
            "delete": self._delete,
            "clear": self._clear,
            "flows": self._flows,
            "counters": self._counters,
        }

    def forward(self, forwards: PortForwards, *, namespace: bool) -> None:
        """Ports can be forwarded from now on.

        Args:
            forwards: those that are.
            namespace: whether who listens in the guest can be seen, and ports of its loopback be forwarded.
        """
        self._forwards, self._namespace = forwards, namespace

    @contextmanager
    def serving(self, network: Network, driver: CountingDriver, hints: Sequence[str] = ()) -> Iterator[None]:
        """While a guest is served; `hints` are sentences about it, which may become more."""
        self._guest = network, driver, hints
        try:
            yield
        finally:
            self._guest = None

    def answer(self, request: Request) -> Answer:
        """The answer to a request.

        Raises:
            RequestError: it means nothing.
            SansnetError: what it asks for cannot be.
        """
        name = request.get("command")
        command = self._commands.get(name) if isinstance(name, str) else None
        if command is None:
            raise RequestError(f"the command is none of {', '.join(self._commands)}")
        return command(request)

    def _served_forwards(self) -> PortForwards:
        if self._forwards is None:
            raise RequestError("the guest is not there yet; ask again")
        return self._forwards

    def _list(self, request: Request) -> Answer:
        return {"forwards": [{"option": one.option, "spec": one.spec()} for one in self._served_forwards().rules]}

    def _add(self, request: Request) -> Answer:
        kept, forwards = self._served_forwards(), _requested_rules(request)
        if not self._namespace and any(forward.auto or not forward.inbound for forward in forwards):
            raise RequestError("the guest is a machine; -T, -U and auto are for guests in namespaces")
        kept.add(forwards)
        return self._list(request)

    def _delete(self, request: Request) -> Answer:
        self._served_forwards().remove(_requested_rules(request))
        return self._list(request)

    def _clear(self, request: Request) -> Answer:
        self._served_forwards().remove(self._served_forwards().rules)
        return self._list(request)

    def _flows(self, request: Request) -> Answer:
        most = _number(request, "most", DEFAULT_FLOWS, MAX_FLOWS)
        flows = self._guest[0].flows() if self._guest else []
        return {"flows": [_flow(flow) for flow in flows[:most]], "total": len(flows)}

    def _counters(self, request: Request) -> Answer:
        if self._guest is None:
            return {"guest": False}
        network, driver, hints = self._guest
        statistics = network.statistics()
        drops = {
            reason.name: {"count": count, "meaning": reason.value}
            for reason, count in statistics.drops.items()
            if count
        }
        return {
            "guest": True,
            "driver": asdict(driver.statistics()),
            "flows": dict(statistics.flows),
            "tcp_held": statistics.tcp_held,
            "ignored": statistics.ignored,
            "drops": drops,
            "last_drops": {
                reason.name: [_dropped(packet) for packet in packets]
                for reason, packets in statistics.last_drops.items()
            },
            "hints": list(hints),
        }


def _requested_rules(request: Request) -> tuple[ForwardRule, ...]:
    """The forwards that a request is about."""
    given = request.get("forwards")
    if not isinstance(given, list) or not given or not all(map(_is_forward, given)):
        raise RequestError('forwards is a list that is not empty, of objects as {"option": "-t", "spec": "8080"}')
    specs: dict[str, list[str]] = {}
    for one in given:
        specs.setdefault(one["option"], []).append(one["spec"])
    return tuple(forward for option in specs for forward in _parse(option, specs[option]))


def _parse(option: str, specs: Sequence[str]) -> tuple[ForwardRule, ...]:
    protocol, inbound = _OPTIONS[option]
    try:
        return ports.parse_all(specs, protocol, inbound=inbound)
    except ConfigError as error:
        raise RequestError(f"{option}: {error}") from None


def _is_forward(one: object) -> bool:
    return isinstance(one, dict) and one.get("option") in list(_OPTIONS) and isinstance(one.get("spec"), str)


def _number(request: Request, name: str, default: int, most: int) -> int:
    value = request.get(name, default)
    if type(value) is not int or not 0 < value <= most:
        raise RequestError(f"{name} is a number between 1 and {most}")
    return value


def _flow(flow: FlowReport) -> Answer:
    return {
        "protocol": _PROTOCOLS[flow.protocol],
        "inbound": flow.inbound,
        "state": flow.state,
        "guest": _endpoint(flow.guest),
        "remote": _endpoint(flow.remote),
        "host": _endpoint(flow.host),
        "sent": flow.sent,
        "received": flow.received,
    }


def _dropped(packet: Dropped) -> Answer:
    return {
        "protocol": packet.name,
        "source": _endpoint(packet.source),
        "destination": _endpoint(packet.destination),
    }


def _endpoint(endpoint: Endpoint) -> Answer:
    return {"address": addresses.format_any(endpoint.address), "port": endpoint.port}
