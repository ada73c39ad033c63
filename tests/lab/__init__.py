"""A laboratory for tests with the kernel's own network stack: a host, an upstream network, guests of sansnet.

Theory of operation: a laboratory is two pairs of network and mount namespaces, `host` and `upstream`, joined by a veth
pair. A process that reads a pipe from the tests holds each of them, so that they need no names and are gone when the
tests end, in whatever way. sansnet runs in `host`; its guests' traffic leaves through the veth pair.

    guest (made by sansnet) -- tap -- sansnet in `host` -- uplink -- `upstream`, with servers

The process of the tests can open sockets in each of these namespaces (`Namespace.call`), so a test can hold both ends
of a connection and decide what each of them does.
"""

from __future__ import annotations

from tests.lab.laboratory import (
    GATEWAY4,
    GATEWAY6,
    HOST4,
    HOST6,
    RUN_SANSNET,
    SERVER4,
    SERVER6,
    UNREACHABLE4,
    UNREACHABLE6,
    USER,
    Guest,
    Lab,
    laboratory,
)
from tests.lab.namespaces import Namespace, eventually
from tests.lab.servers import DnsServer, Echo, held, served

__all__ = [
    "GATEWAY4",
    "GATEWAY6",
    "HOST4",
    "HOST6",
    "RUN_SANSNET",
    "SERVER4",
    "SERVER6",
    "UNREACHABLE4",
    "UNREACHABLE6",
    "USER",
    "DnsServer",
    "Echo",
    "Guest",
    "Lab",
    "Namespace",
    "eventually",
    "laboratory",
    "held",
    "served",
]
