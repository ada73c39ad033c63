"""An exception at any line of the core costs one flow, or one frame, and nothing else.

The invariants, for an exception at any one line that the core runs within an input:

- it does not leave the network, and the driver is told once;
- each connection but the one that is given up carries all its data and ends; without a flow that is given up, all do;
- all sums are those of the flows that are left, and at the end nothing is left;
- a replay of the last inputs runs (without the exception, since nothing raises it then).

A run of the file takes a sample of all lines. `SANSNET_FAULTS=all` takes all, in some minutes.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from errno import ECONNREFUSED
from random import Random
from typing import Any, Final

import pytest

from sansnet_core import (
    Buffer,
    ExtendedError,
    Network,
    OpenDatagram,
    Order,
    Reason,
    SendDatagram,
    SocketId,
    UsageError,
    recovery,
)
from sansnet_core.proto.frames import Frames
from sansnet_core.proto.tcp import arrival
from sansnet_core.proto.tcp.flow import TcpFlow
from sansnet_core.recording import Failure, RecordedNetwork, Replay
from sansnet_core.recording.rescue import FAILURE_TIME, MAX_FAILURES, MAX_RECORDINGS
from sansnet_core.testing import SERVER, make_config
from sansnet_core.testing.packets import IPV4, UDP, ethernet, udp
from sansnet_core.timers import Timers
from tests.core.direct import GUEST
from tests.core.recording import sessions
from tests.core.recording.accounts import wrong_accounts
from tests.core.recording.faults import Injected, Injector
from tests.core.recording.sessions import SESSIONS, SETUPS, Session

NEEDED: Final = ("forward_added", "service_added", "guest_attached")
"""Inputs that give the caller what it cannot do without."""
ALL: Final = os.environ.get("SANSNET_FAULTS") == "all"
SAMPLE: Final = 120
REFUSED: Final = ExtendedError(ECONNREFUSED, 2, 3, 3, 0, None)


def points(name: str) -> list[int]:
    """Numbers of lines to raise at: the first and the last time that each line is run."""
    SESSIONS[name](Session(*SETUPS[name]))  # what is computed once is known then
    counter, session = Injector(), Session(*SETUPS[name])
    with counter.active():
        SESSIONS[name](session)
    found = sorted({number for places in (counter.first, counter.last) for number in places.values()})
    assert len(found) > 2000
    return found if ALL else sorted(Random(7).sample(found, SAMPLE))


@pytest.mark.interpreted
@pytest.mark.timeout(3600 if ALL else 120)
@pytest.mark.parametrize("name", SESSIONS)
def test_an_exception_at_any_line_costs_at_most_one_flow(name: str) -> None:
    for number in points(name):
        session = Session(*SETUPS[name])
        injector = Injector(number)
        try:
            with injector.active():
                SESSIONS[name](session)
        except Injected:
            (failure,) = session.failures
            assert failure.entry.startswith(NEEDED), injector.place
            assert not failure.goes_on
        except AssertionError as rejected:  # the strict guest rejects the reset of a handshake that failed half-way
            if "not behind the SYN" not in str(rejected):
                raise
            (failure,) = session.failures
            assert failure.goes_on, injector.place
            assert failure.flow, injector.place
            assert wrong_accounts(session.recorded) == [], injector.place
        else:
            check(session, str(injector.place))


def check(session: Session, place: str) -> None:
    """Check what is left after one exception."""
    (failure,) = session.failures
    assert failure.goes_on, place
    assert str(failure.error) in str(failure)
    lost = [one for one in session.connections if not (one.closed and bytes(one.received) == sessions.DATA)]
    assert len(lost) <= (1 if failure.flow else 0), place
    assert wrong_accounts(session.recorded) == [], place
    assert session.recorded.statistics().drops[Reason.FAILED] >= 1, place
    session.wait(8000)
    statistics = session.recorded.statistics()
    assert not any(statistics.flows.values()), place
    assert statistics.tcp_held == 0, place
    replay = Replay(failure.recording, stop_at_difference=False)
    assert replay.can_replay
    assert replay.run() > 0


@pytest.mark.interpreted
def test_the_time_of_a_mistake_is_told_with_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mistake that every replay makes again."""
    right = TcpFlow.stream_received

    def mistaken(self: TcpFlow, data: bytes) -> None:
        if data.endswith(b"boom"):
            raise KeyError("a mistake")
        right(self, data)

    monkeypatch.setattr(TcpFlow, "stream_received", mistaken)
    session = sessions.begun()
    session.connections[0].send(b"boom")
    session.connections[1].send(b"fine")
    session.settle()
    assert session.connections[0].reset
    assert bytes(session.connections[1].received) == b"fine"
    (failure,) = session.failures
    assert str(failure).startswith(
        "the core failed at stream_received(socket=1, data=<4 bytes>): KeyError: 'a mistake'"
    )
    assert failure.flow is not None
    assert failure.flow.startswith("tcp 10.0.2.15:")

    session.recorded.record(None)
    for recording in (failure.recording, b"".join(session.recording)):
        steps = list(Replay(recording))
        (raised,) = [step for step in steps if step.raised]
        assert raised.raised is not None
        assert "handler.py" in raised.raised
        assert raised.method == "stream_received"

    monkeypatch.setattr(TcpFlow, "stream_received", right)  # the mistake is corrected
    replay = Replay(b"".join(session.recording), stop_at_difference=False)
    different = [step.number for step in replay if step.difference]
    assert raised.number in different


