"""A whole network, to which operations are done, or which gets frames.

`sansnet_core.testing.operations` has the operations and the invariants: nothing raises, orders fit their sockets,
frames are well-formed, streams arrive as they were sent, and nothing is left at the end.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from fuzz.choices import Choices
from fuzz.registry import target
from sansnet_core.testing.operations import OPERATIONS, Setting, World, decode, encode, run
from sansnet_core.testing.operations.settings import LIMITS, LINKS
from sansnet_core.testing.packets import checksum
from tests.fuzz import corpus

__all__ = ["frames", "network"]

_LINKS: Final = tuple(LINKS)
_LIMITS: Final = ("small", "smallest", "default")


def _programs() -> Iterable[bytes]:
    """Each operation on each link, and all of them one after the other."""
    for link in LINKS:
        for number, kind in enumerate(OPERATIONS):
            yield encode(Setting(link=link, limits=list(LIMITS)[number % len(LIMITS)]), [OPERATIONS[0](), kind()])
        yield encode(Setting(link=link), [kind() for kind in OPERATIONS])


@target(max_size=500, seconds=10.0, seeds=_programs)
def network(data: bytes) -> None:
    """Operations of a guest, the host, the program and time."""
    setting, operations = decode(data)
    try:
        run(setting, operations)
    except Exception as error:
        error.add_note(f"run({setting!r}, {operations!r})")
        raise


def _with_checksum(frame: bytes) -> bytes:
    """The frame with a right IPv4 header checksum."""
    size = (frame[14] & 15) * 4 if len(frame) > 14 else 0
    if frame[12:14] != b"\x08\x00" or size < 20 or len(frame) < 14 + size:
        return frame
    value = checksum(frame[14:24] + bytes(2) + frame[26 : 14 + size])
    return frame[:24] + value.to_bytes(2, "big") + frame[26:]


def _frames() -> Iterable[bytes]:
    known = [len(frame).to_bytes(2, "big") + frame for frame in corpus.frames().values()]
    for link in range(len(LINKS)):
        if LINKS[_LINKS[link]].vnet_header:
            bare = [(int.from_bytes(each[:2], "big") + 12).to_bytes(2, "big") + bytes(12) + each[2:] for each in known]
        else:
            bare = known
        for start in range(0, len(bare), 7):
            yield bytes([link, 0]) + b"".join(bare[start : start + 7])
    for each in known:
        yield bytes(2) + each + each


@target(max_size=2000, seconds=10.0, seeds=_frames, words=(b"\x08\x00\x45\0", b"\x86\xdd\x60", b"\x08\x06", b"\0\x2a"))
def frames(data: bytes) -> None:
    """Frames with any content, each behind its length in two bytes."""
    choices = Choices(data)
    world = World(Setting(link=choices.pick(_LINKS), limits=choices.pick(_LIMITS)).config())
    head = 12 if world.config.link.vnet_header else 0
    while choices.left:
        frame = choices.take(choices.number(65536))
        world.receive(frame[:head] + _with_checksum(frame[head:]))
        world.settle()
    world.finish()
