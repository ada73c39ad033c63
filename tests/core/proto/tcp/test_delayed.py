"""The queue of delayed acknowledgments."""

from __future__ import annotations

from math import inf

from sansnet_core.context import Context
from sansnet_core.proto.tcp.delayed import DelayedAcks
from sansnet_core.proto.tcp.receiving import DELAYED_ACK, Receiver
from sansnet_core.testing import SECRET, make_config
from tests.core.proto.tcp.test_time_wait import run

MSS = 1460


class Flow:
    """A connection that notes when it is flushed."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.receiver = Receiver(0, 65535)
        self.flushed: list[float] = []

    def schedule_flush(self) -> None:
        self.flushed.append(self.context.now)
        assert self.receiver.ack_now
        self.acknowledge()

    def delay(self, acks: DelayedAcks) -> None:
        """Take data whose acknowledgment may wait."""
        assert self.receiver.delay_ack(MSS, self.context.now)
        acks.add(self, self.receiver.ack_due)

    def acknowledge(self) -> None:
        """Send a segment."""
        self.receiver.offer_window(MSS, 65535)


def made(count: int) -> tuple[Context, DelayedAcks, list[Flow]]:
    context = Context(make_config(), now=0.0, secret=SECRET)
    return context, DelayedAcks(context), [Flow(context) for _ in range(count)]


def test_each_acknowledgment_is_sent_when_it_is_due_unless_it_has_travelled_with_data() -> None:
    context, acks, flows = made(5)
    first, second, travelled, again, over = flows
    times = [DELAYED_ACK * number / 8 for number in range(5)]
    for flow, now in zip(flows, times, strict=True):
        run(context, now)
        flow.delay(acks)
    travelled.acknowledge()
    again.acknowledge()
    for _ in range(2):
        acks.remove(over)
    run(context, DELAYED_ACK * 7 / 8)
    again.delay(acks)
    run(context, 1.0)
    assert [flow.flushed for flow in flows] == [
        [DELAYED_ACK],
        [times[1] + DELAYED_ACK],
        [],
        [DELAYED_ACK * 7 / 8 + DELAYED_ACK],
        [],
    ]
    assert first.receiver.ack_due == second.receiver.ack_due == inf
    assert (acks.deadline, context.timers.next_deadline()) == (inf, None)
    first.delay(acks)
    run(context, 2.0)
    assert first.flushed[1:] == [1.0 + DELAYED_ACK]


def test_after_a_mistake_the_rest_of_the_queue_is_sent() -> None:
    context, acks, (flow,) = made(1)
    acks.arm_again()
    assert acks.deadline == inf
    flow.delay(acks)
    acks.arm_again()
    assert acks.deadline == DELAYED_ACK
    context.timers.forget(acks)  # as if `expire` had raised an exception
    acks.arm_again()
    assert acks.deadline == 0.0
    run(context, 1.0)
    assert flow.flushed == [DELAYED_ACK]
