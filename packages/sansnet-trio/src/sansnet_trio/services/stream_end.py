"""The program's end of one TCP connection of the guest: the state that the driver and the program's tasks share.

Theory of operation. To the driver it is a stream as those of the host's sockets: it takes the core's data and reports
what was taken. Data count as taken when a task of the program receives them, so that the guest's window closes
while the program does not read. A task that waits gets its data at once, while the driver still carries out orders; so
the acknowledgment leaves in the same batch. In the other direction a task hands its data to the core as far as the
core's `receive_budget` goes. A little more is kept here, as in the send buffer of a socket, so that many small pieces
become few segments. Then the task waits until the core orders to resume.

Data are kept as bytes of their own, since the core's may be a view of a frame that is much larger.

After `stream_failed` was reported, or `CloseSocket` was ordered, the core has forgotten the connection (`over`).
"""

from __future__ import annotations

import errno
import os
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

import trio
from trio.lowlevel import Abort, Task

from sansnet_trio.services.carrier import Carrier

if TYPE_CHECKING:
    from sansnet_core import Buffer, Endpoint, KeepAlive, SocketId

__all__ = ["Backlog", "EndOwner", "StreamEnd"]

_JOIN_BELOW: Final = 2048
"""Bytes of chunks that are joined: a single byte in a chunk of its own takes 40 bytes of memory."""
_REPORT_ABOVE: Final = 64 * 1024
"""Bytes after which they are reported as taken, even if there are more to receive."""
_SEND_BUFFER: Final = 16 * 1024
"""Bytes that are kept for the core while it takes none."""
_MAX_PIECE: Final = 256 * 1024
"""Most bytes that are handed to the core at a time, so that frames leave in between."""


class Backlog(Protocol):
    """The connections that a task of the program has not accepted yet."""

    def established(self, end: StreamEnd) -> None:
        """The handshake with the guest is complete."""

    def vanished(self, end: StreamEnd) -> None:
        """The core has closed the connection."""


class EndOwner(Protocol):
    """All ends of one driver."""

    def forget(self, socket: SocketId) -> None:
        """The core has forgotten the connection."""

    def watch(self, end: StreamEnd) -> None:
        """The program has closed the stream, and the guest must still end its part."""


