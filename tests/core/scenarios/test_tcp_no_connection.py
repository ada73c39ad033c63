"""A segment that no connection expects is answered with RST (RFC 9293, 3.10.7.1), so that a guest learns quickly."""

from __future__ import annotations

import pytest

from sansnet_core import LinkConfig, Reason
from sansnet_core.addresses import format
from sansnet_core.testing import GATEWAY, GATEWAY6, SERVER6, ManualConnection, Pair, make_config
from sansnet_core.testing.packets import ACK, FIN, PSH, RST, SYN, URG, Segment, read_frame

OFFLOADS = LinkConfig(mtu=1500, max_frame_size=65549, vnet_header=True, checksum_offload=True, tso4=True)
_FLAGS_WITH_ACK = [ACK, ACK | PSH, ACK | FIN, SYN | ACK, ACK | URG, SYN | ACK | FIN]
_FLAGS_WITHOUT_ACK = [0, FIN, PSH, FIN | PSH | URG]


@pytest.mark.parametrize("flags", _FLAGS_WITH_ACK)
@pytest.mark.parametrize("payload", [b"", b"data"])
def test_with_ack_the_reset_takes_its_number_from_it(flags: int, payload: bytes) -> None:
    pair = Pair()
    (reset,) = ManualConnection(pair).send(flags, payload, acknowledgment=123_456)

    assert (reset.flags, reset.sequence, reset.payload) == (RST, 123_456, b"")


@pytest.mark.parametrize("flags", _FLAGS_WITHOUT_ACK)
@pytest.mark.parametrize("payload", [b"", b"data"])
def test_without_ack_the_reset_acknowledges_all_of_the_segment(flags: int, payload: bytes) -> None:
    pair = Pair()
    (reset,) = ManualConnection(pair).send(flags, payload, sequence=0xFFFFFFFE)

    size = len(payload) + bool(flags & FIN)
    assert (reset.flags, reset.sequence) == (RST | ACK, 0)
    assert reset.acknowledgment == (0xFFFFFFFE + size) % (1 << 32)


@pytest.mark.parametrize("link", [None, OFFLOADS], ids=["plain", "offloads"])
@pytest.mark.parametrize("flags", [ACK, FIN])
def test_the_reset_is_a_bare_header(flags: int, link: LinkConfig | None) -> None:
    pair = Pair(make_config(link))
    answers = ManualConnection(pair).send(flags, b"data", sequence=7, acknowledgment=9)

    acknowledgment = 0 if flags & ACK else 7 + 4 + 1
    (reset,) = answers
    assert (reset.window, reset.acknowledgment, reset.options(), reset.payload) == (0, acknowledgment, b"", b"")
    ((_, frame),) = pair.sent
    assert read_frame(frame, vnet=link is not None).gso_size == 0


@pytest.mark.parametrize("others", [0, ACK, FIN, SYN, SYN | ACK, ACK | PSH])
def test_a_reset_is_never_answered(others: int) -> None:
    pair = Pair()

    assert ManualConnection(pair).send(RST | others) == []
    assert pair.host.orders == []


def test_ipv6_is_answered_too() -> None:
    pair = Pair()
    pair.guest.send(Segment(pair.guest.ipv6, 40000, SERVER6, 80, sequence=5, acknowledgment=9, flags=ACK).ip())
    pair.settle()

    (reset,) = pair.guest.strays
    assert (reset.flags, reset.sequence) == (RST, 9)


@pytest.mark.parametrize("address", [GATEWAY, GATEWAY6], ids=format)
def test_so_is_a_syn_to_an_address_that_exists_on_the_guests_segment_only(address: bytes) -> None:
    pair = Pair()
    connection = pair.guest.connect((address, 80), now=pair.now)
    pair.settle()

    assert connection.refused
    assert pair.host.orders == []
    assert pair.network.statistics().drops == {Reason.OWN_ADDRESS: 1}


def test_a_restarted_network_tells_the_guest_that_its_connection_is_dead() -> None:
    before = Pair()
    peer = ManualConnection(before)
    peer.open()
    after = Pair(secret=b"another instance, another secret")
    survivor = ManualConnection(after, port=peer.port)
    survivor.sequence, survivor.expected = peer.sequence, peer.expected
    (reset,) = survivor.data(b"are you there?")

    assert reset.flags & RST
    assert reset.sequence == peer.expected
