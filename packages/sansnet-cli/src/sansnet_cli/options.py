"""The command lines of `sansnet run` and `serve`, understood and checked as far as possible without the host."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from sansnet_cli import __version__, values
from sansnet_core.config import GATEWAY_MAC, IPV4_MIN_MTU, IPV6_MIN_MTU
from sansnet_trio.links import MtuLimits, tap

__all__ = [
    "MachineOptions",
    "NetworkOptions",
    "RunOptions",
    "ServeOptions",
    "UsageProblem",
    "parse_run",
    "parse_serve",
    "parser",
    "serve_parser",
]


class UsageProblem(Exception):
    """The command line is wrong; the message is a sentence that names the option."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkOptions:
    """What was asked for, whatever the guest. Where a field is None or empty, the host decides.

    Attributes:
        families: 4 and 6, or one of them.
        own: the guest's addresses, at most one of each family; the prefix length is None where none was given.
        netmask: prefix length for an IPv4 address without one.
        gateways, outbound, map_host_loopback, dns_forward, dns_host: at most one of each family.
        mtu: in bytes; None is the link's default.
        interface: of the host, the template.
        dns: None is not given; empty is none.
        search: likewise.
        hostname, fqdn: of the guest.
        pcap: a file's name.
        gateway_mac: our own Ethernet address.
        map_gateway: whether the gateway is the host's loopback too, in each family without `map_host_loopback`.
        advertise_mtu, advertise_router: whether DHCP and router advertisements tell of them.
        trace: whether each packet is spoken of.
        stats: seconds between tables of counters; None is no table.
        lenient: what cannot be had is left out, with a warning or without one where that is usual.
    """

    families: frozenset[int] = frozenset({4, 6})
    own: tuple[tuple[bytes, int | None], ...] = ()
    netmask: int | None = None
    gateways: tuple[bytes, ...] = ()
    mtu: int | None = None
    interface: str | None = None
    outbound: tuple[bytes, ...] = ()
    map_host_loopback: tuple[bytes, ...] = ()
    dns_forward: tuple[bytes, ...] = ()
    dns_host: tuple[bytes, ...] = ()
    dns: tuple[bytes, ...] | None = None
    search: tuple[str, ...] | None = None
    hostname: str | None = None
    fqdn: str | None = None
    pcap: str | None = None
    tcp: bool = True
    udp: bool = True
    icmp: bool = True
    dhcp: bool = True
    dhcp6: bool = True
    ndp: bool = True
    gateway_mac: bytes = GATEWAY_MAC
    map_gateway: bool = False
    advertise_mtu: bool = True
    advertise_router: bool = True
    lenient: bool = False
    trace: bool = False
    stats: float | None = None
    verbose: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions(NetworkOptions):
    """What `sansnet run` was asked for.

    Attributes:
        command: never empty.
        ifname, mac: of the guest's interface.
        configure: whether we configure it, or the guest does.
    """

    command: tuple[str, ...]
    ifname: str | None = None
    mac: bytes | None = None
    configure: bool = True


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


class _Parser(argparse.ArgumentParser):
    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)  # an option that comes later must not change what is understood

    def error(self, message: str) -> NoReturn:
        raise UsageProblem(f"{message}; see `{self.prog} --help`")


def parser() -> argparse.ArgumentParser:
    """The parser of `sansnet run`; what it parses is for `parse_run` to check further."""
    made = _Parser(
        prog="sansnet run",
        usage="%(prog)s [OPTIONS] [--] [COMMAND [ARG...]]",
        description="Run a command in a network namespace of its own, where the network works, without privileges.",
        epilog=(
            "The guest's addresses, routes and name servers are the host's unless given. Nothing of the host's "
            "loopback is reachable unless asked for. What the command left running is ended with it. The exit status "
            "is the command's, 128 + N if signal N ended it, 127 if there is no such command, 126 if it cannot be "
            "executed, 1 if the network cannot be made, 2 if an option is wrong."
        ),
        add_help=False,
    )
    _add_interface_options(_add_network_options(made, str(tap.MTU.default)))
    _add_name_options(made)
    _add_protocol_options(made)
    _add_other_options(made)
    _add_absent_options(made)
    made.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND", help="default: your shell ($SHELL)")
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
    _add_protocol_options(made)
    _add_other_options(made)
    return made