class StreamEnd:
    """The program's end of one connection.

    Args:
        carrier: the driver.
        socket: the core's name for the connection.
        guest: the guest's endpoint.
        destination: the program's endpoint, as the guest sees it.
        owner: all ends of the driver.

    Attributes:
        over: the core has forgotten the connection.
        established: the handshake with the guest is complete.
        released: the program has closed the stream.
        backlog: the backlog that it is in; None once a task has accepted it.
        failure: the errno that broke the connection; 0 if it is not broken.
    """

    __slots__ = (
        "_chunks",
        "_eof_sent",
        "_guest_ended",
        "_handed",
        "_limit",
        "_owner",
        "_parked",
        "_raw",
        "_reader",
        "_unreported",
        "_unsent",
        "_writer",
        "backlog",
        "carrier",
        "destination",
        "established",
        "failure",
        "guest",
        "over",
        "released",
        "socket",
    )

    def __init__(
        self,
        carrier: Carrier,
        socket: SocketId,
        guest: Endpoint,
        destination: Endpoint,
        owner: EndOwner,
    ) -> None:
        self.carrier = carrier
        self.socket = socket
        self.guest = guest
        self.destination = destination
        self._owner = owner
        self.backlog: Backlog | None = None
        self.established = self.over = self.released = False
        self.failure = 0
        self._raw: list[Buffer] = []  # data of the orders of this batch
        self._chunks: list[bytes | memoryview] = []
        self._unreported = 0
        self._unsent = bytearray()  # data for the core, while it takes none
        self._guest_ended = self._eof_sent = self._parked = False
        self._reader: Task | None = None
        self._limit: int | None = None
        self._handed: bytes | None = None
        self._writer: Task | None = None

    # orders of the core

    def queue(self, data: Buffer) -> bool:
        """Keep data for `flush`; whether none waited before."""
        self._raw.append(data)
        return len(self._raw) == 1

    def flush(self, now: float) -> None:
        """Hand the data of this batch to the task that waits, or keep them."""
        if not self._raw or self.over:
            return
        data = b"".join(self._raw)
        self._raw.clear()
        if self.released:
            self._fail_now(errno.ECONNRESET, now)  # as the kernel does: nothing will read these data
            return
        self._establish()
        if self._reader is None:
            self._keep(data)
            return
        if self._limit is not None and len(data) > self._limit:
            self._chunks.append(memoryview(data)[self._limit :])
            data = data[: self._limit]
        self._handed = data
        self._wake_reader()
        self.carrier.context.network.stream_sent(self.socket, len(data), now)

    def _keep(self, data: bytes) -> None:
        chunks = self._chunks
        if chunks and len(chunks[-1]) + len(data) <= _JOIN_BELOW:
            chunks[-1] = b"".join((chunks[-1], data))
        else:
            chunks.append(data)

    def shutdown(self, now: float) -> None:
        """The guest has sent FIN."""
        self.flush(now)
        self._guest_ended = True
        self._establish()
        self._wake_reader()

    def resume(self, now: float) -> None:
        """The core takes data again; the first time, this also says that the handshake is complete."""
        self._establish()
        self.carrier.tell(self._drain)
        self._wake_writer()

    def keep_alive(self, order: KeepAlive) -> None:
        """Do nothing: the program is alive."""

    def fail_for_room(self, now: float) -> None:
        """Do nothing: this end has no descriptor."""

    def close(self, code: int = 0) -> bool:
        """The core has ended the connection: in the ordinary way, or for a reason. No data are left for the program."""
        if code:
            self._break(code)
        else:
            self._leave()
        return False

    def abort(self, code: int = 0) -> None:
        """The core has ended the connection early. Data that have arrived can still be received, as from a socket."""
        self._break(code or errno.ECONNRESET)

    def leave(self) -> None:
        """The driver ends."""
        self._break(errno.ENETDOWN)

    def _break(self, code: int) -> None:
        if not self.over:
            if self._raw:
                self._keep(b"".join(self._raw))
            self.failure = code
            self._leave()

    def _leave(self) -> None:
        self.over = True
        self._raw.clear()
        self._unsent.clear()
        if self.backlog is not None:
            self.backlog.vanished(self)
        self._wake_reader()
        self._wake_writer()
        self._owner.forget(self.socket)

    def _establish(self) -> None:
        if not self.established:
            self.established = True
            if self.backlog is not None:
                self.backlog.established(self)

    # facts for the core

    def _fail_now(self, code: int, now: float) -> None:
        """Reset the connection, while orders are carried out."""
        self._leave()
        self.carrier.context.network.stream_failed(self.socket, code, None, now)

    def fail(self, code: int) -> None:
        """Reset the connection, or refuse it; does nothing if it is over."""
        if not self.over:
            self.carrier.tell(partial(self._fail_now, code))

    def admit(self, now: float) -> None:
        """Let the guest's handshake begin."""
        self.carrier.context.network.stream_connected(self.socket, now)

    # the program

    async def wait_established(self) -> None:
        """Wait for the end of the handshake.

        Raises:
            OSError: the guest did not accept.
        """
        while not self.established and not self.over:
            await self._wait_to_write()
        if not self.established:
            raise _error(self.failure)

    async def receive(self, limit: int | None) -> bytes:
        """Receive data, at most `limit` bytes; b"" at the end."""
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._chunks or self._guest_ended or self.over or self.released:
            try:
                return self._take(limit)
            finally:
                await trio.lowlevel.cancel_shielded_checkpoint()
        self._reader = trio.lowlevel.current_task()
        self._limit = limit
        await trio.lowlevel.wait_task_rescheduled(self._reading_cancelled)
        if self._handed is not None:
            data, self._handed = self._handed, None
            return data
        return self._take(limit)

    def _reading_cancelled(self, _: object) -> Abort:
        self._reader = None
        return Abort.SUCCEEDED

    def _take(self, limit: int | None) -> bytes:
        if self.released:
            raise trio.ClosedResourceError("this stream was closed")
        chunks = self._chunks
        if not chunks:
            if self._guest_ended:
                return b""
            raise self._broken()
        if limit is None:
            data = bytes(chunks[0]) if len(chunks) == 1 else b"".join(chunks)
            chunks.clear()
        else:
            data = self._take_part(limit)
        self._unreported += len(data)
        if not chunks or self._unreported > _REPORT_ABOVE:
            self._report()
        return data

    def _take_part(self, limit: int) -> bytes:
        chunks, parts = self._chunks, []
        whole = 0
        while limit and whole < len(chunks):
            chunk = chunks[whole]
            if len(chunk) > limit:
                chunks[whole] = memoryview(chunk)[limit:]
                chunk = chunk[:limit]
            else:
                whole += 1
            parts.append(chunk)
            limit -= len(chunk)
        del chunks[:whole]
        return b"".join(parts)

    def _report(self) -> None:
        count, self._unreported = self._unreported, 0
        if not self.over:
            self.carrier.tell(partial(self.carrier.context.network.stream_sent, self.socket, count))

    async def send(self, data: bytes | bytearray | memoryview) -> None:
        """Hand all data to the core, as far as it takes them, and wait in between."""
        await trio.lowlevel.checkpoint_if_cancelled()
        waited = False
        try:
            with memoryview(data) as whole, whole.cast("B") as view:
                size, done = len(view), 0
                while True:
                    self._check_sending()
                    if done >= size:
                        return
                    if not self._unsent and (budget := self._budget()):
                        count = min(budget, _MAX_PIECE, size - done)
                        piece = data if count == size and isinstance(data, bytes) else bytes(view[done : done + count])
                        self.carrier.tell(partial(self.carrier.context.network.stream_received, self.socket, piece))
                        done += count
                    elif free := _SEND_BUFFER - len(self._unsent):
                        self._unsent += view[done : done + free]
                        done += free
                        self._park()
                    else:
                        waited = True
                        await self._wait_for_room()
        finally:
            if not waited:
                await trio.lowlevel.cancel_shielded_checkpoint()

    async def wait_for_buffer(self) -> None:
        """Wait until there is room for data."""
        await trio.lowlevel.checkpoint()
        while True:
            self._check_sending()
            if len(self._unsent) < _SEND_BUFFER:
                return
            await self._wait_for_room()

    async def send_eof(self) -> None:
        """Send FIN behind all data."""
        await trio.lowlevel.checkpoint()
        if self.released:
            raise trio.ClosedResourceError("this stream was closed")
        if not self._eof_sent:
            if self.over:
                raise self._broken()
            self._end()

    def _end(self) -> None:
        if not self._eof_sent:
            self._eof_sent = True
            if not self._unsent:
                self.carrier.tell(partial(self.carrier.context.network.stream_ended, self.socket))

    def _check_sending(self) -> None:
        if self.released:
            raise trio.ClosedResourceError("this stream was closed")
        if self._eof_sent:
            raise trio.ClosedResourceError("this stream sends nothing more, since send_eof was called")
        if self.over:
            raise self._broken()

    def _budget(self) -> int:
        context = self.carrier.context
        return 0 if context.blocked else context.network.receive_budget(self.socket)

    async def _wait_for_room(self) -> None:
        """Wait until there may be a budget, after `_budget` was 0."""
        self._park()
        await self._wait_to_write()

    def _park(self) -> None:
        """Go on when the guest's link has room, if it has none. Otherwise the core orders to resume."""
        if self.carrier.context.blocked and not self._parked:
            self._parked = True
            self.carrier.context.parked.append(self._unparked)

    def _unparked(self) -> None:
        self._parked = False
        self.carrier.tell(self._drain)
        self._wake_writer()

    def _drain(self, now: float) -> None:
        """Hand the core what was kept for it, while orders are carried out."""
        network = self.carrier.context.network
        while self._unsent and not self.over and (budget := self._budget()):
            piece = bytes(self._unsent[:budget])
            del self._unsent[:budget]
            network.stream_received(self.socket, piece, now)
            if not self._unsent and self._eof_sent:
                network.stream_ended(self.socket, now)
        if self._unsent:
            self._park()

    async def _wait_to_write(self) -> None:
        self._writer = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(self._writing_cancelled)

    def _writing_cancelled(self, _: object) -> Abort:
        self._writer = None
        return Abort.SUCCEEDED

    def release(self, *, abort: bool = False) -> None:
        """Close the stream; the tasks that wait get `trio.ClosedResourceError`.

        As the kernel does, reset the connection if there are data that nothing will read.
        """
        if self.released:
            return
        self.released = True
        self._wake_reader()
        self._wake_writer()
        if abort or self._chunks or self._raw:
            self._chunks.clear()
            self.fail(errno.ECONNRESET)
        elif not self.over:
            self._end()
            if not self.over:
                self._owner.watch(self)

    def _wake_reader(self) -> None:
        if self._reader is not None:
            trio.lowlevel.reschedule(self._reader)
            self.carrier.context.woken = True
            self._reader = None

    def _wake_writer(self) -> None:
        if self._writer is not None:
            trio.lowlevel.reschedule(self._writer)
            self.carrier.context.woken = True
            self._writer = None

    def _broken(self) -> trio.BrokenResourceError:
        error = trio.BrokenResourceError(os.strerror(self.failure) if self.failure else "the connection has ended")
        error.__cause__ = _error(self.failure) if self.failure else None
        return error


def _error(code: int) -> OSError:
    return OSError(code, os.strerror(code))
