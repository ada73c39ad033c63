from __future__ import annotations

import gc
import os
import platform
import select
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from struct import pack

import pytest
import trio
import trio.testing

from sansnet_core import Frame, LinkConfig, Network, NetworkConfig, UsageError
from sansnet_core.testing import make_config
from sansnet_core.vhost import MAX_FRAME_SIZE, Fault, features
from sansnet_core.vhost.messages import Region, Request, emit, emit_region, emit_regions
from sansnet_trio.driver import Driver
from sansnet_trio.links import LinkClosed, ReadableLink
from sansnet_trio.links.observed import CapturedLink, CaptureFile
from sansnet_trio.links.vhost_user import VhostUserLink
from tests.core.vhost.machine import HIGH, LOW
from tests.trio.frontend import FrontEnd, take

FRAME = bytes(12) + bytes(range(60))
PLAIN = features.OFFERED & ~features.LOG_ALL
GUEST_MAC = bytes.fromhex("020000000002")


def open_fds() -> int:
    return len(os.listdir("/proc/self/fd"))


def mappings() -> int:
    return Path("/proc/self/maps").read_text().count("memfd:")


@pytest.fixture
def machine() -> Iterator[FrontEnd]:
    """A front-end; afterwards nothing is left open or mapped."""
    gc.collect()
    fds, mapped = open_fds(), mappings()
    machine = FrontEnd()
    yield machine
    machine.close()
    gc.collect()  # exceptions that the test looked at
    assert open_fds() == fds
    assert mappings() == mapped


def closed(machine: FrontEnd) -> str:
    """The reason for which the link closes. It then holds no descriptor and no mapping of the front-end."""
    with pytest.raises(LinkClosed) as caught:
        machine.replies()
    assert mappings() == 1, "the front-end's own"
    with pytest.raises(LinkClosed):
        machine.link.read_frames(64)
    with pytest.raises(LinkClosed):
        machine.link.write_frames([FRAME])
    return str(caught.value)


def test_frames_travel_both_ways(machine: FrontEnd) -> None:
    machine.start()
    assert machine.readable(), "a new ring is worked on without a kick"
    assert machine.link.read_frames(64) == []
    assert not machine.readable()

    machine.up.send(FRAME)
    machine.kick(1)
    assert machine.readable()
    assert machine.link.read_frames(64) == [FRAME]
    assert take(machine.events[61])
    assert not machine.readable(), "the guest kicks for the next frame"

    machine.down.offer([(HIGH.guest, 1500)])
    assert machine.link.write_frames([(FRAME[:54], FRAME[54:])]) == 1
    assert take(machine.events[60])
    assert machine.read(HIGH.guest, len(FRAME)) == bytes(10) + b"\1\0" + FRAME[12:]


def test_frames_beyond_a_batch_are_looked_for_without_a_kick() -> None:
    with closing(FrontEnd(size=32)) as machine:
        machine.start()
        for _ in range(20):
            machine.up.offer([(0x40000, 0x10000)])
        machine.kick(1)
        assert len(machine.link.read_frames(64)) == 16, "a batch is bounded in bytes"
        assert machine.readable(), "the guest does not kick: its frames were not all taken"
        assert len(machine.link.read_frames(64)) == 4
        assert not machine.readable()


def test_the_guest_is_not_notified_in_vain(machine: FrontEnd) -> None:
    machine.start()
    machine.up.want_notice(100)
    machine.up.send(FRAME)
    machine.link.read_frames(64)
    assert take(machine.events[61]), "the first time"
    machine.up.send(FRAME)
    machine.link.read_frames(64)
    assert not take(machine.events[61])


def test_the_largest_frames_and_the_features_of_the_guest_are_the_links(machine: FrontEnd) -> None:
    machine.start()
    assert machine.link.config == LinkConfig(
        mtu=1500, max_frame_size=MAX_FRAME_SIZE, vnet_header=True, checksum_offload=True, tso4=True, tso6=True, uso=True
    )


@pytest.mark.parametrize(
    ("given", "named", "used"),
    [(None, 9000, 9000), (1400, 9000, 1400), (9000, 1400, 1400), (65535, None, 65535)],
)
def test_the_mtu_is_the_one_given_but_no_more_than_the_front_end_names(
    given: int | None, named: int | None, used: int
) -> None:
    machine = FrontEnd(mtu=given)
    machine.start()
    if named is not None:
        machine.u64(Request.NET_SET_MTU, named)
    assert machine.link.config.mtu == used
    machine.close()


