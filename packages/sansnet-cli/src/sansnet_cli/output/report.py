"""Messages for the user: by default lines on stderr, each with the program's name."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Protocol

from sansnet_cli.output.stderr import say
from sansnet_core import LinkConfig, NetworkConfig, addresses
from sansnet_trio.hostinfo import InterfaceAddress
from sansnet_trio.linux.proc import NO_PROC
from sansnet_trio.plan.host_names import by_address
from sansnet_trio.plan.options import DNS_PORT

if TYPE_CHECKING:
    from sansnet_core import NetworkStatistics
    from sansnet_core.impairment import Impairment
    from sansnet_core.ports import ForwardRule
    from sansnet_trio.driver_statistics import DriverStatistics
    from sansnet_trio.forward.binding import ListenAddress

__all__ = [
    "NO_MEMORY",
    "Destination",
    "configuration",
    "followed",
    "forward",
    "impairments",
    "inform",
    "reason",
    "send_to",
    "statistics",
    "trace",
    "warn",
    "warn_unclean",
]

NO_MEMORY: Final = "there is too little memory; allow more, for example: ulimit -v unlimited"

_OFFLOADS: Final = {
    "checksum_offload": "checksums",
    "tso4": "TCP segmentation",
    "tso6": "TCP segmentation over IPv6",
    "uso": "UDP segmentation",
}
_MAX_RULES: Final = 50
"""Rules that are printed; `sansnet ctl PATH policy` shows all."""
_COUNTERS: Final = {
    "frames_received": "frames from the guest",
    "frames_sent": "frames to the guest",
    "frames_pending": "frames that the guest has not taken yet",
    "frames_dropped": "frames that the guest did not take",
    "datagrams_dropped": "datagrams and pings that the host did not take",
    "sockets": "sockets still open",
}
"""The counters of `DriverStatistics` that are printed, with their descriptions."""
_IMPAIRED: Final = {
    "lost": "that were lost by the impairment",
    "overflowed": "that were lost because the queue of the impairment had no room",
    "duplicated": "that were duplicated by the impairment",
    "reordered": "that were reordered by the impairment",
    "corrupted": "that were corrupted by the impairment",
}
"""The counters of `NetemStatistics` that are printed, with their descriptions."""


class Destination(Protocol):
    """A destination of messages; each method takes one line."""

    def warn(self, sentence: str) -> None:
        """Report a problem."""

    def inform(self, sentence: str) -> None:
        """Report an event."""

    def trace(self, line: str) -> None:
        """Describe a frame."""


class _Stderr:
    def warn(self, sentence: str) -> None:
        say(f"sansnet: {sentence}")

    inform = trace = warn


_destination: Destination = _Stderr()


def send_to(destination: Destination) -> None:
    """Send all messages to another destination from now on."""
    global _destination
    _destination = destination


def warn(sentence: str) -> None:
    """Report a problem in one sentence."""
    _destination.warn(sentence)


def warn_unclean(error: Exception) -> None:
    """Warn that something failed after the command had ended and its exit status was known."""
    if isinstance(error, OSError):
        why = ": ".join(str(part) for part in (error.filename, error.strerror) if part is not None)
    else:
        why = str(error) or type(error).__name__
    warn(f"the command has ended, but its background processes may still run: {why}")


def inform(sentence: str) -> None:
    """Report an event in one sentence."""
    _destination.inform(sentence)


def trace(line: str) -> None:
    """Describe a frame in one line."""
    _destination.trace(line)


def reason(error: Exception) -> str:
    """One sentence that says why something failed, and names a remedy if there is one."""
    match error:
        case OSError(errno=errno.EMFILE | errno.ENFILE):
            return f"{error.strerror}; allow more, for example: ulimit -n 1024"
        case OSError(errno=errno.ENOMEM) | MemoryError():
            return NO_MEMORY
        case BlockingIOError():  # by fork()
            return "no more processes are allowed here; allow more, for example: ulimit -u 1000"
        case ImportError():
            return f"sansnet cannot be loaded ({error}); allow more memory (ulimit -v unlimited), or install it again"
        case FileNotFoundError() if not os.path.exists("/proc/self"):
            return NO_PROC
        case FileNotFoundError(filename=None) if not _has_directory():
            return "the working directory has been deleted; change to an existing one (cd)"
        case OSError(errno=errno.ENOSYS):
            return (
                f"a system call that sansnet needs is missing here ({error.strerror}); use Linux 5.4 or newer, or in a "
                "container a seccomp profile that allows it"
            )
        case OSError(errno=errno.EPERM | errno.EACCES):
            place = f": {error.filename}" if error.filename else ""
            return (
                f"the system refuses something that sansnet needs ({error.strerror}{place}); if this is a container, "
                "its seccomp or AppArmor profile must allow mounts, new namespaces and pidfd_open"
            )
        case _:
            return str(error)


def _has_directory() -> bool:
    try:
        os.getcwd()
    except OSError:
        return False
    return True


def configuration(
    config: NetworkConfig, link: LinkConfig, own: Sequence[InterfaceAddress] = (), gateways: Sequence[bytes] = ()
) -> None:
    """Print the configuration of a guest's network.

    Args:
        config: the configuration of the network.
        link: the abilities of the guest's link.
        own: addresses of the guest's interface, if sansnet configures it.
        gateways: the guest's gateways, if sansnet configures its interface.
    """
    offloads = [text for name, text in _OFFLOADS.items() if getattr(link, name)]
    inform(f"link: MTU {link.mtu}, offloads: {', '.join(offloads) or 'none'}")
    if not (own or gateways):
        own, gateways = _learnt(config)
    for size, family in ((4, config.ipv4), (16, config.ipv6)):
        if family:
            mine = [f"{addresses.format(a.address)}/{a.prefix_length}" for a in own if len(a.address) == size]
            through = [f"gateway {addresses.format(gateway)}" for gateway in gateways if len(gateway) == size]
            name = "IPv4" if size == 4 else "IPv6"
            inform(f"{name}: {', '.join((mine or ['link-local address only']) + (through or ['no gateway']))}")
    inform(f"name servers: {', '.join(map(addresses.format, config.dns_servers)) or 'none'}")
    for match, host in config.dns_forward:
        port = f" port {host.port}" if host.port != DNS_PORT else ""
        inform(f"DNS queries to {addresses.format(match)} go to {addresses.format_zoned(host.address)}{port}")
    for address in config.map_host_loopback:
        inform(f"the host's loopback is {addresses.format(address)}")
    for address, names in by_address(config.hosts):
        inform(f"names of {addresses.format(address)}: {', '.join(names)}")
    for number, rule in enumerate(config.rules[:_MAX_RULES], 1):
        inform(f"rule {number}: {rule}")
    if len(config.rules) > _MAX_RULES:
        inform(f"and {len(config.rules) - _MAX_RULES} more rules")
    if config.default_action is not None:
        inform(f"default: {config.default_action.value}")
    for proxy in config.proxies:
        inform(f"proxy {proxy.name}: {proxy.kind.value} at {proxy.server}")


def impairments(up: Impairment, down: Impairment, seed: int) -> None:
    """Print the impairments of a guest's network, and the beginning of its random faults."""
    from sansnet_cli.output.impairments import described

    for direction, impairment in (("from", up), ("to", down)):
        fields = {**vars(impairment), "distribution": impairment.distribution.value}
        inform(f"impairment of frames {direction} the guest: {described(fields)}; --seed {seed}")


