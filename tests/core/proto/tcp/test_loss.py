"""Loss of data on the way to the guest: the ranges that have arrived, and the end of a recovery."""

from __future__ import annotations

from sansnet_core.proto.tcp.loss import Loss


def test_what_has_arrived_is_known_until_all_of_it_is_acknowledged() -> None:
    loss = Loss(0)
    assert loss.sack([(100, 200)], 0)
    assert not loss.acknowledged(50)
    assert loss.sacked == [(100, 200)]
    assert loss.acknowledged(200)


def test_a_recovery_that_is_over_leaves_what_has_arrived_since() -> None:
    loss = Loss(0)
    loss.begin(0, 100, lost_all=False)
    loss.sack([(200, 300)], 0)
    assert not loss.acknowledged(99)
    assert not loss.acknowledged(100)
    assert loss.recover is None
    assert loss.sacked == [(200, 300)]
