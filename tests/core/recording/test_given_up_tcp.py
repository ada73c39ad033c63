"""A connection that is given up after a mistake of the core leaves nothing behind, and no other one suffers."""

from __future__ import annotations

from errno import ECONNABORTED
from typing import Any

import pytest

from sansnet_core import (
    Action,
    CloseSocket,
    DecideFlow,
    Endpoint,
    FlowClosed,
    FlowRefused,
    Limits,
    OpenStream,
    Reason,
    Refuse,
    SocketId,
)
from sansnet_core.dropped import Dropped
from sansnet_core.proto.tcp import states
from sansnet_core.proto.tcp.flow import TcpFlow
from sansnet_core.proto.tcp.handler import Tcp
from sansnet_core.records import replace
from sansnet_core.testing import OUTSIDER, HostScript, Pair, make_config
from sansnet_core.testing.packets import RST
from tests.core.direct import GUEST, Direct
from tests.core.named import LEASE, NAME, PUBLIC, PUBLIC6, PUBLIC_B, TcpGuest, named
from tests.core.recording.accounts import accounts, wrong_accounts
from tests.core.recording.sessions import begun as begun_session

FROM = Endpoint(GUEST, 40000)
TO = Endpoint(PUBLIC, 5432)


def begun(*, connected: bool = True, destination: str = PUBLIC, **fields: Any) -> tuple[Direct, TcpGuest, Any]:
    """A network with a connection of the guest, and that connection."""
    bench = Direct(replace(make_config(), **fields))
    guest = TcpGuest(bench, destination)
    guest.syn()
    flow = flows(bench)[0]
    if connected:
        bench.network.stream_connected(SocketId(1), bench.now)
        bench.collect()
        guest.accept()
        bench.packets.clear()
        bench.take()
    return bench, guest, flow


def flows(bench: Direct) -> list[Any]:
    inside: Any = bench.network
    return list(inside._tcp._flows.values())


def give_up(bench: Direct, owner: object) -> str | None:
    """Do what follows on an exception in the methods of an object; the connection as text."""
    inside: Any = bench.network
    text: str | None = inside._tcp.abandon(owner)
    inside._tcp.recount()
    bench.collect()
    assert wrong_accounts(bench.network) == []
    return text


def assert_nothing_left(bench: Direct) -> None:
    statistics = bench.network.statistics()
    assert (bench.network.flows(), statistics.tcp_held, not any(statistics.flows.values())) == ([], 0, True)
    bench.wait(8000)
    assert bench.network.next_deadline() is None


def test_both_ends_are_reset_and_the_loss_is_counted_and_noticed() -> None:
    bench, guest, flow = begun()
    guest.data(b"hello")
    bench.take()
    assert give_up(bench, flow) == "tcp 10.0.2.15:40000 to 93.184.215.14:5432"
    assert bench.take()[0] == CloseSocket(SocketId(1), True, ECONNABORTED)
    assert [segment.flags & RST for segment in guest.segments()][-1:] == [RST]
    assert bench.network.statistics().last_drops == {Reason.FAILED: (Dropped(6, FROM, TO),)}
    closed = bench.notices[-1]
    assert isinstance(closed, FlowClosed)
    assert (closed.reason, closed.errno, closed.sent) == (Reason.FAILED, ECONNABORTED, 5)
    assert_nothing_left(bench)


def test_a_socket_whose_end_is_ordered_already_is_closed_once() -> None:
    """The exception came behind the effects of the guest's reset."""
    bench, _, flow = begun()
    flow.fire(states.GUEST_RESET)
    give_up(bench, flow)
    (closed,) = bench.take()
    assert without_cause(closed) == CloseSocket(SocketId(1))
    assert_nothing_left(bench)


