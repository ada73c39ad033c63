"""Sequences of operations as bytes, for a fuzzer that changes bytes and is guided by coverage."""

from __future__ import annotations

from collections.abc import Iterable

from sansnet_core.testing.operations.domains import Operation, decode_one, encode_one
from sansnet_core.testing.operations.settings import Setting
from sansnet_core.testing.operations.steps import OPERATIONS

__all__ = ["MAX_OPERATIONS", "decode", "encode"]

MAX_OPERATIONS = 500
"""Most operations of one program."""


def decode(program: bytes) -> tuple[Setting, list[Operation]]:
    """Read a program: a setting, and operations until the bytes are used up. All bytes are a program.

    Returns:
        The setting and the operations: the two arguments of `run`.
    """
    setting, rest = decode_one(Setting, memoryview(program))
    operations: list[Operation] = []
    while rest and len(operations) < MAX_OPERATIONS:
        kind = OPERATIONS[rest[0] % len(OPERATIONS)]
        one, rest = decode_one(kind, rest[1:])
        operations.append(one)
    return setting, operations


def encode(setting: Setting, operations: Iterable[Operation]) -> bytes:
    """The program that `decode` reads; for a corpus of seeds."""
    parts = [bytes([OPERATIONS.index(type(one))]) + encode_one(one) for one in operations]
    return encode_one(setting) + b"".join(parts)
