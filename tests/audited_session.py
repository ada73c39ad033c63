"""A program that runs everything in the core under an audit hook; prints "quiet" and how many frames were sent.

The simulated guest and host do no I/O either, so that every event is a mistake.
"""

from __future__ import annotations

import sys

from sansnet_core.testing import GuestTcpOptions, HostScript, Impairment, Pair
from tests.fuzz.corpus import frames

HARMLESS = ("object.", "sys._getframe", "cpython.", "gc.", "code.__new__")
"""Prefixes of events inside of the interpreter."""

events: list[str] = []


def _note(event: str, arguments: tuple[object, ...]) -> None:
    if not event.startswith(HARMLESS):
        events.append(f"{event} {arguments!r:.200}")


def main() -> None:
    bad = Impairment(loss=0.1, duplicate=0.1, reorder=0.2)
    pair = Pair(script=HostScript(echo=True, accept=5000), up=bad, down=bad)
    for frame in frames().values():
        pair.guest.send_frame(frame)
    connections = [pair.connect(GuestTcpOptions(), family=family) for family in (4, 6)]
    for connection in connections:
        connection.send(bytes(50_000))
        connection.shutdown()
    pair.drive(lambda: all(connection.closed for connection in connections))
    pair.wait(1000.0)
    print("quiet" if not events else "\n".join(events), len(pair.sent))


if __name__ == "__main__":
    sys.addaudithook(_note)
    main()
