"""Hints: one sentence for each kind of failed attempt of the guest, with the option that would make it work.

Theory of operation. The network reports flows without an answer, and names that were looked up. Most need no hint. But
some belong to users who look for a service of the host: at the gateway's address, at an address that means the host in
the networks of other programs, at a closed address, or by a name of the host while no address means the host. Attempts
at the host's own address, which is the guest's, too, and at 127.0.0.1 never reach sansnet.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Final

from sansnet_cli.output import report
from sansnet_core import FlowRefused, NameAsked, Reason, addresses
from sansnet_core.addresses import Endpoint
from sansnet_core.ports import TCP
from sansnet_core.wire import dns

if TYPE_CHECKING:
    from sansnet_cli.options.records import CommandOptions
    from sansnet_core import FlowReport, Notice
    from sansnet_core.ports import ForwardRule
    from sansnet_trio.plan.setup import Setup

__all__ = ["Hints"]

_EXAMPLES: Final = tuple(
    map(addresses.parse, ("169.254.1.2", "169.254.1.3", "169.254.1.4", *(f"fd00:9::{n}" for n in (9, 8, 7))))
)
"""Addresses to propose for --map-host-loopback."""

_METADATA: Final = addresses.parse("169.254.169.254")
"""The metadata service of clouds, which is not the host."""

_ELSEWHERE: Final = {
    addresses.parse("10.0.2.2"): "of QEMU and slirp4netns",
    addresses.parse("172.17.0.1"): "of Docker",
    addresses.parse("192.168.65.254"): "of Docker Desktop",
}
"""Addresses that mean the host in the networks of other programs. In podman's, addresses in 169.254.0.0/16 do."""

_UNREACHABLE: Final = frozenset((None, Reason.OWN_ADDRESS, Reason.IP_DESTINATION, Reason.IP_BROADCAST))
"""Why a flow failed that a hint may be about: on the host, or because the address is closed."""

_TRYING: Final = "SYN_RECEIVED"
"""State of a connection that the remote host has not answered yet."""


class Hints:
    """The hints about one guest.

    Args:
        options: the command's options.
        setup: the setup made from them.
        namespace: whether the guest is in a namespace, so that the command has -T and -U.
        forwards: returns the current rules.
    """

    def __init__(
        self, options: CommandOptions, setup: Setup, *, namespace: bool, forwards: Callable[[], Sequence[ForwardRule]]
    ) -> None:
        self._config = config = setup.config
        self._verbose = options.verbose
        self._namespace = namespace
        self._forwards = forwards
        families = [family for family in (config.ipv4, config.ipv6) if family]
        self._name_servers = frozenset(match for match, _ in config.dns_forward)
        self._named = frozenset(name.lower().rstrip(".") for name, _ in config.hosts)
        self._gateways = {*setup.gateways, *(family.gateway for family in families)}
        taken = {one.address for one in setup.addresses} | {family.address for family in families}
        taken.update(config.map_guest_address)
        size = 4 if config.ipv4 else 16
        self._example = next(address for address in _EXAMPLES if len(address) == size and address not in taken)
        self._kinds: set[str] = set()
        self.sentences: list[str] = []

    def add(self, notices: Iterable[Notice]) -> None:
        """Make hints from notices."""
        for notice in notices:
            if isinstance(notice, FlowRefused):
                if not notice.inbound and notice.reason in _UNREACHABLE:
                    self._refused(notice)
            elif isinstance(notice, NameAsked) and not notice.answered and self._is_host(notice.name):
                self._asked(notice.name)

    def end(self, flows: Iterable[FlowReport]) -> None:
        """Make hints from the flows that are open when the guest ends: some may not have been answered yet."""
        for flow in flows:
            if flow.state == _TRYING and not flow.inbound:
                self._refused(FlowRefused(flow.protocol, flow.guest, flow.remote, flow.host, 0))

    def _say(self, kind: str, make: Callable[[], str]) -> None:
        if kind not in self._kinds:
            self._kinds.add(kind)
            self.sentences.append(sentence := make())
            if self._verbose:
                report.inform(f"hint: {sentence}")

    def _is_host(self, name: str) -> bool:
        """Whether a name may mean the host. Our own resolver reports all names."""
        return self._config.resolver is None or name in self._named

    def _asked(self, name: str) -> None:
        self._say(
            "name",
            lambda: f"the guest looked up {name}, which has no address here; {self._mapping()} makes it the host",
        )

    def _refused(self, tried: FlowRefused) -> None:
        remote, host = tried.remote, tried.host
        address = remote.address
        if address in self._name_servers and remote.port in dns.PORTS:
            return
        text = addresses.format(address)
        if address in self._config.map_host_loopback:
            if host is not None and host.address == addresses.LOOPBACK[len(address)]:
                self._say("loopback", lambda: f"{_attempt(tried)}: nothing listens on the host's {_endpoint(host)}")
        elif address in self._config.map_guest_address:
            self._say(
                "own",
                lambda: (
                    f"{_attempt(tried)}: nothing listens on port {remote.port} of the host's own address; "
                    f"{self._remedy(tried)}"
                ),
            )
        elif address in self._gateways:
            self._say("gateway", lambda: f"{_attempt(tried)}: the gateway is not the host; {self._remedy(tried)}")
        elif host is None:
            self._say(
                "closed", lambda: f"{_attempt(tried)}: that is not an address outside the guest; {self._remedy(tried)}"
            )
        elif (program := _ELSEWHERE.get(address)) or (
            len(address) == 4 and addresses.is_link_local(address) and address not in (_METADATA, *self._name_servers)
        ):
            program = program or "of podman and others"
            self._say(
                "elsewhere",
                lambda: (
                    f"{_attempt(tried)}: {text} is the host in networks {program}, but not here; {self._remedy(tried)}"
                ),
            )

    def _remedy(self, tried: FlowRefused) -> str:
        """How the guest can reach the host's loopback."""
        port, option = tried.remote.port, "-T" if tried.protocol == TCP else "-U"
        size = len(tried.remote.address)
        mapped = self._config.map_host_loopback
        if mapped:
            same = next((address for address in mapped if len(address) == size), mapped[0])
            return f"the host's loopback is {addresses.format(same)} in this guest"
        if self._namespace:
            for forward in self._forwards():
                if forward.option == option and port in range(forward.to, forward.leads_to(forward.last) + 1):
                    where = Endpoint(addresses.LOOPBACK[size], forward.first + port - forward.to)
                    return f"{option} opens the host's loopback port {port} at {_endpoint(where)} in the guest"
            return (
                f"to open the host's loopback port {port}, use {option} {port} and "
                f"{addresses.format(addresses.LOOPBACK[size])} in the guest, or {self._mapping()} and that address"
            )
        return f"to open the host's loopback, use {self._mapping()} and that address"

    def _mapping(self) -> str:
        return f"--map-host-loopback {addresses.format(self._example)}"


def _attempt(tried: FlowRefused) -> str:
    """The guest's attempt and its result."""
    protocol = "" if tried.protocol == TCP else " by UDP"
    if tried.host is None or tried.errno == errno.ECONNREFUSED:
        how = "was refused"
    elif tried.errno in (0, errno.ETIMEDOUT):
        how = "had no answer"
    else:
        how = f"failed ({os.strerror(tried.errno)})"
    return f"the guest tried {_endpoint(tried.remote)}{protocol} and {how}"


def _endpoint(endpoint: Endpoint) -> str:
    text = addresses.format(endpoint.address)
    return f"{text}:{endpoint.port}" if len(endpoint.address) == 4 else f"[{text}]:{endpoint.port}"
