"""The bytes that a connection holds for the guest: those in flight, and those not sent yet.

Theory of operation. There are two queues of chunks: `_sent` has one entry for each frame sent, from SND.UNA on, and
`_unsent` has the bytes that came from the host since. Chunks move from one queue to the other, cut by memoryview, and
are copied only to join small ones. Positions are relative to SND.UNA, the first byte held. SYN and FIN are not in the
buffer. The queues are lists, which take a tenth of a deque's memory, and exist only while they hold something.
"""

from __future__ import annotations

from collections.abc import Iterator, MutableSequence
from typing import Final

from sansnet_core.mypyc import mypyc_attr
from sansnet_core.orders import Buffer

__all__ = ["SendBuffer", "append_chunk"]

SMALL: Final = 2048
"""Chunks up to this size are joined by copying: a remote that sends single bytes must not cost an object for each."""


@mypyc_attr(allow_interpreted_subclasses=True)
class SendBuffer:
    """The send buffer of one connection.

    Attributes:
        held: bytes, sent or not.
        unsent: those of them that were never sent.
    """

    __slots__ = ("_index", "_position", "_sent", "_unsent", "held", "unsent")

    def __init__(self) -> None:
        self.held = 0
        self.unsent = 0
        self._sent: list[Buffer] | None = None
        self._unsent: list[Buffer] | None = None
        # Where `segments` continues, so that it need not search: index of a chunk in `_sent`, and its position
        self._index = self._position = 0

    def append(self, data: Buffer) -> None:
        """Add bytes from the host."""
        size = len(data)
        self.unsent += size
        self.held += size
        if self._unsent is None:
            self._unsent = [data]
        else:
            append_chunk(self._unsent, data)

    def next_payload(self, max_size: int) -> Buffer:
        """Move the next bytes, at most `max_size`, from unsent to sent. `unsent` must not be 0."""
        unsent = self._unsent
        assert unsent
        payload = unsent[0]
        size = len(payload)
        if size > max_size:
            view = memoryview(payload)
            payload, unsent[0] = view[:max_size], view[max_size:]
            size = max_size
        elif len(unsent) == 1:
            self._unsent = None
        else:
            parts = [payload]
            whole = 1
            while whole < len(unsent) and size < max_size:
                part = unsent[whole]
                take = max_size - size
                if len(part) > take:
                    view = memoryview(part)
                    part, unsent[whole] = view[:take], view[take:]
                else:
                    whole += 1
                parts.append(part)
                size += len(part)
            del unsent[:whole]
            if not unsent:
                self._unsent = None
            if len(parts) > 1:
                payload = b"".join(parts)
        if self._sent is None:
            self._sent = [payload]
        else:
            append_chunk(self._sent, payload)
        self.unsent -= size
        return payload

    def release(self, count: int) -> int:
        """SND.UNA moves on by `count`: free the acknowledged data.

        Returns:
            The bytes freed; fewer than `count` if that includes SYN or FIN.
        """
        sent = self._sent
        if sent is None:
            return 0
        piece = sent[0]
        size = len(piece)
        if size <= count and len(sent) == 1 and self._unsent is None:  # nothing is left, as after most answers
            self._sent = None
            self.held = self._index = self._position = 0
            return size
        released = popped = 0
        left = count
        while popped < len(sent) and left:
            piece = sent[popped]
            size = len(piece)
            if size > left:
                rest = memoryview(piece)[left:]
                # A small rest must not keep alive the large object that it is a part of
                sent[popped] = bytes(rest) if len(rest) < SMALL else rest
                size = left
            else:
                popped += 1
            released += size
            left -= size
        self.held -= released
        if popped == len(sent):
            self._sent = None
        elif popped:
            del sent[:popped]
        if isinstance(piece, memoryview) and isinstance(piece.obj, bytes) and len(piece.obj) > 8 * (self.held + SMALL):
            self._copy_out()  # nor may the small rest of a large read keep all of it alive
        self._index -= popped
        self._position -= count
        if self._index <= 0:
            self.rewind()
        return released

    def _copy_out(self) -> None:
        """Make every chunk an object of its own, so that the memory held is the memory counted."""
        if self._sent:
            self._sent = list(map(bytes, self._sent))
        if self._unsent:
            self._unsent = list(map(bytes, self._unsent))

    def rewind(self) -> None:
        """Let `segments` begin at SND.UNA again."""
        self._index = self._position = 0

    def segments(self, start: int, end: int, size: int, arrived: list[tuple[int, int]]) -> Iterator[tuple[int, Buffer]]:
        """Cut sent bytes into segments again.

        Args:
            start: position to begin at; not before that of an earlier call, unless `rewind` was called.
            end: position to stop at.
            size: most bytes of a segment.
            arrived: ranges of positions to leave out, in order. The list is used up.

        Yields:
            Position and payload.
        """
        sent = self._sent or ()
        index, chunk_start = self._index, self._position
        at = max(start, chunk_start)
        while index < len(sent):
            chunk = sent[index]
            chunk_end = chunk_start + len(chunk)
            while at < chunk_end:
                if at >= end:
                    return
                while arrived and arrived[0][1] <= at:
                    del arrived[0]
                length = min(size, chunk_end - at, end - at)
                if arrived:
                    ahead = arrived[0][0] - at
                    if ahead <= 0:
                        at = arrived[0][1]
                        continue
                    length = min(length, ahead)
                yield at, memoryview(chunk)[at - chunk_start : at - chunk_start + length]
                at += length
            index += 1
            chunk_start = chunk_end
            if index < len(sent):  # not beyond the last chunk, which may grow
                self._index, self._position = index, chunk_start

    def free(self) -> int:
        """Free all data; the bytes freed."""
        freed, self.held, self.unsent = self.held, 0, 0
        self._sent = self._unsent = None
        return freed


def append_chunk(chunks: MutableSequence[Buffer], data: Buffer) -> None:
    """Append data as a chunk, or to the last chunk if both are small."""
    if chunks and len(chunks[-1]) + len(data) <= SMALL:
        chunks[-1] = b"".join((chunks[-1], data))
    else:
        chunks.append(data)
