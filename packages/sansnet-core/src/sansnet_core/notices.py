"""Notices for the operator: flows, leases, names. There are none about single packets."""

from __future__ import annotations

from errno import errorcode
from typing import Final, TypeAlias

from sansnet_core.addresses import Endpoint, format_any
from sansnet_core.errors import Reason
from sansnet_core.orders import SocketId, value_class
from sansnet_core.policy.rule import type_name

__all__ = ["FlowClosed", "FlowOpened", "FlowRefused", "FlowReport", "LeaseGiven", "NameAsked", "Notice", "plain"]

_NAMES: Final = {1: "ping", 6: "tcp", 17: "udp", 58: "ping"}


@value_class
class FlowOpened:
    """The guest or an outsider opened a flow."""

    socket: SocketId
    protocol: int
    """IP protocol number: 6 for TCP, 17 for UDP, 1 and 58 for ping."""
    guest: Endpoint
    """The guest's endpoint. For ping, the port of an endpoint is the identifier."""
    remote: Endpoint
    """The remote endpoint in the guest's packets."""
    host: Endpoint
    """The remote endpoint of the host's socket."""
    inbound: bool = False
    """Whether an outsider opened it."""
    time: float = 0.0
    """Seconds of the network's clock."""
    name: str | None = None
    """The host name that `remote` stands for; None if it stands for none."""
    rule: str | None = None
    """The rule that decided: its label, or its text; None for the default action."""

    def __str__(self) -> str:
        return f"{_ends(self)} opened{_by(self.rule)}"


@value_class
class FlowClosed:
    """A flow ended. The fields up to `inbound` are those of its `FlowOpened`."""

    socket: SocketId
    protocol: int
    guest: Endpoint
    remote: Endpoint
    host: Endpoint
    inbound: bool
    sent: int
    """Payload bytes from the guest to the host."""
    received: int
    """Payload bytes from the host to the guest."""
    errno: int = 0
    """Why it ended, as in `CloseSocket`, or the errno of the host's socket; 0 for an ordinary end."""
    time: float = 0.0
    """Seconds of the network's clock."""
    name: str | None = None
    """As in its `FlowOpened`."""
    reason: Reason | None = None
    """Why it was ended by a rule: the rules changed, or the guest's first bytes named another host; else None."""
    rule: str | None = None
    """As in its `FlowOpened`."""

    def __str__(self) -> str:
        why = f" ({_errno(self.errno)})" if self.errno else ""
        reason = f"; {self.reason.value}" if self.reason else ""
        return f"{_ends(self)} closed{why}: {self.sent} bytes sent, {self.received} received{reason}"


@value_class
class FlowRefused:
    """A flow failed to open: the host's socket failed, the guest gave up, or the flow may not open.

    For a UDP flow, only the first failure is reported, and only if nothing was received before.
    """

    protocol: int
    """IP protocol number: 6 for TCP, 17 for UDP, 1 and 58 for ping."""
    guest: Endpoint
    remote: Endpoint
    """The remote endpoint in the guest's packets."""
    host: Endpoint | None
    """The remote endpoint of the host's socket; None if the configuration closes the address."""
    errno: int
    """Errno of the host's socket or of the verdict; 0 if the guest gave up first, or if there was none."""
    reason: Reason | None = None
    """Why it may not open; None if the host's socket failed or the guest gave up."""
    inbound: bool = False
    """Whether an outsider tried to open it."""
    time: float = 0.0
    """Seconds of the network's clock."""
    name: str | None = None
    """The host name that `remote` stands for; None if it stands for none."""
    rule: str | None = None
    """The rule that decided: its label, or its text; None for the default action, and if no rule was asked."""

    def __str__(self) -> str:
        errno = _errno(self.errno) if self.errno else ""
        if self.reason is None:
            return f"{_ends(self)} failed ({errno})" if errno else f"{_ends(self)} given up by the guest"
        return f"{_ends(self)} refused{_by(self.rule)}{errno and f' ({errno})'}: {self.reason.value}"