def test_replies_come_over_the_connection(machine: FrontEnd) -> None:
    assert machine.request(Request.GET_FEATURES) == [emit(1, pack("<Q", features.OFFERED))]
    machine.start()
    table = emit_regions((LOW, HIGH))
    assert machine.request(Request.SET_MEM_TABLE, table, [40, 41], needs_reply=True) == [emit(5, bytes(8))]


def test_the_dirty_log_is_the_front_ends(machine: FrontEnd) -> None:
    machine.start()
    machine.start_log()
    machine.down.offer([(0x60000, 1500)])
    machine.link.write_frames([FRAME])

    log = os.pread(machine.log_file, 1 << 18, 0)
    used = machine.down.used >> 12
    assert {at * 8 + bit for at, byte in enumerate(log) if byte for bit in range(8) if byte & 1 << bit} == {0x60, used}


def test_without_a_ring_frames_to_the_guest_are_dropped(machine: FrontEnd) -> None:
    assert machine.link.write_frames([FRAME, FRAME]) == 2
    assert machine.link.dropped == 2


def test_room_is_reported_where_it_is_wanted(machine: FrontEnd) -> None:
    machine.start()
    machine.link.read_frames(64)
    assert machine.link.write_frames([FRAME]) == 0
    machine.down.offer([(0x60000, 1500)])
    machine.kick(0)
    assert not machine.readable()

    assert machine.link.want(frames=False, room=True) == select.EPOLLIN
    assert machine.readable()
    machine.up.send(FRAME)
    machine.kick(1)
    assert machine.link.write_frames([FRAME]) == 1
    assert not machine.readable(), "the guest's frames are not wanted"
    machine.link.want(frames=True, room=False)
    assert machine.readable()
    assert machine.link.read_frames(64) == [FRAME]


def test_a_capture_in_front_passes_on_what_is_wanted(machine: FrontEnd, tmp_path: Path) -> None:
    machine.start()
    file = CaptureFile((tmp_path / "file").open("wb"))
    link = CapturedLink(machine.link, file)
    assert isinstance(link, ReadableLink)
    assert link.want(frames=True, room=True) == select.EPOLLIN
    link.close()
    file.close()


def test_many_frames_are_written_in_turns() -> None:
    """The number is limited, because a guest can make each frame expensive."""
    machine = FrontEnd(size=512)
    machine.start()
    for _ in range(400):
        machine.down.offer([(0x60000, 100)])
    machine.link.read_frames(64)
    machine.link.want(frames=True, room=True)
    left: list[Frame] = [FRAME] * 400
    turns = 0
    while left and machine.readable():
        left = left[machine.link.write_frames(left) :]
        turns += 1
    assert left == []
    assert turns == 2
    machine.close()


def test_a_stopped_ring_leaves_its_kicks_to_the_front_end(machine: FrontEnd) -> None:
    machine.start()
    machine.link.read_frames(64)
    machine.state(Request.GET_VRING_BASE, 1)
    machine.kick(1)

    assert not machine.readable()
    assert machine.link.read_frames(64) == []
    assert take(machine.events[51])


def test_descriptors_are_replaced(machine: FrontEnd) -> None:
    machine.start()
    fds = open_fds()
    machine.u64(Request.SET_VRING_KICK, 1, [80])
    machine.u64(Request.SET_VRING_CALL, 0x101)
    assert open_fds() == fds - 1
    machine.link.read_frames(64)
    machine.up.send(FRAME)
    os.eventfd_write(machine.events[80], 1)
    assert machine.readable()
    assert machine.link.read_frames(64) == [FRAME]
    assert not take(machine.events[61])


def test_waiting_for_the_guests_driver(machine: FrontEnd, monkeypatch: pytest.MonkeyPatch) -> None:

    async def body() -> None:
        with trio.fail_after(5):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(machine.link.wait_started)
                await trio.testing.wait_all_tasks_blocked()
                monkeypatch.setattr(machine, "replies", list)
                machine.start()
        assert machine.readable()

    trio.run(body)


def test_a_guest_that_reboots_may_accept_the_same(machine: FrontEnd) -> None:
    machine.start()
    trio.run(machine.link.wait_started)
    for ring in range(2):
        machine.state(Request.GET_VRING_BASE, ring)
    machine.start()
    machine.up.send(FRAME)
    assert machine.link.read_frames(64) == [FRAME]


# The end of the connection


