"""The options that all commands with a guest share, and the fields of records that they become."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from itertools import pairwise, takewhile
from typing import Any, Final, NoReturn, TypeAlias

from sansnet_cli.options import values
from sansnet_cli.options.impairment import add_impairment_options, impairment_options
from sansnet_cli.options.limits import add_limit_options, limit_options
from sansnet_cli.options.policy import add_policy_options, policy_options
from sansnet_cli.options.ports import PortOptions, add_port_options, read_ports
from sansnet_cli.options.record import add_record_options, record_options
from sansnet_cli.options.records import CommandLineError
from sansnet_cli.options.sandbox import add_sandbox_options, sandbox_options
from sansnet_cli.options.values import typed
from sansnet_cli.output.stdout import put
from sansnet_cli.version import version
from sansnet_core import addresses
from sansnet_core.addresses import Endpoint
from sansnet_core.config import IPV4_MIN_MTU, IPV6_MIN_MTU, MAX_ADDRESSES, UdpFiltering
from sansnet_core.errors import ConfigError
from sansnet_trio.links import MtuLimits, tap
from sansnet_trio.plan.options import DNS_PORT

__all__ = ["Parser", "add_options", "namespace_options", "network_options", "with_examples"]


# Messages are English, as all of ours are: `Parser.explained` reads them, and the search for translations takes 2 ms
vars(argparse)["_"] = str


class _Formatter(argparse.HelpFormatter):
    """Keeps the help easy to copy: no line breaks within option names, and indented paragraphs stay as they are."""

    def _split_lines(self, text: str, width: int) -> list[str]:
        import textwrap

        return textwrap.wrap(" ".join(text.split()), width, break_on_hyphens=False)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        paragraphs = text.split("\n\n")
        filled = [each if each[0] == " " else "\n".join(self._split_lines(each, width)) for each in paragraphs]
        return "\n".join(indent + line for line in "\n\n".join(filled).splitlines())


class Parser(argparse.ArgumentParser):
    """A parser that raises `CommandLineError`."""

    def __init__(self, **options: Any) -> None:
        # No abbreviations: a new option must not change the meaning of an existing command line
        super().__init__(allow_abbrev=False, formatter_class=_Formatter, **options)

    def _print_message(self, message: str, file: object = None) -> None:
        """Print the help or the version; argparse itself ignores a failure to write."""
        put(message)

    def error(self, message: str) -> NoReturn:
        """Raise a `CommandLineError` that proposes a correction and names the help."""
        raise CommandLineError(f"{self.explained(message)}; see `{self.prog} --help`")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As in the base class; keeps the words for `explained`."""
        self._words = sys.argv[1:] if args is None else list(args)
        return super().parse_known_args(self._words, namespace)

    def explained(self, message: str) -> str:
        """A message of argparse with a proposal for a correction."""
        from sansnet_cli.options.proposals import explain

        if message.endswith(": expected one argument"):
            message = self._explain_minus() or message
        shown = [action for action in self._actions if action.help != argparse.SUPPRESS]
        return explain(message, [option for action in shown for option in action.option_strings])

    def _explain_minus(self) -> str | None:
        """The message about a value that argparse takes for an option, because it begins with a minus; None without."""
        for option, value in pairwise(takewhile("--".__ne__, self._words)):
            action = self._option_string_actions.get(option)
            known = value.partition("=")[0] in self._option_string_actions
            if action is None or action.nargs == 0 or known or not value.startswith("-"):
                continue
            try:
                self._get_values(action, [value])
            except argparse.ArgumentError as error:
                return str(error)
            return f"argument {option}: {value} is taken for an option; write {option}={value}"
        return None


def with_examples(text: str, *lines: str) -> str:
    """The end of a command's help: a paragraph, and example lines."""
    return "\n\n".join([text, "examples:", "\n".join(f"  {line}" for line in lines)])


def add_options(made: argparse.ArgumentParser, *, namespace: bool, default_mtu: str = str(tap.MTU.default)) -> None:
    """Add all of these options, some of them only for a guest in a namespace.

    Args:
        made: the command's parser.
        namespace: whether the guest is in a namespace, and not a virtual machine.
        default_mtu: the default MTU, as text for the help.
    """
    guest = _add_network_options(made, default_mtu)
    if namespace:
        _add_interface_options(guest)
    _add_absent_options(guest, {**_ABSENT, **(_ABSENT_OF_NAMESPACES if namespace else _ABSENT_OF_MACHINES)})
    _add_name_options(made, namespace=namespace)
    add_port_options(made, namespace=namespace)
    add_policy_options(made)
    add_impairment_options(made)
    _add_protocol_options(made)
    _add_other_options(made)


