"""The options of pasta and passt as data, from which the parser, the help and the documentation are made."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

__all__ = ["OPTIONS", "Option", "described", "usage"]


class Option(NamedTuple):  # loading `dataclasses` would take a third of the time of --version
    """One option.

    Attributes:
        name: the long name, without hyphens.
        short: one letter, or nothing.
        argument: the name of its argument in the help; empty if it takes none.
        text: the description in the help.
        only: the only program that has this option; empty for both.
        ignored: the reason why the option is accepted but has no effect; empty for all others.
        aliases: more long names.
        added: whether the originals do not have it. It has no abbreviations, so that those of other options stay.
    """

    name: str
    short: str = ""
    argument: str = ""
    text: str = ""
    only: str = ""
    ignored: str = ""
    aliases: tuple[str, ...] = ()
    added: bool = False


_SANDBOX: Final = "sansnet does not change its root directory"
_MIGRATION: Final = "connections do not survive a migration"

_PATH: Final = ("socket-path",)

GROUPS: Final[dict[str, tuple[Option, ...]]] = {
    "the program": (
        Option("help", "h", text="print this and exit"),
        Option("version", text="print the version and exit"),
        Option("foreground", "f", text="stay in the foreground"),
        Option("quiet", "q", text="print only warnings and errors"),
        Option("debug", "d", text="print more messages"),
        Option("trace", text="print a line for each frame as well"),
        Option("stats", argument="SECONDS", text="print counters at this interval; needs --foreground before it"),
        Option("stderr", "e", ignored="messages go to stderr until the program is in the background"),
        Option("log-file", "l", "FILE", "write all messages to FILE"),
        Option("log-size", argument="BYTES", text="limit of FILE; its oldest messages are deleted; default: 1048576"),
        Option("pid", "P", "FILE", "write the process id to FILE"),
        Option("runas", argument="UID[:GID]|LOGIN[:GROUP]", text="user to run as; default: nobody, if root runs passt"),
        Option("pcap", "p", "FILE", "write all frames of the guest to FILE"),
        Option("chroot-fallback", ignored=_SANDBOX),
    ),
    "the guest": (
        Option("socket", "s", "PATH", "UNIX socket; default: the first free /tmp/passt_N.socket", "passt", "", _PATH),
        Option("vhost-user", text="use the protocol vhost-user on the socket", only="passt"),
        Option("print-capabilities", text="print the capabilities for management programs, and exit", only="passt"),
        Option("fd", "F", "FD", "serve the connected socket FD; implies --one-off", "passt"),
        Option("one-off", "1", text="end when the first guest disconnects", only="passt"),
        Option("repair-path", argument="PATH", only="passt", ignored=_MIGRATION),
        Option("migrate-exit", only="passt", ignored=_MIGRATION),
        Option("migrate-no-linger", only="passt", ignored=_MIGRATION),
        Option("netns", argument="PATH|NAME", text="the network namespace to join", only="pasta"),
        Option("userns", argument="PATH", text="the user namespace to join", only="pasta"),
        Option("netns-only", text="join no user namespace", only="pasta"),
        Option("no-netns-quit", text="continue when the path of the namespace is gone", only="pasta"),
        Option("config-net", text="configure the guest's interface", only="pasta"),
        Option("ns-ifname", "I", "NAME", "name of the guest's interface; default: as on the host, or tap0", "pasta"),
        Option("ns-mac-addr", argument="MAC", text="the guest's Ethernet address; default: random", only="pasta"),
    ),
    "the guest's network": (
        Option("ipv4-only", "4", text="give the guest no IPv6"),
        Option("ipv6-only", "6", text="give the guest no IPv4"),
        Option("address", "a", "ADDR[/LEN]", "the guest's address, once for each family; default: the host's"),
        Option("netmask", "n", "MASK", "mask or prefix length for an IPv4 address given without one"),
        Option("gateway", "g", "ADDR", "the guest's gateway, once for each family; default: the host's"),
        Option("mac-addr", "M", "MAC", "the gateway's Ethernet address; default: 9a:55:9a:55:9a:55"),
        Option("mtu", "m", "BYTES", "MTU of the guest's interface; 0 leaves it unchanged; default: 65520"),
        Option("interface", "i", "NAME", "the host's interface to copy; default: that of its default route"),
        Option("outbound", "o", "ADDR", "source address of outgoing traffic, once for each family"),
        Option("outbound-if4", argument="NAME", text="the host's interface for outgoing IPv4 traffic"),
        Option("outbound-if6", argument="NAME", text="the host's interface for outgoing IPv6 traffic"),
        Option("no-copy-routes", text="deprecated: copy only the default route", only="pasta"),
        Option("no-copy-addrs", text="deprecated: copy one address of each family", only="pasta"),
        Option("map-host-loopback", "", "ADDR", "address that leads to the host's loopback, or none; default: gateway"),
        Option("map-guest-addr", "", "ADDR", "address that leads to the host's own address, or none; default: none"),
        Option("no-map-gw", text="do not map the gateway to the host's loopback"),
    ),
    "names": (
        Option("dns", "D", "ADDR", "a name server for the guest, repeatable, or none"),
        Option("search", "S", "DOMAIN", "a search domain for the guest, repeatable, or none"),
        Option("dns-forward", argument="ADDR", text="redirect DNS queries sent to ADDR to --dns-host"),
        Option("dns-host", "", "ADDR", "target of queries to --dns-forward; default: the host's first name server"),
        Option("dhcp-dns", text="send name servers to the guest", only="pasta"),
        Option("dhcp-search", text="send search domains to the guest", only="pasta"),
        Option("no-dhcp-dns", text="send no name servers to the guest", only="passt"),
        Option("no-dhcp-search", text="send no search domains to the guest", only="passt"),
        Option("hostname", "H", "NAME", "the guest's host name"),
        Option("fqdn", argument="NAME", text="the guest's full name, sent by DHCP"),
    ),
    "what the guest may reach; not in the originals": (
        Option("policy", "", "FILE", "rules about what the guest may reach; default: $SANSNET_POLICY", added=True),
        Option("audit", "", "FILE", "a line of JSON for each decision and name; default: $SANSNET_AUDIT", added=True),
    ),
    "a recording; not in the originals": (
        Option("record", "", "FILE", "record to FILE for `sansnet replay`; default: $SANSNET_RECORD", added=True),
    ),
    "limits for the sake of the host; not in the originals": (
        Option("memory", "", "SIZE", "memory of the guest's network; default: $SANSNET_MEMORY", added=True),
        Option("keep-udp-ports", text="let the guest take UDP ports of known services of the host", added=True),
        Option("allow-unsealed", "", "", "accept memory that can shrink; $SANSNET_ALLOW_UNSEALED", "passt", added=True),
    ),
    "the command; not in the originals": (
        Option("host-processes", text="let it see the host's processes, and signal yours", only="pasta", added=True),
    ),
    "the sandbox; not in the originals": (
        Option("sandbox", "", "MODE", "enforce, log or off; default: $SANSNET_SANDBOX, or enforce", added=True),
    ),
    "protocols": (
        Option("no-tcp", text="do not translate TCP"),
        Option("no-udp", text="do not translate UDP"),
        Option("no-icmp", text="do not translate ping or answer NDP"),
        Option("no-dhcp", text="do not answer DHCP"),
        Option("no-dhcpv6", text="do not answer DHCPv6"),
        Option("no-ndp", text="do not answer NDP or advertise a router"),
        Option("no-ra", text="do not advertise a router"),
    ),
    "ports": (
        Option("tcp-ports", "t", "SPEC", "TCP ports of the host that lead to the guest, repeatable"),
        Option("udp-ports", "u", "SPEC", "UDP ports of the host that lead to the guest, repeatable"),
        Option("tcp-ns", "T", "SPEC", "TCP ports of the guest's loopback that lead to the host's", "pasta"),
        Option("udp-ns", "U", "SPEC", "UDP ports of the guest's loopback that lead to the host's", "pasta"),
        Option("host-lo-to-ns-lo", text="deliver connections from the host's loopback to the guest's", only="pasta"),
        Option("no-splice", text="connect from the host's loopback through the guest's interface", only="pasta"),
        Option("splice-only", text="forward ports from loopback to loopback, and serve no other traffic", only="pasta"),
        Option("freebind", text="listen on addresses that the host does not have yet"),
        Option("conf-path", "c", "PATH", "a UNIX socket for `sansnet ctl`"),
    ),
}  # fmt: skip
"""By the headings of the help."""

OPTIONS: Final = tuple(option for group in GROUPS.values() for option in group)

_COLUMN: Final = 30
_WIDTH: Final = 80
_INVOCATIONS: Final = {
    "pasta": ("[OPTION]... [COMMAND [ARG]...]", "[OPTION]... PID", "[OPTION]... --netns PATH|NAME"),
    "passt": ("[OPTION]...",),
}


def usage(program: str) -> str:
    """The help of a program, in lines of at most 80 characters."""
    lines = [f"{'usage:' if not n else '      '} {program} {how}" for n, how in enumerate(_INVOCATIONS[program])]
    for heading, group in GROUPS.items():
        if own := [option for option in group if option.only in ("", program)]:
            lines += ["", f"{heading}:", *described(own)]
    return "\n".join(lines) + "\n"


def described(options: Iterable[Option]) -> Iterator[str]:
    """Lines of the help about these options."""
    import textwrap

    for option in options:
        left = f"  {'-' + option.short + ',' if option.short else '   '} {_long(option)}"
        if len(left) >= _COLUMN:
            yield left
            left = ""
        text = option.text or f"no effect: {option.ignored}"
        for line in textwrap.wrap(text, _WIDTH - _COLUMN, break_on_hyphens=False):
            yield f"{left:{_COLUMN}}{line}"
            left = ""


def _long(option: Option) -> str:
    names = ", ".join(f"--{name}" for name in (option.name, *option.aliases))
    return f"{names} {option.argument}".rstrip()
