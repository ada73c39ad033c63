"""What runs in this process, for those who ask by the control socket: forwards, flows, counters.

docs/control.md documents requests and answers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Final

from sansnet_core import Endpoint, FlowReport, Network, SansnetError, addresses
from sansnet_trio.control import Answer, Request
from sansnet_trio.driver import Driver

__all__ = ["Instance", "RequestError"]

FLOWS: Final = 1000
MOST_FLOWS: Final = 10_000
"""In one answer, if the request does not say and at most: to list them takes the network's time."""

_PROTOCOLS: Final = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmpv6"}


class RequestError(SansnetError):
    """A request means nothing; the message says what would."""


class Instance:
    """Answers requests. A guest's network is known while it runs; forwards outlive it."""

    def __init__(self) -> None:
        self._guest: tuple[Network, Driver] | None = None
        self._commands: dict[str, Callable[[Request], Answer]] = {"flows": self._flows, "counters": self._counters}

    @contextmanager
    def serving(self, network: Network, driver: Driver) -> Iterator[None]:
        """While a guest is served."""
        self._guest = network, driver
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

    def _flows(self, request: Request) -> Answer:
        most = _number(request, "most", FLOWS, MOST_FLOWS)
        flows = self._guest[0].flows() if self._guest else []
        return {"flows": [_flow(flow) for flow in flows[:most]], "total": len(flows)}

    def _counters(self, request: Request) -> Answer:
        if self._guest is None:
            return {"guest": False}
        network, driver = self._guest
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
            "drops": drops,
        }


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


def _endpoint(endpoint: Endpoint) -> Answer:
    return {"address": addresses.format(endpoint.address), "port": endpoint.port}
