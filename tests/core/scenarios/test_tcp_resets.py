"""Segments out of place: resets and SYNs (RFC 5961), urgent data, acknowledgments of what was never sent."""

from __future__ import annotations

from errno import ECONNRESET

import pytest

from sansnet_core import Limits, LinkConfig, Reason
from sansnet_core.testing import ManualConnection, Pair, make_config
from sansnet_core.testing.packets import ACK, FIN, PSH, RST, SYN, URG, read_frame


def _opened() -> tuple[Pair, ManualConnection]:
    pair = Pair()
    peer = ManualConnection(pair)
    peer.open()
    return pair, peer


def _alive(pair: Pair, peer: ManualConnection) -> None:
    peer.data(b"alive")
    assert bytes(pair.host.stream.received).endswith(b"alive")
    pair.host.produce(pair.host.stream, b"echo")
    pair.settle()
    assert b"echo" in b"".join(segment.payload for segment in peer.take())


@pytest.mark.parametrize("flags", [RST, RST | ACK])
def test_the_exact_number_resets(flags: int) -> None:
    pair, peer = _opened()

    assert peer.send(flags) == []
    assert pair.host.stream.aborted
    assert pair.tcp_flows == 0
    assert pair.network.statistics().drops == {}


@pytest.mark.parametrize("distance", [1, 100, 65_000])
def test_a_reset_elsewhere_in_the_window_is_challenged(distance: int) -> None:
    """RFC 5961, 3.2."""
    pair, peer = _opened()
    answers = peer.send(RST, sequence=peer.sequence + distance)

    assert [(one.flags, one.sequence, one.acknowledgment) for one in answers] == [(ACK, peer.expected, peer.sequence)]
    _alive(pair, peer)


@pytest.mark.parametrize(("distance", "ends"), [(99, False), (100, False), (119, False), (120, True), (121, False)])
def test_a_reset_behind_the_data_beyond_a_gap_counts(distance: int, ends: bool) -> None:
    """The segment before was lost, and so may be the answer to a challenge."""
    pair, peer = _opened()
    peer.send(ACK, bytes(20), sequence=peer.sequence + 100)
    peer.send(RST, sequence=peer.sequence + distance)

    assert pair.host.stream.aborted == ends
    assert pair.tcp_flows == 1 - ends


@pytest.mark.parametrize("distance", [-1, -1000, 1 << 30, -(1 << 30)])
@pytest.mark.parametrize("explanation", [b"", b"a" * 10])
def test_a_reset_outside_the_window_is_ignored(distance: int, explanation: bytes) -> None:
    """RFC 9293, 3.6.1: the data of a reset explains it."""
    pair, peer = _opened()
    sequence = (peer.sequence + distance) % (1 << 32)

    assert peer.send(RST, explanation, sequence=sequence) == []
    assert pair.network.statistics().drops[Reason.TCP_SEQUENCE] == 1
    _alive(pair, peer)


@pytest.mark.parametrize("distance", [-1, 0, 1, 1000, 1 << 30])
@pytest.mark.parametrize("flags", [SYN, SYN | ACK])
def test_a_syn_into_a_connection_is_challenged(distance: int, flags: int) -> None:
    """RFC 5961, 4.2: with any sequence number; a guest that really restarted answers with a reset."""
    pair, peer = _opened()
    answers = peer.send(flags, sequence=(peer.sequence + distance) % (1 << 32))

    assert [(one.flags, one.sequence, one.acknowledgment) for one in answers] == [(ACK, peer.expected, peer.sequence)]
    assert pair.network.statistics().drops == {Reason.TCP_SEQUENCE: 1}
    _alive(pair, peer)


@pytest.mark.parametrize(("flags", "distance"), [(SYN | ACK, 0), (RST | ACK, 1)])
def test_what_is_challenged_brings_neither_data_nor_an_acknowledgment(flags: int, distance: int) -> None:
    pair, peer = _opened()
    pair.host.produce(pair.host.stream, bytes(1000))
    pair.settle()
    peer.accept(peer.take())
    peer.send(flags, b"data", sequence=peer.sequence + distance)

    assert not pair.host.stream.received
    assert pair.network.statistics().tcp_held == 1000


def test_a_guest_that_restarted_gets_a_new_connection() -> None:
    pair, peer = _opened()
    again = ManualConnection(pair, port=peer.port, sequence=3_000_000_000)
    (challenge,) = again.syn()
    again.send(RST, sequence=challenge.acknowledgment)
    assert pair.host.stream.aborted
    again.open()
    again.data(b"reborn")

    assert bytes(pair.host.stream.received) == b"reborn"


@pytest.mark.parametrize("distance", [1, 1000, 1 << 30])
def test_an_ack_of_what_was_never_sent_is_answered_and_its_data_dropped(distance: int) -> None:
    """RFC 9293, 3.10.7.4 and RFC 5961, 5.2."""
    pair, peer = _opened()
    for count in (1, 2):  # what brings data is answered at any rate
        answers = peer.send(ACK | PSH, b"blind", acknowledgment=(peer.expected + distance) % (1 << 32))
        assert [(one.flags, one.acknowledgment) for one in answers] == [(ACK, peer.sequence)]
        assert pair.network.statistics().drops[Reason.TCP_SEQUENCE] == count

    assert not pair.host.stream.received
    _alive(pair, peer)


