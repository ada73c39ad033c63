"""The bytes held for the guest: which are cut, joined, copied and freed."""

from __future__ import annotations

from random import Random

import pytest

from sansnet_core.orders import Buffer
from sansnet_core.proto.tcp.send_buffer import SMALL, SendBuffer


def stream(count: int) -> bytes:
    return bytes(n % 251 for n in range(count))


def filled(*sizes: int) -> SendBuffer:
    """A buffer with chunks of these sizes, none of which was sent."""
    buffer = SendBuffer()
    data, start = stream(sum(sizes)), 0
    for size in sizes:
        buffer.append(data[start : start + size])
        start += size
    return buffer


def sent(buffer: SendBuffer, size: int) -> bytes:
    """Send all, in frames of at most `size`."""
    return b"".join(_payloads(buffer, size))


def _payloads(buffer: SendBuffer, size: int) -> list[bytes]:
    payloads = []
    while buffer.unsent:
        payload = bytes(buffer.next_payload(size))
        assert all(_objects(buffer)), "an empty chunk"
        assert len(payload) == size or not buffer.unsent
        payloads.append(payload)
    return payloads


@pytest.mark.parametrize("sizes", [(10_000,), (5000, 5000), (3000, 1, 1, 6998), (1,) * 50, (2048, 2049, 2047)])
@pytest.mark.parametrize("size", [1, 100, 1460, 2048, 2049, 20_000])
def test_frames_carry_the_stream(sizes: tuple[int, ...], size: int) -> None:
    buffer = filled(*sizes)
    assert (buffer.held, buffer.unsent) == (sum(sizes), sum(sizes))
    assert sent(buffer, size) == stream(sum(sizes))
    assert (buffer.held, buffer.unsent) == (sum(sizes), 0)
    assert b"".join(bytes(payload) for _, payload in buffer.segments(0, buffer.held, 500, [])) == stream(sum(sizes))
    assert buffer.release(sum(sizes)) == sum(sizes)
    assert buffer.held == 0


def test_large_chunks_are_cut_without_copying() -> None:
    data = stream(100_000)
    buffer = SendBuffer()
    buffer.append(data)
    payload = buffer.next_payload(60_000)
    assert isinstance(payload, memoryview)
    assert payload.obj is data
    assert buffer.next_payload(100_000) == data[60_000:]


