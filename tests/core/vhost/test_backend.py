from __future__ import annotations

from collections.abc import Callable, Sequence
from struct import pack

import pytest

from sansnet_core import LinkConfig, UsageError
from sansnet_core.vhost import (
    FROM_GUEST,
    MAX_FRAME_SIZE,
    TO_GUEST,
    CloseFds,
    Fault,
    MapLog,
    MapMemory,
    SetCall,
    SetError,
    SetKick,
    StartRing,
    StopRing,
    VhostUserBackend,
    VhostViolation,
    features,
)
from sansnet_core.vhost.backend import MAX_SLOTS
from sansnet_core.vhost.messages import Region, Request, emit, emit_region, emit_regions
from sansnet_core.vhost.vring import MAX_RING_SIZE
from tests.core.vhost.machine import HIGH, LOW, Machine

PLAIN = features.OFFERED & ~features.LOG_ALL
OK = pack("<Q", 0)
FAILED = pack("<Q", 1)


def negotiated() -> Machine:
    """A machine whose front-end has negotiated the features, and nothing more."""
    machine = Machine()
    machine.u64(Request.SET_PROTOCOL_FEATURES, features.PROTOCOL_OFFERED)
    return machine


def refuse(machine: Machine, send: Callable[[], object]) -> Fault:
    """The fault of a message. Afterwards there are no rings, and `wanted` is 0."""
    with pytest.raises(VhostViolation) as caught:
        send()
    assert machine.backend.wanted() == 0
    assert machine.backend.to_guest is None
    assert machine.backend.from_guest is None
    return caught.value.fault


# The sequence of messages that QEMU sends


def test_a_start_as_qemu_does_it() -> None:
    machine = Machine()
    assert machine.request(Request.GET_FEATURES) == [emit(1, pack("<Q", features.OFFERED))]
    assert machine.request(Request.GET_PROTOCOL_FEATURES) == [emit(15, pack("<Q", features.PROTOCOL_OFFERED))]
    machine.start()

    assert machine.take_orders() == [
        SetCall(0, 20),
        SetError(0, 30),
        SetCall(1, 21),
        SetError(1, 31),
        MapMemory((LOW, HIGH), (40, 41)),
        SetKick(0, 50),
        StartRing(TO_GUEST),
        SetCall(0, 60),
        SetKick(1, 51),
        StartRing(FROM_GUEST),
        SetCall(1, 61),
    ]
    assert machine.backend.features == PLAIN


def test_a_ring_starts_when_it_is_enabled_after_the_kick_descriptor_came() -> None:
    machine = Machine()
    machine.negotiate(PLAIN)
    machine.share_memory()
    machine.state(Request.SET_VRING_ENABLE, 0, 0)
    machine.take_orders()
    machine.set_up(machine.down)
    assert machine.backend.to_guest is None

    machine.take_orders()
    machine.state(Request.SET_VRING_ENABLE, 0, 1)
    assert machine.take_orders() == [StartRing(0)]
    machine.state(Request.SET_VRING_ENABLE, 0, 0)
    assert machine.take_orders() == [StopRing(0)]
    assert machine.backend.to_guest is None


def test_without_protocol_features_rings_need_not_be_enabled() -> None:
    machine = Machine()
    machine.u64(Request.SET_FEATURES, PLAIN & ~features.PROTOCOL_FEATURES)
    machine.share_memory()
    machine.set_up(machine.up)

    machine.up.send(bytes(20))
    assert machine.from_guest.take_frames(64) == [bytes(20)]


def test_a_ring_that_stops_says_where_and_goes_on_from_there() -> None:
    machine = Machine(base=65535).start()
    machine.up.send(bytes(20))
    machine.from_guest.take_frames(64)
    machine.take_orders()

    assert machine.state(Request.GET_VRING_BASE, 1) == [emit(11, pack("<II", 1, 0))]
    assert machine.take_orders() == [StopRing(1)]
    assert machine.state(Request.GET_VRING_BASE, 1) == [emit(11, pack("<II", 1, 0))]
    machine.state(Request.SET_VRING_ENABLE, 1, 0)
    machine.state(Request.SET_VRING_ENABLE, 1, 1)
    assert machine.take_orders() == []

    machine.base = 0
    machine.set_up(machine.up)
    machine.up.send(bytes(21))
    assert machine.from_guest.take_frames(64) == [bytes(21)]


