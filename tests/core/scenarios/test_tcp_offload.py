"""Links with segmentation and checksum offload, and links without."""

from __future__ import annotations

import pytest

from sansnet_core import LinkConfig
from sansnet_core.testing import GuestTcpOptions, HostScript, Pair, make_config
from sansnet_core.testing.packets import read_frame

_LINKS = {
    "plain": LinkConfig(mtu=1500, max_frame_size=1514),
    "plain, large": LinkConfig(mtu=65520, max_frame_size=65535),
    "smallest": LinkConfig(mtu=576, max_frame_size=590),
    "header only": LinkConfig(mtu=1500, max_frame_size=1514, vnet_header=True),
    "checksums": LinkConfig(mtu=1500, max_frame_size=1514, vnet_header=True, checksum_offload=True),
    "segmentation": LinkConfig(
        mtu=1500, max_frame_size=65549, vnet_header=True, checksum_offload=True, tso4=True, tso6=True, uso=True
    ),
    "segmentation, small frames": LinkConfig(
        mtu=1500, max_frame_size=9014, vnet_header=True, checksum_offload=True, tso4=True, tso6=True
    ),
    "segmentation, IPv4 alone": LinkConfig(
        mtu=1500, max_frame_size=65549, vnet_header=True, checksum_offload=True, tso4=True
    ),
    "verifying": LinkConfig(mtu=1500, max_frame_size=1514, verify_checksums=True),
    "segmentation, verifying": LinkConfig(
        mtu=1500,
        max_frame_size=65549,
        vnet_header=True,
        checksum_offload=True,
        tso4=True,
        tso6=True,
        verify_checksums=True,
    ),
}


@pytest.mark.parametrize("name", _LINKS)
@pytest.mark.parametrize("family", [4, 6])
def test_a_stream_passes_unharmed(name: str, family: int) -> None:
    """The simulated guest checks checksums, lengths and offload header of every frame."""
    pair = Pair(make_config(_LINKS[name]), HostScript(echo=True))
    link = pair.config.link
    largest = link.max_frame_size - 100 if link.tso4 else 0
    options = GuestTcpOptions(mss=link.mtu - 60, window=1 << 20, largest_segment=largest, partial=link.checksum_offload)
    connection = pair.connect(options, family=family)
    data = bytes(range(255)) * 2000 + b"odd"
    connection.send(data)
    connection.shutdown()
    pair.drive(lambda: connection.closed)

    assert bytes(connection.received) == data
    assert connection.retransmissions == 0
    assert pair.guest.max_frame_size <= link.max_frame_size


@pytest.mark.parametrize(("name", "family", "segmented"), [
    ("plain", 4, False),
    ("checksums", 4, False),
    ("segmentation", 4, True),
    ("segmentation", 6, True),
    ("segmentation, IPv4 alone", 4, True),
    ("segmentation, IPv4 alone", 6, False),
])  # fmt: skip
def test_large_frames_are_sent_where_the_link_takes_them(name: str, family: int, segmented: bool) -> None:
    pair = Pair(make_config(_LINKS[name]))
    connection, stream = pair.established(GuestTcpOptions(mss=1400, window=1 << 20, scale=7), family=family)
    pair.host.produce(stream, bytes(500_000))
    pair.drive(lambda: len(connection.received) == 500_000)

    assert bool(pair.guest.segmented_frames) == segmented
    if segmented:
        assert pair.guest.max_frame_size > 60_000
    else:
        assert pair.guest.max_frame_size <= 1514


@pytest.mark.parametrize("mtu", [1500, 9000, 65520])
def test_a_full_read_from_the_host_fills_whole_frames(mtu: int) -> None:
    link = LinkConfig(mtu=mtu, max_frame_size=65549, vnet_header=True, checksum_offload=True, tso4=True, tso6=True)
    pair = Pair(make_config(link))
    _, stream = pair.established(GuestTcpOptions(mss=mtu - 40, window=4 << 20, scale=8))
    budget = pair.network.receive_budget(stream.socket)
    pair.network.stream_received(stream.socket, bytes(budget), pair.now)
    sizes = [len(read_frame(frame, vnet=True).payload) for frame in pair.network.take_frames()]

    assert 192 << 10 < budget <= 256 << 10
    assert len(set(sizes)) == 1


def test_a_large_frame_is_cut_into_segments_of_the_guests_size() -> None:
    pair = Pair(make_config(_LINKS["segmentation"]))
    connection, stream = pair.established(GuestTcpOptions(mss=1000, window=1 << 20))
    pair.host.produce(stream, bytes(100_000))
    pair.drive(lambda: len(connection.received) == 100_000)
    sizes = {read.gso_size for _, frame in pair.sent if (read := read_frame(frame, vnet=True)).gso_type}

    assert sizes == {1000}


def test_retransmissions_are_not_larger_than_a_segment() -> None:
    pair = Pair(make_config(_LINKS["segmentation"]))
    connection, stream = pair.established(GuestTcpOptions(mss=1400, window=1 << 20))
    pair.guest.connections.clear()
    pair.host.produce(stream, bytes(100_000))
    pair.wait(3.0)

    assert pair.guest.max_frame_size > 60_000
    lengths = [len(segment.payload) for segment in pair.guest.strays]
    assert max(lengths) <= 1400
    assert connection.established


def test_a_wrong_checksum_is_dropped_where_it_is_verified() -> None:
    for verify in (False, True):
        link = LinkConfig(mtu=1500, max_frame_size=1514, verify_checksums=verify)
        pair = Pair(make_config(link))
        connection = pair.connect()
        pair.guest.at(pair.now)
        (frame,) = pair.guest.take_frames()
        pair.network.receive_frames([frame[:50] + bytes((frame[50] ^ 1,)) + frame[51:]], pair.now)
        pair.settle()

        assert len(pair.host.streams) == (0 if verify else 1)
        assert connection.peer_mss
