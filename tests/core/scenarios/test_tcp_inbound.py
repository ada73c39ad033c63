"""Connections from outside: the guest is sent a SYN, and the host's socket waits for its answer."""

from __future__ import annotations

import dataclasses
from errno import ECONNREFUSED, ECONNRESET, EHOSTUNREACH, ETIMEDOUT
from itertools import pairwise

import pytest

from sansnet_core import (
    Action,
    CloseSocket,
    Endpoint,
    FlowOpened,
    FlowReport,
    Limits,
    OpenStream,
    Reason,
    ResumeStream,
    Rule,
)
from sansnet_core.proto.tcp.inbound import _MAX_KNOWN
from sansnet_core.records import replace
from sansnet_core.testing import (
    GATEWAY,
    OUTSIDER,
    OUTSIDER6,
    GuestTcpOptions,
    HostScript,
    HostStream,
    ManualConnection,
    Pair,
    make_config,
)
from sansnet_core.testing.packets import ACK, FIN, PSH, RST, SYN, Segment, icmp

_MODULUS = 1 << 32


def invited(
    pair: Pair, remote: Endpoint = OUTSIDER, *, sequence: int = 9000
) -> tuple[ManualConnection, HostStream, Segment]:
    """A guest that received the SYN of a connection from outside to its port 80 and has not answered."""
    peer = ManualConnection(pair, port=80, sequence=sequence, remote=remote)
    stream = pair.host.accept(remote, 80, pair.now)
    assert stream is not None
    pair.settle()
    (syn,) = peer.take()
    peer.expected = (syn.sequence + 1) % _MODULUS
    return peer, stream, syn


def syn_ack(peer: ManualConnection) -> list[Segment]:
    answers = peer.send(SYN | ACK, mss=1460, scale=0, sack_permitted=True)
    peer.sequence = (peer.sequence + 1) % _MODULUS
    return answers


@pytest.mark.parametrize("remote", [OUTSIDER, OUTSIDER6])
def test_the_guest_is_sent_a_syn_from_the_outsider_that_offers_everything(remote: Endpoint) -> None:
    pair = Pair()
    pair.host.accept(remote, 80, pair.now)
    pair.settle()
    (syn,) = pair.guest.strays

    assert (syn.source, syn.source_port) == remote
    assert (syn.destination, syn.destination_port) == (pair.guest.address(len(remote.address)), 80)
    assert (syn.flags, syn.acknowledgment, syn.payload) == (SYN, 0, b"")
    assert (syn.mss, syn.sack_permitted) == (1500 - (40 if len(remote.address) == 4 else 60), True)
    assert syn.scale is not None


def test_nothing_is_read_from_the_host_before_the_guest_accepts() -> None:
    pair = Pair(script=HostScript(produce=b"hello"))
    peer, stream, _ = invited(pair)
    assert pair.network.receive_budget(stream.socket) == 0
    pair.wait(0.5)
    assert peer.take() == []

    acknowledgment, data = syn_ack(peer)
    assert (acknowledgment.flags, acknowledgment.payload) == (ACK, b"")
    assert data.payload == b"hello"
    assert ResumeStream(stream.socket) in pair.host.orders


@pytest.mark.parametrize("family", [4, 6])
def test_bytes_go_both_ways_and_both_sides_end(family: int) -> None:
    pair = Pair(script=HostScript(produce=b"question", end=True))
    connection, stream = pair.accepted(family=family)
    connection.send(b"answer")
    connection.shutdown()
    pair.drive(lambda: connection.closed and stream.closed)

    assert (bytes(connection.received), bytes(stream.received)) == (b"question", b"answer")
    assert not stream.aborted
    pair.wait(3.0)
    assert pair.tcp_flows == 0


