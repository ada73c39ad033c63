"""Exceptions, and the reasons for which packets are dropped."""

from __future__ import annotations

from enum import Enum

__all__ = ["ConfigError", "HeaderProblem", "Malformed", "Reason", "SansnetError", "UsageError", "expect"]


class Reason(Enum):
    """Why a packet, a datagram or a connection was dropped; the value describes it for users.

    Every drop is counted under one of these names (`Network.statistics`).
    """

    ETHERNET_TRUNCATED = "frame shorter than an Ethernet header"
    ETHERNET_SOURCE = "frame with a group address as its source"
    ETHERNET_DESTINATION = "frame to the Ethernet address of another station"
    ETHERNET_TYPE = "EtherType other than ARP, IPv4 and IPv6, or of a family that is switched off"
    FRAME_TOO_LARGE = "frame larger than the link's largest frame"
    VNET_HEADER = "virtio_net_hdr truncated, with offsets outside the frame, or with too many datagrams"
    ARP_MALFORMED = "ARP packet that is not IPv4 over Ethernet, or truncated, or from a group address"
    IPV4_MALFORMED = "IPv4 header truncated, or version, header length or total length wrong"
    IPV4_CHECKSUM = "IPv4 header checksum wrong"
    IPV4_SOURCE_ROUTE = "IPv4 packet to another destination, by a source route that is not complete"
    IPV6_MALFORMED = "IPv6 header truncated, or version or payload length wrong"
    IPV6_EXTENSION = "IPv6 extension header chain broken, too long, or not allowed"
    IP_SOURCE = "source address that a guest may not use (loopback, multicast, broadcast, one of sansnet)"
    IP_DESTINATION = "destination address that the configuration closes"
    IP_BROADCAST = "broadcast, which stays on the guest's segment: Linux would pass it to the host's own services too"
    OWN_ADDRESS = "packet to a closed port of an address that exists on the guest's segment only"
    IP_PROTOCOL = "IP protocol that is not translated"
    IP_TTL = "TTL or hop limit of 0"
    PROTOCOL_CLOSED = "TCP, UDP or ping while the configuration switches it off"
    FRAGMENT_MALFORMED = "fragment with an impossible offset or length"
    FRAGMENT_OVERLAP = "fragments that overlap (RFC 5722): the whole datagram is dropped"
    FRAGMENT_LIMIT = "more fragments or datagrams in reassembly than the limits allow"
    FRAGMENT_TIMEOUT = "datagram whose fragments did not all arrive in time"
    ICMP_MALFORMED = "ICMP or ICMPv6 message truncated or with a wrong checksum"
    ICMP_TYPE = "ICMP or ICMPv6 message of a type that is not handled"
    ICMP_MTU = "ICMP error that asks for smaller segments, about none under way to the guest or with an impossible MTU"
    NDP_MALFORMED = "NDP message that RFC 4861 requires to discard, or too long, or with a group as link-layer address"
    DHCP_MALFORMED = "DHCP or DHCPv6 message truncated, too long, or with broken or too many options"
    DHCP_IGNORED = "DHCP or DHCPv6 message that this server does not answer"
    UDP_MALFORMED = "UDP header truncated or length wrong"
    UDP_CHECKSUM = "UDP checksum wrong"
    UDP_PORT = "UDP datagram with port 0"
    UDP_LIMIT = "UDP flow beyond the configured limit"
    TCP_MALFORMED = "TCP header truncated or data offset wrong"
    TCP_CHECKSUM = "TCP checksum wrong"
    TCP_PORT = "TCP segment with port 0"
    TCP_FLAGS = "TCP segment with SYN and FIN that belongs to no connection"
    TCP_LIMIT = "TCP connection beyond the configured limit"
    TCP_MEMORY = "TCP data beyond the window or the memory budget"
    TCP_SEQUENCE = "TCP segment outside the window or not acceptable in the flow's state"
    REFUSED = "new flow that a rule or a verdict refuses"
    NAME_REFUSED = "connection whose first bytes name a host that the rules do not allow, or no host"
    NAME_UNRESOLVED = "new flow to a name that has no address, or none that the rules allow"
    NAME_LIMIT = "question or flow beyond the limits of what waits for names"
    PROXY = "flow that a rule sends through a proxy which cannot carry it: ping, UDP by HTTP, or to the host itself"
    DNS_MALFORMED = "DNS query that is truncated, compressed in a loop, or has more than one question"
    UNDECIDED = "new flow without a verdict in time"
    UNDECIDED_LIMIT = "new flow, or datagram of one, beyond the limits of what waits for verdicts"
    ECHO_LIMIT = "echo flow beyond the configured limit"
    ECHO_RATE = "ping beyond the size or the rate that is possible where there are rules"
    INBOUND_SOURCE = "inbound traffic whose source the guest could not address: invalid, or without an alias"
    INBOUND_GUEST = "inbound traffic of a family in which the guest has no address"
    INBOUND_COLLISION = "inbound traffic that the guest could not tell from another connection or flow"
    HOST_SOURCE = "inbound datagram that the filter rejects, or from a source that the guest could not have sent to"
    HOST_SIZE = "datagram or echo reply over IPv6 that is larger than IPv4, in which the guest sees it, can carry"
    HOST_SEND = "datagram or ping that failed on the host or beyond"
    FAILED = "frame or flow at which sansnet itself failed, by a mistake in it; its log tells where the recording is"
    ICMP_LIMIT = "ICMP error beyond the rate limit of ICMP errors to the guest"


class SansnetError(Exception):
    """Base of all exceptions that sansnet defines; never raised itself."""


class ConfigError(SansnetError, ValueError):
    """A configuration is wrong; the message names the field and the remedy."""


class UsageError(SansnetError, RuntimeError):
    """The driver broke the contract of a method. Nothing has changed."""


def expect(name: str, value: object, kind: type | tuple[type, ...], wanted: str) -> None:
    """Check the type of an argument.

    Args:
        name: name of the argument.
        value: its value.
        kind: its type; True and False are no integers.
        wanted: what it should be, with an article.

    Raises:
        UsageError: it has another type.
    """
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise UsageError(f"{name}: {value!r:.100} is not {wanted}")


class Malformed(SansnetError):
    """Bytes from the guest are invalid, or may not pass. `Network` catches it and counts the drop.

    Args:
        reason: why; also an attribute.
    """

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.value)
        self.reason = reason


class HeaderProblem(Malformed):
    """An IPv6 packet has a header error that is reported to its sender (RFC 4443, 3.4).

    Args:
        reason: why it is dropped.
        code: code of the Parameter Problem.
        pointer: offset of the wrong field in the packet, in bytes.
        to_groups: whether the error is reported even if the packet went to more than one node.
    """

    def __init__(self, reason: Reason, code: int, pointer: int, *, to_groups: bool = False) -> None:
        super().__init__(reason)
        self.code = code
        self.pointer = pointer
        self.to_groups = to_groups