def test_a_network_that_fails_again_and_again_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    session = sessions.begun()
    network = session.recorded

    def mistaken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Frames, "receive", mistaken)
    later = session.now
    for _ in range(MAX_FAILURES):
        network.receive_frames([bytes(60)], later)
    assert all(failure.goes_on for failure in session.failures)
    later += FAILURE_TIME + 1
    network.receive_frames([bytes(60)] * MAX_FAILURES, later)
    assert all(failure.goes_on for failure in session.failures)
    with pytest.raises(ZeroDivisionError):
        network.receive_frames([bytes(60)], later)
    assert not session.failures[-1].goes_on
    assert network.statistics().drops[Reason.FAILED] == 2 * MAX_FAILURES
    assert sum(bool(failure.recording) for failure in session.failures) == MAX_RECORDINGS


def test_frames_behind_one_that_fails_are_received(monkeypatch: pytest.MonkeyPatch) -> None:
    session = sessions.begun()
    network = session.recorded
    right = Frames.receive
    seen = []

    def mistaken(self: Frames, frame: Buffer) -> None:
        seen.append(frame[0])
        if frame[0] == 2:
            raise IndexError
        right(self, frame)

    monkeypatch.setattr(Frames, "receive", mistaken)
    network.receive_frames([bytes([number]) + bytes(59) for number in (1, 2, 3, 2, 4)], session.now)
    assert seen == [1, 2, 3, 2, 4]
    assert len(session.failures) == 2


def test_a_frame_that_is_none_behind_one_that_fails_is_a_mistake_of_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    session = sessions.begun()
    network = session.recorded

    right = Frames.receive

    def mistaken(self: Frames, frame: Buffer) -> None:
        if isinstance(frame, bytes):
            raise IndexError
        right(self, frame)

    monkeypatch.setattr(Frames, "receive", mistaken)
    none: Any = 5
    with pytest.raises(UsageError):
        network.receive_frames([bytes(60), none], session.now)
    assert network.statistics().drops[Reason.FAILED] == 1
    assert [(type(failure.error), failure.goes_on) for failure in session.failures] == [(IndexError, True)]


@pytest.mark.interpreted
def test_a_network_that_cannot_give_up_a_flow_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    session = sessions.begun()

    def mistaken(*_: object) -> None:
        raise ZeroDivisionError

    def unable(*_: object) -> list[str]:
        raise KeyError

    monkeypatch.setattr(Frames, "receive", mistaken)
    monkeypatch.setattr(recovery, "recover", unable)
    with pytest.raises(ZeroDivisionError):
        session.recorded.receive_frames([bytes(60)], session.now)
    assert [(type(failure.error), failure.goes_on) for failure in session.failures] == [(ZeroDivisionError, False)]


CALLS: Final[dict[str, Callable[[RecordedNetwork, float, SocketId], object]]] = {
    "guest_attached": lambda network, now, served: network.guest_attached(now),
    "service_added": lambda network, now, served: network.service_added(UDP, None, 99, now),
    "service_removed": lambda network, now, served: network.service_removed(served, now),
    "forward_removed": lambda network, now, served: network.forward_removed(SocketId(99), now),
    "reconfigure": lambda network, now, served: network.reconfigure(network._context.config, now),
    "echo_failed": lambda network, now, served: network.echo_failed(SocketId(99), 1, REFUSED, b"", now),
    "handle_deadline": lambda network, now, served: network.handle_deadline(now),
    "report_notices": lambda network, now, served: network.report_notices(True),
    "take_notices": lambda network, now, served: network.take_notices(),
    "take_orders": lambda network, now, served: network.take_orders(),
    "take_frames": lambda network, now, served: network.take_frames(),
}


