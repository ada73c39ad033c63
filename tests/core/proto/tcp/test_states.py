"""The tables of the TCP lifecycle: every state and every event."""

from __future__ import annotations

import re
from collections import deque
from itertools import product
from pathlib import Path

import pytest

from sansnet_core.proto.tcp import flow, states
from sansnet_core.proto.tcp.states import (
    CONNECTED,
    ESTABLISHED,
    EVENT_TRIGGERED,
    GONE,
    INBOUND,
    INITIAL,
    JOINT,
    PARTS,
    UNDECIDED_INBOUND,
    UNDECIDED_INITIAL,
    Lifecycle,
    transition,
)

EVENTS = sorted({event for table in EVENT_TRIGGERED.values() for row in table.values() for event in row})
ALL: list[Lifecycle] = [
    (guest, host, up, down) for guest, host, up, down in product(*(EVENT_TRIGGERED[part] for part in PARTS))
]


def reachable() -> dict[Lifecycle, tuple[Lifecycle, str] | None]:
    """Every lifecycle that some sequence of events leads to, with one way to it."""
    first = (INITIAL, INBOUND, UNDECIDED_INITIAL, UNDECIDED_INBOUND)
    found: dict[Lifecycle, tuple[Lifecycle, str] | None] = dict.fromkeys(first)
    queue = deque(first)
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
    for part in PARTS:
        for row in EVENT_TRIGGERED[part].values():
            assert set(row.values()) <= set(EVENT_TRIGGERED[part])
    for rule in JOINT:
        for part, state in (*rule.when.items(), *rule.then.items()):
            assert state in EVENT_TRIGGERED[part]


def test_every_state_is_reachable() -> None:
    """But for LOST, which a joint rule leaves at once."""
    for index, part in enumerate(PARTS):
        assert {lifecycle[index] for lifecycle in REACHABLE} == set(EVENT_TRIGGERED[part]) - {states.LOST}


@pytest.mark.parametrize("event", EVENTS)
def test_any_event_in_any_state_ends_where_no_joint_rule_applies(event: str) -> None:
    for lifecycle in ALL:
        after, _ = transition(lifecycle, event)
        now = dict(zip(PARTS, after, strict=True))
        assert not [rule for rule in JOINT if rule.when.items() <= now.items()], (lifecycle, event)


@pytest.mark.parametrize("event", EVENTS)
def test_what_is_gone_stays_gone(event: str) -> None:
    for lifecycle in ALL:
        after, _ = transition(lifecycle, event)
        for index in (0, 1):
            assert after[index] == GONE or lifecycle[index] != GONE, (lifecycle, event)


@pytest.mark.parametrize("event", [states.GUEST_RESET, states.GUEST_LOST])
def test_the_end_is_reached_from_everywhere(event: str) -> None:
    for lifecycle in REACHABLE:
        after, _ = transition(lifecycle, event)
        drains = lifecycle[1] == states.DRAINING
        if lifecycle[1:3] == (CONNECTED, states.FIN_SEEN):
            silent = event == states.GUEST_LOST and lifecycle[0] == ESTABLISHED
            drains = silent or lifecycle[3] in states.FIN_UNACKNOWLEDGED
        assert after[:2] == (GONE, states.DRAINING if drains else GONE)


@pytest.mark.parametrize("event", [states.GUEST_RESET, states.GUEST_LOST])
def test_whether_the_socket_of_a_guest_that_is_gone_is_reset(event: str) -> None:
    """Not after FIN, if the guest is silent, or resets in CLOSING or LAST-ACK (RFC 9293, 3.10.7.4)."""
    for lifecycle in REACHABLE:
        guest, host, up, down = lifecycle
        if (guest, host) == (ESTABLISHED, CONNECTED):
            _, change = states.change(lifecycle, event)
            assert change is not None
            both_have_ended = up != states.OPEN and down in states.FIN_UNACKNOWLEDGED
            whole = up != states.OPEN and (both_have_ended or event == states.GUEST_LOST)
            assert ("abort_socket" in change.effects) != whole, lifecycle
            assert ("close_socket" in change.effects) == (whole and up == states.SHUT), lifecycle
            assert (change.errno == 0) == both_have_ended, lifecycle


@pytest.mark.parametrize("event", [states.UP_DRAINED, states.HOST_FAILED])
def test_a_host_that_drains_ends_when_it_has_taken_all_data_or_fails(event: str) -> None:
    for lifecycle in REACHABLE:
        if lifecycle[1] == states.DRAINING:
            assert lifecycle[0] in (states.TIME_WAIT, GONE)
            assert transition(lifecycle, event)[0][:2] == (lifecycle[0], GONE)