def test_a_ring_that_is_made_anew_goes_on_where_it_was() -> None:
    machine = Machine().start()
    machine.up.send(bytes(20))
    machine.from_guest.take_frames(64)
    for change in (
        lambda: machine.addresses(machine.up),
        machine.share_memory,
        lambda: machine.u64(Request.SET_FEATURES, PLAIN),
        lambda: machine.u64(Request.SET_VRING_KICK, 1, [80]),
    ):
        machine.take_orders()
        change()
        assert StartRing(1) in machine.take_orders()
        machine.up.send(bytes(21))
        assert machine.from_guest.take_frames(64) == [bytes(21)]


def test_a_status_of_nothing_stops_the_rings() -> None:
    machine = Machine().start()
    machine.u64(Request.SET_STATUS, 0xF)
    assert machine.request(Request.GET_STATUS) == [emit(40, pack("<Q", 0xF))]
    machine.take_orders()
    machine.u64(Request.SET_STATUS, 0)

    assert machine.take_orders() == [StopRing(0), StopRing(1)]


def test_a_back_end_that_comes_later_goes_on_from_the_base_that_it_is_told() -> None:
    machine = Machine(base=1000).start()
    machine.up.send(bytes(20))
    machine.from_guest.take_frames(64)
    machine.up.send(bytes(21))

    machine.backend = VhostUserBackend(lambda: None)
    machine.base = 1001
    machine.start()
    assert machine.from_guest.take_frames(64) == [bytes(21)]
    assert machine.up.collect() == [(0, 0), (1, 0)]


def test_messages_may_come_in_pieces() -> None:
    message = emit(Request.SET_PROTOCOL_FEATURES, pack("<Q", features.PROTOCOL_REPLY_ACK), reply=False) + emit(
        Request.SET_OWNER, b"", reply=False, needs_reply=True
    )
    backend = VhostUserBackend(lambda: None)
    for byte in message:
        backend.receive(bytes([byte]))

    assert backend.take_replies() == [emit(3, OK)]
    assert backend.wanted() == 12


def test_memory_by_slots() -> None:
    machine = negotiated()
    assert machine.request(Request.GET_MAX_MEM_SLOTS) == [emit(36, pack("<Q", MAX_SLOTS))]
    for number, region in enumerate((LOW, HIGH)):
        assert machine.request(Request.ADD_MEM_REG, emit_region(region), [40 + number], needs_reply=True) == [
            emit(37, OK)
        ]
    assert machine.take_orders() == [MapMemory((LOW,), (40,)), MapMemory((HIGH,), (41,))]
    machine.negotiate(PLAIN)
    machine.set_up(machine.up)
    machine.take_orders()
    machine.request(Request.REM_MEM_REG, emit_region(HIGH._replace(offset=0)), [42])
    assert machine.take_orders() == [StartRing(1), CloseFds((42,))]

    machine.up.offer([(HIGH.guest, 20)])
    with pytest.raises(VhostViolation, match="not within one memory region"):
        machine.from_guest.take_frames(64)


def test_the_mtu() -> None:
    machine = negotiated()
    assert machine.backend.mtu is None
    machine.u64(Request.NET_SET_MTU, 65520)
    assert machine.backend.mtu == 65520


@pytest.mark.parametrize(
    ("acked", "expected"),
    [
        (PLAIN, (True, True, True, True)),
        (PLAIN & ~features.GUEST_TSO6 & ~features.GUEST_USO6, (True, True, False, False)),
        (PLAIN & ~features.GUEST_TSO4 & ~features.GUEST_USO4, (True, False, True, False)),
        (PLAIN & ~features.GUEST_CSUM, (False, False, False, False)),
    ],
)
def test_the_link_can_do_what_the_guest_accepted(acked: int, expected: tuple[bool, bool, bool, bool]) -> None:
    checksum, tso4, tso6, uso = expected
    assert Machine().start(acked).backend.link_config(1500) == LinkConfig(
        mtu=1500,
        max_frame_size=MAX_FRAME_SIZE,
        vnet_header=True,
        checksum_offload=checksum,
        tso4=tso4,
        tso6=tso6,
        uso=uso,
    )


