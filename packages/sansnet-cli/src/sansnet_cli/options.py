"""The command lines of `sansnet run`, `attach`, `serve` and `qemu`, checked as far as possible without the host."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn

from sansnet_cli import __version__, values
from sansnet_cli.ports import PortOptions, add_port_options, read_ports
from sansnet_core.config import GATEWAY_MAC, IPV4_MIN_MTU, IPV6_MIN_MTU
from sansnet_core.errors import ConfigError
from sansnet_trio.links import MtuLimits, tap

__all__ = [
    "AttachOptions",
    "MachineOptions",
    "NamespaceOptions",
    "NetworkOptions",
    "QemuOptions",
    "RunOptions",
    "ServeOptions",
    "UsageProblem",
    "attach_parser",
    "new_parser",
    "parse_attach",
    "parse_qemu",
    "parse_run",
    "parse_serve",
    "parser",
    "serve_parser",
]

_LINKS: Final = ("vhost-user", "stream")


class UsageProblem(Exception):
    """The command line is wrong; the message is a sentence that names the option."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkOptions:
    """What was asked for, whatever the guest. Where a field is None or empty, the host decides.

    Attributes:
        families: 4 and 6, or one of them.
        own: the guest's addresses, at most one of each family; the prefix length is None where none was given.
        netmask: prefix length for an IPv4 address without one.
        gateways, outbound, map_host_loopback, map_guest_address, dns_forward, dns_host: at most one of each family.
        mtu: in bytes; None is the link's default.
        interface: of the host, the template; None is that of `outbound_if4` and `outbound_if6`.
        outbound_if4, outbound_if6: of the host, the only one that what leaves uses.
        dns: None is not given; empty is none.
        search: likewise.
        hostname, fqdn: of the guest.
        pcap: a file's name.
        control: path of the control socket.
        ports: that are forwarded.
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
    dns_host: tuple[bytes, ...] = ()
    dns: tuple[bytes, ...] | None = None
    search: tuple[str, ...] | None = None
    hostname: str | None = None
    fqdn: str | None = None
    pcap: str | None = None
    control: str | None = None
    tcp: bool = True
    udp: bool = True
    icmp: bool = True
    dhcp: bool = True
    dhcp6: bool = True
    ndp: bool = True
    verbose: bool = False
    ports: PortOptions = field(default_factory=PortOptions)
    copy_routes: bool = True
    copy_addresses: bool = True
    gateway_mac: bytes = GATEWAY_MAC
    map_gateway: bool = False
    advertise_mtu: bool = True
    advertise_router: bool = True
    lenient: bool = False
    trace: bool = False
    stats: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NamespaceOptions(NetworkOptions):
    """What was asked for a guest in a network namespace.

    Attributes:
        ifname, mac: of the guest's interface.
        configure: whether we configure it, or the guest does.
    """

    ifname: str | None = None
    mac: bytes | None = None
    configure: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions(NamespaceOptions):
    """What `sansnet run` was asked for.

    Attributes:
        command: never empty.
    """

    command: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AttachOptions(NamespaceOptions):
    """What `sansnet attach` was asked for: the namespaces of a process, or a network namespace of a name or path.

    Attributes:
        pid: the process.
        netns: the network namespace instead.
        userns: path of the user namespace to enter before that.
        ends_with_namespace: whether to end when the namespace is gone.
    """

    pid: int | None = None
    netns: str | None = None
    userns: str | None = None
    ends_with_namespace: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineOptions(NetworkOptions):
    """What was asked for the network of a virtual machine.

    Attributes:
        vhost_user: whether that is what the machine speaks, and not the protocol of `-netdev stream`.
    """

    vhost_user: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOptions(MachineOptions):
    """What `sansnet serve` was asked for: a socket's path, or a connected socket.

    Attributes:
        socket: where guests connect.
        fd: a connected socket instead.
        one_off: end with the first guest.
    """

    socket: str | None = None
    fd: int | None = None
    one_off: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class QemuOptions(MachineOptions):
    """What `sansnet qemu` was asked for.

    Attributes:
        program: QEMU; None is the one for machines like this one.
        arguments: QEMU's.
    """

    program: str | None = None
    arguments: tuple[str, ...] = ()


class _Parser(argparse.ArgumentParser):
    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)  # an option that comes later must not change what is understood

    def error(self, message: str) -> NoReturn:
        raise UsageProblem(f"{message}; see `{self.prog} --help`")


def new_parser(**options: Any) -> argparse.ArgumentParser:
    """An empty parser with our manners: a mistake is a `UsageProblem`."""
    return _Parser(**options)


class _QemuParser(_Parser):
    def error(self, message: str) -> NoReturn:
        raise UsageProblem(f"{message}; QEMU's own arguments belong behind --, see `{self.prog} --help`")


def parser() -> argparse.ArgumentParser:
    """The parser of `sansnet run`; what it parses is for `parse_run` to check further."""
    made = _Parser(
        prog="sansnet run",
        usage="%(prog)s [OPTIONS] [--] [COMMAND [ARG...]]",
        description="Run a command in a network namespace of its own, where the network works, without privileges.",
        epilog=(
            "The guest's addresses, routes and name servers are the host's unless given. Nothing of the host's "
            "loopback is reachable, and nothing outside can connect to the guest, unless asked for. What the command "
            "left running is ended with it. The exit status is the command's, 128 + N if signal N ended it, 127 if "
            "there is no such command, 126 if it cannot be executed, 1 if the network cannot be made, 2 if an option "
            "is wrong."
        ),
        add_help=False,
    )
    _add_interface_options(_add_network_options(made, str(tap.MTU.default)))
    _add_name_options(made)
    add_port_options(made, namespace=True)
    _add_protocol_options(made)
    _add_other_options(made)
    _add_absent_options(made)
    made.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND", help="default: your shell ($SHELL)")
    return made


def attach_parser() -> argparse.ArgumentParser:
    """The parser of `sansnet attach`; what it parses is for `parse_attach` to check further."""
    made = _Parser(
        prog="sansnet attach",
        usage="%(prog)s [OPTIONS] PID\n       %(prog)s [OPTIONS] --netns PATH|NAME [--userns PATH]",
        description="Be the network of a network namespace that exists already, such as a container's.",
        epilog=(
            "The guest's addresses and routes are the host's unless given; its files, as /etc/resolv.conf, are left "
            "alone. Nothing of the host's loopback is reachable unless asked for. It ends with status 0 when the "
            "namespace is gone, or by SIGTERM and SIGINT; 1 is a network that cannot be made, 2 a wrong option."
        ),
        add_help=False,
    )
    namespace = made.add_argument_group("the namespace")
    namespace.add_argument(
        "pid", nargs="?", type=values.pid, metavar="PID", help="a process; its user and network namespaces are entered"
    )
    namespace.add_argument(
        "--netns",
        type=values.path,
        metavar="PATH",
        help="a network namespace, by its file, or by its name for `ip netns`",
    )
    namespace.add_argument(
        "--userns", type=values.path, metavar="PATH", help="the user namespace that it belongs to; default: ours"
    )
    namespace.add_argument(
        "--no-netns-quit", action="store_true", help="go on when the process has ended or the file is deleted"
    )
    _add_interface_options(_add_network_options(made, str(tap.MTU.default)))
    _add_name_options(made)
    add_port_options(made, namespace=True)
    _add_protocol_options(made)
    _add_other_options(made)
    _add_absent_options(made)
    return made


def serve_parser() -> argparse.ArgumentParser:
    """The parser of `sansnet serve`; what it parses is for `parse_serve` to check further."""
    made = _Parser(
        prog="sansnet serve",
        usage="%(prog)s [--vhost-user] (--socket PATH | --fd FD) [OPTIONS]",
        description="Be the network of a virtual machine: of QEMU with -netdev stream,id=n0,server=off,addr.type=unix,"
        "addr.path=PATH -device virtio-net-pci,netdev=n0; or, much faster, with --vhost-user: of QEMU with "
        "-chardev socket,id=c0,path=PATH,reconnect=1 -netdev vhost-user,id=n0,chardev=c0 -device virtio-net-pci,"
        "netdev=n0 -object memory-backend-memfd,id=m0,size=SIZE,share=on -machine memory-backend=m0, where SIZE is "
        "that of -m. One machine at a time; a second one is refused.",
        epilog=(
            "The guest learns its addresses, routes and name servers by DHCP, DHCPv6 and router advertisements; they "
            "are the host's unless given. Nothing of the host's loopback is reachable unless asked for. SIGTERM and "
            "SIGINT end it with status 0; 1 is a network that cannot be made, 2 a wrong option."
        ),
        add_help=False,
    )
    machine = made.add_argument_group("the machine")
    machine.add_argument("--vhost-user", action="store_true", help="share the machine's memory (x86-64 only)")
    machine.add_argument("-s", "--socket", type=values.path, metavar="PATH", help="the UNIX socket to listen on")
    machine.add_argument(
        "-F", "--fd", type=values.descriptor, metavar="FD", help="a connected socket; implies --one-off"
    )
    machine.add_argument("-1", "--one-off", action="store_true", help="end when the first machine has gone")
    stream, vhost_user = (_machine_mtu(choice).default for choice in (False, True))
    _add_network_options(made, f"{stream}; with --vhost-user what the machine names (host_mtu), or {vhost_user}")
    _add_name_options(made)
    add_port_options(made, namespace=False)
    _add_protocol_options(made)
    _add_other_options(made)
    return made


def qemu_parser() -> argparse.ArgumentParser:
    """The parser of `sansnet qemu`; what it parses is for `parse_qemu` to check further."""
    made = _QemuParser(
        prog="sansnet qemu",
        usage="%(prog)s [OPTIONS] -- QEMU-ARGUMENT...",
        description="Run QEMU with a network card whose network is sansnet. What follows -- is QEMU's own, such as "
        "-m 1G -drive file=disk.qcow2.",
        epilog=(
            "Over vhost-user QEMU's memory is made so that it can be shared, unless your own arguments say what it is "
            "(-machine memory-backend=...), which then needs share=on. The guest learns its addresses, routes and name "
            "servers by DHCP, DHCPv6 and router advertisements; they are the host's unless given. Nothing of the "
            "host's loopback is reachable unless asked for. The exit status is QEMU's, 128 + N if signal N ended it, "
            "127 if there is no such program, 1 if the network cannot be made or QEMU is too old, 2 if an option is "
            "wrong."
        ),
        add_help=False,
    )
    machine = made.add_argument_group("the machine")
    machine.add_argument(
        "--qemu",
        type=values.path,
        metavar="PROGRAM",
        help="QEMU 7.2 or newer; default: qemu-system-... of this processor",
    )
    machine.add_argument(
        "--link",
        choices=_LINKS,
        help="how the machine is connected; default: vhost-user on x86-64, stream on other processors",
    )
    stream, vhost_user = (_machine_mtu(choice).default for choice in (False, True))
    _add_network_options(made, f"{vhost_user}, or {stream} with --link stream")
    _add_name_options(made)
    add_port_options(made, namespace=False)
    _add_protocol_options(made)
    _add_other_options(made)
    made.add_argument("arguments", nargs=argparse.REMAINDER, metavar="QEMU-ARGUMENT", help="see QEMU's --help")
    return made


def _add_other_options(made: argparse.ArgumentParser) -> None:
    other = made.add_argument_group("other")
    other.add_argument("-p", "--pcap", metavar="FILE", help="write all frames of the guest to FILE, in both directions")
    other.add_argument(
        "-c",
        "--conf-path",
        type=values.path,
        metavar="PATH",
        help="let `sansnet ctl PATH` look on and forward other ports",
    )
    other.add_argument(
        "-v", "--verbose", action="store_true", help="say what was configured and, at the end, what happened"
    )
    other.add_argument(
        "--version", action="version", version=f"sansnet {__version__}", help="print the version and exit"
    )
    other.add_argument("-h", "--help", action="help", help="print this and exit")


_ABSENT: Final = {
    ("--config-net",): "the guest's interface is configured unless there is --no-config; leave it out",
    ("-q", "--quiet"): "what goes well is not spoken of unless there is -v; leave it out",
    ("-f", "--foreground"): "sansnet is always in the foreground; leave it out",
}
"""Options that users of pasta know and that are not here, and what to say of them."""


class _Absent(argparse.Action):
    def __call__(self, _parser: object, _namespace: object, _values: object, option_string: str | None = None) -> None:
        raise UsageProblem(f"{option_string}: {_ABSENT[tuple(self.option_strings)]}")


def _add_absent_options(made: argparse.ArgumentParser) -> None:
    for names in _ABSENT:
        made.add_argument(*names, action=_Absent, nargs="?", help=argparse.SUPPRESS)


def _add_network_options(made: argparse.ArgumentParser, default_mtu: str) -> argparse._ArgumentGroup:
    guest = made.add_argument_group("the guest's network; -a, -g, -o and --map-... once for each family")
    guest.add_argument("-4", "--ipv4-only", action="store_true", dest="only4", help="no IPv6")
    guest.add_argument("-6", "--ipv6-only", action="store_true", dest="only6", help="no IPv4")
    guest.add_argument(
        "-a",
        "--address",
        action="append",
        type=values.own,
        default=[],
        metavar="ADDR[/LEN]",
        help="the guest's address",
    )
    guest.add_argument(
        "-n",
        "--netmask",
        type=values.netmask,
        metavar="MASK",
        help="mask or length, if an IPv4 -a has none; default: by class",
    )
    guest.add_argument(
        "-g",
        "--gateway",
        action="append",
        type=values.host,
        default=[],
        metavar="ADDR",
        help="the guest's default gateway",
    )
    guest.add_argument(
        "-m",
        "--mtu",
        type=values.mtu,
        metavar="BYTES",
        help=f"of the guest's interface; default: {default_mtu}",
    )
    guest.add_argument(
        "-i",
        "--interface",
        metavar="NAME",
        help="the host's interface that is copied; default: that of its default route",
    )
    guest.add_argument(
        "-o",
        "--outbound",
        action="append",
        type=values.host,
        default=[],
        metavar="ADDR",
        help="the host's address to send from",
    )
    for family in (4, 6):
        guest.add_argument(
            f"--outbound-if{family}",
            type=values.ifname,
            metavar="NAME",
            help=f"the host's interface to send IPv{family} from, and without -i the one that is copied",
        )
    guest.add_argument(
        "--map-host-loopback",
        action="append",
        type=values.none_or(values.host),
        default=[],
        metavar="ADDR",
        help="an address by which the guest reaches the host's loopback; `none`, the default, for none",
    )
    guest.add_argument(
        "--no-map-gw",
        action="store_true",
        help="the default: the gateway does not stand for the host's loopback",
    )
    guest.add_argument(
        "--map-guest-addr",
        action="append",
        type=values.none_or(values.host),
        default=[],
        metavar="ADDR",
        help="an address by which the guest reaches the host's own address, which is the guest's too; default: none",
    )
    guest.add_argument(
        "-H", "--hostname", type=values.hostname, metavar="NAME", help="the guest's host name, by DHCP too"
    )
    guest.add_argument(
        "--fqdn",
        type=values.domain,
        metavar="NAME",
        help="the guest's full name, by DHCP; default: a -H with a dot in it",
    )
    return guest


def _add_interface_options(guest: argparse._ArgumentGroup) -> None:
    guest.add_argument(
        "-I",
        "--ns-ifname",
        type=values.ifname,
        metavar="NAME",
        help="the guest's interface; default: the copied one's name, or tap0",
    )
    guest.add_argument(
        "--ns-mac-addr", type=values.mac, metavar="MAC", help="the guest's Ethernet address; default: random"
    )
    guest.add_argument(
        "--no-config",
        action="store_true",
        help="leave the guest's interface down and unconfigured: the command uses DHCP, SLAAC or DHCPv6",
    )


def _add_name_options(made: argparse.ArgumentParser) -> None:
    names = made.add_argument_group("names")
    names.add_argument(
        "-D",
        "--dns",
        action="append",
        type=values.none_or(values.host),
        default=[],
        metavar="ADDR",
        help="a name server for the guest, repeatable; `none` for none; default: the host's",
    )
    names.add_argument(
        "-S",
        "--search",
        action="append",
        type=values.none_or(values.domain),
        default=[],
        metavar="DOMAIN",
        help="a search domain for the guest, repeatable; `none` for none; default: the host's",
    )
    names.add_argument(
        "--dns-forward",
        action="append",
        type=values.host,
        default=[],
        metavar="ADDR",
        help="an address; what the guest asks there goes to --dns-host; default: the gateway's, if the host's resolver "
        "is on loopback",
    )
    names.add_argument(
        "--dns-host",
        action="append",
        type=values.resolver,
        default=[],
        metavar="ADDR",
        help="where queries to --dns-forward go; default: the host's first name server",
    )


def _add_protocol_options(made: argparse.ArgumentParser) -> None:
    protocols = made.add_argument_group("protocols")
    for name, what in {
        "tcp": "do not translate TCP",
        "udp": "do not translate UDP",
        "icmp": "do not translate ping",
        "dhcp": "do not answer DHCP and DHCPv6",
        "ndp": "do not answer NDP, nor advertise a router",
    }.items():
        protocols.add_argument(f"--no-{name}", action="store_true", help=what)


def parse_run(arguments: Sequence[str]) -> RunOptions:
    """Understand what follows `sansnet run`.

    Raises:
        UsageProblem: something is wrong with it.
        SystemExit: it asked for the help or the version, which have been printed.
    """
    parsed = parser().parse_args(arguments)
    command = parsed.command[1:] if parsed.command[:1] == ["--"] else parsed.command
    return RunOptions(
        **_network_options(parsed, tap.MTU),
        command=tuple(command) or (os.environ.get("SHELL") or "/bin/sh",),
        ifname=parsed.ns_ifname,
        mac=parsed.ns_mac_addr,
        configure=not parsed.no_config,
    )


def parse_attach(arguments: Sequence[str]) -> AttachOptions:
    """Understand what follows `sansnet attach`.

    Raises:
        UsageProblem: something is wrong with it.
        SystemExit: it asked for the help or the version, which have been printed.
    """
    parsed = attach_parser().parse_args(arguments)
    if (parsed.pid is None) == (parsed.netns is None):
        raise UsageProblem("give either the PID of a process or --netns; see `sansnet attach --help`")
    if parsed.userns is not None and parsed.netns is None:
        raise UsageProblem("--userns goes with --netns: of a process both namespaces are entered; leave it out")
    return AttachOptions(
        **_network_options(parsed, tap.MTU),
        pid=parsed.pid,
        netns=parsed.netns,
        userns=parsed.userns,
        ends_with_namespace=not parsed.no_netns_quit,
        ifname=parsed.ns_ifname,
        mac=parsed.ns_mac_addr,
        configure=not parsed.no_config,
    )


def parse_serve(arguments: Sequence[str]) -> ServeOptions:
    """Understand what follows `sansnet serve`.

    Raises:
        UsageProblem: something is wrong with it.
        SystemExit: it asked for the help or the version, which have been printed.
    """
    parsed = serve_parser().parse_args(arguments)
    if (parsed.socket is None) == (parsed.fd is None):
        raise UsageProblem("give either --socket PATH or --fd FD; see `sansnet serve --help`")
    return ServeOptions(
        **_network_options(parsed, _machine_mtu(parsed.vhost_user)),
        vhost_user=parsed.vhost_user,
        socket=parsed.socket,
        fd=parsed.fd,
        one_off=parsed.one_off or parsed.fd is not None,
    )


def parse_qemu(arguments: Sequence[str]) -> QemuOptions:
    """Understand what follows `sansnet qemu`.

    Raises:
        UsageProblem: something is wrong with it.
        SystemExit: it asked for the help or the version, which have been printed.
    """
    from sansnet_trio.links import vhost_user

    parsed = qemu_parser().parse_args(arguments)
    shared = vhost_user.is_supported() if parsed.link is None else parsed.link == "vhost-user"
    return QemuOptions(
        **_network_options(parsed, _machine_mtu(shared)),
        vhost_user=shared,
        program=parsed.qemu,
        arguments=tuple(parsed.arguments[1:] if parsed.arguments[:1] == ["--"] else parsed.arguments),
    )


def _machine_mtu(shared: bool) -> MtuLimits:
    """Which MTUs the link of a machine can have, whose memory is shared or not."""
    from sansnet_trio.links import unix_stream, vhost_user  # not at the start of `run`, which needs neither

    return vhost_user.MTU if shared else unix_stream.MTU


def _network_options(parsed: argparse.Namespace, mtu: MtuLimits) -> dict[str, Any]:
    """The fields of `NetworkOptions`, for a guest whose link has an MTU within limits."""
    if parsed.mtu is not None and not IPV4_MIN_MTU <= parsed.mtu <= mtu.largest:
        raise UsageProblem(f"-m {parsed.mtu} is not between {IPV4_MIN_MTU} and {mtu.largest} bytes; give another one")
    if parsed.only4 and parsed.only6:
        raise UsageProblem("-4 and -6 leave no family; give one of them, or neither for both")
    if parsed.netmask is not None and any(len(own) == 4 and length is not None for own, length in parsed.address):
        raise UsageProblem("-n gives a second mask to an address that has one (-a ADDR/LEN); leave one of them out")
    families = frozenset({4}) if parsed.only4 else frozenset({6}) if parsed.only6 else frozenset({4, 6})
    if families == {6} and parsed.mtu is not None and parsed.mtu < IPV6_MIN_MTU:
        raise UsageProblem(f"-m {parsed.mtu} is too small for IPv6, which needs {IPV6_MIN_MTU} bytes; leave out -6")
    try:
        ports = read_ports(parsed)
    except ConfigError as error:
        raise UsageProblem(str(error)) from None
    return {
        "families": families,
        "own": _one_each("-a", parsed.address, lambda own: len(own[0])),
        "netmask": parsed.netmask,
        "gateways": _one_each("-g", parsed.gateway),
        "mtu": parsed.mtu,
        "interface": parsed.interface,
        "outbound": _one_each("-o", parsed.outbound),
        "outbound_if4": parsed.outbound_if4,
        "outbound_if6": parsed.outbound_if6,
        "map_host_loopback": _mapped("--map-host-loopback", parsed.map_host_loopback),
        "map_guest_address": _mapped("--map-guest-addr", parsed.map_guest_addr),
        "dns_forward": _one_each("--dns-forward", parsed.dns_forward),
        "dns_host": _one_each("--dns-host", parsed.dns_host),
        "dns": _listed("-D", parsed.dns),
        "search": _listed("-S", parsed.search),
        "hostname": parsed.hostname,
        "fqdn": parsed.fqdn,
        "pcap": parsed.pcap,
        "control": parsed.conf_path,
        "tcp": not parsed.no_tcp,
        "udp": not parsed.no_udp,
        "icmp": not parsed.no_icmp,
        "dhcp": not parsed.no_dhcp,
        "dhcp6": not parsed.no_dhcp,
        "ndp": not parsed.no_ndp,
        "verbose": parsed.verbose,
        "ports": ports,
    }


def _one_each(option: str, values: list[Any], size: Callable[[Any], int] = len) -> tuple[Any, ...]:
    sizes = [size(value) for value in values]
    for family, bytes_ in ((4, 4), (6, 16)):
        if sizes.count(bytes_) > 1:
            raise UsageProblem(f"{option} gives more than one IPv{family} address; give one for each family")
    return tuple(values)


def _mapped(option: str, values: list[Any]) -> tuple[bytes, ...]:
    """Addresses, one for each family, or none."""
    return _one_each(option, list(_listed(option, values) or ()))


def _listed(option: str, values: list[Any]) -> tuple[Any, ...] | None:
    if not values:
        return None
    if None in values:
        if len(values) > 1:
            raise UsageProblem(f"{option} none excludes every other {option}; leave one of them out")
        return ()
    return tuple(values)