def _add_other_options(made: argparse.ArgumentParser) -> None:
    other = made.add_argument_group("other")
    other.add_argument("-p", "--pcap", metavar="FILE", help="write all frames of the guest to FILE, in both directions")
    other.add_argument(
        "-v", "--verbose", action="store_true", help="say what was configured and, at the end, what happened"
    )
    other.add_argument(
        "--version", action="version", version=f"sansnet {__version__}", help="print the version and exit"
    )
    other.add_argument("-h", "--help", action="help", help="print this and exit")


_ABSENT: Final = {
    ("-t", "--tcp-ports"): "nothing outside can connect to the guest yet",
    ("-u", "--udp-ports"): "nothing outside can send to the guest first yet",
    ("-T", "--tcp-ns"): "no port of the host's loopback is one of the guest's; see --map-host-loopback",
    ("-U", "--udp-ns"): "no port of the host's loopback is one of the guest's; see --map-host-loopback",
    ("--config-net",): "the guest's interface is configured unless there is --no-config; leave it out",
    ("-q", "--quiet"): "what goes well is not spoken of unless there is -v; leave it out",
    ("-f", "--foreground"): "sansnet is always in the foreground; leave it out",
    ("--no-map-gw",): "the host's loopback is out of reach unless there is --map-host-loopback; leave it out",
}
"""Options that users of pasta know and that are not here, and what to say of them."""


class _Absent(argparse.Action):
    def __call__(self, _parser: object, _namespace: object, _values: object, option_string: str | None = None) -> None:
        raise UsageProblem(f"{option_string}: {_ABSENT[tuple(self.option_strings)]}")


def _add_absent_options(made: argparse.ArgumentParser) -> None:
    for names in _ABSENT:
        made.add_argument(*names, action=_Absent, nargs="?", help=argparse.SUPPRESS)


def _add_network_options(made: argparse.ArgumentParser, default_mtu: str) -> argparse._ArgumentGroup:
    guest = made.add_argument_group("the guest's network; -a, -g, -o and --map-host-loopback once for each family")
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
    guest.add_argument(
        "--map-host-loopback",
        action="append",
        type=values.host,
        default=[],
        metavar="ADDR",
        help="an address by which the guest reaches the host's loopback; default: none",
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
    return {
        "families": families,
        "own": _one_each("-a", parsed.address, lambda own: len(own[0])),
        "netmask": parsed.netmask,
        "gateways": _one_each("-g", parsed.gateway),
        "mtu": parsed.mtu,
        "interface": parsed.interface,
        "outbound": _one_each("-o", parsed.outbound),
        "map_host_loopback": _one_each("--map-host-loopback", parsed.map_host_loopback),
        "dns_forward": _one_each("--dns-forward", parsed.dns_forward),
        "dns_host": _one_each("--dns-host", parsed.dns_host),
        "dns": _listed("-D", parsed.dns),
        "search": _listed("-S", parsed.search),
        "hostname": parsed.hostname,
        "fqdn": parsed.fqdn,
        "pcap": parsed.pcap,
        "tcp": not parsed.no_tcp,
        "udp": not parsed.no_udp,
        "icmp": not parsed.no_icmp,
        "dhcp": not parsed.no_dhcp,
        "dhcp6": not parsed.no_dhcp,
        "ndp": not parsed.no_ndp,
        "verbose": parsed.verbose,
    }


def _one_each(option: str, values: list[Any], size: Callable[[Any], int] = len) -> tuple[Any, ...]:
    sizes = [size(value) for value in values]
    for family, bytes_ in ((4, 4), (6, 16)):
        if sizes.count(bytes_) > 1:
            raise UsageProblem(f"{option} gives more than one IPv{family} address; give one for each family")
    return tuple(values)


def _listed(option: str, values: list[Any]) -> tuple[Any, ...] | None:
    if not values:
        return None
    if None in values:
        if len(values) > 1:
            raise UsageProblem(f"{option} none excludes every other {option}; leave one of them out")
        return ()
    return tuple(values)
