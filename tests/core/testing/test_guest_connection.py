"""The simulated guest's TCP: what its application sees, and which segments it takes for a fault of the network."""

from __future__ import annotations

from dataclasses import replace
from errno import ECONNREFUSED, ECONNRESET, EHOSTUNREACH

import pytest

from sansnet_core import Endpoint
from sansnet_core.testing import (
    OUTSIDER,
    GuestConnection,
    GuestTcpOptions,
    HostScript,
    Impairment,
    ManualConnection,
    Pair,
)
from sansnet_core.testing.operations.content import Content
from sansnet_core.testing.operations.transfers import Transfer
from sansnet_core.testing.packets import ACK, PSH, RST, SYN, Segment, SegmentFields


def from_network(connection: GuestConnection, flags: int = ACK, **fields: object) -> Segment:
    """A segment of the network at the right place, with `fields` changed."""
    right = Segment(*connection.peer, *connection.local, connection.expected, connection.sequence, flags, 65535)
    return replace(right, **fields)  # type: ignore[arg-type]  # as keywords


def test_an_icmp_error_ends_an_attempt_to_connect_and_no_connection() -> None:
    pair = Pair(script=HostScript(connect=None))
    connection = pair.connect()
    pair.settle()
    connection.fail(EHOSTUNREACH)
    repeated = connection.retransmissions
    pair.wait(100)
    assert (connection.failed, connection.closed, connection.established) == (EHOSTUNREACH, True, False)
    assert connection.retransmissions == repeated

    connection, _ = Pair().established()
    connection.fail(ECONNREFUSED)
    assert (connection.failed, connection.closed) == (0, False)


def test_its_place_is_known_as_on_the_wire() -> None:
    pair = Pair()
    connection, stream = pair.established(GuestTcpOptions(sequence=(1 << 32) - 3))
    connection.send(b"data")
    pair.settle()
    assert bytes(stream.received) == b"data"
    assert connection.sequence == 2
    pair.host.produce(stream, b"answer")
    pair.settle()
    assert connection.expected == (connection.segments_received[0].sequence + 7) % (1 << 32)


def test_an_old_reset_is_ignored_one_ahead_is_challenged_and_the_right_one_ends_the_connection() -> None:
    pair = Pair()
    connection, stream = pair.established()
    pair.host.produce(stream, b"data")
    pair.settle()
    for sequence, challenges, reset in ((-1, 0, False), (1, 1, False), (0, 1, True)):
        connection.receive(from_network(connection, RST, sequence=connection.expected + sequence), pair.now)
        assert (connection.challenges, connection.reset) == (challenges, reset)


def test_a_reset_in_answer_to_its_syn_ack_ends_the_attempt() -> None:
    pair = Pair(up=Impairment(delay=0.5))
    pair.guest.listening[80] = GuestTcpOptions()
    accepted = pair.host.accept(OUTSIDER, 80, pair.now)
    assert accepted is not None
    pair.settle()
    (connection,) = pair.guest.accepted
    pair.host.fail(accepted, ECONNRESET, pair.now)
    pair.wait(2)
    assert (connection.reset, connection.established, connection.closed) == (True, False, True)


def test_sack_below_the_acknowledgment_says_nothing_new() -> None:
    """It tells that bytes came twice (RFC 2883)."""
    pair = Pair()
    connection, stream = pair.established(GuestTcpOptions(sack=True))
    connection.send(bytes(3000))
    pair.settle()
    first = connection.options.sequence + 1
    connection.receive(from_network(connection, sack=((first, first + 1000),)), pair.now)
    connection.send(b"more")
    pair.settle()
    assert len(stream.received) == 3004
    assert connection.retransmissions == 0
    with pytest.raises(AssertionError, match="SACK of what was never sent"):
        connection.receive(from_network(connection, sack=((first + 3000, first + 9000),)), pair.now)


def test_a_syn_ack_of_another_connection_does_not_concern_a_transfer() -> None:
    pair = Pair()
    connection = pair.connect()
    transfer = Transfer(connection, 0, 0, Content(0))
    answer = Segment(*connection.peer, *connection.local, 5000, connection.options.sequence + 1, SYN | ACK, 65535)
    transfer.receive(answer, pair.now)
    assert connection.established
    transfer.receive(replace(answer, sequence=9000, acknowledgment=77), pair.now)
    assert connection.segments_received == [answer]
    assert transfer.key == (Endpoint(*connection.local), Endpoint(*connection.peer))


def test_the_content_of_a_stream_is_the_same_in_any_pieces() -> None:
    content = Content(3, b"head")
    whole = content.at(0, 200_000)
    assert whole[:4] == b"head"
    assert b"".join(content.at(at, 997) for at in range(0, 200_000, 997))[:200_000] == whole


def test_a_manual_handshake_takes_an_answer_that_comes_later() -> None:
    pair = Pair(script=HostScript(connect_delay=0.2))
    peer = ManualConnection(pair)
    assert peer.open().flags == SYN | ACK
    assert peer.accept(peer.data(b"data")) == b""
    assert bytes(pair.host.stream.received) == b"data"


def test_a_manual_handshake_goes_on_with_a_network_that_answers_its_end() -> None:
    pair = Pair(script=HostScript(produce=b"x"))
    peer = ManualConnection(pair)
    fields: SegmentFields = {"mss": 1460, "scale": None}
    with pytest.raises(AssertionError, match="PA seq"):
        peer.open(**fields)


def test_a_pair_that_is_busy_for_ever_or_has_nothing_to_wait_for_is_noticed() -> None:
    pair = Pair()
    assert not pair.step()
    with pytest.raises(AssertionError, match="nothing will ever happen any more"):
        pair.drive(lambda: False)
    _, stream = pair.established(GuestTcpOptions(window=1000))
    with pytest.raises(AssertionError, match="did not happen within 3 steps"):
        pair.drive(lambda: False, limit=1e9, steps=3)
    with pytest.raises(AssertionError, match=r"did not happen within 1\.0 s"):
        pair.drive(lambda: False, limit=1.0)
    pair.host.report = lambda now: True  # type: ignore[method-assign]  # a host that never comes to rest
    with pytest.raises(AssertionError, match="still busy after"):
        pair.settle()
    assert not stream.closed
    assert str(Segment(b"", 1, b"", 2, 3, 4, ACK | PSH, 5, b"data")) == "PA seq 3 len 4 ack 4 win 5"