def test_a_guest_that_is_given_up_is_reset_if_it_was_connected() -> None:
    for lifecycle in REACHABLE:
        _, effects = transition(lifecycle, states.GUEST_LOST)
        assert ("send_reset" in effects) == (lifecycle[0] == states.ESTABLISHED), lifecycle
        _, effects = transition(lifecycle, states.GUEST_RESET)
        assert "send_reset" not in effects, lifecycle


def _after(*events: str) -> tuple[Lifecycle, list[str]]:
    """Where a connection of the guest is after these events, and the effects of all of them."""
    lifecycle = INITIAL
    effects: list[str] = []
    for event in (states.HOST_CONNECTED, states.GUEST_ACK, *events):
        lifecycle, more = transition(lifecycle, event)
        effects += more
    return lifecycle, effects


_GUEST_ENDS = (states.GUEST_FIN, states.UP_DRAINED)
_HOST_ENDS = (states.HOST_ENDED, states.DOWN_DRAINED, states.GUEST_ACKED_FIN)


@pytest.mark.parametrize(
    "events",
    [
        (*_GUEST_ENDS, *_HOST_ENDS),
        (states.GUEST_FIN, states.HOST_ENDED, states.UP_DRAINED, states.DOWN_DRAINED, states.GUEST_ACKED_FIN),
        (states.HOST_ENDED, *_GUEST_ENDS, states.DOWN_DRAINED, states.GUEST_ACKED_FIN),
        (states.GUEST_FIN, *_HOST_ENDS, states.UP_DRAINED),
    ],
)
def test_the_fin_that_answers_the_guests_needs_no_time_wait(events: tuple[str, ...]) -> None:
    """RFC 9293's LAST-ACK, whenever the host takes the last data: the socket is closed and nothing lingers."""
    lifecycle, effects = _after(*events)

    assert lifecycle[:2] == (GONE, GONE)
    assert "start_time_wait" not in effects


@pytest.mark.parametrize(
    "events",
    [
        (*_HOST_ENDS, *_GUEST_ENDS),
        (states.HOST_ENDED, states.DOWN_DRAINED, *_GUEST_ENDS, states.GUEST_ACKED_FIN),
        (states.HOST_ENDED, states.DOWN_DRAINED, states.GUEST_FIN, states.GUEST_ACKED_FIN, states.UP_DRAINED),
    ],
)
def test_a_fin_that_came_first_or_crossed_the_guests_leads_to_time_wait(events: tuple[str, ...]) -> None:
    lifecycle, effects = _after(*events)

    assert lifecycle[:2] == (states.TIME_WAIT, GONE)
    assert sorted(effects[-2:]) == ["close_socket", "start_time_wait"]


def test_the_socket_is_closed_exactly_once_on_every_path() -> None:
    closing = {"close_socket", "abort_socket", "withdraw_question"}
    for lifecycle in REACHABLE:
        for event in EVENTS:
            after, effects = transition(lifecycle, event)
            closed_now = len(closing.intersection(effects))
            undecided = states.UNDECIDED in lifecycle
            # The driver has closed the socket itself, or has no question any more
            by_itself = event == states.REFUSED if undecided and lifecycle[1] == states.UNDECIDED else False
            by_itself |= event == states.HOST_FAILED and not undecided
            gone = lifecycle[1] != GONE and after[1] == GONE
            assert closed_now == (gone and not by_itself), (lifecycle, event)


def test_the_guest_hears_of_a_failed_host_exactly_once() -> None:
    for lifecycle in REACHABLE:
        _, effects = transition(lifecycle, states.HOST_FAILED)
        # It has heard nothing yet, or is done
        alive = lifecycle[1] not in (GONE, states.DRAINING) and states.UNDECIDED not in lifecycle
        told = {"refuse", "send_reset", "reset_handshake", "withdraw_syn"}
        assert len(told.intersection(effects)) == alive, lifecycle


def test_every_effect_has_its_code() -> None:
    assert {effect for rule in JOINT for effect in rule.effects} == set(flow._EFFECTS)


def test_the_documentation_shows_the_tables_as_they_are() -> None:
    from docs.diagrams import render

    text = Path("docs/tcp.md").read_text()
    shown = re.search(r"<!-- states -->\n(.*?)<!-- /states -->", text, re.DOTALL)
    assert shown
    assert shown[1] == render()
