"""On which ports somebody listens, in our network namespace or another one (/proc/net/tcp and its like: proc(5))."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Final

from sansnet_core.ports import TCP, UDP

__all__ = ["ports_in_use"]

_TABLES: Final = {TCP: "tcp", UDP: "udp"}
_IDLE_STATES: Final = {TCP: "0A", UDP: "07"}
"""TCP_LISTEN, and TCP_CLOSE, by which Linux means a UDP socket that is not connected (net/tcp_states.h)."""
_ANY6: Final = "0" * 32


def ports_in_use(directory: str, protocol: int) -> set[tuple[int, int]]:
    """Pairs of a size of address, 4 or 16, and a port on which a socket waits for whoever comes.

    One that is bound to `::` is counted for both families, since the tables do not tell whether it is.

    Args:
        directory: in /proc, of any process in the network namespace.
        protocol: `TCP` or `UDP`.

    Returns:
        An empty set if the process is gone, or hidden from us.

    Raises:
        OSError: the tables cannot be opened, most likely since no descriptor is left.
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
    """Ports and addresses of one table."""
    with suppress(FileNotFoundError, ProcessLookupError, PermissionError), open(f"{directory}/net/{table}") as file:
        next(file, "")
        for line in file:
            _, local, _, found, _ = line.split(None, 4)
            if found == state:
                address, _, port = local.partition(":")
                yield int(port, 16), address
            elif table.startswith("tcp"):
                return  # those that listen come first, and there may be ten thousands of others