def test_a_segment_older_than_the_syn_ack_does_not_move_its_window() -> None:
    """SND.WL1 is the sequence number of the SYN-ACK (RFC 9293, 3.10.7.3)."""
    pair = Pair(script=HostScript(produce=bytes(10000)))
    peer, _, syn = invited(pair)
    nothing = syn.sequence + 1
    answers = peer.send(SYN | ACK, mss=1460, scale=0, sack_permitted=True, window=3000)
    assert 0 < len(peer.accept(answers)) <= 3000

    assert peer.accept(peer.send(sequence=peer.sequence - 1, acknowledgment=nothing)) == b""
    assert peer.accept(peer.send(sequence=peer.sequence + 1, acknowledgment=nothing))


def test_what_is_kept_of_an_outsider_follows_the_rules_and_the_addresses_of_the_guest() -> None:
    pair = Pair()
    first = invited(pair)[2]
    assert first.destination == pair.guest.address(4)
    assert pair.host.accept(Endpoint(OUTSIDER.address, OUTSIDER.port + 1), 80, pair.now) is not None

    closed = replace(pair.config, rules=(Rule(action=Action.REFUSE, inbound=True),))
    pair.network.reconfigure(closed, pair.now)
    assert pair.host.accept(Endpoint(OUTSIDER.address, OUTSIDER.port + 2), 80, pair.now) is None

    assert pair.config.ipv4 is not None
    moved = replace(pair.config, ipv4=replace(pair.config.ipv4, address="192.0.2.77"))
    pair.network.reconfigure(moved, pair.now, moved=True)
    assert pair.host.accept(Endpoint(OUTSIDER.address, OUTSIDER.port + 3), 80, pair.now) is not None
    assert pair.network.flows()[-1].guest == Endpoint("192.0.2.77", 80)


def test_the_ways_of_outsiders_that_are_kept_are_bounded() -> None:
    pair = Pair()
    for number in range(3 * _MAX_KNOWN):
        pair.host.accept(Endpoint(f"203.0.{number >> 8}.{number & 255}", 4000), 80, pair.now)
        assert len(pair.network._tcp.opening.inbound._known) <= _MAX_KNOWN


def test_no_socket_is_opened_for_it() -> None:
    pair = Pair()
    pair.accepted()

    assert not [order for order in pair.host.orders if isinstance(order, OpenStream)]


@pytest.mark.parametrize("remote", [OUTSIDER, OUTSIDER6])
def test_a_guest_that_refuses_has_the_hosts_socket_aborted(remote: Endpoint) -> None:
    pair = Pair(script=HostScript(produce=b"never read"))
    stream = pair.host.accept(remote, 80, pair.now)
    assert stream is not None
    pair.settle()
    (syn,) = pair.guest.strays
    pair.guest.send(
        Segment(syn.destination, 80, *remote, sequence=0, acknowledgment=syn.sequence + 1, flags=RST | ACK).ip()
    )
    pair.settle()

    assert pair.host.orders[-1] == CloseSocket(stream.socket, True, ECONNREFUSED)
    assert pair.tcp_flows == 0


def test_the_syn_is_sent_again_with_doubling_waits_and_then_given_up() -> None:
    pair = Pair()
    peer, stream, syn = invited(pair)
    pair.wait(120.0)
    again = peer.take()
    times = [when for when, _ in pair.sent]

    assert [one.flags for one in again] == [SYN] * 5
    assert {(one.sequence, one.mss, one.scale) for one in again} == {(syn.sequence, syn.mss, syn.scale)}
    assert [round(later - earlier) for earlier, later in pairwise(times)] == [1, 2, 4, 8, 16]
    assert pair.host.orders == [CloseSocket(stream.socket, True, ETIMEDOUT)]
    assert pair.tcp_flows == 0


def test_an_answer_to_a_repeated_syn_completes_the_handshake() -> None:
    pair = Pair()
    peer, stream, _ = invited(pair)
    pair.wait(4.0)
    assert len(peer.take()) == 2
    syn_ack(peer)
    peer.data(b"late")

    assert bytes(stream.received) == b"late"


