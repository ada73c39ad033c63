"""The command line of `sansnet serve`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Final

from sansnet_cli.options import values
from sansnet_cli.options.background import add_background_options, background_options
from sansnet_cli.options.limits import add_seal_option
from sansnet_cli.options.parser import Parser, add_options, network_options, with_examples
from sansnet_cli.options.records import CommandLineError, ServeOptions
from sansnet_cli.options.values import typed
from sansnet_cli.process import systemd
from sansnet_trio.links import unix_stream, vhost_user

__all__ = ["parse", "parser"]

_DESCRIPTION: Final = """\
Give a network to a virtual machine. Start QEMU with

  -netdev stream,id=n0,server=off,addr.type=unix,addr.path=PATH
  -device virtio-net-pci,netdev=n0

or, with --vhost-user, which is much faster, with the following, where SIZE is that of -m:

  -object memory-backend-memfd,id=m0,size=SIZE,share=on
  -machine memory-backend=m0
  -chardev socket,id=c0,path=PATH
  -netdev vhost-user,id=n0,chardev=c0
  -device virtio-net-pci,netdev=n0

It serves one machine at a time and refuses others. `sansnet qemu` does all of this by itself.
"""


def parser() -> argparse.ArgumentParser:
    """The parser of `sansnet serve`. `parse` checks its result further."""
    made = Parser(
        prog="sansnet serve",
        usage="%(prog)s [--vhost-user] [--socket PATH | --fd FD] [OPTIONS]",
        description=_DESCRIPTION,
        epilog=with_examples(
            "The guest learns its addresses, routes and name servers by DHCP, DHCPv6 and router advertisements; they "
            "are the host's, unless you give others. The guest cannot reach the host's loopback, unless you allow it. "
            "The exit status is 0 after SIGTERM or SIGINT; 1 if the network cannot be made; 2 if an option is wrong.",
            "sansnet serve --socket /tmp/guest.socket",
            "sansnet serve --socket /tmp/guest.socket --vhost-user -t 2222:22",
            "sansnet serve --socket /tmp/guest.socket --one-off -p all.pcap",
        ),
        add_help=False,
    )
    machine = made.add_argument_group("the machine")
    machine.add_argument("--vhost-user", action="store_true", help="share the machine's memory (x86-64 only)")
    add_seal_option(machine)
    machine.add_argument(
        "-s",
        "--socket",
        type=typed(values.path),
        metavar="PATH",
        help="path of the UNIX socket to listen on; default: the socket that systemd passes (sd_listen_fds)",
    )
    machine.add_argument(
        "-F",
        "--fd",
        type=typed(values.descriptor),
        metavar="FD",
        help="an inherited socket that listens; or a connected one, which implies --one-off",
    )
    machine.add_argument("-1", "--one-off", action="store_true", help="end when the first machine disconnects")
    add_background_options(machine, returns_when="a machine can connect")
    shared = f"with --vhost-user the one that QEMU names (host_mtu), or {vhost_user.MTU.default}"
    add_options(made, namespace=False, default_mtu=f"{unix_stream.MTU.default}; {shared}")
    return made


def parse(arguments: Sequence[str]) -> ServeOptions:
    """Parse the arguments after `sansnet serve`.

    Raises:
        CommandLineError: an argument is wrong.
        SystemExit: help or version were asked for and have been printed.
    """
    parsed = parser().parse_args(arguments)
    passed = systemd.passed_socket()
    named = [name for name, value in (("--socket", parsed.socket), ("--fd", parsed.fd)) if value is not None]
    if passed is not None and named:
        raise CommandLineError(f"a socket was passed by the service manager; leave out {named[0]}")
    if passed is None and len(named) != 1:
        raise CommandLineError("give either --socket PATH or --fd FD; see `sansnet serve --help`")
    return ServeOptions(
        **network_options(parsed, vhost_user.MTU if parsed.vhost_user else unix_stream.MTU),
        vhost_user=parsed.vhost_user,
        allow_unsealed=parsed.allow_unsealed,
        socket=parsed.socket,
        fd=parsed.fd if passed is None else passed,
        one_off=parsed.one_off,
        **background_options(parsed),
    )
