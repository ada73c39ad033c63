"""The flows of UDP, and their other ends: host sockets, or the program."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from math import inf
from typing import Final, TypeAlias

from sansnet_core.addresses import UNSPECIFIED
from sansnet_core.egress import FlowHeaders
from sansnet_core.errors import Reason
from sansnet_core.mypyc import mypyc_attr
from sansnet_core.notices import FlowClosed
from sansnet_core.orders import Buffer, Endpoint, SocketId
from sansnet_core.policy import ProxyConfig
from sansnet_core.policy.evaluator import Judgement
from sansnet_core.wire.ip import UDP

__all__ = ["BELOW_BASE", "End", "Flow", "ForwardedPort", "Mapping", "Relayed", "Served", "flow_key"]

BELOW_BASE: Final = 1199
"""Bytes of the largest datagram whose path does not matter: one less than a search for the path MTU begins with."""

_NONE: Final[dict[Endpoint, Flow]] = {}
"""The table of all mappings that need none; nobody writes to it."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Mapping:
    """The host socket of one address and port of the guest; it is closed with its last flow.

    Most mappings have only one flow ever, so the tables are made with the second one.

    Attributes:
        socket: its name.
        key: its place in the handler's table.
        name: the host name of all its flows, if their destination is an address of that name's own; else None.
        alias: the address that stands for the host's address in the guest's packets, if all flows lead to one host
            address that is another one; else None.
        addresses: host address -> number of flows to it; None while there was only one flow.
        groups: number of flows with a multicast destination.
    """

    __slots__ = ("_flows", "_only", "addresses", "alias", "groups", "key", "name", "socket")

    def __init__(self, socket: SocketId, key: bytes, alias: bytes | None, name: str | None = None) -> None:
        self.socket = socket
        self.key = key
        self.alias = alias
        self.name = name
        self._only: Flow | None = None
        self._flows = _NONE
        """By the host's endpoint; empty while there was only one."""
        self.addresses: Counter[bytes] | None = None
        self.groups = 0

    @property
    def flows(self) -> dict[Endpoint, Flow]:
        """The flows, by the host's endpoint."""
        return self._flows if self._only is None else {self._only.host: self._only}

    @flows.setter
    def flows(self, flows: dict[Endpoint, Flow]) -> None:
        several = len(flows) > 1
        self._flows = flows if several else _NONE
        self._only = None if several else next(iter(flows.values()), None)
        self.addresses = Counter(host.address for host in flows) if several else None
        self.groups = sum(flow.group for flow in flows.values())

    @property
    def guest(self) -> Endpoint:
        """The guest's endpoint, which all flows have in common."""
        return next(iter(self.flows.values())).guest

    @property
    def host(self) -> Endpoint:
        """The host's endpoint of one of the flows; all have the family of the socket."""
        return next(iter(self.flows.values())).host

    def find(self, host: Endpoint) -> Flow | None:
        """The flow to an endpoint of the host."""
        only = self._only
        if only is not None:
            return only if only.host == host else None
        return self._flows.get(host)

    def find_groups(self, is_group: Callable[[bytes], bool]) -> None:
        """Follow another set of groups; `is_group` takes the address of a host."""
        flows = self.flows
        for flow in flows.values():
            flow.group = is_group(flow.host.address)
        self.groups = sum(flow.group for flow in flows.values())

    def attach(self, flow: Flow) -> None:
        """Carry a flow."""
        if self.addresses is None:
            self.flows = {**self.flows, flow.host: flow}
        else:
            self._flows[flow.host] = flow
            self.addresses[flow.host.address] += 1
            self.groups += flow.group

    def has_address(self, address: bytes) -> bool:
        """Whether there is a flow to a host address."""
        if self.addresses is not None:
            return address in self.addresses
        return self._only is not None and self._only.host.address == address

    def detach(self, flow: Flow) -> bool:
        """Forget a flow; whether the socket is no longer needed."""
        self.groups -= flow.group
        if self.addresses is None:
            self._only = None
            return True
        del self._flows[flow.host]
        self.addresses[flow.host.address] -= 1
        if not self.addresses[flow.host.address]:
            del self.addresses[flow.host.address]
        return not self._flows


