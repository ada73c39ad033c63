"""Goes on after an exception that is a mistake of this program.

Theory of operation. The exception passed through methods of the flow that it belongs to, so the flow is an argument of
one of the functions in the traceback. It is given up, since its state may be half changed. If there is none, the
exception belongs to a packet, which is lost. Nothing else was changed but sums of all flows, and these are computed
again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from types import CodeType, FrameType
from typing import Final, TypeAlias

from sansnet_core.orders import SocketId
from sansnet_core.proto.echo import Echo
from sansnet_core.proto.tcp.handler import Tcp
from sansnet_core.proto.udp.handler import Udp
from sansnet_core.protocols import Protocols

__all__ = ["recover"]

_Handler: TypeAlias = Tcp | Udp | Echo
_MAX_DEPTH: Final = 200
"""Functions of a traceback that are looked at, from the innermost on."""


def recover(protocols: Protocols, error: BaseException, socket: SocketId | None) -> list[str]:
    """Give up the flows that an exception belongs to.

    Args:
        protocols: of the network.
        error: the exception, with its traceback.
        socket: what the fact that raised it is about; None if it is about none. If the fact is lost before it comes to
            its flow, the flow would miss it.

    Returns:
        Those flows as text.
    """
    frames = _frames(error)[-_MAX_DEPTH:]
    handlers: tuple[_Handler, ...] = (protocols.tcp, protocols.udp, protocols.echo)
    given_up: list[str] = []
    for owner in _unique(value for frame in frames for value in _arguments(frame)):
        given_up += _abandon(handlers, owner)
    for frame in [] if given_up else reversed(frames):
        for owner in _unique(frame.f_locals.values()):
            given_up += _abandon(handlers, owner)
        if given_up:
            break
    if not given_up and socket is not None:
        for handler in handlers:
            given_up += _abandon((handler,), handler.named(socket))
    for handler in handlers:
        handler.recount()
    return given_up


def _abandon(handlers: Iterable[_Handler], owner: object) -> list[str]:
    """Give up what belongs to a flow. An object whose `__init__` has raised the exception may lack attributes."""
    given_up = []
    for handler in handlers:
        with suppress(AttributeError):
            text = handler.abandon(owner)
            given_up += [text] if text is not None else []
    return given_up


def _frames(error: BaseException) -> list[FrameType]:
    """The functions that an exception passed through, the innermost last."""
    frames = []
    place = error.__traceback__
    while place is not None:
        frames.append(place.tb_frame)
        place = place.tb_next
    return frames


def _arguments(frame: FrameType) -> Iterator[object]:
    code: CodeType = frame.f_code
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    local = frame.f_locals
    return (local[name] for name in names if name in local)


def _unique(values: Iterable[object]) -> Iterator[object]:
    """Each object once."""
    return iter({id(value): value for value in values}.values())
