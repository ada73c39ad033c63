"""A DHCP server (RFC 2131) with one address, leased for ever or for the time that the configuration sets.

Theory of operation. There is one guest and one address, so the server stores no leases: a reply is a pure function of
the request and the configuration (`answer`). A client that requests another address gets a NAK at once, so that a
client with a lease of another network starts again.

    DISCOVER                      OFFER, or ACK with rapid commit (RFC 4039)
    REQUEST, our server id        ACK if for our address, else NAK     (SELECTING)
    REQUEST, another server id    no reply: the client accepted the offer of another server
    REQUEST, no server id         ACK if for our address, else NAK     (INIT-REBOOT, RENEWING, REBINDING)
    INFORM                        ACK without an address or a lease
    DECLINE, RELEASE              no reply; the address stays the guest's
    no message type               BOOTP: the same without DHCP's own options (RFC 1534)

The client's limit (option 57) bounds the size of a reply. Options are added in order of importance while they fit. The
search list is shortened to as many whole domains as fit.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from sansnet_core import addresses
from sansnet_core.config import Ipv4Config, NetworkConfig
from sansnet_core.context import Context
from sansnet_core.errors import Reason
from sansnet_core.mypyc import mypyc_attr
from sansnet_core.notices import LeaseGiven
from sansnet_core.orders import Buffer, Endpoint
from sansnet_core.wire import dhcp4, dns_names, udp
from sansnet_core.wire.dhcp4 import Message
from sansnet_core.wire.ethernet import BROADCAST
from sansnet_core.wire.ip import UDP, IpHeader
from sansnet_core.wire.udp import UdpHeader

__all__ = ["Dhcp4", "Reply", "answer"]

FOREVER: Final = b"\xff" * 4
"""A lease that needs no renewal (RFC 2131, 3.3)."""

_BOOTP: Final = 0
"""Stands for the message type of a reply that has none."""

_UNSPECIFIED: Final = bytes(4)
_BROADCAST4: Final = b"\xff" * 4

_MIN_ACCEPTED: Final = 576
"""Bytes that every client accepts (RFC 2132, 9.10), IP and UDP headers included."""
_IP_AND_UDP: Final = 28

_MAX_SERVERS: Final = 3
"""Resolvers use no more (MAXNS in resolv.h)."""

_FQDN_ENCODED: Final = b"\x04\xff\xff"
"""Flag E (the name is in DNS encoding), and both result codes as RFC 4702 (2.2) requires."""


class Reply(NamedTuple):
    """A reply and its destination.

    Attributes:
        message: the reply.
        source: our IPv4 address.
        destination: IPv4 address.
        port: UDP port of the destination.
        lease: whether it gives the guest the address.
    """

    message: Message
    source: bytes
    destination: bytes
    port: int
    lease: bool


def answer(request: Message, config: NetworkConfig) -> Reply | None:
    """The reply to a message; None if there is none.

    A network without a gateway has no address for a server, so it does not reply.
    """
    ipv4 = config.ipv4
    if ipv4 is None or ipv4.gateway is None or request.operation != dhcp4.BOOTREQUEST:
        return None
    kind = _kind(request, ipv4.address, ipv4.gateway)
    if kind is None:
        return None
    final = kind in (_BOOTP, dhcp4.ACK)
    lease = final and request.type != dhcp4.INFORM
    flags = request.flags & dhcp4.BROADCAST_FLAG  # RFC 2131, 2: the others are ignored
    if kind == dhcp4.NAK and request.relay != _UNSPECIFIED:
        flags |= dhcp4.BROADCAST_FLAG  # RFC 2131, 4.3.2: the client may have no address to send to
    message = Message(
        operation=dhcp4.BOOTREPLY,
        hardware_type=request.hardware_type,
        transaction=request.transaction,
        flags=flags,
        client=request.client if final else _UNSPECIFIED,
        yours=ipv4.address if lease or kind == dhcp4.OFFER else _UNSPECIFIED,
        relay=request.relay,
        hardware=request.hardware,
        options=_options(request, kind, config, ipv4, ipv4.gateway),
    )
    return Reply(message, ipv4.gateway, *_destination(message, kind), lease)


def _kind(request: Message, address: bytes, gateway: bytes) -> int | None:
    """The message type of the reply; None for no reply."""
    options = request.options
    match request.type:
        case None:
            return _BOOTP
        case dhcp4.DISCOVER:
            return dhcp4.ACK if dhcp4.RAPID_COMMIT in options else dhcp4.OFFER
        case dhcp4.REQUEST if options.get(dhcp4.SERVER_ID, gateway) == gateway:
            wanted = options.get(dhcp4.REQUESTED_ADDRESS, request.client)
            return dhcp4.ACK if wanted == address else dhcp4.NAK
        case dhcp4.INFORM:
            return dhcp4.ACK
    return None


def _destination(message: Message, kind: int) -> tuple[bytes, int]:
    """Address and port that a reply goes to (RFC 2131, 4.1)."""
    if message.relay != _UNSPECIFIED:
        return message.relay, dhcp4.SERVER_PORT
    if kind == dhcp4.NAK:
        return _BROADCAST4, dhcp4.CLIENT_PORT
    if message.client != _UNSPECIFIED:
        return message.client, dhcp4.CLIENT_PORT
    if message.flags & dhcp4.BROADCAST_FLAG or message.yours == _UNSPECIFIED:
        return _BROADCAST4, dhcp4.CLIENT_PORT
    return message.yours, dhcp4.CLIENT_PORT


def _options(request: Message, kind: int, config: NetworkConfig, ipv4: Ipv4Config, gateway: bytes) -> dict[int, bytes]:
    room = _room(request, config)
    wanted = _dhcp_options(request, kind, config, gateway)
    if kind != dhcp4.NAK:
        wanted += _network_options(config, ipv4, gateway)
    chosen = {}
    for code, value in wanted:
        size = dhcp4.option_size(value)
        if size <= room:
            room -= size
            chosen[code] = value
    if kind != dhcp4.NAK:
        # Each 255 bytes have a header of 2
        search = dns_names.emit_compressed(config.dns_search, room - 2 * -(-room // 257))
        if search:
            chosen[dhcp4.DOMAIN_SEARCH] = search
    return _ordered(chosen, request)


def _room(request: Message, config: NetworkConfig) -> int:
    """Bytes available for options, without the end mark."""
    if request.type is None:
        return dhcp4.MIN_SIZE - dhcp4.OPTIONS - 1
    maximum = request.options.get(dhcp4.MAX_SIZE, b"")
    largest = int.from_bytes(maximum, "big") if len(maximum) == 2 else 0
    largest = max(_MIN_ACCEPTED, min(largest, config.link.mtu))
    return largest - _IP_AND_UDP - dhcp4.OPTIONS - 1


def _dhcp_options(request: Message, kind: int, config: NetworkConfig, gateway: bytes) -> list[tuple[int, bytes]]:
    """Options of the protocol itself, most important first; none for a BOOTP client (RFC 1534, 2)."""
    if kind == _BOOTP:
        return []
    found = [(dhcp4.MESSAGE_TYPE, bytes([kind])), (dhcp4.SERVER_ID, gateway)]
    if kind == dhcp4.NAK:
        found.append((dhcp4.ERROR_TEXT, b"not an address of this network"))
    elif request.type != dhcp4.INFORM:
        found.append((dhcp4.LEASE_TIME, FOREVER if config.lease_time is None else config.lease_time.to_bytes(4, "big")))
        if request.type == dhcp4.DISCOVER and kind == dhcp4.ACK:
            found.append((dhcp4.RAPID_COMMIT, b""))
    if dhcp4.CLIENT_ID in request.options:
        found.append((dhcp4.CLIENT_ID, request.options[dhcp4.CLIENT_ID]))  # RFC 6842
    return found


def _network_options(config: NetworkConfig, ipv4: Ipv4Config, gateway: bytes) -> list[tuple[int, bytes]]:
    """Options that describe the network, most important first; the search list is added later."""
    mask = 0xFFFFFFFF << 32 - ipv4.prefix_length & 0xFFFFFFFF
    found = [(dhcp4.SUBNET_MASK, mask.to_bytes(4, "big")), (dhcp4.ROUTER, gateway)]
    if (int.from_bytes(gateway, "big") ^ int.from_bytes(ipv4.address, "big")) & mask:
        # RFC 3442: a route to the gateway on the link itself, and a default route by the gateway
        found.append((dhcp4.CLASSLESS_ROUTES, b"\x20" + gateway + _UNSPECIFIED + b"\x00" + gateway))
    if config.advertise_mtu:
        found.append((dhcp4.INTERFACE_MTU, config.link.mtu.to_bytes(2, "big")))
    servers = [server for server in config.dns_servers if len(server) == 4]
    if servers:
        found.append((dhcp4.DNS_SERVERS, b"".join(servers[:_MAX_SERVERS])))
    if config.hostname is not None:
        found.append((dhcp4.HOST_NAME, config.hostname.encode("ascii")))
    if config.fqdn is not None:
        found.append((dhcp4.CLIENT_FQDN, _FQDN_ENCODED + dns_names.emit(config.fqdn)))
    if config.dns_search:
        found.append((dhcp4.DOMAIN_NAME, config.dns_search[0].removesuffix(".").encode()))
    return found


def _ordered(options: dict[int, bytes], request: Message) -> dict[int, bytes]:
    """Requested options in the client's order (RFC 2132, 9.8), then the others; the type is first unless requested."""
    requested = list(request.options.get(dhcp4.PARAMETER_LIST, b""))
    order = dict.fromkeys([*requested, *sorted(options)])
    if dhcp4.MESSAGE_TYPE not in requested:
        order = {dhcp4.MESSAGE_TYPE: None, **order}
    return {code: options[code] for code in order if code in options}