def test_the_guest_learns_that_a_connection_which_is_not_open_failed() -> None:
    bench, guest, flow = begun(connected=False)
    bench.take()
    give_up(bench, flow)
    assert bench.take()[0] == CloseSocket(SocketId(1), True, ECONNABORTED)
    refused, closed = bench.notices[1:]
    assert isinstance(refused, FlowRefused)
    assert isinstance(closed, FlowClosed)
    assert (refused.errno, refused.reason, closed.errno) == (ECONNABORTED, Reason.FAILED, ECONNABORTED)
    assert_nothing_left(bench)
    guest.syn()
    assert len(flows(bench)) == 1


def test_a_question_is_withdrawn() -> None:
    bench, _, flow = begun(connected=False, default_action=Action.ASK)
    question = bench.one(DecideFlow)
    give_up(bench, flow)
    assert bench.take() == [CloseSocket(question.socket, True, ECONNABORTED)]
    (refused,) = bench.notices
    assert isinstance(refused, FlowRefused)
    assert (refused.errno, refused.reason) == (ECONNABORTED, Reason.FAILED)
    assert_nothing_left(bench)


def test_a_question_about_a_connection_that_is_gone_already_is_forgotten() -> None:
    bench, _, flow = begun(connected=False, default_action=Action.ASK)
    flow.lifecycle = ("GONE", "GONE", *flow.lifecycle[2:])
    give_up(bench, flow)
    inside: Any = bench.network
    assert inside._tcp.opening.questions.undecided() == []
    assert_nothing_left(bench)


@pytest.mark.parametrize("waited", [0.0, 3.9])
def test_a_question_ends_in_time_also_if_its_deadline_was_lost_or_is_set_again(waited: float) -> None:
    bench, _, _ = begun(connected=False, default_action=Action.ASK, limits=Limits(decision_time=4))
    bench.wait(waited)
    bench.network.handle_deadline(bench.now)  # it learns the time
    inside: Any = bench.network
    if not waited:
        bench.network._context.timers.forget(inside._tcp.opening.questions)
    inside._tcp.recount()
    bench.wait(4.05 - waited)
    assert bench.network.flows() == []


def test_a_refusal_is_forgotten_also_if_its_deadline_was_lost() -> None:
    bench, _, _ = begun(connected=False, default_action=Action.ASK)
    bench.network.flow_decided(SocketId(1), Refuse(), bench.now)
    inside: Any = bench.network
    questions = inside._tcp.opening.questions
    assert len(questions._refusals) == 1
    bench.network._context.timers.forget(questions)
    inside._tcp.recount()
    bench.wait(200)
    assert questions._refusals == {}


def test_a_connection_that_is_over_for_the_host_has_no_socket_to_close() -> None:
    bench, guest, flow = begun()
    bench.network.stream_ended(SocketId(1), bench.now)
    bench.collect()
    guest.segments()
    guest.seen += 1
    guest.fin()
    bench.network.stream_sent(SocketId(1), 0, bench.now)
    bench.collect()
    bench.take()
    assert flow.lifecycle[0] == "TIME_WAIT"
    give_up(bench, flow)
    assert bench.take() == []
    assert_nothing_left(bench)


def test_a_guest_that_is_done_hears_nothing_of_it() -> None:
    """It may have another connection with the same ends."""
    bench, guest, flow = begun()
    guest.data(b"hello")
    bench.network.stream_ended(SocketId(1), bench.now)
    bench.collect()
    guest.segments()
    guest.seen += 1
    guest.fin()
    bench.wait(3)
    assert flow.lifecycle[:2] == ("GONE", "DRAINING")
    guest.segments()
    bench.packets.clear()
    bench.take()
    give_up(bench, flow)
    assert bench.take() == [CloseSocket(SocketId(1), True, ECONNABORTED)]
    assert guest.segments() == []
    assert_nothing_left(bench)


