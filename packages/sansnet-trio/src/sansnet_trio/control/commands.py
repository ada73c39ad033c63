"""The commands of the control socket. docs/control.md documents requests and answers.

Those about forwards, flows and counters are here, those about the policy in `sansnet_trio.control.policies`, and that
about the impairments in `sansnet_trio.control.impairments`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Final, Protocol

from sansnet_core import ConfigError, Dropped, FlowReport, Network, ports
from sansnet_core.ports import TCP, UDP, ForwardRule
from sansnet_trio.control.impairments import ImpairmentCommands
from sansnet_trio.control.policies import PolicyCommands
from sansnet_trio.control.requests import RequestError, endpoint, number
from sansnet_trio.control.server import Answer, Request
from sansnet_trio.driver_statistics import DriverStatistics
from sansnet_trio.sandbox import Level

__all__ = ["CountingDriver", "ControlCommands", "PortForwards", "RequestError"]

DEFAULT_FLOWS: Final = 1000
"""Flows in one answer if the request gives no number."""
MAX_FLOWS: Final = 10_000
"""Flows in one answer, at most: no frame is served while they are listed."""

_OPTIONS: Final = {"-t": (TCP, True), "-u": (UDP, True), "-T": (TCP, False), "-U": (UDP, False)}
_PROTOCOLS: Final = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmpv6"}


class CountingDriver(Protocol):
    """The statistics of a driver."""

    def statistics(self) -> DriverStatistics:
        """The driver's counters."""


class PortForwards(Protocol):
    """Forwards that can be changed while they are served."""

    @property
    def rules(self) -> Sequence[ForwardRule]:
        """The present rules."""

    def add(self, forwards: Iterable[ForwardRule]) -> None:
        """Add rules. If that fails with a `SansnetError`, nothing changes."""

    def remove(self, forwards: Iterable[ForwardRule]) -> None:
        """Remove rules. If that fails with a `SansnetError`, nothing changes."""


class ControlCommands:
    """Answers requests about the forwards, the policy, and the guest's network while it is served.

    Attributes:
        policies: the commands about the policy.
        impairments: the command about the impairments.
    """

    def __init__(self) -> None:
        self.policies = PolicyCommands()
        self.impairments = ImpairmentCommands()
        self._forwards: PortForwards | None = None
        self._namespace = False
        self._sandbox = Level()
        self._guest: tuple[Network, CountingDriver, Sequence[str]] | None = None
        self._commands: dict[str, Callable[[Request], Answer]] = {
            "list": self._list,
            "add": self._add,
            "delete": self._delete,
            "clear": self._clear,
            "flows": self._flows,
            "counters": self._counters,
            "policy": self.policies.policy,
            "pending": self.policies.pending,
            "allow": self.policies.allow,
            "refuse": self.policies.refuse,
            "audit": self.policies.audit,
            "impair": self.impairments.impair,
        }

    def set_forwards(self, forwards: PortForwards, *, namespace: bool) -> None:
        """Set the forwards; until then, commands about forwards fail.

        Args:
            forwards: the forwards that are served.
            namespace: whether the guest is in a namespace, so that `auto` and ports in the guest are possible.
        """
        self._forwards, self._namespace = forwards, namespace

    def set_sandbox(self, level: Level) -> None:
        """Set the level of the sandbox, for the counters."""
        self._sandbox = level

    @contextmanager
    def serving(self, network: Network, driver: CountingDriver, hints: Sequence[str] = ()) -> Iterator[None]:
        """A context in which a guest is served; `hints` are sentences about it, and may grow."""
        self._guest = network, driver, hints
        try:
            yield
        finally:
            self._guest = None

    def answer(self, request: Request) -> Answer:
        """The answer to a request.

        Raises:
            RequestError: the request is invalid.
            SansnetError: it cannot be carried out.
        """
        name = request.get("command")
        command = self._commands.get(name) if isinstance(name, str) else None
        if command is None:
            raise RequestError(f"the command must be one of {', '.join(self._commands)}")
        return command(request)

    def _served_forwards(self) -> PortForwards:
        if self._forwards is None:
            raise RequestError("the guest is not ready yet; try again")
        return self._forwards

    def _list(self, request: Request) -> Answer:
        return {"forwards": [{"option": one.option, "spec": one.spec()} for one in self._served_forwards().rules]}

    def _add(self, request: Request) -> Answer:
        served, added = self._served_forwards(), _requested_rules(request)
        if not self._namespace and any(rule.auto or not rule.inbound for rule in added):
            raise RequestError("the guest is a machine; -T, -U and auto are for guests in namespaces")
        served.add(added)
        return self._list(request)

    def _delete(self, request: Request) -> Answer:
        self._served_forwards().remove(_requested_rules(request))
        return self._list(request)

    def _clear(self, request: Request) -> Answer:
        self._served_forwards().remove(self._served_forwards().rules)
        return self._list(request)

    def _flows(self, request: Request) -> Answer:
        limit = number(request, "most", DEFAULT_FLOWS, MAX_FLOWS)
        flows = self._guest[0].flows() if self._guest else []
        return {"flows": [_flow(flow) for flow in flows[:limit]], "total": len(flows)}

    def _counters(self, request: Request) -> Answer:
        if self._guest is None:
            return {"guest": False, "sandbox": self._sandbox_answer()}
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
            "tcp_lost": statistics.tcp_lost,
            "ignored": statistics.ignored,
            "drops": drops,
            "last_drops": {
                reason.name: [_dropped(packet) for packet in packets]
                for reason, packets in statistics.last_drops.items()
            },
            "hints": list(hints),
            "sandbox": self._sandbox_answer(),
        }

    def _sandbox_answer(self) -> Answer:
        level = self._sandbox
        return {
            "text": str(level),
            "system_calls": level.seccomp.value,
            "landlock": level.landlock,
            "missing": list(level.missing),
        }


def _requested_rules(request: Request) -> tuple[ForwardRule, ...]:
    """The rules that a request lists."""
    listed = request.get("forwards")
    if not isinstance(listed, list) or not listed or not all(map(_is_forward, listed)):
        raise RequestError('forwards must be a non-empty list of objects like {"option": "-t", "spec": "8080"}')
    specs: dict[str, list[str]] = {}
    for one in listed:
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


def _flow(flow: FlowReport) -> Answer:
    return {
        "protocol": _PROTOCOLS[flow.protocol],
        "inbound": flow.inbound,
        "state": flow.state,
        "guest": endpoint(flow.guest),
        "remote": endpoint(flow.remote),
        "host": endpoint(flow.host),
        "sent": flow.sent,
        "received": flow.received,
    }


def _dropped(packet: Dropped) -> Answer:
    return {
        "protocol": packet.name,
        "source": endpoint(packet.source),
        "destination": endpoint(packet.destination),
    }
