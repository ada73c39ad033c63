"""The options about forwarded ports."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from sansnet_core.errors import ConfigError
from sansnet_core.records import Record

if TYPE_CHECKING:
    import argparse

    from sansnet_core.ports import ForwardRule

__all__ = ["PortOptions", "add_port_options", "read_forwards", "read_ports", "refuse_auto"]

_SPEC: Final = "[ADDR/]PORTS"


class PortOptions(Record):
    """The forwarded ports, and how they are forwarded.

    Attributes:
        forwards: the rules, of both directions.
        freebind: listen even on addresses that the host does not have yet.
        splice: connections from the host's loopback take the loopback path to a guest in a namespace.
        to_loopback: connections on the loopback path arrive at the guest's loopback address.
    """

    forwards: tuple[ForwardRule, ...] = ()
    freebind: bool = False
    splice: bool = True
    to_loopback: bool = False


def add_port_options(made: argparse.ArgumentParser, *, namespace: bool) -> None:
    """Add these options; those about the guest's loopback only for a guest in a namespace."""
    follow = ", auto (those on which a program listens on the other side)" if namespace else ""
    ports = made.add_argument_group(
        "forwarded ports",
        "PORTS are separated by commas: 80, 8080:80 (8080 leads to 80), 8000-8010:9000-9010, 80:10.0.2.15/8080 (to "
        f"that address), all, ~22 (all but that one){follow}; or none. ADDR is the address or interface to listen on: "
        "127.0.0.1, ::1, *%eth0.",
    )

    def add(short: str, long: str, metavar: str, text: str) -> None:
        ports.add_argument(short, long, action="append", default=[], metavar=metavar, help=text)

    add("-t", "--tcp-ports", _SPEC, "TCP ports of the host that lead to the guest; default: none")
    add("-u", "--udp-ports", _SPEC, "UDP ports of the host that lead to the guest; default: none")
    if namespace:
        add("-T", "--tcp-ns", "PORTS", "TCP ports of the guest's loopback that lead to the host's; default: none")
        add("-U", "--udp-ns", "PORTS", "UDP ports of the guest's loopback that lead to the host's; default: none")
        ports.add_argument(
            "--host-lo-to-ns-lo",
            action="store_true",
            help="deliver connections from the host's loopback to the guest's loopback address",
        )
        ports.add_argument(
            "--no-splice",
            action="store_true",
            help="send connections from the host's loopback through the guest's interface",
        )
    ports.add_argument(
        "--freebind", action="store_true", help="listen even on addresses that the host does not have yet"
    )


def read_ports(parsed: argparse.Namespace) -> PortOptions:
    """Make the record of these options.

    Raises:
        ConfigError: one of them is wrong, in a sentence that names it.
    """
    namespace = hasattr(parsed, "tcp_ns")
    if namespace and parsed.no_splice and parsed.host_lo_to_ns_lo:
        raise ConfigError("--host-lo-to-ns-lo works by splicing, which --no-splice turns off; leave one of them out")
    forwards = read_forwards(
        parsed.tcp_ports, parsed.udp_ports, parsed.tcp_ns if namespace else (), parsed.udp_ns if namespace else ()
    )
    if not namespace:
        refuse_auto(forwards)
    return PortOptions(
        forwards=forwards,
        freebind=parsed.freebind,
        splice=not (namespace and parsed.no_splice),
        to_loopback=namespace and parsed.host_lo_to_ns_lo,
    )


def read_forwards(
    tcp_ports: Sequence[str] = (), udp_ports: Sequence[str] = (), tcp_ns: Sequence[str] = (), udp_ns: Sequence[str] = ()
) -> tuple[ForwardRule, ...]:
    """Parse the values of -t, -u, -T and -U.

    Raises:
        ConfigError: one of them is wrong, in a sentence that names it.
    """
    if not (tcp_ports or udp_ports or tcp_ns or udp_ns):
        return ()
    from sansnet_core.ports import TCP, UDP, parse_all

    forwards: list[ForwardRule] = []
    options = (("-t", tcp_ports, TCP), ("-u", udp_ports, UDP), ("-T", tcp_ns, TCP), ("-U", udp_ns, UDP))
    for option, specs, protocol in options:
        try:
            forwards += parse_all(specs, protocol, inbound=option.islower())
        except ConfigError as error:
            raise ConfigError(f"{option}: {error}") from None
    return tuple(forwards)


def refuse_auto(forwards: Sequence[ForwardRule]) -> None:
    """Refuse ports that follow listening programs, for a virtual machine.

    Raises:
        ConfigError: there are some.
    """
    for forward in forwards:
        if forward.auto:
            raise ConfigError(
                f"{forward.option} auto: sansnet cannot see which ports a machine listens on; name the ports"
            )
