"""Whether the sums that a network keeps are those of its flows."""

from __future__ import annotations

from collections import Counter
from typing import Any

from sansnet_core import Network

__all__ = ["accounts", "wrong_accounts"]


def accounts(network: Network) -> dict[str, Any]:
    """The sums, and what they are about."""
    inside: Any = network
    tcp, udp, echo = inside._tcp, inside._udp, inside._echo
    shared, table, questions = tcp._shared, tcp._table, tcp.opening.questions
    found = {
        "tcp by socket": sorted(table.by_socket),
        "tcp inbound": table.inbound,
        "tcp pending": list(shared.pending),
        "tcp connecting": list(shared.connecting),
        "tcp further": shared.further,
        "tcp held": shared.memory.held,
        "tcp beyond": shared.memory.beyond,
        "tcp pieces": list(shared.memory._holders),
        "tcp waiting": list(shared.memory.waiting),
        "tcp questions": questions.undecided(),
        "udp flows": list(udp._table.flows),
        "udp numbers": list(udp._table._numbers),
        "udp sockets": {
            name: (list(end.flows), _addresses(end), getattr(end, "groups", 0)) for name, end in udp._sockets.items()
        },
        "udp mappings": sorted(udp._host._mappings),
        "udp served": {name: list(end.flows) for name, end in udp._served._ends.items()},
        "echo flows": list(echo._flows),
        "echo sockets": sorted(echo._sockets),
    }
    for name, undecided in (("udp", udp._opening._undecided), ("echo", echo._undecided)):
        found[f"{name} questions"] = sorted(undecided._sockets)
        found[f"{name} counts"] = list(undecided._counts)
        found[f"{name} sizes"] = list(undecided._sizes)
    return found


def _addresses(end: Any) -> dict[bytes, int]:
    """The number of flows to each address; a socket that had only one flow so far has not counted them yet."""
    counted = getattr(end, "addresses", {})
    return dict(counted if counted is not None else Counter(host.address for host in end.flows))


def wrong_accounts(network: Network) -> list[str]:
    """The sums that change when they are computed again from all flows."""
    before = accounts(network)
    inside: Any = network
    for handler in (inside._tcp, inside._udp, inside._echo):
        handler.recount()
    after = accounts(network)
    wrong = [name for name in before if before[name] != after[name]]
    table, shared = inside._tcp._table, inside._tcp._shared
    flows = set(table.all())
    if flows != set(table.by_socket.values()):
        wrong.append("tcp by key")
    if not {*shared.delayed._queue, *shared.time_wait[0]._queue, *shared.time_wait[1]._queue} <= flows:
        wrong.append("tcp timers")
    return wrong