def test_a_repeated_syn_ack_is_acknowledged_again() -> None:
    """Our acknowledgment was lost (RFC 9293, 3.10.7.4)."""
    pair = Pair()
    peer, stream, _ = invited(pair)
    syn_ack(peer)
    (again,) = peer.send(SYN | ACK, sequence=9000, mss=1460)

    assert (again.flags, again.acknowledgment) == (ACK, 9001)
    peer.data(b"go on")
    assert bytes(stream.received) == b"go on"


@pytest.mark.parametrize("distance", [-1, 1, 70_000])
def test_a_wrong_acknowledgment_is_reset_and_the_syn_sent_again_soon(distance: int) -> None:
    """RFC 9293, 3.10.7.3: a guest in TIME-WAIT acknowledges its old connection; our reset ends that for the new SYN."""
    pair = Pair()
    peer, _, syn = invited(pair)
    wrong = (peer.expected + distance) % _MODULUS
    (reset,) = peer.send(ACK, acknowledgment=wrong)
    assert (reset.flags, reset.sequence) == (RST, wrong)

    pair.wait(0.1)
    (again,) = peer.take()
    assert (again.flags, again.sequence) == (SYN, syn.sequence)
    assert [one.flags for one in peer.send(ACK, acknowledgment=wrong)] == [RST]
    pair.wait(0.1)
    assert peer.take() == [], "a guest must not make SYNs at its own pace"


@pytest.mark.parametrize(
    ("flags", "distance"), [(RST, 0), (RST | ACK, 1), (FIN | ACK, 0), (ACK, 0), (PSH | ACK, 0), (0, 0), (FIN, 0)]
)
def test_what_is_no_answer_to_a_syn_changes_nothing(flags: int, distance: int) -> None:
    pair = Pair()
    peer, stream, _ = invited(pair)
    assert peer.send(flags, b"data", acknowledgment=(peer.expected + distance) % _MODULUS if flags & ACK else 0) == []
    assert not stream.closed
    assert pair.network.statistics().drops == ({} if flags == RST | ACK else {Reason.TCP_SEQUENCE: 1})
    syn_ack(peer)
    peer.data(b"well")

    assert bytes(stream.received) == b"well"


@pytest.mark.parametrize("sequence", [0, 1, 2])
@pytest.mark.parametrize("data", [b"", b"data"])
@pytest.mark.parametrize("flags", [ACK, FIN | ACK])
def test_an_acknowledgment_of_our_syn_without_a_syn_of_the_guest_is_dropped(
    sequence: int, data: bytes, flags: int
) -> None:
    """RFC 9293, 3.10.7.3, fifth. The number of the guest's SYN is not known yet, so any number is as good."""
    pair = Pair()
    peer, stream, _ = invited(pair)
    assert peer.send(flags, data, sequence=sequence) == []
    assert not stream.closed
    assert pair.network.statistics().drops == {Reason.TCP_SEQUENCE: 1}
    syn_ack(peer)
    peer.data(b"well")

    assert bytes(stream.received) == b"well"


def test_a_guest_that_connects_at_the_same_time_from_the_same_port_gets_one_connection() -> None:
    """Simultaneous open (RFC 9293, 3.5, figure 7): the guest answers our SYN, and its own is ignored."""
    pair = Pair(script=HostScript(produce=b"hello"))
    peer, stream, _ = invited(pair)
    assert peer.send(SYN, mss=1460) == []
    acknowledgment, data = syn_ack(peer)

    assert (acknowledgment.flags, acknowledgment.acknowledgment, data.payload) == (ACK, 9001, b"hello")
    assert len(pair.host.streams) == pair.tcp_flows == 1
    peer.data(b"both")
    assert bytes(stream.received) == b"both"


