"""Differences of a replay as text, for people."""

from __future__ import annotations

from binascii import crc32
from itertools import zip_longest
from typing import Any, Final

from sansnet_core.recording.calls import METHODS, OUTPUTS, Raised
from sansnet_core.recording.format import Counted
from sansnet_core.recording.texts import order_text, value_text
from sansnet_core.recording.values import HEAD, VALUES, Digest
from sansnet_core.summary import summary
from sansnet_core.wire import virtio_net

__all__ = ["difference_texts", "outcome_text"]

_MOST: Final = 4
"""Outputs that are shown."""
_VALUES: Final = frozenset(VALUES)


def outcome_text(number: int, outcome: tuple[Any, ...]) -> str:
    """The exception and the result of a call. Of the exception only the first line, without the lines of code."""
    shown = [_first_line(each) if isinstance(each, Raised) else _result(number, each) for each in outcome]
    return " and ".join(shown) or "nothing"


def _first_line(raised: Raised) -> str:
    return f"{raised.error}: {raised.text}".splitlines()[0]


def _result(number: int, result: Any) -> str:
    if isinstance(result, Counted):
        return f"{result.number} {_kind(number)}{'s' * (result.number != 1)}"
    if number not in OUTPUTS or not isinstance(result, list | tuple):
        return value_text(result)
    shown = ", ".join(map(_output, result[:_MOST]))
    more = f", ... {len(result) - _MOST} more" if len(result) > _MOST else ""
    return f"{len(result)} {_kind(number)}{'s' * (len(result) != 1)}{': ' * bool(result)}{shown}{more}"


def _kind(number: int) -> str:
    """The name of one output of a call."""
    return METHODS[number].removeprefix("take_").removesuffix("s")


def _output(output: Any) -> str:
    digest = _digest(output)
    if digest is not None:
        return f"<{digest.size} bytes: {digest.head.hex()}, sum {digest.sum:08x}>"
    return order_text(output) if type(output) in _VALUES else value_text(output)


def _digest(output: Any) -> Digest | None:
    """A frame as recordings have it; None for another output."""
    if isinstance(output, Digest):
        return output
    if isinstance(output, tuple) and type(output) not in _VALUES:
        output = b"".join(output)
    if not isinstance(output, bytes | memoryview):
        return None
    return Digest(len(output), bytes(output[:HEAD]), crc32(output[HEAD:]) if len(output) > HEAD else 0)


def difference_texts(
    number: int, recorded: tuple[Any, ...], replayed: tuple[Any, ...], *, vnet: bool
) -> tuple[str, str, str]:
    """How two outcomes of a call differ: where, and what is there in the recording and in the replay.

    Only the first output that differs is described. If the outcomes are no lists of outputs, the place is empty.
    """
    whole = "", outcome_text(number, recorded), outcome_text(number, replayed)
    if number not in OUTPUTS or len(recorded) != 1 or len(replayed) != 1:
        return whole
    before, after = recorded[0], replayed[0]
    if not isinstance(before, list | tuple) or not isinstance(after, list | tuple) or isinstance(before, Counted):
        return whole
    for place, (old, new) in enumerate(zip_longest(before, after)):
        if (old is None) != (new is None) or _output(old) != _output(new):
            where = f"{_kind(number)} {place + 1} of {max(len(before), len(after))} differs{_at_byte(old, new)}"
            return where, _shown_output(old, vnet), _shown_output(new, vnet)
    return whole


def _at_byte(old: Any, new: Any) -> str:
    """The first byte at which two frames differ, as far as a recording has it."""
    one, other = _digest(old), _digest(new)
    if one is None or other is None:
        return ""
    pairs = zip(one.head, other.head, strict=False)
    same = next((at for at, (left, right) in enumerate(pairs) if left != right), min(len(one.head), len(other.head)))
    if same < HEAD or HEAD in (one.size, other.size):
        return f" at byte {same}"
    return f" after byte {HEAD}"


def _shown_output(output: Any, vnet: bool) -> str:
    digest = _digest(output)
    if digest is None:
        return "none" if output is None else _output(output)
    start = virtio_net.HEADER_SIZE if vnet else 0
    frame = (digest.head + bytes(max(min(digest.size, 1 << 17) - len(digest.head), 0)))[start:]
    return f"`{summary(frame)}`, {digest.size} bytes"