@pytest.mark.interpreted
@pytest.mark.parametrize("name", CALLS)
def test_a_call_that_fails_once_is_finished(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a caller that needs the result of an input gets the exception."""
    session = sessions.begun()
    served = session.recorded.service_added(UDP, None, 9, session.now)
    right = getattr(Network, name)
    calls = []

    def mistaken(self: Network, *arguments: object, **named: object) -> object:
        calls.append(name)
        if len(calls) == 1:
            raise ZeroDivisionError
        return right(self, *arguments, **named)

    monkeypatch.setattr(Network, name, mistaken)
    if name in NEEDED:
        with pytest.raises(ZeroDivisionError):
            CALLS[name](session.recorded, session.now, served)
    else:
        CALLS[name](session.recorded, session.now, served)
    (failure,) = session.failures
    assert failure.entry.startswith(f"{name}(")
    assert failure.goes_on == (name not in NEEDED)
    assert len(calls) == (1 if name in (*NEEDED, "echo_failed") else 2)
    assert session.recorded.statistics().drops.get(Reason.FAILED, 0) == (name not in NEEDED)
    session.recorded.record(None)
    assert Replay(b"".join(session.recording), stop_at_difference=False).run() > 0


@pytest.mark.parametrize("ring", [0, 1 << 20])
@pytest.mark.parametrize("error", [MemoryError, ZeroDivisionError])
def test_a_network_that_writes_nothing_goes_on_too(
    ring: int, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory that runs out is raised, and a mistake is told; the next call does the rest."""
    failures: list[Failure] = []
    network = RecordedNetwork(make_config(), now=1.0, secret=bytes(16), ring=ring, failed=failures.append)
    right = Network.take_orders
    errors = [error()]

    def mistaken(self: Network) -> list[Order]:
        while errors:
            raise errors.pop()
        return right(self)

    monkeypatch.setattr(Network, "take_orders", mistaken)
    forward = network.forward_added(None, 53, 1.0)
    network.receive_frames([ethernet(network.config.mac, bytes(6), IPV4, udp(GUEST, 53, SERVER, 53, b"q").emit())], 1.0)
    if error is MemoryError:
        with pytest.raises(MemoryError):
            network.take_orders()
        assert failures == []
        assert [type(order) for order in network.take_orders()] == [OpenDatagram, SendDatagram]
    else:
        assert [type(order) for order in network.take_orders()] == [OpenDatagram, SendDatagram]
        assert [failure.goes_on for failure in failures] == [True]
    network.forward_removed(forward, 2.0)
    assert bool(network.last_inputs()) == bool(ring)


@pytest.mark.interpreted
def test_a_flow_that_is_no_argument_is_found_among_the_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the innermost function that has one: the others may belong to other flows."""
    session = sessions.begun()
    inside: Any = session.recorded
    first, second = inside._tcp._flows.values()

    def mistaken(*_: object) -> None:
        found = second
        raise ZeroDivisionError(f"with {found}")

    monkeypatch.setattr(arrival, "receive", mistaken)
    session.connections[0].abort(session.now)
    session.guest.at(session.now)
    session.recorded.receive_frames(session.guest.take_frames(), session.now)
    assert [failure.flow for failure in session.failures] == [f"tcp {second.guest} to {second.remote}"]
    assert list(inside._tcp._flows.values()) == [first]


def test_memory_that_runs_out_is_no_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    """It leaves the network as before; the recording goes on with the state after it."""
    session = sessions.begun()
    network = session.recorded
    right = Frames.receive

    def short(self: Frames, frame: Buffer) -> None:
        raise MemoryError

    monkeypatch.setattr(Frames, "receive", short)
    with pytest.raises(MemoryError):
        network.receive_frames([bytes(60)], session.now)
    monkeypatch.setattr(Frames, "receive", right)
    assert session.failures == []
    session.connections[0].send(b"hello")
    session.drive(lambda: bytes(session.connections[0].received) == b"hello")
    network.record(None)
    replay = Replay(b"".join(session.recording))
    replay.run()
    assert str(replay.network.statistics()) == str(network.statistics())
    assert replay.network.flows() == network.flows()


def test_a_network_that_does_not_know_its_next_deadline_ends_with_a_report(monkeypatch: pytest.MonkeyPatch) -> None:
    session = sessions.begun()

    def fail(self: Timers) -> float | None:
        raise ZeroDivisionError

    monkeypatch.setattr(Timers, "next_deadline", fail)
    with pytest.raises(ZeroDivisionError):
        session.recorded.next_deadline()
    assert [(failure.goes_on, failure.entry) for failure in session.failures] == [(False, "next_deadline()")]
    assert Replay(session.failures[0].recording).run() > 0