# Replies


@pytest.mark.parametrize(
    ("request_", "payload"),
    [
        (Request.SET_OWNER, b""),
        (Request.RESET_OWNER, b""),
        (Request.SET_LOG_FD, bytes(8)),
        (Request.SEND_RARP, bytes(8)),
        (Request.SET_VRING_NUM, pack("<II", 0, 256)),
        (Request.SET_FEATURES, pack("<Q", PLAIN)),
        (Request.SET_MEM_TABLE, bytes(8)),
    ],
)
def test_a_message_without_a_reply_is_acknowledged_where_that_is_asked_for(request_: int, payload: bytes) -> None:
    machine = negotiated()
    assert machine.request(request_, payload, needs_reply=True) == [emit(request_, OK)]
    assert machine.request(request_, payload) == []
    machine.u64(Request.SET_PROTOCOL_FEATURES, 0)
    assert machine.request(Request.SET_OWNER, needs_reply=True) == []


def test_a_message_with_a_reply_has_one_and_not_two() -> None:
    machine = negotiated()
    assert machine.request(Request.GET_FEATURES, needs_reply=True) == [emit(1, pack("<Q", features.OFFERED))]
    assert machine.request(Request.SET_LOG_BASE, pack("<QQ", 8, 0), [5], needs_reply=True) == [emit(6, OK)]
    assert machine.request(Request.SET_LOG_BASE, pack("<QQ", 8, 0), [5]) == [emit(6, OK)]


@pytest.mark.parametrize(
    ("request_", "payload"),
    [
        (0, b""),
        (17, b""),
        (21, b""),
        (24, bytes(12)),
        (28, b""),
        (31, bytes(24)),
        (42, bytes(8)),
        (43, b""),
        (999, b"what"),
    ],
)
def test_an_unknown_message_is_answered_with_failure_or_ignored(request_: int, payload: bytes) -> None:
    machine = negotiated()
    assert machine.request(request_, payload, [7, 8], needs_reply=True) == [emit(request_, FAILED)]
    assert machine.request(request_, payload) == []
    assert machine.take_orders() == [CloseFds((7, 8))]
    assert machine.request(Request.GET_STATUS) == [emit(40, bytes(8))]


@pytest.mark.parametrize(
    ("request_", "payload", "feature"),
    [
        (Request.SET_LOG_BASE, bytes(16), features.PROTOCOL_LOG_SHMFD),
        (Request.SEND_RARP, bytes(8), features.PROTOCOL_RARP),
        (Request.NET_SET_MTU, bytes(8), features.PROTOCOL_NET_MTU),
        (Request.GET_MAX_MEM_SLOTS, b"", features.PROTOCOL_CONFIGURE_MEM_SLOTS),
        (Request.ADD_MEM_REG, bytes(40), features.PROTOCOL_CONFIGURE_MEM_SLOTS),
        (Request.REM_MEM_REG, bytes(40), features.PROTOCOL_CONFIGURE_MEM_SLOTS),
        (Request.SET_STATUS, bytes(8), features.PROTOCOL_STATUS),
        (Request.GET_STATUS, b"", features.PROTOCOL_STATUS),
    ],
)
def test_a_message_of_a_feature_that_was_not_negotiated_is_unknown(request_: int, payload: bytes, feature: int) -> None:
    machine = Machine()
    machine.u64(Request.SET_PROTOCOL_FEATURES, features.PROTOCOL_OFFERED & ~feature)
    assert machine.request(request_, payload, needs_reply=True) == [emit(request_, FAILED)]