def _add_network_options(made: argparse.ArgumentParser, default_mtu: str) -> argparse._ArgumentGroup:
    guest = made.add_argument_group("the guest's network; give -a, -g, -o and --map-... once per family")
    guest.add_argument("-4", "--ipv4-only", action="store_true", dest="only4", help="give the guest no IPv6")
    guest.add_argument("-6", "--ipv6-only", action="store_true", dest="only6", help="give the guest no IPv4")
    guest.add_argument(
        "-a",
        "--address",
        action="append",
        type=typed(values.own),
        default=[],
        metavar="ADDR[/LEN]",
        help="the guest's address; default: the host's",
    )
    guest.add_argument(
        "-n",
        "--netmask",
        type=typed(values.netmask),
        metavar="MASK",
        help="the mask or prefix length of an IPv4 address given without one; default: by class",
    )
    guest.add_argument(
        "-g",
        "--gateway",
        action="append",
        type=typed(values.host),
        default=[],
        metavar="ADDR",
        help="the guest's default gateway; default: the host's",
    )
    guest.add_argument(
        "-m",
        "--mtu",
        type=typed(values.mtu),
        metavar="BYTES",
        help=f"the MTU of the guest's interface; default: {default_mtu}; 1500 with --delay and the like",
    )
    guest.add_argument(
        "-i",
        "--interface",
        metavar="NAME",
        help="the host's interface to copy addresses and routes from; default: that of the default route",
    )
    guest.add_argument(
        "-o",
        "--outbound",
        action="append",
        type=typed(values.host),
        default=[],
        metavar="ADDR",
        help="the source address of outgoing traffic, one of the host's",
    )
    for family in (4, 6):
        guest.add_argument(
            f"--outbound-if{family}",
            type=typed(values.ifname),
            metavar="NAME",
            help=f"the host's interface for outgoing IPv{family} traffic, ignoring routes; also the default of -i",
        )
    guest.add_argument(
        "--map-host-loopback",
        action="append",
        type=typed(values.none_or(values.stand_in)),
        default=[],
        metavar="ADDR",
        help="an address by which the guest reaches the host's loopback, with the name host.sansnet.internal; or "
        "`none`, the default",
    )
    guest.add_argument(
        "--no-map-gw",
        action="store_true",
        help="do not map the gateway's address to the host's loopback; this is the default",
    )
    guest.add_argument(
        "--map-guest-addr",
        action="append",
        type=typed(values.none_or(values.stand_in)),
        default=[],
        metavar="ADDR",
        help="an address by which the guest reaches the host's own address, which it shares; default: none",
    )
    guest.add_argument(
        "-H",
        "--hostname",
        type=typed(values.hostname),
        metavar="NAME",
        help="the guest's host name, also sent by DHCP",
    )
    guest.add_argument(
        "--fqdn",
        type=typed(values.domain),
        metavar="NAME",
        help="the guest's full name, sent by DHCP; default: that of -H, if it has a dot",
    )
    return guest


def _add_interface_options(guest: argparse._ArgumentGroup) -> None:
    guest.add_argument(
        "-I",
        "--ns-ifname",
        type=typed(values.ifname),
        metavar="NAME",
        help="the name of the guest's interface; default: that of the host's interface, or tap0",
    )
    guest.add_argument(
        "--ns-mac-addr", type=typed(values.mac), metavar="MAC", help="the guest's Ethernet address; default: random"
    )
    guest.add_argument(
        "--no-config",
        action="store_true",
        help="leave the interface to the guest, which configures it by DHCP, SLAAC or DHCPv6",
    )


def _add_name_options(made: argparse.ArgumentParser, *, namespace: bool) -> None:
    names = made.add_argument_group("names")
    names.add_argument(
        "-D",
        "--dns",
        action="append",
        type=typed(values.none_or(values.resolver)),
        default=[],
        metavar="ADDR",
        help="a name server for the guest, repeatable; or `none`; default: those of the host"
        + ("; 127.0.0.1 needs -U 53 and is the host's loopback then" if namespace else ""),
    )
    names.add_argument(
        "-S",
        "--search",
        action="append",
        type=typed(values.none_or(values.domain)),
        default=[],
        metavar="DOMAIN",
        help="a search domain for the guest, repeatable; or `none`; default: those of the host",
    )
    names.add_argument(
        "--dns-forward",
        action="append",
        type=typed(values.host),
        default=[],
        metavar="ADDR",
        help="an address whose DNS queries go to --dns-host; default: one for each name server of the host that the "
        "guest cannot reach",
    )
    names.add_argument(
        "--dns-host",
        action="append",
        type=typed(values.name_server),
        default=[],
        metavar="ADDR[:PORT]",
        help="the target of queries to --dns-forward, IPv6 as [ADDR]:PORT; default: the host's first name server",
    )
    names.add_argument(
        "--host",
        "--add-host",
        action="append",
        type=typed(values.named_address),
        default=[],
        metavar="NAME=ADDR",
        help="a name for the guest, repeatable; ADDR may be host-gateway, the host (see --map-host-loopback)",
    )