def test_data_and_fin_with_the_syn_ack_are_taken_when_they_come_again() -> None:
    pair = Pair()
    peer, stream, _ = invited(pair)
    (acknowledgment,) = peer.send(SYN | ACK | FIN, b"early", mss=1460)
    assert acknowledgment.acknowledgment == 9001
    peer.sequence = 9001
    peer.send(ACK | FIN, b"early")

    assert (bytes(stream.received), stream.shutdown) == (b"early", True)


def test_options_that_the_guest_does_not_answer_with_are_not_used() -> None:
    pair = Pair(script=HostScript(produce=bytes(200_000)))
    connection, _ = pair.accepted(GuestTcpOptions(mss=700, scale=None, sack=False, window=30_000, autoread=False))
    pair.wait(0.3)  # less than a segment waits for a larger window

    assert len(connection.received) == 30_000
    assert max(len(segment.payload) for segment in connection.segments_received) == 700


def test_the_window_of_the_syn_ack_is_not_scaled() -> None:
    """RFC 7323, 2.2."""
    pair = Pair(script=HostScript(produce=bytes(200_000)))
    peer, _, _ = invited(pair)
    answers = peer.send(SYN | ACK, mss=1460, scale=7, window=2920)

    assert sum(len(segment.payload) for segment in answers) == 2920


def test_a_host_that_fails_before_the_guest_answered_takes_the_syn_back() -> None:
    pair = Pair()
    peer, stream, syn = invited(pair)
    pair.host.fail(stream, ECONNRESET, pair.now)
    pair.settle()
    (reset,) = peer.take()
    assert (reset.flags, reset.sequence) == (RST, (syn.sequence + 1) % _MODULUS)

    (stray,) = syn_ack(peer)
    assert stray.flags == RST, "and so does the answer that was on its way"
    assert pair.tcp_flows == 0


def test_a_host_that_ended_before_the_guest_answered_ends_it_then() -> None:
    pair = Pair(script=HostScript(end=True))
    connection, _ = pair.accepted()

    assert connection.fin_received


# addresses


def seen(pair: Pair, remote: Endpoint, **arguments: bytes) -> tuple[bytes, bytes]:
    """Source and destination of the SYN that the guest receives."""
    assert pair.host.accept(remote, 80, pair.now, guest_address=arguments.get("guest_address")) is not None
    pair.settle()
    syn = pair.guest.strays[-1]
    assert (syn.source_port, syn.destination_port) == (remote.port, 80)
    return syn.source, syn.destination


def test_the_guests_learnt_address_is_where_it_goes() -> None:
    pair = Pair()
    pair.guest.ipv4 = bytes((10, 0, 2, 99))
    pair.established()

    assert seen(pair, OUTSIDER) == (OUTSIDER.address, pair.guest.ipv4)


def test_an_address_can_be_given() -> None:
    other = bytes((172, 17, 0, 2))
    pair = Pair()
    pair.guest.ipv4 = other

    assert seen(pair, OUTSIDER, guest_address=other) == (OUTSIDER.address, other)


def test_an_address_of_the_other_family_is_a_refusal() -> None:
    """A listening socket may serve both families, and the address only one."""
    pair = Pair()
    assert pair.network.stream_accepted(OUTSIDER, pair.guest.ipv6, 80, pair.now) is None
    assert pair.network.statistics().drops == {Reason.INBOUND_GUEST: 1}


def test_the_source_is_known_by_the_notice_and_in_the_list_of_flows() -> None:
    loopback = Endpoint(bytes((127, 0, 0, 1)), 5555)
    pair = Pair(script=HostScript(produce=b"12345"))
    pair.guest.listening[80] = GuestTcpOptions()
    stream = pair.host.accept(loopback, 80, pair.now)
    assert stream is not None
    pair.settle()
    guest, remote = Endpoint(pair.guest.ipv4, 80), Endpoint(GATEWAY, 5555)

    assert pair.notices == [FlowOpened(stream.socket, 6, guest, remote, loopback, True, pair.now)]
    assert pair.network.flows() == [
        FlowReport(stream.socket, 6, guest, remote, loopback, True, "ESTABLISHED", 0, 5),
    ]


