"""The command line of `sansnet qemu`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Final, NoReturn

from sansnet_cli.options import values
from sansnet_cli.options.limits import add_seal_option
from sansnet_cli.options.parser import Parser, add_options, network_options, with_examples
from sansnet_cli.options.records import CommandLineError, QemuOptions
from sansnet_cli.options.values import typed
from sansnet_trio.links import unix_stream, vhost_user

__all__ = ["parse", "parser"]

_LINKS: Final = ("vhost-user", "stream")


class _Parser(Parser):
    def error(self, message: str) -> NoReturn:
        raise CommandLineError(f"{self.explained(message)}; QEMU's own arguments go after --, see `{self.prog} --help`")


def parser() -> argparse.ArgumentParser:
    """The parser of `sansnet qemu`. `parse` checks its result further."""
    made = _Parser(
        prog="sansnet qemu",
        usage="%(prog)s [OPTIONS] -- QEMU-ARGUMENT...",
        description="Run QEMU with a network card that sansnet serves. Arguments after -- are for QEMU, such as "
        "-m 1G -drive file=disk.qcow2.",
        epilog=with_examples(
            "For vhost-user sansnet adds shared memory to the machine, unless your arguments name a memory backend "
            "(-machine memory-backend=...), which then needs to be a memory-backend-memfd with share=on. The guest "
            "learns its addresses, routes and name servers by DHCP, DHCPv6 and router advertisements; they are the "
            "host's, unless you give others. The guest cannot reach the host's loopback, unless you allow it. The exit "
            "status is that of QEMU; 128 + N if signal N ended it; 127 if QEMU was not found; 1 if the network cannot "
            "be made or QEMU is too old; 2 if an option is wrong.",
            "sansnet qemu -- -m 1G -drive file=disk.qcow2",
            "sansnet qemu -t 2222:22 -- -m 1G disk.qcow2     # its SSH server at port 2222",
            "sansnet qemu -H box -- -accel kvm -m 4G -nographic disk.qcow2",
        ),
        add_help=False,
    )
    machine = made.add_argument_group("the machine")
    machine.add_argument(
        "--qemu",
        type=typed(values.path),
        metavar="PROGRAM",
        help="QEMU 7.2 or newer; default: qemu-system-... for this processor",
    )
    machine.add_argument(
        "--link",
        choices=_LINKS,
        help="the protocol between QEMU and sansnet; default: vhost-user on x86-64, stream on other processors",
    )
    add_seal_option(machine)
    add_options(
        made, namespace=False, default_mtu=f"{vhost_user.MTU.default}, or {unix_stream.MTU.default} with --link stream"
    )
    made.add_argument("arguments", nargs=argparse.REMAINDER, metavar="QEMU-ARGUMENT", help="see the help of QEMU")
    return made


def parse(arguments: Sequence[str]) -> QemuOptions:
    """Parse the arguments after `sansnet qemu`.

    Raises:
        CommandLineError: an argument is wrong.
        SystemExit: help or version were asked for and have been printed.
    """
    parsed = parser().parse_args(arguments)
    shared = vhost_user.is_supported() if parsed.link is None else parsed.link == "vhost-user"
    return QemuOptions(
        **network_options(parsed, vhost_user.MTU if shared else unix_stream.MTU),
        vhost_user=shared,
        allow_unsealed=parsed.allow_unsealed,
        program=parsed.qemu,
        arguments=tuple(parsed.arguments[1:] if parsed.arguments[:1] == ["--"] else parsed.arguments),
    )
