"""The messages and descriptors of a virtual machine, against the card."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import find, given, settings
from hypothesis import strategies as st

from sansnet_core.testing.strategies import VhostMessage, vhost_messages, vring_descriptors
from sansnet_core.vhost import MapLog, MapMemory, VhostUserBackend, VhostViolation
from sansnet_core.vhost.features import OFFERED
from tests.core.vhost.machine import Machine

_LARGEST = 1 << 20
"""Bytes of memory that a test gives."""


def deliver(backend: VhostUserBackend, message: VhostMessage) -> None:
    """Hand a message to the card, and map what it wants mapped."""
    data, fds = message.data, range(100, 100 + message.fds)
    while data and backend.wanted():
        piece = data[: backend.wanted()]
        backend.receive(piece, fds)
        data, fds = data[len(piece) :], range(0)
        for order in backend.take_orders():
            if isinstance(order, MapMemory | MapLog):
                sizes = [region.size for region in order.regions] if isinstance(order, MapMemory) else [order.size]
                if max(sizes, default=0) <= _LARGEST:
                    backend.mapped([memoryview(bytearray(size)) for size in sizes])
                else:
                    backend.mapping_failed()
        backend.take_replies()


@pytest.mark.slow
@settings(max_examples=200)
@given(st.lists(vhost_messages(), max_size=12))
def test_messages_raise_violations_alone(messages: list[VhostMessage]) -> None:
    backend = VhostUserBackend(lambda: None, OFFERED)
    with suppress(VhostViolation):
        for message in messages:
            deliver(backend, message)
    backend.close()


@pytest.mark.parametrize("request_", [1, 5, 9, 40])
def test_known_requests_are_among_the_messages(request_: int) -> None:
    number = request_.to_bytes(4, "little")
    assert len(find(vhost_messages(), lambda each: each.data[:4] == number).data) >= 12


@pytest.mark.slow
@settings(max_examples=200)
@given(vring_descriptors(8, 0x100000), st.lists(st.integers(0, 8), max_size=8))
def test_descriptors_raise_violations_alone(table: bytes, heads: list[int]) -> None:
    machine = Machine(size=8).start()
    machine.write(machine.up.descriptors, table)
    for head in heads:
        machine.up.push(head)
    with suppress(VhostViolation):
        machine.from_guest.take_frames(64)
    assert machine.guarded()
