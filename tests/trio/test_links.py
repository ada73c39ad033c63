"""The configuration of the links to virtual machines. The limits of the tap are the kernel's: see test_tap."""

from __future__ import annotations

import io
import socket
from collections.abc import Callable, Iterator

import pytest

from sansnet_core import ConfigError, pcap
from sansnet_core.link import stream
from sansnet_core.vhost import vring
from sansnet_trio.links import Link, MtuLimits, unix_stream, vhost_user
from sansnet_trio.links.observed import CapturedLink, CaptureFile

Make = Callable[[socket.socket, int], Link]


def make_stream(connection: socket.socket, mtu: int) -> Link:
    return unix_stream.UnixStream(connection, mtu=mtu)


def make_vhost_user(connection: socket.socket, mtu: int) -> Link:
    return vhost_user.VhostUserLink(connection, mtu=mtu)


each_link = pytest.mark.parametrize(
    ("make", "mtu", "max_frame_size"),
    [
        pytest.param(make_stream, unix_stream.MTU, stream.MAX_FRAME_SIZE, id="stream"),
        pytest.param(make_vhost_user, vhost_user.MTU, vring.MAX_FRAME_SIZE, id="vhost-user"),
    ],
)


@pytest.fixture
def connection() -> Iterator[socket.socket]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours


@each_link
def test_the_largest_mtu_fills_the_largest_frame(
    connection: socket.socket, make: Make, mtu: MtuLimits, max_frame_size: int
) -> None:
    link = make(connection, mtu.largest)
    assert (link.config.mtu, link.config.max_frame_size) == (mtu.largest, max_frame_size)
    assert mtu.largest >= mtu.default
    assert mtu.largest + 14 == max_frame_size
    link.close()


@each_link
def test_a_larger_mtu_is_refused(connection: socket.socket, make: Make, mtu: MtuLimits, max_frame_size: int) -> None:
    with pytest.raises(ConfigError, match="mtu"):
        assert make(connection, mtu.largest + 1).config


@each_link
def test_a_capture_keeps_the_largest_frame_whole(
    connection: socket.socket, make: Make, mtu: MtuLimits, max_frame_size: int
) -> None:
    file = io.BytesIO()
    CapturedLink(make(connection, mtu.default), CaptureFile(file))
    assert file.getvalue() == pcap.pcap_header(max_frame_size)
