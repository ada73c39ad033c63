"""The ports with a listening socket in a network namespace (/proc/net/tcp and the like, see proc(5))."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from typing import Final, TextIO

from sansnet_core.ports import TCP, UDP

__all__ = ["PortsInUse"]

_TABLES: Final = {TCP: "tcp", UDP: "udp"}
_IDLE_STATES: Final = {TCP: "0A", UDP: "07"}
"""TCP_LISTEN; and TCP_CLOSE, which Linux shows for an unconnected UDP socket (net/tcp_states.h)."""
_ANY6: Final = "0" * 32


class PortsInUse:
    """The ports with a listening socket in one network namespace.

    Its tables are opened now and stay open, because a confined process can open no file. They keep the namespace, as
    any socket in it does. Close it at the end.

    Args:
        directory: directory in /proc of any process in the network namespace. If the process has ended or is hidden
            from us, there are no ports.

    Raises:
        OSError: the tables cannot be opened, usually because no descriptor is left.
    """

    def __init__(self, directory: str) -> None:
        self._tables: dict[str, TextIO] = {}
        try:
            for table in _TABLES.values():
                for name in (table, f"{table}6"):
                    with suppress(FileNotFoundError, ProcessLookupError, PermissionError):
                        descriptor = os.open(f"{directory}/net/{name}", os.O_RDONLY | os.O_CLOEXEC)
                        self._tables[name] = os.fdopen(descriptor)
        except OSError:
            self.close()
            raise

    def find(self, protocol: int) -> set[tuple[int, int]]:
        """The ports with a listening TCP socket, or an unconnected UDP socket.

        A socket on `::` counts for both families: /proc does not show IPV6_V6ONLY.

        Args:
            protocol: `TCP` or `UDP`.

        Returns:
            Pairs of an address size (4 or 16 bytes) and a port.
        """
        found = set()
        for port, _ in self._listening_sockets(_TABLES[protocol], _IDLE_STATES[protocol]):
            found.add((4, port))
        for port, address in self._listening_sockets(_TABLES[protocol] + "6", _IDLE_STATES[protocol]):
            found.add((16, port))
            if address == _ANY6:
                found.add((4, port))
        return found

    def close(self) -> None:
        """Close the tables. A second call does nothing."""
        for file in self._tables.values():
            file.close()
        self._tables.clear()

    def _listening_sockets(self, table: str, state: str) -> Iterator[tuple[int, str]]:
        """Ports and addresses of the sockets of one table in the given state."""
        file = self._tables.get(table)
        if file is None:
            return
        file.seek(0)  # the kernel makes the table anew
        next(file, "")
        for line in file:
            _, local, _, found, _ = line.split(None, 4)
            if found == state:
                address, _, port = local.partition(":")
                yield int(port, 16), address
            elif table.startswith("tcp"):
                return  # listening sockets come first, before possibly tens of thousands of others