@value_class
class FlowReport:
    """The present state of a flow; see `Network.flows`. The fields up to `inbound` are those of `FlowOpened`."""

    socket: SocketId
    protocol: int
    guest: Endpoint
    remote: Endpoint
    host: Endpoint
    inbound: bool
    state: str
    """`UNDECIDED` without a verdict. Else, for TCP, the state of the connection to the guest, or `CLOSING` if one
    direction is closed at least; `OPEN` for the others."""
    sent: int
    """Payload bytes from the guest to the host."""
    received: int
    """Payload bytes from the host to the guest."""
    name: str | None = None
    """The host name that `remote` stands for; None if it stands for none."""
    rule: str | None = None
    """The rule that decided: its label, or its text; None for the default action, and without a verdict."""
    undelivered: int = 0
    """For TCP: bytes from the guest that are acknowledged, and that the host's socket has not taken yet."""
    ended: bool = False
    """For TCP: whether the guest has sent all of its data, and FIN."""

    def __str__(self) -> str:
        return f"{_ends(self)} {self.state}: {self.sent} bytes sent, {self.received} received"


@value_class
class LeaseGiven:
    """Our DHCP or DHCPv6 server gave the guest its address."""

    address: bytes
    """The guest's address, 4 or 16 bytes in network order."""
    mac: bytes
    """Hardware address of the client; 6 bytes for Ethernet."""
    time: float = 0.0
    """Seconds of the network's clock."""

    def __str__(self) -> str:
        return f"{format_any(self.address)} leased to {self.mac.hex(':')}"


@value_class
class NameAsked:
    """The guest asked for a name that a part of the network answers for.

    These are the resolver, which answers for every name; without one, the names in `NetworkConfig.hosts`; and a DNS
    server of the program.
    """

    name: str
    """The name in canonical form; as the configuration has it for one in `NetworkConfig.hosts`."""
    answered: bool
    """Whether the query was answered here; otherwise it was forwarded, or refused."""
    time: float = 0.0
    """Seconds of the network's clock."""
    type: int = 0
    """Type of the records that were asked for (RFC 1035, 3.2.2); 0 if it is not known."""
    refused: bool = False
    """Whether the rules refused the question, which then did not leave the host; or all addresses of the name."""
    rule: str | None = None
    """The rule that decided, as in `FlowRefused`."""
    address: bytes | None = None
    """With `refused`, an address of the name, 4 or 16 bytes, if the question was asked and the rules close all of the
    name's addresses; None if the rules refused the question itself."""

    @property
    def type_name(self) -> str | None:
        """The type as people know it, such as AAAA, or TYPE65535 (RFC 3597, 5); None if it is not known."""
        return type_name(self.type) if self.type else None

    def __str__(self) -> str:
        type_ = f" ({self.type_name})" if self.type else ""
        if self.address is not None:
            return f"{plain(self.name)}{type_} looked up: closed{_by(self.rule)}: {format_any(self.address)}"
        if self.refused:
            return f"{plain(self.name)}{type_} looked up: refused{_by(self.rule)}"
        return f"{plain(self.name)}{type_} looked up: {'answered here' if self.answered else 'forwarded'}"


def plain(text: str) -> str:
    """A text of the guest or of a rule for one line: anything but printable ASCII is escaped as in Python."""
    return text if text.isascii() and text.isprintable() else ascii(text)[1:-1]


Notice: TypeAlias = FlowOpened | FlowClosed | FlowRefused | LeaseGiven | NameAsked


def _ends(flow: FlowOpened | FlowClosed | FlowRefused | FlowReport) -> str:
    """The protocol, the two ends in the order in which it opens, and the host's end if that is another one."""
    ping = flow.protocol in (1, 58)
    guest, remote, host = (
        "" if end is None else format_any(end.address) if ping else str(end)
        for end in (flow.guest, flow.remote, flow.host)
    )
    source, destination = (remote, guest) if flow.inbound else (guest, remote)
    stands_for = [f"for {plain(flow.name)}"] if flow.name is not None else []
    on_host = [f"on the host: {host}"] if host not in ("", remote) else []
    notes = f" ({', '.join(stands_for + on_host)})" if stands_for or on_host else ""
    return f"{_NAMES.get(flow.protocol, flow.protocol)} {source} to {destination}{notes}"


def _by(rule: str | None) -> str:
    return "" if rule is None else f" by rule {plain(rule)}"


def _errno(errno: int) -> str:
    return errorcode.get(errno, str(errno))
