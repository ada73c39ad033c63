"""Questions about connections: each ends at its own time, and refusals are remembered for a while."""

from __future__ import annotations

import pytest

from sansnet_core import Action, DecideFlow, FlowRefused, Limits, Refuse, Rule
from sansnet_core.proto.tcp.questions import KEPT_TIME
from sansnet_core.testing import OUTSIDER
from tests.core.direct import Direct
from tests.core.named import PUBLIC, TcpGuest, named

ASK = Rule(action=Action.ASK)


def refuse(bench: Direct, port: int) -> None:
    """The guest sends a SYN from a port, and the verdict refuses it."""
    TcpGuest(bench, PUBLIC, source_port=port).syn()
    bench.network.flow_decided(bench.one(DecideFlow).socket, Refuse(), bench.now)
    bench.collect()


def asks(bench: Direct, port: int) -> bool:
    """Whether the SYN of a port leads to a question."""
    bench.take()
    TcpGuest(bench, PUBLIC, source_port=port).syn()
    return any(isinstance(order, DecideFlow) for order in bench.take())


def test_each_question_ends_at_its_own_time() -> None:
    bench, _ = named(ASK, limits=Limits(decision_time=4))
    TcpGuest(bench, PUBLIC, source_port=40000).syn()
    bench.wait(1)
    assert bench.network.stream_accepted(OUTSIDER, None, 80, bench.now) is not None
    bench.wait(1)
    TcpGuest(bench, PUBLIC, source_port=40001).syn()
    bench.wait(10)
    ends = [(one.inbound, one.guest.port, one.time) for one in bench.notices if isinstance(one, FlowRefused)]
    assert ends == [(False, 40000, 1004.0), (True, 80, 1005.0), (False, 40001, 1006.0)]
    bench.wait(KEPT_TIME + 1)
    assert bench.network.next_deadline() is None


@pytest.mark.parametrize(("later", "asked"), [(KEPT_TIME - 0.1, False), (KEPT_TIME, True)])
def test_a_refusal_is_remembered_for_as_long_as_a_guest_repeats_its_syn(later: float, asked: bool) -> None:
    bench, _ = named(ASK)
    refuse(bench, 40000)
    bench.wait(later)
    assert asks(bench, 40000) == asked


def test_of_too_many_refusals_the_oldest_is_forgotten() -> None:
    bench, _ = named(ASK, limits=Limits(undecided_flows=2))
    for port in (40000, 40001, 40002):
        refuse(bench, port)
    assert [asks(bench, port) for port in (40002, 40001, 40000)] == [False, False, True]