def test_a_violation_is_acknowledged_as_a_failure() -> None:
    machine = negotiated()
    with pytest.raises(VhostViolation):
        machine.state(Request.SET_VRING_NUM, 2, 256, needs_reply=True)
    assert machine.backend.take_replies() == [emit(8, FAILED)]


# Hostile front-ends


def test_a_header_that_makes_no_sense() -> None:
    machine = Machine()
    assert refuse(machine, lambda: machine.backend.receive(bytes(12))) is Fault.HEADER


def test_a_message_that_is_too_long() -> None:
    machine = Machine()
    assert refuse(machine, lambda: machine.backend.receive(pack("<III", 1, 1, 1 << 30))) is Fault.MESSAGE_SIZE


@pytest.mark.parametrize(
    ("request_", "payload"),
    [
        (Request.GET_FEATURES, bytes(8)),
        (Request.SET_FEATURES, b""),
        (Request.SET_FEATURES, bytes(9)),
        (Request.SET_MEM_TABLE, b""),
        (Request.SET_MEM_TABLE, pack("<II", 1, 0)),
        (Request.SET_VRING_NUM, bytes(4)),
        (Request.SET_VRING_ADDR, bytes(39)),
        (Request.GET_VRING_BASE, b""),
        (Request.SET_VRING_KICK, b""),
        (Request.REM_MEM_REG, bytes(39)),
        (Request.SET_STATUS, bytes(4)),
    ],
)
def test_a_payload_of_the_wrong_size(request_: int, payload: bytes) -> None:
    machine = negotiated()
    assert refuse(machine, lambda: machine.request(request_, payload)) is Fault.PAYLOAD


@pytest.mark.parametrize(
    ("request_", "payload", "fds"),
    [
        pytest.param(Request.GET_FEATURES, b"", [1], id="surplus"),
        pytest.param(Request.SET_LOG_BASE, bytes(16), [], id="log without file"),
        pytest.param(Request.SET_LOG_BASE, bytes(16), [1, 2], id="log with two"),
        pytest.param(Request.SET_MEM_TABLE, emit_regions((LOW, HIGH)), [1], id="region without file"),
        pytest.param(Request.SET_MEM_TABLE, emit_regions((LOW,)), [1, 2], id="file without region"),
        pytest.param(Request.ADD_MEM_REG, emit_region(LOW), [], id="slot without file"),
        pytest.param(Request.REM_MEM_REG, emit_region(LOW), [1, 2], id="removal with two"),
        pytest.param(Request.SET_VRING_KICK, pack("<Q", 0), [], id="kick without"),
        pytest.param(Request.SET_VRING_KICK, pack("<Q", 0), [1, 2], id="kick with two"),
        pytest.param(Request.SET_VRING_CALL, pack("<Q", 0x100), [1], id="call with one that says it has none"),
        pytest.param(Request.SET_VRING_ERR, pack("<Q", 1), [], id="error without"),
        pytest.param(999, b"", list(range(9)), id="nine"),
    ],
)
def test_missing_and_surplus_descriptors(request_: int, payload: bytes, fds: Sequence[int]) -> None:
    machine = negotiated()
    assert refuse(machine, lambda: machine.request(request_, payload, fds)) is Fault.FD_COUNT
    closed = [order.fds for order in machine.take_orders() if isinstance(order, CloseFds)]
    assert closed == ([tuple(fds)] if fds else [])


def test_a_flood_of_descriptors_with_each_byte() -> None:
    machine = negotiated()
    machine.backend.receive(b"\1", range(8))
    assert refuse(machine, lambda: machine.backend.receive(b"\0", [8])) is Fault.FD_COUNT
    assert machine.backend.take_orders() == [CloseFds(tuple(range(9)))]


@pytest.mark.parametrize("acked", [0, PLAIN & ~features.VERSION_1, PLAIN | 1 << 34, PLAIN | 1 << 63])
def test_features_that_were_not_offered_or_without_version_1(acked: int) -> None:
    machine = negotiated()
    assert refuse(machine, lambda: machine.u64(Request.SET_FEATURES, acked)) is Fault.FEATURES