def test_a_guest_that_reboots_into_a_driver_that_accepts_less(machine: FrontEnd) -> None:
    machine.start()
    trio.run(machine.link.wait_started)
    for ring in range(2):
        machine.state(Request.GET_VRING_BASE, ring)
    with pytest.raises(LinkClosed, match="other offloads"):
        machine.start(PLAIN & ~features.GUEST_TSO4)


def test_a_violation_after_the_first_of_two_rings_has_started(machine: FrontEnd) -> None:
    machine.start()
    user = HIGH.user
    machine.request(Request.SET_VRING_ADDR, pack("<IIQQQQ", 1, 0, user, user + 0x1000, user + 0x2000, 0))
    machine.send_message(Request.SET_MEM_TABLE, emit_regions((LOW,)), [40])
    assert closed(machine) == f"vhost-user: {Fault.RING_ADDRESS.value}"


def test_the_front_end_goes_away(machine: FrontEnd) -> None:
    machine.start()
    machine.socket.shutdown(socket.SHUT_RDWR)
    assert closed(machine) == "the front-end is gone"


def test_the_front_end_resets_the_connection(machine: FrontEnd) -> None:
    machine.start()
    machine.socket.send(b"12345")
    machine.link._connection.send(b"unread")
    machine.socket.close()
    with pytest.raises(LinkClosed, match="gone"):
        machine.link.read_frames(64)


def test_the_front_end_does_not_read(machine: FrontEnd) -> None:
    machine.link._connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)

    def ask() -> None:
        for _ in range(1000):
            machine.send_message(Request.GET_FEATURES)
            machine.link.read_frames(64)

    with pytest.raises(LinkClosed, match="does not take its answers"):
        ask()


def test_a_violation_of_the_protocol(machine: FrontEnd) -> None:
    machine.start()
    machine.send_message(Request.SET_VRING_NUM, pack("<II", 2, 8), reply=True)
    assert closed(machine) == f"vhost-user: {Fault.RING_INDEX.value}"
    assert machine.socket.recv(100) == emit(8, pack("<Q", 1))
    assert machine.socket.recv(100) == b""


def test_a_violation_by_the_guest_is_told_to_the_front_end(machine: FrontEnd) -> None:
    machine.start()
    machine.up.push(9)
    assert closed_by_guest(machine) == f"vhost-user: {Fault.CHAIN_INDEX.value}"
    assert take(machine.events[31])
    assert not take(machine.events[30])


def closed_by_guest(machine: FrontEnd) -> str:
    with pytest.raises(LinkClosed) as caught:
        machine.link.read_frames(64)
    assert mappings() == 1, "the front-end's own"
    return str(caught.value)


def test_a_violation_of_the_other_ring(machine: FrontEnd) -> None:
    machine.start()
    machine.down.offer([(1 << 63, 1500)])
    with pytest.raises(LinkClosed) as caught:
        machine.link.write_frames([FRAME])
    assert mappings() == 1, "the front-end's own"
    assert str(caught.value) == f"vhost-user: {Fault.CHAIN_ADDRESS.value}"
    assert take(machine.events[30])


@pytest.mark.parametrize("number", [1, 8, 9, 100])
def test_surplus_descriptors_are_closed(machine: FrontEnd, number: int) -> None:
    machine.start()
    machine.send_message(Request.GET_FEATURES, fds=[40] * number)
    assert closed(machine)


def test_descriptors_that_were_cut_off_are_noticed(machine: FrontEnd) -> None:
    """Eight descriptors may come with any message, even one that is unknown and ignored."""
    machine.start()
    machine.send_message(999, fds=[40] * 8)
    machine.replies()
    machine.send_message(999, fds=[40] * 9)
    assert "more descriptors than" in closed(machine)


def test_a_flood_of_messages_leaves_time_for_the_rings(machine: FrontEnd) -> None:
    machine.start()
    machine.up.send(FRAME)
    for _ in range(200):
        machine.send_message(Request.GET_FEATURES)
    assert machine.link.read_frames(64) == [FRAME]
    answer = emit(Request.GET_FEATURES, pack("<Q", features.OFFERED))
    assert 0 < len(machine.socket.recv(1 << 16)) < 200 * len(answer)


# Files of a wrong kind


def test_memory_that_is_larger_than_its_file(machine: FrontEnd) -> None:
    region = Region(0, LOW.size + HIGH.size + 1, LOW.user, 0)
    machine.send_message(Request.SET_MEM_TABLE, emit_regions((region,)), [40])
    assert closed(machine) == f"vhost-user: {Fault.MAPPING.value}"


