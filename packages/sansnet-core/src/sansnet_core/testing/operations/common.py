"""Steps that several operations share."""

from __future__ import annotations

from typing import TypeVar

from sansnet_core.addresses import Endpoint
from sansnet_core.testing.operations.conversations import Conversation
from sansnet_core.testing.operations.world import World
from sansnet_core.testing.packets import ACK, IPV4, IPV6, Ip, Segment, ethernet, fragments

__all__ = ["endpoint", "pick", "segment", "send"]

_T = TypeVar("_T")


def pick(among: list[_T], number: int) -> _T | None:
    """The one that a number picks; None if there is none."""
    return among[number % len(among)] if among else None


def endpoint(world: World, size: int, port: int) -> Endpoint:
    """The guest's endpoint, whose address has a size of 4 or 16 bytes."""
    return Endpoint(world.guest.address(size), port)


def send(world: World, packet: Ip, fragment: int = 0) -> None:
    """The guest sends a packet, in fragments of a size if that is not 0."""
    parts = fragments(packet, fragment) if fragment else [packet]
    head = bytes(12) if world.config.link.vnet_header else b""
    kind = IPV4 if packet.version == 4 else IPV6
    world.receive(*(head + ethernet(world.config.mac, world.guest.mac, kind, part.emit()) for part in parts[:100]))


def segment(known: Conversation, flags: int, window: int, payload: bytes = b"") -> Segment:
    """A segment at the right place."""
    number = known.expected if flags & ACK else 0
    return Segment(*known.guest, *known.remote, known.sequence, number, flags, window, payload)
