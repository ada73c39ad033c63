"""Limits for a network that may take so much memory (`Limits.within`)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sansnet_core import Limits
from sansnet_core.config import MIN_MEMORY

DEFAULT = Limits()
GIGA = 1 << 30
FLOW = 4 << 10
"""Bytes of a TCP connection, beside its data."""


def test_the_default_limits_are_those_for_a_gibibyte() -> None:
    assert DEFAULT.within(GIGA) == DEFAULT
    assert DEFAULT.within(GIGA - 1) != DEFAULT
    assert DEFAULT.within(64 * GIGA) == DEFAULT


@given(st.integers(0, 2 * GIGA))
def test_data_and_connections_fit_into_the_memory(memory: int) -> None:
    limits = DEFAULT.within(memory)
    memory = max(memory, MIN_MEMORY)
    assert limits.tcp_memory + limits.tcp_flows * FLOW <= memory * 3 // 4 + FLOW
    assert limits.tcp_pending <= limits.tcp_flows
    assert limits.tcp_inbound_flows < limits.tcp_flows
    assert 2 * max(limits.tcp_window, limits.tcp_send_buffer) <= limits.tcp_memory
    assert limits.decision_time == DEFAULT.decision_time


@given(st.integers(0, GIGA), st.integers(0, GIGA))
def test_less_memory_lowers_every_limit(one: int, other: int) -> None:
    less, more = (vars(DEFAULT.within(memory)) for memory in sorted((one, other)))
    assert all(less[name] <= more[name] for name in less)


def test_limits_that_are_lower_already_stay() -> None:
    own = Limits(tcp_memory=1 << 20, udp_flows=1, decision_time=1.0)
    lowered = own.within(MIN_MEMORY)
    assert (lowered.tcp_memory, lowered.udp_flows, lowered.decision_time) == (1 << 20, 1, 1.0)
    assert lowered.tcp_flows == 512
