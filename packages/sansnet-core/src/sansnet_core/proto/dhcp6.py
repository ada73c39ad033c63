"""A DHCPv6 server (RFC 8415) with one address, leased for ever or for the time that the configuration sets.

Theory of operation. As for IPv4, the server stores no leases: a reply is a pure function of the request and the
configuration (`answer`). One IA_NA of a message gets the address: the first that lists it already, or else the first.
Each other association gets a status code:

    SOLICIT                ADVERTISE, or REPLY with rapid commit; preference 255, so that the client takes it at once
    REQUEST                REPLY; an association that lists other addresses: NotOnLink
    RENEW, REBIND          REPLY with the address; the client's other addresses get lifetime 0
    CONFIRM                REPLY, Success if all addresses are of our /64, else NotOnLink; no reply if it lists none
    RELEASE, DECLINE       REPLY, Success; an association without our address: NoBinding
    INFORMATION-REQUEST    REPLY with DNS only

The server gives no temporary addresses and no prefixes. It ignores messages with a wrong or missing identifier, and
messages with an association where RFC 8415, 16 forbids one. Messages to its own address, not to the group, are refused
with UseMulticast if they are for one server, and ignored otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from sansnet_core import addresses
from sansnet_core.config import NetworkConfig
from sansnet_core.context import Context
from sansnet_core.errors import Reason
from sansnet_core.mypyc import mypyc_attr
from sansnet_core.notices import LeaseGiven
from sansnet_core.orders import Buffer, Endpoint
from sansnet_core.wire import dhcp6, dns_names, udp
from sansnet_core.wire.dhcp6 import Association, Message, Option
from sansnet_core.wire.ip import UDP, IpHeader
from sansnet_core.wire.udp import UdpHeader

__all__ = ["Dhcp6", "Reply", "answer", "refuse_unicast"]

_MAX_CLIENT_ID: Final = 130
"""Type and 128 bytes (RFC 8415, 11.1)."""

_MAX_ASSOCIATIONS: Final = 16
_MAX_ADDRESSES: Final = 16
"""Addresses in one association. A message with more gets no reply, which bounds the size of replies."""

_MAX_SERVERS: Final = 3
"""Resolvers use no more (MAXNS in resolv.h)."""

_ROOM: Final = 1280 - 40 - 8 - 4
"""Bytes of options in a message that is not fragmented at any MTU."""

_PREFERENCE: Final = b"\xff"
"""The client need not wait for other servers (RFC 8415, 18.2.1), which saves it about a second."""

# Flags of the client FQDN option (RFC 4704, 4.1): the client asks for an update of the DNS; the server declines
_FQDN_SERVER: Final = 1
_FQDN_OVERRIDE: Final = 2

_TO_ONE_SERVER: Final = (dhcp6.REQUEST, dhcp6.RENEW, dhcp6.RELEASE, dhcp6.DECLINE)
_TO_ANY_SERVER: Final = (dhcp6.SOLICIT, dhcp6.CONFIRM, dhcp6.REBIND)
_ASSOCIATIONS: Final = (dhcp6.IA_NA, dhcp6.IA_TA, dhcp6.IA_PD)


class Reply(NamedTuple):
    """A reply.

    Attributes:
        message: the reply.
        lease: the address that it gives the guest; None if none.
    """

    message: Message
    lease: bytes | None


def answer(request: Message, config: NetworkConfig) -> Reply | None:
    """The reply to a message; None if there is none.

    Raises:
        Malformed: with DHCP_MALFORMED.
    """
    kind = request.type
    server = dhcp6.duid(config.mac)
    wanted = [option for option in request.options if option[0] in _ASSOCIATIONS]
    if config.ipv6 is None or len(wanted) > _MAX_ASSOCIATIONS:
        return None
    associations = [dhcp6.parse_association(option) for option in wanted]
    if not _acceptable(request, server, associations):
        return None
    address = config.ipv6.address
    options = [(dhcp6.SERVER_ID, server)]
    options += [option for option in request.options if option[0] == dhcp6.CLIENT_ID]
    if kind == dhcp6.CONFIRM:
        named = {named for association in associations for named in association.addresses}
        if not named:
            return None
        # RFC 8415, 18.3.3: the addresses must fit the link, but this server need not have given them
        options.append(dhcp6.emit_status(dhcp6.SUCCESS if _on_link(named, address) else dhcp6.NOT_ON_LINK))
        return Reply(Message(dhcp6.REPLY, request.transaction, tuple(options)), None)
    if kind in (dhcp6.RELEASE, dhcp6.DECLINE):
        options.append(dhcp6.emit_status(dhcp6.SUCCESS))
        options += [_refuse(a, dhcp6.NO_BINDING) for a in associations if address not in a.addresses]
        return Reply(Message(dhcp6.REPLY, request.transaction, tuple(options)), None)
    final = kind != dhcp6.SOLICIT or request.option(dhcp6.RAPID_COMMIT) is not None
    if not final:
        options.append((dhcp6.PREFERENCE, _PREFERENCE))
    elif kind == dhcp6.SOLICIT:
        options.append((dhcp6.RAPID_COMMIT, b""))
    holder = _holder(kind, associations, address)
    for association in associations:
        if association is holder and address is not None:
            options.append(_give(kind, association, address, config.lease_time))
        else:
            options.append(_refuse(association, _status(kind, association, address)))
    options += _network_options(request, config, _ROOM - len(dhcp6.emit_options(options)))
    message = Message(dhcp6.REPLY if final else dhcp6.ADVERTISE, request.transaction, tuple(options))
    return Reply(message, address if final and holder else None)


def refuse_unicast(request: Message, config: NetworkConfig) -> Reply | None:
    """The reply to a message that a client may send by multicast only (RFC 8415, 18.3.2); None if there is none."""
    server = dhcp6.duid(config.mac)
    if request.type not in _TO_ONE_SERVER or not _acceptable(request, server, []):
        return None
    options = [(dhcp6.SERVER_ID, server)]
    options += [option for option in request.options if option[0] == dhcp6.CLIENT_ID]
    options.append(dhcp6.emit_status(dhcp6.USE_MULTICAST))
    return Reply(Message(dhcp6.REPLY, request.transaction, tuple(options)), None)


def _acceptable(request: Message, server: bytes, associations: list[Association]) -> bool:
    """Whether a message is valid (RFC 8415, 16.2 to 16.12) and within our own bounds."""
    kind = request.type
    if any(len(association.addresses) > _MAX_ADDRESSES for association in associations):
        return False
    clients = [value for code, value in request.options if code == dhcp6.CLIENT_ID]
    servers = [value for code, value in request.options if code == dhcp6.SERVER_ID]
    if any(not 0 < len(client) <= _MAX_CLIENT_ID for client in clients) or len(clients) > 1:
        return False
    if kind == dhcp6.INFORMATION_REQUEST:
        return servers in ([], [server]) and not associations
    if kind in _TO_ONE_SERVER:
        return servers == [server] and bool(clients)
    return kind in _TO_ANY_SERVER and not servers and bool(clients)


def _misplaced(kind: int, association: Association, address: bytes | None) -> bool:
    """Whether the client requests an address that is not of this link (RFC 8415, 18.3.2)."""
    return kind == dhcp6.REQUEST and not _on_link(association.addresses, address)


def _on_link(named: Iterable[bytes], address: bytes | None) -> bool:
    """Whether all addresses are of the prefix of our own address for the guest."""
    return all(address is not None and one[:8] == address[:8] for one in named)


def _holder(kind: int, associations: list[Association], address: bytes | None) -> Association | None:
    """The association that gets the address."""
    if address is None:
        return None
    eligible = [a for a in associations if a.kind == dhcp6.IA_NA and not _misplaced(kind, a, address)]
    return next((a for a in eligible if address in a.addresses), eligible[0] if eligible else None)


def _give(kind: int, association: Association, address: bytes, lease_time: int | None) -> Option:
    lifetime = dhcp6.FOREVER if lease_time is None else lease_time
    inner = [dhcp6.emit_address(address, lifetime)]
    if kind in (dhcp6.RENEW, dhcp6.REBIND):
        # RFC 8415, 18.3.4 and 18.3.5: tell the client to stop using them
        inner += [dhcp6.emit_address(other, 0) for other in association.addresses if other != address]
    times = dhcp6.FOREVER, dhcp6.FOREVER
    if lease_time is not None:
        times = max(lease_time // 2, 1), max(lease_time * 4 // 5, 1)  # RFC 8415, 21.4
    return dhcp6.emit_association(association.kind, association.id, inner, times=times)


def _status(kind: int, association: Association, address: bytes | None) -> int:
    """The status code for an association that gets no address."""
    if kind in (dhcp6.RENEW, dhcp6.REBIND):
        return dhcp6.NO_BINDING
    if association.kind == dhcp6.IA_PD:
        return dhcp6.NO_PREFIXES
    return dhcp6.NOT_ON_LINK if _misplaced(kind, association, address) else dhcp6.NO_ADDRESSES


def _refuse(association: Association, status: int) -> Option:
    return dhcp6.emit_association(association.kind, association.id, [dhcp6.emit_status(status)])


def _network_options(request: Message, config: NetworkConfig, room: int) -> list[Option]:
    """The options that the client requested, or all without a request, as many as fit into `room` bytes."""
    listed = request.option(dhcp6.REQUESTED)
    requested = None if listed is None else {int.from_bytes(listed[i : i + 2], "big") for i in range(0, len(listed), 2)}
    fqdn = request.option(dhcp6.CLIENT_FQDN)
    found: list[Option] = []
    if requested is None or dhcp6.DNS_SERVERS in requested:
        servers = [server for server in config.dns_servers if len(server) == 16][:_MAX_SERVERS]
        found.append((dhcp6.DNS_SERVERS, b"".join(servers)))
    if config.fqdn is not None and (fqdn is not None or dhcp6.CLIENT_FQDN in (requested or ())):
        # RFC 4704, 4.1 and 6: the server does not update the DNS, even if the client asks for it
        flags = _FQDN_OVERRIDE if fqdn and fqdn[0] & _FQDN_SERVER else 0
        found.append((dhcp6.CLIENT_FQDN, bytes([flags]) + dns_names.emit(config.fqdn)))
    if requested is None or dhcp6.DOMAIN_SEARCH in requested:
        left = room - len(dhcp6.emit_options(found)) - 4
        found.append((dhcp6.DOMAIN_SEARCH, dns_names.emit_list(config.dns_search, left)))
    return [option for option in found if option[1]]


@mypyc_attr(allow_interpreted_subclasses=True)
class Dhcp6:
    """Connects the server to the network. At most one frame and one notice per frame received."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def receive(self, ip: IpHeader, udp_header: UdpHeader, buf: Buffer) -> None:
        """Take a datagram from the guest to port 547.

        Raises:
            Malformed: with DHCP_MALFORMED.
        """
        context = self._context
        ipv6, reply = context.config.ipv6, None
        request = dhcp6.parse(buf, udp_header.start, udp_header.end)
        if addresses.is_multicast(ip.destination):
            reply = answer(request, context.config)
        elif ipv6 is not None and ip.destination == ipv6.gateway:
            reply = refuse_unicast(request, context.config)
        if reply is None or ipv6 is None:
            ends = (
                Endpoint._make((ip.source, udp_header.source_port)),
                Endpoint._make((ip.destination, dhcp6.SERVER_PORT)),
            )
            context.drop_packet(Reason.DHCP_IGNORED, UDP, *ends)
            return
        message = dhcp6.emit(reply.message)
        datagram = udp.emit(ipv6.gateway, ip.source, dhcp6.SERVER_PORT, dhcp6.CLIENT_PORT, message)
        context.egress.packet(ipv6.gateway, ip.source, UDP, datagram)
        if reply.lease is not None:
            context.guest.learn(reply.lease)
            context.notify(LeaseGiven(reply.lease, context.guest.mac, context.now))
