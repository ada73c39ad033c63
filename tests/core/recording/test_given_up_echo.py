"""A flow of pings that is given up after a mistake of the core leaves nothing behind, and no other flow suffers."""

from __future__ import annotations

from typing import Any

from sansnet_core import Action, CloseSocket, DecideFlow, Endpoint, OpenEcho, Reason, Serve
from sansnet_core.records import replace
from sansnet_core.testing import SERVER, make_config
from sansnet_core.testing.packets import echo_request
from tests.core.direct import GUEST, Direct
from tests.core.recording.accounts import wrong_accounts

FIRST, SECOND = 0x1234, 0x5678


def give_up(bench: Direct, number: int = 0) -> str | None:
    """Do what follows on an exception in the methods of a flow or of a question; the flow as text."""
    inside: Any = bench.network
    echo = inside._protocols.echo
    owner = [*echo._flows.values(), *echo._undecided._questions.values()][number]
    text: str | None = echo.abandon(owner)
    echo.recount()
    bench.collect()
    assert wrong_accounts(bench.network) == []
    return text


def test_its_socket_is_closed_and_the_loss_is_counted() -> None:
    bench = Direct()
    bench.send(echo_request(GUEST, SERVER, FIRST, 1, b"ping"), echo_request(GUEST, SERVER, SECOND, 1, b"ping"))
    first, second = (order.socket for order in bench.take() if isinstance(order, OpenEcho))
    text = give_up(bench)

    assert text == f"ping {Endpoint(GUEST, FIRST)} to {Endpoint(SERVER, FIRST)}"
    assert bench.one(CloseSocket).socket == first
    assert bench.drops() == {Reason.FAILED: 1}
    bench.network.echo_received(second, SERVER, 1, b"ping", 64, 0, bench.now)
    bench.collect()
    assert len(bench.packets) == 1
    bench.wait(bench.config.limits.echo_idle + 1)
    assert bench.one(CloseSocket).socket == second


def test_a_question_about_it_is_withdrawn() -> None:
    bench = Direct(replace(make_config(), default_action=Action.ASK))
    bench.send(echo_request(GUEST, SERVER, FIRST, 1, b"ping"))
    question = bench.one(DecideFlow)
    give_up(bench)

    assert bench.one(CloseSocket).socket == question.socket
    assert bench.drops() == {Reason.FAILED: 1}


def test_one_that_is_answered_here_has_no_socket() -> None:
    bench = Direct(replace(make_config(), default_action=Action.ASK))
    bench.send(echo_request(GUEST, SERVER, FIRST, 1, b"ping"))
    bench.network.flow_decided(bench.one(DecideFlow).socket, Serve(), bench.now)
    bench.collect()
    assert len(bench.packets) == 1
    give_up(bench)

    assert bench.take() == []
    assert bench.network.statistics().flows["echo_flows"] == 0


def test_one_that_was_removed_in_part_leaves_no_socket() -> None:
    bench = Direct()
    bench.send(echo_request(GUEST, SERVER, FIRST, 1, b"ping"))
    opened = next(order for order in bench.take() if isinstance(order, OpenEcho))
    inside: Any = bench.network
    echo = inside._protocols.echo
    _, owner = echo._flows.popitem()
    assert echo.abandon(owner) is not None
    echo.recount()
    bench.collect()
    assert bench.one(CloseSocket).socket == opened.socket


def test_the_others_end_in_time_if_the_timer_had_expired() -> None:
    bench = Direct()
    bench.send(echo_request(GUEST, SERVER, FIRST, 1, b"ping"), echo_request(GUEST, SERVER, SECOND, 1, b"ping"))
    inside: Any = bench.network
    inside._context.timers.forget(inside._echo)
    give_up(bench)
    bench.take()
    bench.wait(bench.config.limits.echo_idle + 1)

    assert isinstance(bench.one(CloseSocket), CloseSocket)