def forward(rule: ForwardRule) -> None:
    """Print where the ports of a rule lead."""
    side = "in the guest" if rule.inbound else "on the host"
    notes = ["only ports that are free and not ephemeral"] if rule.weak else []
    notes += [f"while a program listens {side}"] if rule.auto else []
    inform(_leads(rule, rule.address, rule.first, rule.last) + (f" ({', '.join(notes)})" if notes else ""))


def followed(at: ListenAddress, rule: ForwardRule, *, opened: bool) -> None:
    """Print that a port was opened or closed, because a program on the other side began or stopped to listen."""
    why = "opened, because a program listens there" if opened else "closed, because no program listens there any more"
    inform(f"{_leads(rule, at.address, at.port, at.port)}: {why}")


def _leads(rule: ForwardRule, address: bytes | None, first: int, last: int) -> str:
    """One line about the ports of a rule and their target."""
    protocol = "TCP" if rule.option in ("-t", "-T") else "UDP"
    here, there = _range(first, last), _range(rule.leads_to(first), rule.leads_to(last))
    if not rule.inbound:
        loopback = f"127.0.0.1:{here} and [::1]:{here}" if address is None else f"{_bracketed(address)}:{here}"
        return f"{protocol}: guest {loopback} -> host {_ports(there)}"
    where = "*" if address is None else _bracketed(address)
    where += f"%{rule.interface}" if rule.interface else ""
    to = _ports(there) if rule.target is None else f"{_bracketed(rule.target)}:{there}"
    return f"{protocol}: host {where}:{here} -> guest {to}"


def _ports(range_: str) -> str:
    return f"ports {range_}" if "-" in range_ else f"port {range_}"


def _range(first: int, last: int) -> str:
    return str(first) if first == last else f"{first}-{last}"


def _bracketed(address: bytes) -> str:
    text = addresses.format(address)
    return f"[{text}]" if len(address) == 16 else text


def _learnt(config: NetworkConfig) -> tuple[list[InterfaceAddress], list[bytes]]:
    """The addresses and gateways that DHCP and router advertisements give to the guest."""
    own, gateways = [], []
    if config.ipv4:
        own.append(InterfaceAddress(config.ipv4.address, config.ipv4.prefix_length))
        gateways += [config.ipv4.gateway] if config.ipv4.gateway else []
    if config.ipv6:
        own += [InterfaceAddress(config.ipv6.address, 64)] if config.ipv6.address else []
        gateways.append(config.ipv6.gateway)
    return own, gateways


def statistics(network: NetworkStatistics, driver: DriverStatistics) -> None:
    """Print the counters that are not zero."""
    for name, text in _COUNTERS.items():
        if value := getattr(driver, name):
            inform(f"{text}: {value}")
    for direction, counters in (("from", driver.impaired_up), ("to", driver.impaired_down)):
        for name in _IMPAIRED if counters is not None else ():
            if value := getattr(counters, name):
                inform(f"frames {direction} the guest {_IMPAIRED[name]}: {value}")
    for reason, count in sorted(network.drops.items(), key=lambda item: -item[1]):
        last = ", ".join(map(str, network.last_drops.get(reason, ())))
        inform(f"dropped: {count}: {reason.value}{last and f'; last: {last}'}")
