"""The calls of a driver, which are not checked, have the effects and the notes of those that are."""

from __future__ import annotations

from typing import Any, Final

import pytest

from sansnet_core import Endpoint
from sansnet_core.proto.frames import Frames
from sansnet_core.proto.tcp.handler import Tcp
from sansnet_core.proto.tcp.inbound import Inbound
from sansnet_core.proto.udp.handler import Udp
from sansnet_core.protocols import Protocols
from sansnet_core.recording import Failure, RecordedNetwork
from sansnet_core.testing import make_config
from sansnet_core.timers import Timers
from tests.core.recording.sessions import SESSIONS, SETUPS, TRAFFIC, DrivenNetwork, Session


class Driven(Session):
    make_network = DrivenNetwork


@pytest.mark.parametrize("records", [True, False], ids=["recorded", "in memory"])
@pytest.mark.parametrize("name", SESSIONS)
def test_a_session_has_the_same_effects_and_notes(name: str, records: bool) -> None:
    checked, driven = (kind(*SETUPS[name]) for kind in (Session, Driven))
    for session in (checked, driven):
        if not records:
            session.recorded.record(None)
        SESSIONS[name](session)
    assert driven.recorded.statistics() == checked.recorded.statistics()
    assert driven.recorded.flows() == checked.recorded.flows()
    assert driven.recorded.last_inputs() == checked.recorded.last_inputs()
    driven.recorded.record(None)
    checked.recorded.record(None)
    assert driven.recording == checked.recording


def test_the_notes_in_memory_end_where_they_do_without_a_driver() -> None:
    checked, driven = (kind(*SETUPS["plain"]) for kind in (Session, Driven))
    for session in (checked, driven):
        session.recorded.record(None)
        session.recorded._keep(20_000, None, None)
        SESSIONS["plain"](session)
    rings = [session.recorded._ring for session in (checked, driven)]
    assert all(ring is not None and ring.segments[0].origin is None for ring in rings), "the first ones are forgotten"
    assert driven.recorded.last_inputs() == checked.recorded.last_inputs()


@pytest.mark.interpreted
def test_a_deadline_that_is_known_at_the_second_time_is_an_error_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller has called once: what the second call tells it does not know."""
    right = Timers.next_deadline
    errors = [ZeroDivisionError()]

    def mistaken(self: Timers) -> float | None:
        while errors:
            raise errors.pop()
        return right(self)

    monkeypatch.setattr(Timers, "next_deadline", mistaken)
    network = RecordedNetwork(make_config(), now=0.0, secret=bytes(16))
    with pytest.raises(ZeroDivisionError):
        network.traffic().next_deadline()


FAULTS: Final[dict[str, tuple[type, str, tuple[Any, ...]]]] = {
    "receive_frames": (Frames, "receive", ([bytes(60), bytes(60)],)),
    "stream_connected": (Tcp, "stream_connected", (1,)),
    "stream_received": (Tcp, "stream_received", (1, b"data")),
    "stream_sent": (Tcp, "stream_sent", (1, 4)),
    "stream_ended": (Tcp, "stream_ended", (1,)),
    "stream_accepted": (Inbound, "stream_accepted", (Endpoint(bytes(4), 80), None, 80)),
    "datagram_received": (Udp, "datagram_received", (1, Endpoint(bytes(4), 80), b"data", 0, 64, 0)),
    "handle_deadline": (Timers, "expire", ()),
    "next_deadline": (Timers, "next_deadline", ()),
    "take_orders": (Tcp, "flush", ()),
    "take_frames": (Udp, "flush", ()),
    "take_notices": (Protocols, "take_notices", ()),
    "receive_budget": (Tcp, "receive_budget", (1,)),
}
"""Call -> what fails in it, and its arguments without the time."""
TIMELESS: Final = ("next_deadline", "take_orders", "take_frames", "take_notices", "receive_budget")


@pytest.mark.interpreted
@pytest.mark.parametrize("name", sorted(TRAFFIC))
@pytest.mark.parametrize("error", [ValueError("a fault"), MemoryError()], ids=["fault", "memory"])
def test_an_exception_has_the_same_effects_too(name: str, error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    owner, method, arguments = FAULTS[name]

    def fail(*_: object) -> None:
        raise error

    def effects(*, driven: bool) -> list[object]:
        failures: list[Failure] = []
        network = RecordedNetwork(make_config(), now=0.0, secret=bytes(16), failed=failures.append)
        call = getattr(network.traffic() if driven else network, name)
        given = arguments if name in TIMELESS else (*arguments, 1.0)
        with monkeypatch.context() as patch:
            patch.setattr(owner, method, fail)
            try:
                result = call(*given)
            except Exception as raised:
                result = raised
        told = [(one.error, one.entry, one.flow, one.goes_on) for one in failures]
        return [result, told, network.statistics(), network.survived is None, network.take_frames()]

    expected = effects(driven=False)
    assert effects(driven=True) == expected
    assert expected[1] or error is expected[0], "the fault is not on the way of this call"
