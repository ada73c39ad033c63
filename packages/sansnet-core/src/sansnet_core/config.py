"""The configuration of a network: addresses, services, limits. Read-only, keyword-only, checked when made.

A wrong value raises `ConfigError`, a missing or unknown field `TypeError`.
An address is given as text, as an object of `ipaddress` or as bytes in network order (4 or 16), and read as bytes.
`records.replace` copies a configuration with some fields changed.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import Any, Final, Self

from sansnet_core import fields
from sansnet_core.addresses import (
    AnyAddress,
    AnyInterface,
    AnyPrefix,
    Endpoint,
    Prefix,
    format,
    is_link_local,
    packed_interface,
)
from sansnet_core.errors import ConfigError
from sansnet_core.fields import (
    Address,
    Addresses,
    AnyEndpoint,
    Endpoints,
    Mac,
    OptionalAddress,
    OptionalAddresses,
    OptionalMac,
    Part,
    Prefixes,
    instance,
    optional,
    several,
)
from sansnet_core.known_ports import KNOWN_UDP_PORTS
from sansnet_core.policy import Action, NameMode, ProxyConfig, Rule
from sansnet_core.policy.policy import check_proxies
from sansnet_core.records import Converted, Record, field, replace

__all__ = [
    "GATEWAY_MAC",
    "IPV4_MIN_MTU",
    "IPV6_MIN_MTU",
    "MAX_ADDRESSES",
    "MIN_MEMORY",
    "Ipv4Config",
    "Ipv6Config",
    "Limits",
    "LinkConfig",
    "NetworkConfig",
    "ResolverConfig",
    "UdpFiltering",
]

GATEWAY_MAC: Final = bytes.fromhex("9a559a559a55")
"""Locally administered. pasta uses the same, so guests' neighbour caches stay valid when one replaces the other."""

IPV4_MIN_MTU: Final = 68
"""Bytes (RFC 791, 3.2)."""
IPV6_MIN_MTU: Final = 1280
"""Bytes (RFC 8200, 5)."""

MAX_ADDRESSES: Final = 8
"""Most addresses of a name per family. With the longest name, an answer fits into 512 bytes (RFC 1035, 4.2.1)."""


MIN_MEMORY: Final = 8 << 20
"""Bytes that the network of a guest takes at least; see `Limits.within`."""
_FULL_MEMORY: Final = 1 << 30
"""Bytes that a network takes at most with the default limits, approximately."""
_COUNTS: Final = (
    "tcp_flows",
    "tcp_inbound_flows",
    "udp_flows",
    "udp_inbound_flows",
    "undecided_flows",
    "echo_flows",
    "names",
    "name_questions",
    "reassembly_datagrams",
)
"""The limits on objects of some kilobytes each. One TCP connection takes 4 KiB beside its data."""
_MIN_COUNT: Final = 16


class LinkConfig(Record):
    """The capabilities of a link.

    Attributes:
        mtu: largest IP packet in bytes. An MTU of 1500 means Ethernet frames of up to 1514 bytes.
        max_frame_size: largest frame in bytes, with the Ethernet header, without `virtio_net_hdr`. With segmentation
            offload it is larger than the MTU requires. It is also the snaplen of captures.
        vnet_header: every frame, both ways, begins with the 12-byte `virtio_net_hdr`.
        checksum_offload: the guest accepts frames whose TCP or UDP checksum is partial (VIRTIO_NET_HDR_F_NEEDS_CSUM).
        tso4, tso6, uso: the guest accepts frames larger than the MTU, to be segmented by it.
        verify_checksums: verify the guest's checksums. Off by default: a local link does not corrupt frames. Alone of
            these fields, it can be changed later by `Network.reconfigure`.
    """

    mtu: int = 65520
    max_frame_size: int = 65535
    vnet_header: bool = False
    checksum_offload: bool = False
    tso4: bool = False
    tso6: bool = False
    uso: bool = False
    verify_checksums: bool = False

    def __post_init__(self) -> None:
        if not IPV4_MIN_MTU <= self.mtu <= 65535:
            raise ConfigError(f"mtu: {self.mtu} is not between {IPV4_MIN_MTU} and 65535")
        if self.max_frame_size < self.mtu + 14:
            raise ConfigError(
                f"max_frame_size: {self.max_frame_size} cannot hold a packet of the MTU, {self.mtu} bytes"
            )
        if (self.checksum_offload or self.tso4 or self.tso6 or self.uso) and not self.vnet_header:
            raise ConfigError("checksum_offload, tso4, tso6, uso: they need vnet_header")
        if (self.tso4 or self.tso6 or self.uso) and not self.checksum_offload:
            raise ConfigError("tso4, tso6, uso: they need checksum_offload")


