"""Converters of option values, from text.

Each function raises `BadValue`, whose message begins with the text.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from ipaddress import IPv4Network
from typing import Any, Final, TypeVar

from sansnet_core import addresses
from sansnet_core.addresses import Endpoint
from sansnet_core.errors import SansnetError
from sansnet_trio.plan.options import DNS_PORT

__all__ = [
    "MAX_HOSTNAME",
    "BadValue",
    "address",
    "capture",
    "control",
    "descriptor",
    "domain",
    "host",
    "hostname",
    "ifname",
    "mac",
    "mtu",
    "name_server",
    "named_address",
    "netmask",
    "none_or",
    "own",
    "path",
    "pid",
    "resolver",
    "stand_in",
    "typed",
]

T = TypeVar("T")

_MAX_NAME: Final = 15
"""Bytes of an interface's name (IFNAMSIZ - 1)."""

MAX_HOSTNAME: Final = 64
"""Bytes (HOST_NAME_MAX)."""


HOST_GATEWAY: Final = "host-gateway"
"""The word of Docker and podman for the host's address in a guest."""

_PORTS: Final = r"\d{1,5}(-\d{1,5})?"
_PUBLISHED: Final = (
    rf"((?P<where>\[[\da-fA-F:.]+\]|\d+(\.\d+){{3}}|\*|localhost)[:/])?"
    rf":?(?P<ports>{_PORTS}(:{_PORTS})?(,{_PORTS}(:{_PORTS})?)*)(/(?P<protocol>tcp|udp|sctp))?"
)
"""Ports in the syntax of docker's and podman's -p, and of -t."""


class BadValue(SansnetError, ValueError):
    """A text is not a valid value; the message says why."""


def _bad(text: str, why: str) -> BadValue:
    return BadValue(f"{text!r} {why}")


def address(text: str) -> bytes:
    """An IPv4 or IPv6 address, 4 or 16 bytes."""
    try:
        return addresses.parse(text)
    except ValueError:
        more = "; give the option once for each" if "," in text else ""
        raise _bad(text, f"is not an IPv4 or IPv6 address{more}") from None


def host(text: str) -> bytes:
    """A unicast address that is not loopback, 4 or 16 bytes."""
    packed = address(text)
    if addresses.is_loopback(packed):
        raise _bad(text, "is the guest's own loopback; give an address of another node, such as 169.254.1.1")
    if not addresses.is_unicast(packed):
        raise _bad(text, "is not the address of a node on a network")
    return packed


def stand_in(text: str) -> bytes:
    """An address by which the guest is to reach the host, 4 or 16 bytes."""
    packed = address(text)
    if addresses.is_loopback(packed):
        raise _bad(
            text,
            "is the guest's own loopback; give an address that the guest does not use otherwise, such as 169.254.1.2",
        )
    return host(text)


def resolver(text: str) -> bytes:
    """The unicast address of a name server, 4 or 16 bytes; it may be loopback."""
    packed = address(text)
    if not addresses.is_unicast(packed):
        raise _bad(text, "is not the address of a node")
    return packed


def name_server(text: str) -> Endpoint:
    """ADDR, ADDR:PORT or [ADDR]:PORT."""
    node, colon, port = text.partition(":")
    if text.startswith("["):
        node, _, rest = text[1:].partition("]")
        colon, port = rest[:1], rest[1:]
        if ":" not in node or colon not in ("", ":"):
            raise _bad(text, "is not an IPv6 address and a port like [::1]:5353")
    elif ":" in port:  # IPv6 without a port
        node, colon = text, ""
    try:
        packed = resolver(node)
    except BadValue:
        raise _bad(
            text, "is not the address of a node, with or without a port, like 127.0.0.1:5353 or [::1]:5353"
        ) from None
    if colon and (not re.fullmatch(r"\d{1,5}", port, re.ASCII) or not 0 < int(port) < 1 << 16):
        raise _bad(text, "has a port that is not between 1 and 65535")
    return Endpoint(packed, int(port) if colon else DNS_PORT)


def named_address(text: str) -> tuple[str, bytes | None]:
    """A name in lower case and its address, from NAME=ADDR or Docker's NAME:ADDR; None is the host's address."""
    name, _, where = text.partition("=" if "=" in text else ":")
    if not (name and where):
        raise _bad(text, "is not a name with its address like db.example=192.0.2.7")
    if name.replace(".", "").isdigit() or ":" in name:
        raise _bad(text, "begins with an address; write NAME=ADDR")
    try:
        name = domain(name).removesuffix(".").lower()
    except BadValue:
        name = ""
    if not re.fullmatch(r"[\w.-]+", name, re.ASCII):
        raise _bad(text, "does not begin with a name, which has letters, digits, dots and hyphens")
    if where == HOST_GATEWAY:
        return name, None
    try:
        return name, address(where[1:-1] if where[0] == "[" and where[-1] == "]" else where)
    except BadValue:
        raise _bad(text, f"has {where!r} in place of an address or {HOST_GATEWAY}") from None