@pytest.mark.parametrize("part", [True, False], ids=["attempts", "connection"])
def test_all_sockets_of_several_attempts_are_closed(part: bool) -> None:
    bench, bindings = named(default_action=Action.ALLOW)
    bindings.know(NAME, PUBLIC, PUBLIC6, PUBLIC_B)
    TcpGuest(bench, LEASE).syn()
    bench.wait(0.6)
    sockets = [order.socket for order in bench.take() if isinstance(order, OpenStream)]
    assert len(sockets) == 3
    (flow,) = flows(bench)
    give_up(bench, flow.attempts if part else flow)
    closed = {order.socket for order in bench.take() if isinstance(order, CloseSocket)}
    assert closed == set(sockets)
    assert bindings.pins == {}
    assert_nothing_left(bench)


def test_a_connection_that_is_gone_already_resets_the_guest_and_closes_its_socket() -> None:
    """The exception came between the change of its state and the effects of that."""
    bench, guest, flow = begun()
    flow.lifecycle = ("GONE", "GONE", *flow.lifecycle[2:])
    give_up(bench, flow)
    assert [segment.flags & RST for segment in guest.segments()] == [RST]
    assert CloseSocket(SocketId(1)) in [without_cause(order) for order in bench.take()]
    assert_nothing_left(bench)


def without_cause(order: object) -> object:
    return CloseSocket(order.socket) if isinstance(order, CloseSocket) else order


@pytest.mark.interpreted
@pytest.mark.parametrize("gone", [True, False])
@pytest.mark.parametrize("part", ["_headers", "sender", "receiver", "resting"])
def test_a_connection_whose_parts_are_broken_is_given_up_too(part: str, gone: bool) -> None:
    bench, _, flow = begun()
    setattr(flow, part, b"" if part == "resting" else None)
    if gone:
        flow.lifecycle = ("GONE", "GONE", *flow.lifecycle[2:])
    inside: Any = bench.network
    assert inside._tcp.abandon(flow) is not None
    inside._tcp.recount()
    assert flows(bench) == []
    assert CloseSocket(SocketId(1)) in [without_cause(order) for order in bench.network.take_orders()]


@pytest.mark.parametrize("kind", ["undecided", "delays an acknowledgment", "lingers"])
def test_a_connection_that_was_removed_in_part_leaves_nothing(kind: str) -> None:
    if kind == "undecided":
        bench, guest, flow = begun(connected=False, default_action=Action.ASK)
    else:
        bench, guest, flow = begun()
    if kind == "delays an acknowledgment":
        guest.data(b"data")
    elif kind == "lingers":
        bench.network.stream_ended(SocketId(1), bench.now)
        bench.collect()
        guest.seen += 1
        guest.fin()
    inside: Any = bench.network
    inside._tcp._table.remove(flow)
    give_up(bench, flow)
    assert inside._tcp.opening.questions.undecided() == []
    assert_nothing_left(bench)


def test_a_connection_whose_end_fails_again_and_again_is_removed() -> None:
    bench, guest, flow = begun()

    def mistaken(_: TcpFlow) -> None:
        raise ZeroDivisionError

    inside: Any = bench.network
    inside._tcp._shared.forget = mistaken
    give_up(bench, flow)
    assert [segment.flags & RST for segment in guest.segments()] == [RST]
    assert CloseSocket(SocketId(1)) in [without_cause(order) for order in bench.take()]
    assert_nothing_left(bench)


@pytest.mark.interpreted
def test_a_fact_that_is_lost_on_its_way_ends_its_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    def mistaken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Tcp, "stream_ended", mistaken)
    session = begun_session()
    session.recorded.stream_ended(SocketId(1), session.now)
    session.wait(1.0)
    assert [connection.reset for connection in session.connections] == [True, False]


def test_an_outsiders_connection_is_given_up_too() -> None:
    bench = Direct()
    socket = bench.network.stream_accepted(OUTSIDER, None, 80, bench.now)
    bench.collect()
    assert socket is not None
    give_up(bench, flows(bench)[0])
    assert CloseSocket(socket) in [without_cause(order) for order in bench.take()]
    assert_nothing_left(bench)


