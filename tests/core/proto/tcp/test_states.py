"""The tables of the TCP lifecycle: every state and every event."""

from __future__ import annotations

import re
from collections import deque
from itertools import product
from pathlib import Path

import pytest

from sansnet_core.proto.tcp import flow, states
from sansnet_core.proto.tcp.states import (
    EVENT_TRIGGERED,
    GONE,
    INBOUND,
    INITIAL,
    JOINT,
    MACHINES,
    Lifecycle,
    transition,
)

EVENTS = sorted({event for table in EVENT_TRIGGERED.values() for row in table.values() for event in row})
ALL: list[Lifecycle] = [
    (guest, host, up, down) for guest, host, up, down in product(*(EVENT_TRIGGERED[machine] for machine in MACHINES))
]


def reachable() -> dict[Lifecycle, tuple[Lifecycle, str] | None]:
    """Every lifecycle that some sequence of events leads to, with one way to it."""
    found: dict[Lifecycle, tuple[Lifecycle, str] | None] = {INITIAL: None, INBOUND: None}
    queue = deque([INITIAL, INBOUND])
    while queue:
        here = queue.popleft()
        for event in EVENTS:
            there, _ = transition(here, event)
            if there not in found:
                found[there] = (here, event)
                queue.append(there)
    return found


REACHABLE = reachable()


def test_every_target_is_a_state_of_its_machine() -> None:
    for machine in MACHINES:
        for row in EVENT_TRIGGERED[machine].values():
            assert set(row.values()) <= set(EVENT_TRIGGERED[machine])
    for rule in JOINT:
        for machine, state in (*rule.when.items(), *rule.then.items()):
            assert state in EVENT_TRIGGERED[machine]


def test_every_state_is_reachable() -> None:
    for index, machine in enumerate(MACHINES):
        assert {lifecycle[index] for lifecycle in REACHABLE} == set(EVENT_TRIGGERED[machine])


@pytest.mark.parametrize("event", EVENTS)
def test_any_event_in_any_state_ends_where_no_joint_rule_applies(event: str) -> None:
    for lifecycle in ALL:
        after, _ = transition(lifecycle, event)
        now = dict(zip(MACHINES, after, strict=True))
        assert not [rule for rule in JOINT if rule.when.items() <= now.items()], (lifecycle, event)


@pytest.mark.parametrize("event", EVENTS)
def test_what_is_gone_stays_gone(event: str) -> None:
    for lifecycle in ALL:
        after, _ = transition(lifecycle, event)
        for index in (0, 1):
            assert after[index] == GONE or lifecycle[index] != GONE, (lifecycle, event)


def test_the_end_is_reached_from_everywhere() -> None:
    for lifecycle in REACHABLE:
        after, _ = transition(lifecycle, states.GUEST_RESET)
        assert after[:2] == (GONE, GONE)


def test_the_socket_is_closed_exactly_once_on_every_path() -> None:
    closing = {"close_socket", "abort_socket"}
    for lifecycle in REACHABLE:
        for event in EVENTS:
            after, effects = transition(lifecycle, event)
            closed_now = len(closing.intersection(effects))
            by_itself = event == states.HOST_FAILED  # the driver has closed it then
            gone = lifecycle[1] != GONE and after[1] == GONE
            assert closed_now == (gone and not by_itself), (lifecycle, event)


def test_the_guest_hears_of_a_failed_host_exactly_once() -> None:
    for lifecycle in REACHABLE:
        _, effects = transition(lifecycle, states.HOST_FAILED)
        alive = lifecycle[1] != GONE
        assert len({"refuse", "send_reset", "withdraw"}.intersection(effects)) == alive, lifecycle


def test_every_effect_is_a_method_of_the_flow() -> None:
    named = {rule.effect for rule in JOINT}
    methods = {name.removeprefix("_effect_") for name in dir(flow.TcpFlow) if name.startswith("_effect_")}
    assert named == methods


def test_the_documentation_shows_the_tables_as_they_are() -> None:
    from docs.diagrams import render

    text = Path("docs/tcp.md").read_text()
    shown = re.search(r"<!-- states -->\n(.*?)<!-- /states -->", text, re.DOTALL)
    assert shown
    assert shown[1] == render()