@mypyc_attr(allow_interpreted_subclasses=True)
class ForwardedPort:
    """A host socket to which outsiders send; the driver opens and closes it.

    Attributes:
        socket: its name.
        address: the guest's address that it leads to; None for the current one.
        port: the guest's port.
        flows: by the host's endpoint.
    """

    __slots__ = ("address", "flows", "port", "socket")

    def __init__(self, socket: SocketId, address: bytes | None, port: int) -> None:
        self.socket = socket
        self.address = address
        self.port = port
        self.flows: dict[Endpoint, Flow] = {}

    def find(self, host: Endpoint) -> Flow | None:
        """The flow to an endpoint of the host."""
        return self.flows.get(host)

    def target(self, size: int) -> Endpoint:
        """The guest's endpoint, for reports; an address that is not fixed is `size` zero bytes."""
        return Endpoint._make((self.address or UNSPECIFIED[size], self.port))

    def attach(self, flow: Flow) -> None:
        """Carry a flow."""
        self.flows[flow.host] = flow

    def detach(self, flow: Flow) -> bool:
        """Forget a flow; whether the socket is no longer needed, which only the driver knows."""
        del self.flows[flow.host]
        return False


@mypyc_attr(allow_interpreted_subclasses=True)
class Served:
    """The program as the other end: one of its services, or one flow whose verdict was `Serve`.

    Attributes:
        socket: its name.
        once: whether it is for one flow only.
        flows: by `flow_key`.
    """

    __slots__ = ("flows", "once", "socket")

    def __init__(self, socket: SocketId, *, once: bool) -> None:
        self.socket = socket
        self.once = once
        self.flows: dict[bytes, Flow] = {}

    def attach(self, flow: Flow) -> None:
        """Carry a flow."""
        self.flows[flow.key] = flow

    def detach(self, flow: Flow) -> bool:
        """Forget a flow; whether the name is no longer needed."""
        del self.flows[flow.key]
        return self.once


@mypyc_attr(allow_interpreted_subclasses=True)
class Relayed:
    """The relay of a proxy, see `associate`.

    Attributes:
        socket: name of the socket for its datagrams.
        proxy: the proxy.
        flows: by `flow_key`.
        sources: by the address and port from which the relay has their answers; for a host name, by an empty name.
    """

    __slots__ = ("flows", "proxy", "socket", "sources")

    def __init__(self, socket: SocketId, proxy: ProxyConfig) -> None:
        self.socket = socket
        self.proxy = proxy
        self.flows: dict[bytes, Flow] = {}
        self.sources: dict[tuple[bytes | str, int], Flow] = {}

    def send(self, flow: Flow, data: Buffer, segment_size: int, tos: int) -> None:
        """Send a datagram of the guest, or a run of them; see `SendDatagram`."""
        raise NotImplementedError

    def ended(self) -> None:
        """The last flow has ended."""
        raise NotImplementedError

    def attach(self, flow: Flow) -> None:
        """Carry a flow."""
        self.flows[flow.key] = self.sources[_source(flow)] = flow

    def detach(self, flow: Flow) -> bool:
        """Forget a flow; whether the relay is no longer needed."""
        del self.flows[flow.key]
        if self.sources.get(_source(flow)) is flow:
            del self.sources[_source(flow)]
        return not self.flows


def _source(flow: Flow) -> tuple[bytes | str, int]:
    return flow.remote.address if flow.name is None else "", flow.remote.port