def _add_protocol_options(made: argparse.ArgumentParser) -> None:
    protocols = made.add_argument_group("protocols")
    for name, text in {
        "tcp": "do not translate TCP",
        "udp": "do not translate UDP",
        "icmp": "do not translate ping",
        "dhcp": "do not answer DHCP and DHCPv6",
        "ndp": "do not answer NDP or advertise a router",
    }.items():
        protocols.add_argument(f"--no-{name}", action="store_true", help=text)
    filterings = [filtering.value for filtering in UdpFiltering]
    protocols.add_argument(
        "--udp-filtering",
        choices=filterings,
        default=filterings[0],
        metavar="KIND",
        help="which senders reach a UDP socket of the guest that has sent something (RFC 4787): "
        "`endpoint-independent`, the default: all; `address-dependent`: the addresses that it sent to; "
        "`address-and-port-dependent`: the addresses and ports that it sent to",
    )


def _add_other_options(made: argparse.ArgumentParser) -> None:
    other = made.add_argument_group("other")
    other.add_argument(
        "-p",
        "--pcap",
        type=typed(values.capture),
        metavar="FILE",
        help="write all frames of the guest to FILE, in both directions",
    )
    add_record_options(other)
    add_limit_options(other)
    other.add_argument(
        "-c",
        "--conf-path",
        type=typed(values.control),
        metavar="PATH",
        help="listen at PATH for `sansnet ctl`, which prints flows and counters, forwards ports and changes rules",
    )
    other.add_argument(
        "-v",
        "--verbose",
        action="store_true",
        help="print the configuration and the forwarded ports, and counters at the end",
    )
    add_sandbox_options(other)
    other.add_argument("--version", action="version", version=version(), help="print the version and exit")
    other.add_argument("-h", "--help", action="help", help="print this and exit")


_Absent: TypeAlias = Mapping[tuple[str, ...], str]
"""Options of pasta that do not exist here, and the advice for each."""

_ABSENT: Final[_Absent] = {
    ("-q", "--quiet"): "without -v only problems are reported; leave it out",
    ("-f", "--foreground"): "the foreground is the default; leave it out",
}
_ABSENT_OF_NAMESPACES: Final[_Absent] = {
    ("--config-net",): "the guest's interface is configured unless there is --no-config; leave it out",
}
_NO_LOOPBACK: Final = (
    "sansnet cannot listen on a machine's loopback; map an address to the host's (--map-host-loopback)"
)
_ABSENT_OF_MACHINES: Final[_Absent] = {("-T", "--tcp-ns"): _NO_LOOPBACK, ("-U", "--udp-ns"): _NO_LOOPBACK}


def _add_absent_options(guest: argparse._ArgumentGroup, absent: _Absent) -> None:
    class Absent(argparse.Action):
        def __call__(self, _parser: object, _namespace: object, _values: object, name: str | None = None) -> None:
            raise CommandLineError(f"{name}: {absent[tuple(self.option_strings)]}")

    for names in absent:
        guest.add_argument(*names, action=Absent, nargs="?", default=argparse.SUPPRESS, help=argparse.SUPPRESS)


def namespace_options(parsed: argparse.Namespace) -> dict[str, Any]:
    """The fields of `NamespaceOptions`. Raises as `network_options` does."""
    return {
        **network_options(parsed, tap.MTU),
        "ifname": parsed.ns_ifname,
        "mac": parsed.ns_mac_addr,
        "configure": not parsed.no_config,
    }