_ROUTINE: Final = (dhcp4.DISCOVER, dhcp4.REQUEST, dhcp4.RELEASE, dhcp4.INFORM)
"""Messages that may get no reply without being drops: RELEASE, REQUEST to another server; all if there is no server."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Dhcp4:
    """Connects the server to the network. At most one frame and one notice per frame received."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def receive(self, ip: IpHeader, udp_header: UdpHeader, buf: Buffer) -> None:
        """Take a datagram from the guest to port 67.

        Raises:
            Malformed: with DHCP_MALFORMED.
        """
        context = self._context
        request = dhcp4.parse(buf, udp_header.start, udp_header.end)
        reply = answer(request, context.config)
        if reply is None and request.operation == dhcp4.BOOTREQUEST and request.type in _ROUTINE:
            context.ignore()
            return
        if reply is None or not (
            addresses.is_broadcast(reply.destination) or context.address_map.is_node(reply.destination)
        ):  # the client may have given an address that a node cannot have
            ends = (
                Endpoint._make((ip.source, udp_header.source_port)),
                Endpoint._make((ip.destination, dhcp4.SERVER_PORT)),
            )
            context.drop_packet(Reason.DHCP_IGNORED, UDP, *ends)
            return
        message, source, destination, port, lease = reply
        datagram = udp.emit(source, destination, dhcp4.SERVER_PORT, port, dhcp4.emit(message))
        # To the station that sent the request: two stations may get the address, and neither uses it yet
        mac = BROADCAST if addresses.is_broadcast(destination) else context.guest.mac
        context.egress.packet(source, destination, UDP, datagram, mac=mac)
        if lease:
            context.guest.learn(message.yours)
            context.notify(LeaseGiven(message.yours, message.hardware, context.now))