def _interface4(value: AnyInterface) -> Any:
    """An IPv4 address, and its prefix length if it has one."""
    own, length = fields.interface(value)
    return fields.address4(own), length


def _address6(value: AnyInterface) -> bytes:
    """An IPv6 address whose prefix length, if it has one, is 64."""
    own, length = packed_interface(value)
    if length not in (None, 64):
        raise ValueError(
            f"{value!r:.100}: the prefix of the guest's network has 64 bits always (RFC 4862); leave out /{length}"
        )
    return fields.address6(own)


class Ipv4Config(Record, label="ipv4."):
    """IPv4 on the guest's segment, such as `Ipv4Config(address="10.0.2.15/24", gateway="10.0.2.2")`.

    Attributes:
        address: the guest's address, 4 bytes in network order. It may be given with its prefix length.
        prefix_length: prefix length of the guest's network, 0 to 32; may be left out if the address has one.
        gateway: our address on the segment, which DHCP names as server and router; None for a network without a
            gateway.
    """

    address: Converted[AnyInterface, bytes] = field(_interface4)
    prefix_length: Converted[int | None, int] = field(fields.prefix_length, default=None)
    gateway: OptionalAddress = field(optional(fields.address4))

    def __post_init__(self) -> None:
        fields.settle_prefix_length(self, "address")

    def __replace__(self, /, **changes: Any) -> Self:
        return super().__replace__(**fields.without_old_length(changes, "address"))


class Ipv6Config(Record, label="ipv6."):
    """IPv6 on the guest's segment.

    Attributes:
        address: the guest's global address, whose /64 is advertised; None if it has only a link-local one.
        gateway: our link-local address, the source of router advertisements and DHCPv6 replies.
    """

    address: Converted[AnyInterface | None, bytes | None] = field(optional(_address6))
    gateway: Address = field(fields.address6)