def network_options(parsed: argparse.Namespace, mtu: MtuLimits) -> dict[str, Any]:
    """The fields of `NetworkOptions` and `CommandOptions`, for a link with these limits of the MTU.

    Raises:
        CommandLineError: options contradict each other, or a value is out of range.
    """
    if parsed.mtu is not None and not IPV4_MIN_MTU <= parsed.mtu <= mtu.largest:
        raise CommandLineError(
            f"-m {parsed.mtu} is not between {IPV4_MIN_MTU} and {mtu.largest} bytes; give another one"
        )
    if parsed.only4 and parsed.only6:
        raise CommandLineError("-4 and -6 exclude each other; give one of them, or neither for both families")
    if parsed.netmask is not None and any(len(own) == 4 and length is not None for own, length in parsed.address):
        raise CommandLineError("-n and -a ADDR/LEN both give a mask; leave one of them out")
    families = frozenset({4}) if parsed.only4 else frozenset({6}) if parsed.only6 else frozenset({4, 6})
    if families == {6} and parsed.mtu is not None and parsed.mtu < IPV6_MIN_MTU:
        raise CommandLineError(f"-m {parsed.mtu} is too small for IPv6, which needs {IPV6_MIN_MTU} bytes; leave out -6")
    try:
        ports = read_ports(parsed)
        impaired = impairment_options(parsed)
    except ConfigError as error:
        raise CommandLineError(str(error)) from None
    dns = _resolvers(parsed.dns, ports, namespace=hasattr(parsed, "udp_ns"))
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
        "dns_host": _resolver_hosts(parsed),
        "dns": dns,
        "hosts": _named(parsed.host),
        "search": _listed("-S", parsed.search),
        "hostname": parsed.hostname,
        "fqdn": parsed.fqdn,
        "pcap": parsed.pcap,
        "control": parsed.conf_path,
        "tcp": not parsed.no_tcp,
        "udp": not parsed.no_udp,
        "icmp": not parsed.no_icmp,
        "udp_filtering": UdpFiltering(parsed.udp_filtering),
        "dhcp": not parsed.no_dhcp,
        "dhcp6": not parsed.no_dhcp,
        "ndp": not parsed.no_ndp,
        "verbose": parsed.verbose,
        "notices": parsed.verbose or parsed.conf_path is not None,  # for the hints
        "ports": ports,
        **policy_options(parsed, dns),
        **record_options(parsed),
        **limit_options(parsed),
        **sandbox_options(parsed),
        **impaired,
    }


def _one_each(option: str, values: list[Any], size: Callable[[Any], int] = len) -> tuple[Any, ...]:
    sizes = [size(value) for value in values]
    for family, bytes_ in ((4, 4), (6, 16)):
        if sizes.count(bytes_) > 1:
            raise CommandLineError(f"{option} gives more than one IPv{family} address; give one for each family")
    return tuple(values)


def _resolver_hosts(parsed: argparse.Namespace) -> tuple[Endpoint, ...]:
    """The targets of --dns-forward. With -D the guest gets no stand-in for them, so it needs --dns-forward."""
    hosts: tuple[Endpoint, ...] = _one_each("--dns-host", parsed.dns_host, lambda host: len(host.address))
    for host in hosts if parsed.dns else ():
        if all(len(match) != len(host.address) for match in parsed.dns_forward):
            raise CommandLineError(
                f"--dns-host {addresses.format(host.address)} would get no queries, because -D sets the guest's name "
                "servers; give --dns-forward ADDR too, or leave out -D"
            )
    return hosts


def _resolvers(listed: list[Any], ports: PortOptions, *, namespace: bool) -> tuple[bytes, ...] | None:
    """Name servers for the guest. One on its loopback needs a forward to the host's."""
    servers = _listed("-D", listed)
    for server in filter(addresses.is_loopback, servers or ()):
        text = addresses.format(server)
        if not namespace:
            raise CommandLineError(
                f"-D {text} is the machine itself; give --dns-forward ADDR --dns-host {text} instead"
            )
        if not any(forward.option == "-U" and DNS_PORT in forward.ports for forward in ports.forwards):
            raise CommandLineError(
                f"-D {text} is the guest itself, which has no name server; "
                "give -U 53 too, which forwards it to the host's loopback"
            )
    return servers


def _named(hosts: list[tuple[str, bytes | None]]) -> tuple[tuple[str, bytes | None], ...]:
    for name, _ in hosts:
        if sum(name == other for other, _ in hosts) > MAX_ADDRESSES:
            raise CommandLineError(f"--host gives {name} more than {MAX_ADDRESSES} addresses; leave some out")
    return tuple(hosts)


def _mapped(option: str, values: list[Any]) -> tuple[bytes, ...]:
    """At most one address of each family, or none after the value `none`."""
    return _one_each(option, list(_listed(option, values) or ()))


def _listed(option: str, values: list[Any]) -> tuple[Any, ...] | None:
    if not values:
        return None
    if None in values:
        if len(values) > 1:
            raise CommandLineError(f"{option} none excludes any other {option}; leave one of them out")
        return ()
    return tuple(values)
