"""Compares the state of a network with its limits. This looks inside: no public counter has all of it."""

from __future__ import annotations

import pickle
from typing import Final

from sansnet_core import Network
from sansnet_core.config import Limits
from sansnet_core.proto.tcp.memory import RESERVE
from sansnet_core.testing.operations import World

__all__ = ["check_bounds", "size_of"]

_STALE: Final = 200
"""Entries of the timer heap that may be stale before they are swept."""


def check_bounds(world: World) -> None:
    """Check all numbers of a network against its limits."""
    network, limits = world.network, world.config.limits
    counted = network.statistics()
    flows = counted.flows
    for name, most in _most(limits).items():
        assert flows.get(name, 0) <= most, f"{flows[name]} {name} of {most}"
    # Beyond the limit: the reserve of each connection, and one read of a host's socket each
    segment = max(world.config.link.max_frame_size, 65536)
    assert 0 <= counted.tcp_held <= limits.tcp_memory + flows["tcp_flows"] * (RESERVE + segment)
    questions = len(world.sockets.questions)
    assert questions <= 6 * limits.undecided_flows, f"{questions} questions"  # three protocols, two directions
    heap = len(network._context.timers._heap)
    owners = 50 + 3 * flows["tcp_flows"] + flows.get("name_questions", 0) + flows.get("udp_flows", 0)
    assert heap <= _STALE + 2 * owners, f"{heap} timers for {flows}"


def _most(limits: Limits) -> dict[str, int]:
    return {
        "tcp_flows": limits.tcp_flows,
        "udp_flows": limits.udp_flows + limits.udp_inbound_flows,
        "echo_flows": limits.echo_flows,
        "name_questions": limits.name_questions,
        "names": 2 * limits.names,
    }


def size_of(network: Network) -> int:
    """Bytes of all state of a network."""
    return len(pickle.dumps(network))
