"""The ports that the administrator reserved for services (ip_local_reserved_ports in the kernel's ip-sysctl.rst)."""

from __future__ import annotations

from typing import Final

from sansnet_trio.linux import files

__all__ = ["parse_reserved_ports", "read_reserved_ports"]

_PATH: Final = "/proc/sys/net/ipv4/ip_local_reserved_ports"


def read_reserved_ports() -> tuple[int, ...]:
    """The ports that the kernel gives to no socket that did not ask for them; none if they cannot be read."""
    try:
        return parse_reserved_ports(files.read(_PATH))
    except OSError:
        return ()


def parse_reserved_ports(text: str) -> tuple[int, ...]:
    """The ports of a list such as "8080,30000-32767", in order.

    Args:
        text: as the kernel writes it.
    """
    found: set[int] = set()
    for part in filter(None, text.strip().split(",")):
        first, _, last = part.partition("-")
        found.update(range(max(int(first), 1), int(last or first) + 1))
    return tuple(sorted(found))