@pytest.mark.parametrize(("size", "offset"), [(1 << 62, 0), (1, (1 << 63) - 1), (1 << 47, 0)])
def test_memory_that_no_file_can_have(machine: FrontEnd, size: int, offset: int) -> None:
    machine.send_message(Request.SET_MEM_TABLE, emit_regions((Region(0, size, 0, offset),)), [40])
    assert closed(machine) == f"vhost-user: {Fault.MAPPING.value}"


def test_memory_that_is_no_file(machine: FrontEnd) -> None:
    machine.u64(Request.SET_PROTOCOL_FEATURES, features.PROTOCOL_OFFERED)
    machine.send_message(Request.ADD_MEM_REG, emit_region(LOW), [80])
    assert closed(machine) == f"vhost-user: {Fault.MAPPING.value}"


def test_memory_that_is_a_device(machine: FrontEnd) -> None:
    """It could be mapped, but the memory would not be shared."""
    fd = os.open("/dev/zero", os.O_RDWR)
    machine.send_message(Request.SET_MEM_TABLE, emit_regions((LOW,)), [~fd])
    os.close(fd)
    assert closed(machine) == f"vhost-user: {Fault.MAPPING.value}"


def test_memory_that_cannot_be_written(machine: FrontEnd) -> None:
    fd = os.open(f"/proc/self/fd/{machine.file}", os.O_RDONLY)
    machine.send_message(Request.SET_MEM_TABLE, emit_regions((LOW,)), [~fd])
    os.close(fd)
    assert closed(machine) == f"vhost-user: {Fault.MAPPING.value}"


def test_memory_that_could_be_taken_away_cannot_be_any_more(caplog: pytest.LogCaptureFixture) -> None:
    machine = FrontEnd(sealed=False)
    machine.start()
    with pytest.raises(PermissionError):
        os.ftruncate(machine.file, 0)
    machine.close()
    assert not caplog.text


@contextmanager
def unsealable(directory: Path, kind: str) -> Iterator[int]:
    """A file of the size of `LOW` that takes no seal."""
    if kind == "disk":
        fd = os.open(directory / "memory", os.O_RDWR | os.O_CREAT)
    else:  # it has F_SEAL_SEAL
        fd = os.memfd_create("memory", os.MFD_CLOEXEC)
    try:
        os.ftruncate(fd, LOW.size)
        yield fd
    finally:
        os.close(fd)


