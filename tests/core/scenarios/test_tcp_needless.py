"""No needless retransmissions."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from sansnet_core import Limits
from sansnet_core.testing import GuestTcpOptions, Impairment, ManualConnection, Pair, make_config
from sansnet_core.testing.packets import ACK, PSH, SYN


@pytest.mark.slow
@pytest.mark.parametrize("sack", [True, False])
def test_a_pause_of_the_guest_costs_at_most_a_window(sack: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = Pair(down=Impairment(delay=0.005), up=Impairment(delay=0.005))
    c, stream = pair.established(GuestTcpOptions(window=256 << 10, scale=7, sack=sack))
    total = 3 << 20
    pair.host.produce(stream, bytes(total))
    pair.drive(lambda: len(c.received) > 1 << 20)
    # the guest stops for a second: nothing is delivered, nothing is lost
    held_until = pair.now + 1.0
    with monkeypatch.context() as patch:
        patch.setattr(pair.down, "take", lambda now: [])
        patch.setattr(pair.down, "next_deadline", lambda: held_until)
        while pair.now < held_until:
            pair.step()
    pair.drive(lambda: len(c.received) == total, limit=60)
    pair.wait(2)
    got = sum(len(s.payload) for s in c.segments_received)
    assert got - total < 2 * (256 << 10), (
        f"{(got - total) / 1024:.0f} KiB sent in vain, window 256 KiB, total {total >> 10} KiB"
    )


@pytest.mark.slow
@pytest.mark.parametrize("sack", [True, False])
def test_one_lost_frame_costs_one_frame(sack: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = Pair(down=Impairment(delay=0.005), up=Impairment(delay=0.005))
    c, stream = pair.established(GuestTcpOptions(window=256 << 10, scale=7, sack=sack))
    total = 3 << 20
    pair.host.produce(stream, bytes(total))
    pair.drive(lambda: len(c.received) > 1 << 20)
    put = pair.down.put
    lost: list[bytes] = []

    def lossy(frames: Iterable[bytes], now: float) -> None:
        frames = list(frames)
        if frames and not lost and len(frames[0]) > 1000:
            lost.append(frames.pop(0))
        put(frames, now)

    monkeypatch.setattr(pair.down, "put", lossy)
    pair.drive(lambda: len(c.received) == total, limit=60)
    pair.wait(2)
    got = sum(len(s.payload) for s in c.segments_received)
    assert lost
    assert got - total < 20 * 1460, f"{(got - total) / 1024:.0f} KiB sent in vain for one lost frame"


def test_another_syn_during_the_handshake_is_answered() -> None:
    """RFC 9293 3.10.7.4: an unacceptable segment in SYN-RECEIVED gets an ACK (the restarted guest resets then)."""
    pair = Pair()
    peer = ManualConnection(pair)
    peer.syn()
    answers = peer.send(SYN, sequence=50_000_000, mss=1460)
    assert answers, "silence"


@pytest.mark.parametrize("distance", [-100, 0, 1000])
def test_data_beside_a_closed_window_is_no_duplicate_acknowledgment(distance: int) -> None:
    """RFC 5681, 2 (b): a duplicate acknowledgment carries no data. Probes of the window do."""
    pair = Pair(make_config(limits=Limits(tcp_window=2000)))
    peer = ManualConnection(pair)
    peer.open(sack_permitted=False)
    pair.host.stream.blocked = True
    for _ in range(2):
        peer.data(bytes(1000))
    pair.host.produce(pair.host.stream, bytes(4000))
    pair.settle()
    assert peer.take()[-1].window == 0
    answers = []
    for _ in range(4):
        answers += peer.send(ACK | PSH, bytes(100), sequence=peer.sequence + distance)

    assert [answer.payload for answer in answers] == [b""] * 4
    assert {answer.acknowledgment for answer in answers} == {peer.sequence}
    assert not [answer for _ in range(2) for answer in peer.send() if answer.payload]
    assert [answer for answer in peer.send() if answer.payload], "the third duplicate acknowledgment"


@pytest.mark.parametrize("sack", [True, False])
def test_data_that_the_guest_repeats_are_no_duplicate_acknowledgments(sack: bool) -> None:
    pair = Pair()
    peer = ManualConnection(pair)
    peer.open(sack_permitted=sack)
    peer.data(b"x" * 100)
    pair.host.produce(pair.host.stream, bytes(2000))
    pair.settle()
    peer.take()
    answers = []
    for _ in range(3):  # our ACK was lost: the guest repeats its data
        answers += peer.send(ACK | PSH, b"x" * 100, sequence=peer.sequence - 100)
    assert not any(a.payload for a in answers), "taken for three duplicate ACKs: spurious fast retransmit"