def test_the_list_of_flows_tells_where_each_connection_is() -> None:
    pair = Pair()

    def states() -> list[str]:
        return [flow.state for flow in pair.network.flows()]

    peer, stream, _ = invited(pair)
    assert states() == ["SYN_SENT"]
    syn_ack(peer)
    assert states() == ["ESTABLISHED"]
    pair.host.end(stream)
    pair.settle()
    assert states() == ["CLOSING"]
    peer.accept(peer.take())
    peer.send(ACK | FIN)
    assert states() == ["TIME_WAIT"]
    pair.wait(3.0)
    assert states() == []


# refusals


def refused(pair: Pair, reason: Reason, remote: Endpoint = OUTSIDER) -> None:
    before = pair.network.statistics().drops.get(reason, 0)
    assert pair.host.accept(remote, 80, pair.now) is None
    assert pair.network.statistics().drops[reason] == before + 1
    assert pair.network.take_frames() == []
    assert pair.network.take_orders() == []


def test_no_address_for_the_sender_is_a_refusal() -> None:
    ipv4 = make_config().ipv4
    assert ipv4
    pair = Pair(replace(make_config(), ipv4=replace(ipv4, gateway=None)))

    refused(pair, Reason.INBOUND_SOURCE, Endpoint(bytes((127, 0, 0, 1)), 5555))


@pytest.mark.parametrize("family_is_on", [True, False])
def test_no_address_of_the_guest_is_a_refusal(family_is_on: bool) -> None:
    ipv6 = make_config().ipv6
    assert ipv6
    pair = Pair(replace(make_config(), ipv6=replace(ipv6, address=None) if family_is_on else None))

    refused(pair, Reason.INBOUND_GUEST, OUTSIDER6)


def test_a_protocol_that_is_off_is_a_refusal() -> None:
    refused(Pair(replace(make_config(), tcp=False)), Reason.PROTOCOL_CLOSED)


def test_what_the_guest_could_not_tell_apart_is_a_refusal() -> None:
    """Two addresses of the host's loopback with one port are one peer to the guest."""
    pair = Pair()
    assert seen(pair, Endpoint(bytes((127, 0, 0, 2)), 5555)) == (GATEWAY, pair.guest.ipv4)

    refused(pair, Reason.INBOUND_COLLISION, Endpoint(bytes((127, 0, 0, 3)), 5555))


def test_a_connection_of_the_guest_with_the_same_ends_stays() -> None:
    pair = Pair()
    own = pair.guest.connect(OUTSIDER, port=80, now=pair.now)
    pair.settle()
    assert own.established

    refused(pair, Reason.INBOUND_COLLISION)


def test_a_connection_that_only_lingers_gives_way() -> None:
    pair = Pair(script=HostScript(end=True))
    connection, stream = pair.accepted()
    connection.shutdown()
    pair.settle()
    assert stream.closed
    assert pair.tcp_flows == 1, "TIME-WAIT, for the host ended first"
    pair.guest.connections.clear()
    pair.guest.listening.clear()

    assert seen(pair, OUTSIDER) == (OUTSIDER.address, pair.guest.ipv4)


@pytest.mark.parametrize("limits", [Limits(tcp_flows=3), Limits(tcp_inbound_flows=3), Limits(tcp_pending=3)])
def test_connections_from_outside_are_limited(limits: Limits) -> None:
    pair = Pair(make_config(limits=limits))
    streams = [pair.host.accept(Endpoint(OUTSIDER.address, 1000 + port), 80, pair.now) for port in range(3)]
    assert None not in streams
    pair.settle()
    refused(pair, Reason.TCP_LIMIT)

    peer = ManualConnection(pair, port=80, remote=(OUTSIDER.address, 1000))
    peer.send(RST | ACK, acknowledgment=(peer.take()[0].sequence + 1) % _MODULUS)
    assert pair.host.accept(OUTSIDER, 80, pair.now) is not None


