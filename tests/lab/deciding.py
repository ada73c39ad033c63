"""A program that decides about every flow of its guest: the destination's last number selects the verdict.

As a program, `python -m tests.lab.deciding`, it runs in the laboratory's host: it prints the process id of the guest's
command, and ends with its stdin.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Final, NamedTuple

import trio

from sansnet_core import Allow, Drop, Endpoint, Limits, Refuse
from sansnet_core.addresses import parse
from sansnet_core.ports import TCP, UDP, parse_all
from sansnet_trio import (
    GuestDatagramChannel,
    GuestStream,
    NamespaceOptions,
    NewFlow,
    Serve,
    Verdict,
    open_guest,
)
from tests.lab.laboratory import HOST4, HOST6, SERVER4, SERVER6

__all__ = ["FROM_OUTSIDE", "PATIENCE", "PORT", "VERDICTS", "Case", "address_of", "inbound_port"]

PORT: Final = 9
"""The port of the probes of `tests.lab.observe`."""

PATIENCE: Final = 0.5
"""`Limits.decision_time` of the guest, in seconds."""

_FIRST_PORT: Final = 7000

REFUSALS: Final = (
    errno.ECONNREFUSED,
    errno.ECONNRESET,
    errno.EACCES,
    errno.EPERM,
    errno.ENETUNREACH,
    errno.ENETDOWN,
    errno.EHOSTUNREACH,
    errno.EHOSTDOWN,
    errno.ENOPROTOOPT,
    errno.EINVAL,
    errno.ETIMEDOUT,
)


class Case(NamedTuple):
    """A verdict.

    Attributes:
        text: as the program writes it.
        make: makes the verdict for an address of this size, 4 or 16 bytes; None if there is none in time.
    """

    text: str
    make: Callable[[int], Verdict] | None


async def answer(served: GuestStream | GuestDatagramChannel) -> None:
    """The handler of `Serve`."""
    with suppress(trio.BrokenResourceError):
        if isinstance(served, GuestDatagramChannel):
            await served.send(await served.receive())
        else:
            await served.receive_some()


def elsewhere(size: int) -> Allow:
    """An endpoint that answers."""
    return Allow(to=Endpoint(parse(SERVER4 if size == 4 else SERVER6), PORT))


VERDICTS: Final = (
    Case("Allow()", lambda size: Allow()),
    Case("Allow(to=another server)", elsewhere),
    *(
        Case(f"Refuse({errno.errorcode[number]})", partial(lambda number, size: Refuse(errno=number), number))
        for number in REFUSALS
    ),
    Case("Drop()", lambda size: Drop()),
    Case("Serve(handler)", lambda size: Serve(answer)),
    Case("no verdict in time", None),
)


FROM_OUTSIDE: Final = tuple(case for case in VERDICTS if "Serve" not in case.text)
"""The verdicts about a flow from outside."""


def address_of(case: Case, version: int) -> str:
    """The destination for which the program has this verdict."""
    if case.text == "Allow()":
        return SERVER4 if version == 4 else SERVER6
    number = 1 + VERDICTS.index(case)
    return f"192.0.2.{100 + number}" if version == 4 else f"2001:db8:dead::{number:x}"


def inbound_port(case: Case) -> int:
    """The forwarded port for which the program has this verdict."""
    return _FIRST_PORT + VERDICTS.index(case)


_BY_ADDRESS: Final = {parse(address_of(case, version)): case for case in VERDICTS for version in (4, 6)}
_BY_PORT: Final = {inbound_port(case): case for case in VERDICTS}


async def decide(flow: NewFlow) -> Verdict:
    """The verdict that the destination or the port selects."""
    case = _BY_PORT[flow.guest.port] if flow.inbound else _BY_ADDRESS[flow.destination.address]
    if case.make is None:
        await trio.sleep_forever()
    return case.make(len(flow.destination.address))


async def main() -> None:
    """Run the guest until stdin ends."""
    ports = f"{_FIRST_PORT}-{_FIRST_PORT + len(VERDICTS) - 1}"
    specs = [f"{address}/{ports}" for address in (HOST4, HOST6)]
    async with open_guest(
        ["sleep", "1000000"],
        NamespaceOptions(limits=Limits(decision_time=PATIENCE)),
        decide=decide,
        forwards=(*parse_all(specs, TCP), *parse_all(specs, UDP)),
    ) as guest:
        print(guest.pid, flush=True)
        await trio.to_thread.run_sync(sys.stdin.read, abandon_on_cancel=True)


if __name__ == "__main__":
    trio.run(main)