def test_what_is_offered_may_be_less() -> None:
    machine = Machine(offered=PLAIN & ~features.GUEST_CSUM)
    assert refuse(machine, lambda: machine.u64(Request.SET_FEATURES, PLAIN)) is Fault.FEATURES


def test_protocol_features_that_were_not_offered() -> None:
    machine = Machine()
    assert refuse(machine, lambda: machine.u64(Request.SET_PROTOCOL_FEATURES, 1)) is Fault.FEATURES


@pytest.mark.parametrize("mtu", [0, 67, 65536, 1 << 63])
def test_an_mtu_that_no_ethernet_has(mtu: int) -> None:
    machine = negotiated()
    assert refuse(machine, lambda: machine.u64(Request.NET_SET_MTU, mtu)) is Fault.MTU


def test_a_status_of_more_than_a_byte() -> None:
    machine = negotiated()
    assert refuse(machine, lambda: machine.u64(Request.SET_STATUS, 0x100)) is Fault.STATUS


@pytest.mark.parametrize(
    "request_",
    [Request.SET_VRING_NUM, Request.SET_VRING_BASE, Request.GET_VRING_BASE, Request.SET_VRING_ENABLE],
)
@pytest.mark.parametrize("index", [2, 0xFFFFFFFF])
def test_a_ring_that_does_not_exist(request_: int, index: int) -> None:
    machine = negotiated()
    assert refuse(machine, lambda: machine.state(request_, index, 1)) is Fault.RING_INDEX


def test_descriptors_and_addresses_of_a_ring_that_does_not_exist() -> None:
    machine = negotiated()
    assert refuse(machine, lambda: machine.u64(Request.SET_VRING_KICK, 2, [9])) is Fault.RING_INDEX
    assert machine.take_orders() == [CloseFds((9,))]
    machine = negotiated()
    assert refuse(machine, lambda: machine.request(9, pack("<IIQQQQ", 2, 0, 0, 0, 0, 0))) is Fault.RING_INDEX


@pytest.mark.parametrize("size", [0, 3, 255, MAX_RING_SIZE * 2, 0x80000000])
def test_a_ring_of_a_wrong_size(size: int) -> None:
    machine = negotiated()
    assert refuse(machine, lambda: machine.state(Request.SET_VRING_NUM, 0, size)) is Fault.RING_SIZE


@pytest.mark.parametrize(
    ("descriptors", "used", "available"),
    [
        pytest.param(LOW.user + LOW.size - 127, 0x3000, 0x2000, id="descriptors beyond"),
        pytest.param(LOW.user + LOW.size - 112, 0x3000, 0x2000, id="descriptors across the end"),
        pytest.param(0x1000, LOW.user + LOW.size - 68, 0x2000, id="used ring across the end"),
        pytest.param(0x1000, 0x3000, LOW.user + LOW.size - 20, id="available ring across the end"),
        pytest.param(LOW.user - 16, 0x3000, 0x2000, id="descriptors before"),
        pytest.param((1 << 64) - 16, 0x3000, 0x2000, id="descriptors wrap"),
        pytest.param(LOW.user + 0x1008, 0x3000, 0x2000, id="descriptors misaligned"),
        pytest.param(0x1000, LOW.user + 0x3002, 0x2000, id="used ring misaligned"),
        pytest.param(0x1000, 0x3000, LOW.user + 0x2001, id="available ring misaligned"),
    ],
)
def test_a_ring_outside_the_memory_or_misaligned(descriptors: int, used: int, available: int) -> None:
    machine = Machine().start()
    user = [at if at >= LOW.size else LOW.user + at for at in (descriptors, used, available)]
    payload = pack("<IIQQQQ", 0, 0, *user, 0)
    assert refuse(machine, lambda: machine.request(Request.SET_VRING_ADDR, payload)) is Fault.RING_ADDRESS