@pytest.mark.parametrize("limits", [Limits(tcp_inbound_flows=3), Limits(tcp_pending=3)])
def test_outsiders_do_not_keep_the_guest_from_connecting(limits: Limits) -> None:
    pair = Pair(make_config(limits=limits))
    for port in range(10):
        pair.host.accept(Endpoint(OUTSIDER.address, 1000 + port), 80, pair.now)
    connection, _ = pair.established()

    assert connection.established


# ICMP errors of the guest


def unreachable(pair: Pair, syn: Segment, *, code: int, sequence: int | None = None, cut: int = 0) -> None:
    """An ICMP error of the guest about a segment of ours."""
    quoted = dataclasses.replace(syn, sequence=syn.sequence if sequence is None else sequence).ip().emit()
    quoted = quoted[: len(quoted) - cut] if cut else quoted
    kind = 3 if len(syn.source) == 4 else 1
    pair.guest.send(icmp(syn.destination, syn.source, kind, code, bytes(4) + quoted))
    pair.settle()


@pytest.mark.parametrize(
    ("remote", "code", "errno"),
    [
        (OUTSIDER, 3, ECONNREFUSED),
        (OUTSIDER, 10, EHOSTUNREACH),
        (OUTSIDER6, 1, EHOSTUNREACH),
        (OUTSIDER6, 4, ECONNREFUSED),
    ],
)
def test_an_icmp_error_about_the_syn_ends_the_attempt(remote: Endpoint, code: int, errno: int) -> None:
    pair = Pair()
    stream = pair.host.accept(remote, 80, pair.now)
    assert stream is not None
    pair.settle()
    unreachable(pair, pair.guest.strays[0], code=code)

    assert pair.host.orders == [CloseSocket(stream.socket, True, errno)]
    assert pair.tcp_flows == 0


def test_an_icmp_error_with_a_guessed_number_does_not() -> None:
    pair = Pair()
    _, stream, syn = invited(pair)
    unreachable(pair, syn, code=3, sequence=(syn.sequence + 1) % _MODULUS)

    assert not stream.closed
    assert pair.network.statistics().drops == {}


def test_an_icmp_error_that_asks_for_smaller_packets_does_not() -> None:
    pair = Pair()
    _, stream, syn = invited(pair)
    unreachable(pair, syn, code=4)

    assert not stream.closed


def test_an_icmp_error_does_not_end_a_connection() -> None:
    """RFC 5927: otherwise a forger that guesses the ports could end it."""
    pair = Pair()
    peer, stream, syn = invited(pair)
    syn_ack(peer)
    unreachable(pair, syn, code=3)
    peer.data(b"alive")

    assert bytes(stream.received) == b"alive"


def test_an_icmp_error_about_what_was_never_sent_is_counted() -> None:
    pair = Pair()
    _, stream, syn = invited(pair)
    unreachable(pair, dataclasses.replace(syn, source_port=1), code=3)

    assert not stream.closed
    assert pair.network.statistics().drops == {Reason.ICMP_TYPE: 1}


@pytest.mark.parametrize("remote", [OUTSIDER, OUTSIDER6])
def test_an_icmp_error_that_quotes_too_little_is_counted(remote: Endpoint) -> None:
    pair = Pair()
    stream = pair.host.accept(remote, 80, pair.now)
    assert stream is not None
    pair.settle()
    (syn,) = pair.guest.strays
    size = len(syn.ip().emit())
    for left in range(28 if len(syn.source) == 4 else 48):
        unreachable(pair, syn, code=3, cut=size - left)

    assert not stream.closed
    assert sum(pair.network.statistics().drops.values()) == left + 1
