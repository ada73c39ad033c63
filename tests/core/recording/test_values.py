"""Values are read as they were written."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import fields
from enum import Enum
from ipaddress import ip_address
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sansnet_core import (
    Endpoint,
    Notice,
    Order,
    Prefix,
    Reason,
    ResumeStream,
    Rule,
    SendStream,
    SocketId,
    config,
    policy,
)
from sansnet_core.addresses import packed
from sansnet_core.policy import Action, Group
from sansnet_core.recording.values import HEAD, RECORDS, VALUES, Digest, Reader, Unknown, put, put_frames, put_orders
from sansnet_core.records import Record
from sansnet_core.testing import make_config

plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.binary() | st.text()
values = st.recursive(plain, lambda inner: st.lists(inner, max_size=4).map(tuple), max_leaves=20)


def there_and_back(value: Any) -> Any:
    out = bytearray()
    put(out, value)
    reader = Reader(bytes(out))
    found = reader.value()
    assert reader.position == len(out)
    return found


@given(values)
def test_plain_values(value: Any) -> None:
    if isinstance(value, int) and value.bit_length() > 400:
        return
    found = there_and_back(value)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    "value",
    [
        make_config(),
        Endpoint("192.0.2.1", 80),
        Endpoint("fe80::1%2", 65535),
        Prefix("2001:db8::/32"),
        Reason.FAILED,
        policy.Allow(Endpoint("10.0.0.1", 1)),
        policy.Refuse(111),
        policy.Drop(),
        policy.Serve(),
        Rule(action=Action.ALLOW, names=("example.org",), ports=((1, 2), (80, 80)), groups=(Group.PUBLIC,)),
        config.ResolverConfig(servers=(Endpoint("192.0.2.53", 53),)),
        (1 << 60, -(1 << 60), -1, 223, 224, "\ud800"),
    ],
    ids=str,
)
def test_values_of_the_core(value: Any) -> None:
    assert there_and_back(value) == value


@pytest.mark.parametrize("kind", [*get_args(Order), *get_args(Notice)], ids=lambda kind: kind.__name__)
def test_orders_and_notices_can_be_written(kind: Any) -> None:
    """Each has a number. Their payload is written as a digest."""
    assert kind in VALUES
    made = kind(*[_example(str(field.type)) for field in fields(kind)])
    found = there_and_back(made)
    for field in fields(kind):
        before, after = getattr(made, field.name), getattr(found, field.name)
        assert after == (Digest(6, b"\1\2\3\4\5\6", 0) if field.name == "data" else before)


def _example(annotation: str) -> Any:
    for text, value in (("Buffer", b"\1\2\3\4\5\6"), ("Endpoint", Endpoint("192.0.2.1", 5)), ("bool", True)):
        if text in annotation:
            return value
    for text, other in (("bytes", packed("192.0.2.1")), ("str", "text"), ("float", 1.5), ("Reason", Reason.REFUSED)):
        if text in annotation:
            return other
    return 7


def test_all_records_of_a_configuration_can_be_written() -> None:
    kinds = [value for module in (config, policy) for value in vars(module).values() if isinstance(value, type)]
    needed = {kind.__name__ for kind in kinds if issubclass(kind, Record) and kind is not Record}
    needed -= {"Case", "Policy", "PolicyFile"}  # files are read before a network is made
    assert needed == set(RECORDS)


@given(st.binary(max_size=300))
def test_the_digest_of_a_frame_tells_any_change(frame: bytes) -> None:
    def written(given: Any) -> bytes:
        out = bytearray()
        put_frames(out, [given])
        return bytes(out)

    assert written(frame) == written(memoryview(frame))
    (digest,) = Reader(written(frame)).value()
    assert digest.size == len(frame)
    assert digest.head == frame[:HEAD]
    for at in range(0, len(frame), 37):
        changed = bytearray(frame)
        changed[at] ^= 1
        assert written(bytes(changed)) != written(frame)
    (parts,) = Reader(written((frame[:10], frame[10:]))).value()
    assert parts.size == len(frame)


def test_an_order_with_much_data_is_short() -> None:
    out = bytearray()
    put_orders(out, [SendStream(SocketId(5), bytes(100_000))])
    assert len(out) < 120


def test_other_values_become_text() -> None:
    assert isinstance(there_and_back(object()), Unknown)
    assert isinstance(there_and_back(1 << 10_000), Unknown)
    assert isinstance(there_and_back(bytearray(3)), Unknown)
    assert there_and_back({4}) == (4,)


@given(st.binary(max_size=60))
def test_any_bytes_give_a_value_or_an_error(data: bytes) -> None:
    with suppress(ValueError):
        Reader(data).value()


class _Number(int): ...


class _Float(float): ...


class _Bytes(bytes): ...


class _Text(str): ...


@pytest.mark.parametrize(
    ("value", "read"),
    [
        (_Number(7), 7),
        (_Float(1.5), 1.5),
        (_Bytes(b"data"), b"data"),
        (_Text("text"), "text"),
        (memoryview(b"data"), b"data"),
        (ip_address("192.0.2.1"), "192.0.2.1"),
        (Endpoint._make((b"short", 80)), (b"short", 80)),
        (Endpoint._make((bytes(4), 65536)), (bytes(4), 65536)),
    ],
    ids=repr,
)
def test_values_of_other_types_are_read_as_those_with_the_same_meaning(value: Any, read: Any) -> None:
    found = there_and_back(value)
    assert found == read
    assert type(found) is type(read)


class _Unknown(Record):
    number: int = 1


class _Colour(Enum):
    RED = 1


@pytest.mark.parametrize("value", [_Unknown(), _Colour.RED])
def test_records_and_enumerations_of_others_become_text(value: Any) -> None:
    assert isinstance(there_and_back(value), Unknown)


@pytest.mark.parametrize(
    ("value", "change", "problem"),
    [
        (Reason.FAILED, (b"FAILED", b"FALLEN"), "Reason.FALLEN does not exist"),
        (Reason.FAILED, (b"Reason", b"Season"), "Season.FAILED does not exist"),
        (Rule(action=Action.DROP), (b"Rule", b"Role"), "'Role' is no record"),
        (ResumeStream(SocketId(1)), (bytes([VALUES.index(ResumeStream)]), b"\xfa"), "value number 250 does not exist"),
        (1 << 300, (b"\x80" * 40, b"\xff" * 400), "a number is too long"),
    ],
    ids=str,
)
def test_what_does_not_exist_is_an_error(value: Any, change: tuple[bytes, bytes], problem: str) -> None:
    out = bytearray()
    put(out, value)
    assert change[0] in out
    with pytest.raises(ValueError, match=problem):
        Reader(bytes(out).replace(*change)).value()
