"""Recordings, which a stranger may have made.

Whatever a file has, reading and replaying it ends with the documented error or without one, and runs nothing.
"""

from __future__ import annotations

from binascii import crc32
from collections import Counter, OrderedDict, deque
from collections.abc import Iterable
from functools import cache
from struct import Struct
from typing import Final

from fuzz.choices import Choices
from fuzz.registry import target
from sansnet_core.config import Limits
from sansnet_core.recording import RecordedNetwork, RecordingError, Replay, conversation
from sansnet_core.recording.values import Reader, put
from sansnet_core.records import replace
from sansnet_core.snapshot import load, save
from sansnet_core.testing import SECRET, make_config
from tests.fuzz import corpus

__all__ = ["recorded_values", "recording", "saved_state"]

_HEAD: Final = b"sansnet recording 1\n"
_BLOCK: Final = Struct("<II")
_DIGEST: Final = 13
"""Tag of the digest of a payload."""
_UNKNOWN: Final = 14
"""Tag of a value of no known type."""


@cache
def _recordings() -> tuple[bytes, ...]:
    """The blocks of short sessions, each block behind its length in two bytes."""
    found = []
    frames = list(corpus.frames().values())
    for start in range(0, len(frames), 5):
        pieces: list[bytes] = []
        config = replace(make_config(), limits=Limits(tcp_flows=3, udp_flows=3))
        network = RecordedNetwork(config, now=1.0, secret=SECRET)
        network.record(pieces.append)
        network.receive_frames(tuple(frames[start : start + 5]), 2.0)
        network.take_orders()
        network.take_frames()
        network.flush_recording()
        network.handle_deadline(40.0)
        network.take_notices()
        network.record(None)
        whole, blocks, at = b"".join(pieces), b"", len(_HEAD)
        while at < len(whole):
            size, _ = _BLOCK.unpack_from(whole, at)
            blocks += size.to_bytes(2, "big") + whole[at + _BLOCK.size : at + _BLOCK.size + size]
            at += _BLOCK.size + size
        found.append(blocks)
    return tuple(found)


@target(max_size=3000, seconds=5.0, seeds=_recordings)
def recording(data: bytes) -> None:
    """Blocks of a recording, with right checksums, run again."""
    choices = Choices(data)
    made = _HEAD
    while choices.left:
        block = choices.take(choices.number(65536))
        made += _BLOCK.pack(len(block), crc32(block)) + block
    try:
        replay = Replay(made, stop_at_difference=False)
        for step in replay:
            assert str(step)
            assert all("\n" not in line for line in conversation(step))
    except RecordingError as error:
        if not 0 <= error.position <= len(made):
            raise AssertionError("a position that the file does not have") from None


def _values() -> Iterable[bytes]:
    for value in (
        None,
        1 << 70,
        -1,
        1.5,
        b"bytes",
        "text",
        (1, (2, "three")),
        make_config(),
        *make_config().dns_servers,
    ):
        out = bytearray()
        put(out, value)
        yield bytes(out)


@target(seeds=_values)
def recorded_values(data: bytes) -> None:
    """One value of a recording."""
    reader = Reader(data)
    try:
        value = reader.value(1)  # not as deep as possible, since a part may be written as a tuple
    except ValueError:
        return
    out = bytearray()
    put(out, value)
    again = bytearray()
    put(again, Reader(bytes(out)).value())
    # What is written as text remains text, and of a payload nothing is written but its digest
    assert again == out or not {_UNKNOWN, _DIGEST}.isdisjoint(out)


def _states() -> Iterable[bytes]:
    owner = object()
    for state in (
        {"a": 1, "b": [1.5, "text", b"bytes", None, True]},
        {"a": deque([1, 2], 5), "b": OrderedDict(x=1), "c": Counter("ab"), "d": {1, 2}, "e": frozenset((3,))},
        {"a": memoryview(b"bytes"), "b": bytearray(b"bytes"), "c": (owner, "LISTEN"), "d": [1].append},
        {"a": make_config().limits},
    ):
        yield save(owner, state)


_OPCODES: Final = (
    b"\x8c\x06append",
    b"\x8c\x08builtins\x8c\x07getattr\x93",
    b"R",
    b"b",
    b"\x85",
    b"\x86",
    b"Q",
    b"\x81",
)


@target(max_size=500, seeds=_states, words=_OPCODES)
def saved_state(data: bytes) -> None:
    """The state of a network in a recording."""
    try:
        state = load(data, object())
    except ValueError:
        return
    assert isinstance(state, dict)
