"""What `sansnet run`, `attach`, `serve` and `qemu` were asked for. Their command lines are read in `parsers`."""

from __future__ import annotations

from sansnet_cli.options.ports import PortOptions
from sansnet_core.addresses import Endpoint
from sansnet_core.config import GATEWAY_MAC, UdpFiltering
from sansnet_core.records import Record

__all__ = [
    "AttachOptions",
    "MachineOptions",
    "NamespaceOptions",
    "NetworkOptions",
    "QemuOptions",
    "RunOptions",
    "ServeOptions",
    "CommandLineError",
]


class CommandLineError(Exception):
    """The command line is wrong; the message is a sentence that names the option."""


class NetworkOptions(Record):
    """What was asked for, whatever the guest. Where a field is None or empty, the host decides.

    Attributes:
        families: 4 and 6, or one of them.
        own: the guest's addresses, at most one of each family; the prefix length is None where none was given.
        netmask: prefix length for an IPv4 address without one.
        gateways, outbound, map_host_loopback, map_guest_address, dns_forward, dns_host: at most one of each family.
        hosts: pairs (name in lower case, address) for the guest; None is the address by which it reaches the host.
        mtu: in bytes; None is the link's default.
        interface: of the host, the template; None is that of `outbound_if4` and `outbound_if6`.
        outbound_if4, outbound_if6: of the host, the only one that what leaves uses.
        dns: None is not given; empty is none.
        search: likewise.
        hostname, fqdn: of the guest.
        pcap: a file's name.
        control: path of the control socket.
        ports: that are forwarded.
        udp_filtering: from whom the guest's UDP sockets hear.
        copy_routes: whether the guest has all of the host's routes, or the default one only.
        copy_addresses: whether it has all of the host's addresses, or one of each family.
        gateway_mac: our own Ethernet address.
        map_gateway: whether the gateway is the host's loopback too, in each family without `map_host_loopback`.
        advertise_mtu, advertise_router: whether DHCP and router advertisements tell of them.
        lenient: what cannot be had is left out, with a warning or without one where that is usual.
        trace: whether each packet is spoken of.
        stats: seconds between tables of counters; None is no table.
    """

    families: frozenset[int] = frozenset({4, 6})
    own: tuple[tuple[bytes, int | None], ...] = ()
    netmask: int | None = None
    gateways: tuple[bytes, ...] = ()
    mtu: int | None = None
    interface: str | None = None
    outbound: tuple[bytes, ...] = ()
    outbound_if4: str | None = None
    outbound_if6: str | None = None
    map_host_loopback: tuple[bytes, ...] = ()
    map_guest_address: tuple[bytes, ...] = ()
    dns_forward: tuple[bytes, ...] = ()
    dns_host: tuple[Endpoint, ...] = ()
    hosts: tuple[tuple[str, bytes | None], ...] = ()
    dns: tuple[bytes, ...] | None = None
    search: tuple[str, ...] | None = None
    hostname: str | None = None
    fqdn: str | None = None
    pcap: str | None = None
    control: str | None = None
    tcp: bool = True
    udp: bool = True
    icmp: bool = True
    udp_filtering: UdpFiltering = UdpFiltering.ENDPOINT_INDEPENDENT
    dhcp: bool = True
    dhcp6: bool = True
    ndp: bool = True
    verbose: bool = False
    ports: PortOptions = PortOptions()
    copy_routes: bool = True
    copy_addresses: bool = True
    gateway_mac: bytes = GATEWAY_MAC
    map_gateway: bool = False
    advertise_mtu: bool = True
    advertise_router: bool = True
    lenient: bool = False
    trace: bool = False
    stats: float | None = None


class NamespaceOptions(NetworkOptions):
    """What was asked for a guest in a network namespace.

    Attributes:
        ifname, mac: of the guest's interface.
        configure: whether we configure it, or the guest does.
    """

    ifname: str | None = None
    mac: bytes | None = None
    configure: bool = True


class RunOptions(NamespaceOptions):
    """What `sansnet run` was asked for.

    Attributes:
        command: never empty.
        root: whether an ordinary user's command is root in the guest's user namespace.
    """

    command: tuple[str, ...]
    root: bool = False


class AttachOptions(NamespaceOptions):
    """What `sansnet attach` was asked for: the namespaces of a process, or a network namespace of a name or path.

    Attributes:
        pid: the process.
        netns: the network namespace instead.
        userns: path of the user namespace to enter before that.
        ends_with_namespace: whether to end when the namespace is gone.
        background: return when it is attached, and go on in the background.
        pid_file: for the process id.
    """

    pid: int | None = None
    netns: str | None = None
    userns: str | None = None
    ends_with_namespace: bool = True
    background: bool = False
    pid_file: str | None = None


class MachineOptions(NetworkOptions):
    """What was asked for the network of a virtual machine.

    Attributes:
        vhost_user: whether that is what the machine speaks, and not the protocol of `-netdev stream`.
    """

    vhost_user: bool = False


class ServeOptions(MachineOptions):
    """What `sansnet serve` was asked for: the path of a socket, or one that is open.

    Attributes:
        socket: where guests connect.
        fd: a socket instead that is connected, or listens.
        one_off: end with the first guest, as with a connected socket.
        background: return when guests can connect, and serve them in the background.
        pid_file: for the process id.
    """

    socket: str | None = None
    fd: int | None = None
    one_off: bool = False
    background: bool = False
    pid_file: str | None = None


class QemuOptions(MachineOptions):
    """What `sansnet qemu` was asked for.

    Attributes:
        program: QEMU; None is the one for machines like this one.
        arguments: QEMU's.
    """

    program: str | None = None
    arguments: tuple[str, ...] = ()