def own(text: str) -> tuple[bytes, int | None]:
    """ADDR or ADDR/LEN: an address of the guest, and its prefix length in bits."""
    node, slash, length = text.partition("/")
    try:
        packed = host(node)
    except BadValue:
        raise _bad(text, "is not an address that a guest can have") from None
    if not slash:
        return packed, None
    if not re.fullmatch(r"\d{1,3}", length, re.ASCII) or not 0 < int(length) <= 8 * len(packed):
        raise _bad(text, f"has a prefix length that is not between 1 and {8 * len(packed)}")
    return packed, int(length)


def netmask(text: str) -> int:
    """The prefix length of an IPv4 netmask, from 255.255.255.0 or 24."""
    try:
        length = IPv4Network(f"0.0.0.0/{text}").prefixlen
    except ValueError:
        length = 0
    # ipaddress also takes the complement of a mask
    if not length or ("." in text and str(IPv4Network(f"0.0.0.0/{length}").netmask) != text):
        raise _bad(text, "is neither an IPv4 netmask nor a prefix length between 1 and 32")
    return length


def path(text: str) -> str:
    """A path; any text that is not empty."""
    if not text:
        raise _bad(text, "is not a path")
    return text


def control(text: str) -> str:
    """The path of a socket, and not a shell command, which users of a shell's -c may give."""
    if "/" not in text and len(text.split()) > 1:
        import shlex

        raise _bad(
            text, f"is a command, but -c names a control socket; give -- sh -c {shlex.quote(text)}, or -c ./PATH"
        )
    return path(text)


def capture(text: str) -> str:
    """The name of a file, and not ports, which other programs publish by -p."""
    found = re.fullmatch(_PUBLISHED, text, re.ASCII)
    if found is None:
        return text
    option = "-u" if found["protocol"] == "udp" else "-t"
    where = "127.0.0.1" if found["where"] == "localhost" else found["where"]
    right = f"{option} {where}/{found['ports']}" if where else f"{option} {found['ports']}"
    raise _bad(
        text, f"is a list of ports, but -p names a capture file; give {right}, or -p ./{text} for a file of that name"
    )


def descriptor(text: str) -> int:
    """The number of an inherited descriptor; stdout and stderr cannot be one."""
    if not re.fullmatch(r"\d{1,9}", text, re.ASCII) or int(text) in (1, 2):
        raise _bad(text, "is not the number of a possible descriptor, which is 0 or above 2")
    return int(text)


def pid(text: str) -> int:
    """A process id."""
    if not re.fullmatch(r"\d{1,9}", text, re.ASCII) or not int(text):
        raise _bad(
            text,
            "is not a process id; give a network namespace by --netns, and get the process id of a container by "
            "`podman inspect -f '{{.State.Pid}}' NAME`",
        )
    return int(text)


def mtu(text: str) -> int:
    """A number of bytes; `network_options` checks its range."""
    if not re.fullmatch(r"\d{1,9}", text, re.ASCII):
        raise _bad(text, "is not a number of bytes")
    return int(text)


def ifname(text: str) -> str:
    """The name of an interface other than the loopback interface."""
    # As in the kernel's dev_valid_name(); in a tap's name, % stands for a number
    if text in (".", "..", "lo"):
        raise _bad(text, "cannot be the name of the guest's interface; give one like eth0")
    if not 0 < len(os.fsencode(text)) <= _MAX_NAME or re.search(r"[/:%\s]", text):
        raise _bad(
            text, f"cannot be the name of an interface, which has 1 to {_MAX_NAME} bytes and none of / : % or space"
        )
    return text


def mac(text: str) -> bytes:
    """A unicast Ethernet address, 6 bytes."""
    if not re.fullmatch(r"([0-9a-f]{2}[:-]){5}[0-9a-f]{2}", text, re.ASCII | re.IGNORECASE):
        raise _bad(text, "is not an Ethernet address like 02:00:00:00:00:01")
    packed = bytes.fromhex(text.replace(":", "").replace("-", ""))
    if not any(packed):
        raise _bad(text, "is the all-zero Ethernet address; give one like 02:00:00:00:00:01")
    if packed[0] & 1:
        raise _bad(text, "is a multicast Ethernet address; the first byte must be even")
    return packed


def hostname(text: str) -> str:
    """A host name, for sethostname(2) and DHCP."""
    if not text.isascii() or not 0 < len(text) <= MAX_HOSTNAME or re.search(r"[^\w.-]", text):
        raise _bad(text, f"cannot be a host name, which has 1 to {MAX_HOSTNAME} letters, digits, dots and hyphens")
    return text


def domain(text: str) -> str:
    """A domain name (RFC 1035, 2.3.4), with or without a final dot."""
    labels = text.removesuffix(".").split(".")
    if (
        not text.isascii()
        or len(text) > 253
        or not all(0 < len(label) < 64 for label in labels)
        or re.search(r"\s", text)
    ):
        raise _bad(text, "is not a domain name")
    return text


def none_or(convert: Callable[[str], Any]) -> Callable[[str], Any]:
    """A converter that returns None for the word `none`, and otherwise the result of `convert`."""
    return lambda text: None if text == "none" else convert(text)


def typed(convert: Callable[[str], T]) -> Callable[[str], T]:
    """A converter of this module in the form that argparse needs."""

    def converted(text: str) -> T:
        try:
            return convert(text)
        except BadValue as bad:
            import argparse

            raise argparse.ArgumentTypeError(str(bad)) from None

    return converted