End: TypeAlias = Mapping | ForwardedPort | Served | Relayed
"""The other end of a flow."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Flow:
    """The datagrams between one endpoint of the guest and one remote endpoint.

    The endpoints in the guest's packets are made from the key when they are needed: a guest can have many idle flows.

    Attributes:
        key: see `flow_key`.
        end: the host socket, the service or the relay.
        host: the remote endpoint for the host's socket; `remote` if the program is the other end.
        inbound: whether an outsider or the program began it.
        redirected: whether a rule or a verdict chose `host`.
        group: whether `host` is a group.
        name: the host name that `remote` stands for.
        judgement: the one that let it open, for notices; None if there was none.
        others: the host's endpoints that are tried if `host` cannot be reached, in order.
        first: TTL, TOS and whether it may be fragmented, of the guest's first datagram, if there are `others`.
        headers: for datagrams to the guest, and `mac` the guest's Ethernet address while there are none; see `headers`.
        local: the host's address that the remote host last sent to.
        last_used: time of the latest datagram, and `last_from_guest` of the guest's latest one.
        sent, received: payload bytes from and to the guest.
        datagrams_sent, datagrams_received: the same in datagrams.
        errno: that of the failure that was reported; 0 if there was none.
        outdated: whether it ends with the guest's next datagram.
        whole: bytes of the largest datagram that may leave whole or in fragments, whatever its path is; see `path_mtu`.
        tried: TTL, TOS and time of the latest datagram that was sent to find out whether its path takes it whole; None
            if that is known.
    """

    __slots__ = (
        "datagrams_received",
        "datagrams_sent",
        "end",
        "errno",
        "first",
        "group",
        "headers",
        "host",
        "inbound",
        "judgement",
        "key",
        "last_from_guest",
        "last_used",
        "local",
        "mac",
        "name",
        "others",
        "outdated",
        "received",
        "redirected",
        "sent",
        "tried",
        "whole",
    )

    def __init__(
        self,
        end: End,
        guest: Endpoint,
        remote: Endpoint,
        host: Endpoint,
        *,
        inbound: bool,
        redirected: bool = False,
        group: bool = False,
        name: str | None = None,
        judgement: Judgement | None = None,
        others: tuple[Endpoint, ...] = (),
    ) -> None:
        self.key = flow_key(guest, remote)
        self.end = end
        self.host = host
        self.inbound = inbound
        self.redirected = redirected
        self.group = group
        self.name = name
        self.judgement = judgement
        self.others = others
        self.first = (0, 0, False)
        self.headers: FlowHeaders | None = None
        self.mac = b""
        self.local: bytes | None = None
        self.last_used = self.last_from_guest = -inf
        self.sent = self.received = 0
        self.datagrams_sent = self.datagrams_received = 0
        self.errno = 0
        self.outdated = False
        self.whole = BELOW_BASE
        self.tried: tuple[int, int, float] | None = None

    @property
    def socket(self) -> SocketId:
        """The name of its other end."""
        return self.end.socket

    @property
    def served(self) -> bool:
        """Whether the program is the other end."""
        return isinstance(self.end, Served)

    @property
    def guest(self) -> Endpoint:
        """The guest's endpoint."""
        key = self.key
        return Endpoint._make((key[: (len(key) - 4) >> 1], int.from_bytes(key[-4:-2], "big")))

    @property
    def remote(self) -> Endpoint:
        """The remote endpoint in the guest's packets."""
        key = self.key
        return Endpoint._make((key[(len(key) - 4) >> 1 : -4], int.from_bytes(key[-2:], "big")))

    def closed(self, now: float, reason: Reason | None = None) -> FlowClosed:
        """The notice of its end, for a reason if a rule ends it. A failure counts as its cause if nothing came back."""
        return FlowClosed(
            self.socket,
            UDP,
            self.guest,
            self.remote,
            self.host,
            self.inbound,
            self.sent,
            self.received,
            0 if self.datagrams_received else self.errno,
            now,
            self.name,
            reason,
        )

    def is_stream(self) -> bool:
        """Whether there were datagrams in both directions, and more than one query and its answer."""
        return min(self.datagrams_received, self.datagrams_sent) > 0 and (
            self.datagrams_sent + self.datagrams_received > 2
        )


def flow_key(guest: Endpoint, remote: Endpoint) -> bytes:
    """Addresses and ports, in the order of the guest's packets."""
    return guest.address + remote.address + guest.port.to_bytes(2, "big") + remote.port.to_bytes(2, "big")