def test_data_with_an_absurdly_old_ack_is_not_taken() -> None:
    """RFC 5961, 5.2: an acknowledgment older than MAX.SND.WND is not acceptable."""
    pair, peer = _opened()
    answers = peer.send(ACK | PSH, b"blind", acknowledgment=(peer.expected - (1 << 30)) % (1 << 32))

    assert [(one.flags, one.acknowledgment) for one in answers] == [(ACK, peer.sequence)]
    assert not pair.host.stream.received


@pytest.mark.parametrize("flags", [0, PSH, FIN, URG, FIN | PSH | URG])
def test_a_segment_without_ack_is_dropped(flags: int) -> None:
    pair, peer = _opened()
    peer.send(flags, b"" if flags & FIN else b"data")

    assert not pair.host.stream.received
    assert not pair.host.stream.shutdown_ordered
    _alive(pair, peer)


@pytest.mark.parametrize("urgent", [0, 1, 3, 65535])
def test_urgent_data_stays_in_the_stream(urgent: int) -> None:
    """As with SO_OOBINLINE: the pointer is ignored, no byte is lost."""
    pair, peer = _opened()
    peer.data(b"abc", urgent=urgent)
    peer.send(ACK | PSH | URG, b"def", urgent=urgent)

    assert bytes(pair.host.stream.received) == b"abcdef"


@pytest.mark.parametrize("flags", range(64, 256, 64))
def test_the_bits_of_ecn_do_not_disturb(flags: int) -> None:
    pair, peer = _opened()
    peer.send(ACK | PSH | flags, b"data")

    assert bytes(pair.host.stream.received) == b"data"


def test_data_beyond_the_window_is_not_taken() -> None:
    pair, peer = _opened()
    assert peer.syn_ack is not None
    far = (peer.sequence + (1 << 30)) % (1 << 32)
    answers = peer.send(ACK, b"far", sequence=far)

    assert [(one.flags, one.acknowledgment, one.sack) for one in answers] == [(ACK, peer.sequence, ())]
    _alive(pair, peer)


@pytest.mark.parametrize(("distance", "counts"), [(-1, True), (0, True), (1, False), (1000, False)])
def test_an_acknowledgment_beyond_the_window_does_not_count(distance: int, counts: bool) -> None:
    """Its sequence number may be at the right edge at most, as in Linux."""
    pair = Pair(make_config(limits=Limits(tcp_window=4000)))
    peer = ManualConnection(pair)
    peer.open()
    pair.host.produce(pair.host.stream, bytes(1000))
    pair.settle()
    peer.accept(peer.take())
    peer.send(sequence=peer.sequence + 4000 + distance)

    assert pair.network.statistics().tcp_held == (0 if counts else 1000)
    assert pair.network.statistics().drops.get(Reason.TCP_SEQUENCE, 0) == (not counts)


@pytest.mark.parametrize("flags", [PSH, FIN])
def test_a_repeated_segment_without_ack_acknowledges_nothing(flags: int) -> None:
    pair, peer = _opened()
    pair.host.produce(pair.host.stream, bytes(1000))
    pair.settle()
    peer.accept(peer.take())
    peer.send(flags, sequence=peer.sequence - 1000, acknowledgment=peer.expected)

    assert pair.network.statistics().tcp_held == 1000


def test_two_sides_that_disagree_do_not_answer_each_other_for_ever() -> None:
    """Acknowledgments of acknowledgments: at most one answer for each segment of the guest."""
    _pair, peer = _opened()
    for _ in range(50):
        answers = peer.send(ACK, sequence=(peer.sequence - 5000) % (1 << 32))
        assert len(answers) <= 1


def test_a_keepalive_of_the_guest_is_answered() -> None:
    """RFC 9293, 3.8.4, without and with the byte of garbage."""
    _, peer = _opened()
    for payload in (b"", b"\0"):
        answers = peer.send(ACK, payload, sequence=peer.sequence - 1)
        assert [(one.flags, one.acknowledgment) for one in answers] == [(ACK, peer.sequence)]


OFFLOADS = LinkConfig(mtu=1500, max_frame_size=65549, vnet_header=True, checksum_offload=True, tso4=True)


@pytest.mark.parametrize("link", [None, OFFLOADS])
def test_the_reset_of_a_connection_is_bare(link: LinkConfig | None) -> None:
    pair = Pair(make_config(link))
    peer = ManualConnection(pair)
    peer.open()
    pair.sent.clear()
    pair.host.fail(pair.host.stream, ECONNRESET, pair.now)
    pair.settle()
    (reset,) = peer.take()
    assert (reset.flags, reset.sequence, reset.acknowledgment) == (RST | ACK, peer.expected, peer.sequence)
    assert (reset.window, reset.payload, reset.options()) == (0, b"", b"")
    ((_, frame),) = pair.sent
    assert read_frame(frame, vnet=link is not None).gso_size == 0


def test_the_reset_of_a_stale_connection_acknowledges_nothing() -> None:
    """RFC 9293, 3.10.7.3: <SEQ=SEG.ACK><CTL=RST>."""
    pair = Pair()
    peer = ManualConnection(pair)
    (answer,) = peer.syn()
    (reset,) = peer.send(ACK, sequence=peer.first + 1, acknowledgment=answer.sequence + 7)
    assert (reset.flags, reset.sequence, reset.acknowledgment) == (RST, answer.sequence + 7, 0)
    assert (reset.window, reset.payload, reset.options()) == (0, b"", b"")