@pytest.mark.parametrize("kind", ["disk", "memfd"])
def test_memory_that_takes_no_seal_is_refused(
    machine: FrontEnd, tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    with unsealable(tmp_path, kind) as fd:
        machine.send_message(Request.SET_MEM_TABLE, emit_regions((LOW,)), [~fd])
        assert closed(machine) == f"vhost-user: {Fault.MAPPING.value}"
    assert caplog.messages == [
        "vhost-user: cannot map the guest's memory: the file has no seal against shrinking, so QEMU could cut it short "
        "while it is in use; give QEMU a memory-backend-memfd, or sansnet allow_unsealed=True"
    ]
    assert {record.name for record in caplog.records} == {"sansnet"}, "the command says what this logger has"


@pytest.mark.parametrize("kind", ["disk", "memfd"])
def test_a_log_that_takes_no_seal_is_refused(machine: FrontEnd, tmp_path: Path, kind: str) -> None:
    machine.negotiate(features.OFFERED)
    with unsealable(tmp_path, kind) as fd:
        machine.send_message(Request.SET_LOG_BASE, pack("<QQ", LOW.size, 0), [~fd])
        assert closed(machine) == f"vhost-user: {Fault.MAPPING.value}"


def test_memory_without_a_seal_is_taken_if_that_is_allowed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with unsealable(tmp_path, "disk") as fd, closing(FrontEnd(allow_unsealed=True)) as machine:
        machine.request(Request.SET_MEM_TABLE, emit_regions((LOW,)), [~fd])
    assert "without a seal against shrinking; if QEMU cuts it short" in caplog.text


def test_a_kick_that_the_front_end_takes_back(machine: FrontEnd) -> None:
    machine.start()
    machine.link.read_frames(64)
    machine.link._drain(machine.events[51])
    assert machine.link.read_frames(64) == []


def test_a_kick_that_is_a_file(machine: FrontEnd) -> None:
    machine.start()
    machine.send_message(Request.SET_VRING_KICK, pack("<Q", 1), [40])
    assert "cannot be waited for" in closed(machine)


def test_a_kick_that_is_the_end_of_a_pipe(machine: FrontEnd) -> None:
    machine.start()
    read, write = os.pipe()
    machine.send_message(Request.SET_VRING_KICK, pack("<Q", 1), [~read])
    os.close(read)
    os.close(write)
    machine.replies()
    assert "not an eventfd" in closed_by_guest(machine)


def test_a_kick_that_cannot_be_read(machine: FrontEnd) -> None:
    machine.start()
    read, write = os.pipe()
    os.close(read)
    machine.send_message(Request.SET_VRING_KICK, pack("<Q", 1), [~write])
    os.close(write)
    machine.replies()
    assert "not an eventfd" in closed_by_guest(machine)


@pytest.mark.timeout(5)
def test_a_call_that_would_block_or_is_no_descriptor_of_that_kind(machine: FrontEnd) -> None:
    machine.start()
    read, write = os.pipe()
    os.set_blocking(write, False)
    with suppress(BlockingIOError):
        while True:
            os.write(write, bytes(4096))
    os.set_blocking(write, True)
    path = os.open(f"/proc/self/fd/{machine.file}", os.O_PATH)
    for fd in (write, path):
        machine.u64(Request.SET_VRING_CALL, 1, [~fd])
        machine.up.send(FRAME)
        assert machine.link.read_frames(64) == [FRAME]
    for fd in (read, write, path):
        os.close(fd)


@pytest.mark.timeout(5)
def test_eventfds_that_the_front_end_makes_block(machine: FrontEnd) -> None:
    """The front-end shares the file, and so its flags."""
    machine.start()
    machine.link.read_frames(64)
    os.set_blocking(machine.events[51], True)
    machine.link._drain(machine.events[51])
    machine.up.send(FRAME)
    for number in (31, 51, 61):
        take(machine.events[number])
        os.eventfd_write(machine.events[number], (1 << 64) - 2)
        os.set_blocking(machine.events[number], True)
    assert machine.link.read_frames(64) == [FRAME]
    for number in (31, 51, 61):
        os.set_blocking(machine.events[number], True)
    machine.up.push(9)
    assert closed_by_guest(machine) == f"vhost-user: {Fault.CHAIN_INDEX.value}"


def test_other_processors(machine: FrontEnd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    with pytest.raises(UsageError):
        VhostUserLink(machine.socket)


# With a driver and a network


def arp_request(network: NetworkConfig) -> bytes:
    assert network.ipv4 is not None
    assert network.ipv4.gateway is not None
    return (
        bytes(12)
        + bytes.fromhex("ffffffffffff")
        + GUEST_MAC
        + bytes.fromhex("0806 0001080006040001")
        + GUEST_MAC
        + (network.ipv4.address + bytes(6) + network.ipv4.gateway + bytes(18))
    )


def test_a_guest_without_buffers_is_answered_when_it_has_some(machine: FrontEnd) -> None:
    """A driver with a network that answers ARP: frames wait for the ring."""

    async def body() -> None:
        machine.start()
        config = make_config(machine.link.config, None)
        network = Network(config, now=trio.current_time(), secret=bytes(32))
        driver = Driver(network, machine.link)
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                await nursery.start(driver.run)
                for _ in range(4):
                    machine.up.send(arp_request(config))
                machine.kick(1)
                while driver.statistics().frames_received < 4:
                    await trio.sleep(0.001)
                pending = driver.statistics().frames_pending
                assert pending >= 4
                for place in range(8):
                    machine.down.offer([(0x60000 + 0x1000 * place, 1526)])
                machine.kick(0)
                while driver.statistics().frames_pending:
                    await trio.sleep(0.001)
                used = machine.down.collect()
                assert len(used) == pending
                assert machine.read(0x60000 + 0x1000 * used[-1][0] + 12 + 12, 2) == b"\x08\x06"
                nursery.cancel_scope.cancel()

    trio.run(body)


def test_a_guest_that_violates_its_ring_ends_the_driver(machine: FrontEnd) -> None:

    async def body() -> None:
        machine.start()
        network = Network(make_config(machine.link.config, None), now=trio.current_time(), secret=bytes(32))
        machine.up.push(9)
        with pytest.raises(LinkClosed, match="descriptor index"), trio.fail_after(10):
            await Driver(network, machine.link).run()

    trio.run(body)
