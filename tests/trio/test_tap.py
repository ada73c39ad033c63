"""The tap link, with the kernel's own stack in a namespace as the guest."""

from __future__ import annotations

import errno
import os
import select
import socket
from collections.abc import Iterator

import pytest

from sansnet_core import LinkConfig
from sansnet_trio.links import LinkClosed
from sansnet_trio.links.tap import MAX_FRAME_SIZE, MTU, Tap, open_tap
from tests.lab.namespaces import Namespace, held_namespace

MAC = bytes.fromhex("025300000001")
HEADER = bytes(12)  # virtio_net_hdr: checksums are complete, no segmentation

pytestmark = pytest.mark.kernel


@pytest.fixture
def guest() -> Iterator[Namespace]:
    """A namespace without IPv6, so that it sends no frames by itself."""
    with held_namespace() as namespace:
        namespace.shell("sysctl -qw net.ipv6.conf.default.disable_ipv6=1")
        yield namespace


@pytest.fixture
def tap(guest: Namespace) -> Iterator[Tap]:
    """A tap in it, up, with an address and a neighbour."""
    fd, config = guest.call(lambda: open_tap("tap0", mtu=1500, mac=MAC))
    made = Tap(fd, config)
    guest.shell(
        "ip link set tap0 up; ip addr add 10.1.0.2/24 dev tap0; ip neigh add 10.1.0.1 lladdr 02:00:00:00:00:09 dev tap0"
    )
    yield made
    made.close()


def wait_readable(tap: Tap) -> None:
    """Wait for a frame."""
    assert select.select([tap], [], [], 5)[0]


def test_a_tap_has_the_kernels_offloads_and_the_options_asked_for(guest: Namespace, tap: Tap) -> None:
    assert tap.config == LinkConfig(
        mtu=1500, max_frame_size=MAX_FRAME_SIZE, vnet_header=True, checksum_offload=True, tso4=True, tso6=True, uso=True
    )
    shown = guest.run("ip", "link", "show", "tap0").stdout
    assert "mtu 1500" in shown
    assert "02:53:00:00:00:01" in shown
    assert not os.get_blocking(tap.fileno())
    assert not os.get_inheritable(tap.fileno())


def test_the_largest_mtu_is_accepted(guest: Namespace) -> None:
    fd, config = guest.call(lambda: open_tap("tap0", mtu=MTU.largest))
    os.close(fd)
    assert config.mtu == MTU.largest >= MTU.default


def test_what_the_kernel_refuses_is_raised_and_leaves_no_descriptor(guest: Namespace) -> None:
    before = os.listdir("/proc/self/fd")
    with pytest.raises(OSError, match="Invalid argument"):
        guest.call(lambda: open_tap("tap0", mtu=MTU.largest + 1))
    assert os.listdir("/proc/self/fd") == before


@pytest.mark.parametrize("count", range(1, 6))
@pytest.mark.parametrize("limit", [1, 2, 3, 64])
def test_frames_of_the_guest_are_read_and_then_there_are_none(
    guest: Namespace, tap: Tap, count: int, limit: int
) -> None:
    assert tap.read_frames(limit) == []
    with guest.datagram("10.1.0.2") as sock:
        for number in range(count):
            sock.sendto(b"frame %d" % number, ("10.1.0.1", 9))
    wait_readable(tap)
    frames: list[bytes] = []
    while batch := tap.read_frames(limit):
        assert len(batch) == min(limit, count - len(frames))
        frames += batch
    assert [frame[-1:] for frame in frames] == [b"%d" % number for number in range(count)]
    assert frames[0][12:18] == b"\2\0\0\0\0\x09"


def test_the_guest_hands_out_segments_larger_than_its_mtu(guest: Namespace, tap: Tap) -> None:
    with guest.datagram("10.1.0.2") as sock:
        sock.setsockopt(socket.IPPROTO_UDP, 103, 1000)  # UDP_SEGMENT
        sock.sendto(bytes(10000), ("10.1.0.1", 9))
    wait_readable(tap)
    [frame] = tap.read_frames(64)
    assert len(frame) == 12 + 14 + 20 + 8 + 10000


def test_frames_to_the_guest_are_written_whole_or_in_two_parts(guest: Namespace, tap: Tap) -> None:
    request = MAC + bytes.fromhex("020000000009 0806 0001080006040001 020000000009 0a010001 000000000000 0a010002")
    assert tap.write_frames([HEADER + request, (HEADER + request[:14], memoryview(request)[14:])]) == 2
    wait_readable(tap)
    replies = tap.read_frames(64)
    assert [reply[12:34].hex() for reply in replies] == ["020000000009" + MAC.hex() + "08060001080006040002"] * 2
    assert tap.dropped == 0


def test_frames_that_the_kernel_refuses_are_counted(guest: Namespace, tap: Tap) -> None:
    assert tap.write_frames([b"", HEADER + bytes(3), HEADER + bytes(60)]) == 3
    assert tap.dropped == 2


def test_an_interface_that_is_down_drops_frames(guest: Namespace, tap: Tap) -> None:
    guest.shell("ip link set tap0 down")
    assert tap.write_frames([HEADER + bytes(60)]) == 1
    assert tap.dropped == 1
    assert tap.read_frames(64) == []
    guest.shell("ip link set tap0 up")
    assert tap.write_frames([HEADER + bytes(60)]) == 1
    assert tap.dropped == 1


def test_a_deleted_interface_closes_the_link(guest: Namespace, tap: Tap) -> None:
    guest.shell("ip link delete tap0")
    wait_readable(tap)
    with pytest.raises(LinkClosed, match="interface"):
        tap.read_frames(64)
    with pytest.raises(LinkClosed, match="interface"):
        tap.write_frames([HEADER + bytes(60)])


def test_closing_twice_closes_once(tap: Tap) -> None:
    fd = tap.fileno()
    tap.close()
    tap.close()
    with pytest.raises(OSError, match="Bad file descriptor") as caught:
        os.fstat(fd)
    assert caught.value.errno == errno.EBADF


@pytest.mark.parametrize("left_behind", [False, True])
def test_a_closed_tap_takes_its_interface_along_unless_that_is_left_behind(guest: Namespace, left_behind: bool) -> None:
    fd, config = guest.call(lambda: open_tap("eth7", mtu=1500))
    Tap(fd, config, left_behind=left_behind).close()
    assert ("eth7" in guest.shell("ip link").stdout) is left_behind