class Limits(Record):
    """Bounds on memory and time that a hostile guest or outsider can use. Sizes are bytes, times are seconds."""

    tcp_flows: int = 65536
    """TCP connections, inbound ones included."""
    tcp_pending: int = 4096
    """Connections of the guest whose host socket is still connecting; a new one replaces the oldest. The same limit
    holds separately for inbound connections whose handshake with the guest is not complete."""
    tcp_inbound_flows: int = 32768
    """Inbound connections among `tcp_flows`; the rest is reserved for the guest's own."""
    udp_flows: int = 8192
    """UDP flows that the guest began; a new one replaces the least recently used."""
    udp_inbound_flows: int = 8192
    """UDP flows that outsiders began. A new one replaces the least recently used of them, so that outsiders cannot
    evict the guest's flows."""
    undecided_flows: int = 1024
    """Flows of the guest that wait for a verdict, for each protocol; a new one is dropped. The same limit holds
    separately for inbound flows."""
    decision_time: float = 30.0
    """Time after which a flow without a verdict is refused."""
    echo_flows: int = 1024
    """Ping flows; a new one replaces the least recently used."""
    echo_rate: float = 50.0
    """Pings to the host per second, on average, if there are rules or a default action other than `ALLOW`."""
    echo_burst: int = 100
    """Pings at once under such rules."""
    echo_size: int = 1472
    """Bytes of data of one ping under such rules: as many as fit into 1500 bytes of IPv4. IPv6 has 20 fewer."""
    stations: int = 1024
    """IP addresses of the guest whose Ethernet addresses are kept."""
    tcp_window: int = 4 << 20
    """Bytes that one connection may hold towards the host; also the largest window offered to the guest."""
    tcp_send_buffer: int = 4 << 20
    """Bytes that one connection may hold towards the guest."""
    tcp_memory: int = 512 << 20
    """Bytes that all connections together may hold. Above half of it, windows shrink; at the limit, no more is read
    from host sockets.

    Data beyond a gap is discarded first. Even at the limit, up to 16 KiB of data in order are accepted from the guest
    for each connection, so that none stalls."""
    tcp_reassembly_segments: int = 1024
    """Out-of-order pieces that one connection may hold."""
    reassembly_datagrams: int = 64
    """IP datagrams in reassembly."""
    reassembly_fragments: int = 64
    """Fragments of one datagram."""
    reassembly_time: float = 30.0
    """Time in which all fragments of a datagram must arrive."""
    icmp_error_rate: float = 1000.0
    """ICMP errors to the guest per second, on average (RFC 1812 4.3.2.8, RFC 4443 2.4 f)."""
    icmp_error_burst: int = 250
    """ICMP errors to the guest at once."""
    refusal_rate: float = 200.0
    """Notices about refused flows per second, on average, and as many about names. Those beyond it are counted."""
    refusal_burst: int = 1000
    """Notices about refused flows at once, and as many about names."""
    udp_idle_once: float = 30.0
    """Idle time of a UDP flow with datagrams in one direction only, or with one question and its answer."""
    udp_idle_stream: float = 180.0
    """Idle time of all other UDP flows (RFC 4787, 4.3)."""
    name_streams: int = 32
    """TCP connections to our own resolver; a new one resets the oldest."""
    name_questions: int = 512
    """Questions of the guest that wait for an answer; a new one fails."""
    name_rate: float = 200.0
    """Questions to the host's name servers per second, on average; those beyond it fail."""
    name_burst: int = 2000
    """Questions to the host's name servers at once."""
    names: int = 16384
    """Names that have an address of their own, and real addresses that stand for names; a new one takes the place of
    the least recently used, to which no flow is open."""
    name_cache: int = 4 << 20
    """Bytes of answers that are kept, approximately."""
    echo_idle: float = 60.0
    """Idle time after which a ping flow ends."""
    tcp_keepalive: float = 7200.0
    """Idle time after which keep-alive probes are sent to the guest (RFC 9293, 3.8.4); also the most time that a host
    has to take the data of a connection that the guest has closed completely."""
    tcp_linger: float = 2.0
    """TIME-WAIT towards the guest: how long a closed connection is kept, to acknowledge a repeated FIN."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value > 0:
                raise ConfigError(f"{name}: must be more than 0")

    def within(self, memory: int) -> Limits:
        """These limits, lowered for a network that may take about `memory` bytes.

        Half of the memory is for the data of TCP connections (`tcp_memory`), a quarter for the connections themselves,
        and the rest for everything else. From 1 GiB on, the default limits stay as they are.

        Args:
            memory: in bytes; less than 8 MiB counts as 8 MiB.
        """
        memory = max(memory, MIN_MEMORY)
        if memory >= _FULL_MEMORY:
            return self
        lowered: dict[str, int] = {}
        for name in _COUNTS:
            lowered[name] = max(self._defaults[name] * memory // _FULL_MEMORY, _MIN_COUNT)
        lowered["tcp_pending"] = lowered["tcp_flows"] // 2
        lowered["tcp_memory"] = memory // 2
        lowered["tcp_window"] = lowered["tcp_send_buffer"] = memory // 16
        lowered["name_cache"] = memory // 256
        return replace(self, **{name: min(getattr(self, name), most) for name, most in lowered.items()})


class UdpFiltering(Enum):
    """The sources that a UDP socket of the guest receives from, once the guest has sent from it (RFC 4787, 5)."""

    ENDPOINT_INDEPENDENT = "endpoint-independent"
    """Every remote endpoint, as for a socket of the host."""
    ADDRESS_DEPENDENT = "address-dependent"
    """Every port of the addresses that the guest sent to."""
    ADDRESS_AND_PORT_DEPENDENT = "address-and-port-dependent"
    """The endpoints that the guest sent to."""


def _forwarded(value: tuple[AnyAddress, AnyEndpoint]) -> tuple[bytes, Endpoint]:
    """An address that the guest queries, and the name server that answers."""
    if not isinstance(value, tuple) or len(value) != 2:
        raise ValueError(f"{value!r:.100} is not a pair of an address and the endpoint of a name server")
    match, server = fields.address(value[0]), fields.endpoint(value[1])
    if len(match) != len(server.address):
        raise ValueError(f"'{format(match)}' and '{server}' are of different families; give two of one")
    return match, server


def _host(value: tuple[str, Iterable[AnyAddress]]) -> tuple[str, tuple[bytes, ...]]:
    """A name and its addresses."""
    if not isinstance(value, tuple) or len(value) != 2 or not isinstance(value[0], str):
        raise ValueError(f"{value!r:.100} is not a pair of a name and its addresses")
    return value[0], several(fields.address)(value[1])


class ResolverConfig(Record):
    """Our own resolver, which answers all questions to port 53 of `dns_servers` and of `dns_forward`'s addresses.

    Attributes:
        servers: the name servers of the host that are asked, in order.
        names: how the guest sees the addresses of names.
        families: the families in which the host reaches others, 4 and 6, the preferred one first.
        prefix4, prefix6: the addresses that names get with `NameMode.OWN`.
        min_ttl, max_ttl: seconds; the lifetime of a name's addresses is that of its records within these bounds.
        grace: seconds by which a binding outlives its records, since programs keep addresses for too long.
    """

    servers: Endpoints = field(several(fields.endpoint), default=())
    names: Part[NameMode] = field(instance(NameMode), default=NameMode.OWN)
    families: tuple[int, ...] = (6, 4)
    prefix4: Converted[AnyPrefix, Prefix] = field(fields.prefix, default=Prefix("198.18.0.0/15"))
    prefix6: Converted[AnyPrefix, Prefix] = field(fields.prefix, default=Prefix("fd73:616e:736e:6574::/64"))
    min_ttl: float = 5.0
    max_ttl: float = 3600.0
    grace: float = 120.0

    def __post_init__(self) -> None:
        if not self.families or not set(self.families) <= {4, 6} or len(set(self.families)) < len(self.families):
            raise ConfigError(f"families: {self.families!r:.100} is not (6, 4), (4, 6), (4,) or (6,)")
        for name, size in (("prefix4", 4), ("prefix6", 16)):
            prefix = getattr(self, name)
            if len(prefix.address) != size or prefix.length > 8 * size - 2:
                raise ConfigError(f"{name}: {prefix} is not a network of IPv{4 if size == 4 else 6} with several hosts")
        if not 1 <= self.min_ttl <= self.max_ttl:
            raise ConfigError("min_ttl, max_ttl: they must be at least 1, and the second not below the first")
        if self.grace < 0:
            raise ConfigError(f"grace: {self.grace} is below 0")


class NetworkConfig(Record):
    """The configuration of one guest's network.

    Attributes:
        link: the capabilities of the link.
        mac: our Ethernet address.
        guest_mac: the guest's Ethernet address, if known; used until the guest sends its first frame.
        ipv4, ipv6: None switches the family off.
        advertise_mtu: whether DHCP (option 26) and router advertisements tell the guest the link's MTU.
        dns_servers: addresses advertised to the guest, either family.
        dns_search: search domains advertised.
        dns_forward: pairs (address that the guest queries, endpoint of the host's name server, whose address may have
            a zone: `addresses.with_zone`). Port 53 is mapped to the endpoint's port. Port 853 is mapped to 853 only if
            the endpoint's port is 53; otherwise the server's port for DNS over TLS is unknown.
        hosts: pairs (name, its addresses). The network answers the guest's queries for such a name, if they go to a
            name server of `dns_servers` or `dns_forward`. A query for a name without addresses is only reported
            (`NameAsked`), and forwarded. At most 8 addresses per family, so that they fit into a short answer.
        hostname, fqdn: given to the guest by DHCP and DHCPv6.
        map_host_loopback: addresses, at most one per family, by which the guest reaches the host's loopback.
        map_guest_address: addresses, at most one per family, by which the guest reaches the host at the address that
            both have.
        own_addresses: addresses that exist on the guest's segment only. Pings to them are answered; other packets to
            them are refused, unless they are mapped. None means the gateways, and the addresses of `dns_forward` that
            the guest queries. Leave out an address if the guest must reach the node of the host's network that has it.
        learn_addresses: whether the guest's addresses follow the sources of its packets; otherwise they are always
            those of `ipv4` and `ipv6`. A link-local IPv6 address is learnt in either case.
        outbound4, outbound6: source address of host sockets; None leaves the choice to the kernel.
        tcp, udp, icmp: whether the protocol is translated.
        virtual: prefixes that exist in the program only. Pings to them are answered; other packets to them go to a
            service of the program (`Network.service_added`), or are refused. No host socket is opened for them, also if
            one of `map_host_loopback`, `map_guest_address` or `dns_forward` is among them.
        rules: decide about new flows; the first that matches counts.
        default_action: decides if no rule matches. None means `ALLOW`; where the program gives a network a `decide`
            function (`sansnet_trio.open_network`, ...), it means `ASK`.
        resolver: our own resolver; None forwards the guest's questions to the name servers. It is needed if rules have
            names.
        proxies: the proxies of rules with `via`.
        reserved_udp_ports: ports that the host's sockets for the guest's datagrams are not bound to, although the guest
            sends from them, because services of the host may need them. A forwarded port is used in any case.
        host_addresses: the host's own addresses, and networks that are all its own, for rules about `Group.HOST`.
        translators: prefixes of NAT64 translators of the host's network (RFC 6052), beside 64:ff9b::/96. Rules judge an
            address behind one by the IPv4 address in it, too.
        udp_filtering: the sources that the guest's UDP sockets receive from. Forwarded ports receive from all.
        dhcp, dhcp6, ndp, router_advertisements: whether the service is on.
        lease_time: seconds for which DHCP and DHCPv6 give an address; clients renew after half of it. None means for
            ever.
        notices: whether flows and leases are reported; the driver must then call `Network.take_notices`.
        limits: bounds on memory and time.

    Raises:
        ConfigError: a value is wrong; the message names the field.
    """

    link: Part[LinkConfig] = field(instance(LinkConfig), default=LinkConfig())
    mac: Mac = field(fields.mac, default=GATEWAY_MAC)
    guest_mac: OptionalMac = field(optional(fields.mac), default=None)
    ipv4: Part[Ipv4Config | None] = field(optional(instance(Ipv4Config)), default=None)
    ipv6: Part[Ipv6Config | None] = field(optional(instance(Ipv6Config)), default=None)
    advertise_mtu: bool = True
    dns_servers: Addresses = field(several(fields.address), default=())
    dns_search: tuple[str, ...] = ()
    dns_forward: Converted[Iterable[tuple[AnyAddress, AnyEndpoint]], tuple[tuple[bytes, Endpoint], ...]] = field(
        several(_forwarded), default=()
    )
    hosts: Converted[Iterable[tuple[str, Iterable[AnyAddress]]], tuple[tuple[str, tuple[bytes, ...]], ...]] = field(
        several(_host), default=()
    )
    hostname: str | None = None
    fqdn: str | None = None
    map_host_loopback: Addresses = field(fields.one_per_family, default=())
    map_guest_address: Addresses = field(fields.one_per_family, default=())
    own_addresses: OptionalAddresses = field(optional(several(fields.address)), default=None)
    learn_addresses: bool = True
    outbound4: OptionalAddress = field(optional(fields.address4), default=None)
    outbound6: OptionalAddress = field(optional(fields.host_address6), default=None)
    virtual: Prefixes = field(several(fields.prefix), default=())
    rules: Converted[Iterable[Rule], tuple[Rule, ...]] = field(several(instance(Rule)), default=())
    default_action: Part[Action | None] = field(optional(instance(Action)), default=None)
    resolver: Part[ResolverConfig | None] = field(optional(instance(ResolverConfig)), default=None)
    proxies: Converted[Iterable[ProxyConfig], tuple[ProxyConfig, ...]] = field(
        several(instance(ProxyConfig)), default=()
    )
    reserved_udp_ports: Converted[Iterable[int], tuple[int, ...]] = field(several(fields.port), default=KNOWN_UDP_PORTS)
    host_addresses: Prefixes = field(several(fields.prefix), default=())
    translators: Prefixes = field(several(fields.prefix), default=())
    tcp: bool = True
    udp: bool = True
    icmp: bool = True
    udp_filtering: Part[UdpFiltering] = field(instance(UdpFiltering), default=UdpFiltering.ENDPOINT_INDEPENDENT)
    dhcp: bool = True
    dhcp6: bool = True
    ndp: bool = True
    router_advertisements: bool = True
    lease_time: int | None = None
    notices: bool = False
    limits: Part[Limits] = field(instance(Limits), default=Limits())

    def __post_init__(self) -> None:
        if self.ipv4 is None and self.ipv6 is None:
            raise ConfigError("ipv4, ipv6: at least one family must be on")
        if self.ipv6 and self.ndp and self.router_advertisements and not is_link_local(self.ipv6.gateway):
            raise ConfigError(
                f"ipv6.gateway: guests ignore a router at {format(self.ipv6.gateway)}, which is not link-local "
                "(RFC 4861, 6.1.2); give an address such as fe80::1, or router_advertisements=False"
            )
        _check_hosts(self.hosts)
        check_proxies(self.rules, self.proxies)
        if self.translators:
            from sansnet_core.policy.embedded import checked_translators

            try:
                checked_translators(self.translators)
            except ValueError as wrong:
                raise ConfigError(f"translators: {wrong}") from None
        if self.lease_time is not None and not 0 < self.lease_time < 1 << 31:
            raise ConfigError(f"lease_time: {self.lease_time} is not a number of seconds above 0")
        for domain in self.dns_search:
            _check_name("dns_search", domain)
        for name, text in (("hostname", self.hostname), ("fqdn", self.fqdn)):
            if text is not None:
                _check_name(name, text)


def _check_hosts(hosts: tuple[tuple[str, tuple[bytes, ...]], ...]) -> None:
    names = set()
    for name, addresses in hosts:
        _check_name("hosts", name)
        if name.lower().removesuffix(".") in names:
            raise ConfigError(f"hosts: {name!r} occurs twice; give all its addresses in one pair")
        names.add(name.lower().removesuffix("."))
        sizes = [len(each) for each in addresses]
        if max(sizes.count(4), sizes.count(16)) > MAX_ADDRESSES:
            raise ConfigError(f"hosts: {name!r} may have up to {MAX_ADDRESSES} addresses of each family")


def _check_name(field_name: str, name: str) -> None:
    """Check a domain name (RFC 1035, 2.3.4)."""
    bare = name.removesuffix(".")
    if (
        not name.isascii()
        or not name.isprintable()
        or " " in name
        or not all(0 < len(label) < 64 for label in bare.split("."))
        or len(bare) > 253
    ):
        raise ConfigError(f"{field_name}: {name!r} is not a domain name")
