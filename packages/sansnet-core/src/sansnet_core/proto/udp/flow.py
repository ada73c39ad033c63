"""The host sockets of UDP, and the flows that use them."""

from __future__ import annotations

from collections import Counter
from math import inf

from sansnet_core.egress import Egress, FlowHeaders
from sansnet_core.notices import FlowClosed
from sansnet_core.orders import Endpoint, SocketId
from sansnet_core.wire.ip import UDP

__all__ = ["Flow", "ForwardedPort", "Mapping", "flow_key"]


class Mapping:
    """The host socket of one address and port of the guest; it is closed with its last flow.

    Attributes:
        socket: its name.
        key: its place in the handler's table.
        guest: the guest's endpoint.
        alias: the address that stands for the host's address in the guest's packets, if all flows lead to one host
            address that the address map translated; else None.
        flows: by the host's endpoint.
        addresses: host address -> number of flows to it.
        groups: number of flows with a multicast destination.
    """

    __slots__ = ("addresses", "alias", "flows", "groups", "guest", "key", "socket")

    def __init__(self, socket: SocketId, key: bytes, guest: Endpoint, alias: bytes | None) -> None:
        self.socket = socket
        self.key = key
        self.guest = guest
        self.alias = alias
        self.flows: dict[Endpoint, Flow] = {}
        self.addresses: Counter[bytes] = Counter()
        self.groups = 0


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

    def target(self, size: int) -> Endpoint:
        """The guest's endpoint, for reports; an address that is not fixed is `size` zero bytes."""
        return Endpoint._make((self.address or bytes(size), self.port))


class Flow:
    """The datagrams between one endpoint of the guest and one remote endpoint.

    Attributes:
        key: see `flow_key`.
        mapping: the host socket, and `socket` its name.
        guest, remote: the endpoints in the guest's packets.
        host: the remote endpoint for the host's socket.
        inbound: whether an outsider began it.
        headers: for datagrams to the guest.
        local: the host's address that the remote host last sent to.
        last_used: time of the latest datagram, and `last_from_guest` of the guest's latest one.
        sent, received: payload bytes from and to the guest.
        datagrams_sent, datagrams_received: the same in datagrams.
        failed: whether a failure was reported.
    """

    __slots__ = (
        "datagrams_received",
        "datagrams_sent",
        "failed",
        "guest",
        "headers",
        "host",
        "inbound",
        "key",
        "last_from_guest",
        "last_used",
        "local",
        "mapping",
        "received",
        "remote",
        "sent",
        "socket",
    )

    def __init__(
        self,
        egress: Egress,
        mapping: Mapping | ForwardedPort,
        guest: Endpoint,
        remote: Endpoint,
        host: Endpoint,
        *,
        inbound: bool,
    ) -> None:
        self.key = flow_key(guest, remote)
        self.mapping = mapping
        self.socket = mapping.socket
        self.guest = guest
        self.remote = remote
        self.host = host
        self.inbound = inbound
        self.headers = FlowHeaders(egress, remote, guest, UDP)
        self.local: bytes | None = None
        self.last_used = self.last_from_guest = -inf
        self.sent = self.received = 0
        self.datagrams_sent = self.datagrams_received = 0
        self.failed = False

    def closed(self, now: float) -> FlowClosed:
        """The notice of its end."""
        return FlowClosed(
            self.socket,
            UDP,
            self.guest,
            self.remote,
            self.host,
            self.inbound,
            self.sent,
            self.received,
            0,
            now,
        )

    def is_stream(self) -> bool:
        """Whether there were datagrams in both directions, and more than one query and its answer."""
        return min(self.datagrams_received, self.datagrams_sent) > 0 and (
            self.datagrams_sent + self.datagrams_received > 2
        )


def flow_key(guest: Endpoint, remote: Endpoint) -> bytes:
    """Addresses and ports, in the order of the guest's packets."""
    return guest.address + remote.address + guest.port.to_bytes(2, "big") + remote.port.to_bytes(2, "big")