@pytest.mark.parametrize("missing", [Request.SET_VRING_NUM, Request.SET_VRING_ADDR, Request.SET_FEATURES])
def test_a_ring_that_starts_before_it_is_known(missing: int) -> None:
    machine = negotiated()
    machine.share_memory()
    machine.state(Request.SET_VRING_ENABLE, 0, 1)
    if missing != Request.SET_FEATURES:
        machine.u64(Request.SET_FEATURES, PLAIN)
    if missing != Request.SET_VRING_NUM:
        machine.state(Request.SET_VRING_NUM, 0, 8)
    if missing != Request.SET_VRING_ADDR:
        machine.addresses(machine.down)
    assert refuse(machine, lambda: machine.u64(Request.SET_VRING_KICK, 0, [50])) is Fault.RING_SETUP


def test_a_ring_without_memory() -> None:
    machine = Machine()
    machine.negotiate(PLAIN)
    assert refuse(machine, lambda: machine.set_up(machine.down)) is Fault.RING_ADDRESS


def test_a_ring_that_is_to_be_polled() -> None:
    machine = negotiated()
    assert refuse(machine, lambda: machine.u64(Request.SET_VRING_KICK, 0x100)) is Fault.RING_POLLED


def test_a_ring_that_notifies_nobody() -> None:
    machine = negotiated()
    machine.u64(Request.SET_VRING_CALL, 0x101)
    machine.u64(Request.SET_VRING_ERR, 0x100)
    assert machine.take_orders() == [SetCall(1, None), SetError(0, None)]


@pytest.mark.parametrize(
    "region",
    [
        pytest.param(Region(LOW.size - 1, 1, 0, 0), id="guest, last byte"),
        pytest.param(Region(0, 1, 0, 0), id="guest, first byte"),
        pytest.param(Region(HIGH.guest - 1, 2, 0, 0), id="guest, across the start"),
        pytest.param(Region(1 << 40, 1, LOW.user + 5, 0), id="user, inside"),
        pytest.param(Region(1 << 40, 0x1000, LOW.user - 0xFFF, 0), id="user, across the start"),
        pytest.param(Region(1 << 40, 1 << 46, LOW.user - 1, 0), id="user, around"),
        pytest.param(LOW, id="the same"),
    ],
)
def test_regions_that_overlap(region: Region) -> None:
    machine = Machine().start()
    table = emit_regions((LOW, HIGH, region))
    assert refuse(machine, lambda: machine.request(Request.SET_MEM_TABLE, table, [1, 2, 3])) is Fault.REGION_OVERLAP
    assert machine.take_orders()[-1] == CloseFds((1, 2, 3))
    machine = Machine().start()
    assert (
        refuse(machine, lambda: machine.request(Request.ADD_MEM_REG, emit_region(region), [1])) is Fault.REGION_OVERLAP
    )


def test_a_region_that_is_empty() -> None:
    machine = negotiated()
    payload = emit_region(Region(0, 0, 0, 0))
    assert refuse(machine, lambda: machine.request(Request.ADD_MEM_REG, payload, [1])) is Fault.REGION_RANGE


def test_a_region_that_is_removed_and_was_never_there() -> None:
    machine = Machine().start()
    payload = emit_region(LOW._replace(size=LOW.size - 1))
    assert refuse(machine, lambda: machine.request(Request.REM_MEM_REG, payload)) is Fault.REGION_UNKNOWN


def test_the_region_of_a_ring_is_replaced_in_steps() -> None:
    """QEMU does this with CONFIGURE_MEM_SLOTS if the map of the machine's memory changes while its driver runs."""
    machine = Machine().start()
    machine.up.send(bytes(20))
    assert machine.from_guest.take_frames(64) == [bytes(20)]
    machine.take_orders()
    machine.request(Request.REM_MEM_REG, emit_region(LOW))
    machine.request(Request.REM_MEM_REG, emit_region(HIGH))
    assert machine.take_orders() == [StopRing(0), StopRing(1)]
    assert machine.backend.from_guest is None
    machine.request(Request.ADD_MEM_REG, emit_region(HIGH), [40])
    assert machine.backend.from_guest is None
    machine.request(Request.ADD_MEM_REG, emit_region(LOW), [41])

    assert machine.take_orders() == [MapMemory((HIGH,), (40,)), MapMemory((LOW,), (41,)), StartRing(0), StartRing(1)]
    machine.up.send(bytes(21))
    assert machine.from_guest.take_frames(64) == [bytes(21)]


