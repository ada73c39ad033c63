"""A kit for tests: a guest, a host and a cable between them, in virtual time.

`Pair` connects a `GuestStack`, which has a TCP of its own, and a `ScriptedHost` to a `Network`, over two `Netem` cables
that delay, lose and reorder frames. Its clock jumps from one deadline to the next, so that a test of minutes takes
milliseconds, and each run with the same seed is the same. `ManualConnection` sends segments that a test writes by hand;
`packets` builds and reads frames, and `with_checksums` repairs those of frames that a test has changed.
`sansnet_core.testing.strategies` makes configurations, frames and more for property-based tests with Hypothesis.

Nothing here imports `wire` or `proto`: formats and TCP are written a second time, from the RFCs, so that a mistake in
the core is not excused by the same mistake in its tests. All parts are strict: whatever a correct network must not do
raises `AssertionError`. The checks are assert statements, which Python leaves out with its option `-O`.
"""

from __future__ import annotations

from sansnet_core.testing import packets
from sansnet_core.testing.checksums import with_checksums
from sansnet_core.testing.connection import GuestConnection
from sansnet_core.testing.guest import GuestStack
from sansnet_core.testing.host import HostScript, HostStream, ScriptedHost
from sansnet_core.testing.icmp_errors import ErrorMessage, read_error
from sansnet_core.testing.manual import ManualConnection
from sansnet_core.testing.netem import Impairment, Netem
from sansnet_core.testing.pair import (
    GATEWAY,
    GATEWAY6,
    OUTSIDER,
    OUTSIDER6,
    SECRET,
    SERVER,
    SERVER6,
    Pair,
    make_config,
)
from sansnet_core.testing.tcp_options import GuestTcpOptions

__all__ = [
    "GATEWAY",
    "GATEWAY6",
    "OUTSIDER",
    "OUTSIDER6",
    "SECRET",
    "SERVER",
    "SERVER6",
    "ErrorMessage",
    "GuestConnection",
    "GuestStack",
    "HostScript",
    "HostStream",
    "Impairment",
    "ManualConnection",
    "Netem",
    "Pair",
    "ScriptedHost",
    "GuestTcpOptions",
    "make_config",
    "packets",
    "read_error",
    "with_checksums",
]
