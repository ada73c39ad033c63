"""The options that limit a guest for the sake of the host."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from sansnet_cli.options.values import BadValue, typed
from sansnet_core.config import MIN_MEMORY

if TYPE_CHECKING:
    import argparse

__all__ = ["ALLOW_UNSEALED", "KEEP_UDP_PORTS", "add_limit_options", "add_seal_option", "limit_options", "size"]

_UNITS: Final = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40}
_SIZE: Final = r"(\d{1,15})([kmgt]?)(i?b)?"

KEEP_UDP_PORTS: Final = (
    "let the guest take UDP ports of the host that known services use, such as 5353 and 51820, by sending from them; "
    "by default only forwarded ones (-u)"
)
ALLOW_UNSEALED: Final = (
    "accept memory over vhost-user from a file that can shrink, such as one on a disk; if it does, sansnet is ended"
)


def size(text: str) -> int:
    """A number of bytes that is enough for a guest's network, such as 64M, 512MiB or 1G."""
    found = re.fullmatch(_SIZE, text, re.ASCII | re.IGNORECASE)
    if found is None:
        raise BadValue(f"{text!r} is not a size like 64M or 1G")
    number = int(found[1]) << _UNITS[found[2].lower()]
    if number < MIN_MEMORY:
        raise BadValue(f"{text!r} is too little for a network; give {MIN_MEMORY >> 20}M or more")
    return number


def add_limit_options(group: argparse._ArgumentGroup) -> None:
    """Add the options of all commands to a group."""
    group.add_argument(
        "--memory",
        type=typed(size),
        metavar="SIZE",
        help="the memory that the guest's network may take, such as 64M; default: 1G, or less if the machine, the "
        "control group or the limits of this process (ulimit -v) have little",
    )
    group.add_argument("--keep-udp-ports", action="store_true", help=KEEP_UDP_PORTS)


def add_seal_option(group: argparse._ArgumentGroup) -> None:
    """Add the option of commands that serve vhost-user to a group."""
    group.add_argument("--allow-unsealed", action="store_true", help=ALLOW_UNSEALED)


def limit_options(parsed: argparse.Namespace) -> dict[str, Any]:
    """The fields of `NetworkOptions` for `add_limit_options`."""
    return {"memory": parsed.memory, "keep_udp_ports": parsed.keep_udp_ports}
