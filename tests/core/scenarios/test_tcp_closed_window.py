"""A guest whose window is closed: probes, the FIN behind them, and what else it must still receive."""

from __future__ import annotations

from errno import ECONNRESET, EPIPE

from sansnet_core import Limits
from sansnet_core.testing import GuestTcpOptions, Impairment, ManualConnection, Pair, make_config
from sansnet_core.testing.packets import ACK, FIN, RST


def _full(pair: Pair) -> ManualConnection:
    """A connection whose guest has taken 1000 bytes and closed its window."""
    peer = ManualConnection(pair)
    peer.window = 1000
    peer.open()
    pair.host.produce(pair.host.stream, bytes(1000))
    pair.settle()
    peer.accept(peer.take())
    peer.window = 0
    peer.send()
    return peer


def test_fin_beyond_a_closed_window_is_not_repeated_for_each_answer() -> None:
    pair = Pair()
    peer = _full(pair)
    pair.host.end(pair.host.stream)
    pair.wait(1.0)  # FIN, and FIN again by timeout
    peer.take()
    repeats = 0
    for _ in range(50):  # a guest that drops the FIN answers each with an ACK
        repeats += len(peer.send())
    assert repeats <= 1, f"{repeats} FINs for 50 answers, at one instant"


def test_fin_beyond_a_closed_window_comes_soon_after_it_opens() -> None:
    pair = Pair()
    peer = _full(pair)
    pair.host.end(pair.host.stream)
    for _ in range(600):
        pair.wait(0.1)
        if peer.take():
            pair.guest.send(peer.segment(ACK).ip())
            pair.guest.at(pair.now)
            pair.network.receive_frames([], pair.now)
    # window opens; how long until FIN?
    peer.window = 65535
    at = pair.now
    got = peer.send()
    while not any(s.flags & FIN for s in got):
        pair.wait(0.1)
        got = peer.take()
    assert pair.now - at < 1.5, f"{pair.now - at:.1f} s"


def test_pure_acks_stay_within_the_guests_window() -> None:
    """Linux drops segments beyond its window completely, with their acknowledgment (tcp_validate_incoming)."""
    pair = Pair()
    peer = _full(pair)
    pair.host.produce(pair.host.stream, bytes(500))
    pair.wait(1.0)
    assert peer.take()  # the probe, of a byte that the guest has no room for
    answers = peer.data(b"x" * 1460) + peer.data(b"y" * 1460)
    pair.wait(0.01)
    answers += peer.take()
    acks = [a for a in answers if not a.payload and a.acknowledgment == peer.sequence]
    assert acks
    assert all(a.sequence == peer.expected for a in acks), [a.sequence - peer.expected for a in acks]


def test_no_timer_runs_when_all_is_acknowledged() -> None:
    """The window update was lost, and the probe that carries the last byte is accepted."""
    pair = Pair(make_config(limits=Limits(tcp_keepalive=20.0)))
    peer = _full(pair)
    pair.host.produce(pair.host.stream, b"z")
    pair.wait(0.5)
    (probe, *_) = peer.take()
    assert probe.payload == b"z"
    peer.accept([probe])
    peer.window = 65535
    peer.send()
    pair.settle()
    calls = 0
    end = pair.now + 60
    while (d := pair.network.next_deadline()) is not None and d <= end:
        calls += 1
        pair.now = max(pair.now, d)
        pair.network.handle_deadline(pair.now)
        pair._outputs(pair.now)
        pair.settle()
    assert peer.take(), "no keepalive within 60 s (tcp_keepalive=20)"
    assert calls < 10, f"{calls} wake-ups in a minute of silence"


def test_the_persist_timer_is_not_the_retransmission_timer() -> None:
    """Window closed, persist timer armed; the window opens shortly before it fires: a spurious timeout."""
    pair = Pair(down=Impairment(delay=0.02), up=Impairment(delay=0.02))
    c, stream = pair.established(GuestTcpOptions(window=60_000, scale=None, autoread=False))
    for _ in range(5):  # round trips are timed
        pair.host.produce(stream, bytes(12_000))
        pair.wait(0.3)
    assert len(c.received) == 60_000
    pair.host.produce(stream, bytes(50_000))
    pair.wait(0.17)  # persist timer: 0.2 s after that
    before = len(c.segments_received)
    c.read(1 << 20)
    pair.wait(1.0)
    got = sum(len(s.payload) for s in c.segments_received[before:])
    assert got <= 50_000 + 1, f"{got} bytes sent for 50000, on a cable that loses nothing"


def test_a_reset_is_within_the_guests_window() -> None:
    """Linux accepts RST at RCV.NXT only; while a probe is dropped, SND.NXT is one beyond."""
    pair = Pair()
    peer = ManualConnection(pair)
    peer.window = 1000
    peer.open()
    pair.host.produce(pair.host.stream, bytes(1500))
    pair.settle()
    peer.accept(peer.take())
    peer.window = 0
    peer.send()
    pair.wait(1.0)
    peer.take()
    pair.host.fail(pair.host.stream, ECONNRESET, pair.now)
    pair.settle()
    pair._outputs(pair.now)
    pair.settle()
    (rst,) = peer.take()
    assert rst.flags & RST
    assert rst.sequence == peer.expected


def test_what_came_before_the_failure_reaches_the_guest() -> None:
    """A driver may report the last bytes and then the failure in one batch."""
    pair = Pair()
    peer = ManualConnection(pair)
    peer.open()
    stream = pair.host.stream
    pair.network.stream_received(stream.socket, b"413 too large", pair.now)
    pair.host.fail(stream, EPIPE, pair.now)
    pair._outputs(pair.now)
    pair.settle()
    got = peer.take()
    assert got[-1].flags & RST
    assert b"".join(s.payload for s in got) == b"413 too large"


def test_fin_waits_behind_data_that_fills_the_window() -> None:
    """RFC 9293, 3.8.6: FIN takes a sequence number, for which the window must have room."""
    pair = Pair()
    peer = ManualConnection(pair)
    peer.window = 14_600
    peer.open()
    stream = pair.host.stream
    pair.network.stream_received(stream.socket, bytes(14_600), pair.now)
    pair.network.stream_ended(stream.socket, pair.now)
    pair._outputs(pair.now)
    pair.settle()
    segments = peer.take()
    assert sum(len(segment.payload) for segment in segments) == 14_600
    assert not any(segment.flags & FIN for segment in segments)

    answers = []
    for segment in segments:
        peer.accept([segment])
        answers += peer.send()
    assert [(answer.flags & FIN, answer.sequence, answer.payload) for answer in answers] == [(FIN, peer.expected, b"")]


def test_data_that_the_guest_dropped_is_sent_again_as_soon_as_its_window_opens() -> None:
    """Linux without receive memory drops data inside its window and closes it; it may take minutes to open again."""
    pair = Pair()
    peer = ManualConnection(pair)
    peer.open()
    pair.host.produce(pair.host.stream, bytes(5000))
    pair.settle()
    first, *_ = peer.take()
    peer.window = 0
    peer.send()
    for _ in range(700):
        pair.wait(0.1)
        if peer.take():
            peer.send()
    peer.window = 65535

    assert [(one.sequence, one.payload) for one in peer.send()] == [(first.sequence, first.payload)]
