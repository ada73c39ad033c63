"""The ports with a listening socket in a network namespace (/proc/net/tcp and the like, see proc(5))."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Final

from sansnet_core.ports import TCP, UDP

__all__ = ["ports_in_use"]

_TABLES: Final = {TCP: "tcp", UDP: "udp"}
_IDLE_STATES: Final = {TCP: "0A", UDP: "07"}
"""TCP_LISTEN; and TCP_CLOSE, which Linux shows for an unconnected UDP socket (net/tcp_states.h)."""
_ANY6: Final = "0" * 32


def ports_in_use(directory: str, protocol: int) -> set[tuple[int, int]]:
    """The ports with a listening TCP socket, or an unconnected UDP socket.

    A socket on `::` counts for both families: /proc does not show IPV6_V6ONLY.

    Args:
        directory: directory in /proc of any process in the network namespace.
        protocol: `TCP` or `UDP`.

    Returns:
        Pairs of an address size (4 or 16 bytes) and a port; none if the process has ended or is hidden from us.

    Raises:
        OSError: the tables cannot be opened, usually because no descriptor is left.
    """
    found = set()
    for port, _ in _listening_sockets(directory, _TABLES[protocol], _IDLE_STATES[protocol]):
        found.add((4, port))
    for port, address in _listening_sockets(directory, _TABLES[protocol] + "6", _IDLE_STATES[protocol]):
        found.add((16, port))
        if address == _ANY6:
            found.add((4, port))
    return found


def _listening_sockets(directory: str, table: str, state: str) -> Iterator[tuple[int, str]]:
    """Ports and addresses of the sockets of one table in the given state."""
    with suppress(FileNotFoundError, ProcessLookupError, PermissionError), open(f"{directory}/net/{table}") as file:
        next(file, "")
        for line in file:
            _, local, _, found, _ = line.split(None, 4)
            if found == state:
                address, _, port = local.partition(":")
                yield int(port, 16), address
            elif table.startswith("tcp"):
                return  # listening sockets come first, before possibly tens of thousands of others