def test_a_ring_that_was_there_again_must_stay_there() -> None:
    machine = Machine().start()
    machine.request(Request.REM_MEM_REG, emit_region(LOW))
    machine.request(Request.ADD_MEM_REG, emit_region(LOW), [41])
    table = emit_regions((HIGH,))
    assert refuse(machine, lambda: machine.request(Request.SET_MEM_TABLE, table, [40])) is Fault.RING_ADDRESS


def test_new_addresses_of_a_ring_whose_region_was_removed_must_be_right() -> None:
    machine = Machine().start()
    machine.request(Request.REM_MEM_REG, emit_region(LOW))
    assert refuse(machine, lambda: machine.addresses(machine.up)) is Fault.RING_ADDRESS


def test_too_many_regions() -> None:
    machine = negotiated()
    table = emit_regions(tuple(Region(at << 20, 1, at << 20, 0) for at in range(9)))
    assert refuse(machine, lambda: machine.request(Request.SET_MEM_TABLE, table, range(8))) is Fault.REGION_COUNT


def test_too_many_slots() -> None:
    machine = negotiated()
    machine.view = lambda region: memoryview(bytearray(region.size))  # type: ignore[method-assign]  # views of nothing

    def add(at: int) -> None:
        machine.request(Request.ADD_MEM_REG, emit_region(Region(at << 20, 1, at << 20, 0)), [at])

    for at in range(MAX_SLOTS):
        add(at)
    assert refuse(machine, lambda: add(MAX_SLOTS)) is Fault.REGION_COUNT


@pytest.mark.parametrize(
    ("request_", "payload", "order"),
    [
        (Request.ADD_MEM_REG, emit_region(LOW), MapMemory((LOW,), (40,))),
        (Request.SET_LOG_BASE, pack("<QQ", 64, 4096), MapLog(40, 64, 4096)),
    ],
)
def test_a_file_that_cannot_be_mapped(request_: int, payload: bytes, order: object) -> None:
    machine = negotiated()
    message = emit(request_, payload, reply=False, needs_reply=True)
    machine.backend.receive(message[:12], [40])
    machine.backend.receive(message[12:])
    assert machine.backend.wanted() == 0
    assert machine.backend.take_orders() == [order]
    assert machine.backend.take_replies() == []

    assert refuse(machine, machine.backend.mapping_failed) is Fault.MAPPING
    assert machine.backend.take_replies() == [emit(request_, FAILED)]


# The driver's contract


def test_bytes_that_were_not_wanted() -> None:
    backend = VhostUserBackend(lambda: None)
    for data in (b"", bytes(13)):
        with pytest.raises(UsageError):
            backend.receive(data)


def test_views_that_were_not_asked_for() -> None:
    machine = negotiated()
    with pytest.raises(UsageError):
        machine.backend.mapped([])
    with pytest.raises(UsageError):
        machine.backend.mapping_failed()
    message = emit(Request.ADD_MEM_REG, emit_region(HIGH), reply=False)
    machine.backend.receive(message[:12], [40])
    machine.backend.receive(message[12:])
    with pytest.raises(UsageError):
        machine.backend.mapped([machine.view(LOW)])
    machine.backend.mapped([machine.view(HIGH)])
    assert machine.backend.wanted() == 12


def test_the_end_of_the_connection() -> None:
    machine = Machine().start()
    machine.take_orders()
    machine.backend.receive(b"\1", [90])
    machine.backend.close()

    assert machine.backend.take_orders() == [StopRing(0), StopRing(1), CloseFds((90,))]
    assert machine.backend.wanted() == 0
    with pytest.raises(UsageError):
        machine.backend.receive(b"\1")


def test_nothing_holds_the_memory_after_the_end() -> None:
    machine = Machine().start()
    machine.start_log()
    machine.backend.close()

    machine.log.append(0)
    for memory in machine.memory.values():
        memory.append(0)  # a bytearray with views refuses that