def test_what_is_no_whole_connection_is_not_given_up() -> None:
    bench, _, _ = begun()
    for owner in (None, bench, bench.network._context, TcpFlow.__new__(TcpFlow)):
        assert give_up(bench, owner) is None
    assert (bench.take(), len(flows(bench)), bench.drops()) == ([], 1, {})


def test_all_sums_are_computed_again() -> None:
    bench, bindings = named(default_action=Action.ALLOW)
    bindings.know(NAME, PUBLIC, PUBLIC6)
    TcpGuest(bench, LEASE).syn()
    bench.wait(0.3)
    guest = TcpGuest(bench, PUBLIC, source_port=40001)
    guest.syn()
    bench.network.stream_connected(flows(bench)[-1].socket, bench.now)
    bench.collect()
    guest.accept()
    guest.data(b"hello")
    guest.sequence += 5
    guest.data(b"beyond a gap")
    TcpGuest(bench, PUBLIC, source_port=40002).syn()
    assert bench.network.stream_accepted(OUTSIDER, None, 80, bench.now) is not None
    right = accounts(bench.network)
    assert (right["tcp pending"], right["tcp further"], right["tcp inbound"]) == ([2, 1], 1, 1)
    assert right["tcp held"] > right["tcp beyond"] > 0
    inside: Any = bench.network
    shared, table = inside._tcp._shared, inside._tcp._table
    shared.pending[:] = [7, 7]
    shared.further = table.inbound = shared.memory.held = shared.memory.beyond = 7
    shared.connecting = dict.fromkeys(flows(bench))
    table.by_socket[SocketId(99)] = TcpFlow.__new__(TcpFlow)
    inside._tcp.recount()
    assert accounts(bench.network) == right


def test_the_sums_are_right_without_mistakes_too() -> None:
    bench, guest, _ = begun()
    for port in (40001, 40002, 40003):
        TcpGuest(bench, PUBLIC, source_port=port).syn()
    for _ in range(3):
        assert bench.network.stream_accepted(OUTSIDER, None, 80 + len(flows(bench)), bench.now) is not None
    assert accounts(bench.network)["tcp pending"] == [3, 3]
    bench.network.stream_failed(SocketId(2), ECONNABORTED, None, bench.now)
    bench.network.stream_failed(SocketId(5), ECONNABORTED, None, bench.now)
    bench.network.stream_connected(SocketId(3), bench.now)
    bench.network.stream_ended(SocketId(1), bench.now)
    bench.collect()
    guest.seen += 1
    guest.fin()
    assert accounts(bench.network)["tcp pending"] == [2, 2]
    assert accounts(bench.network)["tcp inbound"] == 2
    assert wrong_accounts(bench.network) == []


def test_other_connections_go_on() -> None:
    pair = Pair(make_config(), HostScript(echo=True))
    first, _ = pair.established()
    second = pair.connect(port=81)
    pair.settle()
    inside: Any = pair.network
    inside._tcp.abandon(inside._tcp._sockets[SocketId(1)])
    inside._tcp.recount()
    second.send(b"hello")
    pair.drive(lambda: bytes(second.received) == b"hello")
    assert first.reset


@pytest.mark.interpreted
def test_connections_behind_one_whose_output_fails_have_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    right = TcpFlow.flush

    def mistaken(flow: TcpFlow) -> None:
        if flow.socket == 2 and flow.sender.buffer.unsent:
            raise ZeroDivisionError
        right(flow)

    monkeypatch.setattr(TcpFlow, "flush", mistaken)
    session = begun_session(connections=3)
    for connection in session.connections:
        connection.send(b"hello")
    session.settle()
    assert [bytes(connection.received) for connection in session.connections] == [b"hello", b"", b"hello"]
    assert [connection.reset for connection in session.connections] == [False, True, False]
    assert len(session.failures) == 1