def test_small_chunks_are_joined_and_large_ones_are_not() -> None:
    buffer = filled(SMALL // 2, SMALL // 2)
    assert len(_objects(buffer)) == 1
    assert len(buffer.next_payload(SMALL)) == SMALL
    assert len(_objects(filled(SMALL // 2, SMALL // 2 + 1))) == 2
    data = stream(SMALL)
    buffer = SendBuffer()
    buffer.append(data)
    buffer.append(b"x")
    assert buffer.next_payload(SMALL) is data


@pytest.mark.parametrize("acknowledged", [0, 1, 99, 100, 101, 250, 999, 1000])
def test_acknowledged_bytes_are_freed(acknowledged: int) -> None:
    buffer = filled(3000)
    for _ in range(10):
        buffer.next_payload(100)
    assert buffer.release(acknowledged) == acknowledged
    assert (buffer.held, buffer.unsent) == (3000 - acknowledged, 2000)
    again = list(buffer.segments(0, 1000 - acknowledged, 100, []))
    assert b"".join(bytes(payload) for _, payload in again) == stream(1000)[acknowledged:]
    assert sent(buffer, 100) == stream(3000)[1000:]


def test_syn_and_fin_are_no_bytes() -> None:
    buffer = SendBuffer()
    assert buffer.release(1) == 0
    buffer = filled(10)
    buffer.next_payload(10)
    assert buffer.release(11) == 10
    assert buffer.held == 0


def _objects(buffer: SendBuffer) -> list[Buffer]:
    """All chunks that are held."""
    return [*(buffer._sent or ()), *(buffer._unsent or ())]


def test_a_small_rest_keeps_no_large_object() -> None:
    buffer = SendBuffer()
    buffer.append(stream(100_000))
    buffer.next_payload(60_000)
    buffer.next_payload(40_000)
    buffer.release(10)
    assert isinstance(_objects(buffer)[0], memoryview)  # a large one is not copied for each acknowledgment
    buffer.release(60_000 - SMALL + 1 - 10)
    first, second = _objects(buffer)
    assert isinstance(first, bytes)
    assert len(first) == SMALL - 1
    assert isinstance(second, memoryview)
    buffer.release(SMALL - 1)
    assert isinstance(_objects(buffer)[0], memoryview)
    buffer.release(40_000 - 100)
    assert [type(chunk) for chunk in _objects(buffer)] == [bytes]


def test_what_is_left_of_a_large_read_is_copied() -> None:
    """At an eighth of the object, with a small amount over."""
    for rest, copied in ((10_000, True), (11_000, False)):
        buffer = SendBuffer()
        buffer.append(stream(100_000))
        buffer.next_payload(100_000 - rest)
        buffer.next_payload(rest - 3000)
        assert buffer.release(100_000 - rest) == 100_000 - rest
        assert [isinstance(chunk, bytes) for chunk in _objects(buffer)] == [copied, copied]
        assert bytes(buffer.next_payload(5000)) == stream(100_000)[-3000:]


def test_places_that_arrived_are_left_out() -> None:
    buffer = filled(3000)
    sent(buffer, 1000)
    found = list(buffer.segments(50, 2900, 400, [(0, 10), (100, 150), (150, 200), (900, 1100), (2800, 2850)]))
    assert [(place, len(payload)) for place, payload in found] == [
        (50, 50),
        (200, 400),
        (600, 300),
        (1100, 400),
        (1500, 400),
        (1900, 100),
        (2000, 400),
        (2400, 400),
        (2850, 50),
    ]
    for place, payload in found:
        assert payload == stream(3000)[place : place + len(payload)]


def test_a_search_continues_where_it_ended() -> None:
    """Through random calls with places that only grow, and data that is freed meanwhile."""
    for seed in range(50):
        random = Random(seed)
        data = stream(20_000)
        buffer = SendBuffer()
        buffer.append(data)
        while buffer.unsent:
            buffer.next_payload(random.choice((1, 300, 1460, 5000)))
        freed = place = 0
        while place < len(data):
            end = min(place + random.randint(0, 3000), len(data))
            size = random.choice((50, 1460))
            for position, payload in buffer.segments(place - freed, end - freed, size, []):
                assert position == place - freed
                assert payload == data[place : place + len(payload)]
                assert len(payload) <= size
                place += len(payload)
            assert place == end
            if random.random() < 0.3:
                count = random.randint(0, place - freed)
                assert buffer.release(count) == count
                freed += count
            if random.random() < 0.1:
                buffer.rewind()


def test_all_is_freed() -> None:
    buffer = filled(5000)
    buffer.next_payload(1000)
    buffer.free()
    assert _objects(buffer) == []


def test_a_hole_of_one_byte_is_a_hole() -> None:
    buffer = filled(300)
    sent(buffer, 100)
    found = list(buffer.segments(0, 300, 100, [(1, 99), (100, 150), (151, 300)]))
    assert [(place, len(payload)) for place, payload in found] == [(0, 1), (99, 1), (150, 1)]


def test_an_acknowledgment_of_all_data_and_fin_frees_the_data() -> None:
    buffer = SendBuffer()
    for byte in (b"a", b"b"):
        buffer.append(byte * 3000)
        buffer.next_payload(3000)
    assert buffer.release(6001) == 6000
    assert buffer.held == 0
    buffer.append(b"more")
    assert bytes(buffer.next_payload(10)) == b"more"


def test_a_last_chunk_that_has_grown_is_cut_again() -> None:
    buffer = SendBuffer()
    for text, start in ((b"abc", 0), (b"de", 3)):
        buffer.append(text)
        buffer.next_payload(10)
        found = buffer.segments(start, buffer.held, 10, [])
        assert [(at, bytes(payload)) for at, payload in found] == [(start, text)]


def test_data_may_come_after_several_chunks_were_sent_as_one() -> None:
    buffer = filled(3000, 3000)
    assert len(buffer.next_payload(6000)) == 6000
    buffer.append(b"more")
    assert bytes(buffer.next_payload(10)) == b"more"


def test_a_buffer_that_is_freed_is_empty() -> None:
    buffer = filled(100, 3000, 70)
    buffer.next_payload(50)

    assert buffer.free() == 3170
    assert (buffer.held, buffer.unsent) == (0, 0)
    assert list(buffer.segments(0, 50, 50, [])) == []
